"""How many were admitted in the last minute, from the pictures every worker sees anyway. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashsale.model import Snapshot

POINT_EVERY_MS = 2_000
WINDOW_MS = 60_000
POINTS_MAX = WINDOW_MS // POINT_EVERY_MS + 2


@dataclass(slots=True)
class _Past:
    epoch: int
    points: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=POINTS_MAX))
    """(store's time in ms, shoppers admitted by then), oldest first"""


class AdmittedLately:
    """Keeps, for each drop, how many had been admitted at points of the last minute."""

    def __init__(self) -> None:
        self._past: dict[str, _Past] = {}

    def see(self, snapshot: Snapshot) -> None:
        """Takes a picture into account; called for every one."""
        past = self._past.get(snapshot.drop_id)
        if past is None or past.epoch != snapshot.epoch:
            past = self._past[snapshot.drop_id] = _Past(snapshot.epoch)
        points = past.points
        if not points or snapshot.now_ms - points[-1][0] >= POINT_EVERY_MS:
            points.append((snapshot.now_ms, snapshot.admitted))

    def last_min(self, snapshot: Snapshot) -> int | None:
        """Shoppers admitted in the minute before `snapshot`; None while this worker has not watched the drop for that long."""
        past = self._past.get(snapshot.drop_id)
        if past is None or past.epoch != snapshot.epoch:
            return None
        points = [*past.points, (snapshot.now_ms, snapshot.admitted)]
        begun = _at(points, snapshot.now_ms - WINDOW_MS)
        return None if begun is None else max(0, snapshot.admitted - begun)


def _at(points: Sequence[tuple[int, int]], at_ms: int) -> int | None:
    """How many had been admitted at a time, on the line between the points around it; None before the first of them.

    Whoever was nobody yet at the first point was nobody before.
    """
    at = bisect_right(points, at_ms, key=itemgetter(0))
    if at == 0:
        return None if points[0][1] else 0
    before = points[at - 1]
    after = points[min(at, len(points) - 1)]
    elapsed_ms = after[0] - before[0]
    return before[1] if elapsed_ms <= 0 else before[1] + (after[1] - before[1]) * (at_ms - before[0]) // elapsed_ms
