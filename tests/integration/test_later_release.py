"""Journal entries of a release that this one does not know, as a rolling upgrade leaves them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from flashsale.keys import drop_keys
from reconciler import entries
from reconciler.journal import GROUP, START
from tests.integration.reconciler_stage import DROP, Store, entry_fields, make_consumer, make_drop, states, transition, write
from tests.integration.test_reconciler_journal import run_until_finished

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flashsale.connections.database import Database
    from reconciler.consumer import JournalConsumer

KEYS = drop_keys(DROP)
PATIENT_MS = 60_000
"""longer than a test waits"""
DELIVERIES = 7
"""more than a poison entry is given"""


async def delivered(store: Store, entry_id: str, times: int) -> None:
    """Returns once the entry has been delivered so often."""
    async with asyncio.timeout(20):
        while True:
            found = await store.xpending_range(KEYS.journal, GROUP, min=entry_id, max=entry_id, count=1)
            if found and found[0]["times_delivered"] >= times:
                return
            await asyncio.sleep(0.005)


async def acknowledged(store: Store, entry_id: str) -> None:
    """Returns once the entry, the last there is, has been delivered and finished."""
    async with asyncio.timeout(20):
        while True:
            [group] = await store.xinfo_groups(KEYS.journal)
            pending = await store.xpending_range(KEYS.journal, GROUP, min=entry_id, max=entry_id, count=1)
            if group["last-delivered-id"].decode() == entry_id and not pending:
                return
            await asyncio.sleep(0.005)


@asynccontextmanager
async def working(consumer: JournalConsumer) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(consumer.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def test_an_entry_of_a_later_version_waits_for_its_release(store: Store, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_drop(database)
    await store.xgroup_create(KEYS.journal, GROUP, id=START, mkstream=True)
    later = await store.xadd(KEYS.journal, entry_fields([transition("confirmed", 1)]) | {b"v": b"2"})
    await write(store, transition("confirmed", 2))
    async with working(make_consumer(store, database)):
        await delivered(store, later.decode(), DELIVERIES)
    assert await states(database) == {"paid": 1}, "the others flow"
    assert await store.xlen(KEYS.dead) == 0
    monkeypatch.setattr(entries, "VERSION", b"2")
    await run_until_finished(store, make_consumer(store, database))
    assert await states(database) == {"paid": 2}


async def test_a_reconciler_that_cannot_read_an_entry_keeps_nobody_from_it(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look as often as the other; whoever asked first would go on being first."""
    await make_drop(database)
    await store.xgroup_create(KEYS.journal, GROUP, id=START, mkstream=True)
    later = [await store.xadd(KEYS.journal, entry_fields([transition("confirmed", number)]) | {b"v": b"2"}) for number in range(4)]
    async with working(make_consumer(store, database, claim_idle_ms=PATIENT_MS, batch_entries_max=2)):
        for entry_id in later:
            await delivered(store, entry_id.decode(), 1)
        await acknowledged(store, await write(store, transition("confirmed", 9)))
    monkeypatch.setattr(entries, "VERSION", b"2")
    await run_until_finished(store, make_consumer(store, database, claim_idle_ms=PATIENT_MS))
    assert await states(database) == {"paid": 5}
