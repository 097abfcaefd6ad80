"""The janitor: how far each journal is behind, and the end of entries that were finished long enough ago."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reconciler.agents import repeat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flashsale.settings import ReconcilerSettings
    from reconciler.journal import Journal
    from reconciler.metrics import ReconcilerMetrics


class Janitor:
    """Measures how far each journal is behind, and deletes finished entries once they are old enough."""

    name = "janitor"

    def __init__(self, journals: Callable[[], Mapping[str, Journal]], metrics: ReconcilerMetrics, settings: ReconcilerSettings) -> None:
        self._journals = journals
        self._metrics = metrics
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        """Look at every journal every `refresh_ms` until stopping."""
        await repeat(self.name, self._settings.refresh_ms, self.look, stop)

    async def look(self) -> None:
        """Measure and trim each journal once.

        Raises:
            StoreUnavailable: a journal cannot be reached.
        """
        for drop_id, journal in self._journals().items():
            age_ms = await journal.oldest_unfinished_ms()
            self._metrics.journal_oldest_age.labels(drop_id).set((age_ms or 0) / 1000)
            await journal.trim(self._settings.keep_finished_ms)
