"""What a waiting shopper is told: never a number that is not honest."""

from __future__ import annotations

from typing import Any

import pytest

from admission.estimate import position, wait_range_ms
from flashsale.model import DropState, SkuStock, Snapshot

NOW_MS = 1_800_000_000_000


def snapshot(**changes: Any) -> Snapshot:
    usual: dict[str, Any] = {
        "drop_id": "d", "now_ms": NOW_MS, "state": DropState.OPEN, "epoch": 1, "joins_at_ms": NOW_MS - 9_000, "opens_at_ms": NOW_MS - 1_000,
        "closes_at_ms": NOW_MS + 600_000, "rate_per_min": 600, "capacity": 10, "joined": 100, "entries": 40, "key": "",
        "serving_number": 20, "admitted": 10, "active": 5, "returning": 0, "reservations_live": 3, "overdue": 0, "notice": "",
        "digest": "x", "skus": {"s1": SkuStock(10, 4, 3, 3)},
    }  # fmt: skip
    assert changes.keys() <= usual.keys()
    return Snapshot(**(usual | changes))


@pytest.mark.parametrize(("queue", "serving", "ahead"), [(0, 0, 0), (5, 0, 5), (5, 5, 0), (5, 9, 0), (19, 20, 0)])
def test_position_is_the_number_of_people_ahead(queue: int, serving: int, ahead: int) -> None:
    assert position(queue, serving) == ahead


def test_who_is_served_does_not_wait() -> None:
    assert wait_range_ms(snapshot(), 19) == (0, 0)


def test_who_is_next_waits_for_one_admission() -> None:
    assert wait_range_ms(snapshot(), 20) == (100, 200)


def test_the_wait_follows_from_the_rate() -> None:
    assert wait_range_ms(snapshot(), 79) == (6_000, 12_000)
    assert wait_range_ms(snapshot(rate_per_min=60), 79) == (60_000, 120_000)


def test_the_time_to_the_opening_is_not_doubled() -> None:
    before = snapshot(state=DropState.WAITING, opens_at_ms=NOW_MS + 30_000, serving_number=0)
    assert wait_range_ms(before, 9) == (31_000, 32_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": DropState.PAUSED},
        {"state": DropState.CLOSED},
        {"skus": {"s1": SkuStock(10, 0, 0, 10)}},
        {"rate_per_min": 0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_nothing_is_said_when_nothing_honest_can_be_said(changes: dict[str, Any]) -> None:
    assert wait_range_ms(snapshot(**changes), 50) is None


def test_reserved_units_may_come_back_so_it_is_not_sold_out() -> None:
    assert wait_range_ms(snapshot(skus={"s1": SkuStock(10, 0, 1, 9)}), 50) is not None


def test_ranges_are_ranges_and_grow_with_the_place() -> None:
    ranges = [wait_range_ms(snapshot(), number) for number in range(20, 100)]
    told = [found for found in ranges if found is not None]
    assert len(told) == 80
    assert all(shortest <= longest for shortest, longest in told)
    assert told == sorted(told)
