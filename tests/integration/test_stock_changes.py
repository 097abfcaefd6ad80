"""Units added and withdrawn while a drop is on: each change counts once, on both sides, in whatever order news arrives."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgpack
import pytest
from structlog.testing import capture_logs

from flashsale.errors import BadInput, FlashsaleError, Recovering, StoreUnavailable, StoreUnknown
from flashsale.keys import drop_keys
from flashsale.model import AdjustStockOutcome
from flashsale.stock import StockLedger
from reconciler.entries import Entry, read_entry
from reconciler.journal import Journal
from reconciler.orders import Overtaken
from reconciler.stock import StockRecorder
from tests.integration.reconciler_stage import (
    DROP,
    NOW_MS,
    Packed,
    Store,
    make_consumer,
    make_drop,
    query,
    sold,
    states,
    transition,
    write,
)
from tests.lua import world as w
from tests.lua.world import World, reserving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flashsale.connections.database import Database
    from reconciler.consumer import JournalConsumer

KEYS = drop_keys(DROP)


def change(change_id: str, delta: int, sku: str = "shirt", reason: str = "") -> Packed:
    """A change of an allotment as the scripts pack it."""
    return [change_id, sku, delta, 1000 + delta, NOW_MS, reason or ("added" if delta >= 0 else "withdrawn")]


async def tell(store: Store, *changes: Packed) -> None:
    """One entry that tells of changes."""
    await store.xadd(KEYS.journal, {"v": "1", "s": "1", "a": msgpack.packb(changes)})


async def allotments(database: Database, drop_id: str = DROP) -> dict[str, int]:
    return {row["sku"]: row["allotment"] for row in await database.fetch("stock_allotments", drop_id)}


async def unfinished(store: Store) -> bool:
    return (await Journal(store, DROP, "watcher").oldest_unfinished_ms()) is not None


async def test_what_left_a_store_that_was_lost_stays_once_the_drop_is_recovered(database: Database) -> None:
    await make_drop(database)
    await database.fetchval("drop_opened_in_store", DROP, 2)
    withdrawn = read_entry("1-0", {b"v": b"1", b"s": b"1", b"epoch": b"1", b"a": msgpack.packb([change("one", -2)])})
    assert isinstance(withdrawn, Entry)
    recorder = StockRecorder(database)
    with pytest.raises(Overtaken):
        await recorder.tell(DROP, withdrawn.stock_changes, withdrawn.epoch)
    assert await allotments(database) == {"shirt": 1000, "cap": 1000}
    await recorder.tell(DROP, withdrawn.stock_changes, 2)
    assert await allotments(database) == {"shirt": 998, "cap": 1000}


async def test_a_change_counts_once_however_often_it_is_told(store: Store, database: Database) -> None:
    await make_drop(database)
    for _ in range(3):
        await tell(store, change("one", 5), change("two", -2), change("three", -1, "cap"), change("nothing", 0))
        await tell(store, change("one", 5))
    await make_consumer(store, database).drain()
    assert await allotments(database) == {"shirt": 1003, "cap": 999}
    assert not await unfinished(store)


async def test_units_that_come_with_their_own_orders_are_there_for_them(store: Store, database: Database) -> None:
    await make_drop(database, shirts=1)
    await write(store, *(transition("confirmed", number) for number in range(3)))
    await tell(store, change("more", 2))
    await make_consumer(store, database).drain()
    assert await states(database) == {"paid": 3}
    assert await sold(database) == {"cap": 0, "shirt": 3}


async def test_a_withdrawal_that_comes_too_early_waits_and_is_never_a_dead_letter(store: Store, database: Database) -> None:
    await make_drop(database, shirts=2)
    await write(store, transition("confirmed", 1), transition("confirmed", 2))
    consumer = make_consumer(store, database, claim_idle_ms=1, deliveries_max=1)
    await tell(store, change("down", -1))
    await write(store, transition("reserved", 3))
    await consumer.drain()
    assert await allotments(database) == {"shirt": 2, "cap": 1000}
    assert await states(database) == {"paid": 2, "pending": 1}
    assert await unfinished(store)
    await query(database, "UPDATE drop_skus SET sold = 1 WHERE sku = 'shirt'")
    await run_until_finished(store, consumer)
    assert await allotments(database) == {"shirt": 1, "cap": 1000}
    assert await store.xlen(KEYS.dead) == 0


async def test_a_change_of_a_sku_nobody_knows_is_a_dead_letter(store: Store, database: Database) -> None:
    await make_drop(database)
    await tell(store, change("what", 1, "no-such-sku"))
    await run_until_finished(store, make_consumer(store, database, claim_idle_ms=1, deliveries_max=2))
    assert await store.xlen(KEYS.dead) == 1


async def run_until_finished(store: Store, *consumers: JournalConsumer) -> None:
    stop = asyncio.Event()
    running = [asyncio.create_task(consumer.run(stop)) for consumer in consumers]
    try:
        async with asyncio.timeout(20):
            while await unfinished(store):  # noqa: ASYNC110 - the store has no signal for it
                await asyncio.sleep(0.005)
    finally:
        stop.set()
        await asyncio.gather(*running)


# ----------------------------------------------------------------------------------------------- news out of order


async def test_a_payment_waits_for_the_earlier_entry_that_frees_its_unit(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another consumer has the news that makes room, and is slow; the payment after it must not become a refund."""
    await make_drop(database, shirts=1)
    await write(store, transition("confirmed", 1))
    await make_consumer(store, database).drain()
    await tell(store, change("one more", 1))
    slow = make_consumer(store, database, claim_idle_ms=60_000)
    load = await slow._next(None)
    assert load is not None
    await write(store, transition("confirmed", 2))
    quick, refused = make_consumer(store, database, claim_idle_ms=60_000), asyncio.Event()
    look = quick._journal.earlier_unfinished

    async def told_of_the_refusal(entry_ids: set[str]) -> bool:
        refused.set()
        return await look(entry_ids)

    monkeypatch.setattr(quick._journal, "earlier_unfinished", told_of_the_refusal)
    working = asyncio.create_task(quick.drain())
    await refused.wait()
    await slow._work(load, asyncio.Event())
    await working
    assert await states(database) == {"paid": 2}
    assert not await unfinished(store)


async def test_a_payment_lets_go_for_an_earlier_entry_of_a_consumer_that_died(store: Store, database: Database) -> None:
    await make_drop(database, shirts=1)
    await write(store, transition("confirmed", 1))
    await make_consumer(store, database).drain()
    await tell(store, change("one more", 1))
    assert await make_consumer(store, database)._next(None) is not None
    await write(store, transition("confirmed", 2))
    await run_until_finished(store, make_consumer(store, database, claim_idle_ms=40))
    assert await states(database) == {"paid": 2}


async def test_with_nothing_before_it_the_refusal_of_the_allotment_is_final(store: Store, database: Database) -> None:
    await make_drop(database, shirts=1)
    await write(store, transition("confirmed", 1, at_ms=NOW_MS + 1))
    await write(store, transition("confirmed", 2, at_ms=NOW_MS + 2))
    await make_consumer(store, database, batch_rows_max=1).drain()
    assert await states(database) == {"paid": 1, "refund_due": 1}
    assert not await unfinished(store)


# ------------------------------------------------------------------------------------- adding and withdrawing, whole


@pytest.fixture
async def world(store: Store, database: Database) -> World:
    """A drop with 5 units of s1 and 3 of s2 in both stores; ann and bob are admitted."""
    world = World(store)
    await w.admitted(world)
    await database.fetch("drop_insert", w.DROP_ID, "shop", "D", '{"currency": "EUR"}', 1000, 2000, 2_000_000_000_000)
    await database.fetch("drop_skus_insert", w.DROP_ID, ["s1", "s2"], ["One", "Two"], [5, 3], [1000, 500], [2, 2])
    await database.fetch("drop_opened_in_store", w.DROP_ID, 1)
    return world


async def in_store(world: World) -> dict[str, tuple[int, int, int, int, int]]:
    inspection = await world.drops.inspect(w.DROP_ID)
    return {sku: (stock.allotment, stock.available, stock.reserved, stock.sold, stock.draining) for sku, stock in inspection.skus.items()}


async def recorded(store: Store, database: Database) -> dict[str, int]:
    await make_consumer(store, database, w.DROP_ID).drain()
    return await allotments(database, w.DROP_ID)


async def test_added_units_are_in_both_stores_once(world: World, store: Store, database: Database) -> None:
    ledger = StockLedger(database, world.drops)
    words = [(await ledger.change(w.DROP_ID, "more", "s1", 4)).outcome for _ in range(3)]
    assert words == ["adjusted", "replayed", "replayed"]
    assert (await in_store(world))["s1"] == (9, 9, 0, 0, 0)
    assert await recorded(store, database) == {"s1": 9, "s2": 3}
    [row] = await ledger.history(w.DROP_ID)
    assert (row.change_id, row.sku, row.delta, row.reason, row.state) == ("more", "s1", 4, "added", "told")


async def test_an_id_used_for_another_change_is_refused_before_anything_moves(world: World, store: Store, database: Database) -> None:
    ledger = StockLedger(database, world.drops)
    await ledger.change(w.DROP_ID, "id", "s1", 4)
    assert (await ledger.change(w.DROP_ID, "id", "s1", 5)).outcome is AdjustStockOutcome.KEY_REUSED
    assert (await ledger.change(w.DROP_ID, "id", "s1", -1)).outcome is AdjustStockOutcome.KEY_REUSED
    assert (await ledger.change(w.DROP_ID, "down", "s2", -1)).outcome is AdjustStockOutcome.ADJUSTED
    assert (await ledger.change(w.DROP_ID, "down", "s2", 1)).outcome is AdjustStockOutcome.KEY_REUSED
    assert (await ledger.change(w.DROP_ID, "x", "s9", 1)).outcome is AdjustStockOutcome.UNKNOWN_SKU
    assert await recorded(store, database) == {"s1": 9, "s2": 2}


@pytest.mark.parametrize("change_id", ["drain:1:8:s1", "", "a b", "x" * 65])
async def test_an_id_that_could_be_the_scripts_own_is_refused_before_anything_moves(
    world: World, store: Store, database: Database, change_id: str
) -> None:
    before = await allotments(database, w.DROP_ID)
    with pytest.raises(BadInput):
        await StockLedger(database, world.drops).change(w.DROP_ID, change_id, "s1", 1)
    assert await allotments(database, w.DROP_ID) == before


async def test_units_the_store_refuses_are_taken_back_from_postgres(world: World, store: Store, database: Database) -> None:
    ledger = StockLedger(database, world.drops)
    await world.close()
    assert (await ledger.change(w.DROP_ID, "late", "s1", 4)).outcome is AdjustStockOutcome.CLOSED
    assert (await ledger.change(w.DROP_ID, "late", "s1", 4)).outcome is AdjustStockOutcome.CLOSED
    assert await recorded(store, database) == {"s1": 5, "s2": 3}
    assert [row.state for row in await ledger.history(w.DROP_ID)] == ["refused"]


async def test_what_is_reserved_is_not_withdrawn_unless_it_may_drain(world: World, store: Store, database: Database) -> None:
    ledger = StockLedger(database, world.drops)
    await world.reserve(reserving("ann", "d.rAAAAAAAAAAAAAAAAAAAAAA", s1=2))
    refused = await ledger.change(w.DROP_ID, "down", "s1", -4)
    assert refused.outcome is AdjustStockOutcome.TOO_FEW
    assert refused.stock is not None
    assert (refused.stock.available, refused.stock.reserved) == (3, 2)
    draining = await ledger.change(w.DROP_ID, "drain", "s1", -5, drain=True)
    assert draining.outcome is AdjustStockOutcome.DRAINING
    assert await recorded(store, database) == {"s1": 2, "s2": 3}
    await world.release("d.rAAAAAAAAAAAAAAAAAAAAAA")
    assert (await in_store(world))["s1"] == (0, 0, 0, 0, 0)
    assert await recorded(store, database) == {"s1": 0, "s2": 3}


@asynccontextmanager
async def dying_before_the_store(ledger: StockLedger, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async def dies(*_: object, **__: object) -> None:
        raise StoreUnknown(what="No answer.")

    with monkeypatch.context() as patched:
        patched.setattr(ledger._drops, "adjust_stock", dies)
        with pytest.raises(StoreUnknown):
            yield


async def test_an_addition_cut_in_the_middle_is_completed(
    world: World, store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = StockLedger(database, world.drops)
    async with dying_before_the_store(ledger, monkeypatch):
        await ledger.change(w.DROP_ID, "cut", "s1", 4)
    assert (await allotments(database, w.DROP_ID), (await in_store(world))["s1"][0]) == ({"s1": 9, "s2": 3}, 5)
    assert await ledger.complete() == 0, "whoever gave them may still be at it"
    await query(database, "UPDATE stock_changes SET at = at - interval '1 minute'")
    assert await ledger.complete() == 1
    assert await ledger.complete() == 0
    assert (await in_store(world))["s1"] == (9, 9, 0, 0, 0)
    assert await recorded(store, database) == {"s1": 9, "s2": 3}


@pytest.mark.parametrize("why", [StoreUnavailable(what="The store cannot be reached."), Recovering(what="The drop is being recovered.")])
async def test_an_addition_the_store_cannot_take_now_is_not_called_undone(
    world: World, store: Store, database: Database, monkeypatch: pytest.MonkeyPatch, why: FlashsaleError
) -> None:
    ledger = StockLedger(database, world.drops)

    async def refuses(*_: object, **__: object) -> None:
        raise why

    with monkeypatch.context() as patched:
        patched.setattr(ledger._drops, "adjust_stock", refuses)
        with pytest.raises(StoreUnknown, match="4 units of s1 are on record"):
            await ledger.change(w.DROP_ID, "early", "s1", 4)
        with pytest.raises(type(why)):
            await ledger.change(w.DROP_ID, "less", "s1", -1)
        await query(database, "UPDATE stock_changes SET at = at - interval '1 minute'")
        with capture_logs() as said:
            assert [await ledger.complete() for _ in range(3)] == [1, 1, 1]
        assert [line["event"] for line in said] == ["stock_change_held_up"], "once, and not again every second"
    assert (await ledger.change(w.DROP_ID, "early", "s1", 4)).outcome is AdjustStockOutcome.ADJUSTED
    assert await recorded(store, database) == {"s1": 9, "s2": 3}


async def test_an_addition_the_store_has_and_postgres_forgot_is_told_by_the_journal(world: World, store: Store, database: Database) -> None:
    await world.drops.adjust_stock(w.DROP_ID, "direct", "s1", 4, drain=False)
    assert await recorded(store, database) == {"s1": 9, "s2": 3}


async def test_changes_from_both_sides_at_once_keep_conservation(world: World, store: Store, database: Database) -> None:
    ledger = StockLedger(database, world.drops)
    sizes = [3, -2, 5, -4, -1, 2, -3, 7]
    await asyncio.gather(*(ledger.change(w.DROP_ID, f"c{number}", "s1", delta) for number, delta in enumerate(sizes * 3)))
    stock = (await in_store(world))["s1"]
    assert stock[0] == sum(stock[1:4])
    await asyncio.gather(*(make_consumer(store, database, w.DROP_ID, batch_rows_max=1).drain() for _ in range(3)))
    assert (await allotments(database, w.DROP_ID))["s1"] == stock[0]
