"""The simulated shoppers: the same seed makes the same people, and they keep to the contract's arithmetic."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any, ClassVar

import pytest

from loadtest.diary import Diary, Times
from loadtest.shopper import Habits, Intent, Ware, plan_shopper, poll_after_s, position, secret_hash_of, settle_for, wait_ms
from loadtest.swarm import _habit, read_sale
from loadtest.visit import _same_place

WARES = (Ware("a", 2), Ware("b", 2))
DOCUMENT: dict[str, Any] = {
    "serving_number": 100,
    "opens_at_ms": 50_000,
    "now_ms": 60_000,
    "rate_per_min": 600,
    "poll": {"floor_ms": 2000, "ceiling_ms": 30_000, "divisor": 20},
}


class TestPlans:
    def test_the_same_seed_makes_the_same_people(self) -> None:
        assert [plan_shopper(7, number, WARES, 2) for number in range(50)] == [plan_shopper(7, number, WARES, 2) for number in range(50)]

    def test_another_seed_makes_others(self) -> None:
        assert plan_shopper(7, 0, WARES, 2) != plan_shopper(8, 0, WARES, 2)

    def test_secrets_are_all_different(self) -> None:
        assert len({plan_shopper(seed, number, WARES, 2).secret for seed in range(3) for number in range(300)}) == 900

    def test_a_crowd_has_people_of_every_kind(self) -> None:
        crowd = [plan_shopper(7, number, WARES, 2) for number in range(2000)]
        assert set(Counter(plan.intent for plan in crowd)) == set(Intent)
        for habit in ("late", "joins_twice", "no_show", "impatient", "forged_token", "lost_answer", "over_limit"):
            share = sum(getattr(plan, habit) for plan in crowd) / len(crowd)
            assert share == pytest.approx(getattr(Habits(), habit), abs=0.03), habit

    def test_nobody_wants_more_than_the_limits_allow(self) -> None:
        crowd = [plan_shopper(1, number, (Ware("a", 1), Ware("b", 2)), 2) for number in range(500)]
        for plan in crowd:
            assert sum(quantity for _, quantity in plan.wanted) <= 2
            assert dict(plan.wanted).get("a", 0) <= 1
            assert list(plan.wanted) == sorted(plan.wanted)
        assert {(("a", 1), ("b", 1)), (("a", 1),), (("b", 2),)} <= {plan.wanted for plan in crowd}

    def test_nobody_is_a_trouble_unless_asked_to_be(self) -> None:
        usual = [plan_shopper(7, number, WARES, 2) for number in range(300)]
        assert not [plan for plan in usual if plan.extends or plan.pays_twice or plan.regrets]
        troubling = [plan_shopper(7, number, WARES, 2, Habits(extends=1, pays_twice=1, regrets=1)) for number in range(300)]
        assert all(plan.extends and plan.pays_twice and plan.regrets for plan in troubling)
        assert [plan.wanted for plan in troubling] == [plan.wanted for plan in usual]

    def test_without_a_key_everybody_pays_by_webhook(self) -> None:
        crowd = [plan_shopper(1, number, WARES, 2, Habits(webhook=1.0)) for number in range(300)]
        assert Intent.PAY not in {plan.intent for plan in crowd}


def test_a_secret_hash_is_43_base64url_characters_of_sha256() -> None:
    assert secret_hash_of("test") == "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"


class TestArithmetic:
    @pytest.mark.parametrize(("number", "ahead"), [(99, -1), (100, 0), (150, 50)])
    def test_position(self, number: int, ahead: int) -> None:
        assert position(number, DOCUMENT) == ahead

    def test_the_wait_is_the_line_at_its_rate(self) -> None:
        assert wait_ms(699, DOCUMENT) == 60_000

    def test_before_the_opening_the_wait_includes_it(self) -> None:
        assert wait_ms(99, {**DOCUMENT, "now_ms": 40_000}) == 10_000

    def test_without_a_queue_number_the_wait_is_for_the_opening(self) -> None:
        assert wait_ms(None, {**DOCUMENT, "now_ms": 40_000}) == 10_000
        assert wait_ms(None, DOCUMENT) == 0

    @pytest.mark.parametrize(
        ("number", "roll", "seconds"), [(100, 0.5, 2), (699, 0.5, 3), (699, 0.0, 2.1), (699, 1.0, 3.9), (90_000, 0.5, 30)]
    )
    def test_polls_keep_to_the_contract(self, number: int, roll: float, seconds: float) -> None:
        assert poll_after_s(number, DOCUMENT, roll) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("wanted", "available", "taken"),
    [
        ((("a", 2),), {"a": 1, "b": 5}, (("a", 1),)),
        ((("a", 1), ("b", 1)), {"a": 0, "b": 5}, (("b", 1),)),
        ((("a", 2),), {"a": 0, "b": 5}, (("b", 1),)),
        ((("a", 2),), {"a": 0, "b": 0}, ()),
    ],
)
def test_people_take_what_is_left(wanted: Any, available: Any, taken: Any) -> None:
    assert settle_for(wanted, available) == taken


@pytest.mark.parametrize(
    ("again", "same"),
    [
        ({"ticket_id": "t", "entry_number": 3}, True),
        ({"ticket_id": "t", "entry_number": 3, "queue_number": 0}, True),
        ({"ticket_id": "t", "entry_number": 4}, False),
        ({"ticket_id": "t", "queue_number": 3}, False),
        ({"ticket_id": "u", "entry_number": 3}, False),
    ],
)
def test_one_secret_has_one_place_though_its_queue_number_comes_later(again: Any, same: bool) -> None:  # noqa: FBT001 - a case
    assert _same_place({"ticket_id": "t", "entry_number": 3}, again) is same


class TestHabitsAsOptions:
    def test_a_habit_has_a_name_and_a_share(self) -> None:
        assert _habit("pays_twice=0.25") == ("pays_twice", 0.25)

    @pytest.mark.parametrize("text", ["flies=0.1", "regrets=1.5", "regrets"])
    def test_another_is_refused(self, text: str) -> None:
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            _habit(text)


class TestSale:
    DROP: ClassVar[dict[str, Any]] = {
        "drop": "d",
        "joins_at_ms": 90_000,
        "opens_at_ms": 100_000,
        "skus": [{"sku": "b", "limit_per_shopper": 1}, {"sku": "a", "limit_per_shopper": 2}],
        "limit_per_shopper": 2,
        "order": "draw",
    }

    def test_early_shoppers_come_between_now_and_the_opening(self) -> None:
        sale, limit = read_sale(self.DROP, now=95.0, late_span_s=5.0)
        assert (sale.starts_at, sale.opens_at, limit) == (95.0, 100.0, 2)
        assert sale.wares == (Ware("a", 2), Ware("b", 1))
        assert sale.draws

    def test_a_line_by_arrival_is_known_as_one(self) -> None:
        assert not read_sale({**self.DROP, "order": "arrival"}, now=95.0, late_span_s=5.0)[0].draws

    def test_in_an_open_drop_everybody_is_late(self) -> None:
        sale, _ = read_sale(self.DROP, now=120.0, late_span_s=5.0)
        assert (sale.starts_at, sale.opens_at) == (120.0, 120.0)


class TestDiary:
    def test_every_5xx_counts_and_those_that_ask_for_patience_are_told_apart(self) -> None:
        diary = Diary()
        diary.answered("join", 201, "", 1.0)
        diary.answered("join", 503, "busy", 1.0)
        diary.answered("join", 500, "internal", 1.0)
        result = diary.result()
        assert (result["http_5xx"], result["retry_later"]) == (2, {"busy": 1})
        assert result["answers"] == {"join": {"201": 1, "500 internal": 1, "503 busy": 1}}

    def test_broken_promises_are_counted_and_a_few_kept(self) -> None:
        diary = Diary()
        for number in range(50):
            diary.promise_broken(str(number))
        assert diary.broken == 50
        assert len(diary.broken_promises) == 20

    def test_percentiles_are_within_five_percent_and_never_above_the_longest(self) -> None:
        times = Times()
        for took_ms in range(1, 1001):
            times.add(took_ms)
        assert times.percentile(0.5) == pytest.approx(500, rel=0.06)
        assert times.percentile(0.99) == pytest.approx(990, rel=0.06)
        assert times.percentile(1.0) == 1000
        assert Times().percentile(0.5) == 0
