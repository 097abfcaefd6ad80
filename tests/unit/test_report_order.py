"""Orders, quantiles and the tally of a log, each against the plainest way to work it out."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.log import Called, Claimed, Cut, Event, Left, Removed, Returned, Unknown
from admission.ranking import Bin, Ranking, evenly, histogram, quantiles, ranking, step_ms
from admission.tally import Covered, tally
from flashsale.model import place_of

# ------------------------------------------------------------------------------------------------------------------ orders


@given(st.permutations(range(12)), st.integers(0, 12))
def test_inversions_are_those_of_all_pairs(values: list[int], count: int) -> None:
    values = values[:count]
    found = ranking(values)
    assert found == (count * (count - 1) // 2, sum(one > other for one, other in combinations(values, 2)))


@given(st.permutations(range(6)), st.lists(st.integers(1, 4), min_size=6, max_size=6))
def test_a_weight_stands_for_as_many_values_in_order(values: list[int], weights: list[int]) -> None:
    one_by_one = [10 * value + at for value, weight in zip(values, weights, strict=True) for at in range(weight)]
    assert ranking(values, weights) == ranking(one_by_one)


@pytest.mark.parametrize(("values", "tau"), [([], None), ([3], None), ([1, 2, 3], 1.0), ([3, 2, 1], -1.0), ([2, 1, 3, 4], 2 / 3)])
def test_kendall_tau(values: list[int], tau: float | None) -> None:
    assert ranking(values).kendall_tau == (tau if tau is None else pytest.approx(tau))


def test_rankings_of_lines_are_added_without_comparing_across_them() -> None:
    assert Ranking(3, 1) + Ranking(1, 1) == (4, 2)


# --------------------------------------------------------------------------------------------------------------- quantiles


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), min_size=1, max_size=20))
def test_quantiles_are_by_nearest_rank(weighted: list[tuple[int, int]]) -> None:
    values = sorted(value for value, weight in weighted for _ in range(weight))
    found = quantiles(weighted)
    assert found is not None
    assert found.count == len(values)
    for percent, value in ((10, found.p10_ms), (50, found.p50_ms), (90, found.p90_ms), (99, found.p99_ms), (100, found.max_ms)):
        assert sum(one <= value for one in values) * 100 >= percent * len(values)
        assert sum(one < value for one in values) * 100 < percent * len(values)


def test_there_are_no_quantiles_of_nothing() -> None:
    assert quantiles([]) is None


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 5)), max_size=20), st.integers(1, 60))
def test_a_histogram_has_everything_once_in_few_bars_without_gaps(weighted: list[tuple[int, int]], bins_max: int) -> None:
    bars = histogram(weighted, bins_max)
    assert len(bars) <= bins_max
    assert all(one.to_ms == other.from_ms for one, other in pairwise(bars))
    for bar in bars:
        assert bar.count == sum(weight for value, weight in weighted if bar.from_ms <= value < bar.to_ms)
    assert sum(bar.count for bar in bars) == sum(weight for _, weight in weighted)


def test_bars_have_lengths_people_count_in() -> None:
    assert histogram([(0, 1), (61_000, 2)], 8)[-1] == Bin(60_000, 70_000, 2)
    assert [step_ms(span, 10) for span in (1, 10_001, 900_000, 86_400_000 * 25)] == [1_000, 2_000, 120_000, 86_400_000 * 3]


@given(st.integers(0, 200), st.integers(2, 50))
def test_evenly_spread_items_have_both_ends(count: int, count_max: int) -> None:
    items = list(range(count))
    chosen = evenly(items, count_max)
    assert len(chosen) == min(count, count_max)
    assert chosen == sorted(set(chosen))
    assert chosen[:1] + chosen[-1:] == items[:1] + items[-1:]


# ------------------------------------------------------------------------------------------------------------------- tally

INTERVALS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)).map(lambda one: (one[0], one[0] + one[1])), max_size=12)


@given(INTERVALS)
def test_intervals_tell_what_is_new(intervals: list[tuple[int, int]]) -> None:
    covered, seen = Covered(), set[int]()
    for start, stop in intervals:
        fresh = [place for first, last in covered.add(start, stop) for place in range(first, last)]
        assert fresh == [place for place in range(start, stop) if place not in seen]
        seen.update(range(start, stop))
        assert {place for place in range(40) if place in covered} == seen


@given(INTERVALS)
def test_inversions_of_calls_are_those_of_the_first_call_of_each_place(intervals: list[tuple[int, int]]) -> None:
    line = tally(Called(at, start, stop) for at, (start, stop) in enumerate(intervals)).line(0)
    first = list(dict.fromkeys(place for start, stop in intervals for place in range(start, stop)))
    assert line.passed == len(first)
    assert line.called_again == sum(stop - start for start, stop in intervals) - len(first)
    calls = ranking([run.start for run in line.runs], [run.stop - run.start for run in line.runs])
    assert calls.inversions == sum(one > other for one, other in combinations(first, 2))


PLACES = st.lists(st.integers(0, 12), min_size=1, max_size=4, unique=True).map(tuple)
EVENTS = st.lists(
    st.one_of(
        st.builds(lambda start, count: Called(1, start, start + count), st.integers(0, 10), st.integers(1, 3)),
        PLACES.map(lambda places: Claimed(1, places, (0,) * len(places))),
        PLACES.map(lambda places: Left(1, places)),
        PLACES.map(lambda places: Removed(1, places, "bot")),
    ),
    max_size=20,
)


@given(EVENTS)
def test_everybody_is_counted_once(events: list[Event]) -> None:
    called, claimed, gone, gone_waiting = set[int](), set[int](), dict[int, str](), set[int]()
    for event in events:
        if isinstance(event, Called):
            called.update(range(event.start, event.stop))
        elif isinstance(event, Claimed):
            claimed.update(event.places)
        elif isinstance(event, Left | Removed):
            for place in event.places:
                if place not in gone:
                    gone[place] = type(event).__name__
                    gone_waiting |= {place} - called
    line = tally(events).line(0)
    assert line.called == len(called - gone_waiting)
    assert line.claimed == claimed
    counts = Counter(gone.values())
    assert (line.left, line.removed["bot"]) == (counts["Left"], counts["Removed"])
    if not claimed & gone_waiting:
        assert line.never_came == len(called - claimed - gone.keys())


def test_who_is_called_again_from_the_head_overtakes_nobody() -> None:
    line = tally([Called(1, 0, 5), Called(2, 5, 9), Returned(3, (1, 4)), Called(4, 2, 3)]).line(0)
    assert (len(line.runs), line.passed, line.called_again) == (2, 9, 3)


def test_lines_are_told_apart_and_what_is_unknown_is_counted() -> None:
    vip = place_of(1, 0)
    total = tally([Called(1, 0, 2), Called(1, vip, vip + 3), Cut(2, (9, vip + 3), "sold_out"), Unknown("danced"), Called(3, 5, vip + 9)])
    assert {line: one.passed for line, one in total.lines.items()} == {0: 2, 1: 3}
    assert [one.cut and one.cut.places for one in total.lines.values()] == [(9,), (vip + 3,)]
    assert (total.entries, dict(total.unknown)) == (5, {"danced": 1, "called": 1})
