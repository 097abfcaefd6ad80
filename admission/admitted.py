"""How many were admitted in the last minute, from the pictures every worker sees anyway. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        """Shoppers admitted in the minute before `snapshot`; None while this worker has not watched the drop for that long.

        The minute is up to `POINT_EVERY_MS` longer where no picture was taken at its beginning.
        """
        past = self._past.get(snapshot.drop_id)
        if past is None or past.epoch != snapshot.epoch:
            return None
        begun = None
        for at_ms, admitted in past.points:
            if snapshot.now_ms - at_ms < WINDOW_MS:
                break
            begun = admitted
        if begun is None and past.points and past.points[0][1] == 0:
            begun = 0  # nobody had been admitted when this worker first saw the drop
        return None if begun is None else max(0, snapshot.admitted - begun)
