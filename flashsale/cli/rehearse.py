"""`flashsale rehearse`: a drop played in virtual time, before it is real."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flashsale.cli import options
from flashsale.cli.commands import command, run
from flashsale.cli.output import message_console, print_json, say, warn
from flashsale.errors import BadInput

if TYPE_CHECKING:
    from flashsale.model import Drop, Snapshot
    from flashsale.rehearsal.behaviour import Behaviour
    from flashsale.rehearsal.rehearse import Rehearsal

SHOPPERS_MAX = 1_000_000
SHOW_EVERY_S = 0.2


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(
        app,
        "rehearse",
        "flashsale rehearse config/drops/launch.toml --shoppers 50000",
        "flashsale rehearse launch.toml --shoppers 20000 --no-show 0.4 --buy 0.5 --session 90s --html rehearsal.html",
        "flashsale rehearse launch.toml --shoppers 20000 --arrivals 20m --late 0.3 --seed 7 --json",
    )(rehearse)


def checked_duration(text: str) -> str:
    """`text`, when it is a length of time.

    Raises:
        BadParameter: it is not.
    """
    from flashsale.drop_values import milliseconds_of

    if milliseconds_of(text) is None:
        raise typer.BadParameter(f'"{text}" is not a length of time; it looks like 45s, 10m or "1h 30m"')
    return text


def rehearse(
    file: Annotated[Path, typer.Argument(metavar="DROP.toml", help="The drop file; nothing is created.", show_default=False)],
    *,
    shoppers: Annotated[int, typer.Option(min=1, max=SHOPPERS_MAX, help="People who come.")] = 10_000,
    no_show: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of them who are gone when their turn comes.")] = 0.3,
    buy: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of those let in who want to buy.")] = 0.6,
    session: Annotated[
        str, typer.Option(metavar="TIME", help="Median time from being let in to having paid or left.", callback=checked_duration)
    ] = "45s",
    arrivals: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="People come within this time before the opening, most of them late in it.", callback=checked_duration
        ),
    ] = "10m",
    late: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of them who come after the opening.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of everything people do by chance; the same seed gives the same answer.")] = 1,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page with charts, too.")] = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Play a drop before it is real: how long people wait, when it is sold out, what to set.

    The drop goes through the real scripts on a Valkey that is started for it alone, in virtual time, with simulated people:
    half an hour takes seconds. Nothing is created and no running service is touched. docs/rehearsal.md says how people are modelled,
    and what is not. With --json: drop, seed, behaviour, findings, advice and the report of docs/report.md; the same
    seed gives the same bytes.
    """
    from flashsale.drop_values import milliseconds_of
    from flashsale.rehearsal.behaviour import Behaviour

    behaviour = Behaviour(
        shoppers=shoppers,
        no_show=no_show,
        buy=buy,
        session_ms=max(1000, milliseconds_of(session) or 0),
        arrivals_ms=milliseconds_of(arrivals) or 0,
        late=late,
    )
    if html is not None and not html.parent.is_dir():
        raise BadInput(what=f"{html} cannot be written:", why=f"there is no folder {html.parent}.", todo="Name another file.")
    made = run(_play(_read(file), behaviour, seed, config))
    if html is not None:
        _write_page(html, made)
    if as_json:
        print_json(made)
    else:
        _tell(made)


def _read(file: Path) -> Drop:
    from flashsale.drop_files import FILE_BYTES_MAX, parse_drop

    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(FILE_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadInput(
            what=f"{file} cannot be read:", why=f"{why}.", todo="'flashsale drop example' prints a file to start from."
        ) from None
    return parse_drop(text, source=str(file), now_ms=time.time_ns() // 1_000_000)


async def _play(drop: Drop, behaviour: Behaviour, seed: int, config: Path | None) -> Rehearsal:
    from flashsale.rehearsal.rehearse import rehearse as play
    from flashsale.rehearsal.stage import private_stage

    with _shown(behaviour.shoppers) as tell:
        async with private_stage(config) as stage:
            return await play(stage, drop, behaviour, seed, tell)


@contextmanager
def _shown(shoppers: int) -> Iterator[Callable[[Snapshot], None]]:
    """Shows how far the rehearsal is, on a terminal."""
    from flashsale.cli.output import span

    console, last_s = message_console(), 0.0
    with console.status("Starting a Valkey for the rehearsal …") as status:

        def tell(snapshot: Snapshot) -> None:
            nonlocal last_s
            if (now_s := time.monotonic()) - last_s < SHOW_EVERY_S:
                return
            last_s = now_s
            since_ms = snapshot.now_ms - snapshot.opens_at_ms
            when = f"{span(since_ms)} after the opening" if since_ms >= 0 else f"{span(-since_ms)} before the opening"
            sold = sum(stock.sold for stock in snapshot.skus.values())
            joined = sum(line.joined for line in snapshot.lines)
            status.update(f"{when}: {joined:,} of {shoppers:,} have joined, {snapshot.admitted:,} let in, {sold:,} units sold")

        yield tell


def _write_page(html: Path, made: Rehearsal) -> None:
    from flashsale.rehearsal.page import rehearsal_page

    try:
        html.write_text(rehearsal_page(made), encoding="utf-8")
    except OSError as error:
        raise BadInput(what=f"{html} cannot be written:", why=f"{error.strerror or error}.", todo="Name another file.") from error
    say(f"[dim]The page is in {escape(str(html))}.[/]")


def _tell(made: Rehearsal) -> None:
    from flashsale.cli.output import data_console
    from flashsale.rehearsal.page import described

    console = data_console()
    console.print(f"[bold]Rehearsal of {escape(made.report.name)}[/]")
    console.print(f"[dim]{escape(described(made))}[/]")
    for section in made.report.sections:
        console.print(f"\n[bold]{escape(section.title)}[/]")
        for one in section.figures:
            if not one.name.startswith("warning_"):
                console.print(f"  {escape(one.label):<38}{escape(one.shown):>12}  [dim]{escape(one.note)}[/]")
        if section.note:
            console.print(f"  [dim]{escape(section.note)}[/]")
    for warning in made.advice.warnings:
        warn(warning.text)
