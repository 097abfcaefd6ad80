"""What one place can be told, from the serving document alone. `web/outlook.js` is the same arithmetic for browsers, and
`tests/vectors/outlook.json` holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from flashsale.model import LINE_STRIDE

CHANCE_MIN_FOR_ETA = 0.5
"""Behind the cut-line nobody can say when, only how likely."""
SPREAD_PLACES = 0.6
"""Slots come free by chance: the time in which n do varies by this many times the square root of n places, from P50 to P10 or P90."""
ROOM_SPREAD = 0.1
"""Even while there is room the line moves faster or slower than planned, as fewer or more people come: by this part at P10 and P90."""
LEAST_SPREAD_MS = 600
"""a beat, and a snapshot's age"""
UNDRAWN_QUANTILES = 10


class PaceRange(msgspec.Struct, frozen=True):
    """How fast places are passed from now on."""

    low_per_min: float
    """P10"""
    high_per_min: float
    """P90"""
    free: int
    """the next so many places are passed at `free_per_min`, for there is room for them"""
    free_per_min: int
    held_after: int
    """after so many places there may be nothing left to call more people for, until those called have decided"""
    held_ms: int
    """how long that takes, at P90"""


class Reach(msgspec.Struct, frozen=True):
    """What there is to be had, and what those before a place will take of it."""

    units: float
    """available, and what is expected back of the reserved"""
    units_spread: float
    """standard deviation of `units`"""
    mean: float
    """units a place takes once it has been passed, for good"""
    spread: float
    """standard deviation of what one place takes"""
    uncertainty: float
    """standard error of `mean`: one and the same for all places, so its share grows with the square of their number"""
    undecided: float
    """passed places that may still take units, as if they were to be passed yet"""


class LineView(msgspec.Struct, frozen=True):
    """One line of a drop with groups."""

    group: str
    """empty for everybody's"""
    joined: int
    entries: int
    key: str | None
    serving_number: int
    share_permille: int


class Document(Protocol):
    """The fields of `admission.serving.ServingDocument` that are read here."""

    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def now_ms(self) -> int: ...  # noqa: D102
    @property
    def opens_at_ms(self) -> int: ...  # noqa: D102
    @property
    def joined(self) -> int: ...  # noqa: D102
    @property
    def serving_number(self) -> int: ...  # noqa: D102
    @property
    def sold_out(self) -> bool: ...  # noqa: D102
    @property
    def groups(self) -> Sequence[LineView] | None: ...  # noqa: D102
    @property
    def pace(self) -> PaceRange | None: ...  # noqa: D102
    @property
    def reach(self) -> Reach | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of one place."""

    position: int | None
    """people of its line before it; None before the draw"""
    eta_ms: tuple[int, int] | None
    """P10 and P90 of the wait until the place is called; None when nothing honest can be said"""
    chance: float | None
    """probability 0..1 that the stock reaches the place; None when it is unknown"""


def outlook(document: Document, place: int | None, *, line: int = 0) -> Outlook:
    """The outlook of a place; with None of an entry before the draw, which may get any place of `line`."""
    lines = _waiting(document)
    number = 0
    if place is not None:
        line, number = divmod(place, LINE_STRIDE)
    if line >= len(lines):
        return Outlook(None, None, None)
    if place is None:
        return _undrawn(document, lines, line)
    serving_number = document.groups[line].serving_number if document.groups else document.serving_number
    position = max(0, number - serving_number)
    before = passed_before(lines, line, position)
    odds = chance(document, before)
    return Outlook(position, None if _is_hopeless(odds) else _eta_ms(document, before, called=number < serving_number), odds)


def chance(document: Document, before: float) -> float | None:
    """Probability that those before a place leave a unit, by the normal approximation; None when it is unknown."""
    if document.sold_out or document.state == "closed":
        return 0.0
    reach = document.reach
    if reach is None or document.state == "recovering":
        return None
    places = before + reach.undecided
    margin = reach.units - 0.5 - places * reach.mean
    taking = 0.0 if reach.units < 0.5 else places  # with nothing left, what those ahead take differently leaves nothing either
    variance = reach.units_spread**2 + taking * reach.spread**2 + (taking * reach.uncertainty) ** 2
    if variance <= 0:
        return 1.0 if margin >= 0 else 0.0
    return normal(margin / math.sqrt(variance))


def passed_before(lines: Sequence[tuple[int, int]], line: int, position: int) -> float:
    """Places passed in all lines before the one at `position` of `line`; `lines`: (people waiting, share) of each.

    Lines that have somebody waiting move side by side in the ratio of their shares; one that has nobody leaves its share to the others.
    """
    left = [float(waiting) for waiting, _ in lines]
    left[line] = float(position)
    passed = 0.0
    while left[line] > 0:
        spans = [left[i] / share if left[i] > 0 and share > 0 else math.inf for i, (_, share) in enumerate(lines)]
        span = min(spans)
        if span == math.inf:
            return passed + left[line]
        for i, (_, share) in enumerate(lines):
            if left[i] > 0 and share > 0:
                passed += span * share
                left[i] = 0.0 if spans[i] <= span else left[i] - span * share
    return passed


def normal(z: float) -> float:
    """The normal distribution function (Zelen and Severo 1964, in Abramowitz and Stegun 26.2.17; error below 7.5e-8)."""
    t = 1 / (1 + 0.2316419 * abs(z))
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * series
    return 1 - tail if z >= 0 else tail


def waiting_in(joined: int, serving_number: int, groups: Sequence[LineView] | None) -> list[tuple[int, int]]:
    """(People waiting, share) of each line; the first two arguments are those of a drop with one line."""
    if not groups:
        return [(max(0, joined - serving_number), 1)]
    return [(max(0, line.joined - line.serving_number), line.share_permille) for line in groups]


def _waiting(document: Document) -> list[tuple[int, int]]:
    return waiting_in(document.joined, document.serving_number, document.groups)


def _is_hopeless(odds: float | None) -> bool:
    return odds is not None and odds < CHANCE_MIN_FOR_ETA


def _eta_ms(document: Document, before: float, *, called: bool) -> tuple[int, int] | None:
    pace = document.pace
    if document.state not in {"scheduled", "waiting", "open"} or pace is None:
        return None
    if called:
        return (0, 0)
    if pace.low_per_min <= 0 or pace.high_per_min <= 0 or pace.free_per_min <= 0:
        return None
    opening_ms = max(0, document.opens_at_ms - document.now_ms)
    places = before + 1
    at_once = min(places, pace.free)
    then = places - at_once
    spread = SPREAD_PLACES * math.sqrt(then)
    head_ms = at_once * 60_000 / pace.free_per_min
    low_ms = head_ms * (1 - ROOM_SPREAD) + max(0.0, then - spread) * 60_000 / pace.high_per_min
    high_ms = head_ms * (1 + ROOM_SPREAD) + (then + spread) * 60_000 / pace.low_per_min
    if places > pace.held_after:
        high_ms += pace.held_ms
    return (
        opening_ms + math.floor(max(0.0, low_ms - LEAST_SPREAD_MS)),
        opening_ms + math.floor(high_ms + LEAST_SPREAD_MS),
    )


def _undrawn(document: Document, lines: Sequence[tuple[int, int]], line: int) -> Outlook:
    """The outlook of somebody whose lot has not been drawn: P10 and P90 over all places there are, and the mean chance."""
    people = lines[line][0]

    def before(part: float) -> float:
        return passed_before(lines, line, math.floor(people * part))

    chances = [chance(document, before((i + 0.5) / UNDRAWN_QUANTILES)) for i in range(UNDRAWN_QUANTILES)]
    known = [odds for odds in chances if odds is not None]
    odds = sum(known) / len(known) if known else None
    first, last = _eta_ms(document, before(0.1), called=False), _eta_ms(document, before(0.9), called=False)
    if first is None or last is None or _is_hopeless(odds):
        return Outlook(None, None, odds)
    return Outlook(None, (first[0], last[1]), odds)
