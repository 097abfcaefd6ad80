"""Orders: transitions of a journal become rows in Postgres.

Each reservation's strongest transition is its order. States have ranks and an order only moves to a higher one (pending 0,
expired and cancelled 1, paid 2, refund_due 3, refunded 4), so a batch may be recorded any number of times, in any order
and by several processes at once, and the rows come out the same. (Only `paid_at` of an order whose end is heard of before
its payment is the time of the end.) Of a pending order the latest expiry counts.

Units are counted as sold while an order is paid: they are added when it becomes paid and, when it becomes `refund_due`
afterwards, taken out again in the same statement.

A surplus payment changes no order. It is a refund of its own, known by reservation and payment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from flashsale.errors import DatabaseUnavailable
from flashsale.model import OrderState, Transition
from flashsale.orders import PAID_STATES
from flashsale.refunds import HoldReason

if TYPE_CHECKING:
    from flashsale.connections.database import Database, Session
    from reconciler.entries import Drawn, DropEvent, ReservationTransition

ALLOTMENT_EXCEEDED = "allotment_exceeded"
"""Reason of a refund: the store sold a unit the allotment does not have."""
ALLOTMENT_GUARD = "drop_skus_sold_within_allotment"
"""The constraint that has the last word."""
UNSPECIFIED = "unspecified"

STATE_OF: Mapping[Transition, OrderState] = {
    Transition.RESERVED: OrderState.PENDING,
    Transition.EXTENDED: OrderState.PENDING,
    Transition.EXPIRED: OrderState.EXPIRED,
    Transition.RELEASED: OrderState.CANCELLED,
    Transition.CONFIRMED: OrderState.PAID,
    Transition.REFUND_DUE: OrderState.REFUND_DUE,
    Transition.CANCELLED: OrderState.REFUND_DUE,
}
"""The order state each transition leads to; a surplus payment leads to none."""
RANK_OF: Mapping[Transition, int] = {
    Transition.RESERVED: 0,
    Transition.EXTENDED: 0,
    Transition.EXPIRED: 1,
    Transition.RELEASED: 1,
    Transition.CONFIRMED: 2,
    Transition.REFUND_DUE: 3,
    Transition.CANCELLED: 3,
}
"""The rank of the order state each transition leads to; `order_rank` in SQL says the same."""

_by_reservation_id = attrgetter("reservation_id")


class Overtaken(Exception):
    """What was to be recorded belongs to an epoch that the drop has left: it was recovered without it. Nothing was recorded.

    The store was lost while somebody still had this in hand, and units it tells of may be another's by now.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        """the drop's now"""
        super().__init__(f"the drop is in epoch {epoch} now")


def require_current(epoch: int, held: int | None) -> None:
    """Returns when what is of `epoch` could be recorded, Postgres having the drop in epoch `held`. Raises Overtaken.

    Args:
        epoch: 0 when nobody knows.
        held: None when Postgres does not know the drop.
    """
    if held is not None and 0 < epoch < held:
        raise Overtaken(held)


class AllotmentRefused(Exception):
    """Payments of the batch do not fit the allotment, and the caller wants to know before they become refunds."""


def fold(transitions: Iterable[ReservationTransition]) -> list[ReservationTransition]:
    """The transition that decides each reservation's order, by ascending reservation id.

    The one of highest rank wins; of two of the same rank the earlier, but while it is pending the one that expires last.
    The order of `transitions` does not matter.
    """
    strongest: dict[str, ReservationTransition] = {}
    for transition in transitions:
        if transition.kind is Transition.SURPLUS:
            continue
        other = strongest.get(transition.reservation_id)
        if other is None or _decides(transition, other):
            strongest[transition.reservation_id] = transition
    return sorted(strongest.values(), key=_by_reservation_id)


def _decides(one: ReservationTransition, other: ReservationTransition) -> bool:
    return _strength(one) > _strength(other)


def _strength(transition: ReservationTransition) -> tuple[int, int, int]:
    rank = RANK_OF[transition.kind]
    return rank, 0 if rank else transition.expires_at_ms, -transition.at_ms


def fit(orders: Sequence[ReservationTransition], free: Mapping[str, int], recorded: Mapping[str, str]) -> list[ReservationTransition]:
    """`orders` with each payment the allotment has no units for turned into a refund.

    Payments are served in the order they were made; each gets all its units or none. What a cancelled order gives back is
    free for them.

    Args:
        orders: as `fold` gives them.
        free: units of each SKU that can still be sold.
        recorded: states of those orders that have a row; one at or past paid needs no units any more.
    """
    left = dict(free)
    for order in orders:
        if STATE_OF[order.kind] is OrderState.REFUND_DUE and recorded.get(order.reservation_id) == OrderState.PAID:
            for sku, quantity in order.items:
                left[sku] = left.get(sku, 0) + quantity
    refunds: dict[str, ReservationTransition] = {}
    for order in sorted(orders, key=lambda order: (order.at_ms, order.reservation_id)):
        if order.kind is not Transition.CONFIRMED or recorded.get(order.reservation_id) in PAID_STATES:
            continue
        if all(left.get(sku, 0) >= quantity for sku, quantity in order.items):
            for sku, quantity in order.items:
                left[sku] -= quantity
        else:
            refunds[order.reservation_id] = msgspec.structs.replace(order, kind=Transition.REFUND_DUE, reason=ALLOTMENT_EXCEEDED)
    return [refunds.get(order.reservation_id, order) for order in orders]


class Batch:
    """Orders of one drop, ready to be sent: one array per column.

    Arrays of plain values are what the driver encodes fastest (a 4000-order batch costs about 2 ms here and 4 ms there);
    building them when the batch is made lets that happen while Postgres works on the batch before.
    """

    def __init__(self, drop_id: str, transitions: Iterable[ReservationTransition], sequence: int = 0, epoch: int = 0) -> None:
        """Lay the orders out.

        Args:
            sequence: how far the drop's count of changes had come with the last of them; 0 when nobody knows.
            epoch: the drop's when the first of them happened; 0 when nobody knows.
        """
        transitions = list(transitions)
        self.sequence = sequence
        self.epoch = epoch
        self.drop_id = drop_id
        self.orders = fold(transitions)
        self.surplus = [transition for transition in transitions if transition.kind is Transition.SURPLUS]
        """payments that pay for nothing"""
        self.arguments = (drop_id, *_columns(self.orders), sequence, epoch)
        """of the query `orders_record`"""

    def __len__(self) -> int:
        return len(self.orders)

    def halves(self) -> tuple[Batch, Batch]:
        """The earlier and the later half, by time, so that earlier payments keep coming first."""
        by_time = sorted(self.orders, key=attrgetter("at_ms"))
        middle = len(by_time) // 2
        return self.with_orders(by_time[:middle]), self.with_orders(by_time[middle:])

    def with_orders(self, orders: Iterable[ReservationTransition]) -> Batch:
        """Other orders, as far and of the same epoch."""
        return Batch(self.drop_id, orders, self.sequence, self.epoch)

    def finished(self) -> list[tuple[str, OrderState]]:
        """(reservation id, state) of the orders somebody may be waiting for: those with a payment."""
        return [(order.reservation_id, STATE_OF[order.kind]) for order in self.orders if RANK_OF[order.kind] >= 2]


def _columns(orders: Sequence[ReservationTransition]) -> tuple[list[Any], ...]:
    return (
        [order.reservation_id for order in orders],
        [order.ticket_id for order in orders],
        [order.queue_number for order in orders],
        [STATE_OF[order.kind] for order in orders],
        [order.amount_minor for order in orders],
        [order.payment_reference for order in orders],
        [order.reserved_at_ms for order in orders],
        [order.expires_at_ms for order in orders],
        [order.at_ms for order in orders],
        [_reason(order) for order in orders],
        [order.request_id for order in orders],
        [order.reservation_id for order in orders for _ in order.items],
        [sku for order in orders for sku, _ in order.items],
        [quantity for order in orders for _, quantity in order.items],
    )


def _reason(order: ReservationTransition) -> str:
    if STATE_OF[order.kind] is OrderState.REFUND_DUE:
        return order.reason or UNSPECIFIED
    return order.reason


def _surplus_columns(payments: Sequence[ReservationTransition]) -> tuple[list[Any], ...]:
    return (
        [payment.reservation_id for payment in payments],
        [payment.amount_minor for payment in payments],
        [payment.payment_reference for payment in payments],
        [payment.reason or UNSPECIFIED for payment in payments],
    )


@dataclass(slots=True)
class Recorded:
    """What recording a batch came to."""

    rows: int = 0
    """orders that were new or changed their state"""
    paid: int = 0
    """of those, newly paid"""
    refused: int = 0
    """payments the allotment had no units for; they became refunds"""
    surplus: int = 0
    """payments that pay for nothing and became refunds now"""
    states: list[tuple[str, str]] = field(default_factory=list)
    """(reservation id, state now in Postgres) of every order of the batch with a payment"""
    poison: dict[str, str] = field(default_factory=dict)
    """reservation id to reason, of the orders the database will never accept"""

    def add(self, other: Recorded) -> None:
        """Take in what another part of the batch came to."""
        self.rows += other.rows
        self.paid += other.paid
        self.refused += other.refused
        self.surplus += other.surplus
        self.states += other.states
        self.poison |= other.poison


class OrderRecorder:
    """Writes batches of orders. Holds no state; one may serve all drops."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, batch: Batch, *, may_refuse: bool = True) -> Recorded:
        """Record all orders of `batch`, each with its items, units, outbox row and refund in one transaction: all of it or nothing.

        Why one statement: measured on two cores with fsync on, a batch of 4000 orders takes about 55 ms of Postgres, so
        round trips and the per-row work decide. Rows go in by `INSERT … SELECT FROM unnest`, references are checked once
        per statement, `sold` changes once per SKU, and only rows the insert returns (those that really changed) go on to
        items, units, outbox and refunds; so counting is exact without reading anything first.

        A row the database can never accept is found by halving; the rest is recorded. Repeating a batch is harmless.

        Args:
            batch: orders of one drop.
            may_refuse: payments the allotment has no units for become refunds. Without it they are left alone, for as long
                as news that frees units may still be on its way.

        Raises:
            Overtaken: the batch is of an epoch that the drop has left.
            AllotmentRefused: payments do not fit, and `may_refuse` is false; nothing or only a part was recorded.
            DatabaseUnavailable: nothing or only a part was recorded; record the same batch again later.
        """
        total, todo = Recorded(), [batch]
        while todo:
            part = todo.pop()
            if not part:
                continue
            try:
                total.add(await self._record(part, may_refuse=may_refuse))
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
                if len(part) == 1 or error.constraint_name == "orders_have_drops":
                    total.poison |= {order.reservation_id: str(error) for order in part.orders}
                else:
                    earlier, later = part.halves()
                    todo += [later, earlier]
        if batch.surplus:
            total.add(await self._note_payments("refunds_owe", batch.drop_id, batch.surplus))
        return total

    async def hold(self, drop_id: str, payments: Iterable[ReservationTransition]) -> int:
        """Keep overtaken payments for a person, but for those that are known; how many there are.

        Raises:
            DatabaseUnavailable: none or only a part was kept; repeating it is harmless.
        """
        held = [msgspec.structs.replace(payment, reason=HoldReason.OVERTAKEN) for payment in payments]
        return (await self._note_payments("refunds_hold", drop_id, held)).surplus if held else 0

    async def record_event(self, drop_id: str, event: DropEvent) -> bool:
        """Note the state a drop changed to, unless something newer is known; True when that changed anything.

        Raises:
            DatabaseUnavailable: record it again later.
        """
        with try_later():
            return await self._database.fetchrow("drop_state_record", drop_id, event.state, event.at_ms) is not None

    async def record_draw(self, drop_id: str, drawn: Drawn) -> bool:
        """Note what the store drew; True the first time.

        Raises:
            DatabaseUnavailable: record it again later.
        """
        told = {"at_ms": drawn.at_ms, "lines": [msgspec.structs.asdict(line) for line in drawn.lines], "beacon": drawn.beacon}
        with try_later():
            return await self._database.fetchrow("draw_record", drop_id, msgspec.json.encode(told).decode()) is not None

    async def _note_payments(self, query: str, drop_id: str, payments: Sequence[ReservationTransition]) -> Recorded:
        """Refunds of payments that pay for nothing. One the database will never accept is found by halving here, too."""
        try:
            with try_later():
                return Recorded(surplus=len(await self._database.fetch(query, drop_id, *_surplus_columns(payments))))
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            if len(payments) == 1:
                return Recorded(poison={payments[0].reservation_id: str(error)})
        middle = len(payments) // 2
        total = await self._note_payments(query, drop_id, payments[:middle])
        total.add(await self._note_payments(query, drop_id, payments[middle:]))
        return total

    async def _record(self, batch: Batch, *, may_refuse: bool) -> Recorded:
        with try_later():
            try:
                async with self._database.acquire() as session:
                    return await _write(session, batch)
            except asyncpg.CheckViolationError as error:
                if error.constraint_name != ALLOTMENT_GUARD:
                    raise
                if not may_refuse:
                    raise AllotmentRefused from error
            async with self._database.transaction() as session:
                return await _write_what_fits(session, batch)


async def _write(session: Session, batch: Batch) -> Recorded:
    row = await session.fetchrow("orders_record", *batch.arguments)
    assert row is not None
    require_current(batch.epoch, row["epoch"])
    states: list[tuple[str, str]] = [*batch.finished()]
    if states and row["written"] < len(batch):
        # Some were there already, perhaps in a later state than this batch knows of.
        found = await session.fetch("wait_for_orders", [reservation_id for reservation_id, _ in states])
        states = [(order["reservation_id"], order["state"]) for order in found]
    return Recorded(rows=row["written"], paid=row["paid"], states=states)


async def _write_what_fits(session: Session, batch: Batch) -> Recorded:
    """The locks on the SKUs come first: from then on nobody else can count a payment, so what is read stays true."""
    free = {row["sku"]: row["free"] for row in await session.fetch("skus_lock", batch.drop_id)}
    ids = [order.reservation_id for order in batch.orders]
    recorded = {row["reservation_id"]: row["state"] for row in await session.fetch("wait_for_orders", ids)}
    fitting = fit(batch.orders, free, recorded)
    result = await _write(session, batch.with_orders(fitting))
    result.refused = sum(1 for before, after in zip(batch.orders, fitting, strict=True) if before is not after)
    return result


@contextmanager
def try_later() -> Iterator[None]:
    """Every error of Postgres but those a row is to blame for (SQLSTATE classes 22 and 23) means: try again later."""
    try:
        yield
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
        raise
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # The last is what the driver says when the server goes away between two messages.
        raise DatabaseUnavailable(what="Postgres did not take the orders:", why=f"{error}.", todo="They are tried again.") from error
