"""The store's clock, watched: it must run as this process's monotonic clock does.

The store's time decides when reservations end. If somebody sets it ten minutes ahead, every shopper who is paying would lose
what they hold. So whoever ends reservations looks here first.
"""

from __future__ import annotations

from flashsale.clock import Clock

STEP_MAX_MS = 60_000
"""more than this between two looks is a step and not a slow look: looks are seconds apart at most"""
DROPS_MAX = 4096


class StoreClock:
    """Remembers for each drop (each has its own server in a Cluster) when the store said what time it was."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin_ms: dict[str, float] = {}

    def step_ms(self, drop_id: str, store_ms: int) -> int:
        """How far the store's clock is ahead of where it should be by now, negative when behind; 0 at the first look.

        Small differences are taken over, so that a clock that is slewed is followed; a step is not, until `accept`.
        """
        origin_ms = store_ms - self._clock.monotonic() * 1000
        before_ms = self._origin_ms.setdefault(drop_id, origin_ms)
        step_ms = round(origin_ms - before_ms)
        if abs(step_ms) <= STEP_MAX_MS:
            self._keep(drop_id, origin_ms)
        return step_ms

    def accept(self, drop_id: str) -> None:
        """Somebody has looked: whatever the store says next is the time."""
        self._origin_ms.pop(drop_id, None)

    def _keep(self, drop_id: str, origin_ms: float) -> None:
        self._origin_ms[drop_id] = origin_ms
        if len(self._origin_ms) > DROPS_MAX:
            self._origin_ms.pop(next(iter(self._origin_ms)))
