"""Opening the stores: no hidden repetitions, no mixed-up replies, clear words when something is missing or unsafe."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as StoreTimeoutError

from flashsale.connections import checks as checks_module
from flashsale.connections import database as database_module
from flashsale.connections.checks import Finding, check_database, check_store, require_safe
from flashsale.connections.database import Database, create_database_if_missing, open_database, ping_database
from flashsale.connections.queries import Query, load_queries
from flashsale.connections.store import open_store, ping_store
from flashsale.embedded.programs import valkey_program
from flashsale.embedded.stores import EmbeddedStores
from flashsale.errors import ConfigurationError, DatabaseUnavailable, StoreUnavailable, UnsafeStore
from flashsale.settings import PostgresSettings, StoreSettings

FAILING = """
CREATE OR REPLACE FUNCTION failing(state text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = state; END $$
"""
QUERIES = {
    query.name: query
    for query in [
        Query("numbers", "one to n", "SELECT generate_series(1, $1::int) AS number"),
        Query("make_table", "a table", "CREATE TABLE IF NOT EXISTS things (number int PRIMARY KEY)"),
        Query("add_thing", "a row", "INSERT INTO things VALUES ($1)"),
        Query("count_things", "rows", "SELECT count(*) FROM things"),
        Query("settings", "in force", "SELECT current_setting($1)"),
        Query("sleep", "be slow", "SELECT pg_sleep($1)"),
        Query("make_failing", "raises its argument", FAILING),
        Query("fail", "with a SQLSTATE", "SELECT failing($1)"),
    ]
}


def store_at(url: str, **changes: int) -> StoreSettings:
    return msgspec.structs.replace(StoreSettings(url=url, timeout_ms=500, deadline_ms=1000, connections_max=4), **changes)


def database_at(url: str, **changes: int) -> PostgresSettings:
    return msgspec.structs.replace(PostgresSettings(url=url, pool_size_max=2, statement_timeout_ms=5000, lock_timeout_ms=1000), **changes)


@pytest.fixture
async def things(database_url: str) -> AsyncIterator[Database]:
    opened = await open_database(database_at(database_url), queries=QUERIES)
    await opened.execute("make_table")
    yield opened
    await opened.close()


# ------------------------------------------------------------------------------------------------------------ the store


@asynccontextmanager
async def deaf_proxy(stores: EmbeddedStores, folder: Path) -> AsyncIterator[str]:
    """A socket in front of the store that hands on every request and swallows every reply to an INCR."""
    target = unquote(urlsplit(stores.valkey.url).path)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        up_reader, up_writer = await asyncio.open_unix_connection(target)
        try:
            while request := await reader.read(65536):
                up_writer.write(request)
                reply = await up_reader.read(65536)
                if b"INCR" not in request:
                    writer.write(reply)
        finally:
            up_writer.close()
            writer.close()

    path = folder / "deaf.sock"
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield f"unix://{path}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_command_whose_reply_is_lost_is_not_sent_again(stores: EmbeddedStores, store: Redis, stores_folder: Path) -> None:
    async with deaf_proxy(stores, stores_folder) as url:
        client = open_store(store_at(url, timeout_ms=200))
        started = time.monotonic()
        with pytest.raises(StoreTimeoutError):
            await client.incr("count")
        assert time.monotonic() - started < 1
        pipeline = client.pipeline(transaction=False)
        _ = pipeline.incr("count")
        with pytest.raises(StoreTimeoutError):
            await pipeline.execute()
        await client.aclose()
    assert await store.get("count") == b"2", "one effect per call"


async def test_a_cancelled_command_never_gives_its_reply_to_another(stores: EmbeddedStores, store: Redis) -> None:
    client = open_store(store_at(stores.valkey.url, timeout_ms=5000))
    dice = random.Random(5)
    wrong: list[tuple[str, str]] = []

    async def echo(number: int) -> None:
        answer = await client.execute_command("ECHO", str(number))  # type: ignore[no-untyped-call]
        if answer != str(number).encode():
            wrong.append((str(number), answer))

    for start in range(0, 1000, 50):
        tasks = [asyncio.create_task(echo(number)) for number in range(start, start + 50)]
        for task in dice.sample(tasks, 25):
            asyncio.get_running_loop().call_later(dice.random() * 0.004, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
    assert wrong == []
    # None of the four connections was lost to a cancelled caller.
    await asyncio.wait_for(asyncio.gather(*(client.blpop(["nothing"], 0.2) for _ in range(4))), 5)
    await client.aclose()


async def test_callers_wait_for_a_free_connection_but_not_for_ever(stores: EmbeddedStores, store: Redis) -> None:
    client = open_store(store_at(stores.valkey.url, connections_max=1, timeout_ms=300), blocks_ms=2000)
    blocking = asyncio.ensure_future(client.blpop(["nothing"], 1))
    await asyncio.sleep(0.05)
    with pytest.raises(StoreConnectionError, match="No connection available"):
        await client.ping()
    assert await blocking is None, "a blocking command may outlast the time limit by what was said"
    assert await client.ping()
    await client.aclose()


async def test_replies_are_bytes_in_the_older_protocol(store: Redis) -> None:
    await store.hset("hash", mapping={"a": 1})
    assert await store.hgetall("hash") == {b"a": b"1"}
    client_info = await store.client_info()
    assert client_info["resp"] == "2"
    assert client_info["name"] == "flashsale"


async def test_a_store_that_is_not_there_says_so_without_its_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"redis://:\*\*\*@127\.0\.0\.1:1/0 does not answer: .*refused") as caught:
        await ping_store("redis://:hunter2@127.0.0.1:1/0", timeout_ms=500)
    assert "hunter2" not in str(caught.value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def bare_valkey(folder: Path, *arguments: str) -> AsyncIterator[int]:
    """A Valkey on a free port with arguments of its own; gives the port."""
    port = free_port()
    safe = ("--appendonly", "yes", "--appendfsync", "always", "--bind", "127.0.0.1")
    home = folder / str(port)
    home.mkdir()
    process = await asyncio.create_subprocess_exec(
        valkey_program(), *arguments, "--port", str(port), "--dir", home, *safe, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def until_it_works(attempt: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(StoreUnavailable, RedisError):
                if await attempt():
                    return
            await asyncio.sleep(0.05)


async def test_a_cluster_is_reached_through_any_of_its_nodes(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        # Left alone, the nodes would talk on port + 10000, which may not exist.
        buses = [free_port() for _ in range(3)]
        clustered = [("--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in buses]
        ports = [await stack.enter_async_context(bare_valkey(tmp_path, *arguments)) for arguments in clustered]
        nodes = [open_store(store_at(f"redis://127.0.0.1:{port}")) for port in ports]
        slots = ((0, 5460), (5461, 10922), (10923, 16383))
        for node, (first, last) in zip(nodes, slots, strict=True):
            stack.push_async_callback(node.aclose)
            await until_it_works(node.ping)
            await node.execute_command("CLUSTER ADDSLOTSRANGE", first, last)  # type: ignore[no-untyped-call]
            await node.execute_command("CLUSTER MEET", "127.0.0.1", ports[0], buses[0])  # type: ignore[no-untyped-call]

        async def agreed() -> bool:
            states = [(await node.cluster("INFO"))["cluster_state"] for node in nodes]
            return states == ["ok"] * 3

        await until_it_works(agreed)
        client = open_store(store_at(f"redis+cluster://127.0.0.1:{ports[1]}"))
        stack.push_async_callback(client.aclose)
        for number in range(30):
            await client.set(f"{{drop{number}}}:key", number)
        assert [await client.get(f"{{drop{number}}}:key") for number in range(30)] == [b"%d" % number for number in range(30)]
        sizes = [await node.dbsize() for node in nodes]
        assert sum(sizes) == 30
        assert all(sizes), "drops spread over the nodes"
        require_safe(await check_store(client))
        await nodes[2].config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(UnsafeStore, match="noeviction"):
            require_safe(await check_store(client))


async def test_sentinel_leads_to_the_primary(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        primary = await stack.enter_async_context(bare_valkey(tmp_path, "--requirepass", "pass@word"))
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(f"sentinel monitor main 127.0.0.1 {primary} 1\nsentinel auth-pass main pass@word\n", encoding="ascii")
        sentinel = await stack.enter_async_context(bare_valkey(tmp_path, str(configuration), "--sentinel"))
        client = open_store(store_at(f"redis+sentinel://:pass%40word@127.0.0.1:{sentinel},127.0.0.1:1/main/2"))
        stack.push_async_callback(client.aclose)
        await until_it_works(client.ping)
        client_info = await client.client_info()
        assert (client_info["db"], client_info["resp"]) == (2, "2")
        require_safe(await check_store(client))


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis+sentinel://127.0.0.1:26379", "redis+sentinel://host:port/main"])
async def test_a_store_url_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="URL"):
        _ = open_store(store_at(url))


@pytest.mark.parametrize("password", ["hunter2/x", "x/hunter2", "hunter2?x"])
async def test_the_password_of_a_malformed_url_is_not_shown(password: str) -> None:
    with pytest.raises(ConfigurationError) as store_refused:
        _ = open_store(store_at(f"redis://:{password}@127.0.0.1:x/0"))
    opened = await open_database(database_at(f"postgresql://u:{password}@127.0.0.1:x/name"), queries=QUERIES)
    with pytest.raises((ConfigurationError, DatabaseUnavailable)) as database_refused:
        await opened.fetchval("numbers", 1)
    for refused in (store_refused, database_refused):
        assert "hunter2" not in str(refused.value)


# --------------------------------------------------------------------------------------------------------- named queries


def test_queries_have_a_name_a_purpose_and_one_statement(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text(
        "-- Orders.\n\n-- name: first\n-- What it is for,\n-- in two lines.\nSELECT 1\nWHERE true;\n\n"
        "-- name: second\n-- Other.\nSELECT 2;\n",
        encoding="utf-8",
    )
    queries = load_queries(tmp_path)
    assert queries["first"] == Query("first", "What it is for, in two lines.", "-- first\nSELECT 1\nWHERE true")
    assert queries["second"].sql == "-- second\nSELECT 2"
    assert set(queries) == {"first", "second"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1;", "no block that begins"),
        ("-- name: First\n-- Purpose.\nSELECT 1;", "not a query name"),
        ("-- name:\n-- Purpose.\nSELECT 1;", "not a query name"),
        ("-- name: first\nSELECT 1;", "needs a comment line"),
        ("-- name: first\n-- Purpose.\n", "then a statement"),
        ("-- name: first\n-- P.\nSELECT 1;\n-- name: first\n-- P.\nSELECT 2;", "two queries named first"),
    ],
)
def test_a_query_file_out_of_form_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "bad.sql").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"bad\.sql: .*{complaint}"):
        load_queries(tmp_path)


async def test_every_shipped_query_is_accepted_by_the_migrated_schema(database: Database) -> None:
    assert database.queries
    async with database.acquire() as session:
        for query in database.queries.values():
            await session.connection.prepare(query.sql)


# ---------------------------------------------------------------------------------------------------------- the database


async def test_queries_are_asked_for_by_name(things: Database) -> None:
    assert [row["number"] for row in await things.fetch("numbers", 3)] == [1, 2, 3]
    row = await things.fetchrow("numbers", 1)
    assert row is not None
    assert row["number"] == 1
    assert await things.fetchrow("numbers", 0) is None
    assert await things.fetchval("numbers", 1) == 1
    assert await things.execute("add_thing", 7) == "INSERT 0 1"
    with pytest.raises(KeyError, match="no_such_query"):
        await things.fetch("no_such_query")


async def test_a_transaction_is_all_or_nothing(things: Database) -> None:
    async with things.transaction() as session:
        await session.execute("add_thing", 1)
        await session.executemany("add_thing", [(2,), (3,)])
    assert await things.fetchval("count_things") == 3

    async def fail_halfway() -> None:
        async with things.transaction() as session:
            await session.execute("add_thing", 4)
            raise RuntimeError("halfway")

    async def break_a_constraint() -> None:
        async with things.transaction() as session:
            await session.execute("add_thing", 5)
            await session.execute("add_thing", 1)

    with pytest.raises(RuntimeError, match="halfway"):
        await fail_halfway()
    with pytest.raises(asyncpg.UniqueViolationError):
        await break_a_constraint()
    assert await things.fetchval("count_things") == 3


async def test_a_savepoint_loses_only_itself(things: Database) -> None:
    async with things.transaction() as session:
        await session.execute("add_thing", 1)
        with pytest.raises(asyncpg.UniqueViolationError):
            async with session.transaction():
                await session.execute("add_thing", 1)
        await session.execute("add_thing", 2)
    assert await things.fetchval("count_things") == 2


async def test_a_cancelled_transaction_rolls_back_and_frees_its_connection(things: Database) -> None:
    inside = asyncio.Event()

    async def hang() -> None:
        async with things.transaction() as session:
            await session.execute("add_thing", 1)
            inside.set()
            await session.execute("sleep", 30)

    for _ in range(3):  # one more than there are connections
        inside.clear()
        task = asyncio.create_task(hang())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await things.fetchval("count_things") == 0


async def test_the_time_limits_are_the_servers(database_url: str) -> None:
    opened = await open_database(database_at(database_url, statement_timeout_ms=200, lock_timeout_ms=123), queries=QUERIES)
    assert await opened.fetchval("settings", "statement_timeout") == "200ms"
    assert await opened.fetchval("settings", "lock_timeout") == "123ms"
    assert await opened.fetchval("settings", "idle_in_transaction_session_timeout") == "200ms"
    with pytest.raises(DatabaseUnavailable, match="cannot do it now: canceling statement due to statement timeout"):
        await opened.execute("sleep", 5)
    await opened.close()


async def test_a_snapshot_may_be_idle_for_longer_than_a_statement_may_take(database_url: str) -> None:
    opened = await open_database(database_at(database_url, statement_timeout_ms=100), queries=QUERIES)
    async with opened.acquire() as session:
        async with session.transaction(snapshot=True):
            await session.fetch("numbers", 1)
            await asyncio.sleep(0.3)  # as a recovery does that reads a long line from the store
            assert await session.fetchval("numbers", 1) == 1
        assert await session.fetchval("settings", "idle_in_transaction_session_timeout") == "100ms"
    await opened.close()


@pytest.mark.parametrize("state", ["40001", "40P01", "53100", "53200", "55P03", "57014", "58030", "25P03"])
async def test_what_could_work_another_time_is_unavailable(things: Database, state: str) -> None:
    await things.execute("make_failing")
    with pytest.raises(DatabaseUnavailable, match="cannot do it now: as asked"):
        await things.fetch("fail", state)
    with pytest.raises(DatabaseUnavailable):
        async with things.transaction() as session:
            await session.fetch("fail", state)


@pytest.mark.parametrize("state", ["22003", "23514", "42501", "55000", "P0001"])
async def test_what_will_never_work_is_not_called_unavailable(things: Database, state: str) -> None:
    await things.execute("make_failing")
    with pytest.raises(asyncpg.PostgresError, match="as asked"):
        await things.fetch("fail", state)


async def test_opening_needs_no_server_and_using_says_what_is_wrong() -> None:
    opened = await open_database(database_at("postgresql://user:hunter2@127.0.0.1:1/name"), queries=QUERIES)
    with pytest.raises(DatabaseUnavailable, match=r"Postgres at postgresql://user:\*\*\*@127\.0\.0\.1:1/name does not answer: "):
        await opened.fetchval("numbers", 1)
    await opened.close()


async def test_a_database_that_does_not_exist_is_unavailable(stores: EmbeddedStores) -> None:
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        await ping_database(stores.postgres.url_for(database="nowhere"), timeout_ms=2000)


async def test_an_exhausted_pool_is_unavailable_not_a_hang(things: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "CONNECT_TIMEOUT_S", 0.1)
    async with things.acquire(), things.acquire():
        with pytest.raises(DatabaseUnavailable):
            await things.fetchval("numbers", 1)
    assert await things.fetchval("numbers", 1) == 1


async def test_a_connection_that_ends_while_it_is_held_is_unavailable_too(things: Database) -> None:
    async with things.acquire() as session, things.acquire() as other:
        held: Any = session.connection
        await other.connection.execute("SELECT pg_terminate_backend($1)", held.get_server_pid())
        async with asyncio.timeout(20):
            while held._con is not None:  # noqa: ASYNC110 - asyncpg tells nobody
                await asyncio.sleep(0.005)
        with pytest.raises(DatabaseUnavailable, match="released back to the pool"):
            await session.fetchval("numbers", 1)
        with pytest.raises(DatabaseUnavailable):
            async with session.transaction():
                pass
    assert await things.fetchval("numbers", 1) == 1


async def test_it_goes_on_by_itself_after_postgres_was_away(fresh_stores: EmbeddedStores) -> None:
    opened = await open_database(database_at(fresh_stores.postgres.url), queries=QUERIES)
    assert await opened.fetchval("numbers", 1) == 1
    async with opened.acquire() as session:
        hanging = asyncio.create_task(session.execute("sleep", 30))
        await asyncio.sleep(0.1)
        await fresh_stores.postgres.kill()
        with pytest.raises(DatabaseUnavailable):
            await hanging
    with pytest.raises(DatabaseUnavailable):
        await opened.fetchval("numbers", 1)
    await fresh_stores.postgres.start()
    assert await opened.fetchval("numbers", 1) == 1
    await opened.close()


async def test_a_database_is_created_once(stores: EmbeddedStores) -> None:
    name = 'odd "name"'
    for _ in range(2):
        await create_database_if_missing(stores.postgres.url, name)
    await ping_database(stores.postgres.url_for(database=name), timeout_ms=2000)


@pytest.mark.parametrize("url", ["mysql://host/name", "postgresql://host:notaport/name"])
async def test_a_database_url_that_means_nothing_is_refused(url: str) -> None:
    async def use() -> None:
        opened = await open_database(database_at(url), queries=QUERIES)
        await opened.fetchval("numbers", 1)

    with pytest.raises(ConfigurationError, match="URL"):
        await use()


# --------------------------------------------------------------------------------------------------------------- checks


def of(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


async def test_the_embedded_stores_are_safe(store: Redis, database: Database) -> None:
    findings = [*await check_store(store), *await check_database(database)]
    assert {finding.name: finding.level for finding in findings} == dict.fromkeys(
        [
            "store.version",
            "store.eviction",
            "store.persistence",
            "store.clock",
            "postgres.version",
            "postgres.durability",
            "postgres.role",
            "postgres.clock",
        ],
        "ok",
    )
    require_safe(findings)
    assert of(findings, "store.version").what.startswith("Valkey 9.")


@pytest.mark.parametrize(
    ("setting", "value", "name", "level"),
    [
        ("maxmemory-policy", "allkeys-lru", "store.eviction", "unsafe"),
        ("appendonly", "no", "store.persistence", "unsafe"),
        ("appendfsync", "no", "store.persistence", "unsafe"),
        ("appendfsync", "everysec", "store.persistence", "warn"),
    ],
)
async def test_an_unsafe_store_is_told_what_to_change(store: Redis, setting: str, value: str, name: str, level: str) -> None:
    safe = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always"}
    await store.config_set(setting, value)
    try:
        findings = await check_store(store)
    finally:
        await store.config_set(setting, safe[setting])
    assert of(findings, name).level == level
    if level == "unsafe":
        with pytest.raises(UnsafeStore, match=f"Set {setting} {safe[setting]}"):
            require_safe(findings)
    else:
        require_safe(findings)


async def test_a_store_that_hides_its_settings_is_a_warning(stores: EmbeddedStores, store: Redis) -> None:
    await store.acl_setuser("guest", enabled=True, nopass=True, categories=["+@all"], commands=["-config"])
    url = stores.valkey.url.replace("unix://", "unix://guest:any@")
    client = open_store(store_at(url))
    try:
        findings = await check_store(client)
    finally:
        await client.aclose()
        await store.acl_deluser("guest")
    assert of(findings, "store.settings").level == "warn"
    require_safe(findings)


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"valkey_version": "7.2.9", "redis_version": "7.2.4"}, "unsafe"),
        ({"valkey_version": "8.0.0", "redis_version": "7.2.4"}, "ok"),
        ({"valkey_version": "10.1.0", "redis_version": "7.2.4"}, "ok"),
        ({"redis_version": "7.0.15"}, "unsafe"),
        ({"redis_version": "7.2.0"}, "ok"),
        ({"redis_version": 8.1}, "ok"),
        ({}, "unsafe"),
    ],
)
def test_versions(info: dict[str, object], level: str) -> None:
    assert checks_module._store_version(info).level == level


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("SET synchronous_commit = off", "Set synchronous_commit = on"),
    ],
)
async def test_an_unsafe_database_is_told_what_to_change(things: Database, database_url: str, statement: str, complaint: str) -> None:
    async with things.acquire() as session:
        name = await session.connection.fetchval("SELECT current_database()")
        await session.connection.execute(f"ALTER DATABASE {name} {statement}")
    opened = await open_database(database_at(database_url), queries=QUERIES)
    findings = await check_database(opened)
    await opened.close()
    with pytest.raises(UnsafeStore, match=complaint):
        require_safe(findings)


@pytest.mark.parametrize(
    ("difference_ms", "level", "word"),
    [(0, "ok", "agrees"), (-250, "ok", "agrees"), (251, "warn", "ahead"), (-1999, "warn", "behind"), (2001, "unsafe", "ahead")],
)
def test_clock_differences(difference_ms: float, level: str, word: str) -> None:
    finding = checks_module._judge_clock("store", difference_ms)
    assert finding.level == level
    assert word in finding.what


@pytest.fixture
def shifted_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(checks_module.time, "time", lambda: real() - 3600)  # type: ignore[attr-defined]


async def test_a_clock_an_hour_off_is_unsafe(store: Redis, database: Database, shifted_clock: None) -> None:
    for name, findings in (("store.clock", await check_store(store)), ("postgres.clock", await check_database(database))):
        assert of(findings, name).level == "unsafe"
        assert "ahead of" in of(findings, name).what
        with pytest.raises(UnsafeStore, match="Let NTP set both clocks"):
            require_safe(findings)


def test_all_that_is_unsafe_is_said_at_once() -> None:
    findings = [
        Finding("a", "unsafe", "First is wrong.", "Mend the first."),
        Finding("b", "warn", "Not so bad.", "Maybe."),
        Finding("c", "unsafe", "Second is wrong.", "Mend the second."),
    ]
    with pytest.raises(UnsafeStore) as caught:
        require_safe(findings)
    assert str(caught.value) == "First is wrong. Second is wrong. Mend the first. Mend the second."
