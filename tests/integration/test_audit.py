"""Audits on real stores: every kind of drift is found and named, and nothing else is, however busy the drop is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgpack
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from flashsale.errors import Recovering, StoreUnavailable, StoreUnknown
from flashsale.keys import POSTGRES
from flashsale.model import DropState
from flashsale.stock import StockLedger
from reconciler.auditor import Auditor, AuditWord
from reconciler.lost_commits import LostCommits
from reconciler.metrics import ReconcilerMetrics
from tests.integration.drop_stage import DROP_ID, FREED, HELD, KEYS, PAID, DropStage
from tests.integration.reconciler_stage import make_consumer, reconciler_settings
from tests.lua.world import admission, paying, reserving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flashsale.connections.database import Database
    from reconciler.evidence import Evidence
    from tests.integration.reconciler_stage import Store


@pytest.fixture
async def stage(store: Store, database: Database) -> DropStage:
    stage = DropStage(store, database)
    await stage.set_up()
    return stage


class Running:
    """The running auditor, one round at a time."""

    def __init__(self, stage: DropStage) -> None:
        self.metrics = ReconcilerMetrics(CollectorRegistry())
        self.live: dict[str, Evidence] = {DROP_ID: stage.evidence}
        self.lost_commits = LostCommits(stage.database, stage.store, interval_ms=1_000)
        self.auditor = Auditor(
            self._evidence, stage.world.drops.pause, stage.database, self.metrics, reconciler_settings(), self.lost_commits
        )
        self.stage = stage

    def _evidence(self) -> Mapping[str, Evidence]:
        return self.live

    async def round(self) -> str:
        await self.auditor.audit_all()
        row = await self.stage.database.fetchrow("audit_last", DROP_ID)
        assert row is not None
        return str(row["result"])

    def measured(self, kind: str) -> float:
        value: float = self.metrics.drift_units.labels(DROP_ID, kind)._value.get()
        return value

    async def state(self) -> DropState:
        return (await self.stage.world.drops.inspect(DROP_ID)).state


async def test_a_drop_that_adds_up_is_clean_also_while_news_is_on_its_way(stage: DropStage) -> None:
    assert (await stage.audit()).word is AuditWord.CLEAN
    await stage.world.confirm(HELD, amount_minor=2_000)
    assert (await stage.audit()).word is AuditWord.CLEAN, "the payment is in the store and in the journal, not in Postgres"
    await stage.record()
    assert (await stage.audit()).word is AuditWord.CLEAN


async def test_cancelled_orders_surplus_payments_and_extensions_are_understood(stage: DropStage) -> None:
    world = stage.world
    await world.confirm(PAID, reference="again")
    await world.act("extend", [[HELD, "key", "q", 10_000]])
    assert (await stage.audit()).word is AuditWord.CLEAN
    await world.act("release", [[PAID, "q", "merchant", 1]])
    assert (await stage.audit()).word is AuditWord.CLEAN
    await stage.record()
    assert (await stage.audit()).word is AuditWord.CLEAN
    world.at(200_000)
    assert await world.expire() == 1
    assert await world.confirm(HELD, amount_minor=2_000)
    assert (await stage.audit()).word is AuditWord.CLEAN
    await stage.record()
    assert (await stage.audit()).word is AuditWord.CLEAN


async def test_changes_of_stock_are_understood_at_every_step(stage: DropStage, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = StockLedger(stage.database, stage.world.drops)
    await ledger.change(DROP_ID, "more", "s1", 4)
    await ledger.change(DROP_ID, "less", "s1", -1)
    await ledger.change(DROP_ID, "drain", "s1", -7, drain=True)
    assert (await stage.audit()).word is AuditWord.CLEAN
    await stage.record()
    assert (await stage.audit()).word is AuditWord.CLEAN
    await stage.world.release(HELD)
    assert (await stage.audit()).word is AuditWord.CLEAN
    with monkeypatch.context() as patched:
        patched.setattr(ledger._drops, "adjust_stock", _no_answer)
        with pytest.raises(StoreUnknown):
            await ledger.change(DROP_ID, "cut", "s2", 2)
    assert (await stage.audit()).word is AuditWord.CLEAN, "units given in Postgres that the store has yet to take"
    await stage.record()
    await stage.sql("UPDATE stock_changes SET at = at - interval '1 minute'")
    assert await ledger.complete() == 1
    assert (await stage.audit()).word is AuditWord.CLEAN


async def _no_answer(*_: object, **__: object) -> None:
    raise StoreUnavailable(what="No.")


# -------------------------------------------------------------------------------------------------------------- drift


@pytest.mark.parametrize(
    ("field", "by", "kinds"),
    [
        ("available:s1", 1, {("store_sum", "s1", 1)}),
        ("available:s1", -1, {("store_sum", "s1", -1)}),
        ("available:s1", -3, {("store_sum", "s1", -3), ("store_negative", "s1", -1)}),
        ("reserved:s1", 1, {("store_sum", "s1", 1), ("reserved", "s1", 1), ("store_records", "s1", 1)}),
        ("sold:s2", 1, {("store_sum", "s2", 1), ("sold", "s2", 1), ("store_records", "s2", 1)}),
        ("allotment:s2", 2, {("store_sum", "s2", -2), ("allotment", "s2", 2)}),
    ],
)
async def test_a_spoilt_counter_is_found(stage: DropStage, field: str, by: int, kinds: set[tuple[str, str, int]]) -> None:
    await stage.count(field, by)
    assert await stage.drifts() == kinds


async def test_a_lost_record_is_named(stage: DropStage) -> None:
    await stage.store.hdel(KEYS.reservations, HELD)
    assert await stage.drifts() == {("order_unknown", "s1", 2), ("store_records", "s1", 2)}
    drift = await stage.drift("order_unknown")
    assert (drift.ids, drift.ids_total) == ((HELD,), 1)


async def test_a_record_that_had_ended_may_be_forgotten(stage: DropStage) -> None:
    await stage.store.hdel(KEYS.reservations, FREED)
    assert await stage.drifts() == set()


async def test_a_reservation_that_never_expires_is_named(stage: DropStage) -> None:
    await stage.store.zrem(KEYS.expiries, HELD)
    assert await stage.drifts() == {("expiry_missing", "s1", 2)}
    assert (await stage.drift("expiry_missing")).ids == (HELD,)


async def test_a_deleted_order_is_named(stage: DropStage) -> None:
    await stage.forget_order(PAID)
    assert await stage.drifts() == {
        ("postgres_sum", "s1", 1),
        ("postgres_sum", "s2", 1),
        ("order_missing", "s1", 1),
        ("order_missing", "s2", 1),
    }
    assert (await stage.drift("order_missing")).ids == (PAID,)


async def test_a_trimmed_journal_is_found_by_the_orders_it_took_along(stage: DropStage) -> None:
    await stage.world.confirm(HELD, amount_minor=2_000)
    await stage.world.reserve(reserving("ann", f"{DROP_ID}.rnew", s1=1))
    await stage.store.xtrim(KEYS.journal, maxlen=0, approximate=False)
    await stage.record()
    assert await stage.drifts() == {
        ("sold", "s1", 2),
        ("reserved", "s1", -1),
        ("order_behind", "s1", 2),
        ("order_missing", "s1", 1),
    }


async def test_a_changed_sum_in_postgres_is_found(stage: DropStage) -> None:
    await stage.sql("UPDATE drop_skus SET sold = 0 WHERE sku = 's1'")
    assert await stage.drifts() == {("postgres_sum", "s1", -1), ("sold", "s1", 1)}


async def test_an_order_further_than_its_reservation_is_named(stage: DropStage) -> None:
    """As after a store that forgot a payment."""
    record = msgpack.unpackb(await stage.store.hget(KEYS.reservations, PAID))
    record[0] = 4
    await stage.store.hset(KEYS.reservations, PAID, msgpack.packb(record))
    found = await stage.drifts()
    assert ("order_ahead", "s1", 1) in found


async def test_a_unit_sold_that_postgres_refused_is_named(stage: DropStage) -> None:
    await stage.sql("UPDATE drop_skus SET allotment = 2, sold = sold WHERE sku = 's1'")
    await stage.world.confirm(HELD, amount_minor=2_000)
    await stage.record()
    assert (await stage.drift("order_refused")).ids == (HELD,)


async def test_a_journal_nobody_can_read_is_no_verdict(stage: DropStage) -> None:
    await stage.store.xadd(KEYS.journal, {"v": "9"})
    report = await stage.audit()
    assert report.word is AuditWord.UNFINISHED
    assert "cannot be read" in report.why


async def test_entries_that_come_again_change_nothing(stage: DropStage) -> None:
    recorded = await stage.store.xrange(KEYS.journal)
    for _, fields in reversed(recorded):
        await stage.store.xadd(KEYS.journal, fields)
    await stage.world.confirm(HELD, amount_minor=2_000)
    assert (await stage.audit()).word is AuditWord.CLEAN, "an old entry tells what was, and its order is further by now"
    await stage.record()
    assert (await stage.audit()).word is AuditWord.CLEAN


async def test_a_store_that_lost_the_drop_is_recovering_and_not_drift(stage: DropStage) -> None:
    await stage.world.drops.fence(DROP_ID, 1, "rolled_back")
    with pytest.raises(Recovering):
        await stage.audit()
    await stage.store.delete(KEYS.stock)
    with pytest.raises(Recovering):
        await stage.audit()


async def test_only_the_first_ids_are_listed_and_all_are_counted(stage: DropStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.laws.IDS_SHOWN_MAX", 1)
    await stage.store.hdel(KEYS.reservations, HELD, PAID)
    drift = await stage.drift("order_unknown")
    assert (len(drift.ids), drift.ids_total, drift.units) == (1, 2, 3)


# ------------------------------------------------------------------------------------------------- the running auditor

SPOILS = {
    "a counter": lambda stage: stage.count("sold:s1", 1),
    "a record": lambda stage: stage.store.hdel(KEYS.reservations, HELD),
    "an ended record": lambda stage: stage.store.hdel(KEYS.reservations, PAID),
    "an order": lambda stage: stage.forget_order(PAID),
    "a pending order": lambda stage: stage.forget_order(HELD),
    "a sum": lambda stage: stage.sql("UPDATE drop_skus SET sold = 0 WHERE sku = 's1'"),
}


@pytest.mark.parametrize("spoil", SPOILS)
async def test_drift_pauses_the_drop_within_two_rounds_and_says_so_once(stage: DropStage, spoil: str) -> None:
    running = Running(stage)
    assert (await running.round(), await running.state()) == ("clean", DropState.OPEN)
    await SPOILS[spoil](stage)
    assert "drift" in {await running.round(), await running.round()}
    assert await running.state() is DropState.PAUSED
    row = await stage.database.fetchrow("audit_last", DROP_ID)
    assert row is not None
    assert row["paused_at_ms"] is not None
    assert sum(running.measured(kind) for kind in ("store_sum", "order_unknown", "order_missing", "postgres_sum", "sold")) > 0


async def test_the_metric_and_the_reason_go_when_the_drift_goes(stage: DropStage) -> None:
    running = Running(stage)
    await stage.count("sold:s1", 1)
    assert await running.round() == "drift"
    assert running.measured("store_sum") == 1
    await stage.count("sold:s1", -1)
    assert await running.round() == "clean"
    assert running.measured("store_sum") == 0
    assert await running.state() is DropState.PAUSED, "who resumes it is for people to say"
    row = await stage.database.fetchrow("audit_last", DROP_ID)
    assert row is not None
    assert row["paused_at_ms"] is None


async def test_orders_that_postgres_has_lost_with_a_failover_are_no_drift(stage: DropStage) -> None:
    running = Running(stage)
    assert await running.round() == "clean"
    await running.lost_commits.look()
    before = await stage.store.get(POSTGRES)
    system, timeline, flushed = before.split()
    await stage.store.set(POSTGRES, b"%b %d %b" % (system, int(timeline) + 1, flushed))
    await stage.forget_order(PAID)
    await stage.sql("UPDATE drop_skus SET sold = sold - 1 WHERE drop_id = $1", DROP_ID)
    assert await running.round() == "unfinished"
    await stage.record()
    assert (await running.round(), await running.state()) == ("clean", DropState.OPEN)
    assert (await stage.audit()).word is AuditWord.CLEAN, "the kept journal has brought the order back"


async def test_a_drop_resumed_with_its_drift_is_paused_again(stage: DropStage) -> None:
    running = Running(stage)
    await stage.count("sold:s1", 1)
    await running.round()
    await stage.world.steer("resume")
    await running.round()
    assert await running.state() is DropState.PAUSED


async def test_one_drop_in_trouble_does_not_stop_the_audit_of_others(stage: DropStage) -> None:
    running = Running(stage)
    running.live = {"autumn": type(stage.evidence)("autumn", stage.database, stage.store), DROP_ID: stage.evidence}
    with capture_logs() as said:
        assert [await running.round() for _ in range(2)] == ["clean"] * 2
    assert [(line["event"], line["drop"]) for line in said if line["event"].startswith("audit_")] == [("audit_skipped", "autumn")], "once"


async def test_no_alarm_while_orders_flow_and_the_reconciler_is_slow(stage: DropStage) -> None:
    """Shoppers reserve, pay and give back; two consumers record a little at a time; every audit in between is clean."""
    world, running = stage.world, Running(stage)
    await StockLedger(stage.database, world.drops).change(DROP_ID, "much", "s1", 200)
    names = [f"n{number}" for number in range(60)]
    await world.join(*names)
    world.at(2_000)
    await world.beat()
    await world.act("admit", [admission(name) for name in names])
    done = asyncio.Event()

    async def shop() -> None:
        for number, name in enumerate(names):
            first, second = f"{DROP_ID}.ra{number}", f"{DROP_ID}.rb{number}"
            await world.act("reserve", [reserving(name, first, s1=1), reserving(name, second, s1=1)])
            await world.act("confirm", [paying(first, f"pay{number}", 1_000)])
            if number % 3:
                await world.release(second)
            if number % 5 == 0:
                await world.act("release", [[first, "q", "merchant", 1]])
        done.set()

    async def record(batch_rows_max: int) -> None:
        consumer = make_consumer(stage.store, stage.database, DROP_ID, batch_entries_max=3, batch_rows_max=batch_rows_max)
        while not done.is_set():
            load = await consumer._next(10)
            if load:
                await consumer._work(load, asyncio.Event())

    words: list[AuditWord] = []

    async def watch() -> None:
        while not done.is_set():
            assert await running.round() == "clean"
            words.append((await stage.audit()).word)

    async with asyncio.timeout(60):
        await asyncio.gather(shop(), record(1), record(2), watch())
    assert words
    assert set(words) == {AuditWord.CLEAN}
    await stage.record()
    assert (await stage.audit()).word is AuditWord.CLEAN
    assert await running.state() is DropState.OPEN
