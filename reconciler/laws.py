"""The laws a drop must keep, in the store, in Postgres, and between the two. Pure: it judges what others have read.

Store and Postgres are never read in one instant, and orders keep arriving. So what is on its way is left out on both sides:
a reservation the journal told of since the last moment at which everything was recorded. About all others both sides must
agree to the unit, however busy the drop is. `Window` has the reservations left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from flashsale.audits import DriftFound
from flashsale.model import OrderState, ReservationState, SkuStock, Transition

IDS_SHOWN_MAX = 20

Items = tuple[tuple[str, int], ...]
"""(SKU, quantity)"""


class DriftKind(StrEnum):
    """What does not add up. Labels of a metric, so the list is short and fixed."""

    STORE_SUM = "store_sum"
    STORE_NEGATIVE = "store_negative"
    STORE_RECORDS = "store_records"
    EXPIRY_MISSING = "expiry_missing"
    POSTGRES_SUM = "postgres_sum"
    SKU_UNKNOWN = "sku_unknown"
    ALLOTMENT = "allotment"
    SOLD = "sold"
    RESERVED = "reserved"
    ORDER_MISSING = "order_missing"
    ORDER_BEHIND = "order_behind"
    ORDER_AHEAD = "order_ahead"
    ORDER_REFUSED = "order_refused"
    ORDER_UNKNOWN = "order_unknown"


LAWS: Mapping[DriftKind, str] = {
    DriftKind.STORE_SUM: "store: allotment = available + reserved + sold",
    DriftKind.STORE_NEGATIVE: "store: no negative units",
    DriftKind.STORE_RECORDS: "store: the counters are the sums over the reservation records",
    DriftKind.EXPIRY_MISSING: "store: every live reservation expires",
    DriftKind.POSTGRES_SUM: "Postgres: sold = units of orders counted, and no more than the allotment",
    DriftKind.SKU_UNKNOWN: "the store and Postgres know the same SKUs",
    DriftKind.ALLOTMENT: "both: the same allotment",
    DriftKind.SOLD: "both: the same units sold",
    DriftKind.RESERVED: "both: the units reserved are those of pending orders",
    DriftKind.ORDER_MISSING: "every reservation has an order",
    DriftKind.ORDER_BEHIND: "every order is as far as its reservation",
    DriftKind.ORDER_AHEAD: "no order is further than its reservation",
    DriftKind.ORDER_REFUSED: "no unit is sold that Postgres had to refuse",
    DriftKind.ORDER_UNKNOWN: "every pending or paid order has a reservation in the store",
}


@dataclass(frozen=True, slots=True)
class Drift:
    """One law that is broken."""

    kind: DriftKind
    sku: str
    """empty for the whole drop"""
    units: int
    """by how much; 0 where no unit is concerned"""
    ids: tuple[str, ...] = ()
    """of reservations, the first `IDS_SHOWN_MAX`"""
    ids_total: int = 0

    @property
    def law(self) -> str:
        """What should hold, in words."""
        return LAWS[self.kind]

    def __str__(self) -> str:
        named = f" ({', '.join(self.ids[:3])}{', …' if self.ids_total > 3 else ''})" if self.ids else ""
        return f"{self.sku or 'drop'}: {self.law}: {self.units:+d}{named}"


def found(drifts: Iterable[Drift]) -> list[DriftFound]:
    """`drifts`, to be shown."""
    return [DriftFound(drift.kind.value, drift.sku, drift.law, drift.units, drift.ids, drift.ids_total) for drift in drifts]


@dataclass(frozen=True, slots=True)
class SkuTotals:
    """Where a SKU's units are in Postgres (one row of the query `audit_totals`)."""

    allotment: int
    sold: int
    counted_units: int
    """of orders that count as sold"""
    pending_units: int
    given_units: int = 0
    """of the allotment, units the store has yet to take"""


@dataclass(frozen=True, slots=True)
class OrderLook:
    """An order in Postgres."""

    state: OrderState
    counted: bool
    """whether its units are in `sold`"""
    items: Items = ()


@dataclass(frozen=True, slots=True)
class RecordLook:
    """A reservation in the store."""

    state: ReservationState
    items: Items


@dataclass(frozen=True, slots=True)
class StoreLook:
    """A drop's counters at one instant."""

    skus: Mapping[str, SkuStock]
    records: int
    """reservations there are, in any state"""
    live: int
    """members of the set of expiries"""
    journal_last: str
    """id of the journal's last entry at that instant"""


@dataclass(slots=True)
class Window:
    """What the journal told of since everything was last recorded, up to the instant of the `StoreLook`."""

    touched: dict[str, RecordLook] = field(default_factory=dict)
    """reservation id to what it was at that instant"""
    changes: dict[str, tuple[str, int]] = field(default_factory=dict)
    """id of a change of an allotment to its SKU and units"""

    def note(self, kind: Transition, reservation_id: str, items: Items) -> None:
        """One transition, in the journal's order."""
        if kind in _STATE_AFTER:
            self.touched[reservation_id] = RecordLook(_STATE_AFTER[kind], items)


_STATE_AFTER: Mapping[Transition, ReservationState] = {
    Transition.RESERVED: ReservationState.RESERVED,
    Transition.EXTENDED: ReservationState.RESERVED,
    Transition.CONFIRMED: ReservationState.CONFIRMED,
    Transition.RELEASED: ReservationState.RELEASED,
    Transition.EXPIRED: ReservationState.EXPIRED,
    Transition.REFUND_DUE: ReservationState.REFUND_DUE,
    Transition.CANCELLED: ReservationState.CANCELLED,
}
"""A surplus payment changes no reservation."""


@dataclass(frozen=True, slots=True)
class PostgresLook:
    """A drop in Postgres in one snapshot, taken after the window began and before the store was looked at."""

    totals: Mapping[str, SkuTotals]
    orders: int
    """orders there are, in any state"""
    touched: Mapping[str, OrderLook]
    """the orders of the window's reservations"""
    told: frozenset[str]
    """those of the window's changes that are in the allotments already"""


def judge(store: StoreLook, postgres: PostgresLook, window: Window) -> list[Drift]:
    """Every law that can be judged by the counters alone."""
    drifts = [drift for sku, stock in store.skus.items() for drift in _of_store(sku, stock)]
    drifts += [drift for sku, totals in postgres.totals.items() for drift in _of_postgres(sku, totals)]
    drifts += _expiries(store)
    drifts += _between(store, postgres, window)
    return sorted(drifts, key=lambda drift: (drift.sku, drift.kind))


def records_differ(store: StoreLook, postgres: PostgresLook, window: Window) -> int:
    """By how many reservations the store has more than Postgres has orders, those on their way left out.

    Not a law: after a recovery the store need not know reservations that have ended. But when the number changes, a record
    or an order came or went by itself, and it is time for a second look.
    """
    return (store.records - len(window.touched)) - (postgres.orders - len(postgres.touched))


def _of_store(sku: str, stock: SkuStock) -> Iterable[Drift]:
    surplus = stock.available + stock.reserved + stock.sold - stock.allotment
    if surplus:
        yield Drift(DriftKind.STORE_SUM, sku, surplus)
    lowest = min(0, stock.available, stock.reserved, stock.sold)
    if lowest:
        yield Drift(DriftKind.STORE_NEGATIVE, sku, lowest)


def _of_postgres(sku: str, totals: SkuTotals) -> Iterable[Drift]:
    units = totals.sold - totals.counted_units or max(0, totals.sold - totals.allotment)
    if units:
        yield Drift(DriftKind.POSTGRES_SUM, sku, units)


def _expiries(store: StoreLook) -> Iterable[Drift]:
    reserved = sum(stock.reserved for stock in store.skus.values())
    if store.live > reserved or (reserved > 0 and store.live == 0):
        yield Drift(DriftKind.EXPIRY_MISSING, "", reserved - store.live)


def _between(store: StoreLook, postgres: PostgresLook, window: Window) -> Iterable[Drift]:
    in_store = tally((look.state, look.items) for look in window.touched.values())
    in_postgres = tally((_counts_as(look), window.touched[id_].items) for id_, look in postgres.touched.items())
    changed = untold_changes(postgres, window)
    for sku in sorted({*store.skus, *postgres.totals}):
        stock, totals = store.skus.get(sku), postgres.totals.get(sku)
        if stock is None or totals is None:
            yield Drift(DriftKind.SKU_UNKNOWN, sku, stock.allotment if stock else totals.allotment if totals else 0)
            continue
        laws = (
            (DriftKind.ALLOTMENT, stock.allotment - changed[sku] - (totals.allotment - totals.given_units)),
            (DriftKind.SOLD, (stock.sold - in_store[sku, _SOLD]) - (totals.sold - in_postgres[sku, _SOLD])),
            (DriftKind.RESERVED, (stock.reserved - in_store[sku, _HELD]) - (totals.pending_units - in_postgres[sku, _HELD])),
        )
        yield from (Drift(kind, sku, units) for kind, units in laws if units)


def untold_changes(postgres: PostgresLook, window: Window) -> dict[str, int]:
    """Units by SKU by which the store's allotment has changed and Postgres' has not yet; 0 for others."""
    changed: dict[str, int] = defaultdict(int)
    for change_id, (sku, delta) in window.changes.items():
        if change_id not in postgres.told:
            changed[sku] += delta
    return changed


_SOLD, _HELD = ReservationState.CONFIRMED, ReservationState.RESERVED


def _counts_as(order: OrderLook) -> ReservationState | None:
    if order.counted:
        return _SOLD
    return _HELD if order.state is OrderState.PENDING else None


def tally(looks: Iterable[tuple[ReservationState | None, Items]]) -> dict[tuple[str, ReservationState | None], int]:
    """Units by SKU and state; 0 for those nobody has."""
    units: dict[tuple[str, ReservationState | None], int] = defaultdict(int)
    for state, items in looks:
        for sku, quantity in items:
            units[sku, state] += quantity
    return units


# ------------------------------------------------------------------------------------------- one reservation at a time

_ORDER_OF: Mapping[ReservationState, tuple[OrderState, ...]] = {
    ReservationState.RESERVED: (OrderState.PENDING,),
    ReservationState.RELEASED: (OrderState.CANCELLED,),
    ReservationState.EXPIRED: (OrderState.EXPIRED,),
    ReservationState.CONFIRMED: (OrderState.PAID,),
    ReservationState.REFUND_DUE: (OrderState.REFUND_DUE, OrderState.REFUNDED),
    ReservationState.CANCELLED: (OrderState.REFUND_DUE, OrderState.REFUNDED),
}
"""What the order of a reservation in each state must be."""
_RANK: Mapping[OrderState, int] = {
    OrderState.PENDING: 0,
    OrderState.EXPIRED: 1,
    OrderState.CANCELLED: 1,
    OrderState.PAID: 2,
    OrderState.REFUND_DUE: 3,
    OrderState.REFUNDED: 4,
}
"""As `order_rank` in SQL: an order only moves to a higher one."""
_HOLDING = (OrderState.PENDING, OrderState.PAID)


def misfit(record: RecordLook | None, order: OrderLook | None) -> DriftKind | None:
    """What is wrong between a reservation and its order, if anything."""
    if record is None:
        return DriftKind.ORDER_UNKNOWN if order is not None and order.state in _HOLDING else None
    if order is None:
        return DriftKind.ORDER_MISSING
    wanted = _ORDER_OF[record.state]
    if order.state in wanted:
        return None
    if record.state is ReservationState.CONFIRMED and order.state in _ORDER_OF[ReservationState.CANCELLED]:
        return DriftKind.ORDER_REFUSED
    return DriftKind.ORDER_BEHIND if _RANK[order.state] < _RANK[wanted[0]] else DriftKind.ORDER_AHEAD


class Misfits:
    """Reservations with something wrong, by kind: all ids, and the units concerned by SKU."""

    def __init__(self) -> None:
        self.ids: dict[DriftKind, list[str]] = defaultdict(list)
        self._units: dict[tuple[DriftKind, str], int] = defaultdict(int)
        self._ids_of_sku: dict[tuple[DriftKind, str], list[str]] = defaultdict(list)

    def add(self, kind: DriftKind, reservation_id: str, items: Items) -> None:
        """Note one."""
        self.ids[kind].append(reservation_id)
        for sku, quantity in items:
            self._units[kind, sku] += quantity
            self._ids_of_sku[kind, sku].append(reservation_id)

    def units(self, kind: DriftKind, sku: str) -> int:
        """Units of a SKU concerned."""
        return self._units.get((kind, sku), 0)

    def drifts(self) -> list[Drift]:
        """What they come to per kind and SKU."""
        return [
            Drift(kind, sku, units, tuple(sorted(ids)[:IDS_SHOWN_MAX]), len(ids))
            for (kind, sku), units in sorted(self._units.items())
            if (ids := self._ids_of_sku[kind, sku])
        ]


def counter_drifts(store: StoreLook, held: Mapping[tuple[str, ReservationState | None], int]) -> list[Drift]:
    """Where the counters are not the sums over the records (`tally`)."""
    drifts = []
    for sku, stock in store.skus.items():
        units = (stock.reserved - held[sku, _HELD], stock.sold - held[sku, _SOLD])
        if any(units):
            drifts.append(Drift(DriftKind.STORE_RECORDS, sku, max(units, key=abs)))
    return drifts
