"""How honest the numbers are: what was said in many drops of many kinds, against what came true.

    python -m loadtest.bench.outlook --drops 50 --seed 1

Pure arithmetic in virtual time (`loadtest.bench.line`); the same is measured with the real scripts by rehearsals.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from admission.outlook import outlook
from admission.serving import serving_document
from flashsale.settings import load_settings
from loadtest.bench.line import OPENS_AT_MS, Line, Rules

LOOK_EVERY_MS = 5_000
PLACES_PER_LOOK = 10
PLAY_MS_MAX = 1_800_000


@dataclass(frozen=True, slots=True)
class Look:
    """What one place was told at one time, and what came true."""

    drop: int
    at_ms: int
    low_ms: int | None
    high_ms: int | None
    chance: float | None
    called_after_ms: float | None
    """None when the place was never called"""


@dataclass(frozen=True, slots=True)
class Score:
    """How often what was said came true."""

    looks: int
    covered: float
    """part of the ranges that held the truth"""
    too_early: float
    """part in which the call came before P10"""
    too_late: float
    """part in which it came after P90"""
    width: float
    """median of (P90 - P10) over the true wait, for waits of five seconds and more"""
    deciles: tuple[tuple[int, float, float], ...]
    """(looks, mean chance said, part that was reached) of each decile of the chance said"""


def some_rules(chance: random.Random) -> Rules:
    """A drop with behaviour drawn at random: bound by its rate or by its capacity, with stock for some or for all."""
    people = chance.randint(300, 3000)
    capacity = round(math.exp(chance.uniform(math.log(20), math.log(600))))
    buy = chance.uniform(0.2, 0.9)
    no_show = chance.uniform(0, 0.5)
    session_ms = chance.uniform(20_000, 90_000)
    cv = chance.choice((0.0, 0.2, 0.5, 0.8))
    by_capacity_per_min = capacity * 60_000 / session_ms
    return Rules(
        people=people,
        capacity=capacity,
        rate_per_min=round(by_capacity_per_min * chance.choice((0.5, 0.8, 1.5, 3, 10))) + 1,
        units=max(1, round(people * (1 - no_show) * buy * chance.choice((0.2, 0.5, 0.8, 2)))),
        arrive_within_ms=chance.choice((0, 0, 5_000, 60_000)),
        no_show=no_show,
        session_ms=some_spread(session_ms, cv),
        buy=buy,
        units_per_buyer=chance.choice(((1,), (1,), (1, 2), (1, 2, 3, 4))),
        abandon=chance.uniform(0, 0.2),
        reservation_ttl_ms=120_000,
    )


def some_spread(mean_ms: float, cv: float) -> Callable[[random.Random], float]:
    """Log-normal times with that mean and coefficient of variation."""
    sigma = math.sqrt(math.log(1 + cv * cv))
    return lambda source: mean_ms * math.exp(source.gauss(0, sigma) - sigma * sigma / 2)


def looks_of(drop: int, rules: Rules, seed: int) -> list[Look]:
    """Plays one drop and compares what was said with what came true."""
    room = load_settings(environment={}).waiting_room
    line, source = Line(rules, seed), random.Random(seed)
    said: list[tuple[int, int, tuple[int, int] | None, float | None]] = []
    last_ms = -LOOK_EVERY_MS
    for snapshot in line.play(PLAY_MS_MAX):
        at_ms = snapshot.now_ms - OPENS_AT_MS
        if at_ms - last_ms < LOOK_EVERY_MS or snapshot.joined <= snapshot.serving_number:
            continue
        last_ms = at_ms
        document = serving_document(snapshot, room)
        for _ in range(PLACES_PER_LOOK):
            place = source.randrange(snapshot.serving_number, snapshot.joined)
            told = outlook(document, place)
            said.append((at_ms, place, told.eta_ms, told.chance))
    looks = []
    for at_ms, place, eta, odds in said:
        called = line.called_at.get(place)
        if called is None and not line.over:
            continue
        low, high = eta or (None, None)
        looks.append(Look(drop, at_ms, low, high, odds, None if called is None else called - at_ms))
    return looks


def score(looks: Iterable[Look]) -> Score:
    """The score of many looks; ranges count where the place was called in the end."""
    looks = list(looks)
    ranges = [(look.low_ms, look.high_ms, look.called_after_ms) for look in looks]
    told = [(low, high, truth) for low, high, truth in ranges if low is not None and high is not None and truth is not None]
    early = sum(truth < low for low, _, truth in told)
    late = sum(truth > high for _, high, truth in told)
    widths = [(high - low) / truth for low, high, truth in told if truth >= 5_000]
    deciles = []
    for decile in range(10):
        chances = [
            (look.chance, look.called_after_ms is not None)
            for look in looks
            if look.chance is not None and min(9, int(look.chance * 10)) == decile
        ]
        count = len(chances) or 1
        deciles.append((len(chances), sum(odds for odds, _ in chances) / count, sum(reached for _, reached in chances) / count))
    count = len(told) or 1
    return Score(
        looks=len(looks),
        covered=1 - (early + late) / count,
        too_early=early / count,
        too_late=late / count,
        width=statistics.median(widths) if widths else 0.0,
        deciles=tuple(deciles),
    )


def run(drops: int, seed: int) -> Score:
    """Plays so many drops; the same seed gives the same score."""
    source = random.Random(seed)
    return score(look for drop in range(drops) for look in looks_of(drop, some_rules(source), seed * 100_003 + drop))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drops", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.drops, options.seed)
    if options.json:
        print(json.dumps(asdict(found)))
        return
    print(f"{found.looks} looks in {options.drops} drops")
    print(f"P10..P90 held the truth in {found.covered:.1%} (called before it {found.too_early:.1%}, after it {found.too_late:.1%})")
    print(f"median width {found.width:.0%} of the true wait")
    print("chance said   looks   mean said   reached")
    for decile, (looks, mean, reached) in enumerate(found.deciles):
        print(f"{decile * 10:3d}-{decile * 10 + 10:3d} %   {looks:7d}   {mean:9.1%}   {reached:7.1%}")


if __name__ == "__main__":
    main()
