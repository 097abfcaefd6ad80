"""What a random fault run does, worked out from its seed before it begins: the same seed, the same schedule."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from chaos.faults import FAULTS
from flashsale.cli.rehearsal import Pace, Scenario

ROUND_S = 20.0
"""about how long one drop takes, from its making to the verdict"""
OPENS_IN_S = 2.0
STRIKES_MIN, STRIKES_MAX = 2, 6
STRIKES_WITHIN_S = 8.0
"""after the opening; by then most units are gone"""
AROUND_THE_DRAW_S = 0.4
SPAN_S_MIN, SPAN_S_MAX = 0.2, 2.5
SHOPPERS_MIN, SHOPPERS_MAX = 120, 400
UNITS_MIN, UNITS_MAX = 30, 90
DEADLINE_S = 45.0


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault at one moment."""

    fault: str
    at_s: float
    """after the drop opens; before it when negative"""
    span_s: float
    luck: int
    """seed of what the fault itself chooses"""


@dataclass(frozen=True, slots=True)
class Round:
    """One drop and what happens to the service meanwhile."""

    number: int
    scenario: Scenario
    strikes: tuple[Planned, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A whole run."""

    seed: int
    rounds: tuple[Round, ...]
    faults: tuple[str, ...]
    """the half of all faults this seed has switched on"""


def make_schedule(seed: int, minutes: float) -> Schedule:
    """The schedule of a seed.

    Each seed switches on a random half of the faults ("swarm testing", Groce et al., ISSTA 2012): a run with few kinds of
    fault goes deeper into them than one in which every kind keeps every other from biting. A longer run of the same seed
    begins with the same rounds. In half of all seeds the line is drawn by lot, and one fault of each round strikes around the
    draw.

    Args:
        seed: any number.
        minutes: about how long the run may take.
    """
    luck = random.Random(seed)  # noqa: S311 - not for secrets
    names = tuple(sorted(luck.sample(sorted(FAULTS), (len(FAULTS) + 1) // 2)))
    rounds = max(1, round(minutes * 60 / ROUND_S))
    return Schedule(seed, tuple(_round(seed, number, names) for number in range(1, rounds + 1)), names)


def _round(seed: int, number: int, names: tuple[str, ...]) -> Round:
    luck = random.Random(f"{seed}/{number}")  # noqa: S311 - not for secrets
    order = random.Random(f"{seed}/order").choice(("arrival", "draw"))  # noqa: S311 - not for secrets
    scenario = Scenario(
        shoppers=luck.randint(SHOPPERS_MIN, SHOPPERS_MAX),
        units=luck.randint(UNITS_MIN, UNITS_MAX),
        seed=luck.randrange(2**31),
        opens_in_s=OPENS_IN_S,
        deadline_s=DEADLINE_S,
        pace=Pace(reservation_ttl_ms=luck.choice((2_500, 4_000, 6_000)), claim_window_ms=luck.choice((1_500, 3_000))),
        order=order,
    )
    strikes = [_strike(luck, names) for _ in range(luck.randint(STRIKES_MIN, STRIKES_MAX))]
    if order == "draw":  # the draw takes a moment, which nothing would hit by chance
        strikes[0] = replace(strikes[0], at_s=round(luck.uniform(-AROUND_THE_DRAW_S, AROUND_THE_DRAW_S), 2))
    return Round(number, scenario, tuple(sorted(strikes, key=lambda planned: planned.at_s)))


def _strike(luck: random.Random, names: tuple[str, ...]) -> Planned:
    return Planned(
        fault=luck.choice(names),
        at_s=round(luck.uniform(0.0, STRIKES_WITHIN_S), 2),
        span_s=round(luck.uniform(SPAN_S_MIN, SPAN_S_MAX), 2),
        luck=luck.randrange(2**31),
    )
