"""Pay, pay again, extend, expire and cancel, all in the millisecond of the expiry, in any order: both stores tell one story.

The scripts run one after another anyway, so every race is an order of calls. What the journal tells is recorded out of order,
in small batches, several times, as several consumers might.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.keys import drop_keys
from flashsale.model import ReservationState
from flashsale.refunds import RefundProgress, Refunds
from reconciler.entries import Entry, ReservationTransition, read_entry
from reconciler.orders import Batch, OrderRecorder
from tests.lua import world as w
from tests.lua.world import World, reserving

RESERVATION = f"{w.DROP_ID}.r1"
PAYMENTS = ("pay-1", "pay-2")
PRICE = 1_000
RESERVED_AT_MS = 1_000

ORDER_STATE = {
    ReservationState.RESERVED: "pending",
    ReservationState.CONFIRMED: "paid",
    ReservationState.RELEASED: "cancelled",
    ReservationState.EXPIRED: "expired",
    ReservationState.REFUND_DUE: "refund_due",
    ReservationState.CANCELLED: "refund_due",
}


@pytest.fixture
async def world(store: Redis, database: Database) -> World:
    """Ann holds one of five units, in a drop that Postgres knows as well."""
    made = World(store)
    drop = w.DROP
    await database.fetch(
        "drop_insert",
        drop.drop_id,
        "shop",
        drop.name,
        json.dumps({"currency": "EUR"}),
        drop.joins_at_ms,
        drop.opens_at_ms,
        drop.closes_at_ms,
    )
    skus = drop.skus
    await database.fetch(
        "drop_skus_insert",
        drop.drop_id,
        [sku.sku for sku in skus],
        [sku.name for sku in skus],
        [sku.allotment for sku in skus],
        [sku.price_minor for sku in skus],
        [sku.limit_per_shopper for sku in skus],
    )
    await w.admitted(made)
    made.at(RESERVED_AT_MS)
    [result] = await made.reserve(reserving("ann", RESERVATION, s1=1))
    assert result[0] == "reserved"
    return made


async def told(store: Any) -> list[ReservationTransition]:
    """Every transition of the journal."""
    entries = [read_entry(entry_id.decode(), fields) for entry_id, fields in await store.xrange(drop_keys(w.DROP_ID).journal)]
    assert all(isinstance(entry, Entry) for entry in entries)
    return [transition for entry in entries if isinstance(entry, Entry) for transition in entry.transitions]


async def record_anyhow(database: Database, transitions: list[ReservationTransition], chance: random.Random) -> None:
    pile = transitions * 2
    chance.shuffle(pile)
    while pile:
        size = chance.randint(1, 3)
        await OrderRecorder(database).record(Batch(w.DROP_ID, pile[:size]))
        pile = pile[size:]


@pytest.mark.parametrize("at_ms", [-1, 0])
@pytest.mark.parametrize("seed", range(12))
async def test_every_order_of_calls_tells_one_story(world: World, store: Redis, database: Database, seed: int, at_ms: int) -> None:
    chance = random.Random(seed)
    world.at(RESERVED_AT_MS + w.RESERVATION_TTL_MS + at_ms)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: world.confirm(RESERVATION, "pay-1", PRICE),
        lambda: world.confirm(RESERVATION, "pay-2", PRICE),
        lambda: world.extend(RESERVATION),
        world.expire,
        lambda: world.release(RESERVATION, paid_too=True),
        lambda: world.release(RESERVATION),
    ]
    for call in chance.choices(calls, k=9) + calls[:2]:
        await call()
    await record_anyhow(database, await told(store), chance)

    state = await world.state()
    units = {place: state["stock"][f"{place}:s1"] for place in ("available", "reserved", "sold")}
    assert sum(units.values()) == 5
    held = ReservationState(state["reservations"][RESERVATION]["state"])
    assert units["sold"] == (1 if held is ReservationState.CONFIRMED else 0)

    order = await database.fetchrow("order_by_id", RESERVATION)
    assert order is not None
    assert order["state"] == ORDER_STATE[held]
    totals = {row["sku"]: (row["sold"], row["counted_units"]) for row in await database.fetch("drop_totals", w.DROP_ID)}
    assert totals["s1"] == (units["sold"], units["sold"])

    refunds = await Refunds(database).of_order(RESERVATION)
    kept = {order["payment_reference"]} if order["state"] == "paid" else set()
    assert {refund.payment_reference for refund in refunds} == set(PAYMENTS) - kept
    assert all((refund.state, refund.amount_minor, refund.currency) == (RefundProgress.DUE, PRICE, "EUR") for refund in refunds)
