"""Notices that Postgres has lost commits it had acknowledged, and has the kept journal read again.

An asynchronous standby that is promoted lacks the last commits of the old primary; so does an older copy that is started in
its place. The orders in them were acknowledged in the journal, too, so nobody would bring them again by himself. But
finished entries stay for `reconciler.keep_finished_ms`: every group is set back to the beginning, what is kept is delivered
once more, and what Postgres has already is absorbed.

The store remembers where Postgres was, because a process may be started after the loss. A promotion begins a new timeline
(PostgreSQL manual, "Continuous Archiving", timelines); without one, an older copy ends at a lower position of its log.
Orders that are missing for another reason are the auditor's business.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import structlog

from flashsale.errors import DatabaseUnavailable
from flashsale.keys import POSTGRES
from reconciler.agents import repeat
from reconciler.journal import Store, live_drop_ids, set_back, store_errors

if TYPE_CHECKING:
    from flashsale.connections.database import Database

_log = structlog.get_logger("reconciler")


@dataclass(frozen=True, slots=True)
class Position:
    """Where a database was at one moment."""

    system: int
    """identifies the cluster; every copy of it has the same"""
    timeline: int
    """raised by every promotion"""
    flushed: int
    """bytes of its log that were on disk"""

    def follows(self, earlier: Position) -> bool:
        """Whether a database here has everything it had committed at `earlier`, as far as can be told."""
        return (self.system, self.timeline) == (earlier.system, earlier.timeline) and self.flushed >= earlier.flushed


class LostCommits:
    """Holds Postgres to what the store remembers of it. Any number may run."""

    name = "lost_commits"

    def __init__(self, database: Database, store: Store, interval_ms: int) -> None:
        self.noticed = 0
        """how often this process has found Postgres somewhere else than it was"""
        self._database = database
        self._store = store
        self._interval_ms = interval_ms
        self._last: Position | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Look every `interval_ms` until stopping."""
        await repeat(self.name, self._interval_ms, self.look, stop)

    async def look(self) -> None:
        """Look once; if commits are lost, every journal is to be read again from its first kept entry.

        Raises:
            DatabaseUnavailable: Postgres cannot be asked, or is a standby.
            StoreUnavailable: the store cannot be asked; the groups may have been set back, and will be again.
        """
        # The store is asked first: what somebody else notes meanwhile must not make Postgres look as if it were behind.
        known = await self._remembered()
        position = await self._position()
        if known is not None and not position.follows(known):
            drops = await self._read_everything_again()
            _log.error("postgres_lost_commits", was=str(known), found=str(position), journals_read_again=drops)
        if position != known:
            await self._remember(position)
        if any(before is not None and not position.follows(before) for before in (known, self._last)):
            self.noticed += 1
        self._last = position

    async def _read_everything_again(self) -> int:
        ids = await live_drop_ids(self._store)
        for drop_id in ids:
            await set_back(self._store, drop_id)
        return len(ids)

    async def _position(self) -> Position:
        try:
            row = await self._database.fetchrow("postgres_position")
        except asyncpg.PostgresError as error:
            raise DatabaseUnavailable(
                what="Postgres does not say how far it has come:", why=f"{error}.", todo="It must be the primary, and not a standby."
            ) from error
        assert row is not None
        return Position(*row)

    async def _remembered(self) -> Position | None:
        with store_errors():
            text = await self._store.get(POSTGRES)
        try:
            return None if text is None else Position(*map(int, text.split()))
        except (ValueError, TypeError):
            return None

    async def _remember(self, position: Position) -> None:
        with store_errors():
            await self._store.set(POSTGRES, f"{position.system} {position.timeline} {position.flushed}")
