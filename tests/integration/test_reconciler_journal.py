"""From journal to Postgres under faults: copies, dead consumers, poison, lost groups, cut connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from unittest.mock import patch

import msgpack
import pytest

from flashsale.connections.store import open_store
from flashsale.errors import StoreUnavailable
from flashsale.keys import DROPS, drop_keys
from flashsale.settings import StoreSettings
from reconciler.consumer import LOADS_IN_HAND_MAX, Load
from reconciler.entries import read_entry
from reconciler.journal import GROUP, Journal, live_drop_ids
from reconciler.orders import OrderRecorder, Recorded
from tests.integration.reconciler_stage import (
    DROP,
    NOW_MS,
    Packed,
    Store,
    entry_fields,
    make_consumer,
    make_drop,
    query,
    reservation_id,
    sold,
    states,
    transition,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashsale.connections.database import Database
    from flashsale.embedded.stores import EmbeddedStores
    from reconciler.consumer import JournalConsumer
    from reconciler.orders import Batch

KEYS = drop_keys(DROP)


@pytest.fixture
async def with_drop(database: Database) -> Database:
    await make_drop(database)
    return database


async def until_finished(store: Store) -> None:
    """Returns once nothing in the journal is unfinished."""
    watcher = Journal(store, DROP, "watcher")
    async with asyncio.timeout(20):
        while (await watcher.oldest_unfinished_ms()) is not None:  # noqa: ASYNC110 - the store has no signal for it
            await asyncio.sleep(0.005)


async def run_until_finished(store: Store, *consumers: JournalConsumer) -> None:
    stop = asyncio.Event()
    running = [asyncio.create_task(consumer.run(stop)) for consumer in consumers]
    try:
        await until_finished(store)
    finally:
        stop.set()
        await asyncio.gather(*running)


async def test_copies_and_disorder_make_one_order_each(store: Store, with_drop: Database) -> None:
    told: list[Packed] = []
    for number in range(20):
        told += [transition("reserved", number), transition("confirmed" if number % 2 else "expired", number, at_ms=NOW_MS + 1)]
    for _ in range(3):
        await write(store, *reversed(told))
        for one in told:
            await write(store, one)
    seen = await make_consumer(store, with_drop).drain()
    assert seen == 3 * (1 + 40)
    assert await states(with_drop) == {"paid": 10, "expired": 10}
    assert await sold(with_drop) == {"cap": 0, "shirt": 10}
    assert (await Journal(store, DROP, "watcher").mark()).oldest_unfinished_ms is None


async def test_two_consumers_share_the_work(store: Store, with_drop: Database) -> None:
    for number in range(300):
        await write(store, transition("reserved", number))
        await write(store, transition("confirmed", number))
    consumers = [make_consumer(store, with_drop, batch_entries_max=7) for _ in range(2)]
    await run_until_finished(store, *consumers)
    assert await states(with_drop) == {"paid": 300}
    assert await sold(with_drop) == {"cap": 0, "shirt": 300}
    ((events,),) = await query(with_drop, "SELECT count(*) FROM outbox")
    assert events == 300


async def test_what_a_dead_consumer_took_is_claimed(store: Store, with_drop: Database) -> None:
    for number in range(10):
        await write(store, transition("confirmed", number))
    dead = Journal(store, DROP, "dead")
    assert len(await dead.read(6)) == 6
    consumer = make_consumer(store, with_drop)
    await run_until_finished(store, consumer)
    assert await states(with_drop) == {"paid": 10}


async def test_defects_leave_room_for_what_comes_after_them(store: Store, with_drop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = make_consumer(store, with_drop, batch_rows_max=1)

    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(OrderRecorder, "record", fails)
        for number in range(LOADS_IN_HAND_MAX):
            await write(store, transition("reserved", 2 * number))
            await write(store, transition("reserved", 2 * number + 1))
            with pytest.raises(RuntimeError, match="a defect"):
                await consumer.drain()
    await write(store, transition("reserved", 99))
    async with asyncio.timeout(20):
        await consumer.drain()
    assert (await states(with_drop))["pending"] >= 1


async def test_killed_between_commit_and_acknowledgement_makes_no_second_order(store: Store, with_drop: Database) -> None:
    for number in range(5):
        await write(store, transition("confirmed", number))
    killed = await Journal(store, DROP, "killed").read(100)
    load = Load(DROP, [read_entry(entry.entry_id, entry.fields) for entry in killed])
    assert (await OrderRecorder(with_drop).record(load.batch)).paid == 5
    assert await states(with_drop) == {"paid": 5}
    await run_until_finished(store, make_consumer(store, with_drop))
    assert await states(with_drop) == {"paid": 5}
    assert await sold(with_drop) == {"cap": 0, "shirt": 5}
    ((events,),) = await query(with_drop, "SELECT count(*) FROM outbox")
    assert events == 5


POISON: list[dict[bytes, bytes]] = [
    {b"v": b"1", b"e": b"\xc1 not msgpack"},
    {b"v": b"nine", b"e": b"of no release"},
    entry_fields([transition("confirmed", 50), transition("confirmed", 51, items=[("hat", 1)])]),
]


@pytest.mark.parametrize("fields", POISON)
async def test_poison_ends_as_a_dead_letter_after_five_deliveries_and_the_rest_flows(
    store: Store, with_drop: Database, fields: dict[bytes, bytes]
) -> None:
    await write(store, transition("confirmed", 1))
    bad = await store.xadd(KEYS.journal, fields)
    await write(store, transition("confirmed", 2))
    consumer = make_consumer(store, with_drop)
    deliveries: list[int] = []
    bury = consumer._journal.bury

    async def counting(reasons: dict[str, str], deliveries_max: int) -> list[str]:
        if reasons:
            (found,) = await store.xpending_range(KEYS.journal, GROUP, min=bad, max=bad, count=1)
            deliveries.append(found["times_delivered"])
            assert deliveries_max == 5
        return await bury(reasons, deliveries_max)

    consumer._journal.bury = counting  # type: ignore[method-assign,assignment]
    await run_until_finished(store, consumer)
    assert deliveries == [1, 2, 3, 4, 5]
    ((_, letter),) = await store.xrange(KEYS.dead)
    assert letter[b"id"] == bad
    assert letter[b"deliveries"] == b"5"
    assert letter[b"reason"]
    assert {b"entry:" + name: value for name, value in fields.items()}.items() <= letter.items()
    good = {reservation_id(1), reservation_id(2)} | ({reservation_id(50)} if b"\xa9confirmed" in fields[b"e"] else set())
    rows = await with_drop.fetch("orders_page", DROP, "", 100)
    assert {row["reservation_id"] for row in rows if row["state"] == "paid"} == good
    assert consumer._metrics.dead_letters.labels(DROP)._value.get() == 1


async def test_a_dead_letter_is_bounded_in_size(store: Store, with_drop: Database) -> None:
    await store.xadd(KEYS.journal, {b"v": b"1", b"e": b"\xc1" * 200_000})
    await run_until_finished(store, make_consumer(store, with_drop))
    ((_, letter),) = await store.xrange(KEYS.dead)
    assert len(letter[b"entry:e"]) == 65_536
    assert letter[b"cut:e"] == b"200000"


async def test_a_destroyed_group_is_made_again_and_copies_are_absorbed(store: Store, with_drop: Database) -> None:
    for number in range(5):
        await write(store, transition("confirmed", number))
    consumer = make_consumer(store, with_drop)
    await consumer.drain()
    await store.xgroup_destroy(KEYS.journal, GROUP)
    assert await Journal(store, DROP, "watcher").oldest_unfinished_ms() is not None
    await write(store, transition("confirmed", 5))
    assert await consumer.drain() == 6
    assert await states(with_drop) == {"paid": 6}
    ((events,),) = await query(with_drop, "SELECT count(*) FROM outbox")
    assert events == 6


async def test_a_group_destroyed_while_a_read_waits(store: Store, with_drop: Database) -> None:
    consumer, stop = make_consumer(store, with_drop, block_ms=5000), asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    async with asyncio.timeout(10):
        while not (await store.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - the store has no signal for it
            await asyncio.sleep(0.005)
    await store.xgroup_destroy(KEYS.journal, GROUP)
    await write(store, transition("confirmed", 1))
    await until_finished(store)
    stop.set()
    await write(store, transition("confirmed", 2))  # ends the read that waits
    await running
    assert (await states(with_drop))["paid"] >= 1


async def test_commits_are_announced_with_the_state_in_postgres(store: Store, with_drop: Database) -> None:
    await write(store, transition("reserved", 1), transition("confirmed", 2), transition("refund_due", 3), transition("expired", 4))
    await make_consumer(store, with_drop).drain()
    await write(store, transition("confirmed", 3), transition("confirmed", 5))  # 3 is seen again, and is past that here
    async with store.pubsub() as channel:
        await channel.subscribe(KEYS.recorded)
        await channel.get_message(timeout=5)
        await make_consumer(store, with_drop).drain()
        message = await channel.get_message(timeout=5)
    assert message is not None
    assert sorted(msgpack.unpackb(message["data"])) == sorted([[reservation_id(3), "refund_due"], [reservation_id(5), "paid"]])


async def test_a_drop_event_reaches_postgres(store: Store, with_drop: Database) -> None:
    for state, at_ms in (("open", 5), ("paused", 9), ("open", 7)):
        await store.xadd(KEYS.journal, {"v": "1", "d": msgpack.packb([state, at_ms])})
    await make_consumer(store, with_drop).drain()
    row = await with_drop.fetchrow("drop_get", DROP)
    assert row is not None
    assert row["state"] == "paused"
    assert await Journal(store, DROP, "watcher").oldest_unfinished_ms() is None


async def test_a_batch_is_bounded_in_orders(store: Store, with_drop: Database) -> None:
    for number in range(0, 40, 4):
        await write(store, *(transition("confirmed", n) for n in range(number, number + 4)))
    consumer = make_consumer(store, with_drop, batch_rows_max=10, batch_entries_max=3)
    sizes: list[int] = []
    record = consumer._recorder.record

    async def counting(batch: Batch, *, may_refuse: bool = True) -> Recorded:
        sizes.append(len(batch))
        return await record(batch, may_refuse=may_refuse)

    consumer._recorder.record = counting  # type: ignore[method-assign]
    await consumer.drain()
    assert sizes == [8] * 5


async def test_the_age_is_that_of_the_oldest_unfinished_entry(store: Store, with_drop: Database) -> None:
    seconds, micros = await store.time()
    now_ms = seconds * 1000 + micros // 1000
    watcher = Journal(store, DROP, "watcher")
    assert await watcher.oldest_unfinished_ms() is None
    for age_ms in (90_000, 60_000, 30_000):
        await store.xadd(KEYS.journal, entry_fields([transition("reserved", age_ms)]), id=f"{now_ms - age_ms}-0")
    assert 90_000 <= (await watcher.oldest_unfinished_ms() or 0) < 95_000  # no group yet
    taken = await watcher.read(2)
    assert 90_000 <= (await watcher.oldest_unfinished_ms() or 0) < 95_000  # taken, not finished
    await watcher.ack([taken[0].entry_id])
    assert 60_000 <= (await watcher.oldest_unfinished_ms() or 0) < 65_000
    await watcher.ack([taken[1].entry_id])
    assert 30_000 <= (await watcher.oldest_unfinished_ms() or 0) < 35_000  # not taken yet
    await watcher.ack([entry.entry_id for entry in await watcher.read(2)])
    assert await watcher.oldest_unfinished_ms() is None
    assert (await watcher.mark()).last_id == f"{now_ms - 30_000}-0"


async def test_only_finished_and_old_entries_are_deleted(store: Store, with_drop: Database) -> None:
    seconds, micros = await store.time()
    now_ms = seconds * 1000 + micros // 1000
    journal = Journal(store, DROP, "janitor")
    ages = [*range(10_000, 2_000, -10), 500, 400]
    for age_ms in ages:
        await store.xadd(KEYS.journal, entry_fields([transition("reserved", age_ms)]), id=f"{now_ms - age_ms}-0")
    assert await journal.trim(1000) == 0  # nobody has read anything
    taken = await journal.read(600)
    assert await journal.trim(1000) == 0  # taken, not finished
    await journal.ack([entry.entry_id for entry in taken[:300] + taken[301:]])
    await journal.trim(1000)
    left = [entry_id.decode() for entry_id, _ in await store.xrange(KEYS.journal)]
    assert left[-(len(ages) - 300) :][0] == taken[300].entry_id  # the unfinished one and all after it are there
    assert 0 < len(ages) - len(left) <= 300
    await journal.ack([taken[300].entry_id])
    await journal.trim(0)
    left = [entry_id.decode() for entry_id, _ in await store.xrange(KEYS.journal)]
    assert set(left) >= {f"{now_ms - age_ms}-0" for age_ms in ages[600:]}  # never read by anyone
    assert (await journal.mark()).last_id == f"{now_ms - 400}-0"
    await journal.ack([entry.entry_id for entry in await journal.read(600)])
    await journal.trim(3_600_000)
    left = [entry_id.decode() for entry_id, _ in await store.xrange(KEYS.journal)]
    assert set(left) >= {f"{now_ms - age_ms}-0" for age_ms in ages[600:]}  # finished, not old enough


async def test_entries_deleted_by_an_operator_are_said(store: Store, with_drop: Database) -> None:
    await write(store, transition("confirmed", 1))
    await Journal(store, DROP, "dead").read(10)
    await store.xtrim(KEYS.journal, maxlen=0)
    consumer = make_consumer(store, with_drop)
    await run_until_finished(store, consumer)
    assert consumer._metrics.vanished_entries.labels(DROP)._value.get() == 1


async def test_a_consumer_leaves_the_group_when_it_ends(store: Store, with_drop: Database) -> None:
    await write(store, transition("confirmed", 1))
    await run_until_finished(store, make_consumer(store, with_drop))
    assert await store.xinfo_consumers(KEYS.journal, GROUP) == []


async def test_a_consumer_with_unfinished_entries_stays_listed(store: Store) -> None:
    await write(store, transition("confirmed", 1))
    journal = Journal(store, DROP, "mine")
    await journal.read(1)
    await journal.leave()
    ((name, waiting),) = [(found["name"], found["pending"]) for found in await store.xinfo_consumers(KEYS.journal, GROUP)]
    assert (name, waiting) == (b"mine", 1)


async def test_cut_connections_lose_nothing(stores: EmbeddedStores, store: Store, with_drop: Database) -> None:
    consumer, stop = make_consumer(store, with_drop, batch_entries_max=4), asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    for number in range(60):
        other = another_client(stores)
        await write(other, transition("confirmed", number))
        if number % 10 == 5:
            await other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await other.aclose()
    other = another_client(stores)
    await until_finished(other)
    await other.aclose()
    stop.set()
    await running
    assert await states(with_drop) == {"paid": 60}


def another_client(stores: EmbeddedStores) -> Store:
    return open_store(StoreSettings(url=stores.valkey.url, timeout_ms=1000, deadline_ms=1000, connections_max=4))


async def test_a_store_that_is_away_is_said_as_such(fresh_stores: EmbeddedStores) -> None:
    client = open_store(StoreSettings(url=fresh_stores.valkey.url, timeout_ms=500, deadline_ms=500, connections_max=4))
    journal = Journal(client, DROP, "mine")
    await fresh_stores.valkey.stop()
    for call in (journal.read(1), journal.claim(1, 1), journal.ack(["1-0"]), journal.mark(), journal.trim(0), live_drop_ids(client)):
        with pytest.raises(StoreUnavailable):
            await call
    await client.aclose()


async def test_live_drops_are_those_the_store_was_given(store: Store) -> None:
    assert await live_drop_ids(store) == set()
    await store.sadd(DROPS, DROP, "autumn")
    assert await live_drop_ids(store) == {DROP, "autumn"}


async def test_cancelled_while_postgres_is_stuck_it_ends_at_once_and_loses_nothing(store: Store, with_drop: Database) -> None:
    for number in range(3):
        await write(store, transition("confirmed", number))
    consumer = make_consumer(store, with_drop)
    async with with_drop.transaction() as session:
        await session.connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        running = asyncio.create_task(consumer.run(asyncio.Event()))
        async with asyncio.timeout(10):
            while not await waits_for_lock(with_drop):  # noqa: ASYNC110 - the store has no signal for it
                await asyncio.sleep(0.005)
        running.cancel()
        async with asyncio.timeout(2):
            with pytest.raises(asyncio.CancelledError):
                await running
    assert await states(with_drop) == {}
    await run_until_finished(store, make_consumer(store, with_drop))
    assert await states(with_drop) == {"paid": 3}


async def waits_for_lock(database: Database) -> bool:
    ((waiting,),) = await query(
        database, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(waiting)


async def test_what_was_read_is_recorded_although_the_store_takes_no_acknowledgement(store: Store, with_drop: Database) -> None:
    consumer, may_go_on, stop = make_consumer(store, with_drop, batch_entries_max=1), asyncio.Event(), asyncio.Event()
    acknowledge = consumer._journal.ack

    async def later(entry_ids: Sequence[str]) -> None:
        await may_go_on.wait()
        await acknowledge(entry_ids)

    with patch.object(consumer._journal, "ack", later):
        for number in range(6):
            await write(store, transition("reserved", number))
        working = asyncio.create_task(consumer.run(stop))
        async with asyncio.timeout(10):
            while sum((await states(with_drop)).values()) < 6:  # noqa: ASYNC110 - Postgres tells nobody
                await asyncio.sleep(0.01)
        may_go_on.set()
        stop.set()
        await working
