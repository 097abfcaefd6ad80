"""`flashsale demo`: one drop with a simulated crowd, end to end, on real stores."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flashsale.cli.commands import finish, run
from flashsale.cli.exits import Exit
from flashsale.cli.output import say
from flashsale.errors import ConfigurationError

if TYPE_CHECKING:
    from flashsale.cli.rehearsal import RunningCrowd, Scenario
    from flashsale.cli.stack import Stack
    from flashsale.cli.summary import Crowd
    from flashsale.cli.target import Parts
    from flashsale.model import Drop

SHOPPERS, SHOPPERS_HEADLESS_MAX = 500, 100_000
UNITS = 240
OPENS_IN_S, OPENS_IN_HEADLESS_S = 30.0, 6.0
"""somebody in a browser has to have the time to look and to join"""
PROGRESS_S = 2.0
DEADLINE_S = 150.0
WORKERS = 2


def demo(  # noqa: PLR0917 - the options of a command
    shoppers: Annotated[int, typer.Option(min=1, max=SHOPPERS_HEADLESS_MAX, help="Simulated shoppers.")] = SHOPPERS,
    units: Annotated[int, typer.Option(min=1, max=1_000_000, help="Units on sale.")] = UNITS,
    seed: Annotated[int, typer.Option(help="The same seed, the same crowd.")] = 1,
    headless: Annotated[bool, typer.Option("--headless", help="No live view: short lines on stderr, for scripts.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report there, as JSON.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Keep everything there. Without it, a folder that is removed at the end.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Of the API; 0 takes a free one.")] = None,
    opens_in: Annotated[float | None, typer.Option(min=1, max=3600, help="Seconds until the drop opens.")] = None,
    keep_open: Annotated[
        bool | None,
        typer.Option(
            "--keep-open/--no-keep-open", help="Stay up after the crowd has gone, until Ctrl-C. In a terminal it does.", show_default=False
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the shop in your browser, if this is a terminal of a desktop.")
    ] = True,
) -> None:
    """Watch one drop from start to end: a crowd joins, is admitted, reserves, pays, and every order is in Postgres.

    Starts Valkey, Postgres, the workers and the reconciler in a folder of their own, schedules a drop some seconds ahead,
    and sends simulated shoppers. Compete with them in the shop, in your browser, and see what the merchant sees. The
    summary is computed from Postgres and the store; the command fails when a single unit, order or place in line does not
    add up.
    """
    from flashsale.cli.desktop import is_desktop_terminal
    from flashsale.cli.rehearsal import HUMAN_PACE, Pace, Scenario

    if report is not None and not report.resolve().parent.is_dir():
        raise ConfigurationError(what=f"The folder of {report} does not exist.", todo="Make it, or name another file.")
    wait_s = opens_in if opens_in is not None else OPENS_IN_HEADLESS_S if headless else OPENS_IN_S
    pace = Pace() if headless else HUMAN_PACE
    scenario = Scenario(shoppers, units, seed, opens_in_s=wait_s, deadline_s=wait_s + DEADLINE_S + shoppers / 100, pace=pace, order="draw")
    wishes = _Wishes(
        scenario=scenario,
        report_file=report,
        port=0 if headless and port is None else port,
        live=not headless,
        keep_open=keep_open if keep_open is not None else not headless and sys.stdout.isatty(),
        browser=browser and not headless and is_desktop_terminal(),
    )
    with _folder(data) as folder:
        finish(run(_demo(wishes, folder)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wishes:
    """What was asked for."""

    scenario: Scenario
    report_file: Path | None
    port: int | None
    live: bool
    keep_open: bool
    browser: bool


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    """The folder asked for, or one that is gone afterwards."""
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="flashsale-demo-", ignore_cleanup_errors=True) as name:
        # When we are root the stores run as nobody, and have to get as far as their own folders.
        Path(name).chmod(0o711)
        yield Path(name)


async def _demo(wishes: _Wishes, folder: Path) -> int:
    from flashsale.cli.stack import StackStopped

    try:
        wrong = await _on_stack(wishes, folder)
    except StackStopped:
        say("The demo was stopped before its end.")
        return Exit.INTERRUPTED
    return Exit.FINDING if wrong else Exit.OK


async def _on_stack(wishes: _Wishes, folder: Path) -> list[str]:
    """The demo in `folder`; what is wrong at its end."""
    from flashsale.cli.rehearsal import SETTINGS
    from flashsale.cli.stack import running_stack
    from flashsale.cli.target import opened
    from flashsale.log import configure_logging
    from flashsale.settings import load_settings

    started = time.time()
    configure_logging(load_settings(overrides=SETTINGS).log)
    async with (
        running_stack(folder, port=wishes.port, workers=WORKERS, overrides=SETTINGS, on_event=lambda text: say(f"[dim]{text}[/]")) as stack,
        opened(stack.settings) as parts,
    ):
        report, wrong = await stack.while_running(_rehearse(stack, parts, wishes, started))
        _tell(report, wrong, wishes.report_file)
        if wishes.keep_open:
            say(f"The shop stays open: [bold underline]{stack.http_url}/shop/[/] [dim]Ctrl-C ends it.[/]")
            await stack.wait_ended()
    return wrong


async def _rehearse(stack: Stack, parts: Parts, wishes: _Wishes, started: float) -> tuple[dict[str, Any], list[str]]:
    """Everything from scheduling the drop to the report, and what is wrong with it."""
    from flashsale.access import Scope, create_key
    from flashsale.cli.rehearsal import REST_S_MAX, come_to_rest, crowd, make_drop, new_drop_id, report_on, verdict

    scenario = wishes.scenario
    _, key = await create_key(parts.database, [Scope.STOREFRONT], label="demo")
    drop = make_drop(new_drop_id(), scenario, int(time.time() * 1000), shop_url=stack.http_url)
    await parts.catalog.create(drop)
    say(f"{scenario.shoppers:,} shoppers for {scenario.units:,} units of [bold]{drop.name}[/], opening in {scenario.opens_in_s:.0f} s.")
    if wishes.live:
        await _invite(stack, parts, browser=wishes.browser)
    async with crowd(stack.http_url, drop.drop_id, scenario, key, stack.data_dir) as shoppers:
        seen = await (_watch(parts, drop, shoppers) if wishes.live else _tell_progress(parts, drop, shoppers))
    if wishes.live:
        say("[dim]The crowd has gone. The report follows when the last reservation is paid or has ended …[/]")
    rest_s = await come_to_rest(parts, drop.drop_id, REST_S_MAX + scenario.pace.reservation_s_max)
    report = {
        "shoppers": scenario.shoppers,
        "units": scenario.units,
        "seed": scenario.seed,
        "seconds": round(time.time() - started, 2),
        "rest_seconds": round(rest_s, 2),
        **await report_on(parts, drop.drop_id, seen),
        **await _circumstances(parts, started),
    }
    return report, verdict(report)


async def _invite(stack: Stack, parts: Parts, *, browser: bool) -> None:
    """Says where the shop and the merchant's side are, and opens the shop."""
    from flashsale.access import Scope, create_key
    from flashsale.cli.desktop import open_in_browser

    _, key = await create_key(parts.database, [Scope.MERCHANT], label="demo console")
    say(f"Compete with them in the shop: [bold underline]{stack.http_url}/shop/[/]")
    say(f"What the merchant sees:        [underline]{stack.http_url}/console#key={key}[/]\n")
    if browser:
        await open_in_browser(f"{stack.http_url}/shop/")


async def _circumstances(parts: Parts, started: float) -> dict[str, Any]:
    """When, and on what."""
    from flashsale import __version__
    from flashsale.connections.checks import check_database, check_store

    findings = [*await check_store(parts.store), *await check_database(parts.database)]
    return {
        "started_at": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "versions": {
            "flashsale": __version__,
            **{finding.name.partition(".")[0]: finding.what.rstrip(".") for finding in findings if finding.name.endswith(".version")},
        },
    }


async def _tell_progress(parts: Parts, drop: Drop, shoppers: RunningCrowd) -> Crowd:
    """Short lines on stderr until the crowd has gone."""
    from flashsale.errors import FlashsaleError

    gone, drawn = asyncio.ensure_future(shoppers.finished()), False
    try:
        while not (await asyncio.wait((gone,), timeout=PROGRESS_S))[0]:
            with suppress(FlashsaleError):
                snapshot = (await parts.drops.inspect(drop.drop_id)).snapshot
                if snapshot.key and not drawn:
                    say(draw_line(snapshot))
                drawn = bool(snapshot.key)
                say(progress_line(snapshot))
        return gone.result()
    finally:
        gone.cancel()


def progress_line(snapshot: Any) -> str:
    """One line on how the drop is doing."""
    skus = snapshot.skus.values()
    available, reserved, sold = (sum(getattr(stock, where) for stock in skus) for where in ("available", "reserved", "sold"))
    waiting = snapshot.joined - snapshot.serving_number
    until_s = (snapshot.opens_at_ms - snapshot.now_ms) / 1000
    when = f"opens in {until_s:.0f} s" if until_s > 0 else f"open for {-until_s:.0f} s"
    return (
        f"[dim]{when}: {snapshot.joined} joined, {waiting} in line, {snapshot.admitted} admitted; "
        f"{available} available, {reserved} reserved, {sold} sold[/]"
    )


def draw_line(snapshot: Any) -> str:
    """One line on the draw that has been made."""
    after_ms = max(0, snapshot.drawn_at_ms - snapshot.opens_at_ms)
    return f"The order of {snapshot.entries:,} shoppers was drawn {after_ms} ms after the opening, key {snapshot.key[:16]}…"


async def _watch(parts: Parts, drop: Drop, shoppers: RunningCrowd) -> Crowd:
    """The live view of `flashsale drop watch` until the crowd has gone."""
    from flashsale.cli.watch import follow_until

    gone = asyncio.ensure_future(shoppers.finished())
    try:
        await follow_until(parts, drop.drop_id, gone)
        return await gone
    finally:
        gone.cancel()


def _tell(report: dict[str, Any], wrong: list[str], report_file: Path | None) -> None:
    from flashsale.cli.output import data_console
    from flashsale.cli.summary_card import show_card

    if report_file is not None:
        try:
            report_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(what=f"The report cannot be written to {report_file}:", why=f"{error.strerror}.") from error
    show_card(data_console(), report, wrong)
    for fault in wrong:
        say(f"[bold red]not ok:[/] {fault}")
    if report_file is not None:
        say(f"[dim]The whole report is in {report_file}.[/]")
