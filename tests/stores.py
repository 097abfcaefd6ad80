"""Fixtures: real stores, started once per session, empty for every test.

stores          the running Valkey and Postgres; never stop or kill these
fresh_stores    a pair of one's own, for tests that stop, kill or break them
store           a client on the emptied Valkey
database        a migrated database of one's own, opened with all named queries; `database_url` is where
settings        the default settings, pointed at both
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from flashsale.connections.database import Database, create_database_if_missing, open_database
from flashsale.connections.store import open_store
from flashsale.embedded.stores import EmbeddedStores
from flashsale.settings import Settings, load_settings
from reconciler.migrations import migrate
from tests.folders import scratch

TEMPLATE = "migrated_template"


@pytest.fixture(scope="session")
def stores_folder() -> Iterator[Path]:
    """A short path (sockets have a limit) that the servers' own user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="flashsale-test-", dir=scratch()))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def stores(stores_folder: Path) -> AsyncIterator[EmbeddedStores]:
    async with EmbeddedStores(stores_folder / "session", debug_commands=True) as running:
        yield running


@pytest.fixture
async def fresh_stores(stores_folder: Path) -> AsyncIterator[EmbeddedStores]:
    folder = Path(tempfile.mkdtemp(prefix="own-", dir=stores_folder))
    folder.chmod(0o711)
    async with EmbeddedStores(folder, debug_commands=True) as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture
def settings(stores: EmbeddedStores, database_url: str) -> Settings:
    return settings_for(stores.valkey.url, database_url)


PATIENCE = {"timeout_ms": 3_000, "deadline_ms": 4_000}
"""Of the store's clients in tests: a busy machine must not look like a store that is away."""


def settings_for(store_url: str, database_url: str) -> Settings:
    """The default settings with these two stores, whatever the environment says."""
    return load_settings(environment={}, overrides={"store": {"url": store_url, **PATIENCE}, "postgres": {"url": database_url}})


@pytest.fixture
async def store(stores: EmbeddedStores) -> AsyncIterator[Redis]:
    """A client; everything another test left behind is gone."""
    client = open_store(settings_for(stores.valkey.url, "postgresql://unused/").store)
    try:
        await client.flushall()
        yield client
    finally:
        await client.aclose()


@pytest.fixture(scope="session")
async def _template(stores: EmbeddedStores) -> None:
    """A database that is migrated once and copied for every test."""
    await create_database_if_missing(stores.postgres.url, TEMPLATE)
    await migrate(stores.postgres.url_for(database=TEMPLATE))


@pytest.fixture(scope="session")
def _database_names() -> Iterator[str]:
    return (f"test_{number}" for number in itertools.count())


@pytest.fixture
async def database_url(stores: EmbeddedStores, _template: None, _database_names: Iterator[str]) -> AsyncIterator[str]:
    """The URL of a migrated, empty database of this test's own, as its owner."""
    name = next(_database_names)
    await _on_server(stores, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    yield stores.postgres.url_for(database=name)
    await _on_server(stores, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = await open_database(settings.postgres)
    try:
        yield opened
    finally:
        await opened.close()


async def _on_server(stores: EmbeddedStores, statement: str) -> None:
    connection = await asyncpg.connect(stores.postgres.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
