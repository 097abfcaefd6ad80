"""Rows 17 to 19 and 22 to 24: stores of several servers. Each test has its own, since it changes for good who is who."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.topologies import SentinelStores
from flashsale.cli.rehearsal import Pace, Scenario
from tests.faults.stage import RowRecord
from tests.replication.service import REST_S, running_service

pytestmark = pytest.mark.faults

UNITS = 80


@pytest.fixture
def folder(stores_folder: Path, request: pytest.FixtureRequest) -> Path:
    path = stores_folder / f"row-{request.node.name[9:11]}"
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
