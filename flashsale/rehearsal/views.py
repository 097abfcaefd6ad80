"""What people read from a serving document, worked out for all of them at once. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import takewhile

from admission.outlook import outlook
from admission.serving import ServingDocument
from flashsale.model import LINE_STRIDE, place_of

NO_CHANCE = 0.05
"""Below it people are told that they have no chance."""
_NOWHERE = 10**15


class View:
    """One document, as the people of each line read it: the wait by position, and from where on there is no chance."""

    def __init__(self, document: ServingDocument) -> None:
        self.document = document
        self.state = document.state
        self.ceiling_ms = document.poll.ceiling_ms
        self._lines = [_LineView(document, line) for line in range(len(document.groups or ()) or 1)]

    def is_hopeless(self, place: int) -> bool:
        """Whether the chance told is below 5 %."""
        return place >= self._lines[place // LINE_STRIDE].hopeless_from

    def poll_after_ms(self, place: int, roll: float) -> float:
        """When somebody at `place` looks again, give or take 30 % by `roll` from 0 to 1."""
        line = self._lines[place // LINE_STRIDE]
        return (self.ceiling_ms if place >= line.far_from else self._clamped(line.wait_ms(place))) * (0.7 + 0.6 * roll)

    def poll_early_ms(self, wait_ms: float, roll: float) -> float:
        """The same for somebody who waits for the opening."""
        return self._clamped(wait_ms) * (0.7 + 0.6 * roll)

    def _clamped(self, wait_ms: float) -> float:
        poll = self.document.poll
        return min(poll.ceiling_ms, max(poll.floor_ms, wait_ms / poll.divisor))


class _LineView:
    def __init__(self, document: ServingDocument, line: int) -> None:
        serving, joined = document.serving_number, document.joined
        if document.groups:
            serving, joined = document.groups[line].serving_number, document.groups[line].joined
        waiting = max(1, joined - serving)
        self._serving = place_of(line, serving)
        self._positions = [0, *takewhile(lambda position: position < waiting, (2**power for power in range(40))), waiting]
        self._waits_ms: list[float] = [_wait_ms(document, self._serving + position, position) for position in self._positions]
        far_ms = document.poll.ceiling_ms * document.poll.divisor
        far = bisect_left(self._waits_ms, far_ms)
        self.far_from = self._serving + self._positions[far] if far < len(self._positions) else _NOWHERE
        places = range(self._serving, self._serving + waiting)
        hopeless = bisect_left(places, True, key=lambda place: _is_hopeless(document, place))
        self.hopeless_from = places[hopeless] if hopeless < len(places) else _NOWHERE

    def wait_ms(self, place: int) -> float:
        position = place - self._serving
        at = bisect_right(self._positions, position)
        if at == 0:
            return 0.0
        if at == len(self._positions):
            return self._waits_ms[-1]
        low, high = self._positions[at - 1], self._positions[at]
        part: float = (position - low) / (high - low)
        return self._waits_ms[at - 1] * (1 - part) + self._waits_ms[at] * part


def _wait_ms(document: ServingDocument, place: int, position: int) -> float:
    """The sooner end of the range told, or the line at the drop's rate where none is told."""
    told = outlook(document, place).eta_ms
    if told is not None:
        return told[0]
    return max(0, document.opens_at_ms - document.now_ms) + (position + 1) * 60_000 / max(1, document.rate_per_min)


def _is_hopeless(document: ServingDocument, place: int) -> bool:
    odds = outlook(document, place).chance
    return odds is not None and odds < NO_CHANCE
