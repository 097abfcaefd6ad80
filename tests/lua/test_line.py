"""The line: places, beats, slots, and that it neither overtakes, floods nor stalls."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from tests.lua.world import BEAT_MS, CLAIM_WINDOW_MS, KEYS, SINGLE, World, paying, reserving, settings_of_tests, t


async def line_of(world: World, people: int, **changes: Any) -> None:
    """An open drop with `people` waiting and nobody served; the last beat was just before the opening."""
    await world.open(**changes)
    world.at(-5_000)
    if people:
        await world.join(*(f"p{number}" for number in range(people)))
    world.at(-BEAT_MS)
    await world.beat()


async def serving_number(world: World) -> int:
    return int((await world.state())["drop"]["serving_number"])


async def test_places_are_given_in_the_order_of_arrival(world: World) -> None:
    await world.open()
    world.at(-5_000)
    first = await world.join("a", "b")
    world.at(BEAT_MS)
    second = await world.join("c", "a", "d")
    assert [result[:3] for result in [*first, *second]] == [
        ["joined", 0, 0],
        ["joined", 1, 0],
        ["joined", 2, 1],
        ["replayed", 0, 0],
        ["joined", 3, 1],
    ]


async def test_the_same_secret_twice_in_one_batch_has_one_place(world: World) -> None:
    await world.open()
    world.at(-5_000)
    assert [result[:2] for result in await world.join("a", "a", "b")] == [["joined", 0], ["replayed", 0], ["joined", 1]]
    assert (await world.state())["drop"]["joined"] == "2"


async def test_the_last_places_of_a_room_are_given_within_a_batch(world: World) -> None:
    world.drops = World(world.client, settings_of_tests(tickets_max=2)).drops
    await world.open()
    world.at(-5_000)
    assert [result[0] for result in await world.join("a", "b", "c", "a")] == ["joined", "joined", "room_full", "replayed"]


@pytest.mark.parametrize("who", ["a late joiner", "a beat", "an early opening", "the end"])
async def test_entries_are_fixed_at_the_opening_by_whoever_comes_first(world: World, who: str) -> None:
    await world.open()
    world.at(-5_000)
    await world.join("a", "b")
    if who == "a late joiner":
        world.at(0)
        await world.join("c")
    elif who == "a beat":
        world.at(0)
        await world.beat()
    elif who == "an early opening":
        await world.steer("open")
    else:
        await world.close()
    assert (await world.state())["drop"]["entries"] == "2"
    world.at(BEAT_MS)
    await world.join("d")
    await world.beat()
    assert (await world.state())["drop"]["entries"] == "2"


async def test_entries_of_an_empty_line_stay_zero(world: World) -> None:
    await world.open()
    world.at(0)
    await world.beat()
    await world.join("late")
    state = await world.state()
    assert state["drop"]["entries"] == "0"
    assert state["tickets"]["late"]["late"] == 1


async def test_the_line_moves_at_the_rate(world: World) -> None:
    """600 a minute is 10 a second, fractions carried over from beat to beat."""
    await line_of(world, 60, rate_per_min=600)
    seen = []
    for after_ms in range(0, 3_000, 130):
        world.at(after_ms)
        await world.beat()
        seen.append((after_ms, await serving_number(world)))
    assert all(served == pytest.approx(after_ms / 100, abs=1.0) for after_ms, served in seen)
    assert all(served <= after_ms / 100 for after_ms, served in seen)


async def test_two_callers_in_one_beat_are_one(world: World) -> None:
    await line_of(world, 30, rate_per_min=6_000)
    world.at(BEAT_MS)
    outcomes = await asyncio.gather(*(world.beat() for _ in range(8)))
    assert sorted(outcomes) == ["advanced", *["held"] * 7]
    assert await serving_number(world) == 10
    digest = await world.digest()
    world.at(2 * BEAT_MS - 1)
    assert await world.beat() == "held"
    assert await world.digest() == digest


async def test_a_stall_is_not_followed_by_a_flood(world: World) -> None:
    await line_of(world, 90, rate_per_min=600, capacity=1_000)
    world.at(0)
    await world.beat()
    world.at(60_000)
    await world.beat()
    assert await serving_number(world) == 20  # two seconds' worth, not sixty


async def test_a_line_without_people_saves_up_no_more_than_two_seconds(world: World) -> None:
    await line_of(world, 0, rate_per_min=600, capacity=1_000)
    for after_ms in range(0, 30_000, 1_000):
        world.at(after_ms)
        await world.beat()
    await world.join(*(f"p{number}" for number in range(90)))
    world.at(30_000)
    await world.beat()
    assert await serving_number(world) == 20


async def test_nobody_is_served_beyond_those_who_joined(world: World) -> None:
    await line_of(world, 3)
    for after_ms in (BEAT_MS, 2 * BEAT_MS):
        world.at(after_ms)
        await world.beat()
    state = await world.state()
    assert state["drop"]["serving_number"] == "3"
    assert list(state["called"]) == [0, 1, 2]
    assert state["served"] == [{"at_ms": t(BEAT_MS), "from": 0, "to": 3}]


async def test_capacity_is_never_exceeded(world: World) -> None:
    await line_of(world, 40, capacity=7)
    for beat in itertools.count(1):
        world.at(beat * 900)
        await world.beat()
        state = await world.state()
        assert len(state["slots"]) + len(state["called"]) <= 7
        if state["drop"]["serving_number"] == "40":
            break
    assert 6 * CLAIM_WINDOW_MS > beat * 900 > 5 * CLAIM_WINDOW_MS  # 40 people through 7 slots, each kept for a claim window


async def test_a_lower_capacity_holds_the_line_until_fewer_are_expected(world: World) -> None:
    await line_of(world, 10, capacity=4)
    world.at(BEAT_MS)
    await world.beat()
    await world.steer("capacity", 1)
    world.at(BEAT_MS + CLAIM_WINDOW_MS)
    await world.beat()
    state = await world.state()
    assert state["drop"]["serving_number"] == "5"
    assert list(state["called"]) == [4]


async def test_at_most_a_thousand_are_called_in_a_beat(world: World) -> None:
    world.drops = World(world.client, settings_of_tests(tickets_max=5_000)).drops
    await line_of(world, 1_024, rate_per_min=1_000_000, capacity=5_000)
    await world.join(*(f"q{number}" for number in range(1_024)))
    for after_ms, expected in ((BEAT_MS, 1_000), (2 * BEAT_MS, 2_000), (3 * BEAT_MS, 2_048)):
        world.at(after_ms)
        await world.beat()
        assert await serving_number(world) == expected
    world.at(BEAT_MS + CLAIM_WINDOW_MS)
    await world.beat()
    assert len((await world.state())["called"]) == 1_048  # nobody waits for the first thousand any more


async def test_a_rate_given_with_the_beat_counts_instead_of_the_drops_own(world: World) -> None:
    await line_of(world, 30, rate_per_min=6_000)
    world.at(BEAT_MS)
    await world.beat(rate_per_min=600)
    assert await serving_number(world) == 1


async def test_a_rate_of_zero_admits_nobody(world: World) -> None:
    """Also not by the credit that is left over."""
    await line_of(world, 30, rate_per_min=6_000, capacity=1)
    for after_ms in (BEAT_MS, 2 * BEAT_MS, BEAT_MS + CLAIM_WINDOW_MS, BEAT_MS + 2 * CLAIM_WINDOW_MS):
        world.at(after_ms)
        await world.beat(rate_per_min=-1 if after_ms <= 2 * BEAT_MS else 0)
    assert await serving_number(world) == 1


async def test_who_returns_goes_before_anyone_new(world: World) -> None:
    """Capacity 2. Two of four called come late; when slots are free again they come first, in line order."""
    await line_of(world, 8, capacity=2)
    for after_ms, *come in ((BEAT_MS,), (6_000, "p2", "p3")):
        world.at(after_ms)
        await world.beat()
        if come:
            await world.let_in(*come)
    assert [result[0] for result in await world.admit("p1", "p0")] == ["not_yet", "not_yet"]
    state = await world.state()
    assert (list(state["slots"]), list(state["returning"]), state["called"]) == ([2, 3], [0, 1], {})
    world.at(6_000 + CLAIM_WINDOW_MS)
    await world.beat()
    state = await world.state()
    assert list(state["slots"]) == [0, 1]
    assert state["returning"] == {}
    assert state["drop"]["serving_number"] == "4"
    assert state["served"][-1] == {"at_ms": t(6_000 + CLAIM_WINDOW_MS), "k": "returned", "p": [0, 1]}
    assert [result[0] for result in await world.admit("p0", "p1", "p4")] == ["admitted", "admitted", "not_yet"]


async def test_who_returns_is_admitted_at_once_when_a_slot_is_free(world: World) -> None:
    await line_of(world, 2, capacity=2)
    world.at(BEAT_MS)
    await world.beat()
    world.at(BEAT_MS + CLAIM_WINDOW_MS)
    await world.beat()
    assert (await world.state())["called"] == {}
    assert [result[0] for result in await world.admit("p1")] == ["admitted"]
    assert (await world.state())["slots"] == {1: t(BEAT_MS + 2 * CLAIM_WINDOW_MS)}


async def test_the_free_slots_are_given_within_a_batch(world: World) -> None:
    await line_of(world, 4, capacity=3)
    world.at(BEAT_MS)
    await world.beat()
    await world.client.hset(KEYS.drop, "capacity", 2)
    outcomes = [result[0] for result in await world.admit("p2", "p0", "p1", "p2")]
    assert outcomes == ["admitted", "admitted", "not_yet", "replayed"]
    assert list((await world.state())["returning"]) == [1]


async def test_a_finished_shopper_frees_the_slot_at_once(world: World) -> None:
    await line_of(world, 3, capacity=1)
    world.at(BEAT_MS)
    await world.beat()
    await world.admit("p0")
    await world.reserve(reserving("p0", "r1", s1=1), reserving("p0", "r2", s2=1))
    world.at(2 * BEAT_MS)
    await world.confirm("r1", amount_minor=1_000)
    await world.beat()
    assert await serving_number(world) == 1  # r2 still lives
    world.at(3 * BEAT_MS)
    await world.release("r2")
    await world.beat()
    assert await serving_number(world) == 2


async def test_a_live_reservation_keeps_the_slot_until_it_expires(world: World) -> None:
    await line_of(world, 2, capacity=1)
    world.at(BEAT_MS)
    await world.beat()
    await world.admit("p0")
    await world.reserve(reserving("p0", "r1", s1=1))
    world.at(BEAT_MS + 59_999)
    await world.beat()
    assert await serving_number(world) == 1
    world.at(BEAT_MS + 60_000)
    assert await world.expire() == 1
    await world.beat()
    assert await serving_number(world) == 2


async def test_nobody_is_admitted_to_an_empty_shop(world: World) -> None:
    await line_of(world, 9, skus=SINGLE, limit_per_shopper=1, capacity=1)
    world.at(BEAT_MS)
    await world.beat()
    await world.admit("p0")
    await world.reserve(reserving("p0", "r1", s1=1))
    world.at(2 * BEAT_MS)
    await world.act("confirm", [paying("r1", "pay", 1_000)])
    for beat in range(3, 40):
        world.at(beat * BEAT_MS)
        await world.beat()
    assert await serving_number(world) == 1


async def test_a_paused_drop_admits_nobody_and_goes_on_slowly(world: World) -> None:
    await line_of(world, 90, rate_per_min=600, capacity=90)
    world.at(BEAT_MS)
    await world.beat()
    await world.steer("pause")
    for after_ms in range(1_000, 20_000, 1_000):
        world.at(after_ms)
        await world.beat()
    assert await serving_number(world) == 1
    await world.steer("resume")
    world.at(20_000)
    await world.beat()
    assert await serving_number(world) <= 1 + 20


@pytest.mark.parametrize("back_ms", [1, BEAT_MS, 1_900, 5_000, 3_600_000])
async def test_a_clock_that_goes_back_neither_stops_the_line_nor_opens_a_second_door(world: World, back_ms: int) -> None:
    """A failover may land on a server whose clock is behind, by milliseconds or by an hour."""
    await line_of(world, 90, rate_per_min=600, capacity=90, joins_at_ms=t(-8_000_000), opens_at_ms=t(-7_000_000), closes_at_ms=t(9_000_000))
    for after_ms in range(0, 2_000, BEAT_MS):
        world.at(after_ms)
        await world.beat()
    before = await serving_number(world)
    moved = 0
    for elapsed_ms in range(0, 4_000, BEAT_MS):
        world.at(2_000 - back_ms + elapsed_ms)
        await world.beat()
        moved = await serving_number(world) - before
        assert moved <= 1 + elapsed_ms / 100
    assert moved >= (4_000 - 2_000 - BEAT_MS) / 100  # at worst it waited two seconds for the old time to come again


async def test_joining_and_reserving_go_on_when_the_clock_goes_back(world: World) -> None:
    await line_of(world, 2)
    world.at(BEAT_MS)
    await world.beat()
    world.at(5_000)
    await world.admit("p0")
    world.at(4_000)
    [reserved] = await world.reserve(reserving("p0", "r1", s1=1))
    assert reserved[3:] == [t(4_000), t(64_000), 0]
    assert (await world.join("late"))[0][:2] == ["joined", 2]
    world.at(3_000)
    assert (await world.confirm("r1", amount_minor=1_000))[0] == "confirmed"
