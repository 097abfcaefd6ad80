"""Many shoppers who reserve at once in this process, and repeat with the same key until they know the outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack

from flashsale.cli.target import Parts, opened
from flashsale.errors import Busy, Recovering, StoreUnavailable, StoreUnknown
from flashsale.keys import drop_keys
from flashsale.model import Drop, Refused, Reservation, Sku, SkuStock, secret_hash_of, ticket_id_of
from flashsale.settings import Settings, load_settings

SKU = "unit"
ITEMS = ((SKU, 1),)
PRICE_MINOR = 4_900
TOKEN_ID = "token-of-everybody-0000"
HOUR_MS = 3_600_000
PATIENCE_S = 60.0
_REPEAT_S = 0.02
_names = (f"replicated-{number}" for number in itertools.count(1))


def settings_for(store_url: str, database_url: str, **store: Any) -> Settings:
    """The defaults with these stores, and with short waits in the reconciler."""
    return load_settings(
        environment={},
        overrides={
            "store": {"url": store_url, **store},
            "postgres": {"url": database_url},
            "reconciler": {"block_ms": 100, "claim_idle_ms": 500, "refresh_ms": 100, "audit_interval_ms": 500},
        },
    )


@asynccontextmanager
async def selling(store_url: str, database_url: str, **store: Any) -> AsyncIterator[Parts]:
    """The parts of an installation on these stores; `store` changes its settings of that section."""
    async with opened(settings_for(store_url, database_url, **store)) as parts:
        yield parts


async def open_drop(parts: Parts, units: int, *, drop_id: str | None = None, durability: str = "disk") -> Drop:
    """An open drop with one SKU and no limit that would get in the way, in Postgres and in the store."""
    seconds, _ = await parts.store.time()
    now_ms = int(seconds) * 1000
    drop = Drop(
        drop_id=drop_id or next(_names),
        name="Replicated",
        currency="EUR",
        skus=(Sku(SKU, "Unit", units, PRICE_MINOR, 10),),
        joins_at_ms=now_ms - 2_000,
        opens_at_ms=now_ms - 1_000,
        closes_at_ms=now_ms + HOUR_MS,
        rate_per_min=1_000_000,
        capacity=1_000_000,
        claim_window_ms=HOUR_MS,
        reservation_ttl_ms=HOUR_MS,
        limit_per_shopper=10,
        durability=durability,
    )
    await parts.catalog.create(drop)
    return drop


@dataclass
class Buyers:
    """Admitted shoppers of one drop. `run` is repeatable: whoever has an outcome asks again and must get the same."""

    parts: Parts
    drop_id: str
    tickets: list[str]
    outcomes: dict[str, Reservation | Refused] = field(default_factory=dict)
    """ticket id to what it was told"""
    troubles: Counter[str] = field(default_factory=Counter)
    """codes of the errors met, each of which says: try again"""
    answered: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def reservations(self) -> dict[str, Reservation]:
        """Acknowledged ones, by id."""
        return {found.reservation_id: found for found in self.outcomes.values() if isinstance(found, Reservation)}

    async def run(self) -> None:
        """Everybody reserves one unit, and asks until it is known whether that worked.

        An answer that changes what was acknowledged before is a broken promise.
        """
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for ticket_id in self.tickets:
                group.create_task(self._reserve(ticket_id))

    async def _reserve(self, ticket_id: str) -> None:
        outcome = None
        while outcome is None:
            try:
                outcome = await self.parts.reservations.reserve(self.drop_id, ticket_id, TOKEN_ID, "key", ITEMS, "request")
            except (StoreUnavailable, StoreUnknown, Recovering, Busy) as error:
                self.troubles[error.code] += 1
                await asyncio.sleep(_REPEAT_S)
        before = self.outcomes.setdefault(ticket_id, outcome)
        assert type(before) is type(outcome), f"was told {before}, then {outcome}"
        async with self.answered:
            self.answered.notify_all()

    async def reached(self, count: int) -> None:
        """Returns when so many know their outcome."""
        async with asyncio.timeout(PATIENCE_S), self.answered:
            await self.answered.wait_for(lambda: len(self.outcomes) >= count)

    async def stock(self) -> SkuStock:
        """Where the units are; they have to add up."""
        stock = (await self.parts.drops.inspect(self.drop_id)).skus[SKU]
        assert stock.allotment == stock.available + stock.reserved + stock.sold
        return stock

    async def lost(self) -> list[str]:
        """Ids of acknowledged reservations that the store does not know."""
        ids = tuple(self.reservations)
        found = (await self.parts.drops.inspect(self.drop_id, reservations=ids)).reservations
        return [reservation_id for reservation_id, record in zip(ids, found, strict=True) if record is None]


async def admitted(parts: Parts, drop_id: str, count: int) -> Buyers:
    """So many shoppers with an admission token."""
    secrets = [f"secret-{number}" for number in range(count)]
    tickets = [ticket_id_of(drop_id, secret_hash_of(secret)) for secret in secrets]
    pairs = [(ticket_id, secret_hash_of(secret)) for ticket_id, secret in zip(tickets, secrets, strict=True)]
    await parts.scripts.call("join", drop_id, msgpack.packb(pairs))
    # A very fast inlet: everybody is served at once.
    await parts.store.hset(drop_keys(drop_id).drop, "serving_number", count)
    await parts.scripts.call("admit", drop_id, msgpack.packb([(*pair, TOKEN_ID) for pair in pairs]))
    return Buyers(parts, drop_id, tickets)
