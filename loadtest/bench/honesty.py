"""How honest the numbers are that people in line are told, over rehearsals of many kinds with the real scripts.

    python -m loadtest.bench.honesty --rehearsals 50 --processes 2

A look is what one waiting place was told by one serving document, as in the report of a drop. The range of the wait goes from P10 to
P90, so it should hold the truth in 80 % of the looks; of the looks with a chance of about 30 %, 30 % should be reached.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

from flashsale.model import Drop, Sku
from flashsale.rehearsal.behaviour import Behaviour
from flashsale.rehearsal.rehearse import Rehearsal, rehearse
from flashsale.rehearsal.stage import OPENS_AT_MS, private_stage

DECILES = 10
LOOKS_TO_JUDGE = 200
"""fewer looks in a decile say nothing"""
WITHIN_GOAL = (0.75, 0.95)
GAP_GOAL = 0.10
LINE_MS_MAX = 480_000
"""about how long the line may take; longer ones show nothing else"""


@dataclass(frozen=True, slots=True)
class Case:
    """One rehearsal's score."""

    seed: int
    shoppers: int
    no_show: float
    buy: float
    session_ms: int
    capacity: int
    rate_per_min: int
    units: int
    late: float
    looks: int
    """with a range"""
    within: float
    early: float
    late_calls: float
    width: float
    deciles: tuple[tuple[float, float, int], ...]
    """(chance said, part that was reached, looks)"""


@dataclass(frozen=True, slots=True)
class Score:
    """All rehearsals together."""

    rehearsals: int
    looks: int
    within: float
    """of all looks"""
    early: float
    late: float
    within_of_rehearsals: tuple[float, float, float]
    """P10, median and P90 of the rehearsals' own shares"""
    width: float
    """median of the rehearsals' median widths, relative to the true wait"""
    deciles: tuple[tuple[float, float, int], ...]
    worst_gap: float
    """in deciles with at least 200 looks"""


def some_drop(seed: int) -> tuple[Drop, Behaviour]:
    """A drop and a crowd drawn at random: bound by rate or by capacity, with stock for some or for all, with and without late joiners."""
    chance = random.Random(seed)
    shoppers, no_show, buy = chance.randint(1_500, 3_000), chance.uniform(0, 0.5), chance.uniform(0.2, 0.9)
    session_ms = round(chance.uniform(20_000, 90_000))
    share = chance.choice((0.2, 0.5, 0.8, 2.0))
    comers = shoppers * (1 - no_show)
    least = comers * min(1.0, share) * session_ms / LINE_MS_MAX
    capacity = round(least * math.exp(chance.uniform(0.1, 1.2))) + 5
    rate_per_min = round(max(1.1 * least, capacity * chance.choice((0.6, 0.9, 1.5, 3, 10))) * 60_000 / session_ms) + 1
    behaviour = Behaviour(
        shoppers=shoppers,
        no_show=no_show,
        buy=buy,
        session_ms=session_ms,
        session_spread=chance.choice((0.2, 0.5, 0.8)),
        arrivals_ms=20_000,
        late=chance.choice((0.0, 0.1, 0.4)),
        abandons=chance.uniform(0, 0.15),
        second_unit=chance.choice((0.0, 0.3)),
    )
    drop = Drop(
        drop_id="honesty",
        name="Honesty",
        currency="EUR",
        skus=(Sku("unit", "Unit", max(10, round(comers * buy * share)), 1_000, 2),),
        joins_at_ms=OPENS_AT_MS - 60_000,
        opens_at_ms=OPENS_AT_MS,
        closes_at_ms=OPENS_AT_MS + 1_200_000,
        rate_per_min=rate_per_min,
        capacity=capacity,
        claim_window_ms=60_000,
        reservation_ttl_ms=120_000,
        limit_per_shopper=2,
        order=chance.choice(("draw", "arrival")),
    )
    return drop, behaviour


def case_of(seed: int, drop: Drop, made: Rehearsal) -> Case:
    """The score of a rehearsal."""
    behaviour, eta, chances = made.behaviour, made.report.eta, made.report.chance
    return Case(
        seed=seed,
        shoppers=behaviour.shoppers,
        no_show=behaviour.no_show,
        buy=behaviour.buy,
        session_ms=behaviour.session_ms,
        capacity=drop.capacity,
        rate_per_min=drop.rate_per_min,
        units=drop.skus[0].allotment,
        late=behaviour.late,
        looks=eta.looks if eta else 0,
        within=eta.share_within if eta else 0.0,
        early=eta.share_early if eta else 0.0,
        late_calls=eta.share_late if eta else 0.0,
        width=eta.median_width if eta else 0.0,
        deciles=tuple((decile.said, decile.happened, decile.looks) for decile in chances.deciles) if chances else (),
    )


def score(cases: Sequence[Case]) -> Score:
    """The score of many rehearsals."""
    told = [case for case in cases if case.looks]
    looks = sum(case.looks for case in told)
    shares = sorted(case.within for case in told)
    deciles = _deciles(decile for case in cases for decile in case.deciles)
    return Score(
        rehearsals=len(cases),
        looks=looks,
        within=sum(case.within * case.looks for case in told) / looks,
        early=sum(case.early * case.looks for case in told) / looks,
        late=sum(case.late_calls * case.looks for case in told) / looks,
        within_of_rehearsals=(shares[len(shares) // 10], shares[len(shares) // 2], shares[len(shares) * 9 // 10]),
        width=statistics.median(case.width for case in told),
        deciles=deciles,
        worst_gap=max((abs(said - happened) for said, happened, count in deciles if count >= LOOKS_TO_JUDGE), default=0.0),
    )


def _deciles(found: Iterable[tuple[float, float, int]]) -> tuple[tuple[float, float, int], ...]:
    sums = [[0.0, 0.0, 0] for _ in range(DECILES)]
    for said, happened, looks in found:
        into = sums[min(DECILES - 1, int(said * DECILES))]
        into[0] += said * looks
        into[1] += happened * looks
        into[2] += looks
    return tuple((said / looks, happened / looks, int(looks)) for said, happened, looks in sums if looks)


async def _play(seeds: Sequence[int]) -> list[Case]:
    cases = []
    async with private_stage() as stage:
        for seed in seeds:
            drop, behaviour = some_drop(seed)
            cases.append(case_of(seed, drop, await rehearse(stage, drop, behaviour, seed)))
    return cases


def play(seeds: Sequence[int]) -> list[Case]:
    """Rehearses the drops of these seeds, one after the other, on a Valkey of their own."""
    return asyncio.run(_play(seeds))


def run(rehearsals: int, seed: int, processes: int) -> list[Case]:
    """So many rehearsals in so many processes; the same seed gives the same cases."""
    seeds = [seed * 1000 + number for number in range(rehearsals)]
    if processes == 1:
        return play(seeds)
    with ProcessPoolExecutor(processes) as pool:
        return sorted((case for part in pool.map(play, [seeds[at::processes] for at in range(processes)]) for case in part), key=_by_seed)


def _by_seed(case: Case) -> int:
    return case.seed


def _tell(cases: Sequence[Case], found: Score) -> None:
    print(" seed  people absent  buy  session  slots  rate/min  units  late   looks  in range  early   late  width")
    for case in cases:
        crowd = f"{case.seed:5d}  {case.shoppers:6d}  {case.no_show:5.0%} {case.buy:4.0%}  {case.session_ms / 1000:5.0f} s"
        rules = f"{case.capacity:5d}  {case.rate_per_min:8d}  {case.units:5d}  {case.late:4.0%}"
        print(f"{crowd}  {rules}  {case.looks:6d}  {case.within:8.1%}  {case.early:5.1%}  {case.late_calls:5.1%}  {case.width:5.0%}")
    low, middle, high = found.within_of_rehearsals
    print(f"{found.looks:,} looks in {found.rehearsals} rehearsals: P10..P90 held the truth in {found.within:.1%}")
    print(f"(goal {WITHIN_GOAL[0]:.0%} to {WITHIN_GOAL[1]:.0%}; called before it {found.early:.1%}, after it {found.late:.1%})")
    print(f"of single rehearsals: P10 {low:.1%}, median {middle:.1%}, P90 {high:.1%}; median width {found.width:.0%} of the true wait")
    print("chance said   reached   looks")
    for said, happened, looks in found.deciles:
        print(f"{said:11.1%}   {happened:7.1%}   {looks:7,}")
    print(f"largest gap {100 * found.worst_gap:.1f} points (goal at most {100 * GAP_GOAL:.0f})")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearsals", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2))
    parser.add_argument("--json", action="store_true", help="for programs: JSON on stdout")
    options = parser.parse_args()
    cases = run(options.rehearsals, options.seed, options.processes)
    found = score(cases)
    if options.json:
        print(json.dumps({"score": asdict(found), "cases": [asdict(case) for case in cases]}))
        return
    _tell(cases, found)


if __name__ == "__main__":
    main()
