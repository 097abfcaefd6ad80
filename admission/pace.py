"""How many people to call: pure arithmetic over the store's counters, applied under hard limits by `lua/advance`.

Calling too many does no harm beyond a wait at the head of the line; calling too few leaves slots empty. So a beat calls as
many as are expected to fill what is free, and how many of those called will come is learned from those called before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flashsale.model import CALL_AGES_MS, PART_AGES, BeatPlan, Flow, Snapshot

AGES = len(CALL_AGES_MS) + 1
PARTS = len(PART_AGES) + 1
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
PRIOR_BUYERS = 0.5
PRIOR_PAID = 0.9
PRIOR_PEOPLE = 1.0
"""Before anything is known half of those who come reserve, and 90 % of that is paid: worth as much as what one person does."""
LEFT_MIN = 1e-6
UNITS_PER_CLAIM_MIN = 0.05
"""however few buy: the last unit calls at most twenty people"""
UNITS_PER_BUYER_MAX = 100.0

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
    stays_permille: tuple[int, ...]
    """how many newcomers a thousand people inside who have not chosen stand for, by how long they have been inside"""

    def told(self, sample: bytes) -> BeatPlan:
        """The plan as the store takes it, with the serving document for the report."""
        return BeatPlan(self.rate_per_min, self.weights_permille, self.units_per_claim_permille, self.door, sample, self.stays_permille)


def plan(snapshot: Snapshot, signals: Signals) -> Pace:
    """The plan for a drop as it is now. The same picture and signals give the same plan."""
    weights, choosing = still_coming(snapshot.flow), still_choosing(snapshot.flow)
    new = max(weights[0], 1 / CORRECTION_MAX)
    rate_per_min = snapshot.rate_per_min / new * pressure(signals)
    most = max(UNITS_PER_CLAIM_MIN, choosing[0])
    stopped = snapshot.rate_per_min <= 0 or signals.storefront_factor <= 0
    return Pace(
        rate_per_min=0 if stopped else max(1, round(rate_per_min)),
        weights_permille=tuple(round(1000 * weight) for weight in (new, *weights[1:])),
        units_per_claim_permille=round(1000 * units_per_claim(snapshot.flow)),
        door=door(snapshot.capacity),
        stays_permille=tuple(round(1000 * min(1.0, chance / most)) for chance in choosing[: len(PART_AGES)]),
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


def still_choosing(flow: Flow, prior: float = PRIOR_BUYERS) -> tuple[float, ...]:
    """Probability 0..1 that somebody inside who has reserved nothing yet will, by how long they have been inside (`PART_AGES`).

    Before anything is known it is `prior`, however long they have been.
    """
    return _still(flow.entered, flow.chose_by_age, flow.left_by_age, flow.undecided_by_age, prior)


def still_paid(flow: Flow, prior: float = PRIOR_PAID) -> tuple[float, ...]:
    """Probability 0..1 that a live reservation will be paid, by its age (`PART_AGES`); `prior` before anything is known."""
    return _still(flow.reservations, flow.paid_by_age, flow.freed_by_age, flow.live_by_age, prior)


def _still(begun: int, done: Sequence[int], given_up: Sequence[int], open_ended: Sequence[int], prior: float) -> tuple[float, ...]:
    """Probability that who has reached an age without doing something will do it yet.

    From the shares of those who reach an age who do it then, and who give up, age by age (Aalen and Johansen, "An Empirical
    Transition Matrix for Non-Homogeneous Markov Chains Based on Censored Observations", 1978): who has begun just now counts only
    for the ages already reached, and half for the one they are in. Of ages that nobody has reached yet it is only known that
    `prior` of all do it sometime: those who have not done it so far are taken to make up what is missing of that.

    Args:
        begun: how many ever began; after a loss of the counts it may lack some.
        done: how many did it, ever, by age.
        given_up: how many never will, ever, by the age at which that became known.
        open_ended: of how many nothing is known yet, by age.
        prior: share of all; it counts for as much as `PRIOR_PEOPLE` who reach an age.
    """
    ages = []
    reached, did_before, left = float(max(begun, sum(done) + sum(given_up) + sum(open_ended))), 0.0, 1.0
    for did, gone, waiting in zip(done, given_up, open_ended, strict=True):
        exposed = max(reached - waiting / 2, float(did + gone))
        doing, leaving = (did / exposed, gone / exposed) if exposed else (0.0, 0.0)
        missing = max(0.0, prior - did_before) / left if left > LEFT_MIN else 0.0
        ages.append((exposed, doing, leaving, min(1.0, missing)))
        did_before, left = did_before + left * doing, left * max(0.0, 1 - doing - leaving)
        reached = max(0.0, reached - did - gone - waiting)
    chance, chances = 0.0, []
    for exposed, doing, leaving, missing in reversed(ages):
        seen = doing + max(0.0, 1 - doing - leaving) * chance
        chance = min(1.0, (exposed * seen + PRIOR_PEOPLE * missing) / (exposed + PRIOR_PEOPLE))
        chances.append(chance)
    return tuple(reversed(chances))


def expected(flow: Flow, weights: Sequence[float]) -> float:
    """How many of those called and not come yet will still come; `weights` as `still_coming` answers."""
    return sum(weight * max(0, called) for weight, called in zip(weights, flow.called_by_age, strict=True))


def door(capacity: int) -> int:
    """How many people beyond the free slots are called."""
    return math.ceil(min(DOOR_PER_ROOT * math.sqrt(max(0, capacity)), DOOR_SHARE_MAX * max(0, capacity)))


def units_per_claim(flow: Flow) -> float:
    """Units that somebody who comes reserves."""
    return max(UNITS_PER_CLAIM_MIN, still_choosing(flow)[0] * units_per_buyer(flow))


def units_per_buyer(flow: Flow) -> float:
    """Units of somebody who reserves any."""
    buyers = sum(flow.chose_by_age) + PRIOR_PEOPLE
    return min(UNITS_PER_BUYER_MAX, max(1.0, (max(0, flow.units_reserved) + PRIOR_PEOPLE) / buyers))


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
