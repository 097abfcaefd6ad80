"""What this worker has refused or failed in the last minute, by problem code: read off its own metrics."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flashsale.metrics import Metrics

POINT_EVERY_S = 5.0
POINTS_MAX = 12
"""a minute of them"""
_OK = "ok"


class WorkerErrors:
    """Totals of requests by problem code, as they were at points of the last minute."""

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.requests
        self._points: deque[Counter[str]] = deque([self._totals()], maxlen=POINTS_MAX)

    async def run(self) -> None:
        """Takes a point every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(POINT_EVERY_S)
            self.note()

    def note(self) -> None:
        """Takes a point."""
        self._points.append(self._totals())

    def last_min(self) -> dict[str, int]:
        """Requests of the last minute that were answered with a problem, by code, the most frequent first."""
        return dict((self._totals() - self._points[0]).most_common())

    def _totals(self) -> Counter[str]:
        totals: Counter[str] = Counter()
        for metric in self._requests.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total") and sample.labels["outcome"] != _OK:
                    totals[sample.labels["outcome"]] += int(sample.value)
        return totals
