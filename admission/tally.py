"""The admission log added up, line by line. Pure.

What counts: a place is called once, by the first entry that calls it. Whoever is called again, from the head of the line, has
had the turn before and overtakes nobody.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

from admission.log import Called, Claimed, Cut, Event, Left, Removed, Returned, Unknown
from flashsale.model import LINE_STRIDE, line_of


class Run(NamedTuple):
    """Places that were called for the first time, together."""

    start: int
    stop: int
    at_ms: int


class Covered:
    """Which places have come up so far, as intervals that neither overlap nor touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __contains__(self, place: int) -> bool:
        at = bisect_right(self._starts, place) - 1
        return at >= 0 and place < self._stops[at]

    def add(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Adds an interval; answers the parts of it that are new, ascending."""
        first, last = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        fresh, at = [], start
        for i in range(first, last):
            if at < self._starts[i]:
                fresh.append((at, self._starts[i]))
            at = max(at, self._stops[i])
        if at < stop:
            fresh.append((at, stop))
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last], self._stops[first:last] = [start], [stop]
        return fresh


@dataclass(slots=True)
class LineTally:
    """What the log says of one line."""

    runs: list[Run] = field(default_factory=list)
    """in the order of calling"""
    covered: Covered = field(default_factory=Covered)
    """places the serving number has passed"""
    passed: int = 0
    """how many those are"""
    called_again: int = 0
    """calls of places that had been called before"""
    claims: array[int] = field(default_factory=lambda: array("q"))
    """places, in the order of claiming"""
    claimed_at_ms: array[int] = field(default_factory=lambda: array("q"))
    claim_waits_ms: array[int] = field(default_factory=lambda: array("q"))
    """of those who found a slot when they came"""
    claimed: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    """places left or removed"""
    gone_waiting: set[int] = field(default_factory=set)
    """of those: before they were called"""
    left: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    """places taken away, by reason"""
    cut: Cut | None = None
    """the latest, with this line's place only; None when the line went on after it"""

    def call(self, called: Called) -> None:
        """Counts a call."""
        fresh = self.covered.add(called.start, called.stop)
        self.runs += [Run(start, stop, called.at_ms) for start, stop in fresh]
        count = sum(stop - start for start, stop in fresh)
        self.passed += count
        self.called_again += called.stop - called.start - count

    def take(self, event: Claimed | Returned | Left | Removed | Cut, at: int) -> None:
        """Counts what happened to the place at index `at` of an event."""
        place = event.places[at]
        match event:
            case Claimed(at_ms=at_ms, waits_ms=waits_ms):
                self._claim(place, at_ms, waits_ms[at])
            case Returned():
                self.called_again += 1
            case Left():
                self.left += self._go(place)
            case Removed(why=why):
                self.removed[why] += self._go(place)
            case Cut(at_ms=at_ms, why=why):
                self.cut = Cut(at_ms, (place,), why)
            case _:
                assert_never(event)

    def _claim(self, place: int, at_ms: int, wait_ms: int) -> None:
        if place not in self.claimed:
            self.claimed.add(place)
            self.claims.append(place)
            self.claimed_at_ms.append(at_ms)
            if wait_ms >= 0:
                self.claim_waits_ms.append(wait_ms)

    def _go(self, place: int) -> bool:
        if place in self.gone:
            return False
        self.gone.add(place)
        if place not in self.covered:
            self.gone_waiting.add(place)
        return True

    @property
    def called(self) -> int:
        """Places called; those given up before the serving number passed them were not."""
        return self.passed - sum(place in self.covered for place in self.gone_waiting)

    @property
    def never_came(self) -> int:
        """Places called whose shopper neither came nor gave up."""
        gave_up = sum(place in self.covered and place not in self.claimed for place in self.gone - self.gone_waiting)
        return self.called - sum(place in self.covered for place in self.claimed) - gave_up


@dataclass(slots=True)
class Tally:
    """What the log says of a drop."""

    lines: defaultdict[int, LineTally] = field(default_factory=lambda: defaultdict(LineTally))
    entries: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    """entries this release cannot read, by kind"""
    last_at_ms: int = 0
    """when the latest event happened; 0 before the first"""

    def line(self, place: int) -> LineTally:
        """The line of a place."""
        return self.lines[line_of(place)]

    def add(self, event: Event) -> None:
        """Counts one event."""
        self.entries += 1
        if isinstance(event, Unknown):
            self.unknown[event.kind] += 1
            return
        self.last_at_ms = max(self.last_at_ms, event.at_ms)
        if isinstance(event, Called):
            self._call(event)
        else:
            for at, place in enumerate(event.places):
                self.line(place).take(event, at)

    def _call(self, called: Called) -> None:
        if called.stop - called.start > LINE_STRIDE or line_of(called.start) != line_of(called.stop - 1):
            self.unknown["called"] += 1
            return
        self.line(called.start).call(called)
        for line in self.lines.values():  # nobody is called while all is sold, so units were added
            line.cut = None


def tally(events: Iterable[Event]) -> Tally:
    """All events added up."""
    total = Tally()
    for event in events:
        total.add(event)
    return total
