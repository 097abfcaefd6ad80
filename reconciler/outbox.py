"""The outbox: what others are to be told, written in the same transaction as what it tells of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from flashsale.connections.database import Database

WAITING_COUNT_MAX = 100_000
"""A longer line is not counted to its end. Nothing bounds the line itself but the orders: a row for each state one comes to."""


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event, to be delivered at least once."""

    event_id: int
    """ascending; a receiver may remember it to recognise repetitions"""
    drop_id: str
    reservation_id: str
    event: str
    """`order.paid`, `order.cancelled`, `order.expired`, `order.refund_due` or `order.refunded`"""
    payload: str
    """JSON object"""
    created_at: datetime


class Outbox:
    """Reads events oldest first and marks what was delivered.

    Ids are given before commits, so an event may appear after one with a higher id: read from the start each time
    (`after=0`) and let the marks decide, not a remembered id.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def undelivered(self, events_max: int, after: int = 0) -> list[OutboxEvent]:
        """The oldest events not delivered yet, at most `events_max`, with ids above `after` (to page within one look)."""
        return [OutboxEvent(*row) for row in await self._database.fetch("outbox_undelivered", events_max, after)]

    async def delivered(self, event_ids: Sequence[int]) -> list[int]:
        """Mark events as delivered; returns those that were not marked before."""
        return [row["id"] for row in await self._database.fetch("outbox_delivered", list(event_ids))]

    async def waiting(self) -> int:
        """How many events wait, counted up to `WAITING_COUNT_MAX`."""
        return int(await self._database.fetchval("outbox_backlog", WAITING_COUNT_MAX))
