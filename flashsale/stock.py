"""Changing a drop's stock while it is on: which side hears of it first, and what completes it when that is interrupted.

Added units go to Postgres first and withdrawn ones leave the store first, so Postgres' allotment is never below the store's
and no order for a unit that was handed out meets a guard that does not know of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from flashsale.drops import DropStore, StockAdjustment
from flashsale.errors import BadInput, FlashsaleError, Recovering, StoreUnavailable, StoreUnknown
from flashsale.model import AdjustStockOutcome

if TYPE_CHECKING:
    from flashsale.connections.database import Database

_CHANGE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Without a colon, so it is never one of those the scripts make for units that drain."""
GIVEN_FOR_MS = 5_000
"""Units given in Postgres this long ago, which the store has not been seen to take, were left by somebody who died."""
HISTORY_MAX = 200
MADE = (AdjustStockOutcome.ADJUSTED, AdjustStockOutcome.DRAINING, AdjustStockOutcome.REPLAYED)
"""The store has the change."""

_log = structlog.get_logger("stock")


@dataclass(frozen=True, slots=True)
class StockChange:
    """A change of an allotment, as Postgres has it."""

    change_id: str
    sku: str
    delta: int
    """units; less than 0 when they left"""
    reason: str
    """added, withdrawn, drained, or repaired"""
    state: str
    """given (the store has yet to take it), told (the store has it), or refused"""
    at_ms: int


class StockLedger:
    """Adds and withdraws units."""

    def __init__(self, database: Database, drops: DropStore) -> None:
        self._database = database
        self._drops = drops
        self._held_up: set[tuple[str, str]] = set()
        """changes of which it was said that the store does not take them now"""

    async def change(self, drop_id: str, change_id: str, sku: str, delta: int, *, drain: bool = False) -> StockAdjustment:
        """Adds `delta` units, or withdraws them when it is less than 0. The same id again is the same change.

        Args:
            change_id: made by the caller; 1 to 64 letters, digits, dots, underscores and hyphens.
            drain: what reservations hold is withdrawn as they end unpaid; without it, withdrawing it is refused.

        Raises:
            BadInput: the id has another form.
            DatabaseUnavailable: units cannot be added now; nothing changed, or `complete` finishes it.
            Recovering, StoreUnavailable: units cannot be withdrawn now; nothing changed.
            StoreUnknown: repeat it with the same id. Added units are on record already, and `complete` gives them to the store.
        """
        if _CHANGE_ID.fullmatch(change_id) is None:
            raise BadInput(
                what="The id of a stock change is 1 to 64 letters, digits, dots, underscores and hyphens.",
                field="id",
                todo="Choose another.",
            )
        if delta > 0:
            return await self._add(drop_id, change_id, sku, delta)
        return await self._drops.adjust_stock(drop_id, change_id, sku, delta, drain=drain)

    async def _add(self, drop_id: str, change_id: str, sku: str, delta: int) -> StockAdjustment:
        raised = await self._database.fetchval("stock_change_give", drop_id, change_id, sku, delta)
        if not raised:
            row = await self._database.fetchrow("stock_change_get", drop_id, change_id)
            if row is None:
                return StockAdjustment(AdjustStockOutcome.UNKNOWN_SKU, None)
            if (row["sku"], row["delta"]) != (sku, delta):
                return StockAdjustment(AdjustStockOutcome.KEY_REUSED, None)
        try:
            return await self._give_to_store(drop_id, change_id, sku, delta)
        except (Recovering, StoreUnavailable) as error:
            raise StoreUnknown(
                what=f"{delta:,} units of {sku} are on record, and the store gets them when it answers for the drop again.",
                todo="Repeat it with the same id to see what came of it; it counts once.",
            ) from error

    async def _give_to_store(self, drop_id: str, change_id: str, sku: str, delta: int) -> StockAdjustment:
        adjustment = await self._drops.adjust_stock(drop_id, change_id, sku, delta, drain=False)
        if adjustment.outcome in MADE:
            await self._database.execute("stock_changes_tell", drop_id, [change_id], [sku], [delta], ["added"], [0], 0)
        else:
            await self._database.execute("stock_change_take_back", drop_id, change_id)
        return adjustment

    async def complete(self) -> int:
        """Finishes additions that were interrupted between Postgres and the store; how many it found.

        Raises:
            DatabaseUnavailable: Postgres cannot be asked.
        """
        rows = await self._database.fetch("stock_changes_given", GIVEN_FOR_MS)
        held_up: set[tuple[str, str]] = set()
        for row in rows:
            drop_id, change_id = row["drop_id"], row["change_id"]
            try:
                adjustment = await self._give_to_store(drop_id, change_id, row["sku"], row["delta"])
                _log.info("stock_change_completed", drop=drop_id, change=change_id, outcome=adjustment.outcome)
            except FlashsaleError as error:
                held_up.add((drop_id, change_id))
                if (drop_id, change_id) not in self._held_up:
                    _log.warning("stock_change_held_up", drop=drop_id, change=change_id, code=error.code, error=str(error))
        self._held_up = held_up
        return len(rows)

    async def history(self, drop_id: str) -> list[StockChange]:
        """The latest `HISTORY_MAX` changes, the newest first. Raises DatabaseUnavailable."""
        return [StockChange(**row) for row in await self._database.fetch("stock_changes_list", drop_id, HISTORY_MAX)]
