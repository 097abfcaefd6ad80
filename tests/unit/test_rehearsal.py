"""The parts of a rehearsal that need no store: the crowd, what it reads from a document, the advice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as with_changes

from admission.outlook import PaceRange, Reach, outlook
from admission.ranking import Quantiles
from admission.serving import PollAdvice, ServingDocument
from flashsale.model import Drop, Group, Sku
from flashsale.rehearsal.advice import JOINS_PER_S, POLLS_PER_S, Advice, advise
from flashsale.rehearsal.behaviour import Behaviour, Ending, Shopper, crowd
from flashsale.rehearsal.findings import Findings, Loads
from flashsale.rehearsal.stage import OPENS_AT_MS, rehearsed
from flashsale.rehearsal.views import NO_CHANCE, View
from flashsale.settings import load_settings
from loadtest.bench.honesty import Case, score
from loadtest.bench.reference import ideal_entries_ms

SETTINGS = load_settings(environment={})
DROP = Drop(
    drop_id="d",
    name="D",
    currency="EUR",
    skus=(Sku("s1", "One", 300, 1_000, 2), Sku("s2", "Two", 100, 1_000, 1)),
    joins_at_ms=1_000,
    opens_at_ms=61_000,
    closes_at_ms=3_661_000,
    rate_per_min=600,
    capacity=300,
    claim_window_ms=60_000,
    reservation_ttl_ms=60_000,
    limit_per_shopper=2,
)
QUANTILES = Quantiles(10, 1_000, 60_000, 120_000, 130_000, 140_000)
FINDINGS = Findings(
    shoppers=5_000,
    joined=5_000,
    admitted=1_000,
    bought=400,
    bought_nothing=600,
    empty_handed=3_000,
    gone=1_000,
    no_room=0,
    units=400,
    units_sold=400,
    taken_ms=120_000,
    nearly_taken_ms=100_000,
    sold_out_ms=180_000,
    ended_ms=200_000,
    wait=QUANTILES,
    empty_handed_wait=QUANTILES,
    told_no_chance=2_000,
    told_no_chance_ms=QUANTILES,
    loads=Loads(100_000, 1_000, 100, 50, 20),
    slot_ms=30_000,
    slots_used=1.0,
)


# --------------------------------------------------------------------------------------------------------------- the crowd


def share(shoppers: list[Shopper], wanted: object) -> float:
    return sum(bool(wanted(shopper)) for shopper in shoppers) / len(shoppers)  # type: ignore[operator]


def test_a_crowd_behaves_as_described() -> None:
    people = crowd(Behaviour(shoppers=20_000, no_show=0.4, buy=0.5, late=0.2, abandons=0.1, session_ms=30_000), DROP, 1)
    assert share(people, lambda one: not one.comes) == pytest.approx(0.4, abs=0.02)
    assert share(people, lambda one: one.items) == pytest.approx(0.5, abs=0.02)
    assert share(people, lambda one: one.arrives_ms > 0) == pytest.approx(0.2, abs=0.02)
    assert share(people, lambda one: one.ending is Ending.ABANDONED) == pytest.approx(0.1, abs=0.02)
    assert share(people, lambda one: one.choosing_ms + one.paying_ms < 30_000) == pytest.approx(0.5, abs=0.02)
    assert share(people, lambda one: one.items and one.items[0][0] == "s1") == pytest.approx(0.375, abs=0.02)
    assert all(one.comes == (one.silent_ms is None) for one in people)


def test_people_come_in_order_and_mostly_just_before_the_opening() -> None:
    people = crowd(Behaviour(shoppers=5_000, arrivals_ms=600_000, late=0.0), DROP, 1)
    assert [one.arrives_ms for one in people] == sorted(one.arrives_ms for one in people)
    assert -600_001 <= people[0].arrives_ms < people[-1].arrives_ms < 0
    assert people[len(people) // 2].arrives_ms == pytest.approx(-150_000, rel=0.1)


def test_nobody_takes_more_than_the_limit_of_a_sku() -> None:
    people = crowd(Behaviour(shoppers=2_000, second_unit=1.0), DROP, 1)
    assert {one.items[0] for one in people if one.items} == {("s1", 2), ("s2", 1)}


def test_a_seed_is_a_crowd() -> None:
    behaviour = Behaviour(shoppers=200)
    assert crowd(behaviour, DROP, 1) == crowd(behaviour, DROP, 1) != crowd(behaviour, DROP, 2)


def test_every_group_has_its_people() -> None:
    drop = replace(DROP, groups=(Group("vip", "Vip", 300), Group("club", "Club", 200)))
    lines = [one.line for one in crowd(Behaviour(shoppers=5_000, in_group=0.1), drop, 1)]
    assert [lines.count(line) / len(lines) for line in range(3)] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_a_rehearsed_drop_keeps_its_distances() -> None:
    drop = rehearsed(replace(DROP, durability="replica", beacon="drand"))
    assert (drop.opens_at_ms, drop.opens_at_ms - drop.joins_at_ms, drop.closes_at_ms - drop.opens_at_ms) == (OPENS_AT_MS, 60_000, 3_600_000)
    assert (drop.durability, drop.beacon) == ("second", "none")


# --------------------------------------------------------------------------------------------------------- what they read


DOCUMENT = ServingDocument(
    drop="d", epoch=1, state="open", now_ms=100_000, opens_at_ms=61_000, closes_at_ms=3_661_000, joined=5_000, entries=4_000, key="00",
    serving_number=100, rate_per_min=600, available={"s1": 300}, reserved={"s1": 0}, sold_out=False, cut_line=None,
    poll=PollAdvice(2_000, 30_000, 20), notice=None, pace=PaceRange(500, 700, 0, 600, 5_000, 0),
    reach=Reach(300, 0, 0.5, 0.5, 0.02, 0),
)  # fmt: skip


def test_the_pause_between_looks_is_what_the_document_says() -> None:
    view = View(DOCUMENT)
    for place in (100, 101, 130, 164, 400, 612):
        told = outlook(DOCUMENT, place).eta_ms
        assert told is not None
        assert view.poll_after_ms(place, 0.5) == pytest.approx(min(30_000, max(2_000, told[0] / 20)), rel=0.05)
    assert [view.poll_after_ms(4_999, roll) for roll in (0.0, 0.5, 1.0)] == pytest.approx([0.7 * 20_000, 20_000, 1.3 * 20_000], rel=0.25)


def test_where_there_is_no_chance_is_found_exactly() -> None:
    view = View(DOCUMENT)
    first = next(place for place in range(100, 5_000) if (outlook(DOCUMENT, place).chance or 0) < NO_CHANCE)
    assert not view.is_hopeless(first - 1)
    assert view.is_hopeless(first)
    assert not View(with_changes(DOCUMENT, reach=None)).is_hopeless(4_999)


# ---------------------------------------------------------------------------------------------------------------- advice


def advice_for(found: Findings = FINDINGS, drop: Drop = DROP) -> Advice:
    return advise(found, drop, Behaviour(shoppers=5_000), SETTINGS)


def test_rate_and_capacity_follow_from_how_long_a_slot_is_kept() -> None:
    advice = advice_for(drop=replace(DROP, capacity=100))
    assert (advice.limited_by, advice.capacity, advice.rate_per_min) == ("capacity", 285, 190)
    assert advice_for(drop=replace(DROP, capacity=1_000)).limited_by == "rate"


def test_workers_are_at_most_half_busy_and_at_least_two() -> None:
    assert advice_for().workers == 2
    busy = with_changes(FINDINGS, loads=Loads(1, POLLS_PER_S, JOINS_PER_S, 0, 0))
    assert (advice_for(busy).worker_load, advice_for(busy).workers) == (2.0, 4)


@pytest.mark.parametrize(
    ("changes", "found", "name"),
    [
        ({"claim_window_ms": 20_000}, {}, "claim_window"),
        ({"claim_window_ms": 40_000}, {}, "choosing"),
        ({"reservation_ttl_ms": 300_000}, {}, "reservation_ttl"),
        ({"capacity": 100}, {}, "capacity"),
        ({}, {"units_sold": 300, "empty_handed": 0}, "unsold"),
        ({}, {"units_sold": 300}, "closing"),
        ({}, {"no_room": 5}, "no_room"),
    ],
)
def test_rules_that_will_hurt_are_named(changes: dict[str, int], found: dict[str, int], name: str) -> None:
    assert advice_for().warnings == ()
    warnings = advice_for(with_changes(FINDINGS, **found), replace(DROP, **changes)).warnings  # type: ignore[arg-type]
    assert name in [warning.name for warning in warnings]


# --------------------------------------------------------------------------------------------------------------- numbers


def test_the_ideal_line_lets_each_in_who_has_arrived_once_a_slot_is_free() -> None:
    assert ideal_entries_ms([0, 5, 10, 70, 200], capacity=2, session_ms=60) == [0, 5, 60, 70, 200]


def test_rehearsals_are_scored_by_their_looks() -> None:
    case = Case(
        1, 1, 0, 0, 1, 1, 1, 1, 0, looks=100, within=0.9, early=0.1, late_calls=0, width=0.5, deciles=((0.95, 0.8, 300), (0.3, 0.9, 10))
    )
    found = score([case, replace(case, looks=300, within=0.7), replace(case, looks=0)])
    assert found.looks == 400
    assert found.within == pytest.approx(0.75)
    assert found.worst_gap == pytest.approx(0.15)
