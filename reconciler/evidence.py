"""What an audit judges, read in the order that makes it comparable.

First, where the journal is recorded up to. Then Postgres, in one snapshot. Then the store, at one instant, with the
journal's last entry. The entries from the first mark to that one are the window: reservations not in it have not changed
since they were recorded, so both sides must agree on them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flashsale.errors import FlashsaleError
from flashsale.model import OrderState, ReservationState
from reconciler.entries import Entry, read_entry
from reconciler.journal import Journal
from reconciler.laws import (
    Drift,
    DriftKind,
    Misfits,
    OrderLook,
    PostgresLook,
    RecordLook,
    SkuTotals,
    StoreLook,
    Window,
    counter_drifts,
    judge,
    misfit,
    tally,
    untold_changes,
)
from reconciler.orders import try_later
from reconciler.records import Records

if TYPE_CHECKING:
    from flashsale.connections.database import Database, Session
    from reconciler.journal import RawEntry, Store

WINDOW_ENTRIES_MAX = 5_000
"""An entry may tell of some hundred reservations."""
RECORDS_MAX = 1_000_000
PAGE_ORDERS = 500
READER = "audit"
"""The journal is only looked at, so this name never joins the consumer group."""


class NotComparable(FlashsaleError):
    """Store and Postgres cannot be held against each other now; nothing says that anything is wrong."""

    code = "not_comparable"


@dataclass(frozen=True, slots=True)
class Counters:
    """Both sides' counters, and what was on its way between them."""

    store: StoreLook
    postgres: PostgresLook
    window: Window

    def drifts(self) -> list[Drift]:
        """What does not add up."""
        return judge(self.store, self.postgres, self.window)

    def expected_allotment(self, sku: str) -> int:
        """What the store's allotment should be, by Postgres and what is on its way there."""
        totals = self.postgres.totals[sku]
        return totals.allotment - totals.given_units + untold_changes(self.postgres, self.window)[sku]


@dataclass(frozen=True, slots=True)
class SecondLook:
    """Every reservation held against its order, and the counters of the same instant."""

    counters: Counters
    held: dict[tuple[str, ReservationState | None], int]
    """units by SKU and state, summed over the records"""
    misfits: Misfits

    def drifts(self) -> list[Drift]:
        """What does not add up, with the reservations concerned."""
        by_records = [*counter_drifts(self.counters.store, self.held), *self.misfits.drifts()]
        missing = any(drift.kind is DriftKind.EXPIRY_MISSING for drift in by_records)
        # The second look names the reservations that never expire; the first only knew their number.
        by_counters = [drift for drift in self.counters.drifts() if not (missing and drift.kind is DriftKind.EXPIRY_MISSING)]
        return sorted((*by_counters, *by_records), key=lambda drift: (drift.sku, drift.kind))


class Evidence:
    """Reads one drop on both sides."""

    def __init__(self, drop_id: str, database: Database, store: Store) -> None:
        self._drop_id = drop_id
        self._database = database
        self._journal = Journal(store, drop_id, READER)
        self._records = Records(store, drop_id)

    async def counters(self) -> Counters:
        """The first look: counters only, whatever the size of the drop.

        Raises:
            NotComparable: too much is on its way.
            Recovering: the store does not hold the drop.
            StoreUnavailable, DatabaseUnavailable: one side does not answer.
        """
        first = await self._journal.unrecorded_from()
        async with self._snapshot() as session:
            return await self._counters(session, first)

    async def reservations(self) -> SecondLook:
        """The second look: every reservation, in bounded pages. Raises as `counters` does."""
        first = await self._journal.unrecorded_from()
        records = await self._all_records()
        # What takes long for a large drop is done beside the event loop, which has orders to record meanwhile.
        never_expiring = await self._records.never_expiring(await asyncio.to_thread(_live, records))
        misfits = Misfits()
        async with self._snapshot() as session:
            counters = await self._counters(session, first)
            touched = counters.window.touched
            records.update(touched)
            held = await asyncio.to_thread(_units_of, records)
            for reservation_id in touched:
                records.pop(reservation_id)
            for reservation_id in never_expiring:
                if reservation_id in records:
                    misfits.add(DriftKind.EXPIRY_MISSING, reservation_id, records[reservation_id].items)
            async for reservation_id, order in self._orders(session):
                if reservation_id not in touched:
                    _note(misfits, reservation_id, records.pop(reservation_id, None), order)
        for reservation_id, record in records.items():
            _note(misfits, reservation_id, record, None)
        return SecondLook(counters, held, misfits)

    async def _all_records(self) -> dict[str, RecordLook]:
        records: dict[str, RecordLook] = {}
        async for page in self._records.pages():
            records.update(page)
            if len(records) > RECORDS_MAX:
                raise NotComparable(what=f"There are more than {RECORDS_MAX:,} reservations; only their counters are audited.")
        return records

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Session]:
        with try_later():
            async with self._database.transaction() as session:
                await session.execute("audit_snapshot")
                yield session

    async def _counters(self, session: Session, first: str) -> Counters:
        rows = await session.fetch("audit_totals", self._drop_id)
        totals = {row["sku"]: SkuTotals(*list(row.values())[1:]) for row in rows}
        orders = await session.fetchval("audit_orders_count", self._drop_id)
        store = await self._records.look()
        window = await self._window(first, store.journal_last)
        named = await session.fetch("audit_orders_named", list(window.touched))
        touched = {row["reservation_id"]: OrderLook(OrderState(row["state"]), row["units_counted"]) for row in named}
        told = await session.fetch("audit_changes_told", self._drop_id, list(window.changes)) if window.changes else []
        return Counters(store, PostgresLook(totals, orders, touched, frozenset(row["change_id"] for row in told)), window)

    async def _window(self, first: str, last: str) -> Window:
        newest = await self._journal.sequence_before(first)
        entries = await self._journal.between(first, last, WINDOW_ENTRIES_MAX) if last else []
        if entries is None:
            raise NotComparable(
                what="The journal is too far behind for store and Postgres to be held against each other.",
                why="Is a reconciler running, and does Postgres answer?",
                todo="Try again when the journal has been recorded.",
            )
        return await asyncio.to_thread(_window_of, entries, newest)

    async def _orders(self, session: Session) -> AsyncIterator[tuple[str, OrderLook]]:
        last = ""
        while True:
            rows = await session.fetch("audit_orders_page", self._drop_id, last, PAGE_ORDERS)
            for row in rows:
                items = tuple(zip(row["skus"], row["quantities"], strict=True))
                yield row["reservation_id"], OrderLook(OrderState(row["state"]), row["units_counted"], items)
            if len(rows) < PAGE_ORDERS:
                return
            last = rows[-1]["reservation_id"]


def _window_of(entries: Iterable[RawEntry], newest: int) -> Window:
    """What `entries` tell. The scripts number them upward, so one that is not above `newest` was told before: a copy."""
    window = Window()
    for raw in entries:
        entry = read_entry(raw.entry_id, raw.fields)
        if not isinstance(entry, Entry):
            raise NotComparable(
                what=f"The journal entry {entry.entry_id} cannot be read, so nobody can tell which orders it is about:",
                why=f"{entry.why}.",
                todo="Run a version that knows it, or wait until it is set aside as a dead letter.",
            )
        if entry.sequence <= newest:
            continue
        newest = entry.sequence
        for transition in entry.transitions:
            window.note(transition.kind, transition.reservation_id, transition.items)
        window.changes.update((change.change_id, (change.sku, change.delta)) for change in entry.stock_changes)
    return window


def _live(records: Mapping[str, RecordLook]) -> list[str]:
    return [reservation_id for reservation_id, record in records.items() if record.state is ReservationState.RESERVED]


def _units_of(records: Mapping[str, RecordLook]) -> dict[tuple[str, ReservationState | None], int]:
    return tally((record.state, record.items) for record in records.values())


def _note(misfits: Misfits, reservation_id: str, record: RecordLook | None, order: OrderLook | None) -> None:
    kind = misfit(record, order)
    if kind is not None:
        known = record or order
        assert known is not None
        misfits.add(kind, reservation_id, known.items)
