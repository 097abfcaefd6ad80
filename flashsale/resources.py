"""Where files that are not Python live: in the installed package, or in the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

ResourceName = Literal["lua", "config", "sql", "web", "widget"]

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent
_IN_CHECKOUT = {"widget": Path("widget", "dist")}
"""where a checkout has it, when not under its own name"""


def resource_dir(name: ResourceName) -> Path:
    """The folder that holds the Lua scripts, the default configuration, the SQL, the files for browsers or the built widget.

    The package is looked at first (`flashsale/_lua`, …), then the checkout beside it.

    Raises:
        FileNotFoundError: neither exists; the message names both.
    """
    if name == "sql":
        packaged = checkout = _CHECKOUT / "reconciler" / "sql"  # beside this package, installed or not
    else:
        packaged, checkout = _PACKAGE / f"_{name}", _CHECKOUT / _IN_CHECKOUT.get(name, name)
    for candidate in (packaged, checkout):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"resource folder {name!r} is neither at {packaged} nor at {checkout}")
