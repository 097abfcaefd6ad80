"""How many people to call: pure arithmetic over the store's counters, applied under hard limits by `lua/advance`.

Calling too many does no harm beyond a wait at the head of the line; calling too few leaves slots empty. So a beat calls as
many as are expected to fill what is free, and how many of those called will come is learned from those called before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flashsale.model import CALL_AGES_MS, Flow, Snapshot

AGES = len(CALL_AGES_MS) + 1
CORRECTION_MAX = 2.0
"""For people who do not come, nobody is called more than this often: in a new call's weight and in the rate."""

DOOR_PER_ROOT = 4.0
DOOR_SHARE_MAX = 0.25
"""People at the door: so many times the square root of the capacity (chance makes slots come free in lumps of that size), at most
a quarter of it. Freed slots then go to people who are there, not to a call that has yet to be seen."""

PRIOR_CALLS = 20.0
PRIOR_SHOW = 0.9
PRIOR_WITHIN_MS = 2500
"""Before anything is known: as if of 20 called places 90 % had been claimed, evenly over the first polls."""
PRIOR_CLAIMS = 5.0
PRIOR_UNITS_PER_CLAIM = 0.6
"""Before anything is known: as if of five people who came 60 % had reserved one unit."""
UNITS_PER_CLAIM_MIN = 0.05
"""however few buy: the last unit calls at most twenty people"""

PRESSURE_MIN = 0.1
JOURNAL_AGE_MS = (2_000, 20_000)
STORE_LATENCY_MS = (100, 1_000)
"""The rate is whole below the first and at its least from the second on."""


@dataclass(frozen=True, slots=True)
class Signals:
    """How hard the rest of the service works just now."""

    journal_age_ms: float = 0
    """age of the oldest reservation that is not in Postgres yet"""
    store_latency_ms: float = 0
    """what a call to the store takes"""
    storefront_factor: float = 1.0
    """what the storefront lets in of the rate, 0..1"""


@dataclass(frozen=True, slots=True)
class Pace:
    """One worker's plan for the next beat."""

    rate_per_min: int
    """places called a minute, at most"""
    weights_permille: tuple[int, ...]
    """probability that a called place will still be claimed, by age of the call"""
    units_per_claim_permille: int
    """units that somebody who comes reserves"""
    door: int
    """people called beyond the free slots, so that whoever looks next takes a slot the moment it is free"""


def plan(snapshot: Snapshot, signals: Signals) -> Pace:
    """The plan for a drop as it is now. The same picture and signals give the same plan."""
    weights = still_coming(snapshot.flow)
    new = max(weights[0], 1 / CORRECTION_MAX)
    rate_per_min = snapshot.rate_per_min / new * pressure(signals)
    stopped = snapshot.rate_per_min <= 0 or signals.storefront_factor <= 0
    return Pace(
        rate_per_min=0 if stopped else max(1, round(rate_per_min)),
        weights_permille=tuple(round(1000 * weight) for weight in (new, *weights[1:])),
        units_per_claim_permille=round(1000 * units_per_claim(snapshot)),
        door=door(snapshot.capacity),
    )


def still_coming(flow: Flow) -> tuple[float, ...]:
    """Probability 0..1 that a called place not claimed yet will be, by age of the call.

    The share of those who reach an age and are claimed in it, age by age, as in a life table, multiplied up (Kaplan and Meier,
    "Nonparametric Estimation from Incomplete Observations", 1958): places called just now count only for the ages they have
    reached, and half for the one they are in.
    """
    hazards = []
    reached, reached_before = float(max(0, flow.called)), PRIOR_CALLS
    for age in range(AGES):
        claims, waiting = max(0, flow.claims_by_delay[age]), max(0, flow.called_by_age[age])
        claims_before = PRIOR_CALLS * _PRIOR_SHARES[age]
        exposed = max(reached - waiting / 2, claims) + reached_before
        hazards.append((claims + claims_before) / exposed)
        reached = max(0.0, reached - claims - waiting)
        reached_before -= claims_before
    never, weights = 1.0, []
    for hazard in reversed(hazards):
        never *= 1 - min(1.0, hazard)
        weights.append(1 - never)
    return tuple(reversed(weights))


def expected(flow: Flow, weights: Sequence[float]) -> float:
    """How many of those called and not come yet will still come; `weights` as `still_coming` answers."""
    return sum(weight * max(0, called) for weight, called in zip(weights, flow.called_by_age, strict=True))


def door(capacity: int) -> int:
    """How many people beyond the free slots are called."""
    return math.ceil(min(DOOR_PER_ROOT * math.sqrt(max(0, capacity)), DOOR_SHARE_MAX * max(0, capacity)))


def deciding(snapshot: Snapshot) -> int:
    """People admitted who have reserved nothing yet."""
    return max(0, snapshot.active - snapshot.reservations_live)


def units_per_claim(snapshot: Snapshot, decided: float | None = None) -> float:
    """Units that somebody who comes reserves, from `decided` people: by default those who have reserved or are gone again.

    Who buys decides sooner than who does not, so that is too much at first: rather too few are called than more and more while
    everybody is still choosing.
    """
    people = snapshot.admitted - deciding(snapshot) if decided is None else decided
    units = max(0, snapshot.flow.units_reserved) + PRIOR_CLAIMS * PRIOR_UNITS_PER_CLAIM
    return max(UNITS_PER_CLAIM_MIN, units / (max(0.0, people) + PRIOR_CLAIMS))


def pressure(signals: Signals) -> float:
    """The part of the rate that the service can bear, 0..1: smooth, and zero only when the storefront says so."""
    own = min(_relief(signals.journal_age_ms, *JOURNAL_AGE_MS), _relief(signals.store_latency_ms, *STORE_LATENCY_MS))
    return own * max(0.0, min(1.0, signals.storefront_factor))


def _relief(value: float, full: float, least: float) -> float:
    """1 up to `full`, `PRESSURE_MIN` from `least` on, and between them a smooth fall (a cubic without corners)."""
    way = max(0.0, min(1.0, (value - full) / (least - full)))
    return 1 - (1 - PRESSURE_MIN) * way * way * (3 - 2 * way)


def _prior_shares() -> tuple[float, ...]:
    edges = (0, *CALL_AGES_MS)
    spans = [max(0, min(edges[age + 1], PRIOR_WITHIN_MS) - edges[age]) for age in range(AGES - 1)]
    return (*(PRIOR_SHOW * span / PRIOR_WITHIN_MS for span in spans), 0.0)


_PRIOR_SHARES = _prior_shares()
