"""The exhaustive search, on histories small enough to see through."""

from __future__ import annotations

import pytest

from loadtest.checker.exact import ABSENT, Deed, Turn, search
from loadtest.checker.model import FOREVER_NS

ONE_UNIT = ((1,), (ABSENT, ABSENT))


def turn(deed: Deed, claim: int, begun: int, ended: int = FOREVER_NS) -> Turn:
    """A call about one unit; without an end it is unknown."""
    return Turn(deed, begun, ended, required=ended != FOREVER_NS, claim=claim, units=(1,), name="")


@pytest.mark.parametrize(
    ("turns", "explained"),
    [
        pytest.param([turn(Deed.RESERVE, 0, 1, 2), turn(Deed.SOLD_OUT, 1, 3, 4)], True, id="refused when it is gone"),
        pytest.param([turn(Deed.RESERVE, 0, 1, 2), turn(Deed.RESERVE, 1, 3, 4)], False, id="sold twice"),
        pytest.param([turn(Deed.SOLD_OUT, 1, 1, 2), turn(Deed.RESERVE, 0, 3, 4)], False, id="refused while it is free"),
        pytest.param([turn(Deed.SOLD_OUT, 1, 1, 4), turn(Deed.RESERVE, 0, 2, 3)], True, id="refused beside the taking"),
        pytest.param([turn(Deed.RESERVE, 0, 1), turn(Deed.SOLD_OUT, 1, 3, 4)], True, id="an unknown call may have taken it"),
        pytest.param([turn(Deed.RESERVE, 0, 5), turn(Deed.SOLD_OUT, 1, 3, 4)], False, id="but not before it was made"),
        pytest.param([turn(Deed.RESERVE, 0, 1, 2), turn(Deed.RESERVE, 0, 3, 4)], True, id="a repetition takes nothing"),
        pytest.param([turn(Deed.RESERVE, 0, 1, 2), turn(Deed.SOLD_OUT, 0, 3, 4)], False, id="a repetition is never refused"),
        pytest.param(
            [turn(Deed.RESERVE, 0, 1, 2), turn(Deed.RELEASE, 0, 3, 4), turn(Deed.RESERVE, 1, 5, 6)], True, id="given back and taken"
        ),
        pytest.param([turn(Deed.RESERVE, 0, 1, 2), turn(Deed.EXPIRE, 0, 3), turn(Deed.RESERVE, 1, 5, 6)], True, id="run out and taken"),
        pytest.param(
            [turn(Deed.RESERVE, 0, 1, 2), turn(Deed.RESERVE, 1, 3, 4), turn(Deed.EXPIRE, 0, 5)], False, id="taken before it can run out"
        ),
        pytest.param(
            [turn(Deed.RESERVE, 0, 1, 2), turn(Deed.RELEASE, 0, 3, 4), turn(Deed.RESERVE, 1, 5, 6), turn(Deed.PAY, 0, 7, 8)],
            False,
            id="sold after its end without a unit",
        ),
        pytest.param(
            [turn(Deed.RESERVE, 0, 1, 2), turn(Deed.RELEASE, 0, 3, 4), turn(Deed.PAY, 0, 5, 6)], True, id="sold after its end with one"
        ),
        pytest.param(
            [turn(Deed.RESERVE, 0, 1, 2), turn(Deed.PAY, 0, 3, 4), turn(Deed.CANCEL, 0, 5, 6), turn(Deed.RESERVE, 1, 7, 8)],
            True,
            id="a sale undone is on sale again",
        ),
        pytest.param([turn(Deed.RESERVE, 0, 1, 2), turn(Deed.PAY, 0, 3, 4), turn(Deed.RELEASE, 0, 5, 6)], False, id="sold and given back"),
        pytest.param([turn(Deed.PAY_TOO_LATE, 0, 1, 2)], False, id="too late for what never was"),
        pytest.param(
            [turn(Deed.RESERVE, 0, 1, 2), turn(Deed.PAY, 0, 3, 4), turn(Deed.CANCEL, 0, 5, 6), turn(Deed.PAY_TOO_LATE, 0, 7, 8)],
            True,
            id="the payment of a sale undone is told to go back",
        ),
        pytest.param(
            [turn(Deed.RESERVE, 0, 1, 2), turn(Deed.PAY, 0, 3, 4), turn(Deed.CANCEL, 0, 5, 6), turn(Deed.RELEASE, 0, 7, 8)],
            True,
            id="giving back what was undone changes nothing",
        ),
        pytest.param(
            [turn(Deed.RESERVE, 0, 1, 2), turn(Deed.CANCEL, 0, 3, 4), turn(Deed.RESERVE, 1, 5, 6)], True, id="unpaid, cancelling gives back"
        ),
    ],
)
def test_one_unit_and_two_shoppers(turns: list[Turn], *, explained: bool) -> None:
    assert search(turns, ONE_UNIT) is explained


def test_units_are_taken_of_all_skus_or_of_none() -> None:
    both = Turn(Deed.RESERVE, 1, 2, required=True, claim=0, units=(1, 1), name="")
    refused = Turn(Deed.SOLD_OUT, 3, 4, required=True, claim=1, units=(1, 1), name="")
    assert search([both, refused], ((1, 5), (ABSENT, ABSENT))) is True
    assert search([both, refused], ((2, 5), (ABSENT, ABSENT))) is False


def test_added_units_can_be_taken_and_withdrawn_ones_cannot() -> None:
    more = Turn(Deed.ADJUST, 1, 2, required=True, claim=0, units=(1,), name="")
    fewer = Turn(Deed.ADJUST, 1, 2, required=True, claim=0, units=(-1,), name="")
    taken = turn(Deed.RESERVE, 0, 3, 4)
    assert search([more, taken], ((0,), (ABSENT,))) is True
    assert search([fewer, taken], ((1,), (ABSENT,))) is False


def test_a_search_that_grows_too_large_is_given_up() -> None:
    crowd = [turn(Deed.RESERVE, number, 1, 100) for number in range(24)]
    impossible = turn(Deed.SOLD_OUT, 24, 200, 201)
    assert search([*crowd, impossible], ((25,), (ABSENT,) * 25), configurations_max=1_000) is None
