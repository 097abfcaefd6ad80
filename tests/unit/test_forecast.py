"""What follows from the store's counters, where the counters alone say it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from admission.forecast import LINGERING_INSIDE, reach
from flashsale.model import Flow, Snapshot
from loadtest.bench.line import OPENS_AT_MS, Line, Rules

MINUTE_MS = 60_000


def after_a_minute(*, admitted: int, deciding: int, ended: int) -> Snapshot:
    """A drop in which `ended` of those who are not deciding left without a reservation, and the others reserved a unit each."""
    flow = Flow(called=admitted, claims_by_delay=(admitted,) + (0,) * 8, sessions_ended=ended, units_reserved=admitted - deciding - ended)
    start = Line(Rules(people=10, capacity=admitted, rate_per_min=600, units=100 * admitted)).snapshot()
    return replace(start, now_ms=OPENS_AT_MS + MINUTE_MS, admitted=admitted, active=deciding, flow=flow)


def test_of_those_still_deciding_fewer_buy_than_of_all() -> None:
    half_buy = reach(after_a_minute(admitted=40_000, deciding=10_000, ended=15_000))
    assert half_buy.undecided == pytest.approx(10_000 / (0.5 + 0.5 * LINGERING_INSIDE), rel=0.02)


def test_where_everybody_buys_all_who_decide_will() -> None:
    assert reach(after_a_minute(admitted=40_000, deciding=10_000, ended=0)).undecided == pytest.approx(10_000, rel=0.02)
