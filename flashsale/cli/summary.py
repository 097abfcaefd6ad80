"""What a drop came to, computed from Postgres and the store: the report of `flashsale demo`.

What the crowd wrote down is used for four things only, because nobody else can know them: which reservations and payments
it was told were good (to look for each of them in Postgres), who left with nothing and when, how each visit ended, and which
answers were 5xx.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from admission.drawing import draws_of, prepare
from admission.places import Draws, queue_place
from flashsale.connections.database import Database
from flashsale.drops import FIRST_EPOCH
from flashsale.keys import drop_keys
from flashsale.model import DropState, Durability, Inspection, Ticket, line_of, place_of

PAGE_ROWS = 1000
NOTICED_WITHIN_MS = 3000
"""A shopper may act on news this old: units are back on sale within two seconds, and a serving document lives for one."""

ZEROS = ("oversold_units", "undersold_units", "lost_orders", "duplicate_orders", "overtakes", "draw_faults", "http_5xx", "broken_promises")
"""Numbers of the report that must be zero"""

ENDINGS = frozenset(
    ("paid", "paid_late", "payment_refused", "held_and_left", "released", "released_too_late", "no_show", "sold_out", "deadline")
)
"""How a visit may end. Whether it was right to be told that all is sold, or to wait in vain, is judged by `undersold_units`; a shopper
whose payment is refused before the reservation's time is up calls that a broken promise."""
_FORGOTTEN = "forgotten"
_AFTER_LOSS = re.compile(rf"{_FORGOTTEN}|\w+_refused (?:404 |409 limit_reached)")
"""endings that only a store's loss excuses: what it gave is gone, or somebody has what they never heard of"""

_GIVES_BACK = ("expired", "cancelled")
_PAID_TOO_LATE = "paid_after_expiry"
_PAID = ("paid", "refund_due", "refunded")
_REFUSED = "refused:"


class Crowd(msgspec.Struct, frozen=True):
    """What the simulated shoppers wrote down (`loadtest.diary`)."""

    complete: bool = True
    """the last of them has left; False when they were sent home before"""
    http_5xx: int = 0
    retry_later: dict[str, int] = {}
    lost_answers: dict[str, int] = {}
    reservations: dict[str, int] = {}
    """acknowledged: reservation id to units"""
    confirmed: dict[str, int] = {}
    """acknowledged payments: reservation id to HTTP status"""
    empty_handed: list[EmptyHanded] = []
    commitment: str = ""
    """to the draw's secret, as they were shown it before the opening; empty without a draw"""
    lots: dict[str, tuple[int, int]] = {}
    """of some: ticket to entry number and the queue number they were served by"""
    endings: dict[str, int] = {}
    times_ms: dict[str, dict[str, float]] = {}
    broken_promises: int = 0
    broken_promises_examples: list[str] = []


class EmptyHanded(msgspec.Struct, frozen=True):
    """A shopper who left with nothing because nothing was left."""

    wanted: list[tuple[str, int]]
    left_at_ms: int


@dataclass(frozen=True, slots=True)
class Raise:
    """Places of one line that were called together, from the store's `served` stream."""

    at_ms: int
    first: int
    """the first of them"""
    end: int
    """the first that was not called yet"""


@dataclass(frozen=True, slots=True)
class Order:
    """An order in Postgres, as far as the report needs it."""

    reservation_id: str
    state: str
    items: tuple[tuple[str, int], ...]
    reserved_at_ms: int
    gave_back_at_ms: int | None
    """when its units were on sale again; None while it has them"""


@dataclass(frozen=True, slots=True)
class Sku:
    """A SKU's units in Postgres and in the store."""

    allotment: int
    paid: int
    """units of paid orders in Postgres"""
    available: int
    taken: int
    """reserved and sold in the store"""


@dataclass(frozen=True, slots=True)
class Records:
    """Everything kept about a drop, read once it has come to rest."""

    inspection: Inspection
    tickets: tuple[Ticket, ...]
    raises: tuple[Raise, ...]
    draws: Draws
    """of the drop's lines"""
    orders: Mapping[str, Order]
    """by reservation id"""
    skus: Mapping[str, Sku]
    duplicate_orders: int
    audit: str


# -------------------------------------------------------------------------------------------------------------- reading


async def read_tickets(store: Any, drop_id: str) -> tuple[Ticket, ...]:
    """Every ticket of a drop, by place. In pages, so the store stays responsive however long the line is.

    Args:
        store: a client from `open_store`.
        drop_id: whose tickets.
    """
    found: dict[str, Ticket] = {}
    cursor = 0
    while True:
        cursor, page = await store.hscan(drop_keys(drop_id).tickets, cursor, count=PAGE_ROWS)
        for ticket_id, packed in page.items():
            name = ticket_id.decode()
            if (ticket := Ticket.from_record(name, msgspec.msgpack.decode(packed))) is not None:
                found[name] = ticket
        if not cursor:
            return tuple(sorted(found.values(), key=lambda ticket: ticket.number))


async def read_raises(store: Any, drop_id: str) -> tuple[Raise, ...]:
    """Every raise of a serving number, in order. Arguments as for `read_tickets`."""
    raises: list[Raise] = []
    start = "-"
    while page := await store.xrange(drop_keys(drop_id).served, min=start, count=PAGE_ROWS):
        raises += [Raise(int(entry[b"at_ms"]), int(entry[b"from"]), int(entry[b"to"])) for _, entry in page if b"from" in entry]
        start = "(" + page[-1][0].decode()
    return tuple(raises)


async def read_orders(database: Database, drop_id: str) -> dict[str, Order]:
    """Every order of a drop, by reservation id.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    return {order.reservation_id: order async for order in _orders(database, drop_id)}


async def _orders(database: Database, drop_id: str) -> AsyncIterator[Order]:
    after = ""
    while page := await database.fetch("orders_page", drop_id, after, PAGE_ROWS):
        for row in page:
            items = tuple(zip(row["skus"], row["quantities"], strict=True))
            yield Order(row["reservation_id"], row["state"], items, row["reserved_at_ms"], _gave_back_at_ms(row))
        after = page[-1]["reservation_id"]


def _gave_back_at_ms(row: Any) -> int | None:
    if row["state"] in _GIVES_BACK:
        return int(row["finished_at_ms"])
    # The row of a payment that came too late says when it was paid; the units had gone back at the expiry before.
    return int(row["expires_at_ms"]) if row["reason"] == _PAID_TOO_LATE else None


async def read_records(store: Any, database: Database, inspection: Inspection, audit: str) -> Records:
    """Everything kept about a drop.

    Args:
        store: a client from `open_store`.
        database: Postgres.
        inspection: the drop as it is now.
        audit: what the auditor said.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    drop_id = inspection.definition.drop_id
    totals = {row["sku"]: row for row in await database.fetch("drop_totals", drop_id)}
    duplicates = await database.fetch("duplicate_orders", drop_id)
    draws = draws_of(inspection.snapshot)
    await prepare(draws)
    return Records(
        inspection=inspection,
        tickets=await read_tickets(store, drop_id),
        raises=await read_raises(store, drop_id),
        draws=draws,
        orders=await read_orders(database, drop_id),
        skus={
            sku: Sku(totals[sku]["allotment"], totals[sku]["paid_units"], stock.available, stock.reserved + stock.sold)
            for sku, stock in inspection.skus.items()
        },
        duplicate_orders=sum(len(row["reservation_ids"]) - 1 for row in duplicates),
        audit=audit,
    )


# ---------------------------------------------------------------------------------------------------------- definitions


def oversold_units(skus: Iterable[Sku]) -> int:
    """Units sold that do not exist: per SKU what was paid in Postgres, or taken in the store, beyond the allotment."""
    return sum(max(0, sku.paid - sku.allotment, sku.taken - sku.allotment) for sku in skus)


def undersold_units(skus: Mapping[str, Sku], orders: Iterable[Order], empty_handed: Sequence[EmptyHanded]) -> int:
    """Units unsold at the end although somebody who wanted them was still there and left with nothing.

    A unit that came back after the crowd had gone was nobody's loss. So per SKU: the time since which units were free
    without a break follows from the orders in Postgres; everyone who left after that, told that nothing was left, counts
    with what they wanted of it, or with one unit, since people take what is left. Never more than what is left.
    """
    changes = _changes(orders)
    total = 0
    for sku, units in skus.items():
        since_ms = free_since_ms(units.available, changes.get(sku, [])) + NOTICED_WITHIN_MS
        demand = sum(max(1, dict(shopper.wanted).get(sku, 0)) for shopper in empty_handed if shopper.left_at_ms > since_ms)
        total += min(units.available, demand)
    return total


def _changes(orders: Iterable[Order]) -> dict[str, list[tuple[int, int]]]:
    """SKU to the times (ms) at which its available units changed, and by how much."""
    changes: dict[str, list[tuple[int, int]]] = {}
    for order in orders:
        for sku, quantity in order.items:
            found = changes.setdefault(sku, [])
            found.append((order.reserved_at_ms, -quantity))
            if order.gave_back_at_ms is not None:
                found.append((order.gave_back_at_ms, quantity))
    return changes


def free_since_ms(available: int, changes: Iterable[tuple[int, int]]) -> float:
    """Since when units have been available without a break, given how many are now and how they changed; never: infinity."""
    if available <= 0:
        return math.inf
    for at_ms, by in sorted(changes, reverse=True):
        available -= by
        if available <= 0:
            return at_ms
    return -math.inf


def lost_orders(crowd: Crowd, orders: Mapping[str, Order]) -> int:
    """Promises Postgres does not know: reservations acknowledged without any order, payments acknowledged without a paid one.

    A payment that is to be given back (`refund_due`) is known and not lost.
    """
    reserved = sum(1 for reservation_id in crowd.reservations if reservation_id not in orders)
    paid = sum(1 for reservation_id in crowd.confirmed if reservation_id in orders and orders[reservation_id].state not in _PAID)
    unseen = sum(1 for reservation_id in crowd.confirmed if reservation_id not in orders and reservation_id not in crowd.reservations)
    return reserved + paid + unseen


def overtakes(tickets: Sequence[Ticket], raises: Sequence[Raise], draws: Draws = (), drawn_at_ms: int = 0) -> int:
    """Times somebody went before their turn, by the store's records.

    Counted, in each line: a number given to somebody who joined later than the owner of the next one, or twice; a late place
    before an early one; a raise of the serving number that goes back in time, or comes before the draw, or leaves places out,
    or serves them again; an admission before its place in the queue, which for an entry the draw decides, was served, or by
    another place. A ticket that was made anew after a loss is left out: its owner had been served, as an order or a receipt
    proves, and nobody knows any more when they joined.

    Args:
        tickets: all of the drop.
        raises: all of the drop, in order.
        draws: of its lines.
        drawn_at_ms: when; 0 when nothing is drawn.
    """
    by_place = sorted(known := [ticket for ticket in tickets if ticket.joined_at_ms], key=lambda ticket: ticket.number)
    count = sum(
        1
        for one, following in itertools.pairwise(by_place)
        if line_of(one.number) == line_of(following.number)
        and (following.joined_at_ms < one.joined_at_ms or following.number == one.number or (one.late and not following.late))
    )
    served: dict[int, int] = {}
    at_ms = drawn_at_ms
    for step in raises:
        line = line_of(step.first)
        count += step.first != served.get(line, place_of(line, 0)) or step.end <= step.first or step.at_ms < at_ms
        served[line], at_ms = step.end, step.at_ms
    turn = Turns(raises, draws)
    return count + sum(1 for ticket in known if ticket.admitted_at_ms and not turn.was_kept(ticket))


def waits_ms(tickets: Iterable[Ticket], turn: Turns, opens_at_ms: int) -> list[int]:
    """How long each admitted shopper stood in line: from joining, or the opening if that was later, until being served."""
    admitted = (ticket for ticket in tickets if ticket.admitted_at_ms)
    return sorted(int(served - max(ticket.joined_at_ms, opens_at_ms)) for ticket in admitted if not math.isinf(served := turn.of(ticket)))


def strange_endings(endings: Mapping[str, int], *, closed: bool, may_forget: bool) -> dict[str, int]:
    """Visits that ended as none may, for example refused for a reason that keeps a willing buyer from free units.

    Args:
        endings: how often each ending was.
        closed: the drop has ended.
        may_forget: the drop was made anew after a loss, or its durability lets the last second go without a word.
    """
    return {
        ending: count
        for ending, count in endings.items()
        if ending not in ENDINGS and not (closed and ending == "closed") and not (may_forget and _AFTER_LOSS.match(ending))
    }


class Turns:
    """When each ticket was served."""

    def __init__(self, raises: Sequence[Raise], draws: Draws = ()) -> None:
        """`raises` are in order; `draws` say where in the queue the entries are."""
        self._draws = draws
        self._raises: dict[int, list[Raise]] = {}
        for step in raises:
            self._raises.setdefault(line_of(step.first), []).append(step)
        self._ends = {line: [step.end for step in steps] for line, steps in self._raises.items()}

    def of(self, ticket: Ticket) -> float:
        """The time in ms; infinity when it has not been."""
        place = self._queue_place(ticket)
        steps = self._raises.get(line_of(place), [])
        found = bisect.bisect_right(self._ends.get(line_of(place), []), place)
        return steps[found].at_ms if found < len(steps) else math.inf

    def was_kept(self, ticket: Ticket) -> bool:
        """Whether an admitted ticket was admitted after it was served, and by its own place."""
        return ticket.admitted_at_ms >= self.of(ticket) and ticket.turn in (-1, self._queue_place(ticket))

    def _queue_place(self, ticket: Ticket) -> int:
        return ticket.number if ticket.late else queue_place(ticket.number, self._draws)


def percentile(ordered: Sequence[int], share: float) -> int:
    """The nearest-rank percentile of ascending numbers; 0 when there are none."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0


# -------------------------------------------------------------------------------------------------------------- the report


def summarise(records: Records, crowd: Crowd) -> dict[str, Any]:
    """The report's numbers about the drop itself."""
    inspection, stats = records.inspection, records.inspection.stats
    snapshot = inspection.snapshot
    refused = {name.removeprefix(_REFUSED): total for name, total in stats.items() if name.startswith(_REFUSED)}
    states = Counter(order.state for order in records.orders.values())
    turn = Turns(records.raises, records.draws)
    waits = waits_ms(records.tickets, turn, snapshot.opens_at_ms)
    served = [ticket for ticket in records.tickets if not math.isinf(turn.of(ticket))]
    return {
        "drop": snapshot.drop_id,
        "joined": snapshot.joined,
        "admitted": snapshot.admitted,
        "served": len(served),
        "no_shows": sum(1 for ticket in served if not ticket.admitted_at_ms and not ticket.gone),
        "slots_lapsed": stats.get("slots_lapsed", 0),
        "reserved_units": stats.get("reserved_units", 0),
        "expired_units": stats.get("expired_units", 0),
        "sold_units": sum(stock.sold for stock in inspection.skus.values()),
        "unsold_units": sum(stock.available for stock in inspection.skus.values()),
        "refused": {
            "sold_out": refused.pop("sold_out", 0),
            "limit_reached": refused.pop("limit_reached", 0),
            "other": sum(refused.values()),
        },
        "late_payments": {
            "honoured": stats.get("late_payments_honoured", 0),
            "refused": stats.get("late_payments_refused", 0),
        },
        "orders_in_postgres": {state: states[state] for state in ("paid", "expired", "cancelled", "pending", "refund_due")},
        "oversold_units": oversold_units(records.skus.values()),
        "undersold_units": undersold_units(records.skus, records.orders.values(), crowd.empty_handed),
        "lost_orders": lost_orders(crowd, records.orders),
        "duplicate_orders": records.duplicate_orders,
        "overtakes": overtakes(records.tickets, records.raises, records.draws, snapshot.drawn_at_ms),
        "http_5xx": crowd.http_5xx,
        "retry_later": crowd.retry_later,
        "lost_answers": crowd.lost_answers,
        "broken_promises": crowd.broken_promises,
        "wait_ms": {"p50": percentile(waits, 0.5), "p95": percentile(waits, 0.95), "p99": percentile(waits, 0.99)},
        "answer_ms": crowd.times_ms,
        "endings": crowd.endings,
        "strange_endings": strange_endings(
            crowd.endings,
            closed=snapshot.state is DropState.CLOSED,
            may_forget=snapshot.epoch > FIRST_EPOCH or inspection.definition.durability == Durability.SECOND,
        ),
        "audit": records.audit,
    }


def faults(report: Mapping[str, Any]) -> list[str]:
    """What a report must not say and does, in words; empty when all is well."""
    found = [f"{name} is {report[name]}" for name in ZEROS if report[name]]
    found += [f"{count} visits ended with '{ending}'" for ending, count in report["strange_endings"].items()]
    if report["audit"] != "clean":
        found.append(f"the audit is {report['audit']}")
    if report["orders_in_postgres"]["pending"]:
        found.append(f"{report['orders_in_postgres']['pending']} orders are still pending")
    return found
