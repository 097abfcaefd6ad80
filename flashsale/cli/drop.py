"""`flashsale drop …`: a merchant's hand on drops."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flashsale.cli import options
from flashsale.cli.commands import command, group, run
from flashsale.cli.exits import Refused
from flashsale.cli.output import counted, data_console, moment, print_json, print_table, program, say, span, warn
from flashsale.cli.paused import why_paused
from flashsale.errors import BadInput
from flashsale.money import money

if TYPE_CHECKING:
    from flashsale.cli.shapes import DropCreated, DropListed, DropShown
    from flashsale.model import CloseDropOutcome, Drop, DropState, SteerOutcome

drops = group("Schedule drops, steer them, and watch them.")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(drops, name="drop")
    command(drops, "create", "flashsale drop create config/drops/trial.toml", "flashsale drop create config/drops/launch.toml --dry-run")(
        create
    )
    command(
        drops,
        "example",
        "flashsale drop example > trial.toml",
        "flashsale drop example launch",
        "flashsale drop example | flashsale drop create -",
    )(example)
    command(drops, "list", "flashsale drop list", "flashsale drop list --json")(list_)
    command(drops, "show", "flashsale drop show trial", "flashsale drop show trial --json")(show)
    command(drops, "open", "flashsale drop open trial")(open_)
    command(drops, "pause", "flashsale drop pause trial")(pause)
    command(drops, "resume", "flashsale drop resume trial")(resume)
    command(drops, "close", "flashsale drop close trial", "flashsale drop close trial --yes")(close)


# ----------------------------------------------------------------------------------------------------------------- create


def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The drop as TOML; - reads stdin.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check the file; create nothing.")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Schedule a drop from a file. It opens by itself at its time.

    Every problem of the file is reported at once, each with its line. The same file twice is one drop; a file that says
    something else under the same id is refused. 'flashsale drop example' prints commented files to start from.
    """
    from flashsale.cli.shapes import DropCreated
    from flashsale.drop_files import parse_drop

    drop = parse_drop(_read(file), source=str(file), now_ms=time.time_ns() // 1_000_000)
    created = DropCreated(drop.drop_id, "dry_run", in_store=False, definition=drop) if dry_run else run(_create(drop, config, data))
    if as_json:
        print_json(created)
    else:
        _tell_created(created)


def _read(file: Path) -> str:
    from flashsale.drop_files import FILE_BYTES_MAX

    try:
        if str(file) == "-":
            return sys.stdin.read(FILE_BYTES_MAX + 1)
        with file.open(encoding="utf-8") as opened:
            return opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(
            what=f"{file} cannot be read:", why=f"{error.strerror}.", todo="'flashsale drop example' prints one that is good."
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(what=f"{file} is not a text file in UTF-8.", todo="'flashsale drop example' prints one that is good.") from error


async def _create(drop: Drop, config: Path | None, data: Path | None) -> DropCreated:
    from flashsale.cli.shapes import DropCreated
    from flashsale.cli.target import find_target, opened

    settings = find_target(config, data).settings
    if drop.identity != "none" and not settings.identity.keys_file:
        warn("The drop takes identities, and identity.keys_file is not set here. Workers without it take nobody's.")
    if barred := settings.http.barred(drop.origins):
        warn(f"http.cors_origins does not allow {', '.join(barred)} here. Pages there cannot call workers with these settings.")
    async with opened(settings) as parts:
        creation = await parts.catalog.create(drop)
    if not creation.in_store:
        warn("The store cannot be reached. The drop is recorded; a reconciler gives it to the store when that answers.")
    return DropCreated(drop.drop_id, "created" if creation.is_new else "existed", in_store=creation.in_store, definition=drop)


def _tell_created(created: DropCreated) -> None:
    drop = created.definition
    words = {"created": "Created", "existed": "This drop existed already:", "dry_run": "The file is good:"}
    units = sum(sku.allotment for sku in drop.skus)
    console = data_console()
    console.print(f"{words[created.outcome]} [bold]{drop.drop_id}[/], {counted(units, 'unit')} in {counted(len(drop.skus), 'SKU')}.")
    _print_times(drop.joins_at_ms, drop.opens_at_ms, drop.closes_at_ms, time.time_ns() // 1_000_000)
    if created.outcome == "dry_run":
        say("[dim]Nothing was created.[/]")
    else:
        say(f"[dim]Next: {program()} drop watch {drop.drop_id}[/]")


def _print_times(joins_at_ms: int, opens_at_ms: int, closes_at_ms: int, now_ms: int) -> None:
    console = data_console()
    for word, at_ms in (("people join", joins_at_ms), ("opens", opens_at_ms), ("closes", closes_at_ms)):
        when = f"in {span(at_ms - now_ms)}" if at_ms > now_ms else f"{span(now_ms - at_ms)} ago"
        console.print(f"  {word:12} {moment(at_ms)}  [dim]{when}[/]")


class Example(StrEnum):
    """The files of `config/drops`."""

    TRIAL = "trial"
    LAUNCH = "launch"
    MEMBERS = "members"


def example(
    name: Annotated[
        Example,
        typer.Argument(help="trial: the smallest, opens in half a minute; launch: all that is usual; members: invited people, groups."),
    ] = Example.TRIAL,
) -> None:
    """Print a commented drop file to start from."""
    from flashsale.resources import resource_dir

    sys.stdout.write((resource_dir("config") / "drops" / f"{name.value}.toml").read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------------------- read


def list_(as_json: options.Json = False, config: options.Config = None, data: options.Data = None) -> None:
    """All drops, the latest opening first.

    With --json: an array of drop_id, name, state, times, and units allotted, available, reserved and sold.
    """
    listed, troubles = run(_list(config, data))
    for trouble in troubles:
        warn(trouble)
    if as_json:
        print_json(listed)
    elif listed:
        now_ms = time.time_ns() // 1_000_000
        print_table(("drop", "state", "opens", "units>", "left>", "sold>", "name"), [_row(drop, now_ms) for drop in listed])
    else:
        say("There are no drops. Make one with 'flashsale drop example | flashsale drop create -'.")


async def _list(config: Path | None, data: Path | None) -> tuple[list[DropListed], list[str]]:
    from flashsale.cli.looking import list_drops
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        return await list_drops(parts)


def _row(drop: DropListed, now_ms: int) -> tuple[object, ...]:
    opens = f"in {span(drop.opens_at_ms - now_ms)}" if now_ms < drop.opens_at_ms < now_ms + 86_400_000 else moment(drop.opens_at_ms)
    state = drop.state if drop.in_store else f"{drop.state} (not in the store)"
    return (drop.drop_id, state, opens, f"{drop.allotment:,}", _units(drop.available), _units(drop.sold), drop.name)


def _units(units: int | None) -> str:
    return "?" if units is None else f"{units:,}"


def show(drop_id: options.DropId, as_json: options.Json = False, config: options.Config = None, data: options.Data = None) -> None:
    """Everything about one drop: its rules, its stock, and where it stands.

    With --json: definition as created, and live as a line of 'drop watch --json'.
    """
    shown = run(_show(drop_id, config, data))
    if as_json:
        print_json(shown)
    else:
        _print_shown(shown)


async def _show(drop_id: str, config: Path | None, data: Path | None) -> DropShown:
    from flashsale.cli.looking import show
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        return await show(parts, drop_id)


def _print_shown(shown: DropShown) -> None:
    drop, live = shown.definition, shown.live
    console = data_console()
    console.print(f"[bold]{drop.drop_id}[/]  {escape(drop.name)}  [bold]{shown.state}[/]")
    if not shown.in_store:
        warn("The store does not hold this drop now; this is what Postgres knows.")
    times = live or drop
    _print_times(times.joins_at_ms, times.opens_at_ms, times.closes_at_ms, live.at_ms if live else time.time_ns() // 1_000_000)
    console.print(f"  {'admission':12} {times.rate_per_min}/min, {times.capacity} at once, {span(drop.claim_window_ms)} to show up")
    each = counted(drop.limit_per_shopper, "unit")
    console.print(f"  {'reservation':12} for {span(drop.reservation_ttl_ms)}, {each} a shopper, durability {drop.durability}")
    console.print(f"  {'places':12} {_places(drop)}")
    if drop.origins:
        console.print(f"  {'storefront':12} {', '.join(drop.origins)}")
    for one in drop.groups:
        console.print(f"  {'group':12} {one.group_id}  {escape(one.name)}, {one.share_permille / 10:g} % of the admissions")
    if live:
        console.print(f"  {'line':12} {live.joined:,} joined, {live.waiting:,} waiting, serving number {live.serving_number:,}")
    stocks = live.skus if live else {}
    rows = []
    for sku in drop.skus:
        stock = stocks.get(sku.sku)
        counts = (stock.available, stock.reserved, stock.sold) if stock else ("?", "?", "?")
        rows.append((sku.sku, money(sku.price_minor, drop.currency), sku.limit_per_shopper, shown.units[sku.sku], *counts, sku.name))
    if live and (why := why_paused(live)):
        warn(why)
    console.print()
    print_table(("SKU", "price>", "limit>", "allotment>", "available>", "reserved>", "sold>", "name"), rows)


def _places(drop: Drop) -> str:
    """Who may have a place, and in what order."""
    order = "by arrival" if drop.order == "arrival" else "by draw" if drop.beacon == "none" else f"by draw with {drop.beacon}"
    asked = [f"{what} {rule}" for what, rule in (("invite code", drop.invites), ("identity", drop.identity)) if rule != "none"]
    return ", ".join([order, *asked])


# ------------------------------------------------------------------------------------------------------------------ steer


def open_(drop_id: options.DropId, as_json: options.Json = False, config: options.Config = None, data: options.Data = None) -> None:
    """Open a drop now, before its time."""
    _steer(drop_id, "open", config, data, as_json=as_json)


def pause(drop_id: options.DropId, as_json: options.Json = False, config: options.Config = None, data: options.Data = None) -> None:
    """Hold a drop: nobody is admitted or reserves any more. What is reserved can still be paid."""
    _steer(drop_id, "pause", config, data, as_json=as_json)


def resume(drop_id: options.DropId, as_json: options.Json = False, config: options.Config = None, data: options.Data = None) -> None:
    """Let a paused drop go on."""
    _steer(drop_id, "resume", config, data, as_json=as_json)


def _steer(drop_id: str, word: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    from flashsale.cli.shapes import DropSteered

    outcome, state = run(_steer_store(drop_id, word, config, data))
    if outcome == "refused":
        raise Refused(
            what=f"{drop_id} is {state}, so it cannot be told to {word}.", todo=f"'flashsale drop show {drop_id}' shows its times."
        )
    if as_json:
        print_json(DropSteered(drop_id, outcome.value, state.value))
    else:
        say(f"{drop_id} is {state}." if outcome == "done" else f"{drop_id} was {state} already.")


async def _steer_store(drop_id: str, word: str, config: Path | None, data: Path | None) -> tuple[SteerOutcome, DropState]:
    from flashsale.cli.looking import of_drop
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        return await of_drop(parts, drop_id, parts.drops.steer(drop_id, word))


def close(
    drop_id: options.DropId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """End a drop for good. It cannot be opened again; what is reserved can still be paid."""
    from flashsale.cli.shapes import DropSteered

    if not yes:
        _confirm(drop_id)
    outcome = run(_close(drop_id, config, data))
    if as_json:
        print_json(DropSteered(drop_id, outcome.value, "closed"))
    else:
        say(f"{drop_id} is closed." if outcome == "closed" else f"{drop_id} was closed already.")


def _confirm(drop_id: str) -> None:
    if not sys.stdin.isatty():
        raise BadInput(what="Closing a drop has to be confirmed, and there is nobody to ask.", todo="Add --yes.")
    say(f"Closing [bold]{drop_id}[/] ends it for good.")
    typed = typer.prompt("Type its id to go on", err=True, default="", show_default=False)
    if typed != drop_id:
        raise Refused(what="That is not its id; nothing was changed.")


async def _close(drop_id: str, config: Path | None, data: Path | None) -> CloseDropOutcome:
    from flashsale.cli.looking import of_drop
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        return await of_drop(parts, drop_id, parts.drops.close(drop_id))
