"""`flashsale drop report`: what happened at a drop, from its admission log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.markup import escape

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.exits import Exit
from flashsale.cli.output import data_console, print_json, say, warn
from flashsale.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

    from admission.report_shapes import DropReport, Section

_LABEL_WIDTH = 30
_VALUE_WIDTH = 12
_VALUE_WIDTH_MAX = 24
"""A longer value stands where notes do, instead of widening every row."""


def register(drops: typer.Typer) -> None:
    """Adds the command to the group `drop`."""
    command(
        drops,
        "report",
        "flashsale drop report trial",
        "flashsale drop report trial --html trial.html",
        "flashsale drop report trial --json --log trial.jsonl",
    )(report)


def report(
    drop_id: options.DropId,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page with charts, too.")] = None,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="Write the admission log, too: a line for each entry, as it is chained.")
    ] = None,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """What happened at a drop: the order people were called in, how long they waited, who came, and what was left.

    It is made from the admission log, and says whether the waits and chances people were told were right. A drop that is
    still on is reported as it stands. It ends with 1 when somebody was called before somebody ahead of them. docs/report.md
    explains every number, and how to check the log.
    """
    made = run(_make(drop_id, config, data, log))
    if html is not None:
        from flashsale.report_page import report_page

        with _opened(html) as page:
            assert page is not None
            page.write(report_page(made).encode())
        say(f"[dim]The page is in {html}.[/]")
    if as_json:
        print_json(made)
    else:
        _tell(made)
    overtakes = made.whole.calls.inversions
    if overtakes:
        warn(f"{overtakes:,} {'pair of places was' if overtakes == 1 else 'pairs of places were'} called in the wrong order.")
    finish(Exit.FINDING if overtakes else Exit.OK)


async def _make(drop_id: str, config: Path | None, data: Path | None, log: Path | None) -> DropReport:
    from flashsale.cli.looking import of_drop
    from flashsale.cli.target import find_target, opened
    from flashsale.connections.calls import StoreCalls
    from flashsale.reports import make_report

    async with opened(find_target(config, data).settings) as parts:
        inspection = await of_drop(parts, drop_id, parts.drops.inspect(drop_id))
        with _opened(log) as copy:
            return await make_report(inspection, StoreCalls(parts.store, parts.settings.store), copy)


@contextmanager
def _opened(file: Path | None) -> Iterator[BinaryIO | None]:
    """The file for writing; None for none. Raises BadInput."""
    if file is None:
        yield None
        return
    try:
        with file.open("wb") as opened:
            yield opened
    except OSError as error:
        raise BadInput(what=f"{file} cannot be written:", why=f"{error.strerror or error}.", todo="Name another file.") from error


# ------------------------------------------------------------------------------------------------------------------- words


def _tell(made: DropReport) -> None:
    from flashsale.report_words import sections_of, subtitle

    console = data_console()
    console.print(f"[bold]{escape(made.name)}[/]")
    console.print(f"[dim]{escape(subtitle(made))}[/]")
    for section in sections_of(made):
        console.print()
        _tell_section(console, section)


def _tell_section(console: Console, section: Section) -> None:
    from rich.table import Table

    console.print(f"[bold]{escape(section.title)}[/]")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=_LABEL_WIDTH)
    table.add_column(justify="right", min_width=_VALUE_WIDTH, overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for one in section.figures:
        told = (one.shown, one.note) if len(one.shown) <= _VALUE_WIDTH_MAX else ("", one.shown)
        table.add_row(f"  {escape(one.label)}", *map(escape, told))
    console.print(table)
    if section.note:
        console.print(f"  [dim]{escape(section.note)}[/]")
