"""`flashsale doctor`: everything that could be wrong, looked at once, with what to do about each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.exits import Exit
from flashsale.cli.output import data_console, print_json

if TYPE_CHECKING:
    from flashsale.connections.checks import Finding

_MARKS = {"ok": "[green]ok[/]    ", "warn": "[yellow]warn[/]  ", "unsafe": "[red]unsafe[/]"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "doctor", "flashsale doctor", "flashsale doctor --json", "flashsale doctor --config /etc/flashsale.toml")(doctor)


def doctor(as_json: options.Json = False, config: options.Config = None, data: options.Data = None) -> None:
    """Look at settings, signing keys, both stores, clocks, migrations, refunds, journals and drops. Changes nothing.

    Each finding is ok, warn or unsafe. Exit code 3 when a store cannot be reached, 1 when something is unsafe, else 0.
    With --json: an array of name, level, what and todo.
    """
    from flashsale.cli.diagnosis import diagnose

    findings = run(diagnose(config, data))
    if as_json:
        from flashsale.cli.shapes import Checked

        print_json([Checked(finding.name, finding.level, finding.what, finding.todo) for finding in findings])
    else:
        _print(findings)
    finish(exit_code(findings))


def exit_code(findings: list[Finding]) -> Exit:
    """What these findings end the command with."""
    if any(finding.name.endswith(".reachable") for finding in findings):
        return Exit.UNREACHABLE
    return Exit.FINDING if any(finding.level == "unsafe" for finding in findings) else Exit.OK


def _print(findings: list[Finding]) -> None:
    from rich.markup import escape

    console = data_console()
    for finding in findings:
        console.print(f"{_MARKS[finding.level]}  {finding.name:22} {escape(finding.what)}")
        if finding.todo:
            console.print(f"{'':32}[bold]→[/] {escape(finding.todo)}")
