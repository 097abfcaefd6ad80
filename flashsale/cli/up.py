"""`flashsale up`: everything on this machine, in one data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.exits import Exit
from flashsale.cli.output import data_console, program, say
from flashsale.cli.runtime import DEFAULT_DATA_DIR

_TRIAL = Path("config/drops/trial.toml")
"""There in a checkout; an installed package prints its examples instead."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "up", "flashsale up", "flashsale up --data /var/lib/flashsale --port 9000 --workers 4", "flashsale up --verbose")(up)


def up(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", envvar="FLASHSALE_DATA", help="Where everything is kept.")
    ] = DEFAULT_DATA_DIR,
    host: options.Host = None,
    port: options.Port = None,
    workers: options.Workers = None,
    config: options.Config = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what workers and the reconciler log.")] = False,
) -> None:
    """Start the whole service here: Valkey, Postgres, API workers and the reconciler.

    The data folder keeps everything over restarts. What crashes is started again. Ctrl-C stops all of it cleanly. For
    production, with stores of your own, see 'flashsale serve' and 'flashsale reconcile'.
    """
    finish(run(_up(data, host, port, workers, config, verbose=verbose)))


async def _up(data: Path, host: str | None, port: int | None, workers: int | None, config: Path | None, *, verbose: bool) -> int:
    from flashsale.cli.stack import StackStopped, running_stack
    from flashsale.log import configure_logging
    from flashsale.settings import load_settings

    overrides = _quiet() if not verbose else {}
    configure_logging(load_settings(config, overrides=overrides).log)
    starting = running_stack(
        data, host=host, port=port, workers=workers, config=config, overrides=overrides, on_event=lambda text: say(f"[dim]{text}[/]")
    )
    try:
        async with starting as stack:
            _greet(stack.http_url, data)
            return await stack.wait_ended()
    except StackStopped:
        return Exit.INTERRUPTED


def _quiet() -> dict[str, dict[str, Any]]:
    """Only warnings on the terminal, unless a log level was asked for."""
    import os

    return {} if os.environ.get("FLASHSALE_LOG_LEVEL") else {"log": {"level": "warning"}}


def _greet(url: str, data: Path) -> None:
    console = data_console()
    console.print(f"\n[bold green]flashsale is up[/]  [bold]{url}[/]")
    console.print(f"  API        {url}/openapi.json\n  health     {url}/readyz\n  data       {data.resolve()}\n")
    where = "" if data == DEFAULT_DATA_DIR else f" --data {data}"
    name = program()
    create = f"drop create {_TRIAL}" if _TRIAL.is_file() else f"drop example | {name} drop create -"
    console.print("Next, in another terminal:")
    for line in (create, "drop watch trial", "key create --scope storefront"):
        console.print(f"  {name} {line}{where}")
    console.print("\n[dim]Ctrl-C stops everything; the data stays.[/]")
