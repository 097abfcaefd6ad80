"""What a waiting shopper is told: never a number that is not honest."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.outlook import Reach, normal, outlook, passed_before
from admission.serving import serving_document
from flashsale.model import place_of
from flashsale.settings import load_settings
from loadtest.bench.line import OPENS_AT_MS, Line, Rules
from loadtest.bench.outlook import some_spread
from tests.vectors.make_outlook import FILE, PACE, contents, document

ROOM = load_settings(environment={}).waiting_room
CERTAIN = Reach(units=10.0, units_spread=0.0, mean=1.0, spread=0.0, uncertainty=0.0, undecided=0.0)


def eta(place: int, **changes: Any) -> tuple[int, int] | None:
    return outlook(document(**changes), place).eta_ms


def chance(place: int, **changes: Any) -> float | None:
    return outlook(document(**changes), place).chance


def test_the_vectors_are_what_is_said_now() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == contents()


@pytest.mark.parametrize(("place", "ahead"), [(0, 0), (99, 0), (100, 0), (101, 1), (999, 899)])
def test_position_is_the_number_of_people_ahead(place: int, ahead: int) -> None:
    assert outlook(document(), place).position == ahead


def test_who_is_called_does_not_wait() -> None:
    assert eta(99) == (0, 0)


def test_who_finds_room_waits_for_the_rate_give_or_take_a_tenth() -> None:
    assert eta(111) == (480, 1920), "the twelfth at ten a second, and a beat and a look"


def test_beyond_it_the_range_of_the_rate_counts() -> None:
    low, high = eta(211) or (0, 0)
    then, spread = 100, 0.6 * math.sqrt(100)
    assert low == pytest.approx(1080 + (then - spread) * 60_000 / 140.25 - 600, abs=1)
    assert high == pytest.approx(1320 + (then + spread) * 60_000 / 90.5 + 600, abs=1)


def test_where_the_stock_may_be_spoken_for_it_may_take_longer() -> None:
    plenty = Reach(units=10_000.0, units_spread=0.0, mean=0.5, spread=0.5, uncertainty=0.0, undecided=0.0)
    before, beyond = eta(399, reach=plenty), eta(400, reach=plenty)
    assert before is not None
    assert beyond is not None
    assert beyond[1] - before[1] > PACE.held_ms
    assert beyond[0] - before[0] < 1000


def test_the_time_to_the_opening_comes_on_top() -> None:
    now_ms = document().now_ms
    later, at_once = eta(150, state="waiting", opens_at_ms=now_ms + 30_000), eta(150)
    assert later is not None
    assert at_once is not None
    assert [ms - 30_000 for ms in later] == list(at_once)


@pytest.mark.parametrize("changes", [{"state": "paused"}, {"state": "closed"}, {"state": "recovering"}, {"sold_out": True}, {"pace": None}])
def test_nothing_is_said_when_nothing_honest_can_be_said(changes: dict[str, Any]) -> None:
    assert eta(150, **changes) is None


def test_behind_the_cut_line_only_the_chance_is_told() -> None:
    told = outlook(document(reach=CERTAIN), 110)
    assert (told.eta_ms, told.chance) == (None, 0.0)


def test_what_is_certain_is_said_as_certain() -> None:
    assert chance(109, reach=CERTAIN) == 1.0
    assert chance(150, sold_out=True) == 0.0
    assert chance(150, state="closed") == 0.0
    assert chance(150, reach=None) is None


def test_an_unknown_line_has_no_outlook() -> None:
    told = outlook(document(), place_of(3, 1))
    assert (told.position, told.eta_ms, told.chance) == (None, None, None)


def test_before_the_draw_the_range_is_that_of_all_places() -> None:
    drop = document(reach=None)
    told, first, last = outlook(drop, None), outlook(drop, 190), outlook(drop, 910)
    assert first.eta_ms is not None
    assert last.eta_ms is not None
    assert told.eta_ms == (first.eta_ms[0], last.eta_ms[1])
    assert told.position is None


@pytest.mark.parametrize(
    ("lines", "line", "position", "passed"),
    [
        ([(100, 1)], 0, 40, 40),
        ([(100, 800), (100, 200)], 0, 40, 50),
        ([(100, 800), (100, 200)], 1, 10, 50),
        ([(100, 800), (5, 200)], 0, 40, 45),
        ([(0, 800), (100, 200)], 1, 10, 10),
        ([(100, 700), (100, 200), (10, 100)], 0, 700, 810),
        ([(100, 1000), (7, 0)], 1, 3, 103),
    ],
)
def test_lines_move_side_by_side_by_their_shares(lines: list[tuple[int, int]], line: int, position: int, passed: float) -> None:
    assert passed_before(lines, line, position) == pytest.approx(passed)


@given(st.floats(-12, 12))
def test_the_normal_distribution_is_that_of_the_library(z: float) -> None:
    assert normal(z) == pytest.approx(NormalDist().cdf(z), abs=1e-7)


REACHES = st.builds(Reach, st.floats(0, 1e6), st.floats(0, 1e4), st.floats(0.001, 10), st.floats(0, 10), st.floats(0, 5), st.floats(0, 1e4))


@given(REACHES, st.integers(100, 1_000_000), st.integers(1, 100_000))
def test_further_back_nothing_gets_better(reach: Reach, place: int, further: int) -> None:
    drop = document(reach=reach, joined=2_000_000)
    near, far = outlook(drop, place), outlook(drop, place + further)
    assert near.chance is not None
    assert far.chance is not None
    assert 0 <= far.chance <= near.chance + 1e-9 <= 1 + 1e-9
    if near.eta_ms is None:
        assert far.eta_ms is None or far.chance >= near.chance - 1e-9
    elif far.eta_ms is not None:
        assert far.eta_ms[0] >= near.eta_ms[0]
        assert far.eta_ms[1] >= near.eta_ms[1]
        assert near.eta_ms[0] <= near.eta_ms[1]


# --- a line that goes on steadily


def ranges(line: Line, place: int) -> list[tuple[int, tuple[int, int], str | None]]:
    """(ms since the opening, range, notice) of a place, once a second, as often as a cache asks for a new document."""
    told = []
    for beat, picture in enumerate(line.play()):
        if picture.serving_number + 20 > place:
            break
        if beat % 5:
            continue
        shown = serving_document(picture, ROOM)
        found = outlook(shown, place).eta_ms
        if found is not None:
            told.append((picture.now_ms - OPENS_AT_MS, found, shown.notice))
    return told


@pytest.mark.parametrize(("cv", "capacity", "rate"), [(0.2, 100, 1000), (0.5, 100, 1000), (0.8, 40, 500), (0.5, 200, 100)])
def test_a_steady_line_makes_no_jumps(cv: float, capacity: int, rate: int) -> None:
    rules = Rules(people=600, capacity=capacity, rate_per_min=rate, no_show=0.1, session_ms=some_spread(60_000, cv), buy=0.5)
    told = ranges(Line(rules), 500)
    assert len(told) > 100
    for (_, (low, high), _), (_, (next_low, next_high), _) in pairwise(told):
        assert next_low == pytest.approx(low, rel=0.2, abs=1_000)
        assert next_high == pytest.approx(high, rel=0.2, abs=1_000)


def test_a_wait_that_grows_says_why() -> None:
    quick = Rules(people=1500, capacity=100, rate_per_min=1000, session_ms=some_spread(30_000, 0.5))
    line = Line(quick)
    line_of_waits = []
    for beat, picture in enumerate(line.play(300_000)):
        if line.now_ms == 150_000:  # from now on people take three times as long
            line.rules = replace(quick, session_ms=some_spread(90_000, 0.5))
        if beat % 25 == 0 and line.now_ms > 90_000:
            shown = serving_document(picture, ROOM)
            found = outlook(shown, 1400).eta_ms
            assert found is not None
            line_of_waits.append((sum(found) / 2, shown.notice))
    twenty_s_later = line_of_waits[4:]
    grown = [why for (before, _), (now, why) in zip(line_of_waits, twenty_s_later, strict=False) if now > 1.15 * before]
    assert grown, "a wait that never grows says nothing of why"
    assert set(grown) == {"Admissions are slower just now."}


def test_a_pause_says_so_and_names_no_time() -> None:
    line = Line(Rules(people=500, capacity=50, rate_per_min=1000))
    pictures = line.play()
    next(pictures)
    line.paused = True
    shown = serving_document(next(pictures), ROOM)
    assert outlook(shown, 400).eta_ms is None
    assert shown.notice is not None
    assert shown.notice.startswith("Paused.")
