"""Drops on several nodes: what happens to one of them is nothing to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from admission.inlet import Inlet
from chaos.topologies import SLOTS, ClusterStores, Node
from flashsale.keys import DROPS, drop_keys
from flashsale.settings import load_settings
from tests.replication.buyers import admitted, open_drop, selling

SHOPPERS = 200
UNITS = 150
EARLY = 50
ROOM = load_settings(environment={}).waiting_room


def slot_of(drop_id: str) -> int:
    return key_slot(drop_keys(drop_id).drop.encode())


async def drop_on(stores: ClusterStores, node: Node, prefix: str) -> str:
    """A drop's name that belongs to a node."""
    for number in range(SLOTS):
        if await stores.owner(slot_of(name := f"{prefix}-{number}")) is node:
            return name
    raise AssertionError("a node without slots")


async def test_a_slot_moves_while_everybody_reserves(cluster: ClusterStores, database_url: str) -> None:
    async with selling(cluster.url, database_url) as parts:
        drop = await open_drop(parts, UNITS)
        buyers = await admitted(parts, drop.drop_id, SHOPPERS)
        await buyers.run(buyers.tickets[:EARLY])
        slot = slot_of(drop.drop_id)
        source = await cluster.owner(slot)
        others = [node for node in cluster.nodes if node is not source]

        async def move() -> None:
            await cluster.migrate_slot(slot, others[0])
            await cluster.migrate_keys(slot, others[1])
            await cluster.migrate_slot(slot, source)

        async with asyncio.TaskGroup() as group:
            moving = group.create_task(move())
            while not moving.done():
                await buyers.run()
        assert len(buyers.reservations) == UNITS
        assert await buyers.lost() == []
        assert (await buyers.stock()).reserved == UNITS


@pytest.mark.faults
async def test_a_worker_that_starts_while_a_node_is_gone_serves_the_others(topology_folders: Iterator[Path], database_url: str) -> None:
    async with ClusterStores(next(topology_folders)) as stores, selling(stores.url, database_url, deadline_ms=300, timeout_ms=100) as parts:
        lister = await stores.owner(key_slot(DROPS.encode()))
        gone, there = [node for node in stores.nodes if node is not lister]
        unreachable, reachable = await drop_on(stores, gone, "a"), await drop_on(stores, there, "b")
        for drop_id in (unreachable, reachable):
            await open_drop(parts, UNITS, drop_id=drop_id)
        await gone.kill()
        inlet = Inlet(parts.drops, ROOM, parts.reservations.expire, lambda _: None)
        running = asyncio.create_task(inlet.run())
        async with asyncio.timeout(30):
            await inlet.ready.wait()
        assert inlet.get(reachable) is not None
        assert inlet.get(unreachable) is None
        running.cancel()
        await asyncio.wait([running])
