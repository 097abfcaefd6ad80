"""Migrations: numbered SQL files, each applied once, in order, in a transaction of its own.

A file that was applied may not change afterwards; what it did is corrected by the next file. A session-level advisory
lock keeps two migrators apart, so migrate through Postgres itself, not through a pooler in transaction mode.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from flashsale.connections.queries import load_queries
from flashsale.errors import ConfigurationError, DatabaseUnavailable
from flashsale.resources import resource_dir

if TYPE_CHECKING:
    from asyncpg import Connection, Record

LOCK_KEY = 0x666C617368
"""Of the advisory lock; advisory locks belong to one database."""
CONNECT_TIMEOUT_S = 10.0

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path | None = None) -> list[Migration]:
    """The migrations of `folder` (the shipped ones when None) in order.

    Raises:
        ConfigurationError: a file is misnamed or two have the same number.
    """
    folder = resource_dir("sql") / "migrations" if folder is None else folder
    found: dict[str, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None or match[1] in found:
            raise ConfigurationError(
                what=f"The migration {path.name} is misnamed or its number is taken.", todo="Name it NNNN_what_it_does.sql."
            )
        found[match[1]] = Migration(path.name, path.read_text(encoding="utf-8"))
    return list(found.values())


async def migrate(url: str, folder: Path | None = None) -> list[str]:
    """Apply what is pending to the database at `url`; returns the names applied, in order.

    Safe to run from several processes at once: the others wait, then find nothing to do.

    Raises:
        ConfigurationError: an applied file has changed or is missing here.
        DatabaseUnavailable: the database cannot be reached.
        asyncpg.PostgresError: a migration failed; it left nothing behind, those before it are applied.
    """
    migrations, queries = read_migrations(folder), _queries()
    connection = await _connect(url)
    try:
        await connection.execute(queries["schema_migrations_lock"], LOCK_KEY)
        await connection.execute(queries["schema_migrations_create"])
        todo = _pending(migrations, await connection.fetch(queries["schema_migrations_list"]))
        for migration in todo:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(queries["schema_migrations_insert"], migration.name, migration.checksum)
        return [migration.name for migration in todo]
    finally:
        await connection.close()


async def pending(url: str, folder: Path | None = None) -> list[str]:
    """The names `migrate` would apply now; changes nothing.

    Raises:
        ConfigurationError: an applied file has changed or is missing here.
        DatabaseUnavailable: the database cannot be reached.
    """
    migrations, queries = read_migrations(folder), _queries()
    connection = await _connect(url)
    try:
        applied = []
        if await connection.fetchval(queries["schema_migrations_exists"]):
            applied = await connection.fetch(queries["schema_migrations_list"])
        return [migration.name for migration in _pending(migrations, applied)]
    finally:
        await connection.close()


def _pending(migrations: list[Migration], applied: list[Record]) -> list[Migration]:
    known = {migration.name: migration for migration in migrations}
    for name, checksum in applied:
        if name not in known:
            raise ConfigurationError(
                what=f"The database has the migration {name}, which this version does not know.",
                why="It was probably migrated by a newer version.",
                todo="Run that version, or a later one.",
            )
        if known[name].checksum != checksum:
            raise ConfigurationError(
                what=f"The migration {name} has changed since it was applied.",
                todo="Restore the file and put the change into a new migration.",
            )
    done = {name for name, _ in applied}
    return [migration for migration in migrations if migration.name not in done]


async def _connect(url: str) -> Connection:
    try:
        return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise DatabaseUnavailable(what="Postgres could not be reached to migrate it:", why=f"{error}.") from error


def _queries() -> dict[str, str]:
    return {name: query.sql for name, query in load_queries(resource_dir("sql") / "queries").items()}
