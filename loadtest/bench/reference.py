"""How fast the line is beside one that knows everything, with the real scripts in virtual time.

    python -m loadtest.bench.reference

Capacity 200, sessions of 60 s, 600 people who arrive in 5 s; some of them leave without a word. And a line whose first 10,000 tabs
are closed at once.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from flashsale.model import Drop, Sku
from flashsale.rehearsal.behaviour import Shopper
from flashsale.rehearsal.engine import Engine, Played
from flashsale.rehearsal.stage import OPENS_AT_MS, Stage, private_stage

CAPACITY = 200
SESSION_MS = 60_000
PEOPLE = 600
ARRIVE_WITHIN_MS = 5_000
SILENT_SHARES = (0.0, 0.02, 0.4)
TABS = 10_000
BEHIND = 400
TICK_MS = 50


@dataclass(frozen=True, slots=True)
class Throughput:
    """How long it took until everybody who came was in."""

    silent: float
    """share of people who left without a word"""
    all_in_ms: int
    ideal_ms: int
    ratio: float


@dataclass(frozen=True, slots=True)
class ClosedTabs:
    """What a line does whose first places are all empty."""

    tabs: int
    longest_stand_ms: int
    """longest time the serving number stood still before the first one behind them was in"""
    beat_ms: int
    first_in_ms: int
    """after the opening"""
    floor_ms: int
    """what the rate alone takes, at twice the drop's: the bound on the correction for people who do not come"""


def ideal_entries_ms(arrivals_ms: Sequence[int], capacity: int, session_ms: int) -> list[int]:
    """When those who come would enter if it were known who does: the k-th at max(arrived, the earliest free slot)."""
    free, entries = [0] * capacity, []
    for arrived_ms in arrivals_ms:
        entries.append(max(arrived_ms, heapq.heappop(free)))
        heapq.heappush(free, entries[-1] + session_ms)
    return entries


async def throughput(stage: Stage, silent: float, seed: int = 1) -> Throughput:
    """The reference case with that share of people who leave without a word as soon as they have a place."""
    chance = random.Random(seed)
    gone = set(chance.sample(range(PEOPLE), round(PEOPLE * silent)))
    shoppers = [_buyer(ARRIVE_WITHIN_MS * (number + 1) // PEOPLE, comes=number not in gone) for number in range(PEOPLE)]
    played = await Engine(stage, _drop(units=PEOPLE, rate_per_min=12_000), shoppers, seed, tick_ms=TICK_MS).play()
    entered = [visitor.admitted_ms for visitor in played.visitors if visitor.admitted_ms is not None]
    coming = [shopper.arrives_ms for shopper in shoppers if shopper.comes]
    assert len(entered) == len(coming), "somebody who came is not in"
    ideal_ms = max(ideal_entries_ms(coming, CAPACITY, SESSION_MS))
    return Throughput(silent, max(entered), ideal_ms, max(entered) / ideal_ms)


async def closed_tabs(stage: Stage, tabs: int = TABS, rate_per_min: int = 6_000, seed: int = 1) -> ClosedTabs:
    """So many places in front whose tabs were closed at once, just before the opening."""
    shoppers = [_buyer(-2_000, comes=False) for _ in range(tabs)] + [_buyer(-1_000) for _ in range(BEHIND)]
    drop = _drop(units=BEHIND, rate_per_min=rate_per_min)
    played = await Engine(stage, drop, shoppers, seed, tick_ms=TICK_MS).play()
    first_in_ms = min(visitor.admitted_ms for visitor in played.visitors if visitor.admitted_ms is not None)
    return ClosedTabs(
        tabs,
        _longest_stand_ms(played, first_in_ms),
        stage.settings.waiting_room.beat_ms,
        first_in_ms,
        round(tabs * 60_000 / (2 * rate_per_min)),
    )


def _longest_stand_ms(played: Played, until_ms: int) -> int:
    rises = [0, *(at_ms for at_ms, _ in played.calls if at_ms <= until_ms)]
    return max(after - before for before, after in pairwise(rises))


def _buyer(arrives_ms: int, *, comes: bool = True) -> Shopper:
    half_ms = SESSION_MS // 2
    return Shopper(
        arrives_ms, comes=comes, silent_ms=None if comes else arrives_ms + 1, choosing_ms=half_ms, paying_ms=half_ms, items=(("unit", 1),)
    )


def _drop(units: int, rate_per_min: int) -> Drop:
    return Drop(
        drop_id="reference",
        name="Reference",
        currency="EUR",
        skus=(Sku("unit", "Unit", units, 1_000, 1),),
        joins_at_ms=OPENS_AT_MS - 60_000,
        opens_at_ms=OPENS_AT_MS,
        closes_at_ms=OPENS_AT_MS + 3_600_000,
        rate_per_min=rate_per_min,
        capacity=CAPACITY,
        claim_window_ms=SESSION_MS,
        reservation_ttl_ms=300_000,
        limit_per_shopper=1,
        durability="second",
    )


async def _measure() -> tuple[list[Throughput], ClosedTabs]:
    async with private_stage() as stage:
        return [await throughput(stage, silent) for silent in SILENT_SHARES], await closed_tabs(stage)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="for programs: JSON on stdout")
    options = parser.parse_args()
    cases, tabs = asyncio.run(_measure())
    if options.json:
        print(json.dumps({"throughput": [asdict(case) for case in cases], "closed_tabs": asdict(tabs)}))
        return
    print(f"capacity {CAPACITY}, sessions {SESSION_MS // 1000} s, {PEOPLE} people in {ARRIVE_WITHIN_MS // 1000} s")
    print("left silently   all others in   ideal      ratio")
    for case in cases:
        print(f"{case.silent:12.0%}   {case.all_in_ms / 1000:11.1f} s   {case.ideal_ms / 1000:6.1f} s   {case.ratio:.3f}")
    print(f"{tabs.tabs:,} tabs in front closed at once: the serving number stood still for {tabs.longest_stand_ms} ms at most")
    print(f"(a beat is {tabs.beat_ms} ms); the first one behind them was in after {tabs.first_in_ms / 1000:.1f} s")
    print(f"(twice the drop's rate alone takes {tabs.floor_ms / 1000:.1f} s)")


if __name__ == "__main__":
    main()
