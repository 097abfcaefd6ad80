"""What reading commands print with `--json`. Members may be added, never changed or taken away.

Times are milliseconds since the Unix epoch, lengths of time are milliseconds, money is in minor units. `null` means that
the store or Postgres did not answer.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from flashsale.audits import DriftFound, LastAudit
from flashsale.model import Drop, Inspection, Reservation, SkuStock
from flashsale.orders import Order
from flashsale.refunds import Refund
from flashsale.stock import StockChange


class DropListed(Struct, frozen=True):
    """An element of `drop list --json`."""

    drop_id: str
    name: str
    state: str
    """scheduled, waiting, open, paused or closed; without the store, the last one Postgres heard of"""
    in_store: bool
    joins_at_ms: int
    opens_at_ms: int
    closes_at_ms: int
    allotment: int
    """units of all SKUs"""
    available: int | None
    reserved: int | None
    sold: int | None


class Orders(Struct, frozen=True):
    """Orders of a drop in Postgres, by state."""

    pending: int = 0
    paid: int = 0
    expired: int = 0
    cancelled: int = 0
    refund_due: int = 0
    refunded: int = 0


class Picture(Struct, frozen=True):
    """A drop at one moment: a line of `drop watch --json`, and `live` in `drop show --json`."""

    drop_id: str
    at_ms: int
    """by the store's clock"""
    state: str
    epoch: int
    joins_at_ms: int
    opens_at_ms: int
    closes_at_ms: int
    joined: int
    """places given so far, in all lines"""
    waiting: int
    """places that the serving numbers have not passed yet, in all lines"""
    serving_number: int
    """of everybody's line"""
    admitted: int
    active: int
    """slots in use, of `capacity`"""
    capacity: int
    returning: int
    """served shoppers who wait for a slot again"""
    rate_per_min: int
    sold_out: bool
    skus: dict[str, SkuStock]
    reservations_live: int
    expired_units: int
    refused: dict[str, int]
    """requests to reserve that were refused, by reason"""
    notice: str
    journal_length: int
    journal_oldest_unfinished_ms: int | None
    """age of the oldest entry that is not in Postgres yet; null when all are"""
    orders: Orders | None
    """null while Postgres does not answer"""
    audit: LastAudit | None = None
    """null while Postgres does not answer, and before the first one"""


class DropShown(Struct, frozen=True):
    """`drop show --json`."""

    drop_id: str
    state: str
    in_store: bool
    definition: Drop
    """as created"""
    live: Picture | None
    units: dict[str, int]
    """allotment of each SKU now; without the store, as Postgres knows it"""


class DropCreated(Struct, frozen=True):
    """`drop create --json`."""

    drop_id: str
    outcome: Literal["created", "existed", "dry_run"]
    in_store: bool
    definition: Drop


class StockShown(Struct, frozen=True):
    """`drop stock --json`."""

    drop_id: str
    skus: dict[str, SkuStock]
    allotments: dict[str, int]
    """as the drop was created"""
    changes: list[StockChange] | None
    """the latest first; null while Postgres does not answer"""


class StockChanged(Struct, frozen=True):
    """`drop stock --add` and `--withdraw` with `--json`."""

    drop_id: str
    sku: str
    change_id: str
    outcome: str
    """adjusted, draining or replayed"""
    stock: SkuStock
    """afterwards"""


class DropSteered(Struct, frozen=True):
    """`drop open`, `pause`, `resume`, `close`, `rate`, `capacity`, `message`, `joining` and `signal` with `--json`."""

    drop_id: str
    outcome: str
    """done, unchanged, closed or replayed"""
    state: str


class PlaceRemoved(Struct, frozen=True):
    """`drop remove --json`."""

    drop_id: str
    ticket_id: str
    outcome: str
    """removed or replayed"""


class InvitesMade(Struct, frozen=True):
    """`drop invites --json`."""

    drop_id: str
    group: str
    """empty for everybody's line"""
    uses: int
    """people who may join with each"""
    codes: list[str]


class KeyListed(Struct, frozen=True):
    """An element of `key list --json`."""

    key_id: str
    tenant: str
    scopes: tuple[str, ...]
    label: str
    created_at_ms: int
    expires_at_ms: int | None
    """null: never"""
    revoked_at_ms: int | None
    """null: not revoked"""


class DropAudited(Struct, frozen=True):
    """An element of `audit --json`."""

    drop_id: str
    result: str
    """clean, drift, unfinished (the journal is too far behind), or failed (the drop could not be looked at)"""
    drifts: list[DriftFound]
    why: str = ""
    """why it is unfinished or failed"""


class MeasureShown(Struct, frozen=True):
    """One thing a repair does."""

    what: str
    ids: list[str]
    """reservations concerned"""


class DropRepaired(Struct, frozen=True):
    """`repair --json`."""

    drop_id: str
    outcome: str
    """clean (nothing to do), planned (nothing done), or repaired"""
    measures: list[MeasureShown]
    unsafe: list[str]
    """what is wrong and cannot be repaired safely"""
    result: str | None
    """of the audit afterwards; null when nothing was done"""


class Checked(Struct, frozen=True):
    """An element of `doctor --json`."""

    name: str
    level: Literal["ok", "warn", "unsafe"]
    what: str
    todo: str


def picture_of(inspection: Inspection, oldest_unfinished_ms: int | None, orders: Orders | None, audit: LastAudit | None = None) -> Picture:
    """The picture of a drop, put together from its sources."""
    snapshot, stats = inspection.snapshot, inspection.stats
    return Picture(
        drop_id=snapshot.drop_id,
        at_ms=snapshot.now_ms,
        state=snapshot.state.value,
        epoch=snapshot.epoch,
        joins_at_ms=snapshot.joins_at_ms,
        opens_at_ms=snapshot.opens_at_ms,
        closes_at_ms=snapshot.closes_at_ms,
        joined=sum(line.joined for line in snapshot.lines),
        waiting=sum(max(0, line.joined - line.serving_number) for line in snapshot.lines),
        serving_number=snapshot.serving_number,
        admitted=snapshot.admitted,
        active=snapshot.active,
        capacity=snapshot.capacity,
        returning=snapshot.returning,
        rate_per_min=snapshot.rate_per_min,
        sold_out=snapshot.sold_out,
        skus=snapshot.skus,
        reservations_live=snapshot.reservations_live,
        expired_units=stats.get("expired_units", 0),
        refused={name.removeprefix("refused:"): total for name, total in sorted(stats.items()) if name.startswith("refused:")},
        notice=snapshot.notice,
        journal_length=inspection.journal_length,
        journal_oldest_unfinished_ms=oldest_unfinished_ms,
        orders=orders,
        audit=audit,
    )


class OrderShown(Struct, frozen=True):
    """`order show --json`."""

    order_id: str
    drop_id: str
    state: str | None
    """of the order in Postgres; null while it is not recorded, or Postgres does not answer"""
    reservation_state: str | None
    """in the store; null when it does not know it, or does not answer"""
    items: list[tuple[str, int]]
    """(SKU, quantity)"""
    amount_minor: int
    currency: str
    payment_reference: str | None
    reason: str | None
    reserved_at_ms: int
    expires_at_ms: int
    paid_at_ms: int | None
    refunds: list[Refund]


class OrderCancelled(Struct, frozen=True):
    """`order cancel --json`."""

    order_id: str
    outcome: str
    """released, cancelled, replayed or expired"""
    state: str
    """of the reservation afterwards"""


def order_shown(order: Order | None, held: tuple[Reservation, Drop] | None, refunds: list[Refund]) -> OrderShown:
    """What both stores know of one order; at least one of them knows it."""
    reservation_state = None if held is None else held[0].state.name.lower()
    if order is not None:
        return OrderShown(
            order_id=order.order_id,
            drop_id=order.drop_id,
            state=order.state,
            reservation_state=reservation_state,
            items=list(order.items),
            amount_minor=order.amount_minor,
            currency=order.currency,
            payment_reference=order.payment_reference,
            reason=order.reason or None,
            reserved_at_ms=order.reserved_at_ms,
            expires_at_ms=order.expires_at_ms,
            paid_at_ms=order.paid_at_ms,
            refunds=refunds,
        )
    assert held is not None
    reservation, drop = held
    return OrderShown(
        order_id=reservation.reservation_id,
        drop_id=drop.drop_id,
        state=None,
        reservation_state=reservation_state,
        items=list(reservation.items),
        amount_minor=reservation.amount_minor,
        currency=drop.currency,
        payment_reference=reservation.payment_reference or None,
        reason=None,
        reserved_at_ms=reservation.reserved_at_ms,
        expires_at_ms=reservation.expires_at_ms,
        paid_at_ms=None,
        refunds=refunds,
    )
