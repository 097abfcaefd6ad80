"""Postgres is stopped before a drop opens and started when the crowd has gone: the drop runs, and every order arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flashsale.cli.rehearsal import Pace, Scenario
from flashsale.cli.summary import faults

if TYPE_CHECKING:
    from flashsale.model import Drop
    from tests.acceptance.conftest import Stage

pytestmark = pytest.mark.faults

UNITS = 80


async def test_a_whole_drop_without_postgres_loses_nothing(stage: Stage) -> None:
    postgres = stage.stack.stores.postgres

    async def disturb(drop: Drop) -> None:
        await postgres.stop()
        assert drop.opens_at_ms > (await stage.parts.drops.inspect(drop.drop_id)).now_ms, "it must be away for the whole drop"

    scenario = Scenario(shoppers=400, units=UNITS, seed=21, opens_in_s=4.0, deadline_s=60.0, pace=Pace(reservation_ttl_ms=4_000))
    report, seen = await stage.rehearse(scenario, disturb, mend=postgres.start)
    assert faults(report) == []
    assert report["sold_units"] == UNITS
    assert report["orders_in_postgres"]["paid"] > 0
    by_storefront = [status for status in seen.confirmed.values() if status == 202]
    assert by_storefront, "every confirm must be answered 'accepted, being recorded'"
    assert set(seen.confirmed) <= set(seen.reservations)
