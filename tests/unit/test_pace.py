"""How many are called: learned from those called before, never out of bounds, and good enough for the reference case."""

from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.pace import (
    AGES,
    PARTS,
    PRESSURE_MIN,
    Pace,
    Signals,
    door,
    plan,
    pressure,
    still_choosing,
    still_coming,
    still_paid,
    units_per_claim,
)
from flashsale.model import Flow
from loadtest.bench.line import OPENS_AT_MS, Line, Rules, ideal_entries_ms
from tests.unit.snapshots import snapshot

COUNTS = st.integers(0, 10_000_000)
BY_AGE = st.tuples(*[COUNTS] * AGES)
BY_PART = st.tuples(*[COUNTS] * PARTS)
FLOWS = st.builds(
    Flow,
    called_by_age=BY_AGE,
    claims_by_delay=BY_AGE,
    called=COUNTS,
    entered=COUNTS,
    reservations=COUNTS,
    units_reserved=COUNTS,
    standby=COUNTS,
    wanted=st.tuples(COUNTS, COUNTS),
    undecided_by_age=BY_PART,
    chose_by_age=BY_PART,
    left_by_age=BY_PART,
    live_by_age=BY_PART,
    paid_by_age=BY_PART,
    freed_by_age=BY_PART,
)
LOADS = st.floats(0, 1e9)
NOTHING = Signals()


def paced(flow: Flow, signals: Signals = NOTHING, **changes: int) -> Pace:
    return plan(snapshot(flow=flow, **changes), signals)


def after(*claims: int, called: int) -> Flow:
    """Everybody called long ago, with so many claims in the first ages."""
    return Flow(claims_by_delay=claims + (0,) * (AGES - len(claims)), called=called)


def test_without_history_nine_of_ten_are_expected_within_the_first_polls() -> None:
    found = paced(Flow())
    assert found.weights_permille[0] == 900
    assert list(found.weights_permille) == sorted(found.weights_permille, reverse=True)
    assert found.weights_permille[5:] == (0, 0, 0, 0)
    assert paced(Flow(), admitted=0, active=0, reservations_live=0).units_per_claim_permille == 500


def test_history_outweighs_the_prior() -> None:
    everybody = paced(after(250, 250, 250, 250, called=1000))
    assert everybody.weights_permille[0] >= 990
    most = paced(after(150, 150, 150, 150, called=1000))
    assert most.weights_permille[0] == pytest.approx(606, abs=3)


def test_a_call_that_is_young_has_not_failed() -> None:
    young = Flow(called_by_age=(500,) + (0,) * (AGES - 1), called=500)
    assert paced(young).weights_permille[0] > 850
    old = Flow(called_by_age=(0,) * (AGES - 1) + (500,), called=500)
    assert paced(old).weights_permille[0] == 500


def test_whoever_has_not_come_for_long_is_not_waited_for() -> None:
    found = paced(after(250, 250, 250, 150, called=1000))
    assert found.weights_permille[4] <= 80
    assert found.weights_permille[5:] == (0, 0, 0, 0)


def test_the_rate_makes_up_for_those_who_do_not_come_but_never_more_than_twice() -> None:
    assert paced(after(500, called=1000), rate_per_min=600).rate_per_min == pytest.approx(1175, abs=10)
    assert paced(Flow(called=1_000_000), rate_per_min=600).rate_per_min == 1200


def test_units_a_claim_follow_from_what_people_reserved() -> None:
    flow = Flow(entered=1_000, reservations=750, units_reserved=1_500, chose_by_age=(0, 750) + (0,) * (PARTS - 2))
    assert units_per_claim(flow) == pytest.approx(1.5, abs=0.01)
    assert units_per_claim(replace(flow, entered=10_000)) == pytest.approx(0.15, abs=0.01)
    undecided = replace(flow, entered=10_000, undecided_by_age=(9_000,) + (0,) * (PARTS - 1))
    assert units_per_claim(undecided) == pytest.approx(1.5, abs=0.02)


def test_who_has_been_in_for_long_without_choosing_stands_for_less_than_a_newcomer() -> None:
    half = Flow(entered=1_000, reservations=500, chose_by_age=(0, 250, 250) + (0,) * (PARTS - 3))
    found = paced(half).stays_permille
    assert (found[0], found[1]) == (1000, 1000)
    assert found[2] == pytest.approx(1000 * (250 / 750) / 0.5, abs=5)
    assert max(found[3:]) <= 10


def test_who_leaves_without_buying_makes_those_who_stay_likelier_to_buy() -> None:
    """Half leave at once; everybody else buys."""
    found = still_choosing(Flow(entered=1_000, left_by_age=(500,) + (0,) * (PARTS - 1), chose_by_age=(0, 0, 0, 500) + (0,) * (PARTS - 4)))
    assert found[0] == pytest.approx(0.5, abs=0.01)
    assert found[1] == pytest.approx(1, abs=0.01)


def test_a_reservation_that_is_young_has_not_failed() -> None:
    young = Flow(reservations=500, live_by_age=(500,) + (0,) * (PARTS - 1))
    assert still_paid(young)[0] > 0.85
    assert still_paid(Flow(reservations=500))[0] < 0.02


def test_a_door_never_holds_more_than_a_quarter() -> None:
    assert [door(capacity) for capacity in (0, 1, 10, 200, 10_000)] == [0, 1, 3, 50, 400]


@given(FLOWS, LOADS, LOADS, st.floats(0, 1), COUNTS, COUNTS, COUNTS)
def test_every_plan_is_within_bounds(
    flow: Flow, journal_age_ms: float, latency_ms: float, factor: float, rate: int, active: int, admitted: int
) -> None:
    found = plan(snapshot(flow=flow, rate_per_min=rate, active=active, admitted=admitted), Signals(journal_age_ms, latency_ms, factor))
    assert len(found.weights_permille) == AGES
    assert 500 <= found.weights_permille[0] <= 1000
    assert all(0 <= weight <= 1000 for weight in found.weights_permille)
    assert found.units_per_claim_permille >= 50
    assert 0 <= found.rate_per_min <= 2 * rate + 1
    assert (found.rate_per_min == 0) == (rate == 0 or factor == 0)
    assert len(found.stays_permille) == PARTS - 1
    assert all(0 <= stay <= 1000 for stay in found.stays_permille)
    for chances in (still_coming(flow), still_choosing(flow), still_paid(flow)):
        assert all(isfinite(chance) and 0 <= chance <= 1 for chance in chances)


@given(FLOWS, st.integers(0, AGES - 1), st.integers(1, 1000))
def test_more_claims_never_lower_the_weight_of_a_new_call(flow: Flow, age: int, more: int) -> None:
    claims = flow.claims_by_delay
    risen = replace(
        flow, claims_by_delay=(*claims[:age], claims[age] + more, *claims[age + 1 :]), called=sum(claims) + sum(flow.called_by_age) + more
    )
    told = replace(flow, called=risen.called)
    assert still_coming(risen)[0] >= still_coming(told)[0] - 1e-12


@given(FLOWS, st.integers(1, 100_000))
def test_more_calls_without_claims_never_raise_it(flow: Flow, more: int) -> None:
    assert still_coming(replace(flow, called=flow.called + more))[0] <= still_coming(flow)[0] + 1e-12


@given(LOADS, LOADS, LOADS, st.floats(0, 1))
def test_more_load_never_raises_the_rate(less: float, more: float, other: float, factor: float) -> None:
    low, high = sorted((less, more))
    assert pressure(Signals(high, other, factor)) <= pressure(Signals(low, other, factor))
    assert pressure(Signals(other, high, factor)) <= pressure(Signals(other, low, factor))


@given(st.floats(0, 30_000))
def test_pressure_has_no_steps(age_ms: float) -> None:
    assert abs(pressure(Signals(age_ms)) - pressure(Signals(age_ms + 20))) < 0.002


def test_pressure_is_whole_when_all_is_well_and_least_but_not_zero_when_it_is_not() -> None:
    assert pressure(Signals(2_000, 100)) == 1
    assert pressure(Signals(20_000)) == pressure(Signals(0, 1_000)) == pytest.approx(PRESSURE_MIN)
    assert pressure(Signals(inf, inf)) == pytest.approx(PRESSURE_MIN)
    assert pressure(Signals(storefront_factor=0)) == 0
    assert pressure(Signals(storefront_factor=nan)) == 1


# --- the reference case: capacity 200, sessions of 60 s, 600 people in 5 s, polls every 2 s


def reference(no_show: float, seed: int) -> tuple[float, int]:
    """(Last entry over the ideal, most people in at once)."""
    line = Line(Rules(people=600, capacity=200, rate_per_min=7_200, arrive_within_ms=5_000, no_show=no_show), seed)
    most = max(snapshot.active for snapshot in line.play())
    assert len(line.entered_at) == sum(line.comes), "everybody who comes is let in"
    return max(line.entered_at.values()) / max(ideal_entries_ms(line).values()), most


@pytest.mark.parametrize("no_show", [0.0, 0.02, 0.2, 0.4])
def test_no_shows_cost_no_throughput(no_show: float) -> None:
    runs = [reference(no_show, seed) for seed in range(5)]
    assert sum(late for late, _ in runs) / len(runs) <= 1.05
    assert max(most for _, most in runs) <= 200


def test_ten_thousand_closed_tabs_do_not_stop_the_line() -> None:
    line = Line(Rules(people=10_200, capacity=200, rate_per_min=60_000, absent_first=10_000))
    served: list[int] = []
    entered_ms = None
    for told in line.play():
        served.append(told.serving_number)
        if entered_ms is None and line.entered_at:
            entered_ms = told.now_ms - OPENS_AT_MS
    assert served[1] > 0, "within two beats"
    assert entered_ms is not None
    assert entered_ms < 20_000
    assert len(line.entered_at) == 200


def test_nobody_is_called_for_units_that_are_spoken_for() -> None:
    line = Line(Rules(people=2_000, capacity=500, rate_per_min=60_000, units=50, buy=0.5))
    called = max(told.serving_number for told in line.play())
    assert line.sold == 50
    assert called < 300
