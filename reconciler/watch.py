"""The watch: notices that a store has lost a drop or gone back in time, also across a restart of everything.

It remembers in Postgres how far each drop had come, once a second, and holds the store to it. A store that is behind is
fenced off, so that every other process hears it too; what is missing nobody can sell. Mending is `flashsale recover`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from flashsale.drops import ROLLED_BACK
from flashsale.errors import FlashsaleError, Recovering
from flashsale.log import Trouble
from flashsale.recorded import RecordedDrop, recorded_drops
from reconciler.agents import repeat
from reconciler.recovery import note_picture

if TYPE_CHECKING:
    from flashsale.connections.database import Database
    from flashsale.model import FenceOutcome, Inspection, Snapshot
    from flashsale.scripts import Scripts
    from reconciler.metrics import ReconcilerMetrics

DROPS_AT_ONCE_MAX = 8

_log = structlog.get_logger("reconciler")


class Drops(Protocol):
    """What the watch needs of `flashsale.drops.DropStore`."""

    async def ids(self) -> set[str]: ...  # noqa: D102 - see DropStore
    async def inspect(self, drop_id: str) -> Inspection: ...  # noqa: D102 - see DropStore
    async def fence(self, drop_id: str, epoch: int, reason: str, sequence: int = 0) -> FenceOutcome: ...  # noqa: D102 - see DropStore


class Watch:
    """Holds the store to what Postgres remembers. Any number may run."""

    name = "watch"

    def __init__(self, database: Database, scripts: Scripts, drops: Drops, metrics: ReconcilerMetrics, interval_ms: int) -> None:
        self._database = database
        self._scripts = scripts
        self._drops = drops
        self._metrics = metrics
        self._interval_ms = interval_ms
        self._noted: dict[str, int] = {}
        """by drop, the sequence of the picture in Postgres"""
        self._lost: dict[str, str] = {}
        self._held_up: dict[str, Trouble] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Look every `interval_ms` until stopping."""
        await repeat(self.name, self._interval_ms, self.look, stop)

    async def look(self) -> frozenset[str]:
        """Look at every drop the store should hold; the ids of those that need to be recovered.

        Raises:
            DatabaseUnavailable: nobody can tell what the store should hold.
            StoreUnavailable: it does not answer at all.
        """
        recorded = await recorded_drops(self._database)
        for drop_id in recorded.keys() - await self._drops.ids():
            # Workers find drops by this list; one they cannot find they would take for one that never was.
            await self._scripts.add_drop_id(drop_id)
        gate = asyncio.Semaphore(DROPS_AT_ONCE_MAX)

        async def one(drop_id: str, drop: RecordedDrop) -> None:
            async with gate:
                await self._look_at(drop_id, drop)

        await asyncio.gather(*(one(drop_id, drop) for drop_id, drop in recorded.items()))
        for drop_id in (self._noted.keys() | self._lost.keys()) - recorded.keys():
            self._noted.pop(drop_id, None)
            self._lost.pop(drop_id, None)
        self._held_up = {drop_id: trouble for drop_id, trouble in self._held_up.items() if drop_id in recorded}
        return frozenset(self._lost)

    async def _look_at(self, drop_id: str, recorded: RecordedDrop) -> None:
        self._scripts.learn(drop_id, recorded.epoch, recorded.sequence)
        try:
            inspection = await self._drops.inspect(drop_id)
        except Recovering:
            epoch, sequence = self._scripts.seen(drop_id)
            outcome = await self._drops.fence(drop_id, epoch, ROLLED_BACK, sequence=max(1, sequence))
            self._say_lost(drop_id, outcome.value)
        except FlashsaleError as error:
            trouble = self._held_up.setdefault(drop_id, Trouble(_log, "watch_held_up", "watch_resumed", drop=drop_id))
            trouble.met(code=error.code, error=str(error))
        else:
            if held_up := self._held_up.pop(drop_id, None):
                held_up.passed()
            self._say_found(drop_id)
            await self._note(drop_id, inspection.snapshot, recorded)

    async def _note(self, drop_id: str, snapshot: Snapshot, recorded: RecordedDrop) -> None:
        _, sequence = self._scripts.seen(drop_id)
        # A Postgres that knows only an earlier epoch has lost commits. It stays there: the journal, read again, tells of that one.
        if self._noted.get(drop_id) != sequence or recorded.picture is None:
            await note_picture(self._database, drop_id, snapshot, sequence)
            self._noted[drop_id] = sequence

    def _say_lost(self, drop_id: str, why: str) -> None:
        self._metrics.recovering.labels(drop_id).set(1)
        if drop_id not in self._lost:
            _log.error(
                "drop_needs_recovery",
                drop=drop_id,
                found=_FOUND[why],
                todo=f"Nothing is sold meanwhile. Look at the store, then run 'flashsale recover {drop_id}'.",
            )
        self._lost[drop_id] = why

    def _say_found(self, drop_id: str) -> None:
        self._metrics.recovering.labels(drop_id).set(0)
        if self._lost.pop(drop_id, None):
            _log.info("drop_recovered", drop=drop_id)


_FOUND = {
    "missing": "the store does not have it",
    "fenced": "the store has gone back in time; the drop is closed now",
    "replayed": "the drop is closed until it is recovered",
    "refused": "a part of it is missing in the store",
}
