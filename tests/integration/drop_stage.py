"""One drop in both real stores, with orders recorded: where tests of audits, repairs and stock changes start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashsale.connections.database import Database
from flashsale.keys import drop_keys
from reconciler.auditor import AuditReport, audit
from reconciler.evidence import Evidence
from tests.integration.reconciler_stage import Store, make_consumer, query
from tests.lua import world as w
from tests.lua.world import World, reserving

if TYPE_CHECKING:
    from reconciler.laws import Drift

DROP_ID = w.DROP_ID
KEYS = drop_keys(DROP_ID)
PAID, HELD, FREED = f"{DROP_ID}.rpaid", f"{DROP_ID}.rheld", f"{DROP_ID}.rfreed"


class DropStage:
    """5 units of s1 and 3 of s2. Ann has paid one of each, bob holds two of s1, and ann gave one of s2 back."""

    def __init__(self, store: Store, database: Database) -> None:
        self.store = store
        self.database = database
        self.world = World(store)

    async def set_up(self) -> None:
        """Does what the class says, and records it."""
        await w.admitted(self.world)
        await self.database.fetch("drop_insert", DROP_ID, "shop", "D", '{"currency": "EUR"}', 1000, 2000, 2_000_000_000_000)
        await self.database.fetch("drop_skus_insert", DROP_ID, ["s1", "s2"], ["One", "Two"], [5, 3], [1000, 500], [2, 2])
        await self.database.fetch("drop_opened_in_store", DROP_ID, 1)
        self.world.at(1_000)
        await self.world.reserve(reserving("ann", PAID, s1=1, s2=1), reserving("bob", HELD, s1=2), reserving("ann", FREED, s2=1))
        await self.world.confirm(PAID)
        await self.world.release(FREED)
        await self.record()

    async def record(self) -> None:
        """Moves the journal into Postgres."""
        await make_consumer(self.store, self.database, DROP_ID).drain()

    @property
    def evidence(self) -> Evidence:
        """For an audit."""
        return Evidence(DROP_ID, self.database, self.store)

    async def audit(self) -> AuditReport:
        """A complete audit now."""
        return await audit(self.evidence)

    async def drifts(self) -> set[tuple[str, str, int]]:
        """What a complete audit finds: (kind, SKU, units)."""
        return {(drift.kind.value, drift.sku, drift.units) for drift in (await self.audit()).drifts}

    async def drift(self, kind: str) -> Drift:
        """The first drift of a kind."""
        return next(drift for drift in (await self.audit()).drifts if drift.kind == kind)

    async def count(self, field: str, by: int) -> None:
        """Spoils a counter of the store."""
        await self.store.hincrby(KEYS.stock, field, by)

    async def units(self, sku: str) -> tuple[int, ...]:
        """(allotment, available, reserved, sold) in the store."""
        stock = (await self.world.drops.inspect(DROP_ID)).skus[sku]
        return stock.allotment, stock.available, stock.reserved, stock.sold

    async def sql(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Any statement, as the owner."""
        return await query(self.database, statement, *arguments)

    async def forget_order(self, reservation_id: str) -> None:
        """Deletes an order, as only the owner can."""
        await self.sql("DELETE FROM order_items WHERE reservation_id = $1", reservation_id)
        await self.sql("DELETE FROM refunds WHERE reservation_id = $1", reservation_id)
        await self.sql("DELETE FROM orders WHERE reservation_id = $1", reservation_id)
