"""The auditor's laws, and the agents around them, on real stores."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from flashsale.errors import Recovering
from flashsale.settings import ReaperSettings
from reconciler.agents import Loop, keep_running
from reconciler.auditor import Auditor, AuditWord, Backlog, SkuTotals, audit
from reconciler.janitor import Janitor
from reconciler.journal import Journal, JournalMark
from reconciler.metrics import ReconcilerMetrics
from reconciler.reaper import Reaper
from tests.integration.reconciler_stage import DROP, make_consumer, make_drop, query, reconciler_settings, transition, write

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from flashsale.connections.database import Database


@dataclass(frozen=True)
class Stock:
    allotment: int = 10
    available: int = 4
    reserved: int = 3
    sold: int = 3


@dataclass(frozen=True)
class Look:
    skus: dict[str, Stock] = field(default_factory=lambda: {"shirt": Stock()})
    reservations_live: int = 3


TOTALS = SkuTotals(allotment=10, sold=3, counted_units=3, paid_units=3, pending_units=3)
FINISHED = JournalMark(last_id="5-0", oldest_unfinished_ms=None)
QUIET = Backlog(FINISHED, FINISHED)
BEHIND = Backlog(JournalMark("5-0", 40), FINISHED)
MOVING = Backlog(FINISHED, JournalMark("6-0", None))


def test_when_everything_adds_up_the_word_is_clean() -> None:
    report = audit(Look(), {"shirt": TOTALS}, QUIET)
    assert (report.word, report.drifts, report.drift_units) == (AuditWord.CLEAN, (), 0)


@pytest.mark.parametrize("backlog", [BEHIND, MOVING, Backlog(FINISHED, JournalMark("5-0", 3))])
def test_a_difference_the_journal_may_explain_is_not_drift(backlog: Backlog) -> None:
    behind = replace(TOTALS, sold=1, counted_units=1, paid_units=1, pending_units=0)
    report = audit(Look(), {"shirt": behind}, backlog)
    assert report.word is AuditWord.UNFINISHED
    assert (report.behind["shirt"].sold, report.behind["shirt"].reserved) == (2, 3)


@pytest.mark.parametrize(
    ("stock", "totals", "backlog", "law", "units"),
    [
        (Stock(available=5), TOTALS, BEHIND, "store: allotment", 1),
        (Stock(available=3), TOTALS, BEHIND, "store: allotment", -1),
        (Stock(available=-1, reserved=8), TOTALS, BEHIND, "store: no negative", -1),
        (Stock(), replace(TOTALS, counted_units=2), BEHIND, "Postgres: sold = units", 1),
        (Stock(), replace(TOTALS, sold=11, counted_units=11), BEHIND, "Postgres: sold <=", 1),
        (Stock(), replace(TOTALS, sold=4, counted_units=4), BEHIND, "both: Postgres has sold no", -1),
        (Stock(), replace(TOTALS, allotment=12), BEHIND, "both: the same allotment", -2),
        (Stock(), replace(TOTALS, sold=1, counted_units=1), QUIET, "both: the same units sold", 2),
        (Stock(), replace(TOTALS, pending_units=2), QUIET, "both: the units reserved", 1),
    ],
)
def test_each_broken_law_is_drift_and_named(stock: Stock, totals: SkuTotals, backlog: Backlog, law: str, units: int) -> None:
    report = audit(Look(skus={"shirt": stock}), {"shirt": totals}, backlog)
    assert report.word is AuditWord.DRIFT
    found = {drift.law: drift.units for drift in report.drifts if drift.law.startswith(law)}
    assert list(found.values()) == [units]
    assert report.drift_units >= abs(units)


def test_a_sku_only_one_side_knows_is_drift() -> None:
    for report in (audit(Look(), {}, QUIET), audit(Look(skus={}, reservations_live=0), {"shirt": TOTALS}, QUIET)):
        assert [drift.law for drift in report.drifts][-1] == "the store and Postgres know the same SKUs"


@pytest.mark.parametrize("live", [0, 4])
def test_reserved_units_without_a_live_reservation_are_drift_and_so_is_the_reverse(live: int) -> None:
    report = audit(Look(reservations_live=live), {"shirt": TOTALS}, QUIET)
    assert [(drift.sku, drift.units) for drift in report.drifts] == [("", 3 - live)]


@pytest.fixture
async def auditor(store: Redis, database: Database) -> Auditor:
    await make_drop(database, shirts=10, caps=0)

    async def look(drop_id: str) -> Look:
        assert drop_id == DROP
        stock = {"shirt": Stock(available=7, reserved=1, sold=2), "cap": Stock(allotment=0, available=0, reserved=0, sold=0)}
        return Look(stock, reservations_live=1)

    def journals() -> dict[str, Journal]:
        return {DROP: Journal(store, DROP, "auditor")}

    return Auditor(look, database, journals, ReconcilerMetrics(CollectorRegistry()), reconciler_settings())


async def test_an_audit_goes_from_unfinished_to_clean_to_drift(auditor: Auditor, store: Redis, database: Database) -> None:
    journal = Journal(store, DROP, "auditor")
    await write(store, transition("confirmed", 1), transition("confirmed", 2), transition("reserved", 3))
    assert (await auditor.audit_drop(DROP, journal)).word is AuditWord.UNFINISHED
    await make_consumer(store, database).drain()
    assert (await auditor.audit_drop(DROP, journal)).word is AuditWord.CLEAN
    await query(database, "UPDATE drop_skus SET sold = 1 WHERE sku = 'shirt'")
    report = await auditor.audit_drop(DROP, journal)
    assert report.word is AuditWord.DRIFT
    await auditor.audit_all()
    assert auditor._metrics.audit_drift_units.labels(DROP)._value.get() == report.drift_units > 0


async def test_a_drop_that_cannot_be_read_does_not_stop_the_audit(auditor: Auditor, store: Redis) -> None:
    async def recovering(drop_id: str) -> Look:
        if drop_id == "autumn":
            raise Recovering(what="The drop is being recovered.")
        return Look({}, 0)

    auditor._inspect = recovering
    auditor._journals = lambda: {name: Journal(store, name, "auditor") for name in ("autumn", DROP)}
    await auditor.audit_all()
    assert auditor._metrics.audit_drift_units.labels(DROP)._value.get() > 0


async def test_the_janitor_measures_and_trims(store: Redis) -> None:
    metrics = ReconcilerMetrics(CollectorRegistry())
    journal = Journal(store, DROP, "janitor")
    for number in range(300):
        await store.xadd(f"fs:{{{DROP}}}:journal", {"v": "1"}, id=f"1000-{number}")
    janitor = Janitor(lambda: {DROP: journal}, metrics, reconciler_settings(keep_finished_ms=0))
    await janitor.look()
    assert metrics.journal_oldest_age.labels(DROP)._value.get() > 1000
    await journal.ack([entry.entry_id for entry in await journal.read(300)])
    await janitor.look()
    assert metrics.journal_oldest_age.labels(DROP)._value.get() == 0
    assert await store.xlen(f"fs:{{{DROP}}}:journal") < 150


async def test_the_reaper_goes_on_until_a_batch_is_not_full_and_past_a_drop_in_trouble() -> None:
    overdue = {DROP: 25, "autumn": 3, "lost": 9}
    calls: list[str] = []

    async def expire(drop_id: str, batch_size_max: int) -> int:
        calls.append(drop_id)
        if drop_id == "lost":
            raise Recovering(what="The drop is being recovered.")
        ended = min(batch_size_max, overdue[drop_id])
        overdue[drop_id] -= ended
        return ended

    metrics = ReconcilerMetrics(CollectorRegistry())
    reaper = Reaper(expire, overdue.keys, metrics, ReaperSettings(interval_ms=50, batch_size_max=10))
    assert await reaper.reap() == 28
    assert sorted(calls) == ["autumn", "lost", *[DROP] * 3]
    assert metrics.expired.labels(DROP)._value.get() == 25
    metrics.forget(DROP)
    assert metrics.expired.labels(DROP)._value.get() == 0


async def test_an_agent_that_fails_is_started_again_and_others_go_on() -> None:
    stop, again = asyncio.Event(), asyncio.Event()
    runs = 0

    async def step() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ZeroDivisionError
        again.set()

    running = asyncio.create_task(keep_running(Loop("shaky", 10, step), stop))
    async with asyncio.timeout(5):
        await again.wait()
        stop.set()
        await running


async def test_the_reaper_stops_at_once() -> None:
    stop, looked = asyncio.Event(), asyncio.Event()

    async def expire(drop_id: str, batch_size_max: int) -> int:
        looked.set()
        return 0

    reaper = Reaper(expire, lambda: [DROP], ReconcilerMetrics(CollectorRegistry()), ReaperSettings(interval_ms=1500, batch_size_max=10))
    running = asyncio.create_task(reaper.run(stop))
    await looked.wait()
    stop.set()
    async with asyncio.timeout(1):
        await running
