"""The agents around the consumer, on real stores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from flashsale.connections.store import open_store
from flashsale.errors import Recovering
from flashsale.settings import ReaperSettings
from reconciler.agents import Loop, keep_running
from reconciler.janitor import Janitor
from reconciler.journal import Journal
from reconciler.metrics import ReconcilerMetrics
from reconciler.reaper import Reaper
from tests.integration.reconciler_stage import DROP, reconciler_settings
from tests.stores import settings_for

if TYPE_CHECKING:
    from redis.asyncio import Redis


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


async def test_a_journal_that_cannot_be_reached_hides_no_other(store: Redis) -> None:
    """As in a Cluster that has lost one node."""
    lost = open_store(settings_for("redis://127.0.0.1:1/0", "postgresql://unused/").store)
    await store.xadd(f"fs:{{{DROP}}}:journal", {"v": "1"}, id="1000-0")
    metrics = ReconcilerMetrics(CollectorRegistry())
    journals = {"autumn": Journal(lost, "autumn", "janitor"), DROP: Journal(store, DROP, "janitor")}
    janitor = Janitor(lambda: journals, metrics, reconciler_settings())
    with capture_logs() as said:
        await janitor.look()
        await janitor.look()
        assert metrics.journal_oldest_age.labels(DROP)._value.get() > 1000
        journals["autumn"] = Journal(store, "autumn", "janitor")
        await janitor.look()
    assert [(line["event"], line["drop"]) for line in said] == [("janitor_held_up", "autumn"), ("janitor_resumed", "autumn")]
    await lost.aclose()


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
