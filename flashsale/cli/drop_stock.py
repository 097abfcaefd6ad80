"""`flashsale drop stock`: where a drop's units are, and adding or withdrawing some while it is on."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, run
from flashsale.cli.exits import Refused
from flashsale.cli.output import moment, print_json, print_table, say, warn
from flashsale.errors import BadInput, DatabaseUnavailable, FlashsaleError, StoreUnavailable, StoreUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flashsale.cli.shapes import StockChanged, StockShown
    from flashsale.cli.target import Parts
    from flashsale.drops import StockAdjustment
    from flashsale.model import SkuStock
    from flashsale.stock import StockChange


def register(drops: typer.Typer) -> None:
    """Adds the command to the group `drop`."""
    command(
        drops,
        "stock",
        "flashsale drop stock trial",
        "flashsale drop stock trial poster --add 20",
        "flashsale drop stock trial poster --withdraw 5 --drain",
    )(stock)


def stock(
    drop_id: options.DropId,
    sku: Annotated[str | None, typer.Argument(metavar="[SKU]", help="What to add to or withdraw from.")] = None,
    *,
    add: Annotated[int | None, typer.Option("--add", min=1, metavar="N", help="Add N units.")] = None,
    withdraw: Annotated[int | None, typer.Option("--withdraw", min=1, metavar="N", help="Withdraw N units that nobody holds.")] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Withdraw what reservations hold, too, as they end unpaid. Nothing is taken from a shopper.")
    ] = False,
    change_id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="Your name for this change. Repeated with the same one it counts once.", show_default=False
        ),
    ] = None,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Show where a drop's units are; with --add or --withdraw, change how many there are, also while it is on.

    Withdrawing more than nobody holds is refused, or drained with --drain: what is free goes at once, the rest as
    reservations end unpaid. What is sold stays sold. With --json: skus, allotments and changes; of a change, its outcome,
    change_id and the units afterwards.
    """
    if add is None and withdraw is None:
        if sku is not None or drain or change_id is not None:
            raise BadInput(what="Nothing was said to be changed.", todo="Add --add N or --withdraw N, or leave the SKU out to look.")
        shown = run(_show(drop_id, config, data))
        if as_json:
            print_json(shown)
        else:
            _print(shown)
        return
    delta = _delta(sku, add, withdraw, drain=drain)
    assert sku is not None
    change_id = change_id or f"cli-{secrets.token_hex(8)}"
    changed = run(_change(drop_id, change_id, sku, delta, config, data, drain=drain))
    if as_json:
        print_json(changed)
    else:
        _tell(changed, delta)


def _delta(sku: str | None, add: int | None, withdraw: int | None, *, drain: bool) -> int:
    """Units to add, less than 0 to withdraw."""
    from flashsale.model import ALLOTMENT_MAX

    if sku is None:
        raise BadInput(
            what="It is not said which SKU is meant.", todo="'flashsale drop stock DROP SKU --add N'; without SKU it shows them."
        )
    if add is not None and withdraw is not None:
        raise BadInput(what="Units are either added or withdrawn.", todo="Leave --add or --withdraw out.")
    if drain and withdraw is None:
        raise BadInput(what="--drain goes with --withdraw.", todo="Leave it out, or withdraw.")
    delta = add if add is not None else -(withdraw or 0)
    if abs(delta) > ALLOTMENT_MAX:
        raise BadInput(what=f"More than {ALLOTMENT_MAX:,} units of a SKU are too many.", todo="Name fewer.")
    return delta


# ----------------------------------------------------------------------------------------------------------------- change


async def _change(
    drop_id: str, change_id: str, sku: str, delta: int, config: Path | None, data: Path | None, *, drain: bool
) -> StockChanged:
    from flashsale.cli.looking import of_drop
    from flashsale.cli.shapes import StockChanged
    from flashsale.cli.target import find_target, opened
    from flashsale.stock import MADE

    async with opened(find_target(config, data).settings) as parts:
        try:
            adjustment = await of_drop(parts, drop_id, parts.stock.change(drop_id, change_id, sku, delta, drain=drain))
        except (StoreUnknown, StoreUnavailable, DatabaseUnavailable) as error:
            error.todo = f"Repeat it with --id {change_id}: it counts once."
            raise
    if adjustment.outcome not in MADE:
        raise _refusal(drop_id, sku, delta, adjustment)
    assert adjustment.stock is not None
    return StockChanged(drop_id, sku, change_id, adjustment.outcome.value, adjustment.stock)


def _refusal(drop_id: str, sku: str, delta: int, adjustment: StockAdjustment) -> FlashsaleError:
    look = f"'flashsale drop stock {drop_id}' shows all there is."
    match adjustment.outcome:
        case "too_few" if adjustment.stock is not None:
            free, held = adjustment.stock.available, adjustment.stock.reserved - adjustment.stock.draining
            return Refused(
                what=f"{-delta:,} units of {sku} cannot be withdrawn:",
                why=f"{free:,} are free and {max(0, held):,} are in reservations; the others are sold or on their way out.",
                todo=_possible(free, max(0, held)) or look,
            )
        case "unknown_sku":
            return Refused(what=f"{drop_id} has no SKU {sku}.", todo=look)
        case "closed":
            return Refused(what=f"{drop_id} is closed, so its stock no longer changes.", todo="Make another drop for other units.")
        case "key_reused":
            return Refused(what="Another change was made under this id; nothing was changed.", todo="Choose another --id.")
        case _:
            return Refused(what=f"{drop_id} cannot take this change: there would be too many units, or changes.", todo=look)


def _possible(free: int, held: int) -> str:
    """How many units can be withdrawn, and how; empty when none."""
    words = [f"at most {free:,}" if free else "", f"up to {free + held:,} with --drain" if held else ""]
    return f"Withdraw {', or '.join(filter(None, words))}." if free + held else ""


def _tell(changed: StockChanged, delta: int) -> None:
    units = changed.stock
    if changed.outcome == "replayed":
        say(f"This change ({changed.change_id}) was made before; it counts once.")
    elif changed.outcome == "draining":
        say(f"Withdrawing {-delta:,} units of {changed.sku}; {units.draining:,} of them follow as reservations end unpaid.")
    else:
        say(f"{'Added' if delta > 0 else 'Withdrew'} {abs(delta):,} units of {changed.sku}.")
    _print_units([(changed.sku, units)])


# ------------------------------------------------------------------------------------------------------------------- show


async def _show(drop_id: str, config: Path | None, data: Path | None) -> StockShown:
    from flashsale.cli.looking import of_drop
    from flashsale.cli.shapes import StockShown
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        inspection = await of_drop(parts, drop_id, parts.drops.inspect(drop_id))
        changes = await _history(parts, drop_id)
        return StockShown(drop_id, inspection.snapshot.skus, {sku.sku: sku.allotment for sku in inspection.definition.skus}, changes)


async def _history(parts: Parts, drop_id: str) -> list[StockChange] | None:
    try:
        return await parts.stock.history(drop_id)
    except DatabaseUnavailable as error:
        warn(f"{error.what} The history of changes is not shown.")
        return None


def _print(shown: StockShown) -> None:
    _print_units(shown.skus.items())
    changes = shown.changes or []
    if changes:
        rows = [(moment(change.at_ms), change.sku, f"{change.delta:+,}", _words(change), change.change_id) for change in changes]
        print_table(("when", "SKU", "units>", "what", "id"), rows)


def _words(change: StockChange) -> str:
    states = {"given": f"{change.reason}, not in the store yet", "refused": "refused by the store"}
    return states.get(change.state, change.reason)


def _print_units(stocks: Iterable[tuple[str, SkuStock]]) -> None:
    rows = [
        (sku, f"{stock.allotment:,}", f"{stock.available:,}", f"{stock.reserved:,}", f"{stock.sold:,}", f"{stock.draining:,}")
        for sku, stock in stocks
    ]
    print_table(("SKU", "allotment>", "available>", "reserved>", "sold>", "draining>"), rows)
