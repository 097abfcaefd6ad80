"""The two stores: open, check, close.

Nothing here repeats a command by itself. A script may have run although its reply was lost, so only the caller, who knows
the ids that make a repetition harmless, may send it again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import SplitResult, unquote, urlsplit

import asyncpg
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel, SentinelConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from flashsale.errors import ConfigurationError, DatabaseUnavailable, StoreUnavailable, UnsafeStore
from flashsale.resources import resource_dir
from flashsale.settings import PostgresSettings, StoreSettings

Row: TypeAlias = asyncpg.Record

# The older protocol has reply shapes that never changed; nothing here needs what RESP3 adds.
RESP_VERSION = 2
CONNECT_TIMEOUT_S = 5.0
# A server that stopped answering is left this long after its own statement timeout should have fired.
STATEMENT_GRACE_S = 2.0

VALKEY_VERSION_MIN = (8, 0)
REDIS_VERSION_MIN = (7, 2)
POSTGRES_VERSION_MIN = 15
CLOCK_DIFFERENCE_WARN_MS = 250
CLOCK_DIFFERENCE_MAX_MS = 2000
_CLOCK_SAMPLES = 3

# ------------------------------------------------------------------------------------------------------------ the store


def open_store(settings: StoreSettings, *, blocks_ms: int = 0) -> Redis:
    """A client for the store named by `settings.url`; connects on first use.

    Schemes: `redis://`, `rediss://`, `unix://`, `redis+sentinel://host:port,host:port/master`, `redis+cluster://host:port`.
    Replies are bytes. A command fails after `settings.timeout_ms` and is never repeated by the client.

    Args:
        settings: where the store is, its time limit and its number of connections.
        blocks_ms: how long the longest blocking command (XREADGROUP BLOCK) may rightly take on top of the time limit.

    Raises:
        ConfigurationError: the URL is malformed.
    """
    options: dict[str, Any] = {
        "protocol": RESP_VERSION,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": (settings.timeout_ms + blocks_ms) / 1000,
        "socket_connect_timeout": settings.timeout_ms / 1000,
        "health_check_interval": 0,
        "client_name": "flashsale",
    }
    url = urlsplit(settings.url)
    try:
        match url.scheme:
            case "redis+cluster" | "rediss+cluster":
                return _open_cluster(url, options, settings.connections_max)
            case "redis+sentinel":
                return _open_sentinel(url, options, settings.connections_max)
            case _:
                # It waits for a free connection instead of failing at once, and gives one back when its user is cancelled.
                pool = BlockingConnectionPool.from_url(
                    settings.url, max_connections=settings.connections_max, timeout=settings.timeout_ms / 1000, **options
                )
                return Redis.from_pool(pool)
    except ValueError as error:
        raise ConfigurationError(
            what=f"The store's URL {redacted(settings.url)} is not valid:",
            why=f"{error}.",
            todo="It looks like redis://host:6379/0, unix:///path, redis+sentinel://host:26379/master or redis+cluster://host:6379.",
        ) from error


def _open_cluster(url: SplitResult, options: dict[str, Any], connections_max: int) -> Redis:
    client = RedisCluster(
        host=url.hostname or "127.0.0.1",
        port=url.port or 6379,
        username=_unquoted(url.username),
        password=_unquoted(url.password),
        ssl=url.scheme.startswith("rediss"),
        max_connections=connections_max,
        **options,
    )
    # The cluster client has the same commands but another base class.
    return cast("Redis", client)


def _open_sentinel(url: SplitResult, options: dict[str, Any], connections_max: int) -> Redis:
    service, _, database = url.path.strip("/").partition("/")
    if not service:
        raise ValueError("the name of the Sentinel master is missing after the host")
    hosts = [_host_and_port(part, 26379) for part in url.netloc.rpartition("@")[2].split(",")]
    timeouts = {name: options[name] for name in ("socket_connect_timeout", "retry", "protocol")}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        hosts, sentinel_kwargs={**timeouts, "socket_timeout": options["socket_connect_timeout"]}
    )
    return cast(
        "Redis",
        sentinel.master_for(
            service,
            db=int(database or 0),
            username=_unquoted(url.username),
            password=_unquoted(url.password),
            max_connections=connections_max,
            connection_pool_class=_SentinelPool,
            **options,
        ),
    )


class _SentinelPool(SentinelConnectionPool):
    """Closes the connections to the Sentinels with its own; redis-py leaves them open."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


def _host_and_port(text: str, default_port: int) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if host else (port, default_port)


def _unquoted(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def redacted(url: str) -> str:
    """`url` as it may be shown: without its password."""
    return re.sub(r"(?<=//)([^/@]*):[^/@]*@", r"\1:***@", url)


async def ping_store(url: str, *, timeout_ms: int) -> None:
    """Return when the store at `url` answers a PING.

    Raises:
        StoreUnavailable: it does not, or not yet.
    """
    client = open_store(StoreSettings(url=url, timeout_ms=timeout_ms, deadline_ms=timeout_ms, connections_max=1))
    try:
        with _store_unavailable(url):
            await client.ping()
    finally:
        await client.aclose()


def _reason(error: Exception) -> str:
    """What `error` says, without a full stop; some say nothing but what they are."""
    return str(error).rstrip(".") or type(error).__name__


@contextmanager
def _store_unavailable(where: str) -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(
            what=f"The store at {redacted(where)} does not answer:",
            why=f"{_reason(error)}.",
            todo="Start it, or set store.url (FLASHSALE_STORE_URL) to the right one.",
        ) from error


# --------------------------------------------------------------------------------------------------------- named queries

_QUERY_START = re.compile(r"^-- name: *(?P<name>\S*)\s*$", re.MULTILINE)
_QUERY_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Query:
    """One named statement."""

    name: str
    purpose: str
    sql: str
    """what is sent; its first line is a comment with the name, so that logs and statistics show it"""


def load_queries(folder: Path) -> dict[str, Query]:
    """Every query of `folder/*.sql`, by name.

    A block begins with `-- name: some_name`, then at least one comment line with its purpose, then one statement.

    Raises:
        ValueError: a block breaks that form, or two have one name; says which file and query.
    """
    queries: dict[str, Query] = {}
    for path in sorted(folder.glob("*.sql")):
        for query in _queries_of(path):
            if query.name in queries:
                raise ValueError(f"{path.name}: there are two queries named {query.name}")
            queries[query.name] = query
    return queries


def _queries_of(path: Path) -> Iterator[Query]:
    text = path.read_text(encoding="utf-8")
    starts = list(_QUERY_START.finditer(text))
    if not starts:
        raise ValueError(f"{path.name}: it has no block that begins with '-- name: some_name'")
    ends = [*(start.start() for start in starts[1:]), len(text)]
    for start, end in zip(starts, ends, strict=True):
        name = start["name"]
        if not _QUERY_NAME.fullmatch(name):
            raise ValueError(f"{path.name}: {name!r} is not a query name (lower case, digits, underscores)")
        lines = text[start.end() : end].strip().splitlines()
        purpose = []
        while lines and lines[0].startswith("--"):
            purpose.append(lines.pop(0).removeprefix("--").strip())
        sql = "\n".join(lines).strip().removesuffix(";").rstrip()
        if not purpose or not sql:
            raise ValueError(f"{path.name}: {name} needs a comment line with its purpose, then a statement")
        yield Query(name, " ".join(purpose), f"-- {name}\n{sql}")


# ---------------------------------------------------------------------------------------------------------- the database

_Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Row]"

_LOST: tuple[type[Exception], ...] = (
    OSError,  # includes TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


@contextmanager
def _database_unavailable(where: str) -> Iterator[None]:
    try:
        yield
    except asyncpg.InterfaceError as error:
        # asyncpg has one class for its own misuse and for a connection that is gone.
        if "closed" not in str(error):
            raise
        raise _unavailable(where, error) from error
    except _LOST as error:
        raise _unavailable(where, error) from error


def _unavailable(where: str, error: Exception) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        what=f"Postgres at {redacted(where)} does not answer:",
        why=f"{_reason(error)}.",
        todo="Start it, or set postgres.url (FLASHSALE_POSTGRES_URL) to the right one.",
    )


def _bad_database_url(url: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        what=f"The database's URL {redacted(url)} is not valid:",
        why=f"{why}.",
        todo="It looks like postgresql://user@host:5432/name or postgresql://user@/name?host=/socket/folder.",
    )


class Session:
    """One connection of the pool, for as long as the `async with` that gave it.

    Every method takes the *name* of a query. A `DatabaseUnavailable` from a writing query means *unknown*: it may have
    taken effect before the connection was lost.
    """

    def __init__(self, connection: _Connection, queries: Mapping[str, Query], where: str) -> None:
        self._connection = connection
        self._queries = queries
        self._where = where

    @property
    def connection(self) -> _Connection:
        """The bare asyncpg connection, for what has no named query: COPY, EXPLAIN, a check of settings."""
        return self._connection

    async def fetch(self, name: str, *arguments: object) -> list[Row]:
        """All rows of the query `name`."""
        with _database_unavailable(self._where):
            return await self._connection.fetch(self._queries[name].sql, *arguments)

    async def fetchrow(self, name: str, *arguments: object) -> Row | None:
        """The first row of the query `name`, or None."""
        with _database_unavailable(self._where):
            return await self._connection.fetchrow(self._queries[name].sql, *arguments)

    async def fetchval(self, name: str, *arguments: object) -> Any:
        """The first column of the first row of the query `name`, or None."""
        with _database_unavailable(self._where):
            return await self._connection.fetchval(self._queries[name].sql, *arguments)

    async def execute(self, name: str, *arguments: object) -> str:
        """Run the query `name`; returns the server's word for it, for example `UPDATE 3`."""
        with _database_unavailable(self._where):
            return await self._connection.execute(self._queries[name].sql, *arguments)

    async def executemany(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        """Run the query `name` once per row of arguments, in one round trip and one transaction."""
        with _database_unavailable(self._where):
            await self._connection.executemany(self._queries[name].sql, rows)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Everything inside takes effect together, or not at all. Nested: a savepoint."""
        transaction = self._connection.transaction()
        with _database_unavailable(self._where):
            await transaction.start()
        try:
            yield
        except BaseException:
            # A lost connection has rolled back already; what happened first is what the caller must hear.
            with suppress(asyncpg.InterfaceError, *_LOST):
                await transaction.rollback()
            raise
        with _database_unavailable(self._where):
            await transaction.commit()


class Database:
    """Postgres, through a bounded pool that connects when it is first needed."""

    def __init__(self, pool: asyncpg.Pool[Row], queries: Mapping[str, Query], where: str) -> None:
        self._pool = pool
        self._queries = queries
        self._where = where

    @property
    def queries(self) -> Mapping[str, Query]:
        """Every named query."""
        return self._queries

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Session]:
        """One connection for several queries.

        Raises:
            DatabaseUnavailable: there is no connection within `CONNECT_TIMEOUT_S`.
            ConfigurationError: the URL is malformed.
        """
        try:
            with _database_unavailable(self._where):
                connection = await self._pool.acquire(timeout=CONNECT_TIMEOUT_S)
        except ValueError as error:  # asyncpg reads the URL only now
            raise _bad_database_url(self._where, _reason(error)) from error
        try:
            yield Session(connection, self._queries, self._where)
        finally:
            with suppress(asyncpg.InterfaceError, *_LOST):
                await self._pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """One connection inside one transaction."""
        async with self.acquire() as session, session.transaction():
            yield session

    async def fetch(self, name: str, *arguments: object) -> list[Row]:
        """All rows of the query `name`."""
        async with self.acquire() as session:
            return await session.fetch(name, *arguments)

    async def fetchrow(self, name: str, *arguments: object) -> Row | None:
        """The first row of the query `name`, or None."""
        async with self.acquire() as session:
            return await session.fetchrow(name, *arguments)

    async def fetchval(self, name: str, *arguments: object) -> Any:
        """The first column of the first row of the query `name`, or None."""
        async with self.acquire() as session:
            return await session.fetchval(name, *arguments)

    async def execute(self, name: str, *arguments: object) -> str:
        """Run the query `name`; returns the server's word for it, for example `UPDATE 3`."""
        async with self.acquire() as session:
            return await session.execute(name, *arguments)

    async def close(self) -> None:
        """Close every connection, waiting `CONNECT_TIMEOUT_S` for those still in use."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._pool.close()
        except (TimeoutError, asyncpg.InterfaceError):
            self._pool.terminate()


async def open_database(settings: PostgresSettings, *, queries: Mapping[str, Query] | None = None) -> Database:
    """The database named by `settings.url`. Does not connect, so it succeeds while Postgres is down.

    Args:
        settings: where it is and its limits.
        queries: the named queries; those of `reconciler/sql/queries` when None.

    Raises:
        ConfigurationError: the URL is no database URL; one that is malformed further in fails on first use.
    """
    if queries is None:
        queries = load_queries(resource_dir("sql") / "queries")
    if not settings.url.startswith(("postgresql://", "postgres://")):
        raise _bad_database_url(settings.url, "it does not begin with postgresql://")
    pool = await asyncpg.create_pool(
        settings.url,
        min_size=0,
        max_size=settings.pool_size_max,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=settings.statement_timeout_ms / 1000 + STATEMENT_GRACE_S,
        server_settings={
            "application_name": "flashsale",
            "timezone": "UTC",
            "statement_timeout": str(settings.statement_timeout_ms),
            "lock_timeout": str(settings.lock_timeout_ms),
            "idle_in_transaction_session_timeout": str(settings.statement_timeout_ms),
        },
    )
    return Database(pool, queries, settings.url)


async def ping_database(url: str, *, timeout_ms: int) -> None:
    """Return when the database at `url` accepts a connection and answers.

    Raises:
        DatabaseUnavailable: it does not, or not yet.
    """
    with _database_unavailable(url):
        connection = await asyncpg.connect(url, timeout=timeout_ms / 1000)
        try:
            await connection.execute("SELECT 1")
        finally:
            await connection.close()


async def create_database_if_missing(url: str, name: str) -> None:
    """Create the database `name`, asking on the connection `url`, which needs the right to."""
    with _database_unavailable(url):
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
                # An identifier cannot be an argument.
                await connection.execute('CREATE DATABASE "{}"'.format(name.replace('"', '""')))
        finally:
            await connection.close()


# --------------------------------------------------------------------------------------------------------------- checks


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check of a store found."""

    name: str
    """short and stable: `store.version`, `postgres.fsync`"""
    level: Literal["ok", "warn", "unsafe"]
    what: str
    todo: str = ""
    """what to change; empty when ok"""


def require_safe(findings: Sequence[Finding]) -> None:
    """Pass when no finding is unsafe.

    Raises:
        UnsafeStore: says what is unsafe and what to change; several are joined.
    """
    unsafe = [finding for finding in findings if finding.level == "unsafe"]
    if unsafe:
        raise UnsafeStore(what=" ".join(finding.what for finding in unsafe), todo=" ".join(finding.todo for finding in unsafe))


async def check_store(client: Redis) -> list[Finding]:
    """Is this store safe to sell from? Version, eviction, persistence, clock; on a cluster, of every primary.

    Raises:
        StoreUnavailable: it does not answer.
    """
    findings: list[Finding] = []
    with _store_unavailable("the configured URL"):
        for target in await _targets(client):
            info = await _command(client, "INFO", "server", **target)
            settings = await _store_settings(client, target)
            findings += [_store_version(info), *_store_safety(settings)]
            findings.append(await _clock_finding("store", lambda target=target: _store_clock_ms(client, target)))  # type: ignore[misc]
    return list(dict.fromkeys(findings))


async def _targets(client: Redis) -> list[dict[str, Any]]:
    """Extra arguments that send a command to each primary in turn."""
    anything: object = client  # open_store says Redis for a cluster too
    if isinstance(anything, RedisCluster):
        _ = await anything.initialize()
        return [{"target_nodes": node} for node in anything.get_primaries()]
    return [{}]


async def _command(client: Redis, *words: str, **target: Any) -> Any:
    return await client.execute_command(*words, **target)  # type: ignore[no-untyped-call]


async def _store_clock_ms(client: Redis, target: Mapping[str, Any]) -> float:
    seconds, microseconds = await _command(client, "TIME", **target)
    return int(seconds) * 1000 + int(microseconds) / 1000


async def _store_settings(client: Redis, target: Mapping[str, Any]) -> dict[str, str] | None:
    """The settings that matter; None where a managed service forbids asking."""
    try:
        reply = await _command(client, "CONFIG GET", "maxmemory-policy", "appendonly", "appendfsync", **target)
    except ResponseError:
        return None
    return {_text(name): _text(value) for name, value in reply.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _store_version(info: Mapping[str, Any]) -> Finding:
    product, minimum = ("Valkey", VALKEY_VERSION_MIN) if "valkey_version" in info else ("Redis", REDIS_VERSION_MIN)
    text = str(info.get("valkey_version", info.get("redis_version", "0")))
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if version >= minimum:
        return Finding("store.version", "ok", f"{product} {text}.")
    return Finding(
        "store.version", "unsafe", f"The store is {product} {text}, which is too old.", "Use Valkey 8 or newer, or Redis 7.2 or newer."
    )


def _store_safety(settings: Mapping[str, str] | None) -> list[Finding]:
    if settings is None:
        return [
            Finding(
                "store.settings",
                "warn",
                "The store does not let its settings be read.",
                "Make sure of maxmemory-policy noeviction, appendonly yes and appendfsync always in its console.",
            )
        ]
    return [_eviction(settings.get("maxmemory-policy", "")), _persistence(settings)]


def _eviction(policy: str) -> Finding:
    if policy == "noeviction":
        return Finding("store.eviction", "ok", "Nothing is evicted.")
    return Finding(
        "store.eviction",
        "unsafe",
        f"The store may throw reservations away when memory runs low (maxmemory-policy is {policy}).",
        "Set maxmemory-policy noeviction.",
    )


def _persistence(settings: Mapping[str, str]) -> Finding:
    if settings.get("appendonly") != "yes":
        return Finding(
            "store.persistence",
            "unsafe",
            "The store forgets every reservation when it restarts (appendonly is no).",
            "Set appendonly yes and appendfsync always.",
        )
    match settings.get("appendfsync"):
        case "always":
            return Finding("store.persistence", "ok", "A reply means on disk.")
        case "everysec":
            return Finding(
                "store.persistence",
                "warn",
                "The store may lose the last one or two seconds at power loss (appendfsync is everysec).",
                "Set appendfsync always, unless the drops are meant to have durability 'second'.",
            )
        case other:
            return Finding(
                "store.persistence",
                "unsafe",
                f"The store never forces its log to disk (appendfsync is {other}).",
                "Set appendfsync always.",
            )


# Settings of the connection itself, so it stands here and not with the reconciler's queries.
_POSTGRES_STATE = """
SELECT current_setting('server_version_num')::int / 10000 AS version,
       current_setting('server_version') AS version_text,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       pg_is_in_recovery() AS is_standby
"""


async def check_database(database: Database) -> list[Finding]:
    """Is this Postgres safe to keep orders in? Version, durability, role, clock.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    async with database.acquire() as session:
        with _database_unavailable("the configured URL"):
            state = await session.connection.fetchrow(_POSTGRES_STATE)
            clock = await _clock_finding("postgres", lambda: _database_clock_ms(session))
    assert state is not None
    return [_postgres_version(state), *_postgres_durability(state), _postgres_role(state), clock]


async def _database_clock_ms(session: Session) -> float:
    return float(await session.connection.fetchval("SELECT extract(epoch FROM clock_timestamp()) * 1000"))


def _postgres_version(state: Row) -> Finding:
    if state["version"] >= POSTGRES_VERSION_MIN:
        return Finding("postgres.version", "ok", f"Postgres {state['version_text']}.")
    return Finding(
        "postgres.version",
        "unsafe",
        f"The database is Postgres {state['version_text']}, which is too old.",
        f"Use Postgres {POSTGRES_VERSION_MIN} or newer.",
    )


def _postgres_durability(state: Row) -> list[Finding]:
    findings = [Finding("postgres.durability", "ok", "A commit means on disk.")]
    if state["fsync"] != "on":
        findings = [
            Finding("postgres.fsync", "unsafe", "Postgres never forces its log to disk, so a power loss ruins it.", "Set fsync = on.")
        ]
    elif state["synchronous_commit"] == "off":
        findings = [
            Finding(
                "postgres.synchronous_commit",
                "unsafe",
                "Postgres acknowledges orders before they are on disk (synchronous_commit is off).",
                "Set synchronous_commit = on.",
            )
        ]
    if state["full_page_writes"] != "on":
        findings.append(
            Finding(
                "postgres.full_page_writes",
                "warn",
                "A power loss may tear pages (full_page_writes is off).",
                "Set full_page_writes = on, unless the file system writes whole pages.",
            )
        )
    return findings


def _postgres_role(state: Row) -> Finding:
    if state["is_standby"]:
        return Finding("postgres.role", "unsafe", "This Postgres is a standby and cannot take orders.", "Set postgres.url to the primary.")
    return Finding("postgres.role", "ok", "Primary.")


async def _clock_finding(store: str, read_ms: Callable[[], Awaitable[float]]) -> Finding:
    """How far `store`'s clock is from this process's. The quickest of a few questions has the least error."""
    samples = []
    for _ in range(_CLOCK_SAMPLES):
        before = time.time()
        theirs_ms = await read_ms()
        after = time.time()
        samples.append((after - before, theirs_ms - (before + after) / 2 * 1000))
    return _judge_clock(store, min(samples)[1])


def _judge_clock(store: str, difference_ms: float) -> Finding:
    name = f"{store}.clock"
    size = abs(difference_ms)
    if size <= CLOCK_DIFFERENCE_WARN_MS:
        # No number: the finding of an unchanged store stays equal from one check to the next.
        return Finding(name, "ok", "Its clock agrees with this machine's.")
    direction = "ahead of" if difference_ms > 0 else "behind"
    level: Literal["warn", "unsafe"] = "unsafe" if size > CLOCK_DIFFERENCE_MAX_MS else "warn"
    return Finding(
        name,
        level,
        f"The clock of the {store} is {size:.0f} ms {direction} this machine's, so drops open and tokens expire at the wrong time.",
        "Let NTP set both clocks.",
    )
