"""`kill -9` under load, one process after the other: nothing acknowledged is lost, and everything is finished afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from flashsale.cli.rehearsal import Pace, Scenario

if TYPE_CHECKING:
    from flashsale.cli.summary import Crowd
    from flashsale.model import Drop, Inspection
    from tests.acceptance.conftest import Stage

pytestmark = pytest.mark.faults

UNITS = 80
KILLS = 3
BETWEEN_KILLS_S = 0.7
NEVER = ("oversold_units", "undersold_units", "lost_orders", "duplicate_orders", "overtakes", "broken_promises")


def _scenario(seed: int) -> Scenario:
    return Scenario(shoppers=400, units=UNITS, seed=seed, opens_in_s=2.5, deadline_s=60.0, pace=Pace(reservation_ttl_ms=4_000))


def _selling(inspection: Inspection) -> bool:
    """A quarter of the units are taken, so the crowd is in the middle of it."""
    return inspection.stats.get("reserved_units", 0) >= UNITS // 4


def _require_nothing_lost(report: dict[str, Any], seen: Crowd) -> None:
    assert {name: report[name] for name in NEVER} == dict.fromkeys(NEVER, 0), seen.broken_promises_examples
    assert report["audit"] == "clean"
    assert report["orders_in_postgres"]["pending"] == 0
    assert report["sold_units"] == UNITS
    assert len(seen.reservations) > 0
    assert len(seen.confirmed) > 0
    # Whatever was refused was refused politely: nobody ever sees an unexplained error.
    assert seen.http_5xx == sum(seen.retry_later.values())


async def test_killing_a_worker(stage: Stage) -> None:
    async def disturb(drop: Drop) -> None:
        await stage.until(drop, _selling)
        for turn in range(KILLS):
            name = f"worker-{turn % 2 + 1}"
            await stage.back(name, await stage.kill(name))
            await asyncio.sleep(BETWEEN_KILLS_S)

    report, seen = await stage.rehearse(_scenario(11), disturb)
    _require_nothing_lost(report, seen)
    assert sum(seen.lost_answers.values()) > 0, "the kills hit nobody, so this proved nothing"


async def test_killing_the_reconciler(stage: Stage) -> None:
    async def disturb(drop: Drop) -> None:
        await stage.until(drop, _selling)
        for _ in range(KILLS):
            await stage.back("reconciler", await stage.kill("reconciler"))
            await asyncio.sleep(BETWEEN_KILLS_S)

    report, seen = await stage.rehearse(_scenario(12), disturb)
    _require_nothing_lost(report, seen)
    assert seen.http_5xx == 0, "shoppers do not notice the reconciler"


async def test_killing_valkey(stage: Stage) -> None:
    async def disturb(drop: Drop) -> None:
        await stage.until(drop, _selling)
        await stage.back("valkey", await stage.kill("valkey"))
        await stage.until(drop, lambda inspection: inspection.stats["reserved_units"] >= UNITS // 2)
        await stage.back("valkey", await stage.kill("valkey"))

    report, seen = await stage.rehearse(_scenario(13), disturb)
    _require_nothing_lost(report, seen)


async def test_killing_postgres(stage: Stage) -> None:
    async def disturb(drop: Drop) -> None:
        await stage.until(drop, _selling)
        for _ in range(2):
            await stage.back("postgres", await stage.kill("postgres"))
            await asyncio.sleep(BETWEEN_KILLS_S)

    report, seen = await stage.rehearse(_scenario(14), disturb)
    _require_nothing_lost(report, seen)
    assert seen.http_5xx == 0, "nothing a shopper or storefront does during a drop needs Postgres"
