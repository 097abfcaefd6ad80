"""A drop whose answers wait for a replica's disk: what was acknowledged is there, and what is not there is not acknowledged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from chaos.topologies import ClusterStores, SentinelStores, until
from flashsale.connections.store import open_store
from flashsale.errors import StoreUnavailable, StoreUnknown, UnsafeStore
from flashsale.model import Durability
from tests.lua import world as w
from tests.lua.world import DROP_ID, KEYS, World, joining, reserving, settings_of_tests
from tests.stores import settings_for

SHORT_MS = 400
"""Enough for a replica that answers, and no long wait for one that does not."""


@pytest.fixture
async def own_pair(topology_folders: Iterator[Path]) -> AsyncIterator[SentinelStores]:
    """A primary and its replica, of this test's own."""
    async with SentinelStores(next(topology_folders), sentinels=0) as running:
        yield running


@pytest.fixture(scope="module")
async def shared_pair(topology_folders: Iterator[Path]) -> AsyncIterator[SentinelStores]:
    async with SentinelStores(next(topology_folders), sentinels=0) as running:
        yield running


@pytest.fixture
async def pair(shared_pair: SentinelStores) -> AsyncIterator[SentinelStores]:
    """A primary and its replica, empty and in step. The replica may be frozen; leave both running."""
    await shared_pair.primary.command("FLUSHALL")
    await until(shared_pair.in_step)
    yield shared_pair
    shared_pair.replica.thaw()
    await shared_pair.primary.command("CONFIG", "SET", "maxmemory", 0)


class Client:
    """A world of its own on a store: what another worker would be."""

    def __init__(self, url: str, timeout_ms: int = SHORT_MS) -> None:
        settings = settings_of_tests()
        store = msgspec.structs.replace(settings.store, url=url, timeout_ms=timeout_ms)
        self.client = open_store(store)
        self.world = World(self.client, msgspec.structs.replace(settings, store=store))

    async def __aenter__(self) -> World:
        return self.world

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()


async def admitted(world: World, durability: str) -> None:
    """Ann and bob have their tokens for a drop of that durability."""
    assert await world.open(durability=durability) == "opened"
    world.at(-5_000)
    await world.join("ann", "bob")
    await w.serve(world)
    world.at(200)
    await world.admit("ann", "bob")
    world.at(1_000)


async def test_what_was_acknowledged_is_on_the_replicas_disk(own_pair: SentinelStores) -> None:
    async with Client(own_pair.primary.url, 3_000) as world:
        await admitted(world, "replica")
        for number in range(1, 3):
            assert (await world.reserve(reserving("ann", f"r{number}", s1=1)))[0][0] == "reserved"
    await own_pair.primary.kill()
    await own_pair.replica.kill()
    await own_pair.replica.start()
    async with Client(own_pair.replica.url) as world:
        assert set((await world.state())["reservations"]) == {"r1", "r2"}


async def test_without_the_replicas_answer_the_outcome_is_unknown_and_its_repetition_the_true_one(pair: SentinelStores) -> None:
    async with Client(pair.primary.url) as world:
        await admitted(world, "replica")
        pair.replica.freeze()
        with pytest.raises(StoreUnknown):
            await world.reserve(reserving("ann", "r1", s1=1))
        with pytest.raises(StoreUnavailable, match="No replica has the drop on its disk in time"):
            await world.reserve(reserving("bob", "r2", s1=1))
        assert await world.client.hget(KEYS.stock, "available:s1") == b"4", "nothing is taken for bob while nobody could be answered"
        pair.replica.thaw()
        assert [result[0] for result in await world.reserve(reserving("ann", "r1", s1=1))] == ["replayed"]


async def test_a_repeated_request_is_waited_for_although_it_writes_nothing(pair: SentinelStores) -> None:
    async with Client(pair.primary.url) as first, Client(pair.primary.url) as second:
        await admitted(first, "replica")
        second.at(1_000)
        assert (await second.join("ann"))[0][0] == "replayed"  # it has looked, and knows the drop's durability
        await second.client.connection_pool.disconnect()
        pair.replica.freeze()
        with pytest.raises(StoreUnknown):
            await first.reserve(reserving("ann", "r1", s1=1))
        with pytest.raises(StoreUnknown):
            await second.reserve(reserving("ann", "r1", s1=1))


@pytest.mark.parametrize("durability", ["second", "disk"])
async def test_nobody_else_waits_for_the_replica(pair: SentinelStores, durability: str) -> None:
    async with Client(pair.primary.url) as world:
        pair.replica.freeze()
        await admitted(world, durability)
        assert (await world.reserve(reserving("ann", "r1", s1=1)))[0][0] == "reserved"


async def test_a_merchant_can_pause_and_units_come_back_while_no_replica_answers(pair: SentinelStores) -> None:
    async with Client(pair.primary.url) as world:
        await admitted(world, "replica")
        await world.reserve(reserving("ann", "r1", s1=1))
        pair.replica.freeze()
        assert (await world.steer("pause"))[0] == "done"
        world.at(1_000 + w.RESERVATION_TTL_MS)
        assert await world.expire() == 1


async def test_a_worker_that_has_never_seen_the_drop_waits_too(pair: SentinelStores) -> None:
    async with Client(pair.primary.url) as first, Client(pair.primary.url) as second:
        await admitted(first, "replica")
        pair.replica.freeze()
        second.at(1_000)
        with pytest.raises(StoreUnavailable):
            await second.reserve(reserving("ann", "r1", s1=1))


async def test_scripts_that_were_flushed_are_loaded_again_by_a_call_that_waits(pair: SentinelStores) -> None:
    async with Client(pair.primary.url, 3_000) as world:
        await admitted(world, "replica")
        await world.client.script_flush()
        assert (await world.reserve(reserving("ann", "r1", s1=1)))[0][0] == "reserved"


async def test_a_full_store_is_still_waited_for_by_those_who_give_units_back(pair: SentinelStores) -> None:
    async with Client(pair.primary.url, 3_000) as world:
        await admitted(world, "replica")
        await world.reserve(reserving("ann", "r1", s1=1))
        await world.client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="OOM"):
            await world.reserve(reserving("bob", "r2", s1=1))
        assert (await world.release("r1"))[0] == "released"


async def test_a_replica_that_has_gone_is_noticed_before_anything_is_taken(own_pair: SentinelStores) -> None:
    async with Client(own_pair.primary.url) as world:
        await admitted(world, "replica")
        await own_pair.replica.command("REPLICAOF", "NO", "ONE")
        await own_pair.primary.command("CLIENT", "KILL", "TYPE", "replica")
        world.scripts.forget_durability(DROP_ID)
        with pytest.raises(StoreUnavailable, match="no connected replica"):
            await world.reserve(reserving("ann", "r1", s1=1))
        with pytest.raises(UnsafeStore, match="no connected replica"):
            await world.scripts.require_durability("another", Durability.REPLICA)


async def test_on_a_cluster_the_node_of_the_drop_is_waited_for(topology_folders: Iterator[Path]) -> None:
    async with ClusterStores(next(topology_folders), replicas=1) as cluster, Client(cluster.url, 3_000) as world:
        await admitted(world, "replica")
        await world.client.script_flush()
        assert (await world.reserve(reserving("ann", "r1", s1=1)))[0][0] == "reserved"
        assert await world.client.hget(KEYS.stats, "awaited") is not None


# ------------------------------------------------------------------------------------------------- what a store can keep


@pytest.mark.parametrize(
    ("setting", "value", "durability", "complaint"),
    [
        ("appendfsync", "always", "second", None),
        ("appendfsync", "always", "disk", None),
        ("appendfsync", "always", "replica", "no connected replica"),
        ("appendfsync", "everysec", "second", None),
        ("appendfsync", "everysec", "disk", "Set appendfsync always"),
        ("appendfsync", "everysec", "replica", "Set appendfsync always"),
        ("appendfsync", "no", "second", "never forces"),
        ("appendonly", "no", "second", "forgets everything"),
    ],
)
async def test_a_durability_the_store_does_not_keep_is_refused(
    store: Redis, setting: str, value: str, durability: str, complaint: str | None
) -> None:
    safe = {"appendonly": "yes", "appendfsync": "always"}
    world = World(store)
    await store.config_set(setting, value)
    try:
        if complaint is None:
            assert await world.open(durability=durability) == "opened"
        else:
            with pytest.raises(UnsafeStore, match=complaint):
                await world.open(durability=durability)
            assert await store.dbsize() == 0
    finally:
        await store.config_set(setting, safe[setting])


async def test_a_store_that_stops_keeping_it_gets_no_more_calls(store: Redis) -> None:
    world = World(store)
    await admitted(world, "disk")
    await store.config_set("appendfsync", "everysec")
    try:
        with pytest.raises(StoreUnavailable, match="Set appendfsync always"):
            await World(store).join("carl")
    finally:
        await store.config_set("appendfsync", "always")
    assert (await world.state())["drop"]["joined"] == "2"


async def test_a_store_that_hides_its_settings_is_believed(store: Redis) -> None:
    world = World(store)
    await store.acl_setuser("guest", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-config"])
    try:
        await world.open()
        guest = open_store(
            settings_for("unix://guest:any@" + store.connection_pool.connection_kwargs["path"], "postgresql://unused/").store
        )
        other = World(guest)
        other.at(-5_000)
        assert (await other.act("join", [joining("ann")]))[0] == "done"
        await guest.aclose()
    finally:
        await store.acl_deluser("guest")
