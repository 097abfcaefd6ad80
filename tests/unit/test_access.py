"""API keys: what is kept of them, who they stand for, and how a worker knows."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from flashsale import access
from flashsale.access import KEY_ID_LENGTH, AccessKeys, Scope, create_key, list_keys, revoke_key
from flashsale.connections.database import Database, open_database
from flashsale.errors import BadInput, DatabaseUnavailable
from flashsale.settings import PostgresSettings


class FrozenClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class CountingDatabase:
    """Answers `keys_active` from a list, and may be away; everything else is not asked here."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.away = False
        self.asked = 0

    async def fetch(self, name: str, *_: object) -> list[dict[str, Any]]:
        assert name == "keys_active"
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise DatabaseUnavailable(what="Postgres does not answer.")
        return self.rows


def row(secret: str = "s" * 43, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "key_id": "A" * KEY_ID_LENGTH,
        "tenant": "shop",
        "secret_hash": hashlib.sha256(secret.encode()).digest(),
        "scopes": ["storefront"],
        "expires_at": None,
    }
    return {**values, **changes}


KEY = f"fs_live_{'A' * KEY_ID_LENGTH}_{'s' * 43}"


def keys_over(database: Any, clock: FrozenClock | None = None) -> AccessKeys:
    return AccessKeys(database, clock or FrozenClock())


async def test_a_key_is_shown_once_and_only_its_hash_is_stored(database: Database) -> None:
    key_id, key = await create_key(database, [Scope.STOREFRONT, "merchant"], label="till 3", tenant="shop")
    assert key.startswith(f"fs_live_{key_id}_")
    stored = (await database.fetch("keys_active"))[0]
    secret = key.removeprefix(f"fs_live_{key_id}_")
    assert stored["secret_hash"] == hashlib.sha256(secret.encode()).digest()
    listed = (await list_keys(database, "shop"))[0]
    assert (listed.key_id, listed.scopes, listed.label) == (key_id, ("merchant", "storefront"), "till 3")
    assert await list_keys(database, "other") == []
    principal = await keys_over(database).authenticate(key)
    assert principal is not None
    assert (principal.tenant, principal.scopes) == ("shop", frozenset(Scope))


async def test_a_revoked_key_ends_with_the_next_look(database: Database) -> None:
    key_id, key = await create_key(database, [Scope.STOREFRONT])
    keys = keys_over(database)
    await keys.refresh()
    assert await revoke_key(database, key_id)
    assert not await revoke_key(database, "nobody")
    await keys.refresh()
    assert await keys.authenticate(key) is None


@pytest.mark.parametrize("scopes", [[], ["root"], ["storefront", "root"]])
async def test_unknown_scopes_are_refused(database: Database, scopes: list[str]) -> None:
    with pytest.raises(BadInput):
        await create_key(database, scopes)
    assert await list_keys(database) == []


@pytest.mark.parametrize(
    "presented",
    [
        "",
        "x",
        KEY + "x",
        KEY[:-1],
        KEY.replace("fs_live", "fs_test"),
        KEY[:-1] + "t",
        f"fs_live_{'B' * 12}_{'s' * 43}",
        KEY + "\n",
        "é" * 64,
    ],
)
async def test_wrong_keys(presented: str) -> None:
    keys = keys_over(CountingDatabase([row()]))
    await keys.refresh()
    assert await keys.authenticate(presented) is None
    assert await keys.authenticate(KEY) is not None


async def test_a_worker_that_has_read_no_keys_yet_refuses_nobody_for_good() -> None:
    database, clock = CountingDatabase([row()]), FrozenClock()
    keys = keys_over(database, clock)
    database.away = True
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await keys.authenticate(KEY)
        with pytest.raises(DatabaseUnavailable):
            await keys.find("A" * KEY_ID_LENGTH)
    assert await keys.authenticate("no key at all") is None
    database.away = False
    clock.ms += 60_000
    assert await keys.authenticate(KEY) is not None
    database.away = True
    assert await keys.authenticate(KEY.replace("A", "B")) is None


async def test_an_expired_key() -> None:
    clock = FrozenClock()
    keys = keys_over(CountingDatabase([row(expires_at=datetime.fromtimestamp(clock.ms / 1000 + 1, UTC))]), clock)
    await keys.refresh()
    assert await keys.authenticate(KEY) is not None
    clock.ms += 1000
    assert await keys.authenticate(KEY) is None


async def test_keys_go_on_working_while_postgres_is_away() -> None:
    database = CountingDatabase([row()])
    keys = keys_over(database)
    await keys.refresh()
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await keys.refresh()
    assert await keys.authenticate(KEY) is not None


async def test_keys_are_looked_for_again_after_somebody_held_their_table(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "REFRESH_S", 0.01)
    impatient = await open_database(PostgresSettings(url=database_url, pool_size_max=2, statement_timeout_ms=5000, lock_timeout_ms=50))
    _, key = await create_key(database, [Scope.STOREFRONT])
    keys = keys_over(impatient)
    with capture_logs() as lines:
        async with database.transaction() as migration:
            await migration.connection.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
            running = asyncio.create_task(keys.run())
            await until_said(lines, "keys_not_refreshed", running)
        await until_said(lines, "keys_refreshed", running)
    assert await keys.authenticate(key) is not None
    running.cancel()
    await asyncio.wait({running})
    await impatient.close()


async def until_said(lines: list[Any], event: str, running: asyncio.Task[None]) -> None:
    async with asyncio.timeout(30):
        while not any(line["event"] == event for line in lines):
            assert not running.done(), running
            await asyncio.sleep(0.01)


async def test_a_flood_of_unknown_keys_asks_postgres_once() -> None:
    clock, database = FrozenClock(), CountingDatabase([])
    keys = keys_over(database, clock)
    unknown = [f"fs_live_{number:012d}_{'s' * 43}" for number in range(100)]
    assert await asyncio.gather(*(keys.authenticate(key) for key in unknown)) == [None] * 100
    assert database.asked == 1
    database.rows = [row()]
    assert await keys.authenticate(KEY) is None  # too soon after the last look
    clock.ms += 1000
    assert await keys.authenticate(KEY) is not None
    assert database.asked == 2


async def test_a_reading_that_ends_late_does_not_forget_a_newer_key() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    class Overtaken(CountingDatabase):
        async def fetch(self, name: str, *parameters: object) -> list[dict[str, Any]]:
            rows = self.rows
            await super().fetch(name, *parameters)
            if not began.is_set():
                began.set()
                await may_end.wait()
            return rows

    database = Overtaken([])
    keys = keys_over(database)
    first = asyncio.create_task(keys.refresh())
    await began.wait()
    database.rows = [row()]
    second = asyncio.create_task(keys.refresh())
    for _ in range(5):
        await asyncio.sleep(0)
    may_end.set()
    await asyncio.gather(first, second)
    assert await keys.authenticate(KEY) is not None
