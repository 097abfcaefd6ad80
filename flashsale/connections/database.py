"""Postgres: a bounded pool that speaks in named queries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias

import asyncpg

from flashsale.connections.queries import Query, load_queries
from flashsale.connections.wording import reason_of, reason_unquoted, redacted
from flashsale.errors import ConfigurationError, DatabaseUnavailable
from flashsale.resources import resource_dir
from flashsale.settings import PostgresSettings

CONNECT_TIMEOUT_S = 5.0
# A server that stopped answering is left this long after its own statement timeout should have fired.
STATEMENT_GRACE_S = 2.0
SNAPSHOT_IDLE_MAX_MS = 600_000
"""Whoever reads in one view may work on what was read for so long; a line of a million places takes minutes."""

Row: TypeAlias = asyncpg.Record
_Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Row]"

_LOST: tuple[type[Exception], ...] = (
    OSError,  # includes TimeoutError
    asyncpg.InternalClientError,  # the driver's word for a server that stops between two messages
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_NOT_NOW: tuple[type[Exception], ...] = (
    asyncpg.TransactionRollbackError,  # SQLSTATE class 40
    asyncpg.InsufficientResourcesError,  # 53
    asyncpg.LockNotAvailableError,  # 55P03; the rest of class 55 is about what was asked for
    asyncpg.OperatorInterventionError,  # 57, statements that took too long among them
    asyncpg.PostgresSystemError,  # 58
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What a server says that is there and could do the same at another time."""


@contextmanager
def database_unavailable(where: str) -> Iterator[None]:
    """A connection that is refused or lost inside means that Postgres at `where` does not answer; a statement it gave up for want of
    time, room or a lock means that it cannot answer now.
    """
    try:
        yield
    except asyncpg.InterfaceError as error:
        # asyncpg has one class for its own misuse and for a connection that is gone, also one that went while we held it.
        if not any(words in str(error) for words in ("closed", "released back to the pool")):
            raise
        raise _unavailable(where, error) from error
    except _LOST as error:
        raise _unavailable(where, error) from error
    except _NOT_NOW as error:
        raise DatabaseUnavailable(
            what=f"Postgres at {redacted(where)} cannot do it now:",
            why=f"{reason_of(error)}.",
            todo="Try again; its own log, and pg_stat_activity, say what holds it up.",
        ) from error


def _unavailable(where: str, error: Exception) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        what=f"Postgres at {redacted(where)} does not answer:",
        why=f"{reason_of(error)}.",
        todo="Start it, or set postgres.url (FLASHSALE_POSTGRES_URL) to the right one.",
    )


def _bad_database_url(url: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        what=f"The database's URL {redacted(url)} is not valid:",
        why=f"{why}.",
        todo="It looks like postgresql://user@host:5432/name or postgresql://user@/name?host=/socket/folder;"
        " a password in it is percent-encoded.",
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
        with database_unavailable(self._where):
            return await self._connection.fetch(self._queries[name].sql, *arguments)

    async def fetchrow(self, name: str, *arguments: object) -> Row | None:
        """The first row of the query `name`, or None."""
        with database_unavailable(self._where):
            return await self._connection.fetchrow(self._queries[name].sql, *arguments)

    async def fetchval(self, name: str, *arguments: object) -> Any:
        """The first column of the first row of the query `name`, or None."""
        with database_unavailable(self._where):
            return await self._connection.fetchval(self._queries[name].sql, *arguments)

    async def execute(self, name: str, *arguments: object) -> str:
        """Run the query `name`; returns the server's word for it, for example `UPDATE 3`."""
        with database_unavailable(self._where):
            return await self._connection.execute(self._queries[name].sql, *arguments)

    async def executemany(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        """Run the query `name` once per row of arguments, in one round trip and one transaction."""
        with database_unavailable(self._where):
            await self._connection.executemany(self._queries[name].sql, rows)

    async def rows(self, name: str, *arguments: object, prefetch: int) -> AsyncIterator[Row]:
        """The rows of the query `name` one by one; `prefetch` at a time leave the server. Only inside a transaction."""
        with database_unavailable(self._where):
            async for row in self._connection.cursor(self._queries[name].sql, *arguments, prefetch=prefetch):
                yield row

    @asynccontextmanager
    async def transaction(self, *, snapshot: bool = False) -> AsyncIterator[None]:
        """Everything inside takes effect together, or not at all. Nested: a savepoint.

        Args:
            snapshot: only reads, all of them of the same instant, up to `SNAPSHOT_IDLE_MAX_MS` apart.
        """
        with database_unavailable(self._where):
            transaction = self._connection.transaction(isolation="repeatable_read" if snapshot else None, readonly=snapshot)
            await transaction.start()
        try:
            if snapshot:
                with database_unavailable(self._where):
                    await self._connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {SNAPSHOT_IDLE_MAX_MS}")
            yield
        except BaseException:
            # A lost connection has rolled back already; what happened first is what the caller must hear.
            with suppress(asyncpg.InterfaceError, *_LOST, *_NOT_NOW):
                await transaction.rollback()
            raise
        with database_unavailable(self._where):
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
            with database_unavailable(self._where):
                connection = await self._pool.acquire(timeout=CONNECT_TIMEOUT_S)
        except ValueError as error:  # asyncpg reads the URL only now
            raise _bad_database_url(self._where, reason_unquoted(error)) from error
        try:
            yield Session(connection, self._queries, self._where)
        finally:
            with suppress(asyncpg.InterfaceError, *_LOST, *_NOT_NOW):
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
    with database_unavailable(url):
        connection = await asyncpg.connect(url, timeout=timeout_ms / 1000)
        try:
            await connection.execute("SELECT 1")
        finally:
            await connection.close()


async def create_database_if_missing(url: str, name: str) -> None:
    """Create the database `name`, asking on the connection `url`, which needs the right to."""
    with database_unavailable(url):
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
                # An identifier cannot be an argument.
                await connection.execute('CREATE DATABASE "{}"'.format(name.replace('"', '""')))
        finally:
            await connection.close()
