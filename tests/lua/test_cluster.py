"""On a node of a cluster every script runs, and the node refuses what is not in its drop's slot."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from flashsale.connections.store import open_store
from flashsale.embedded.programs import valkey_program
from flashsale.settings import StoreSettings
from tests.lua.world import LIBRARY, VALID, World, busy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
async def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """One node that owns every slot."""
    port, bus_port = free_port(), free_port()
    folder: Path = tmp_path_factory.mktemp("cluster")
    network = {"port": port, "cluster-port": bus_port, "cluster-enabled": "yes", "bind": "127.0.0.1"}
    options = {**network, "dir": folder, "save": "", "appendonly": "yes", "appendfsync": "always"}
    argv = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    server = await asyncio.create_subprocess_exec(str(valkey_program()), *argv, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    try:
        await _said(server.stdout, b"Ready to accept connections")
        node = Redis(port=port, protocol=2)
        await node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)  # type: ignore[no-untyped-call]
        await node.aclose()
        await _said(server.stdout, b"Cluster state changed: ok")
        yield f"redis+cluster://127.0.0.1:{port}"
    finally:
        server.terminate()
        await server.communicate()


async def _said(log: asyncio.StreamReader, words: bytes) -> None:
    async for line in log:
        if words in line:
            return
    raise AssertionError(f"the server ended without saying {words!r}")


@pytest.fixture
async def node(cluster_url: str) -> AsyncIterator[Redis]:
    client = open_store(StoreSettings(url=cluster_url, timeout_ms=2_000, deadline_ms=2_000, connections_max=4))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.mark.parametrize("script", VALID)
async def test_every_script_runs_on_a_cluster(node: Redis, script: str) -> None:
    world = World(node)
    await busy(world)
    assert (await world.act(script, *VALID[script]))[0] == "done"


async def test_keys_of_two_drops_in_one_call_are_refused(cluster_url: str) -> None:
    async with Redis.from_url(cluster_url.removeprefix("redis+cluster://").join(("redis://", "/0")), protocol=2) as one:
        with pytest.raises(ResponseError, match="same slot"):
            await one.execute_command("EVAL", LIBRARY["close_drop"].body, 2, "fs:{a}:drop", "fs:{b}:journal", "")  # type: ignore[no-untyped-call]
