"""Which installation a command is about, and its parts opened for as long as the command runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashsale.cli.runtime import DEFAULT_DATA_DIR, Runtime, read_runtime
from flashsale.connections.database import Database, open_database
from flashsale.connections.store import open_store
from flashsale.drops import DropCatalog, DropStore
from flashsale.errors import ConfigurationError
from flashsale.reservations import Reservations
from flashsale.resources import resource_dir
from flashsale.scripts import Scripts, read_scripts
from flashsale.settings import CONFIG_VARIABLE, Settings, load_settings
from flashsale.stock import StockLedger

_NAMED_BY = (
    CONFIG_VARIABLE,
    "FLASHSALE_STORE_URL",
    "FLASHSALE_STORE_URL_FILE",
    "FLASHSALE_POSTGRES_URL",
    "FLASHSALE_POSTGRES_URL_FILE",
)


@dataclass(frozen=True, slots=True)
class Target:
    """An installation: its settings, and what runs there if it is a `flashsale up` of this machine."""

    settings: Settings
    data_dir: Path | None = None
    runtime: Runtime | None = None

    @property
    def http_url(self) -> str:
        """Where its workers answer."""
        http = self.settings.http
        return self.runtime.http_url if self.runtime else f"http://{http.host}:{http.port}"


def find_target(
    config: Path | None = None,
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Target:
    """The installation meant by the options and the environment.

    In this order: the `up` that runs in `data`; the settings file `config`; the environment, when it names a store, a
    database or a settings file; the `up` that runs in `./.flashsale`; the defaults.

    Raises:
        ConfigurationError: nothing runs in `data`, or a setting is not valid.
    """
    environment = os.environ if environment is None else environment
    if data is not None:
        runtime = read_runtime(data)
        if runtime is None:
            raise ConfigurationError(
                what=f"Nothing runs in the data folder {data}.", todo=f"Start it with 'flashsale up --data {data}', or name another folder."
            )
        return _of_runtime(data, runtime, config, environment, overrides)
    named = config is not None or any(environment.get(name) for name in _NAMED_BY)
    if not named and (runtime := read_runtime(DEFAULT_DATA_DIR)) is not None:
        return _of_runtime(DEFAULT_DATA_DIR, runtime, config, environment, overrides)
    return Target(load_settings(config, environment, overrides))


def _of_runtime(
    data_dir: Path,
    runtime: Runtime,
    config: Path | None,
    environment: Mapping[str, str],
    overrides: Mapping[str, Mapping[str, Any]] | None,
) -> Target:
    own: dict[str, dict[str, Any]] = {
        "store": {"url": runtime.store_url},
        "postgres": {"url": runtime.postgres_url},
        "tokens": {"signing_keys_file": runtime.signing_keys_file},
    }
    for section, values in (overrides or {}).items():
        own[section] = own.get(section, {}) | dict(values)
    return Target(load_settings(config, environment, own), data_dir, runtime)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an installation that commands work with. Nothing connects before it is used."""

    settings: Settings
    store: Any
    """the store's client"""
    database: Database
    scripts: Scripts
    drops: DropStore
    catalog: DropCatalog
    reservations: Reservations
    stock: StockLedger


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Parts]:
    """The parts of the installation that `settings` name.

    Raises:
        ConfigurationError: a URL is malformed.
    """
    store = open_store(settings.store)
    database = await open_database(settings.postgres)
    try:
        scripts = Scripts(store, read_scripts(resource_dir("lua")), settings.store, settings.batch)
        drops = DropStore(scripts, settings)
        catalog = DropCatalog(database, drops)
        yield Parts(settings, store, database, scripts, drops, catalog, Reservations(scripts), StockLedger(database, drops))
    finally:
        await store.aclose()
        await database.close()
