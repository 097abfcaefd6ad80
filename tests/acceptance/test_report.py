"""The report is computed from Postgres and the store: tampering with either shows, whatever the crowd believes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flashsale.cli.rehearsal import Pace, Scenario, report_on
from flashsale.cli.summary import faults
from flashsale.keys import drop_keys

if TYPE_CHECKING:
    from flashsale.model import Drop
    from tests.acceptance.conftest import Stage

UNITS = 10


async def _nothing(_drop: Drop) -> None:
    await asyncio.sleep(0)


async def test_tampering_with_postgres_or_the_store_shows(stage: Stage) -> None:
    scenario = Scenario(shoppers=40, units=UNITS, seed=31, opens_in_s=1.0, deadline_s=40.0, pace=Pace(reservation_ttl_ms=3_000))
    report, seen = await stage.rehearse(scenario, _nothing)
    assert faults(report) == []
    assert report["sold_units"] == UNITS
    drop_id, store = report["drop"], stage.parts.store
    keys = drop_keys(drop_id)

    await _delete_order(stage, next(iter(seen.confirmed)))
    report = await report_on(stage.parts, drop_id, seen)
    assert report["lost_orders"] == 1
    assert report["audit"] == "drift"

    await store.hincrby(keys.stock, "sold:halo-moon", 3)
    report = await report_on(stage.parts, drop_id, seen)
    assert report["oversold_units"] == 3

    await store.xadd(keys.served, {"at_ms": "1", "from": "1000", "to": "1001"})
    report = await report_on(stage.parts, drop_id, seen)
    assert report["overtakes"] == 1
    assert len(faults(report)) == 4


async def _delete_order(stage: Stage, reservation_id: str) -> None:
    async with stage.parts.database.transaction() as session:
        for table in ("order_items", "outbox", "orders"):
            await session.connection.execute(f"DELETE FROM {table} WHERE reservation_id = $1", reservation_id)
