"""A random fault run is random once: when its schedule is made from the seed."""

from __future__ import annotations

from chaos.faults import FAULTS
from chaos.schedule import AROUND_THE_DRAW_S, SPAN_S_MAX, STRIKES_WITHIN_S, make_schedule


def test_the_same_seed_is_the_same_schedule() -> None:
    assert make_schedule(7, 2.0) == make_schedule(7, 2.0)
    assert make_schedule(7, 2.0) != make_schedule(8, 2.0)


def test_a_longer_run_begins_with_the_same_rounds() -> None:
    short, long = make_schedule(7, 1.0), make_schedule(7, 3.0)
    assert long.rounds[: len(short.rounds)] == short.rounds
    assert len(long.rounds) == 3 * len(short.rounds)


def test_each_seed_switches_on_half_of_the_faults_and_all_seeds_all_of_them() -> None:
    seen = set()
    for seed in range(40):
        schedule = make_schedule(seed, 2.0)
        assert len(schedule.faults) == (len(FAULTS) + 1) // 2
        struck = {strike.fault for planned in schedule.rounds for strike in planned.strikes}
        assert struck <= set(schedule.faults)
        seen |= struck
    assert seen == set(FAULTS)


def test_faults_strike_while_the_drop_sells() -> None:
    for planned in make_schedule(3, 10.0).rounds:
        assert planned.strikes
        assert all(-AROUND_THE_DRAW_S <= strike.at_s <= STRIKES_WITHIN_S and 0 < strike.span_s <= SPAN_S_MAX for strike in planned.strikes)
        assert list(planned.strikes) == sorted(planned.strikes, key=lambda strike: strike.at_s)


def test_in_half_of_the_seeds_the_line_is_drawn_and_a_fault_strikes_around_it() -> None:
    rounds = {seed: make_schedule(seed, 1.0).rounds for seed in range(200)}
    drawn = [seed for seed in rounds if rounds[seed][0].scenario.order == "draw"]
    assert 80 <= len(drawn) <= 120
    for seed, planned in rounds.items():
        assert {one.scenario.order for one in planned} == ({"draw"} if seed in drawn else {"arrival"})
    for seed in drawn:
        assert all(abs(planned.strikes[0].at_s) <= AROUND_THE_DRAW_S for planned in rounds[seed])
