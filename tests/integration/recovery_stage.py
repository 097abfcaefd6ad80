"""A drop on both stores with shoppers who reserve and pay, and the ways to lose it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack
from prometheus_client import CollectorRegistry

from flashsale.cli.recover import recovery_of
from flashsale.cli.target import Parts
from flashsale.drops import DropCatalog, DropStore
from flashsale.keys import drop_keys
from flashsale.model import Drop, Inspection, Reservation, secret_hash_of, ticket_id_of
from flashsale.reservations import Reservations
from flashsale.resources import resource_dir
from flashsale.scripts import Scripts, read_scripts
from reconciler.metrics import ReconcilerMetrics
from reconciler.watch import Watch
from tests.integration.http_client import make_drop

TOKEN = "token-0000000000000000"
"""every shopper's"""


def new_parts(parts: Parts) -> Parts:
    """The same installation as another process sees it, which has seen nothing yet."""
    scripts = Scripts(parts.store, read_scripts(resource_dir("lua")), parts.settings.store, parts.settings.batch)
    drops = DropStore(scripts, parts.settings)
    return replace(parts, scripts=scripts, drops=drops, catalog=DropCatalog(parts.database, drops), reservations=Reservations(scripts))


def watch_of(parts: Parts) -> Watch:
    """The watch of a process."""
    return Watch(parts.database, parts.scripts, parts.drops, ReconcilerMetrics(CollectorRegistry()), 50)


@dataclass(slots=True)
class Stage:
    """One drop."""

    parts: Parts
    drop: Drop = field(default_factory=make_drop)
    shoppers: dict[str, str] = field(default_factory=dict)
    """name to secret"""

    @property
    def drop_id(self) -> str:
        return self.drop.drop_id

    async def open(self) -> None:
        await self.parts.catalog.create(self.drop)

    async def call(self, script: str, *arguments: Any) -> Any:
        return (await self.parts.scripts.call(script, self.drop_id, *(msgpack.packb(argument) for argument in arguments)))[1]

    def ticket(self, name: str) -> str:
        return ticket_id_of(self.drop_id, secret_hash_of(self.shoppers[name]))

    async def join(self, *names: str) -> list[int]:
        for name in names:
            self.shoppers.setdefault(name, secrets.token_urlsafe(24))
        requests = [[self.ticket(name), secret_hash_of(self.shoppers[name])] for name in names]
        return [result[1] for result in await self.call("join", requests)]

    async def enter(self, *names: str) -> None:
        """Joins and is admitted at once, whatever the rate."""
        await self.join(*names)
        keys = drop_keys(self.drop_id)
        await self.parts.store.hset(keys.drop, "serving_number", int(await self.parts.store.hget(keys.drop, "joined")))
        requests = [[self.ticket(name), TOKEN] for name in names]
        assert [result[0] for result in await self.call("admit", requests)] == ["admitted"] * len(names)

    async def reserve(self, name: str, key: str = "first", **items: int) -> Reservation:
        wanted = tuple(sorted((sku.replace("_", "-"), quantity) for sku, quantity in (items or {"black_42": 1}).items()))
        found = await self.parts.reservations.reserve(self.drop_id, self.ticket(name), TOKEN, key, wanted, f"q-{name}")
        assert isinstance(found, Reservation), found
        return found

    async def pay(self, reservation: Reservation) -> str:
        settled = await self.parts.reservations.confirm(reservation.reservation_id, f"pay-{reservation.reservation_id[-6:]}",
                                                        reservation.amount_minor, "q-pay")  # fmt: skip
        return settled.outcome.value

    async def drain(self) -> None:
        """Everything in the journal gets into Postgres."""
        _, consumer = recovery_of(self.parts)._follow(self.drop_id)
        await consumer.drain()

    async def inspect(self, *reservations: Reservation) -> Inspection:
        return await self.parts.drops.inspect(self.drop_id, reservations=tuple(one.reservation_id for one in reservations))

    async def recover(self, **options: Any) -> Any:
        return await recovery_of(self.parts).recover(self.drop_id, **options)

    async def copy(self) -> dict[bytes, tuple[bytes, ...]]:
        """Every key of the store as it is now."""
        return {key: (await self.parts.store.dump(key),) for key in await self.parts.store.keys("*")}

    async def put_back(self, copy: dict[bytes, tuple[bytes, ...]]) -> None:
        """The store as it was, which is what an older file or a stale replica is."""
        await self.parts.store.flushall()
        for key, (dumped,) in copy.items():
            await self.parts.store.restore(key, 0, dumped)
