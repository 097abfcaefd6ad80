"""The replica takes over: errors for a few seconds, all of them worth repeating, and then everything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from chaos.topologies import Node, SentinelStores, until
from flashsale.connections.checks import check_store
from flashsale.connections.store import open_store
from flashsale.settings import StoreSettings
from tests.replication.buyers import admitted, open_drop, selling

SHOPPERS = 300
UNITS = 200
EARLY = 100


async def test_a_failover_to_a_replica_in_step_loses_nothing(sentinel: SentinelStores, database_url: str) -> None:
    async with selling(sentinel.url, database_url) as parts:
        drop = await open_drop(parts, UNITS)
        buyers = await admitted(parts, drop.drop_id, SHOPPERS)
        await buyers.run(buyers.tickets[:EARLY])
        assert len(buyers.reservations) == EARLY
        async with asyncio.TaskGroup() as group:
            group.create_task(sentinel.hand_over())
            group.create_task(buyers.run())  # the early ones ask again and get the same reservations
        assert buyers.troubles, "nobody noticed the failover, so this proved nothing"
        assert len(buyers.reservations) == UNITS
        assert await buyers.lost() == []
        assert (await buyers.stock()).reserved == UNITS


@pytest.fixture
async def client(sentinel: SentinelStores) -> AsyncIterator[Any]:
    async with opened(sentinel.url) as found:
        yield found


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    """A client of two connections, which waits for answers as long as it takes."""
    found = open_store(StoreSettings(url=url, timeout_ms=30_000, deadline_ms=30_000, connections_max=2))
    try:
        yield found
    finally:
        await found.aclose()


@pytest.mark.faults
async def test_a_client_that_slept_through_the_failover_asks_first(sentinel: SentinelStores, client: Any) -> None:
    """The old primary is back and still thinks it is one; whoever has a connection to it must not use it."""
    await client.set("before", "1")
    await until(sentinel.in_step)
    sentinel.primary.freeze()
    await sentinel.next_primary()
    sentinel.primary.thaw()
    assert (await sentinel.primary.info("replication"))["role"] == "master"
    await client.set("after", "1")
    assert await _value(sentinel.replica, "after") == b"1"


@pytest.mark.faults
async def test_an_answer_of_a_former_primary_does_not_count(sentinel: SentinelStores, client: Any) -> None:
    """Somebody who was waiting there when it froze is still waiting when it thaws, and hears what happens there."""
    waiting = asyncio.create_task(client.blpop("list", timeout=0))
    await until(lambda: _blocked(sentinel.primary))
    await until(sentinel.in_step)
    sentinel.primary.freeze()
    await sentinel.next_primary()
    await client.ping()  # over another connection, made anew
    sentinel.primary.thaw()
    await sentinel.primary.command("RPUSH", "list", "x")
    with pytest.raises(RedisError, match="not the primary any more"):
        await waiting
    await asyncio.gather(*(client.set(f"after-{number}", "1") for number in range(8)))
    assert [await _value(sentinel.replica, f"after-{number}") for number in range(8)] == [b"1"] * 8


async def _blocked(node: Node) -> bool:
    return bool((await node.info("clients"))["blocked_clients"])


async def _value(node: Node, key: str) -> bytes | None:
    found: bytes | None = await node.command("GET", key)
    return found


async def test_calls_beyond_the_connections_wait_for_one(sentinel: SentinelStores, client: Any) -> None:
    assert sorted(await asyncio.gather(*(client.incr("count") for _ in range(64)))) == list(range(1, 65))


@pytest.mark.faults
async def test_two_of_three_sentinels_are_enough(topology_folders: Iterator[Path]) -> None:
    async with SentinelStores(next(topology_folders), sentinels=3) as stores, opened(stores.url) as client:
        stores.sentinels[0].freeze()
        await client.set("before", "1")
        assert {finding.level for finding in await check_store(client)} == {"ok"}
        await stores.hand_over()
        assert await client.get("before") == b"1"


async def test_without_sentinels_the_primary_is_still_used(sentinel: SentinelStores, client: Any) -> None:
    await client.set("before", "1")
    await sentinel.sentinels[0].kill()
    client.connection_pool._ask_at = 0.0
    assert await client.get("before") == b"1"
