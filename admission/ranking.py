"""Orders compared with one another, and quantiles, both of weighted values. Pure.

A value of weight w stands for w values: a thousand places called at once are one entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

Item = TypeVar("Item")


class Ranking(NamedTuple):
    """How far an order agrees with the ascending one."""

    pairs: int
    inversions: int
    """pairs in which the larger value came first"""

    def __add__(self, other: object) -> Ranking:
        """Both together; pairs across the two are not compared."""
        if not isinstance(other, Ranking):
            return NotImplemented
        return Ranking(self.pairs + other.pairs, self.inversions + other.inversions)

    @property
    def kendall_tau(self) -> float | None:
        """Kendall's rank correlation (1938): 1 in order, -1 the other way round, 0 no relation; None without a pair."""
        return 1 - 2 * self.inversions / self.pairs if self.pairs else None


def ranking(values: Sequence[int], weights: Sequence[int] | None = None) -> Ranking:
    """Compares the order of distinct `values` with the ascending one, in O(n log n) with a Fenwick tree (1994).

    What one weighted value stands for is in order in itself.
    """
    weights = weights or [1] * len(values)
    ranks = {value: rank for rank, value in enumerate(sorted(values), 1)}
    tree = [0] * (len(values) + 1)
    inversions = before = 0
    for value, weight in zip(values, weights, strict=True):
        rank = at = ranks[value]
        smaller = 0
        while at:
            smaller += tree[at]
            at &= at - 1
        inversions += weight * (before - smaller)
        before += weight
        while rank < len(tree):
            tree[rank] += weight
            rank += rank & -rank
    return Ranking(before * (before - 1) // 2, inversions)


class Quantiles(msgspec.Struct, frozen=True):
    """Waits of many people, in milliseconds; half of them waited at most `p50_ms`."""

    count: int
    p10_ms: int
    p50_ms: int
    p90_ms: int
    p99_ms: int
    max_ms: int


def quantiles(weighted: Iterable[tuple[int, int]]) -> Quantiles | None:
    """Quantiles by nearest rank of (value, weight); None of nothing."""
    values = sorted(weighted)
    count = sum(weight for _, weight in values)
    if not count:
        return None
    p10, p50, p90, p99, most = (_at_rank(values, -(-count * percent // 100)) for percent in (10, 50, 90, 99, 100))
    return Quantiles(count, p10, p50, p90, p99, most)


def _at_rank(values: Sequence[tuple[int, int]], rank: int) -> int:
    """The value of that rank, from 1."""
    for value, weight in values:
        rank -= weight
        if rank <= 0:
            return value
    raise AssertionError("the rank is within the count")


class Bin(msgspec.Struct, frozen=True):
    """A bar of a histogram."""

    from_ms: int
    to_ms: int
    """not in it"""
    count: int


STEPS_MS = tuple(
    unit * step
    for unit, steps in ((1_000, (1, 2, 5, 10, 15, 30)), (60_000, (1, 2, 5, 10, 15, 30)), (3_600_000, (1, 2, 3, 6, 12, 24)))
    for step in steps
)
"""Lengths of time people count in."""


def step_ms(span_ms: int, steps_max: int) -> int:
    """The smallest length people count in of which at most `steps_max` cover the span; whole days where none is long enough."""
    day_ms = STEPS_MS[-1]
    return next((step for step in STEPS_MS if step * steps_max >= span_ms), -(-span_ms // (steps_max * day_ms)) * day_ms)


def histogram(weighted: Iterable[tuple[int, int]], bins_max: int) -> tuple[Bin, ...]:
    """Bars of equal width over values from 0 up, at most `bins_max`; empty of nothing."""
    values = list(weighted)
    if not values:
        return ()
    width = step_ms(max(value for value, _ in values) + 1, bins_max)
    counts = [0] * (max(value for value, _ in values) // width + 1)
    for value, weight in values:
        counts[value // width] += weight
    return tuple(Bin(at * width, (at + 1) * width, count) for at, count in enumerate(counts))


def evenly(items: Sequence[Item], count_max: int) -> list[Item]:
    """At most `count_max` of the items, evenly spread, the first and the last among them."""
    if len(items) <= count_max:
        return list(items)
    return [items[at * (len(items) - 1) // (count_max - 1)] for at in range(count_max)]
