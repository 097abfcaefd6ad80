"""Many shoppers who reserve at once in this process, and repeat with the same key until they know the outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgpack

from flashsale.cli.target import Parts, opened
from flashsale.errors import Busy, Recovering, StoreUnavailable, StoreUnknown
from flashsale.keys import drop_keys
from flashsale.model import ConfirmOutcome, Drop, Durability, Refused, Reservation, Sku, SkuStock, secret_hash_of, ticket_id_of
from flashsale.settings import Settings, load_settings

Answer = TypeVar("Answer")

SKU = "unit"
ITEMS = ((SKU, 1),)
PRICE_MINOR = 4_900
TOKEN_ID = "token-of-everybody-0000"
HOUR_MS = 3_600_000
PATIENCE_S = 60.0
_REPEAT_S = 0.02
_EVERYBODY = 1_000_000
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


async def open_drop(parts: Parts, units: int, *, drop_id: str | None = None, durability: Durability = Durability.DISK) -> Drop:
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
    _trouble: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def reservations(self) -> dict[str, Reservation]:
        """Acknowledged ones, by id."""
        return {found.reservation_id: found for found in self.outcomes.values() if isinstance(found, Reservation)}

    async def run(self, tickets: Iterable[str] | None = None) -> None:
        """Each of these, or everybody, reserves one unit, and asks until it is known whether that worked.

        An answer that changes what was acknowledged before is a broken promise.
        """
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for ticket_id in self.tickets if tickets is None else tickets:
                group.create_task(self._reserve(ticket_id))

    async def reserve(self, ticket_id: str) -> Reservation | Refused:
        """What one shopper is told now. Raises as `Reservations.reserve` does."""
        return await self.parts.reservations.reserve(self.drop_id, ticket_id, TOKEN_ID, "key", ITEMS, "request")

    async def _reserve(self, ticket_id: str) -> None:
        outcome = await self._insist(lambda: self.reserve(ticket_id))
        before = self.outcomes.setdefault(ticket_id, outcome)
        assert type(before) is type(outcome), f"was told {before}, then {outcome}"

    async def pay(self, reservation_ids: Iterable[str]) -> None:
        """Pays for these reservations."""
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for reservation_id in reservation_ids:
                group.create_task(self._pay(reservation_id))

    async def _pay(self, reservation_id: str) -> None:
        settled = await self._insist(
            lambda: self.parts.reservations.confirm(reservation_id, f"pay-{reservation_id}", PRICE_MINOR, "request")
        )
        assert settled.outcome in {ConfirmOutcome.CONFIRMED, ConfirmOutcome.REPLAYED}, settled

    async def _insist(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                return await ask()
            except (StoreUnavailable, StoreUnknown, Recovering, Busy) as error:
                self.troubles[error.code] += 1
                self._trouble.set()
                if asyncio.get_running_loop().time() > deadline_s:
                    raise
                await asyncio.sleep(_REPEAT_S)

    async def troubled(self, code: str, times: int) -> None:
        """Returns once so many answers have been this error."""
        async with asyncio.timeout(PATIENCE_S):
            while self.troubles[code] < times:
                self._trouble.clear()
                await self._trouble.wait()

    async def admit(self) -> None:
        """Everybody joins the line, is served and gets a token; whoever has that already, again."""
        secrets = [f"secret-{number}" for number in range(len(self.tickets))]
        pairs = [(ticket_id, secret_hash_of(secret)) for ticket_id, secret in zip(self.tickets, secrets, strict=True)]
        await self._insist(lambda: self.parts.scripts.call("join", self.drop_id, msgpack.packb(pairs)))
        # A very fast inlet: everybody is served at once.
        await self.parts.store.hset(drop_keys(self.drop_id).drop, "serving_number", _EVERYBODY)
        tokens = [(ticket_id, TOKEN_ID) for ticket_id in self.tickets]
        await self._insist(lambda: self.parts.scripts.call("admit", self.drop_id, msgpack.packb(tokens)))

    async def stock(self) -> SkuStock:
        """Where the units are; they have to add up."""
        stock = (await self._insist(lambda: self.parts.drops.inspect(self.drop_id))).skus[SKU]
        assert stock.allotment == stock.available + stock.reserved + stock.sold
        return stock

    async def lost(self) -> list[str]:
        """Ids of acknowledged reservations that the store does not know."""
        ids = tuple(self.reservations)
        found = (await self._insist(lambda: self.parts.drops.inspect(self.drop_id, reservations=ids))).reservations
        return [reservation_id for reservation_id, record in zip(ids, found, strict=True) if record is None]


async def admitted(parts: Parts, drop_id: str, count: int) -> Buyers:
    """So many shoppers with an admission token."""
    buyers = Buyers(parts, drop_id, [ticket_id_of(drop_id, secret_hash_of(f"secret-{number}")) for number in range(count)])
    await buyers.admit()
    return buyers
