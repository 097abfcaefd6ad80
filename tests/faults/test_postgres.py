"""Rows about Postgres: restarted, and with too few connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.stage import events_twice, orders, probe_for, require_sound, selling_from

if TYPE_CHECKING:
    from chaos.lab import Lab
    from flashsale.model import Drop
    from tests.faults.stage import RowRecord

pytestmark = pytest.mark.faults

CONNECTIONS = 5
"""of which the reconcilers alone would like four and the workers sixteen"""


@pytest.mark.parametrize("how", ["fast", "immediate"])
async def test_row_31_postgres_restarts(lab: Lab, row: RowRecord, how: str) -> None:
    accepted = 0
    probe = await probe_for(lab, row)
    worker = lab.workers[0]

    async def disturb(drop: Drop) -> None:
        nonlocal accepted
        for turn, sold in enumerate((15, 30)):
            await selling_from(lab, drop, sold)
            if how == "fast":
                await lab.stores.postgres.stop()
            else:
                await lab.stop_postgres_at_once()
            before = (await lab.inspect(drop)).stats["reserved_units"]
            reserved = await probe.reserve(worker, key=f"turn-{turn}")
            assert reserved.status == 201, reserved.body
            accepted += (await probe.confirm(worker, reserved.json())).status == 202
            await selling_from(lab, drop, before + 5)
            await lab.stores.postgres.start()

    played = await lab.rehearse(row.scenario(), disturb)
    require_sound(played)
    assert accepted == 2
    assert played.seen.http_5xx == 0, "nothing a shopper or storefront does during a drop needs Postgres"
    judged = await lab.judge(probe.drop, probe.seen)
    assert judged.wrong == ()
    assert set((await orders(lab, probe.drop)).values()) == {"paid"}
    for drop in (played.drop, probe.drop):
        assert await events_twice(lab, drop) == []
        await lab.retire(drop)
    row.saw(f"{how}, twice: reservations went on, confirms were answered 202, then everything was recorded, one order each.")


async def test_row_38_too_few_connections(lab: Lab, row: RowRecord) -> None:
    async def disturb(drop: Drop) -> None:
        await selling_from(lab, drop, 15)
        await lab.restart_postgres_with(max_connections=CONNECTIONS, superuser_reserved_connections=0, max_wal_senders=0)
        await selling_from(lab, drop, 50)

    async def mend() -> None:
        await lab.restart_postgres_with()

    played = await lab.rehearse(row.scenario(), disturb, mend=mend)
    require_sound(played)
    await lab.retire(played.drop)
    row.saw(f"With {CONNECTIONS} connections for four processes the sale went on and {played.report['sold_units']} units were sold.")
