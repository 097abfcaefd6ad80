"""What follows from the store's counters, where the counters alone say it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from admission.forecast import rates, reach
from admission.pace import Signals, plan
from flashsale.model import Flow, SkuStock, Snapshot
from loadtest.bench.line import OPENS_AT_MS, Line, Rules

MINUTE_MS = 60_000
NOTHING = (0,) * 9


def by_age(**counts: int) -> tuple[int, ...]:
    """Counts by age, `p1` the youngest."""
    return tuple(counts.get(f"p{part}", 0) for part in range(1, 10))


def after_a_minute(flow: Flow, units: SkuStock) -> Snapshot:
    """A drop in which everybody who was called came, and who came is inside or gone."""
    seen = replace(flow, called=flow.entered, claims_by_delay=(flow.entered,) + (0,) * 8)
    start = Line(Rules(people=10, capacity=20_000, rate_per_min=600)).snapshot()
    return replace(start, now_ms=OPENS_AT_MS + MINUTE_MS, admitted=flow.entered, skus={"s": units}, flow=seen)


def half_buy(*, young: int = 0, old: int = 0) -> Flow:
    """Of 40,000 who decided half reserved early, and the others stayed on before they left; and there are those inside."""
    return Flow(
        entered=40_000 + young + old,
        chose_by_age=by_age(p2=20_000),
        left_by_age=by_age(p7=20_000),
        undecided_by_age=by_age(p1=young, p5=old),
        units_reserved=20_000,
        units_confirmed=20_000,
        reservations=20_000,
        paid_by_age=by_age(p2=20_000),
    )


def test_who_has_just_come_in_is_yet_to_take_as_much_as_anybody() -> None:
    assert reach(after_a_minute(half_buy(young=1_000), SkuStock(90_000, 70_000, 0, 20_000))).undecided == pytest.approx(1_000, rel=0.02)


def test_who_is_still_there_when_buyers_have_bought_takes_nothing() -> None:
    assert reach(after_a_minute(half_buy(old=1_000), SkuStock(90_000, 70_000, 0, 20_000))).undecided < 5


def test_those_who_have_not_chosen_yet_do_not_make_buyers_rarer() -> None:
    told = [reach(after_a_minute(half_buy(young=young), SkuStock(90_000, 70_000, 0, 20_000))).mean for young in (0, 30_000)]
    assert told == pytest.approx([0.5, 0.5], rel=0.01)


def test_what_is_reserved_comes_back_where_it_has_been_for_long() -> None:
    """Half are paid soon, and no other ever."""
    flow = Flow(entered=20_000, chose_by_age=by_age(p2=20_000), units_reserved=20_000, units_confirmed=9_000, reservations=20_000)
    young = replace(flow, paid_by_age=by_age(p2=9_000), live_by_age=by_age(p1=2_000), units_expired=9_000)
    old = replace(flow, paid_by_age=by_age(p2=9_000), live_by_age=by_age(p7=2_000), units_expired=9_000)
    stock = SkuStock(11_000, 0, 2_000, 9_000)
    assert reach(after_a_minute(young, stock)).units == pytest.approx(1_000, rel=0.01)
    assert reach(after_a_minute(old, stock)).units == pytest.approx(2_000, rel=0.01)


def test_what_drains_does_not_come_back() -> None:
    flow = Flow(entered=100, chose_by_age=by_age(p2=100), units_reserved=100, reservations=100, live_by_age=by_age(p1=100))
    told = [reach(after_a_minute(flow, SkuStock(100, 0, 100, 0, draining))).units for draining in (0, 100)]
    assert told[0] > 1
    assert told[1] == 0


def test_who_waits_for_one_sku_takes_nothing_of_another() -> None:
    """All of one are sold or reserved and 256 wait for it; 200 of the other are there, and the line is for them."""
    flow = replace(half_buy(), standby=256, wanted=(256, 0))
    shop = replace(
        after_a_minute(flow, SkuStock(1, 0, 0, 1)),
        skus={"gone": SkuStock(20_005, 0, 5, 20_000), "there": SkuStock(200, 200, 0, 0)},
        joined=300,
        serving_number=100,
    )
    assert reach(shop).units == 200
    assert rates(shop, plan(shop, Signals())).held_after > 100
