"""`flashsale migrate`: brings the database to the form this version needs."""

from __future__ import annotations

from typing import Annotated

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.exits import Exit
from flashsale.cli.output import print_json, say


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "migrate", "flashsale migrate", "flashsale migrate --check", "flashsale migrate --config /etc/flashsale.toml")(migrate)


def migrate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit code 1 when something is pending.")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Apply what is pending to the database. 'flashsale up' does this by itself.

    With --json: {"applied": [name, …], "pending": [name, …]}.
    """
    from flashsale.cli.target import find_target
    from reconciler import migrations

    url = find_target(config, data).settings.postgres.url
    applied = [] if check else run(migrations.migrate(url))
    pending = run(migrations.pending(url))
    if as_json:
        print_json({"applied": applied, "pending": pending})
    else:
        _say(applied, pending)
    finish(Exit.FINDING if pending else Exit.OK)


def _say(applied: list[str], pending: list[str]) -> None:
    for name in applied:
        say(f"applied {name}")
    for name in pending:
        say(f"pending {name}")
    if not applied and not pending:
        say("The database is up to date.")
