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
