"""The checker on histories as large as a crowd: right, and no slower than their size asks for."""

from __future__ import annotations

import cProfile
import pstats

import pytest

from loadtest.checker.bounds import check_bounds
from loadtest.checker.model import Rules, understand
from loadtest.checker.verdict import check
from loadtest.checker.violations import Name
from tests.checker.large import SHOPPERS, large

CROWDS = [5_000, pytest.param(SHOPPERS, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
SHOPPERS_AN_OVERSOLD_UNIT = 250
"""The bounds count what is certain: units on their way between two shoppers hide as many that were given away twice."""


@pytest.mark.parametrize("shoppers", CROWDS)
def test_a_correct_history_raises_no_alarm(shoppers: int) -> None:
    events, state = large(shoppers)
    verdict = check(events, state)
    assert verdict.kept, verdict.examples
    assert verdict.operations > shoppers


@pytest.mark.parametrize("shoppers", CROWDS)
def test_units_oversold_are_found_by_the_bounds(shoppers: int) -> None:
    events, state = large(shoppers, oversold=shoppers // SHOPPERS_AN_OVERSOLD_UNIT)
    assert Name.OVERSOLD in {violation.name for violation in check_bounds(understand(events, state, Rules()), state, Rules())}


def test_four_times_the_crowd_is_about_four_times_the_work() -> None:
    """Counted in calls, which no busy machine changes; squared it would be sixteen times."""
    small, large_ = (_calls(shoppers) for shoppers in (1_000, 4_000))
    assert large_ < 6 * small


def _calls(shoppers: int) -> int:
    events, state = large(shoppers)
    profile = cProfile.Profile()
    profile.runcall(check, events, state)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]
