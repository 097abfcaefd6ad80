"""Ending overdue reservations, as long as the store's clock can be believed.

The store's time says what is overdue. When it steps, nothing is ended, the drop is paused and the alarm raised: people who
are paying must not lose what they hold because somebody set a clock. It goes on when the clock is right again, or when
somebody has resumed the drop and so accepted the new time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from flashsale.clock import Clock, SystemClock
from flashsale.model import DropState, Inspection, Snapshot
from flashsale.store_clock import STEP_MAX_MS, StoreClock


class Drops(Protocol):
    """What is needed of `flashsale.drops.DropStore`."""

    async def inspect(self, drop_id: str) -> Inspection: ...  # noqa: D102 - see DropStore
    async def pause(self, drop_id: str) -> bool: ...  # noqa: D102 - see DropStore


class Expiry:
    """Ends overdue reservations for whoever looks for them: the reaper, and workers while there is none."""

    def __init__(
        self,
        drops: Drops,
        expire: Callable[[str, int], Awaitable[int]],
        *,
        clock: Clock | None = None,
        on_step: Callable[[str, int], None] = lambda _drop_id, _step_ms: None,
    ) -> None:
        """Put it together.

        Args:
            drops: the drops in the store.
            expire: ends at most so many overdue reservations of a drop; how many it ended.
            clock: of this process; what counts is that it never steps.
            on_step: told at each look by how many ms the store's clock has stepped.
        """
        self._drops = drops
        self._expire = expire
        self._clock = StoreClock(clock or SystemClock())
        self._on_step = on_step
        self._stopped: dict[str, bool] = {}
        """drops whose clock stepped, and whether they have been seen paused since"""
        self._log = structlog.get_logger("expiry")

    async def end_overdue(self, drop_id: str, batch_size_max: int) -> int:
        """Ends overdue reservations, at most `batch_size_max`; how many. 0 when the clock cannot be believed.

        Raises:
            Recovering, StoreUnavailable, StoreUnknown: see `Scripts.call`.
        """
        snapshot = (await self._drops.inspect(drop_id)).snapshot
        if not self.watch(snapshot):
            self._stopped[drop_id] = self._stopped[drop_id] or await self._drops.pause(drop_id)
            return 0
        return await self._expire(drop_id, batch_size_max) if snapshot.overdue else 0

    def watch(self, snapshot: Snapshot) -> bool:
        """Whether a picture's clock can be believed. Who ends only what others have seen overdue shows every picture here: the
        first one that is looked at says nothing of a step before it.
        """
        drop_id = snapshot.drop_id
        if self._stopped.get(drop_id) and snapshot.state is DropState.OPEN:
            self._clock.accept(drop_id)
        step_ms = self._clock.step_ms(drop_id, snapshot.now_ms)
        self._on_step(drop_id, step_ms)
        if abs(step_ms) <= STEP_MAX_MS:
            if self._stopped.pop(drop_id, None) is not None:
                self._log.info("store_clock_steady", drop=drop_id)
            return True
        if drop_id not in self._stopped:
            self._log.error(
                "store_clock_stepped",
                drop=drop_id,
                seconds=round(step_ms / 1000),
                todo="No reservation ends, and the drop is paused before one would. Set the clock right, or resume the drop to accept it.",
            )
        self._stopped[drop_id] = self._stopped.get(drop_id, False) or snapshot.state is not DropState.OPEN
        return False
