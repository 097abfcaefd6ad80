"""What every measurement needs: embedded stores with full durability, and drops with admitted shoppers."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgpack
import msgspec
from redis.asyncio import Redis

from flashsale.connections.database import Database, open_database
from flashsale.connections.store import open_store
from flashsale.drops import DRAW_SECRET_BYTES, DropCatalog, DropStore
from flashsale.embedded.stores import EmbeddedStores
from flashsale.keys import drop_keys
from flashsale.model import Drop, Durability, Sku, secret_hash_of, ticket_id_of
from flashsale.resources import resource_dir
from flashsale.scripts import Scripts, read_scripts
from flashsale.settings import Settings, load_settings
from reconciler.migrations import migrate

SKU = "unit"
PRICE_MINOR = 4900
TOKEN_ID = "bench-token-0000000000"  # noqa: S105 - known only to the drop that is measured
SEED_BATCH = 1000
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Shopper:
    """One admitted shopper."""

    ticket_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Running stores and the parts over them."""

    settings: Settings
    stores: EmbeddedStores
    store: Redis
    database: Database
    scripts: Scripts
    drops: DropStore

    async def now_ms(self) -> int:
        """The store's time."""
        seconds, microseconds = await self.store.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def make_drop(
        self, units: int, *, recorded: bool = False, durability: str = Durability.DISK, order: str = "arrival", opens_in_ms: int = -1
    ) -> str:
        """A drop with one SKU and no limit that would get in the way, open unless told otherwise; in Postgres too when `recorded`."""
        now_ms = await self.now_ms()
        drop_id = f"bench-{secrets.token_hex(6)}"
        drop = Drop(
            drop_id=drop_id,
            name="Benchmark",
            currency="EUR",
            skus=(Sku(SKU, "Unit", units, PRICE_MINOR, 1000),),
            joins_at_ms=now_ms - 1000,
            opens_at_ms=now_ms + opens_in_ms,
            closes_at_ms=now_ms + HOUR_MS,
            rate_per_min=10_000_000,
            capacity=10_000_000,
            claim_window_ms=HOUR_MS,
            reservation_ttl_ms=HOUR_MS,
            limit_per_shopper=1000,
            durability=str(durability),
            order=order,
        )
        if recorded:
            await DropCatalog(self.database, self.drops).create(drop)
        else:
            await self.drops.open(drop, draw_secret=secrets.token_bytes(DRAW_SECRET_BYTES) if order == "draw" else b"")
        return drop_id

    async def admit_shoppers(self, drop_id: str, count: int) -> list[Shopper]:
        """Shoppers who hold the admission token id `TOKEN_ID`, put there by the real scripts."""
        shoppers = await self.join_shoppers(drop_id, count)
        for part in _parts(shoppers):
            requests = [(shopper.ticket_id, TOKEN_ID) for shopper in part]
            await self.scripts.call("admit", drop_id, msgpack.packb(requests))
        return shoppers

    async def join_shoppers(self, drop_id: str, count: int) -> list[Shopper]:
        """Shoppers with a served place in line."""
        shoppers = []
        for _ in range(count):
            secret = secrets.token_urlsafe(16)
            shoppers.append(Shopper(ticket_id_of(drop_id, secret_hash_of(secret)), secret))
        for part in _parts(shoppers):
            requests = [(shopper.ticket_id, secret_hash_of(shopper.secret)) for shopper in part]
            await self.scripts.call("join", drop_id, msgpack.packb(requests))
        await self.serve_everyone(drop_id)
        return shoppers

    async def serve_everyone(self, drop_id: str) -> None:
        """Raises the serving number past everyone, as a very fast inlet would."""
        key = drop_keys(drop_id).drop
        await self.store.hset(key, "serving_number", int(await self.store.hget(key, "joined") or 0))

    async def forget(self, drop_id: str) -> None:
        """Frees the memory of a drop that has been measured."""
        keys = drop_keys(drop_id)
        await self.store.unlink(*(getattr(keys, name) for name in keys.__dataclass_fields__))
        await self.store.srem("fs:drops", drop_id)


def _parts(shoppers: list[Shopper]) -> list[list[Shopper]]:
    return [shoppers[i : i + SEED_BATCH] for i in range(0, len(shoppers), SEED_BATCH)]


@asynccontextmanager
async def running_stage(folder: Path) -> AsyncIterator[Stage]:
    """Fresh stores in `folder`: AOF always, fsync on, migrated."""
    async with EmbeddedStores(folder) as stores:
        valkey, postgres = stores.servers
        await migrate(postgres.url)
        settings = load_settings(
            environment={key: value for key, value in os.environ.items() if key.startswith("FLASHSALE_BATCH_")},
            overrides={"store": {"url": valkey.url, "deadline_ms": 10_000}, "postgres": {"url": postgres.url}},
        )
        store = open_store(msgspec.structs.replace(settings.store, timeout_ms=5000))
        database = await open_database(settings.postgres)
        try:
            scripts = Scripts(store, read_scripts(resource_dir("lua")), settings.store, settings.batch)
            yield Stage(settings, stores, store, database, scripts, DropStore(scripts, settings))
        finally:
            await database.close()
            await store.aclose()
