"""What the servers of a Cluster refuse is told apart: repeat it, say that the store is away, or report a defect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.crc import key_slot

from chaos.topologies import ClusterStores, Node, until
from flashsale.connections.store import open_store
from flashsale.errors import ScriptError, StoreUnavailable
from flashsale.keys import drop_keys
from flashsale.resources import resource_dir
from flashsale.scripts import Scripts, read_scripts
from flashsale.settings import load_settings

DROP_ID = "refused"
SLOT = key_slot(drop_keys(DROP_ID).drop.encode())


@asynccontextmanager
async def calling(cluster: ClusterStores, deadline_ms: int) -> AsyncIterator[Scripts]:
    settings = load_settings(environment={}, overrides={"store": {"url": cluster.url, "timeout_ms": 100, "deadline_ms": deadline_ms}})
    client: Any = open_store(settings.store)
    yield Scripts(client, read_scripts(resource_dir("lua")), settings.store, settings.batch)
    await client.aclose()


async def test_a_slot_that_nobody_serves_is_a_store_that_is_away(cluster: ClusterStores) -> None:
    async with calling(cluster, deadline_ms=200) as scripts:
        await scripts.add_drop_id(DROP_ID)  # so that the client has the map from before
        owner = await cluster.owner(SLOT)
        await owner.command("CLUSTER", "DELSLOTS", SLOT)
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await scripts.run("inspect", DROP_ID, b"")
        finally:
            await owner.command("CLUSTER", "ADDSLOTS", SLOT)
            for node in cluster.nodes:
                await until(lambda node=node: cluster.is_ok(node))  # type: ignore[misc]


async def test_a_call_waits_until_its_slot_is_whole_again(cluster: ClusterStores) -> None:
    async with calling(cluster, deadline_ms=60_000) as scripts:
        source = await cluster.owner(SLOT)
        target = next(node for node in cluster.nodes if node is not source)
        await source.command("HSET", drop_keys(DROP_ID).drop, "state", "none")
        await source.command("CONFIG", "RESETSTAT")
        await target.command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", await cluster.id_of(source))
        await source.command("CLUSTER", "SETSLOT", SLOT, "MIGRATING", await cluster.id_of(target))
        call = asyncio.create_task(scripts.run("inspect", DROP_ID, b"no envelope"))
        await until(lambda: _refused(source))
        assert not call.done()
        await cluster.migrate_keys(SLOT, target)
        with pytest.raises(ScriptError, match="BADARG"):  # it ran, and did not like its argument
            await call


async def _refused(node: Node) -> bool:
    return any(name.startswith("errorstat_TRYAGAIN") for name in await node.info("errorstats"))
