"""The final state, read from a real installation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from flashsale.connections.database import Database
from flashsale.drops import DropStore
from flashsale.keys import DropKeys, drop_keys
from flashsale.model import Inspection, Reservation, Ticket
from loadtest.checker.state import FinalState, JournalStep, OrderRow, Refund, ReservationRecord, SkuState

PAGE_ROWS = 500
HELD = "held"
"""state of money that does not go back before a person has decided so; it may pay for its order meanwhile"""
_unpack = msgspec.msgpack.decode


async def read_final_state(store: Any, database: Database, drops: DropStore, drop_id: str) -> FinalState:
    """What the stores hold of a drop, which must be at rest: nothing live, nothing unfinished in the journal.

    Args:
        store: a client from `open_store`.
        database: Postgres.
        drops: the drops in that store.
        drop_id: which one.

    Raises:
        Recovering, StoreUnavailable, StoreUnknown, DatabaseUnavailable: it cannot be read now.
    """
    keys = drop_keys(drop_id)
    totals = {row["sku"]: row for row in await database.fetch("drop_totals", drop_id)}
    orders = [_order(row) async for row in _order_rows(database, drop_id)]
    refunds = [refund async for refund in _refunds(database, drop_id)]
    records = [record async for record in _records(store, keys)]
    journal = [step async for step in _journal(store, keys)]
    places = {ticket_id: place async for ticket_id, place in _places(store, keys)}
    inspection = await drops.inspect(drop_id)
    return FinalState(
        drop_id=drop_id,
        now_ms=inspection.now_ms,
        epoch=inspection.epoch,
        limit_per_shopper=inspection.definition.limit_per_shopper,
        skus=_skus(inspection, totals),
        reservations=tuple(records),
        orders=tuple(orders),
        refunds=tuple(refunds),
        journal=tuple(journal),
        places=places,
        reservations_per_shopper_max=int(await store.hget(keys.drop, "reservations_per_shopper_max")),
    )


def _skus(inspection: Inspection, totals: Mapping[str, Any]) -> tuple[SkuState, ...]:
    return tuple(
        SkuState(
            sku=sku.sku,
            price_minor=sku.price_minor,
            limit_per_shopper=sku.limit_per_shopper,
            allotment_first=sku.allotment,
            allotment=inspection.skus[sku.sku].allotment,
            available=inspection.skus[sku.sku].available,
            reserved=inspection.skus[sku.sku].reserved,
            sold=inspection.skus[sku.sku].sold,
            database_allotment=totals[sku.sku]["allotment"],
            database_sold=totals[sku.sku]["sold"],
        )
        for sku in inspection.definition.skus
    )


async def _records(store: Any, keys: DropKeys) -> AsyncIterator[ReservationRecord]:
    seen = set()
    async for name, packed in _fields(store, keys.reservations):
        if name not in seen:  # a scan may show a field twice
            seen.add(name)
            yield _record(Reservation.from_wire(name.decode(), _unpack(packed)))


async def _places(store: Any, keys: DropKeys) -> AsyncIterator[tuple[str, int]]:
    async for name, packed in _fields(store, keys.tickets):
        ticket = Ticket.from_record(name.decode(), _unpack(packed))
        if ticket is not None and ticket.admitted_at_ms:
            yield ticket.ticket_id, ticket.turn if ticket.turn >= 0 else ticket.number


async def _fields(store: Any, key: str) -> AsyncIterator[tuple[bytes, bytes]]:
    cursor = 0
    while True:
        cursor, page = await store.hscan(key, cursor, count=PAGE_ROWS)
        for field in page.items():
            yield field
        if not cursor:
            return


def _record(reservation: Reservation) -> ReservationRecord:
    return ReservationRecord(
        reservation_id=reservation.reservation_id,
        ticket_id=reservation.ticket_id,
        state=reservation.state.name.lower(),
        items=reservation.items,
        amount_minor=reservation.amount_minor,
        reserved_at_ms=reservation.reserved_at_ms,
        expires_at_ms=reservation.expires_at_ms,
        payment_reference=reservation.payment_reference,
    )


async def _order_rows(database: Database, drop_id: str) -> AsyncIterator[Any]:
    after = ""
    while page := await database.fetch("orders_page", drop_id, after, PAGE_ROWS):
        for row in page:
            yield row
        after = page[-1]["reservation_id"]


def _order(row: Any) -> OrderRow:
    return OrderRow(
        reservation_id=row["reservation_id"],
        ticket_id=row["ticket_id"],
        state=row["state"],
        items=tuple(zip(row["skus"], row["quantities"], strict=True)),
        amount_minor=row["amount_minor"],
        payment_reference=row["payment_reference"] or "",
        finished_at_ms=row["finished_at_ms"] or 0,
    )


async def _refunds(database: Database, drop_id: str) -> AsyncIterator[Refund]:
    after = ("", "")
    while page := await database.fetch("refunds_page", drop_id, *after, PAGE_ROWS):
        for row in page:
            if row["state"] != HELD:
                yield Refund(row["reservation_id"], row["payment_reference"], row["amount_minor"])
        after = (page[-1]["reservation_id"], page[-1]["payment_reference"])


async def _journal(store: Any, keys: DropKeys) -> AsyncIterator[JournalStep]:
    """What the scripts wrote, once: every call has a number of its own, so an entry without one, or with one that was seen,
    was put there by somebody else.
    """
    start, seen = "-", set()
    while page := await store.xrange(keys.journal, min=start, count=PAGE_ROWS):
        for _, entry in page:
            number = entry.get(b"s")
            if number is None or number in seen:
                continue
            seen.add(number)
            for kind, reservation_id, at_ms, _, _, _, items, *_ in _unpack(entry[b"e"]) if b"e" in entry else ():
                yield JournalStep(kind, reservation_id, at_ms, tuple((sku, quantity) for sku, quantity in items))
        start = "(" + page[-1][0].decode()
