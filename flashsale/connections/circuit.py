"""Whether it is worth asking a store that has not answered.

A store that is away would otherwise cost every caller its whole deadline. After one call that waited in vain the circuit is
open: calls are refused at once, and only a probe at a time goes out until one is answered. The pattern is the circuit breaker
of M. Nygard, "Release It!", chapter 5.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum, auto

PROBE_PAUSE_MIN_S = 0.05
PROBE_PAUSE_MAX_S = 0.5
"""With a probe's own limit this stays below a second, so that a store that is back is used within one."""
PROBE_JITTER = 0.25
"""Workers that lost the store together do not ask for it together."""


class Permit(Enum):
    """What a caller may do."""

    CALL = auto()
    PROBE = auto()
    """find out first whether the store answers, and tell `heard` or `missed`"""
    REFUSED = auto()


class Circuit:
    """The circuit of one store, closed at first. It does nothing itself: callers ask it, and tell it what they found."""

    def __init__(self, clock: Callable[[], float], on_change: Callable[[bool], None]) -> None:
        """Describe the circuit.

        Args:
            clock: seconds that never go back.
            on_change: told True when it opens and False when it closes.
        """
        self._clock = clock
        self._on_change = on_change
        self._open = False
        self._heard_at = float("-inf")
        self._probing = False
        self._probe_at = 0.0
        self._pause_s = PROBE_PAUSE_MIN_S

    @property
    def is_open(self) -> bool:
        """Calls are refused."""
        return self._open

    def permit(self) -> Permit:
        """What the next caller may do. Whoever is given the probe must end it."""
        if not self._open:
            return Permit.CALL
        if self._probing or self._clock() < self._probe_at:
            return Permit.REFUSED
        self._probing = True
        return Permit.PROBE

    def heard(self) -> None:
        """The store has answered."""
        self._heard_at = self._clock()
        self._probing = False
        if self._open:
            self._open = False
            self._on_change(False)

    def silent(self, since: float) -> None:
        """A call that began at `since` ended without an answer; it counts when nobody has been answered in the meantime."""
        if self._open or self._heard_at > since:
            return
        self._open = True
        self._pause_s = PROBE_PAUSE_MIN_S
        self._wait()
        self._on_change(True)

    def missed(self) -> None:
        """The probe was not answered, or given up."""
        self._probing = False
        self._pause_s = min(2 * self._pause_s, PROBE_PAUSE_MAX_S)
        self._wait()

    def _wait(self) -> None:
        self._probe_at = self._clock() + self._pause_s * random.uniform(1 - PROBE_JITTER, 1)  # noqa: S311 - no secret
