"""The reaper: ends overdue reservations, so that their units are on sale again within two seconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from flashsale.errors import FlashsaleError
from reconciler.agents import repeat

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from flashsale.settings import ReaperSettings
    from reconciler.metrics import ReconcilerMetrics

DROPS_AT_ONCE_MAX = 8

_log = structlog.get_logger("reconciler")


class Expire(Protocol):
    """Ends overdue reservations of a drop by one script call."""

    async def __call__(self, drop_id: str, batch_size_max: int) -> int:
        """At most `batch_size_max` of them; returns how many, 0 when none is overdue. Calling it twice is harmless."""
        ...


class Reaper:
    """Looks at every live drop in turn. Any number of reapers may run; each reservation is ended once, by the script."""

    name = "reaper"

    def __init__(
        self, expire: Expire, live_drops: Callable[[], Collection[str]], metrics: ReconcilerMetrics, settings: ReaperSettings
    ) -> None:
        self._expire = expire
        self._live_drops = live_drops
        self._metrics = metrics
        self._settings = settings
        self._failing: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look every `interval_ms` until stopping."""
        await repeat(self.name, self._settings.interval_ms, self.reap, stop)

    async def reap(self) -> int:
        """End what is overdue now in all live drops; returns how many. A drop in trouble does not hold up the others."""
        gate = asyncio.Semaphore(DROPS_AT_ONCE_MAX)

        async def one(drop_id: str) -> int:
            async with gate:
                return await self._reap_drop(drop_id)

        return sum(await asyncio.gather(*(one(drop_id) for drop_id in sorted(self._live_drops()))))

    async def _reap_drop(self, drop_id: str) -> int:
        total = 0
        try:
            while True:
                ended = await self._expire(drop_id, self._settings.batch_size_max)
                total += ended
                if ended < self._settings.batch_size_max:
                    break
        except FlashsaleError as error:
            if drop_id not in self._failing:
                _log.warning("reaper_held_up", drop=drop_id, code=error.code, error=str(error))
            self._failing.add(drop_id)
        else:
            self._failing.discard(drop_id)
        if total:
            self._metrics.expired.labels(drop_id).inc(total)
            _log.info("reservations_expired", drop=drop_id, reservations=total)
        return total
