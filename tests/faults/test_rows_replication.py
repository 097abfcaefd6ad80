"""Rows 17 to 19 and 22 to 24: stores of several servers. Each test has its own, since it changes for good who is who."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.crc import key_slot

from chaos.topologies import SLOTS, ClusterStores, Node, SentinelStores
from flashsale.cli.rehearsal import Pace, Scenario
from flashsale.keys import DROPS, drop_keys
from tests.faults.stage import RowRecord
from tests.replication.service import REST_S, running_service

pytestmark = pytest.mark.faults

UNITS = 80


@pytest.fixture
def folder(stores_folder: Path, request: pytest.FixtureRequest) -> Path:
    path = stores_folder / f"row-{abs(hash(request.node.name)) % 10**6}"
    path.mkdir()
    path.chmod(0o711)
    return path


def scenario(row: RowRecord, shoppers: int = 400) -> Scenario:
    return Scenario(shoppers=shoppers, units=UNITS, seed=row.seed, opens_in_s=2.5, deadline_s=60.0, pace=Pace(reservation_ttl_ms=4_000))


async def test_row_17_failover_to_a_replica_that_is_up_to_date(row: RowRecord, folder: Path, database_url: str) -> None:
    async with SentinelStores(folder / "s", sentinels=3) as stores, running_service(folder, stores.url, database_url) as service:
        drop = await service.create("row-17", scenario(row))

        async def fail_over() -> None:
            await service.selling(drop)
            await stores.hand_over()

        played = await service.play(drop, scenario(row), fail_over)
        played.require_nothing_lost(UNITS)
        assert played.rest_s <= REST_S
        row.saw(f"The crowd was asked {sum(played.seen.retry_later.values())} times to try again: {dict(played.seen.retry_later)}.")


async def test_row_23_a_node_of_a_cluster_is_isolated(row: RowRecord, folder: Path, database_url: str) -> None:
    """The frozen node also keeps the list of all drops, which is read once a second."""
    async with ClusterStores(folder / "c") as stores, running_service(folder, stores.url, database_url) as service:
        frozen = await stores.owner(key_slot(DROPS.encode()))
        other = next(node for node in stores.nodes if node is not frozen)
        people = scenario(row, shoppers=200)
        stuck = await service.create(await name_on(stores, frozen), people)
        free = await service.create(await name_on(stores, other), people)

        async def freeze() -> None:
            await asyncio.gather(service.selling(stuck), service.selling(free))
            frozen.freeze()
            await service.until(free, lambda inspection: sum(stock.sold for stock in inspection.skus.values()) >= UNITS // 2)
            frozen.thaw()

        async def nothing() -> None:
            pass

        held_up, unaffected = await asyncio.gather(service.play(stuck, people, freeze), service.play(free, people, nothing))
        held_up.require_nothing_lost(UNITS)
        unaffected.require_nothing_lost(UNITS)
        assert unaffected.seen.http_5xx == 0
        assert held_up.rest_s <= REST_S
        row.saw(f"Shoppers of its own drop were asked {held_up.seen.http_5xx} times to try again, those of the other never.")


@pytest.mark.parametrize("way", ["migrate_slot", "migrate_keys"])
async def test_row_24_slots_move_under_load(row: RowRecord, folder: Path, database_url: str, way: str) -> None:
    async with ClusterStores(folder / "c") as stores, running_service(folder, stores.url, database_url) as service:
        drop = await service.create(f"row-24-{way.replace('_', '-')}", scenario(row))
        slot = key_slot(drop_keys(drop.drop_id).drop.encode())
        moves = 0

        async def move() -> None:
            nonlocal moves
            await service.selling(drop)
            for node in [*stores.nodes, *stores.nodes]:
                if node is not await stores.owner(slot):
                    await getattr(stores, way)(slot, node)
                    moves += 1

        played = await service.play(drop, scenario(row), move)
        played.require_nothing_lost(UNITS)
        assert played.rest_s <= REST_S
        row.saw(f"The slot moved {moves} times; shoppers were asked {played.seen.http_5xx} times to try again.")


async def name_on(stores: ClusterStores, node: Node) -> str:
    """A name for a drop that lives on a node."""
    for number in range(SLOTS):
        name = f"row-23-{number}"
        if await stores.owner(key_slot(drop_keys(name).drop.encode())) is node:
            return name
    raise AssertionError("a node without slots")
