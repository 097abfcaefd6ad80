"""Repairs on real stores: what an audit found is put right in the safe direction, and what is not safe is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack
import pytest

from flashsale.model import DropState, SkuStock
from flashsale.stock import StockLedger
from reconciler.auditor import AuditWord
from reconciler.repair import Plan, Repairer, RepairRefused, plan_repair, right_stock
from tests.integration.drop_stage import DROP_ID, HELD, KEYS, PAID, DropStage
from tests.integration.reconciler_stage import states
from tests.lua.world import reserving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flashsale.connections.database import Database
    from tests.integration.reconciler_stage import Store


@pytest.fixture
async def stage(store: Store, database: Database) -> DropStage:
    stage = DropStage(store, database)
    await stage.set_up()
    return stage


async def planned(stage: DropStage) -> Plan:
    return plan_repair(DROP_ID, await stage.evidence.reservations())


async def carried_out(stage: DropStage, plan: Plan) -> None:
    await Repairer(stage.world.drops, stage.world.scripts, stage.database).carry_out(plan)
    await stage.record()


async def repaired(stage: DropStage) -> Plan:
    """Plans, carries out twice, and finds the drop clean and paused."""
    plan = await planned(stage)
    assert plan.unsafe == []
    assert plan.measures
    await carried_out(stage, plan)
    await carried_out(stage, plan)
    report = await stage.audit()
    assert report.word is AuditWord.CLEAN, report.drifts
    assert (await stage.world.drops.inspect(DROP_ID)).state is DropState.PAUSED
    assert (await planned(stage)).measures == []
    return plan


async def trimmed(stage: DropStage) -> None:
    """A payment and a reservation whose news nobody will ever read."""
    await stage.world.confirm(HELD, amount_minor=2_000)
    await stage.world.reserve(reserving("ann", f"{DROP_ID}.rnew", s1=1))
    await stage.store.xtrim(KEYS.journal, maxlen=0, approximate=False)


async def untold_withdrawal(stage: DropStage) -> None:
    """Units that left the store, and Postgres will never hear of it."""
    await StockLedger(stage.database, stage.world.drops).change(DROP_ID, "down", "s1", -2)
    await stage.store.xtrim(KEYS.journal, maxlen=0, approximate=False)


WRONGS: dict[str, tuple[Callable[[DropStage], Awaitable[object]], tuple[int, ...]]] = {
    "a unit too many available": (lambda stage: stage.count("available:s1", 1), (5, 2, 2, 1)),
    "a unit too few available": (lambda stage: stage.count("available:s1", -1), (5, 2, 2, 1)),
    "reserved too high": (lambda stage: stage.count("reserved:s1", 3), (5, 2, 2, 1)),
    "sold too low": (lambda stage: stage.count("sold:s1", -1), (5, 2, 2, 1)),
    "allotment too high": (lambda stage: stage.count("allotment:s1", 4), (5, 2, 2, 1)),
    "allotment too low": (lambda stage: stage.count("allotment:s1", -4), (5, 2, 2, 1)),
    "units out of nowhere": (lambda stage: _both(stage, 4), (5, 2, 2, 1)),
    "no expiry": (lambda stage: stage.store.zrem(KEYS.expiries, HELD), (5, 2, 2, 1)),
    "a deleted order": (lambda stage: stage.forget_order(PAID), (5, 2, 2, 1)),
    "a changed sum": (lambda stage: stage.sql("UPDATE drop_skus SET sold = 4 WHERE sku = 's1'"), (5, 2, 2, 1)),
    "a trimmed journal": (trimmed, (5, 1, 1, 3)),
    "a withdrawal nobody told": (untold_withdrawal, (3, 0, 2, 1)),
}


async def _both(stage: DropStage, units: int) -> None:
    await stage.count("allotment:s1", units)
    await stage.count("available:s1", units)


@pytest.mark.parametrize("wrong", WRONGS)
async def test_what_is_wrong_is_put_right(stage: DropStage, wrong: str) -> None:
    spoil, units = WRONGS[wrong]
    await spoil(stage)
    await repaired(stage)
    assert await stage.units("s1") == units


async def test_orders_lost_with_the_journal_are_there_again_once(stage: DropStage) -> None:
    await trimmed(stage)
    await repaired(stage)
    assert await states(stage.database, DROP_ID) == {"paid": 2, "pending": 1, "cancelled": 1}


async def test_a_reservation_that_never_expired_expires(stage: DropStage) -> None:
    await stage.store.zrem(KEYS.expiries, HELD)
    await repaired(stage)
    stage.world.at(1_000_000)
    assert await stage.world.expire() == 1


async def test_everything_at_once(stage: DropStage) -> None:
    await trimmed(stage)
    await stage.forget_order(PAID)
    await stage.count("available:s2", 1)
    await stage.store.zrem(KEYS.expiries, f"{DROP_ID}.rnew")
    await repaired(stage)


async def test_a_payment_postgres_refused_goes_back_and_its_units_only_if_there_are_any(stage: DropStage) -> None:
    await stage.sql("UPDATE drop_skus SET allotment = 2 WHERE sku = 's1'")
    await stage.world.confirm(HELD, amount_minor=2_000)
    await stage.record()
    plan = await repaired(stage)
    assert plan.cancel == [HELD]
    assert await stage.units("s1") == (2, 1, 0, 1)
    assert (await states(stage.database, DROP_ID))["refund_due"] == 1


@pytest.mark.parametrize("wrong", ["record", "ahead", "oversold"])
async def test_what_is_not_safe_is_left_alone_and_said(stage: DropStage, wrong: str) -> None:
    if wrong == "record":
        await stage.store.hdel(KEYS.reservations, HELD)
    elif wrong == "ahead":
        record = msgpack.unpackb(await stage.store.hget(KEYS.reservations, PAID))
        record[0] = 4
        await stage.store.hset(KEYS.reservations, PAID, msgpack.packb(record))
    else:
        await stage.sql("UPDATE drop_skus SET allotment = 2 WHERE sku = 's1'")
    plan = await planned(stage)
    assert plan.unsafe
    assert [step for step in plan.steps if step[1] == "s1"] == []
    before = await stage.units("s1")
    await carried_out(stage, plan)
    assert await stage.units("s1") == before


async def test_a_plan_that_no_longer_fits_is_refused_whole(stage: DropStage) -> None:
    await stage.count("available:s1", 1)
    plan = await planned(stage)
    await stage.count("available:s1", -1)
    with pytest.raises(RepairRefused):
        await carried_out(stage, plan)
    assert await stage.units("s1") == (5, 2, 2, 1)


async def test_a_plan_stays_right_while_orders_flow(stage: DropStage) -> None:
    await stage.count("reserved:s1", 2)
    plan = await planned(stage)
    await stage.world.confirm(HELD, amount_minor=2_000)
    await stage.world.reserve(reserving("ann", f"{DROP_ID}.rnew", s1=1))
    await carried_out(stage, plan)
    assert await stage.units("s1") == (5, 1, 1, 3)
    assert (await stage.audit()).word is AuditWord.CLEAN


@pytest.mark.parametrize("allotment", range(6))
@pytest.mark.parametrize("available", range(4))
@pytest.mark.parametrize("postgres", range(6))
def test_no_unit_becomes_available_that_postgres_does_not_prove_free(allotment: int, available: int, postgres: int) -> None:
    for held, sold, cancelled in ((0, 0, 0), (1, 1, 0), (2, 0, 0), (0, 2, 1), (1, 2, 2)):
        right = right_stock(SkuStock(allotment, available, 9, 9), postgres, held, sold, cancelled)
        if right is not None:
            assert right[0] == sum(right[1:])
            assert right[1] <= postgres - held - (sold - cancelled)
            assert right[0] <= postgres
