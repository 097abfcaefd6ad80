"""Postgres loses commits it had acknowledged: the orders come again from the kept journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from chaos.standby import copied, replaced_by
from flashsale.connections.database import open_database
from flashsale.connections.store import open_store
from flashsale.keys import DROPS, POSTGRES, drop_keys
from reconciler.consumer import JournalConsumer
from reconciler.journal import Journal
from reconciler.lost_commits import LostCommits, Position
from reconciler.metrics import ReconcilerMetrics
from reconciler.migrations import migrate
from reconciler.orders import OrderRecorder
from reconciler.stock import StockRecorder
from tests.integration.reconciler_stage import (
    DROP,
    NOW_MS,
    Store,
    make_consumer,
    make_drop,
    query,
    reconciler_settings,
    settings_with,
    sold,
    states,
    transition,
    write,
)
from tests.integration.test_reconciler_journal import run_until_finished
from tests.integration.test_reconciler_process import all_finished, running, until
from tests.stores import settings_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flashsale.connections.database import Database
    from flashsale.embedded.stores import EmbeddedStores

LOOK_MS = 1_000


async def undelivered(store: Store) -> int:
    """Entries the group is still to be given."""
    (group,) = await store.xinfo_groups(drop_keys(DROP).journal)
    return len(await store.xrange(drop_keys(DROP).journal, min="(" + group["last-delivered-id"].decode()))


async def somewhere_else(store: Store, database: Database) -> None:
    """The store remembers a Postgres that had come further than the one there is."""
    row = await database.fetchrow("postgres_position")
    assert row is not None
    await store.set(POSTGRES, f"{row['system']} {row['timeline']} {row['flushed'] + 2**40}")


async def remembers_now(store: Store, database: Database) -> Callable[[], Awaitable[bool]]:
    """Whether the store has noted how far Postgres is at this moment; it does so at intervals."""
    row = await database.fetchrow("postgres_position")
    assert row is not None

    async def remembers() -> bool:
        noted = await store.get(POSTGRES)
        return noted is not None and int(noted.split()[2]) >= row["flushed"]

    return remembers


@pytest.mark.parametrize("how", ["a standby is promoted", "an old copy is started"])
async def test_what_a_copy_lacks_comes_again(fresh_stores: EmbeddedStores, how: str) -> None:
    await migrate(fresh_stores.postgres.url)
    settings = settings_with(settings_for(fresh_stores.valkey.url, fresh_stores.postgres.url))
    store, database = open_store(settings.store), await open_database(settings.postgres)
    try:
        await make_drop(database)
        await store.sadd(DROPS, DROP)
        async with running(settings, database):
            for number in range(10):
                await write(store, transition("confirmed", number))
            await until(lambda: all_finished(store))
            copy = await copied(fresh_stores.postgres)
            await write(store, transition("cancelled", 0, at_ms=NOW_MS + 1))
            for number in range(10, 30):
                await write(store, transition("confirmed", number))
            await until(lambda: all_finished(store))
            await until(await remembers_now(store, database))
        assert await states(database) == {"paid": 29, "refund_due": 1}
        await replaced_by(fresh_stores.postgres, copy, promoted=how == "a standby is promoted")

        async def complete() -> bool:
            return await states(database) == {"paid": 29, "refund_due": 1} and await all_finished(store)

        assert await states(database) == {"paid": 10}
        # Nobody that has seen the old one is left: the store remembers it.
        async with running(settings, database):
            await until(complete)
        assert await sold(database) == {"cap": 0, "shirt": 29}
        ((events,),) = await query(database, "SELECT count(*) FROM (SELECT DISTINCT reservation_id, event FROM outbox) AS told")
        assert events == 31
    finally:
        await database.close()
        await store.aclose()


async def test_a_postgres_that_goes_on_is_left_alone(store: Store, database: Database) -> None:
    await make_drop(database)
    await store.sadd(DROPS, DROP)
    await write(store, transition("confirmed", 1))
    await make_consumer(store, database).drain()
    watching = LostCommits(database, store, LOOK_MS)
    for number in range(3):
        await watching.look()
        await make_drop(database, f"another-{number}")
    assert watching.noticed == 0
    assert await undelivered(store) == 0


async def test_it_is_noticed_once_by_everybody_and_read_again_once(store: Store, database: Database) -> None:
    await make_drop(database)
    await store.sadd(DROPS, DROP, "without-a-journal")
    await write(store, transition("confirmed", 1))
    await make_consumer(store, database).drain()
    await somewhere_else(store, database)
    one, other = LostCommits(database, store, LOOK_MS), LostCommits(database, store, LOOK_MS)
    await one.look()
    assert await undelivered(store) == 1
    await make_consumer(store, database).drain()
    await one.look()
    await other.look()
    assert (one.noticed, other.noticed) == (1, 0)
    assert await undelivered(store) == 0


def test_only_the_same_database_further_on_has_everything() -> None:
    earlier = Position(7, 1, 50)
    assert Position(7, 1, 50).follows(earlier)
    assert not Position(7, 1, 49).follows(earlier)
    assert not Position(7, 2, 60).follows(earlier)
    assert not Position(8, 1, 60).follows(earlier)


async def test_the_reconciler_role_may_look(database: Database) -> None:
    async with database.transaction() as session:
        await session.connection.execute("SET LOCAL ROLE flashsale_reconciler")
        row = await session.fetchrow("postgres_position")
    assert row is not None
    assert row["timeline"] == 1


async def test_a_note_nobody_can_read_is_written_anew(store: Store, database: Database) -> None:
    await store.set(POSTGRES, "not a position")
    watching = LostCommits(database, store, LOOK_MS)
    await watching.look()
    assert watching.noticed == 0
    assert len((await store.get(POSTGRES)).split()) == 3


async def test_a_payment_is_not_refused_while_what_frees_its_unit_is_forgotten(store: Store, database: Database) -> None:
    await make_drop(database, shirts=1)
    await store.sadd(DROPS, DROP)
    await write(store, transition("confirmed", 1))
    await make_consumer(store, database).drain()
    await write(store, transition("cancelled", 1, at_ms=NOW_MS + 1))
    # Acknowledged, and not in Postgres any more.
    forgotten = Journal(store, DROP, "before the failover")
    await forgotten.ack([entry.entry_id for entry in await forgotten.read(10)])
    await somewhere_else(store, database)
    await write(store, transition("confirmed", 2, at_ms=NOW_MS + 2))
    consumer = JournalConsumer(
        DROP,
        Journal(store, DROP, "after it"),
        OrderRecorder(database),
        StockRecorder(database),
        ReconcilerMetrics(CollectorRegistry()),
        reconciler_settings(),
        before_refusing=LostCommits(database, store, LOOK_MS).look,
    )
    await run_until_finished(store, consumer)
    assert await states(database) == {"refund_due": 1, "paid": 1}
    ((reason,),) = await query(database, "SELECT reason FROM orders WHERE state = 'refund_due'")
    assert reason == "merchant:other", "the order that was cancelled, and not the payment that came after it"
