"""From the store's counters to what the serving document says of rates and stock. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from admission.outlook import LineView, PaceRange, Reach, passed_before, waiting_in
from admission.pace import Pace, expected, still_choosing, still_coming, still_paid, units_per_buyer, units_per_claim
from flashsale.model import DropState, Flow, Snapshot

TENTH = 1.2816
"""standard deviations from the middle of a normal distribution to its P10 or P90"""

SHOW_MIN = 0.05
SESSION_MS = 45_000
SESSION_SPREAD = 0.5
"""What a session is taken to last before any has ended, and the standard deviation of the logarithm."""
DRIFT = 0.08
"""how far (as a logarithm) a well measured rate wanders while a place waits"""
FULL_SPREAD = 0.05
"""the same of a rate that is set, not measured"""
HELD_SESSIONS = 1.5
"""sessions until those who hold the line up have decided, at P90"""
WINDOW_WEIGHT_MAX = 0.8

SLOWED = 0.87
SLOWED_POINTS = 4
"""A rate is slow when it is below this part of what it was so many points of `progress` ago."""

SATURATED = 0.75
"""part of the slots in use from which on slots, and not the rate, hold the line back"""
EVEN = 0.4
"""Less evenly passed places say nothing about a rate."""

SHOW_EVIDENCE = 3.0
BUY_MIN = 0.02
BUY_EVIDENCE = 20.0
BUYERS_MIN, BUYERS_MAX = 0.25, 0.8
PAID_MIN, PAID_MAX = 0.8, 1.0
"""Guesses from P10 to P90, before anything is known, of how many of those who come reserve, and of how much of that is paid."""
KEPT_MIN = 0.05
KEPT_EVIDENCE = 20.0
PER_BUYER_VARIANCE = 0.1
"""relative, of the units of one who buys, before anybody has"""
ABSENT_MIN = 0.2
"""Until there is evidence, that few are absent is a guess."""
DRIFT_OF_MEAN = 0.03
"""relative standard error that no evidence takes away: later people are not quite like earlier ones"""


@dataclass(frozen=True, slots=True)
class _Session:
    """How long a slot is in use."""

    ms: float
    spread: float
    """of its logarithm"""
    evidence: float
    """0..1: how far it rests on sessions that have ended"""


@dataclass(frozen=True, slots=True)
class _Measured:
    """How fast places were passed lately."""

    per_min: float
    evenness: float
    """0..1: near 1 when every few seconds had its share, 0 when half came at once, as when sessions end in waves"""


def rates(snapshot: Snapshot, pace: Pace) -> PaceRange:
    """P10 and P90 of the rate at which places are passed from now on, and the room there is at once.

    While there is room the line moves at the plan's rate. Without room it moves as slots come free: the capacity in a session's
    length, more by those who do not come.
    """
    full = float(pace.rate_per_min)
    weights = still_coming(snapshot.flow)
    coming = expected(snapshot.flow, weights) + snapshot.returning
    new = pace.weights_permille[0] / 1000
    room = (snapshot.capacity + pace.door - snapshot.active - coming) / new
    demand = (_unspoken(snapshot) * 1000 / pace.units_per_claim_permille - _choosing(snapshot) - coming) / new
    turnover, spread = _turnover_per_min(snapshot, weights[0])
    show_spread = math.sqrt(_show_variance(snapshot.flow, weights[0]))
    spread = math.hypot(spread, show_spread)
    full_spread = math.hypot(FULL_SPREAD, show_spread)
    high = min(full * math.exp(TENTH * full_spread), turnover * math.exp(TENTH * spread))
    low = min(full * math.exp(-TENTH * full_spread), turnover * math.exp(-TENTH * spread))
    return PaceRange(
        low_per_min=_short(low),
        high_per_min=_short(high),
        free=max(0, math.floor(room)),
        free_per_min=pace.rate_per_min,
        held_after=max(0, math.floor(demand)),
        held_ms=round(HELD_SESSIONS * _session(snapshot).ms),
    )


def slowed(snapshot: Snapshot, pace: Pace) -> bool:
    """Whether places are passed markedly slower than a little while ago, or than the merchant allows."""
    if snapshot.state is not DropState.OPEN or snapshot.serving_number >= snapshot.joined:
        return False
    new = pace.weights_permille[0] / 1000
    turnover, _ = _turnover_per_min(snapshot, still_coming(snapshot.flow)[0])
    if pace.rate_per_min < SLOWED * min(snapshot.rate_per_min / new, turnover):
        return True
    points = snapshot.flow.progress
    if len(points) <= 2 * SLOWED_POINTS:
        return False
    before, now = _measured(snapshot, points[:-SLOWED_POINTS]), _measured(snapshot, points)
    if before is None or now is None or min(before.evenness, now.evenness) < EVEN:
        return False
    return now.per_min < SLOWED * min(max(before.per_min, turnover), pace.rate_per_min)


def reach(snapshot: Snapshot) -> Reach:
    """What is to be had, and what those ahead will take of it; see `Reach` and `admission.outlook.chance`."""
    flow = snapshot.flow
    weights = still_coming(flow)
    show = max(SHOW_MIN, weights[0])
    inside = _choosing(snapshot)
    claimed = units_per_claim(flow)
    paid = still_paid(flow)
    kept = max(KEPT_MIN, paid[0])
    reserved = sum(stock.reserved for stock in snapshot.skus.values())
    mean = claimed * kept * show
    per_buyer = units_per_buyer(flow)
    square = mean * per_buyer * (1 + (per_buyer - 1) / (3 * per_buyer))
    back = _coming_back(flow, paid)
    back_variance = back * (1 - back) * (reserved + reserved**2 / (flow.reservations + KEPT_EVIDENCE))
    coming = expected(flow, weights) + snapshot.returning + inside
    return Reach(
        units=_short(_unspoken(snapshot, back)),
        units_spread=_short(math.sqrt(back_variance)),
        mean=_short(mean),
        spread=_short(math.sqrt(max(0.0, square - mean * mean))),
        uncertainty=_short(mean * math.sqrt(_relative_variance(flow, show, inside, paid))),
        undecided=_short(coming / show),
    )


def cut_line(snapshot: Snapshot, known: Reach, groups: Sequence[LineView] | None) -> int | None:
    """The last place of line 0 that the stock reaches with a chance of one half; None when it reaches everybody."""
    lines = waiting_in(snapshot.joined, snapshot.serving_number, groups)
    people = lines[0][0]
    reached = bisect_left(range(people), True, key=lambda position: not _is_reached(known, passed_before(lines, 0, position)))
    return None if reached >= people else snapshot.serving_number + reached - 1


def _is_reached(known: Reach, before: float) -> bool:
    return known.units - 0.5 >= (before + known.undecided) * known.mean


def _choosing(snapshot: Snapshot) -> float:
    """How many newcomers the people inside who have reserved nothing stand for: who has been in for long will rather not."""
    choosing = still_choosing(snapshot.flow)
    inside = zip(choosing, snapshot.flow.undecided_by_age, strict=True)
    return sum(chance * max(0, undecided) for chance, undecided in inside) / max(BUY_MIN, choosing[0])


def _coming_back(flow: Flow, paid: Sequence[float]) -> float:
    """The part of what is reserved that will not be paid: the older, the more of it."""
    live = sum(flow.live_by_age)
    return sum((1 - chance) * count for chance, count in zip(paid, flow.live_by_age, strict=True)) / live if live else 1 - paid[0]


def _relative_variance(flow: Flow, show: float, inside: float, paid: Sequence[float]) -> float:
    """Of the mean of units a place takes: that of each of the shares it is the product of, and of drift.

    Args:
        inside: how many newcomers those who are still choosing stand for.
        paid: as `still_paid` answers.
    """
    buys = _guessed(still_choosing(flow, BUYERS_MIN)[0], still_choosing(flow, BUYERS_MAX)[0])
    pays = _guessed(still_paid(flow, PAID_MIN)[0], still_paid(flow, PAID_MAX)[0])
    decided = max(0.0, flow.entered - inside)
    kept = max(KEPT_MIN, paid[0])
    settled = flow.reservations - sum(chance * count for chance, count in zip(paid, flow.live_by_age, strict=True)) / kept
    buying = min(0.95, max(BUY_MIN, still_choosing(flow)[0]))
    return (
        _show_variance(flow, show)
        + (1 - buying) / (buying * (decided + BUY_EVIDENCE))
        + buys**2
        + PER_BUYER_VARIANCE / (decided * buying + 1)
        + (1 - kept) / (kept * (max(0.0, settled) + KEPT_EVIDENCE))
        + pays**2
        + DRIFT_OF_MEAN**2
    )


def _guessed(low: float, high: float) -> float:
    """How far an estimate still rests on a guess: its relative standard error, from what it is for guesses from P10 to P90."""
    return (high - low) / max(KEPT_MIN, high + low) / TENTH


def _unspoken(snapshot: Snapshot, back: float = 0.0) -> float:
    """Units that are there, or come back, beyond those for whoever stands by for them: who wants one SKU leaves the others alone.

    Args:
        back: the part of what is reserved that comes back.
    """
    units = [stock.available + max(0.0, stock.reserved * back - stock.draining) for stock in snapshot.skus.values()]
    wanted = snapshot.flow.wanted or (0,) * len(units)
    return sum(max(0.0, there - spoken) for there, spoken in zip(units, wanted, strict=True))


def _show_variance(flow: Flow, show: float) -> float:
    """Relative, of the share of those called who come."""
    settled = max(0, flow.called - sum(flow.called_by_age))
    return max(ABSENT_MIN, 1 - show) / (max(SHOW_MIN, show) * (settled + SHOW_EVIDENCE))


def _turnover_per_min(snapshot: Snapshot, show: float) -> tuple[float, float]:
    """Places passed a minute while every slot is in use, and the spread of its logarithm."""
    session = _session(snapshot)
    turnover = max(1, snapshot.capacity) * 60_000 / session.ms / max(SHOW_MIN, show)
    measured = _measured(snapshot, snapshot.flow.progress)
    if measured is None or not _is_saturated(snapshot):
        return turnover, session.spread
    weight = WINDOW_WEIGHT_MAX * session.evidence * measured.evenness
    return (1 - weight) * turnover + weight * measured.per_min, session.spread


def _is_saturated(snapshot: Snapshot) -> bool:
    return snapshot.active + snapshot.returning >= SATURATED * snapshot.capacity


def _session(snapshot: Snapshot) -> _Session:
    """The length of a session: time in slots over sessions ended, from a prior to what was measured.

    The time in slots is what is in use now (or about to be: in a moment when many end at once) for as long as the drop is open, less
    the half of the time that filling them took.
    """
    coming = expected(snapshot.flow, still_coming(snapshot.flow)) + snapshot.returning
    in_use = max(snapshot.active, min(snapshot.capacity, snapshot.active + coming))
    open_ms = max(0.0, snapshot.now_ms - snapshot.opens_at_ms)
    filling_ms = min(open_ms, snapshot.active * 60_000 / max(1, snapshot.rate_per_min))
    age_ms = open_ms - filling_ms / 2
    ended = max(0, snapshot.admitted - snapshot.active)
    sessions = ended + snapshot.active / 3
    evidence = ended / (sessions + 5)
    guess_ms = max(SESSION_MS, 1.3 * age_ms) if not ended else SESSION_MS
    measured_ms = max(1_000.0, in_use * age_ms / sessions) if sessions else SESSION_MS
    ms = math.exp((1 - evidence) * math.log(guess_ms) + evidence * math.log(measured_ms))
    return _Session(ms, math.hypot((1 - evidence) * SESSION_SPREAD, DRIFT, 0.5 / math.sqrt(ended + 1) * evidence), evidence)


def _measured(snapshot: Snapshot, points: Sequence[tuple[int, int]]) -> _Measured | None:
    """How fast places were passed between the first and the last of `points`; None when there are too few.

    The calls that filled the empty slots at first say nothing of how fast slots come free, and are left out.
    """
    if len(points) < 3 or points[-1][0] <= points[0][0]:
        return None
    passed = [max(called - snapshot.capacity, 0) for _, called in points]
    calls = passed[-1] - passed[0]
    largest = max(later - earlier for earlier, later in pairwise(passed))
    minutes = (points[-1][0] - points[0][0]) / 60_000
    return _Measured(calls / minutes, max(0.0, 1 - 2 * largest / calls) if calls else 0.0)


def _short(value: float) -> float:
    """Six digits are more than is known, and keep documents small."""
    return float(f"{value:.6g}")
