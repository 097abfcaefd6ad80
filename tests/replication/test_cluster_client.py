"""The client of a Cluster: every command arrives where it belongs, and a node in trouble concerns its own keys only."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from chaos.topologies import SLOTS, ClusterStores, Node, until
from flashsale.connections.checks import check_store
from flashsale.connections.store import open_store
from flashsale.errors import StoreUnavailable
from flashsale.settings import StoreSettings

AT_ONCE = 64


_tags = (f"t{number}" for number in itertools.count())


def tag_on(cluster: ClusterStores, node: Node) -> str:
    """A hash tag that no other test has, whose slot `node` had at first."""
    number = cluster.primaries.index(node)
    return next(tag for tag in _tags if key_slot(tag.encode()) * len(cluster.primaries) // SLOTS == number)


@asynccontextmanager
async def opened(url: str, *, timeout_ms: int = 2_000, connections_max: int = 8) -> AsyncIterator[Any]:
    client = open_store(StoreSettings(url=url, timeout_ms=timeout_ms, deadline_ms=3_000, connections_max=connections_max))
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def store(cluster: ClusterStores) -> AsyncIterator[Any]:
    async with opened(cluster.url) as client:
        yield client


async def test_a_slot_on_the_move_answers_everybody(cluster: ClusterStores, store: Any) -> None:
    """ASKING has to go over the connection of the command it is for, however many are in use."""
    source, target = cluster.nodes[0], cluster.nodes[1]
    tag = tag_on(cluster, source)
    slot = key_slot(tag.encode())
    await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", await cluster.id_of(source))
    await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", await cluster.id_of(target))
    try:
        counts = await asyncio.gather(*(store.execute_command("INCR", f"{{{tag}}}moving") for _ in range(AT_ONCE)))
        assert sorted(counts) == list(range(1, AT_ONCE + 1))
        replies = await asyncio.gather(*(_two(store, f"{{{tag}}}moving") for _ in range(AT_ONCE)))
        assert sorted(number for pair in replies for number in pair) == list(range(AT_ONCE + 1, 3 * AT_ONCE + 1))
    finally:
        await cluster.migrate_keys(slot, target)
    assert await store.get(f"{{{tag}}}moving") == str(3 * AT_ONCE).encode()


async def _two(store: Any, key: str) -> list[int]:
    async with store.pipeline(transaction=False) as pipeline:
        pipeline.incr(key)
        pipeline.incr(key)
        found: list[int] = await pipeline.execute()
        return found


async def test_a_slot_that_was_moved_is_found_by_commands_and_transactions(cluster: ClusterStores, store: Any) -> None:
    tag = tag_on(cluster, cluster.nodes[2])
    key = f"{{{tag}}}moved"
    assert await store.incr(key) == 1
    await cluster.migrate_slot(key_slot(tag.encode()), cluster.nodes[0])
    async with store.pipeline(transaction=True) as together:
        together.incr(key)
        together.incr(key)
        assert await together.execute() == [2, 3]
    assert await store.incr(key) == 4


async def test_a_server_error_in_a_pipeline_is_raised_or_returned(store: Any) -> None:
    await store.set("{w}text", "x")
    async with store.pipeline(transaction=False) as pipeline:
        pipeline.incr("{w}text")
        pipeline.set("{w}other", "y")
        first, second = await pipeline.execute(raise_on_error=False)
    assert isinstance(first, RedisError)
    assert second is True
    async with store.pipeline(transaction=False) as pipeline:
        pipeline.incr("{w}text")
        with pytest.raises(RedisError, match="not an integer"):
            await pipeline.execute()


async def test_calls_beyond_the_connections_wait_for_one(cluster: ClusterStores) -> None:
    async with opened(cluster.url, connections_max=1) as client:
        assert len(await asyncio.gather(*(client.incr("{p}count") for _ in range(AT_ONCE)))) == AT_ONCE


async def test_a_frozen_node_holds_up_nobody_else(cluster: ClusterStores) -> None:
    frozen, other = cluster.nodes[2], cluster.nodes[1]
    stuck_key, key = f"{{{tag_on(cluster, frozen)}}}x", f"{{{tag_on(cluster, other)}}}x"
    async with opened(cluster.url, timeout_ms=60_000) as client:
        await asyncio.gather(client.incr(stuck_key), client.incr(key))
        frozen.freeze()
        try:
            stuck = [asyncio.create_task(client.incr(stuck_key)) for _ in range(AT_ONCE)]
            await asyncio.sleep(0)
            await asyncio.gather(*(client.incr(key) for _ in range(AT_ONCE)))
            assert not any(task.done() for task in stuck)
        finally:
            frozen.thaw()
        assert sorted(await asyncio.gather(*stuck)) == list(range(2, AT_ONCE + 2))


async def test_a_lost_connection_to_one_node_leaves_those_to_others(cluster: ClusterStores) -> None:
    broken, other = cluster.nodes[2], cluster.nodes[1]
    broken_key, key = f"{{{tag_on(cluster, broken)}}}x", f"{{{tag_on(cluster, other)}}}x"
    async with opened(cluster.url, connections_max=1) as client:
        await asyncio.gather(client.incr(broken_key), client.incr(key))
        waiting = asyncio.create_task(client.blpop(f"{key}-list", timeout=60))
        await until(lambda: _is_blocked(other))
        await broken.command("CLIENT", "PAUSE", 60_000, "WRITE")
        lost = asyncio.create_task(client.incr(broken_key))
        await until(lambda: _is_blocked(broken))
        await broken.command("CLIENT", "KILL", "TYPE", "normal")
        await broken.command("CLIENT", "UNPAUSE")
        with pytest.raises(RedisError):
            await lost
        await other.command("RPUSH", f"{key}-list", "there")
        assert await waiting is not None


async def _is_blocked(node: Node) -> bool:
    return bool((await node.info("clients"))["blocked_clients"])


async def test_messages_reach_a_subscriber_on_whichever_node(cluster: ClusterStores, store: Any) -> None:
    async with store.pubsub() as channel:
        await channel.psubscribe("news:*")
        assert await channel.get_message(timeout=10.0) is not None
        for number in range(6):
            await store.publish("news:x", str(number))
        heard = [(await channel.get_message(ignore_subscribe_messages=True, timeout=10.0))["data"] for _ in range(6)]
    assert sorted(heard) == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_one_seed_that_answers_is_enough(cluster: ClusterStores) -> None:
    async with opened(f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster.nodes[1].port}") as client:
        assert await client.incr("{seed}") == 1


async def test_no_node_answers() -> None:
    async with opened("redis+cluster://127.0.0.1:1") as client:
        with pytest.raises(StoreUnavailable, match="No node of the cluster answers"):
            await check_store(client)


async def test_the_first_calls_share_one_question_for_the_map(cluster: ClusterStores, store: Any) -> None:
    before = [(await node.info("commandstats")).get("cmdstat_cluster|slots", {"calls": 0})["calls"] for node in cluster.nodes]
    await asyncio.gather(*(store.incr("{first}") for _ in range(AT_ONCE)))
    after = [(await node.info("commandstats")).get("cmdstat_cluster|slots", {"calls": 0})["calls"] for node in cluster.nodes]
    assert sum(after) - sum(before) == 1


async def test_a_cluster_that_stops_as_a_whole_is_warned_about(cluster: ClusterStores, store: Any) -> None:
    assert {finding.level for finding in await check_store(store)} == {"ok"}
    await cluster.nodes[0].command("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    try:
        levels = {finding.name: finding.level for finding in await check_store(store) if finding.level != "ok"}
        assert levels == {"store.coverage": "warn"}
    finally:
        await cluster.nodes[0].command("CONFIG", "SET", "cluster-require-full-coverage", "no")


@pytest.mark.faults
async def test_a_node_that_is_gone_stops_its_own_slots_only(topology_folders: Iterator[Path]) -> None:
    async with ClusterStores(next(topology_folders)) as cluster, opened(cluster.url) as client:
        keys = {node: f"{{{tag_on(cluster, node)}}}x" for node in cluster.nodes}
        for key in keys.values():
            await client.incr(key)
        gone, *rest = cluster.nodes
        await gone.kill()
        for _ in range(3):
            with pytest.raises((RedisError, OSError)):
                await client.incr(keys[gone])
            for node in rest:
                await client.incr(keys[node])
        await gone.start()
        await until(lambda: cluster.is_ok(gone))
        assert await client.incr(keys[gone]) == 2


@pytest.mark.faults
async def test_a_replica_takes_over_its_primarys_slots(topology_folders: Iterator[Path]) -> None:
    async with ClusterStores(next(topology_folders), replicas=1) as cluster, opened(cluster.url) as client:
        gone = cluster.primaries[0]
        key = f"{{{tag_on(cluster, gone)}}}x"
        assert await client.incr(key) == 1
        await cluster.hand_over(gone)

        async def answers() -> bool:
            return bool(await client.get(key) == b"1")

        await until(answers)
        assert await client.incr(key) == 2
        await gone.start()  # comes back as a replica of the one that took over
        assert await client.incr(key) == 3
