"""Units that come back: they are for those who waited, in line order, each time for the next for whom they are enough."""

from __future__ import annotations

from typing import Any

import pytest

from flashsale.model import Sku
from tests.lua import world as w
from tests.lua.dump import conserved
from tests.lua.world import BEAT_MS, World, reserving, t

TURN_MS = w.CLAIM_WINDOW_MS
ONE_OF_EACH = (Sku("s1", "One", 1, 1_000, 1), Sku("s2", "Two", 1, 500, 1))


def words(results: list[Any]) -> list[str]:
    return [result[0] for result in results]


async def shop_of(world: World, *names: str, **changes: Any) -> None:
    """All of them are in, a second after the opening; one unit of each of two SKUs unless `changes` say otherwise."""
    await world.open(**{"skus": ONE_OF_EACH} | changes)
    world.at(-5_000)
    await world.join(*names)
    await w.serve(world)
    world.at(200)
    await world.let_in(*names)
    world.at(1_000)


async def test_a_unit_that_comes_back_is_for_the_first_who_waits_and_not_for_who_asks_first(world: World) -> None:
    await w.all_reserved(world)  # carl looked before bob, and bob's place is before carl's
    await world.release("r1")
    assert words(await world.reserve(reserving("carl", "r4", s1=1))) == ["sold_out"]
    assert words(await world.reserve(reserving("bob", "r5", s1=1))) == ["reserved"]
    state = await world.state()
    assert (state["standby"], list(state["wants"])) == ({2: 2}, [2])


async def test_somebody_new_with_a_lower_place_goes_first_and_with_a_higher_one_does_not(world: World) -> None:
    await shop_of(world, "ann", "bob", "carl", "dora", skus=w.SINGLE, limit_per_shopper=1)
    await world.reserve(reserving("dora", "r1", s1=1), reserving("bob", "r2", s1=1))
    await world.release("r1")
    assert words(await world.reserve(reserving("carl", "r3", s1=1), reserving("ann", "r4", s1=1))) == ["sold_out", "reserved"]


async def test_within_a_call_who_waits_is_before_who_comes_later(world: World) -> None:
    """Bob waits for two of three units; carl may have what is left for him, and no more."""
    await shop_of(world, "ann", "bob", "carl", "dora", skus=(Sku("s1", "One", 3, 1_000, 2),))
    await world.reserve(reserving("ann", "r1", s1=2))
    results = await world.reserve(reserving("bob", "r2", s1=2), reserving("carl", "r3", s1=1))
    assert words(results) == ["sold_out", "reserved"]  # the one that is there is not enough for bob
    await world.release("r1")
    results = await world.reserve(reserving("dora", "r4", s1=1), reserving("bob", "r5", s1=2))
    assert words(results) == ["sold_out", "reserved"]
    assert (await world.state())["standby"] == {3: 3}


async def test_within_a_call_who_has_taken_waits_no_more(world: World) -> None:
    await w.all_reserved(world)
    await world.adjust("a1", "s1", 1)
    await world.release("r1")
    assert words(await world.reserve(reserving("bob", "r4", s1=1), reserving("carl", "r5", s1=1))) == ["reserved", "reserved"]
    state = await world.state()
    assert (state["standby"], state["wants"]) == ({}, {})


async def test_a_turn_begins_with_the_units_and_ends_by_itself(world: World) -> None:
    await w.all_reserved(world)
    await world.release("r1")
    world.at(1_100)
    await world.beat()
    assert (await world.state())["offers"] == {1: t(1_100 + TURN_MS)}
    world.at(1_100 + TURN_MS - 1)
    await world.beat()
    assert words(await world.reserve(reserving("carl", "r4", s1=1))) == ["sold_out"]
    world.at(1_100 + TURN_MS + BEAT_MS)
    await world.beat()
    assert (await world.state())["standby"] == {2: 2}
    assert words(await world.reserve(reserving("carl", "r5", s1=1))) == ["reserved"]
    state = await world.state()
    assert (state["standby"], state["wants"], state["offers"]) == ({}, {}, {})


async def test_who_waits_for_what_is_sold_for_good_waits_no_more(world: World) -> None:
    """Bob wants the one unit that ann reserved, carl both SKUs; when ann has paid, there is nothing either could get."""
    await shop_of(world, "ann", "bob", "carl", "dora")
    await world.reserve(reserving("ann", "r1", s1=1), reserving("dora", "r2", s2=1))
    assert words(await world.reserve(reserving("bob", "r3", s1=1), reserving("carl", "r4", s1=1, s2=1))) == ["sold_out"] * 2
    world.at(1_200)
    await world.beat()
    assert list((await world.drops.inspect(w.DROP_ID)).snapshot.flow.wanted) == [2, 1]
    await world.confirm("r1", amount_minor=1_000)
    world.at(1_400)
    await world.beat()
    state = await world.state()
    assert (state["standby"], state["wants"], state["asked"]) == ({}, {}, {})
    assert list((await world.drops.inspect(w.DROP_ID)).snapshot.flow.wanted) == [0, 0]


async def test_with_a_turn_that_nobody_used_everybody_is_passed_over_who_did_not_ask_meanwhile(world: World) -> None:
    """Bob and carl have gone home. Dora is there: she asked while it was bob's turn, and waits for nobody else's."""
    await shop_of(world, "ann", "bob", "carl", "dora", skus=w.SINGLE, limit_per_shopper=1)
    await world.reserve(*(reserving(name, f"r-{name}", s1=1) for name in ("ann", "bob", "carl", "dora")))
    await world.release("r-ann")
    world.at(1_200)
    await world.beat()
    world.at(2_000)
    assert words(await world.reserve(reserving("dora", "r5", s1=1))) == ["sold_out"]
    world.at(1_200 + TURN_MS + BEAT_MS)
    await world.beat()
    assert (await world.state())["standby"] == {3: 3}
    assert words(await world.reserve(reserving("dora", "r6", s1=1))) == ["reserved"]


async def test_who_waits_for_what_is_not_there_is_not_passed_over(world: World) -> None:
    """Nothing was there for bob, so that he has not asked means nothing; nor has carl missed a turn of his own."""
    await shop_of(world, "ann", "bob", "carl", skus=(Sku("s1", "One", 2, 1_000, 1), Sku("s2", "Two", 1, 500, 1)))
    await world.reserve(reserving("ann", "r1", s1=1, s2=1), reserving("bob", "r2", s2=1))
    await world.reserve(reserving("carl", "r3", s1=1, s2=1))
    await world.adjust("a1", "s2", 1)
    world.at(1_200)
    await world.beat()
    world.at(1_200 + TURN_MS + BEAT_MS)
    await world.reserve(reserving("bob", "r4", s2=1))
    await world.beat()
    assert (await world.state())["standby"] == {2: 2}


async def test_asking_while_nothing_is_there_writes_nothing(world: World) -> None:
    await w.all_reserved(world)
    before = await world.state()
    world.at(3_000)
    assert words(await world.reserve(reserving("bob", "r9", s1=1))) == ["sold_out"]
    after = await world.state()
    assert (after["standby"], after["wants"], after["asked"]) == (before["standby"], before["wants"], before["asked"])


async def test_who_waits_for_one_sku_does_not_keep_people_from_another(world: World) -> None:
    """Three units of s2, one for bob should he choose it: there is something for two more, however long bob waits for s1."""
    await shop_of(world, "ann", "bob", skus=(Sku("s1", "One", 1, 1_000, 1), Sku("s2", "Two", 3, 500, 1)), capacity=10)
    await world.reserve(reserving("ann", "r1", s1=1), reserving("bob", "r2", s1=1))
    await world.join("carl", "dora", "emil")
    world.at(2_000)
    await world.beat(units_per_claim=1_000, weights=(1_000,) * 9)
    assert (await world.state())["drop"]["serving_number"] == "4"


async def test_a_pause_takes_nobodys_turn(world: World) -> None:
    await w.all_reserved(world)
    await world.release("r1")
    world.at(1_100)
    await world.beat()
    await world.steer("pause")
    world.at(1_100 + 5 * TURN_MS)
    await world.beat()
    await world.steer("resume")
    for after_ms in (BEAT_MS, TURN_MS - 1):
        world.at(1_100 + 5 * TURN_MS + after_ms)
        await world.beat()
        assert list((await world.state())["standby"]) == [1, 2]
    world.at(1_100 + 6 * TURN_MS)
    await world.beat()
    assert (await world.state())["standby"] == {}


async def test_a_turn_that_was_put_off_lasts_its_whole_time_later(world: World) -> None:
    """Ann, before bob, takes the unit in the middle of his turn."""
    await w.all_reserved(world)
    await world.release("r1")
    world.at(1_100)
    await world.beat()
    world.at(20_000)
    await world.reserve(reserving("ann", "r4", s1=1))
    await world.beat()
    assert (await world.state())["offers"] == {}
    world.at(40_000)
    await world.release("r4")
    await world.beat()
    assert (await world.state())["offers"] == {1: t(40_000 + TURN_MS)}


async def test_one_who_needs_two_skus_keeps_no_unit_from_being_sold(world: World) -> None:
    await shop_of(world, "ann", "bob", "carl", "dora")
    await world.reserve(reserving("ann", "r1", s1=1, s2=1), reserving("bob", "r2", s1=1, s2=1), reserving("carl", "r3", s1=1))
    await world.release("r1")
    await world.reserve(reserving("ann", "r4", s2=1))  # one of the two that bob waits for
    assert words(await world.reserve(reserving("dora", "r5", s1=1))) == ["sold_out"]  # carl is first
    assert words(await world.reserve(reserving("carl", "r6", s1=1))) == ["reserved"]
    await world.release("r4")
    await world.release("r6")
    assert words(await world.reserve(reserving("dora", "r7", s2=1))) == ["sold_out"]  # now it is enough for bob
    assert words(await world.reserve(reserving("bob", "r8", s1=1, s2=1))) == ["reserved"]
    assert conserved(await world.state())


async def test_a_wish_beyond_what_can_come_back_does_not_wait(world: World) -> None:
    await w.draining(world)  # ann's unit of s1 leaves the drop when it comes back
    assert await world.reserve(reserving("bob", "r2", s1=1)) == [["sold_out", ["s1", 0], 0]]
    assert (await world.state())["standby"] == {}


async def test_no_more_than_256_wait(world: World) -> None:
    names = [f"p{number}" for number in range(260)]
    world.drops = World(world.client, w.settings_of_tests(tickets_max=300)).drops
    await shop_of(world, *names, skus=w.SINGLE, limit_per_shopper=1, capacity=300, rate_per_min=1_000_000)
    results = await world.reserve(*(reserving(name, f"r-{name}", s1=1) for name in names))
    assert [result[2] for result in results[1:]] == [1] * 256 + [0] * 3
    assert len((await world.state())["standby"]) == 256


async def test_looking_again_changes_what_one_waits_for_and_not_the_place(world: World) -> None:
    await shop_of(world, "ann", "bob", "carl")
    await world.reserve(reserving("ann", "r1", s1=1, s2=1), reserving("carl", "r3", s1=1), reserving("bob", "r2", s1=1))
    await world.reserve(reserving("bob", "r4", s2=1))
    assert (await world.state())["wants"] == {1: [["s2", 1]], 2: [["s1", 1]]}
    await world.release("r1")
    assert words(await world.reserve(reserving("carl", "r5", s1=1))) == ["reserved"]


@pytest.mark.parametrize("how", ["left", "removed"])
async def test_who_gives_up_waits_no_more(world: World, how: str) -> None:
    await w.all_reserved(world)
    await world.leave("bob", how)
    await world.release("r1")
    assert words(await world.reserve(reserving("carl", "r4", s1=1))) == ["reserved"]
