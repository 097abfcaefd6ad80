"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from flashsale.model import DROP_ID_RE

Config: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings over the defaults; see config/flashsale.toml.", show_default=False),
]
Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="FLASHSALE_DATA",
        help="The data folder of a running 'flashsale up'. Found by itself when it is ./.flashsale.",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="For programs: JSON on stdout.")]


def checked_drop_id(drop_id: str) -> str:
    """`drop_id`, when it can be one.

    Raises:
        BadParameter: it cannot.
    """
    if not DROP_ID_RE.fullmatch(drop_id):
        raise typer.BadParameter("a drop's id is 1 to 48 lower-case letters, digits and hyphens")
    return drop_id


DropId: TypeAlias = Annotated[
    str, typer.Argument(metavar="DROP", help="The drop's id, as in 'flashsale drop list'.", callback=checked_drop_id)
]
Host: TypeAlias = Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen.", show_default="127.0.0.1")]
Port: TypeAlias = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="Port of the API; 0 takes a free one.", show_default="8080")
]
Workers: TypeAlias = Annotated[int | None, typer.Option("--workers", min=1, max=256, help="API processes.", show_default="2")]


def http_overrides(host: str | None, port: int | None, workers: int | None) -> dict[str, dict[str, object]]:
    """The options of the API as settings; what was not given stays as it is set elsewhere."""
    given = {"host": host, "port": port, "workers": workers}
    return {"http": {name: value for name, value in given.items() if value is not None}}
