"""Settings on their way from one process of ours to another: as environment variables, never as arguments.

Every user of a machine can read the arguments of every process, but not its environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from flashsale.settings import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, Settings


def environment_of(settings: Settings) -> dict[str, str]:
    """Variables from which `load_settings` makes exactly `settings` again."""
    variables: dict[str, str] = {}
    for section, values in msgspec.to_builtins(settings).items():
        for name, value in values.items():
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            variables[f"{ENVIRONMENT_PREFIX}{section}_{name}".upper()] = text
    return variables


def child_environment(settings: Settings, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a child that is to run with `settings`: ours, with every setting spelt out."""
    inherited = dict(os.environ if environment is None else environment)
    inherited.pop(CONFIG_VARIABLE, None)
    return inherited | environment_of(settings)
