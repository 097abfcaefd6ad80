"""What people in line were told, held against what happened. Pure.

A look is what one waiting place was told by one serving document. Looks are taken evenly over time and over the line, not of
people who happened to look.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from admission.ranking import evenly, step_ms
from admission.serving import ServingDocument
from admission.tally import LineTally, Run
from flashsale.model import DropState, number_of

DOCUMENTS_MAX = 400
PLACES_MAX = 50
"""of each line"""
ETA_BINS_MAX = 8
DECILES = 10
LOOKS_TO_JUDGE = 20
"""fewer looks in a decile say nothing"""


class Told(Protocol):
    """What somebody in line is told; see `admission.outlook.Outlook`."""

    @property
    def eta_ms(self) -> tuple[int, int] | None:
        """P10 and P90 of the wait until the call; None when nothing honest can be said."""

    @property
    def chance(self) -> float | None:
        """Probability that the stock reaches the place."""


Oracle = Callable[[ServingDocument, int], Told]
"""What a serving document says to a place."""


class LineEnd(NamedTuple):
    """What is known of a line besides its log."""

    tally: LineTally
    first: int
    """its place with number 0"""
    joined: int
    entries: int
    """people who had joined at the opening"""
    joined_at_ms: Callable[[int], int | None]
    """when a place was given to somebody who came after the opening; None when nobody knows"""


class Look(NamedTuple):
    """What was told, and what happened."""

    eta_ms: tuple[int, int] | None
    waited_ms: int | None
    """from the look to the call; None when never called"""
    chance: float | None
    reached: bool


class EtaBin(msgspec.Struct, frozen=True):
    """Looks whose wait was about the same."""

    from_ms: int
    to_ms: int
    looks: int
    within: int
    low_ms: int
    """mean of the lower ends told"""
    high_ms: int
    """mean of the upper ends told"""
    waited_ms: int
    """mean of the true waits"""


class EtaScore(msgspec.Struct, frozen=True):
    """How good the ranges of the waiting time were."""

    looks: int
    share_within: float
    """of the looks; a range from P10 to P90 aims at 0.8"""
    share_early: float
    """called before the range began"""
    share_late: float
    """called after the range had ended"""
    median_width: float
    """of the range, relative to the true wait"""
    by_wait: tuple[EtaBin, ...]


class Decile(msgspec.Struct, frozen=True):
    """Looks to which about the same chance was told."""

    said: float
    """mean"""
    happened: float
    """share of them that the stock reached"""
    looks: int


class ChanceScore(msgspec.Struct, frozen=True):
    """How good the chances were."""

    looks: int
    brier: float
    """mean square of the difference (Brier, 1950): 0 is perfect, 0.25 is a coin"""
    worst_gap: float | None
    """largest difference of said and happened in a decile with at least 20 looks; None without one"""
    deciles: tuple[Decile, ...]
    """those with looks, ascending"""


def take_looks(documents: Sequence[ServingDocument], lines: Sequence[LineEnd], oracle: Oracle) -> list[Look]:
    """Looks of waiting places at documents of the open drop, at most 400 documents and 50 places of each line."""
    looks: list[Look] = []
    shown = [document for document in documents if document.state == DropState.OPEN]
    for line in lines:
        called = _CalledAt(line.tally.runs)
        places = [place for number in evenly(range(line.joined), PLACES_MAX) if (place := line.first + number) not in line.tally.gone]
        told = [(place, called.at_ms(place), _known_from_ms(line, place)) for place in places]
        for document in evenly(shown, DOCUMENTS_MAX):
            looks += _looks(document, told, line, oracle)
    return looks


def _looks(document: ServingDocument, told: Sequence[tuple[int, int | None, int | None]], line: LineEnd, oracle: Oracle) -> Iterator[Look]:
    for place, called_at_ms, known_from_ms in told:
        if known_from_ms is None or known_from_ms > document.now_ms or (called_at_ms is not None and called_at_ms <= document.now_ms):
            continue
        outlook = oracle(document, place)
        yield Look(
            eta_ms=outlook.eta_ms,
            waited_ms=None if called_at_ms is None else called_at_ms - document.now_ms,
            chance=outlook.chance,
            reached=_reached(line.tally, place, called_at_ms),
        )


def _reached(tally: LineTally, place: int, called_at_ms: int | None) -> bool:
    """Whether there was something left for a place; who came in had something to choose from."""
    if place in tally.claimed:
        return True
    return called_at_ms is not None and (tally.cut is None or place < tally.cut.places[0])


def _known_from_ms(line: LineEnd, place: int) -> int | None:
    return 0 if number_of(place) < line.entries else line.joined_at_ms(place)


def score_eta(looks: Sequence[Look]) -> EtaScore | None:
    """How good the ranges were, of looks that were given one and whose place was called; None without any."""
    told = [(*look.eta_ms, look.waited_ms) for look in looks if look.eta_ms is not None and look.waited_ms is not None]
    if not told:
        return None
    early = sum(waited < low for low, _, waited in told)
    late = sum(waited > high for _, high, waited in told)
    widths = sorted((high - low) / max(1, waited) for low, high, waited in told)
    return EtaScore(
        looks=len(told),
        share_within=1 - (early + late) / len(told),
        share_early=early / len(told),
        share_late=late / len(told),
        median_width=widths[len(widths) // 2],
        by_wait=_by_wait(told),
    )


def _by_wait(told: Sequence[tuple[int, int, int]]) -> tuple[EtaBin, ...]:
    width = step_ms(max(waited for _, _, waited in told) + 1, ETA_BINS_MAX)
    bins: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for one in told:
        bins[one[2] // width].append(one)
    return tuple(_eta_bin(at * width, (at + 1) * width, bins[at]) for at in sorted(bins))


def _eta_bin(from_ms: int, to_ms: int, told: Sequence[tuple[int, int, int]]) -> EtaBin:
    low, high, waited = (sum(column) // len(told) for column in zip(*told, strict=True))
    within = sum(one_low <= one_waited <= one_high for one_low, one_high, one_waited in told)
    return EtaBin(from_ms, to_ms, len(told), within, low, high, waited)


def score_chance(looks: Sequence[Look]) -> ChanceScore | None:
    """How good the chances were, once it is known whom the stock reached; None when none was told."""
    told = [(look.chance, look.reached) for look in looks if look.chance is not None]
    if not told:
        return None
    bins: defaultdict[int, list[tuple[float, bool]]] = defaultdict(list)
    for said, reached in told:
        bins[min(DECILES - 1, int(said * DECILES))].append((said, reached))
    deciles = tuple(
        Decile(sum(said for said, _ in bins[at]) / len(bins[at]), sum(reached for _, reached in bins[at]) / len(bins[at]), len(bins[at]))
        for at in sorted(bins)
    )
    return ChanceScore(
        looks=len(told),
        brier=sum((said - reached) ** 2 for said, reached in told) / len(told),
        worst_gap=max((abs(decile.said - decile.happened) for decile in deciles if decile.looks >= LOOKS_TO_JUDGE), default=None),
        deciles=deciles,
    )


class _CalledAt:
    """When a place was called, by runs that do not overlap."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = sorted(runs)
        self._starts = [run.start for run in self._runs]

    def at_ms(self, place: int) -> int | None:
        at = bisect_right(self._starts, place) - 1
        return self._runs[at].at_ms if at >= 0 and place < self._runs[at].stop else None
