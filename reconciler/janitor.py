"""The janitor: how far each journal is behind, and the end of entries that were finished long enough ago."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from flashsale.errors import FlashsaleError
from flashsale.log import Trouble
from reconciler.agents import repeat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flashsale.settings import ReconcilerSettings
    from reconciler.journal import Journal
    from reconciler.metrics import ReconcilerMetrics

DROPS_AT_ONCE_MAX = 8

_log = structlog.get_logger("reconciler")


class Janitor:
    """Measures how far each journal is behind, and deletes finished entries once they are old enough."""

    name = "janitor"

    def __init__(self, journals: Callable[[], Mapping[str, Journal]], metrics: ReconcilerMetrics, settings: ReconcilerSettings) -> None:
        self._journals = journals
        self._metrics = metrics
        self._settings = settings
        self._troubles: dict[str, Trouble] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Look at every journal every `refresh_ms` until stopping."""
        await repeat(self.name, self._settings.refresh_ms, self.look, stop)

    async def look(self) -> None:
        """Measure and trim each journal once. One that cannot be reached does not hold up the others."""
        journals = self._journals()
        self._troubles = {drop_id: trouble for drop_id, trouble in self._troubles.items() if drop_id in journals}
        gate = asyncio.Semaphore(DROPS_AT_ONCE_MAX)

        async def one(drop_id: str, journal: Journal) -> None:
            async with gate:
                await self._look_at(drop_id, journal)

        await asyncio.gather(*(one(drop_id, journal) for drop_id, journal in journals.items()))

    async def _look_at(self, drop_id: str, journal: Journal) -> None:
        trouble = self._troubles.setdefault(drop_id, Trouble(_log, "janitor_held_up", "janitor_resumed", drop=drop_id))
        try:
            age_ms = await journal.oldest_unfinished_ms()
            self._metrics.journal_oldest_age.labels(drop_id).set((age_ms or 0) / 1000)
            await journal.trim(self._settings.keep_finished_ms)
            trouble.passed()
        except FlashsaleError as error:
            trouble.met(code=error.code, error=str(error))
