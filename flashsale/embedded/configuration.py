"""A server's configuration file: what we ship, then what only this start knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flashsale.resources import resource_dir


def configuration(shipped: str, own: Mapping[str, object], *, between: str) -> str:
    """The text of `config/<shipped>` and the settings of `own`, which come last and so win.

    Args:
        shipped: the name of the file.
        own: settings by name, as the server reads them.
        between: what stands between a name and its value.
    """
    common = (resource_dir("config") / shipped).read_text(encoding="utf-8")
    lines = "".join(f"{name}{between}{value}\n" for name, value in own.items())
    return f"{common}\n# ---- written by the embedded server at every start\n{lines}"


def quoted(path: Path, mark: str = '"') -> str:
    r"""`path` in quotes as both servers' configuration files read it: with backslashes before the marks."""
    escaped = str(path).replace("\\", "\\\\").replace(mark, "\\" + mark)
    return f"{mark}{escaped}{mark}"
