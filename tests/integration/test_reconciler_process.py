"""The whole reconciler on stores that stop, start and die in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from flashsale.connections.database import Database, open_database
from flashsale.connections.store import open_store
from flashsale.errors import StoreUnavailable
from flashsale.keys import DROPS, drop_keys
from flashsale.settings import Settings
from reconciler.journal import Journal
from reconciler.metrics import ReconcilerMetrics
from reconciler.migrations import migrate
from reconciler.runner import LIVE_DROPS_MAX, Reconciler, stop_on_signals
from tests.integration.reconciler_stage import DROP, make_drop, query, settings_with, sold, states, transition, write
from tests.stores import settings_for

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from flashsale.embedded.stores import EmbeddedStores


class Running:
    """A reconciler with its injected parts recorded."""

    def __init__(self, settings: Settings, database: Database, live_drops_max: int = LIVE_DROPS_MAX) -> None:
        self.opened: list[str] = []
        self.metrics = ReconcilerMetrics(CollectorRegistry())
        self.database = database
        self.reconciler = Reconciler(
            settings=settings,
            database=database,
            open_journal_store=lambda: open_store(settings.store, blocks_ms=settings.reconciler.block_ms),
            expire=self._expire,
            pause=self._pause,
            open_in_store=self._open,
            complete_stock=self._complete,
            metrics=self.metrics,
            live_drops_max=live_drops_max,
        )

    async def _expire(self, drop_id: str, batch_size_max: int) -> int:
        return 0

    async def _pause(self, drop_id: str) -> bool:
        return True

    async def _complete(self) -> None:
        pass

    async def _open(self, drop_id: str) -> None:
        if drop_id == "stubborn":
            raise StoreUnavailable(what="Not now.")
        await self.database.fetchval("drop_opened_in_store", drop_id, 1)
        self.opened.append(drop_id)


@asynccontextmanager
async def running(settings: Settings, database: Database, live_drops_max: int = LIVE_DROPS_MAX) -> AsyncIterator[Running]:
    process, stop = Running(settings, database, live_drops_max), asyncio.Event()
    task = asyncio.create_task(process.reconciler.run(stop))
    try:
        yield process
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await task


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - the store has no signal for it
            await asyncio.sleep(0.01)


async def all_finished(store: Redis) -> bool:
    return await Journal(store, DROP, "watcher").oldest_unfinished_ms() is None


async def test_drops_are_opened_followed_and_left(store: Redis, settings: Settings, database: Database) -> None:
    await make_drop(database)
    await make_drop(database, "stubborn")
    await store.sadd(DROPS, "autumn")
    async with running(settings_with(settings), database) as process:

        async def followed(*names: str) -> bool:
            return process.reconciler.live_drops() == set(names)

        await until(lambda: followed("autumn", DROP))
        assert process.opened == [DROP]
        await store.srem(DROPS, "autumn")
        await until(lambda: followed(DROP))
        await write(store, transition("confirmed", 1))
        await until(lambda: all_finished(store))
    assert await states(database) == {"paid": 1}


async def test_orders_are_recorded_while_nobody_can_count_what_others_are_to_be_told(
    store: Redis, settings: Settings, database: Database
) -> None:
    """The count is for a graph. Whatever keeps it from being made, new drops are followed."""
    await query(database, "ALTER TABLE outbox RENAME COLUMN delivered_at TO told_at")
    await make_drop(database)
    await store.sadd(DROPS, DROP)
    await write(store, transition("confirmed", 1))
    async with running(settings_with(settings), database):
        await until(lambda: all_finished(store))
    assert await states(database) == {"paid": 1}


async def end_long_ago(database: Database, drop_id: str) -> None:
    await query(database, "UPDATE drops SET opens_at = joins_at, closes_at = now() - interval '3 days' WHERE drop_id = $1", drop_id)


async def make_past_drop(database: Database, store: Redis, drop_id: str) -> None:
    await make_drop(database, drop_id)
    await database.fetchval("drop_opened_in_store", drop_id, 1)
    await end_long_ago(database, drop_id)
    await store.sadd(DROPS, drop_id)


async def test_past_drops_take_no_room_from_new_ones(store: Redis, settings: Settings, database: Database) -> None:
    for number in range(3):
        await make_past_drop(database, store, f"past-{number}")
    async with running(settings_with(settings), database, live_drops_max=1) as process:
        await make_drop(database)
        await store.sadd(DROPS, DROP)
        await write(store, transition("confirmed", 1))
        await until(lambda: all_finished(store))
        assert process.reconciler.live_drops() == {DROP}
        assert process.metrics.drops_not_followed._value.get() == 0
    assert await states(database) == {"paid": 1}


async def test_what_is_outstanding_in_a_past_drop_is_finished(store: Redis, settings: Settings, database: Database) -> None:
    for drop_id in ("paid-late", "held-on", "quiet"):
        await make_past_drop(database, store, drop_id)
    await store.zadd(drop_keys("held-on").expiries, {"held-on.r1": 1})
    await write(store, transition("confirmed", 1, drop_id="paid-late"), drop_id="paid-late")
    async with running(settings_with(settings), database) as process:

        async def followed(*names: str) -> bool:
            return process.reconciler.live_drops() == set(names)

        await until(lambda: followed("held-on"))
        assert await states(database, "paid-late") == {"paid": 1}
        await store.zrem(drop_keys("held-on").expiries, "held-on.r1")
        await until(followed)
        await write(store, transition("confirmed", 2, drop_id="paid-late"), drop_id="paid-late")

        async def paid() -> bool:
            return await states(database, "paid-late") == {"paid": 2}

        await until(paid)


async def test_live_drops_beyond_the_limit_are_said_and_the_nearest_opening_comes_first(
    store: Redis, settings: Settings, database: Database
) -> None:
    for drop_id, opens_in in (("a-next-year", "300 days"), ("b-tomorrow", "1 day"), ("c-an-hour-ago", "-1 hour")):
        await make_drop(database, drop_id)
        await query(database, f"UPDATE drops SET opens_at = now() + interval '{opens_in}' WHERE drop_id = $1", drop_id)
        await database.fetchval("drop_opened_in_store", drop_id, 1)
    with capture_logs() as lines:
        async with running(settings_with(settings), database, live_drops_max=2) as process:

            async def said() -> bool:
                return bool(process.metrics.drops_not_followed._value.get() == 1)

            await until(said)
            assert process.reconciler.live_drops() == {"b-tomorrow", "c-an-hour-ago"}
            await end_long_ago(database, "b-tomorrow")

            async def followed() -> bool:
                return process.reconciler.live_drops() == {"a-next-year", "c-an-hour-ago"}

            await until(followed)
    told = [(line["log_level"], line["event"]) for line in lines if "followed" in line["event"] and "drops" in line["event"]]
    assert told == [("error", "drops_not_followed"), ("info", "all_drops_followed")]


async def test_two_processes_share_the_drops(store: Redis, settings: Settings, database: Database) -> None:
    await make_drop(database)
    await store.sadd(DROPS, DROP)
    quick = settings_with(settings, batch_entries_max=5)
    async with running(quick, database), running(quick, database):
        for number in range(200):
            await write(store, transition("reserved", number), transition("confirmed", number))
        await until(lambda: all_finished(store))
    assert await states(database) == {"paid": 200}
    assert await sold(database) == {"cap": 0, "shirt": 200}


@pytest.fixture
async def own(fresh_stores: EmbeddedStores) -> AsyncIterator[tuple[EmbeddedStores, Redis, Settings, Database]]:
    """Stores this test may stop."""
    await migrate(fresh_stores.postgres.url)
    settings = settings_with(settings_for(fresh_stores.valkey.url, fresh_stores.postgres.url))
    store, database = open_store(settings.store), await open_database(settings.postgres)
    await make_drop(database)
    await store.sadd(DROPS, DROP)
    yield fresh_stores, store, settings, database
    await database.close()
    await store.aclose()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_postgres_away_delays_orders_and_loses_none(own: tuple[EmbeddedStores, Redis, Settings, Database], how: str) -> None:
    servers, store, settings, database = own
    # What is in hand must be tried again by itself: nobody claims it within the test.
    async with running(settings_with(settings, claim_idle_ms=60_000), database):
        for number in range(50):
            await write(store, transition("confirmed", number))
        await until(lambda: all_finished(store))
        await getattr(servers.postgres, how)()
        for number in range(50, 100):
            await write(store, transition("confirmed", number))
        await until(lambda: taken(store))
        assert not await all_finished(store)
        await servers.postgres.start()
        async with asyncio.timeout(10):
            await until(lambda: all_finished(store))
    assert await states(database) == {"paid": 100}
    assert await sold(database) == {"cap": 0, "shirt": 100}
    assert await store.xlen(drop_keys(DROP).dead) == 0


async def taken(store: Redis) -> bool:
    """Whether a consumer holds entries it cannot record."""
    return bool((await store.xpending(drop_keys(DROP).journal, "reconciler"))["pending"])


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_the_store_away_is_survived(own: tuple[EmbeddedStores, Redis, Settings, Database], how: str) -> None:
    servers, store, settings, database = own
    async with running(settings, database):
        for number in range(30):
            await write(store, transition("confirmed", number))
        await getattr(servers.valkey, how)()
        await servers.valkey.start()
        await write(store, transition("confirmed", 30))
        await until(lambda: all_finished(store))
    assert await states(database) == {"paid": 31}


async def test_it_stops_while_postgres_is_away_and_the_next_one_finishes(own: tuple[EmbeddedStores, Redis, Settings, Database]) -> None:
    servers, store, settings, database = own
    async with running(settings, database):
        await write(store, transition("confirmed", 1))
        await until(lambda: all_finished(store))
        await servers.postgres.stop()
        await write(store, transition("confirmed", 2))
        await until(lambda: taken(store))
    await servers.postgres.start()
    async with running(settings, database):
        await until(lambda: all_finished(store))
    assert await states(database) == {"paid": 2}


async def test_it_starts_while_both_stores_are_away(own: tuple[EmbeddedStores, Redis, Settings, Database]) -> None:
    servers, store, settings, database = own
    await write(store, transition("confirmed", 1))
    await servers.valkey.stop()
    await servers.postgres.stop()
    async with running(settings, database):
        await servers.valkey.start()
        await servers.postgres.start()
        await until(lambda: all_recorded(database))
    assert await states(database) == {"paid": 1}


async def all_recorded(database: Database) -> bool:
    return await states(database) == {"paid": 1}


async def test_sigterm_ends_it_cleanly(store: Redis, settings: Settings, database: Database) -> None:
    await make_drop(database)
    process, stop = Running(settings_with(settings), database), asyncio.Event()
    stop_on_signals(stop)
    try:
        task = asyncio.create_task(process.reconciler.run(stop))
        for number in range(100):
            await write(store, transition("confirmed", number))

        async def some() -> bool:
            return bool(await states(database))

        await until(some)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await task
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
    found = await store.xpending(drop_keys(DROP).journal, "reconciler")
    assert found["pending"] == 0
