"""`flashsale order …`: one order, shown or taken back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, group, run
from flashsale.cli.exits import Refused
from flashsale.cli.output import moment, print_json, print_table, say
from flashsale.errors import BadInput, DatabaseUnavailable, DropNotFound, Recovering, StoreUnavailable, StoreUnknown
from flashsale.money import money
from flashsale.orders import CancelReason

if TYPE_CHECKING:
    from flashsale.cli.shapes import OrderShown
    from flashsale.cli.target import Parts
    from flashsale.model import Drop, Reservation
    from flashsale.orders import Order
    from flashsale.refunds import Refund
    from flashsale.reservations import Settlement

MERCHANT = "merchant"

orders = group("Single orders.")

OrderId: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The order's id, which is its reservation's.")]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(orders, name="order")
    command(orders, "show", "flashsale order show ID", "flashsale order show ID --json")(show)
    command(orders, "cancel", "flashsale order cancel ID", "flashsale order cancel ID --reason unavailable")(cancel)


def show(order_id: OrderId, as_json: options.Json = False, config: options.Config = None, data: options.Data = None) -> None:
    """Show an order, its reservation and what goes back of its money.

    Works while either store is away, with what the other knows.
    """
    shown = run(_show(order_id, config, data))
    if as_json:
        print_json(shown)
        return
    print_table(("", ""), _lines(shown))
    if shown.refunds:
        rows = [
            (one.refund_id, one.state, money(one.amount_minor, one.currency), one.payment_reference, one.reason, one.last_error)
            for one in shown.refunds
        ]
        print_table(("refund", "state", "amount>", "payment", "reason", "last error"), rows)


async def _show(order_id: str, config: Path | None, data: Path | None) -> OrderShown:
    from flashsale.cli.shapes import order_shown
    from flashsale.cli.target import find_target, opened

    drop_id = _drop_of(order_id)
    async with opened(find_target(config, data).settings) as parts:
        held = await _held(parts, drop_id, order_id)
        try:
            order, refunds = await _recorded(parts, order_id)
        except DatabaseUnavailable:
            if held is None:
                raise
            order, refunds = None, []
    if order is None and held is None:
        raise _unknown(order_id)
    return order_shown(order, held, refunds)


async def _held(parts: Parts, drop_id: str, order_id: str) -> tuple[Reservation, Drop] | None:
    """The reservation as the store has it; None when it has none, or does not answer."""
    try:
        inspection = await parts.drops.inspect(drop_id, reservations=(order_id,))
    except (Recovering, StoreUnavailable, StoreUnknown):
        return None
    found = inspection.reservations[0]
    return None if found is None else (found, inspection.definition)


async def _recorded(parts: Parts, order_id: str) -> tuple[Order | None, list[Refund]]:
    from flashsale.orders import Orders
    from flashsale.refunds import Refunds

    order = await Orders(parts.database, parts.store).get(order_id)
    return order, await Refunds(parts.database).of_order(order_id)


def _lines(shown: OrderShown) -> list[tuple[str, str]]:
    lines = [
        ("order", shown.order_id),
        ("state", shown.state or "not recorded yet"),
        ("reservation", shown.reservation_state or "unknown to the store"),
        ("items", ", ".join(f"{quantity} x {sku}" for sku, quantity in shown.items)),
        ("amount", money(shown.amount_minor, shown.currency)),
        ("payment", shown.payment_reference or "none"),
        ("reserved", moment(shown.reserved_at_ms)),
        ("expires", moment(shown.expires_at_ms)),
    ]
    if shown.paid_at_ms is not None:
        lines.append(("paid", moment(shown.paid_at_ms)))
    if shown.reason:
        lines.append(("reason", shown.reason))
    return lines


def cancel(
    order_id: OrderId,
    reason: Annotated[CancelReason, typer.Option("--reason", help="Kept with the order and its refund.")] = CancelReason.OTHER,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """End a reservation or take a paid order back.

    The units are on sale again at once. What was paid becomes a refund, see 'flashsale refunds list'. Repeating it is
    harmless. With --json: order_id, outcome and state.
    """
    from flashsale.cli.shapes import OrderCancelled

    settlement = run(_cancel(order_id, reason, config, data))
    assert settlement.state is not None
    cancelled = OrderCancelled(order_id, settlement.outcome.value, settlement.state.name.lower())
    if as_json:
        print_json(cancelled)
    else:
        say(_WORDS[cancelled.state])


_WORDS = {
    "released": "Ended. It was not paid.",
    "expired": "It had expired before; there is nothing to give back.",
    "cancelled": "Taken back. Its units are on sale again, its payment goes back.",
    "refund_due": "It never got its units; its payment is due for refund already.",
}


async def _cancel(order_id: str, reason: CancelReason, config: Path | None, data: Path | None) -> Settlement:
    from flashsale.cli.looking import of_drop
    from flashsale.cli.target import find_target, opened
    from flashsale.model import ReleaseOutcome
    from flashsale.orders import reason_words

    drop_id = _drop_of(order_id)
    async with opened(find_target(config, data).settings) as parts:
        try:
            call = parts.reservations.release(order_id, "command-line", reason_words(MERCHANT, reason), paid_too=True)
            settlement = await of_drop(parts, drop_id, call)
        except DropNotFound:
            raise _unknown(order_id) from None
    if settlement.outcome is ReleaseOutcome.NOT_FOUND:
        raise _unknown(order_id)
    return settlement


def _drop_of(order_id: str) -> str:
    from flashsale.model import RESERVATION_ID_RE

    match = RESERVATION_ID_RE.fullmatch(order_id)
    if match is None:
        raise BadInput(what=f"'{order_id[:100]}' is not an order's id.", todo="It looks like sneaker-x.r and 22 characters.")
    return match[1]


def _unknown(order_id: str) -> Refused:
    return Refused(what=f"There is no order {order_id}.", todo="Its id is that of its reservation.")
