"""Who is called and when: shares, those who gave up, the pace, slots that are scarce, and what is written down of it."""

from __future__ import annotations

import itertools
from typing import Any

import msgpack
import pytest

from flashsale.errors import ScriptError
from flashsale.model import Group
from tests.lua import world as w
from tests.lua.test_line import line_of
from tests.lua.world import BEAT_MS, CLAIM_WINDOW_MS, KEYS, STRIDE, World, admission, joining, reserving, t

NOBODY_COMES = (1,) * 9
"""Of a thousand who are called one comes: as many are called as the rate allows."""


async def groups_of(world: World, people: dict[int, int], shares: tuple[int, ...], **changes: Any) -> None:
    """An open drop with that many people in each line."""
    await world.open(groups=tuple(Group(f"g{line}", "G", share) for line, share in enumerate(shares, 1)), **changes)
    world.at(-5_000)
    for line, count in people.items():
        await world.join_with(*(joining(f"l{line}-{number}", line=line) for number in range(count)))
    world.at(-BEAT_MS)
    await world.beat()


async def served_of(world: World) -> list[int]:
    """The serving number of each line."""
    drop = (await world.state())["drop"]
    return [int(drop["serving_number"]), *(line["serving"] for line in drop["lines"])]


async def test_an_open_drop_calls_although_its_opening_is_said_to_be_to_come(world: World) -> None:
    """As a recovery from a picture of before left a drop that a merchant had opened early."""
    await world.open()
    world.at(-5_000)
    await world.join("ann", "bob")
    await world.steer("open")
    await world.client.hset(KEYS.drop, "opens_at_ms", str(t(500_000)))
    for beat in range(3):
        world.at(-4_900 + beat * BEAT_MS)
        await world.beat()
    assert await served_of(world) == [2]


# ---------------------------------------------------------------------------------------------------------------- shares


async def test_a_group_is_called_by_its_share_over_many_beats(world: World) -> None:
    """One call a beat and a share of 30 % of it: three of ten, and the fractions are not lost."""
    await groups_of(world, {0: 60, 1: 40}, (300,), rate_per_min=600, capacity=1_000)
    for beat in range(1, 41):
        world.at(beat * BEAT_MS)
        await world.beat()
        general, vips = await served_of(world)
        assert general + vips == beat
        assert vips == beat * 300 // 1_000


async def test_what_a_group_does_not_use_goes_to_the_others(world: World) -> None:
    await groups_of(world, {0: 20, 1: 3, 2: 20}, (500, 100), rate_per_min=6_000, capacity=1_000)
    world.at(BEAT_MS)
    await world.beat()
    assert await served_of(world) == [6, 3, 1]
    world.at(2 * BEAT_MS)
    await world.beat()
    assert await served_of(world) == [15, 3, 2]
    world.at(3 * BEAT_MS)
    await world.beat()
    assert await served_of(world) == [20, 3, 7]  # what nobody in the first line needs goes round


async def test_a_group_without_people_saves_up_nothing(world: World) -> None:
    await groups_of(world, {0: 90}, (500,), rate_per_min=600, capacity=1_000)
    for beat in range(1, 21):
        world.at(beat * BEAT_MS)
        await world.beat()
    await world.join_with(*(joining(f"v{number}", line=1) for number in range(9)))
    for beat, vips in ((21, 0), (22, 1), (23, 1), (24, 2)):
        world.at(beat * BEAT_MS)
        await world.beat()
        assert (await served_of(world))[1] == vips


async def test_lines_are_drawn_and_called_each_for_itself(world: World) -> None:
    await groups_of(world, {0: 2, 1: 2}, (500,), order="draw")
    world.at(BEAT_MS)
    await world.beat()
    assert await served_of(world) == [0, 0]  # nothing is drawn yet
    await w.draw(world, lines=2)
    state = await world.state()
    assert state["journal"][-1]["draw"][1] == [
        ["", 2, *(w.digits(name, 1)[0] for name in ("root", "key"))],
        ["g1", 2, *(w.digits(name, 2)[1] for name in ("root", "key"))],
    ]
    world.at(2 * BEAT_MS)
    await world.beat()
    assert list((await world.state())["called"]) == [0, 1, STRIDE, STRIDE + 1]
    assert [
        result[:2]
        for result in (
            await world.act("admit", [admission("l1-0", place=STRIDE, queue=1), admission("l1-0", place=STRIDE, queue=STRIDE + 1)])
        )[2]
    ] == [["place", STRIDE], ["admitted", "l1-0-token"]]


# -------------------------------------------------------------------------------------------------------------- the pause


async def test_time_stands_still_for_who_was_called_and_who_was_in(world: World) -> None:
    """Ann is in and bob is called when the drop is paused for long; both have afterwards what was left to them."""
    await w.served(world)
    world.at(200)
    await world.let_in("ann")
    world.at(1_200)
    await world.steer("pause")
    resumed_ms = 1_200 + 3 * CLAIM_WINDOW_MS
    world.at(resumed_ms)
    await world.steer("resume")
    await world.beat()
    state = await world.state()
    assert (list(state["slots"]), list(state["called"])) == ([0], [1])
    world.at(resumed_ms + CLAIM_WINDOW_MS - 1_200 + BEAT_MS)  # bob was called a beat after the opening
    await world.beat()
    assert (await world.state())["called"] == {}
    world.at(resumed_ms + CLAIM_WINDOW_MS - 1_000 - 1)
    await world.beat()
    assert list((await world.state())["slots"]) == [0]
    world.at(resumed_ms + CLAIM_WINDOW_MS - 1_000)
    await world.beat()
    assert (await world.state())["slots"] == {}


async def test_a_pause_makes_nobody_older(world: World) -> None:
    """Ann and bob were called before it, carl after it; all come, and are counted by the time that ran."""
    await w.served(world)
    called_ms = BEAT_MS
    world.at(called_ms + 1_100)
    await world.steer("pause")
    await world.join("carl")
    world.at(60_000)
    picture = (await world.drops.inspect(w.DROP_ID)).snapshot.flow.called_by_age
    assert picture == (0, 0, 2, 0, 0, 0, 0, 0, 0)
    await world.steer("resume")
    await world.beat()
    world.at(61_100)
    picture = (await world.drops.inspect(w.DROP_ID)).snapshot.flow.called_by_age
    assert picture == (0, 0, 1, 0, 2, 0, 0, 0, 0)
    await world.let_in("ann", "bob", "carl")
    flow = (await world.state())["flow"]
    assert {name: count for name, count in flow.items() if name.startswith("claims")} == {"claims:3": 1, "claims:5": 2}


async def test_a_second_pause_before_the_first_is_over_adds_up(world: World) -> None:
    await w.served(world)
    world.at(200)
    await world.let_in("ann")
    for pause_ms in (1_200, 101_200):
        world.at(pause_ms)
        await world.steer("pause")
        world.at(pause_ms + 99_500)
        await world.steer("resume")
    world.at(201_000)
    await world.beat()
    assert list((await world.state())["slots"]) == [0]
    world.at(200 + CLAIM_WINDOW_MS + 2 * 99_500)
    await world.beat()
    assert (await world.state())["slots"] == {}


# ------------------------------------------------------------------------------------------------------------- who gave up


async def test_who_gave_up_is_passed_over_and_costs_no_call(world: World) -> None:
    await line_of(world, 10, rate_per_min=1_800)  # three a beat
    for name in ("p0", "p2", "p3", "p4", "p9"):
        await world.leave(name)
    world.at(BEAT_MS)
    await world.beat()
    state = await world.state()
    assert (list(state["called"]), state["drop"]["serving_number"], list(state["gone"])) == ([1, 5, 6], "7", [9])
    world.at(2 * BEAT_MS)
    await world.beat()
    state = await world.state()
    assert (list(state["called"]), state["drop"]["serving_number"], state["gone"]) == ([1, 5, 6, 7, 8], "10", {})
    assert [(entry["from"], entry["to"]) for entry in state["served"] if "from" in entry] == [(0, 7), (7, 10)]


async def test_nobody_gone_is_called_however_many_gave_up_in_a_row(world: World) -> None:
    world.drops = World(world.client, w.settings_of_tests(tickets_max=5_000)).drops
    await line_of(world, 1_024, rate_per_min=1_000_000, capacity=5_000)
    await world.join(*(f"q{number}" for number in range(1_024)))
    for start in (0, 1_000):
        await world.client.zadd(KEYS.gone, {str(place): place for place in range(start, min(start + 1_000, 1_900))})
    called: list[int] = []
    for beat in range(1, 4):
        world.at(beat * BEAT_MS)
        await world.beat()
        called = list((await world.state())["called"])
    assert called == list(range(1_900, 2_048))
    assert (await world.state())["gone"] == {}


async def test_who_gave_up_before_the_draw_is_not_called_after_it(world: World) -> None:
    await w.undrawn(world)
    assert await world.leave("bob") == ["left", 1]
    await w.draw(world)
    await world.draw("gone", [1], [0])
    world.at(2 * BEAT_MS)
    await world.beat()
    state = await world.state()
    assert (list(state["called"]), state["drop"]["serving_number"]) == ([1, 2], "3")


# ----------------------------------------------------------------------------------------------------------------- pace


@pytest.mark.parametrize(
    ("pace", "called"),
    [
        ({}, 4),
        ({"weights": (500,) * 9}, 8),
        ({"door": 3}, 7),
        ({"units_per_claim": 1_000}, 4),  # eight units: the capacity is less
        ({"units_per_claim": 4_000}, 2),
        ({"units_per_claim": 100_000}, 1),  # somebody may still come while anything is there
        ({"weights": NOBODY_COMES}, 30),
    ],
    ids=repr,
)
async def test_as_many_are_called_as_may_come(world: World, pace: dict[str, Any], called: int) -> None:
    await line_of(world, 30, capacity=4)
    world.at(BEAT_MS)
    await world.beat(**pace)
    assert len((await world.state())["called"]) == called


async def test_who_stays_on_without_choosing_makes_room_for_others(world: World) -> None:
    """Two units and two people inside: for a quarter of the claim window both are expected to take one, then nobody."""
    await line_of(world, 30, skus=w.SINGLE, limit_per_shopper=1, capacity=10)
    await world.adjust("more", "s1", 1)
    world.at(BEAT_MS)
    await world.beat(units_per_claim=1_000)
    await world.let_in("p0", "p1")
    stays = (1_000, 1_000, 1_000, 0, 0, 0, 0, 0)
    seen = []
    for after_ms in (CLAIM_WINDOW_MS // 16 * 3 - BEAT_MS, CLAIM_WINDOW_MS // 4 + 2 * BEAT_MS):
        world.at(after_ms)
        await world.beat(units_per_claim=1_000, stays=stays)
        seen.append(int((await world.state())["drop"]["serving_number"]))
    assert seen == [2, 4]


async def test_who_has_reserved_is_not_one_of_those_who_choose(world: World) -> None:
    await line_of(world, 30, capacity=10)
    world.at(BEAT_MS)
    await world.beat()
    await world.let_in(*(f"p{number}" for number in range(10)))
    world.at(2 * BEAT_MS)
    await world.reserve(reserving("p0", "r0", s1=1), reserving("p1", "r1", s1=1))
    flow = (await world.drops.inspect("d")).snapshot.flow
    assert flow.undecided_by_age == (8, 0, 0, 0, 0, 0, 0, 0, 0)
    assert flow.live_by_age == (2, 0, 0, 0, 0, 0, 0, 0, 0)
    assert flow.chose_by_age == (2, 0, 0, 0, 0, 0, 0, 0, 0)
    world.at(CLAIM_WINDOW_MS // 2)
    await world.leave("p9")
    flow = (await world.drops.inspect("d")).snapshot.flow
    assert flow.undecided_by_age == (0, 0, 0, 0, 0, 7, 0, 0, 0)
    assert flow.left_by_age == (0, 0, 0, 0, 0, 1, 0, 0, 0)


async def test_those_who_are_expected_fill_their_places_by_the_age_of_their_call(world: World) -> None:
    """All come at first; of those who have not come for half a second only half will."""
    await line_of(world, 30, capacity=4)
    weights = (1_000, 500, *([0] * 7))
    seen = []
    for after_ms in (100, 599, 600, 1_100):
        world.at(after_ms)
        await world.beat(weights=weights)
        seen.append(int((await world.state())["drop"]["serving_number"]))
    assert seen == [4, 4, 6, 9]


async def test_never_more_are_in_than_the_capacity_however_many_are_called(world: World) -> None:
    await line_of(world, 30, capacity=4)
    inside: set[int] = set()
    for after_ms in range(BEAT_MS, 40 * BEAT_MS, BEAT_MS):
        world.at(after_ms)
        await world.beat(weights=NOBODY_COMES, door=10)
        await world.admit(*(f"p{number}" for number in (29, 3, 17, 11, 5, 23, 8, 2)))
        state = await world.state()
        assert len(state["slots"]) <= 4
        inside |= set(state["slots"])
    assert inside == {29, 3, 17, 11}
    assert list((await world.state())["returning"]) == [2, 5, 8, 23]


async def test_nobody_overtakes_who_looked_before_and_found_no_slot(world: World) -> None:
    await line_of(world, 8, capacity=2)
    world.at(BEAT_MS)
    await world.beat(weights=NOBODY_COMES)
    outcomes = [result[0] for result in await world.admit("p6", "p7", "p5", "p2")]
    assert outcomes == ["admitted", "admitted", "not_yet", "not_yet"]
    await world.leave("p6")  # one slot is free now, for p2
    assert [result[0] for result in await world.admit("p4", "p5", "p3")] == ["not_yet", "not_yet", "not_yet"]
    assert [result[0] for result in await world.admit("p1")] == ["admitted"]  # p1 is before them all
    await world.leave("p7")
    assert [result[0] for result in await world.admit("p5", "p2")] == ["not_yet", "admitted"]


async def test_a_shopper_who_finds_no_slot_is_counted_as_come_once(world: World) -> None:
    await line_of(world, 3, capacity=1)
    world.at(BEAT_MS)
    await world.beat(weights=NOBODY_COMES)
    world.at(700)
    await world.admit("p0", "p1", "p1")
    world.at(800)
    await world.admit("p1")
    world.at(BEAT_MS + CLAIM_WINDOW_MS + 700)
    await world.beat(weights=NOBODY_COMES)
    await world.let_in("p1")
    state = await world.state()
    assert state["flow"]["claims:2"] == 2
    assert "claims:1" not in state["flow"]
    claimed = [(entry["p"], entry["w"]) for entry in state["served"] if entry.get("k") == "claimed"]
    assert claimed == [([0], [600]), ([1], [-1])]


async def test_those_without_a_slot_get_theirs_in_line_order_and_no_more_than_are_free(world: World) -> None:
    await line_of(world, 9, capacity=3)
    world.at(BEAT_MS)
    await world.beat(weights=NOBODY_COMES)
    await world.let_in("p0", "p1", "p2")
    await world.admit("p8", "p4", "p6", "p5")
    for name in ("p0", "p1"):
        await world.leave(name)
    world.at(2 * BEAT_MS)
    await world.beat()
    state = await world.state()
    assert (sorted(state["slots"]), list(state["returning"])) == ([2, 4, 5], [6, 8])
    assert state["served"][-1] == {"at_ms": t(2 * BEAT_MS), "k": "returned", "p": [4, 5]}


async def test_nobody_is_called_while_nothing_is_available(world: World) -> None:
    await line_of(world, 30, skus=w.SINGLE, limit_per_shopper=1, capacity=1)
    world.at(BEAT_MS)
    await world.beat(units_per_claim=1_000)
    await world.let_in("p0")
    await world.reserve(reserving("p0", "r1", s1=1))
    await world.steer("capacity", 10)
    world.at(2 * BEAT_MS)
    await world.beat(units_per_claim=1_000)
    assert (await world.state())["drop"]["serving_number"] == "1"
    await world.release("r1")
    world.at(3 * BEAT_MS)
    await world.beat(units_per_claim=1_000)
    assert (await world.state())["drop"]["serving_number"] == "2"


# ------------------------------------------------------------------------------------------------------- what is written


async def test_the_end_of_the_line_is_written_down_once(world: World) -> None:
    await w.all_sold(world)
    for after_ms in (1_100, 1_200, 9_000):
        world.at(after_ms)
        await world.beat()
    cuts = [entry for entry in (await world.state())["served"] if entry.get("k") == "cut"]
    assert cuts == [{"at_ms": t(1_100), "k": "cut", "p": [2], "why": "sold_out"}]


async def test_units_that_are_added_put_the_end_off(world: World) -> None:
    await w.all_sold(world)
    world.at(1_100)
    await world.beat()
    assert (await world.adjust("a1", "s1", 1))[0] == "adjusted"
    world.at(1_200)
    await world.beat()
    assert (await world.reserve(reserving("bob", "r9", s1=1)))[0][0] == "reserved"
    assert (await world.confirm("r9", amount_minor=1_000))[0] == "confirmed"
    world.at(1_300)
    await world.beat()
    cuts = [entry["at_ms"] for entry in (await world.state())["served"] if entry.get("k") == "cut"]
    assert cuts == [t(1_100), t(1_300)]


async def test_samples_keep_their_distance(world: World) -> None:
    await line_of(world, 0)
    for beat in range(1, 62):
        world.at(beat * BEAT_MS)
        await world.beat(sample=f"s{beat}")
    assert (await world.state())["samples"] == [b"s1", b"s21", b"s41", b"s61"]


async def test_there_are_never_more_samples_than_a_day_needs(world: World) -> None:
    await line_of(world, 0)
    await world.command("EVAL", "for i = 1, 20000 do redis.call('XADD', KEYS[1], '*', 'd', 'x') end", 1, KEYS.samples)
    world.at(BEAT_MS)
    await world.beat(sample="new")
    assert await world.client.xlen(KEYS.samples) == 20_000
    newest: Any = await world.client.xrevrange(KEYS.samples, count=1)
    assert newest[0][1] == {b"d": b"new"}


async def test_progress_is_a_ring_of_the_last_minute(world: World) -> None:
    await line_of(world, 90, rate_per_min=60, capacity=1_000)
    for after_ms in range(1_000, 80_001, 1_000):
        world.at(after_ms)
        await world.beat()
    progress = (await world.state())["flow"]["progress"]
    assert [at_ms for at_ms, _ in progress] == [t(16_000 + 5_000 * step) for step in range(13)]
    assert [called for _, called in progress] == [16 + 5 * step for step in range(13)]


@pytest.mark.parametrize(
    "pace",
    [
        [9, 1], [100, -2], [100, 1.5], [100, 10**10], [100, 1, 5], [100, 1, [1_001]], [100, 1, [-1]], [100, 1, ["1"]], [100, 1, [], -1],
        [100, 1, [], 0.5], [100, 1, [], 0, -1], [100, 1, [], 0, 10**7], [100, 1, [], 0, 0, 5], [100, 1, [], 0, 0, "x" * 16_385],
        [100, 1, [], 0, 0, "", 1], [100, 1, [], 0, 0, "", [1_001]], [100, 1, [], 0, 0, "", [], 1],
    ],
    ids=lambda pace: repr(pace)[:40],
)  # fmt: skip
async def test_a_spoilt_pace_moves_nobody(world: World, pace: list[Any]) -> None:
    await w.busy(world)
    before = await world.digest()
    with pytest.raises(ScriptError):
        await world.act("advance", msgpack.packb(pace))
    assert await world.digest() == before


async def test_a_thousand_beats_call_everybody_once(world: World) -> None:
    await groups_of(world, {0: 40, 1: 25, 2: 10}, (333, 77), rate_per_min=2_000, capacity=9)
    for name in ("l0-3", "l0-4", "l1-0", "l2-9"):
        place = STRIDE * int(name[1]) + int(name[3:])
        assert await world.leave(name) == ["left", place]
    for beat in itertools.count(1):
        world.at(beat * 1_000)
        await world.beat(weights=(700,) * 9)
        if sum(await served_of(world)) == 75:
            break
        assert beat < 200
    runs = [range(entry["from"], entry["to"]) for entry in (await world.state())["served"] if "from" in entry]
    places = [place for run in runs for place in run]
    assert sorted(places) == [*range(40), *range(STRIDE, STRIDE + 25), *range(2 * STRIDE, 2 * STRIDE + 10)]
    for line in range(3):
        of_line = [place for place in places if place // STRIDE == line]
        assert of_line == sorted(of_line)
    assert (await world.state())["flow"]["called"] == 71
