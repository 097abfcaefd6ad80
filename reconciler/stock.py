"""Changes of allotments that the journal tells of, on their way into Postgres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from reconciler.orders import require_current, try_later

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flashsale.connections.database import Database
    from reconciler.entries import StockChange


@dataclass(frozen=True, slots=True)
class Told:
    """What telling Postgres of changes came to."""

    too_early: set[str] = field(default_factory=set)
    """ids of changes that would leave less than is sold: other news must come first"""
    poison: dict[str, str] = field(default_factory=dict)
    """change id to reason, of the changes the database will never accept"""


class StockRecorder:
    """Moves allotments in Postgres as the store has moved its own. Holds no state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self, drop_id: str, changes: Iterable[StockChange], epoch: int = 0) -> Told:
        """Move the allotments by `changes`, each once per id, whoever tells of it and however often.

        Args:
            epoch: the drop's when the first of them happened; 0 when nobody knows.

        Raises:
            Overtaken: they are of an epoch that the drop has left.
            DatabaseUnavailable: nothing or only a part was recorded; tell it again later.
        """
        once = {change.change_id: change for change in changes}
        told = Told()
        if once and not await self._try(drop_id, list(once.values()), epoch, None):
            for change in once.values():
                await self._try(drop_id, [change], epoch, told)
        return told

    async def _try(self, drop_id: str, changes: Sequence[StockChange], epoch: int, told: Told | None) -> bool:
        """Record `changes` together; False, and noted in `told`, when the database refuses them."""
        with try_later():
            try:
                require_current(epoch, await self._database.fetchval("stock_changes_tell", drop_id, *_columns(changes), epoch))
            except asyncpg.CheckViolationError:
                if told is not None:
                    told.too_early.update(change.change_id for change in changes)
                return False
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
                if told is not None:
                    told.poison.update((change.change_id, str(error)) for change in changes)
                return False
        return True


def _columns(changes: Sequence[StockChange]) -> tuple[list[object], ...]:
    return (
        [change.change_id for change in changes],
        [change.sku for change in changes],
        [change.delta for change in changes],
        [change.reason for change in changes],
        [change.at_ms for change in changes],
    )
