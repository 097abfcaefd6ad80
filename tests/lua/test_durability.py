"""What was acknowledged is on disk, and a restarted store goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from flashsale.embedded.valkey import EmbeddedValkey
from tests.lua.world import World, paying, reserving, serve

PEOPLE = 40


@pytest.fixture
async def own_valkey(stores_folder: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey of this test's own, to be killed."""
    folder = Path(tempfile.mkdtemp(prefix="own-", dir=stores_folder))
    folder.chmod(0o711)
    server = EmbeddedValkey(folder, debug_commands=True)
    await server.start()
    yield server
    await server.stop()


async def test_everything_acknowledged_survives_a_kill(own_valkey: EmbeddedValkey) -> None:
    """Shoppers reserve and pay until the server is killed under them; what they were told is there afterwards."""
    world = World(Redis.from_url(own_valkey.url, protocol=2))
    await world.open()
    await world.client.hset("fs:{d}:stock", mapping={"allotment:s1": 1_000, "available:s1": 1_000})
    world.at(-5_000)
    names = [f"p{number}" for number in range(PEOPLE)]
    await world.join(*names)
    await serve(world)
    world.at(200)
    await world.admit(*names)
    told: dict[str, int] = {}
    enough = asyncio.Event()

    async def shop(name: str) -> None:
        client = World(Redis.from_url(own_valkey.url, protocol=2, single_connection_client=True))
        client.at(1_000)
        try:
            for number in range(3):
                reservation = f"{name}-{number}"
                [result] = await client.reserve(reserving(name, reservation, s1=1))
                if result[0] == "reserved":
                    told[reservation] = 1
                    _, _, [paid] = await client.act("confirm", [paying(reservation, "pay", 1_000)])
                    told[reservation] = paid[1]
                if len(told) >= PEOPLE // 2:
                    enough.set()
        finally:
            await client.client.aclose()

    shoppers = [asyncio.create_task(shop(name)) for name in names]
    await enough.wait()
    await own_valkey.kill()
    for shopper in shoppers:
        shopper.cancel()
    await asyncio.gather(*shoppers, return_exceptions=True)
    await world.client.aclose()

    await own_valkey.start()
    after = World(Redis.from_url(own_valkey.url, protocol=2))
    state = await after.state()
    assert len(told) >= PEOPLE // 2
    assert {reservation: state["reservations"][reservation]["state"] for reservation in told if told[reservation] == 2} == {
        reservation: 2 for reservation in told if told[reservation] == 2
    }
    assert told.keys() <= state["reservations"].keys()
    assert await after.client.config_get("appendfsync") == {"appendfsync": "always"}
    stock = state["stock"]
    assert stock["allotment:s1"] == stock["available:s1"] + stock["reserved:s1"] + stock["sold:s1"]
    sold = [record for record in state["reservations"].values() if record["state"] == 2]
    assert stock["sold:s1"] == len(sold)
    journalled = [tr["reservation_id"] for entry in state["journal"] for tr in entry.get("transitions", []) if tr["kind"] == "reserved"]
    assert sorted(journalled) == sorted(state["reservations"])
    after.at(1_100)
    [again] = await after.reserve(reserving("p0", next(iter(told)), s1=1))
    assert again[0] == "replayed"
    await after.client.aclose()


async def test_a_store_that_comes_back_empty_is_recovering_and_never_full(own_valkey: EmbeddedValkey) -> None:
    world = World(Redis.from_url(own_valkey.url, protocol=2))
    await world.open()
    await world.client.flushall()
    await own_valkey.restart()
    assert (await world.act("inspect", [[], []]))[0] == "recovering"
    assert await world.client.dbsize() == 0
    await world.client.aclose()
