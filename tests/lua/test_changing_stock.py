"""A merchant adds and withdraws units while people buy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flashsale.errors import ScriptError
from flashsale.model import AdjustStockOutcome, Sku, SkuStock
from tests.lua import world as w
from tests.lua.dump import State, conserved
from tests.lua.test_batches import crowd, outcomes
from tests.lua.world import World, paying, releasing, reserving

PLACES = ("allotment", "available", "reserved", "sold", "draining")


def units(state: State, sku: str = "s1") -> list[int]:
    """Allotment, available, reserved, sold, draining."""
    return [state["stock"][f"{place}:{sku}"] for place in PLACES]


def stock_changes(state: State) -> list[dict[str, Any]]:
    """All changes of an allotment the journal tells."""
    return [change for entry in state["journal"] for change in entry.get("stock_changes", [])]


async def test_added_units_are_sold_at_once(world: World) -> None:
    await w.last_unit_reserved(world)
    assert (await world.reserve(reserving("bob", "r2", s1=1)))[0][0] == "sold_out"
    assert await world.adjust("a1", "s1", 1) == ["adjusted", 2, 1, 1, 0, 0]
    assert (await world.reserve(reserving("bob", "r2", s1=1)))[0][0] == "reserved"


async def test_a_drop_that_was_sold_out_lets_people_in_again(world: World) -> None:
    await w.all_sold(world)
    assert (await world.join("carl"))[0][0] == "sold_out"
    await world.adjust("a1", "s1", 1)
    assert (await world.join("carl"))[0][0] == "joined"


async def test_a_drop_without_units_left_is_sold_out(world: World) -> None:
    await world.open(skus=w.SINGLE, limit_per_shopper=1)
    world.at(-5_000)
    assert await world.adjust("a1", "s1", -1) == ["adjusted", 0, 0, 0, 0, 0]
    assert (await world.join("ann"))[0][0] == "sold_out"


@pytest.mark.parametrize("end", ["expire", "release", "cancel"])
async def test_units_that_come_back_while_draining_leave_the_drop(world: World, end: str) -> None:
    """Five of s1, one of them held: all five are withdrawn."""
    await w.draining(world)
    assert units(await world.state()) == [1, 0, 1, 0, 1]
    if end == "expire":
        world.at(1_000 + w.RESERVATION_TTL_MS)
        assert await world.expire() == 1
    elif end == "release":
        await world.release("r1")
    else:
        await world.confirm("r1")
        assert units(await world.state()) == [1, 0, 0, 1, 1]
        await world.release("r1", paid_too=True)
    state = await world.state()
    assert units(state) == [0, 0, 0, 0, 0]
    assert units(state, "s2") == [3, 3, 0, 0, 0]  # which was not withdrawn
    assert [(change["delta"], change["reason"]) for change in stock_changes(state)] == [(-4, "withdrawn"), (-1, "drained")]
    assert state["journal"][-1].keys() == {"sequence", "transitions", "stock_changes"}


async def test_a_reservation_paid_in_time_keeps_its_draining_unit(world: World) -> None:
    await w.draining(world)
    assert (await world.confirm("r1"))[0] == "confirmed"
    assert units(await world.state()) == [1, 0, 0, 1, 1]


async def test_a_reservation_paid_late_keeps_its_draining_unit_unless_it_has_left(world: World) -> None:
    """Nobody had ended it, so its unit is still in the drop."""
    await w.draining(world)
    world.at(1_000 + w.RESERVATION_TTL_MS)
    assert (await world.confirm("r1"))[0] == "confirmed"
    state = await world.state()
    assert units(state) == [1, 0, 0, 1, 1]
    assert len(stock_changes(state)) == 1


async def test_nothing_is_sold_of_what_drains(world: World) -> None:
    await w.draining(world)
    [result] = await world.reserve(reserving("bob", "r2", s1=1))
    assert result == ["sold_out", ["s1", 0], 0]


async def test_no_more_leaves_than_was_to_be_withdrawn(world: World) -> None:
    await w.admitted(world)
    world.at(1_000)
    await world.reserve(reserving("ann", "r1", s1=2), reserving("bob", "r2", s1=2))
    assert await world.adjust("a1", "s1", -2, drain=True) == ["draining", 4, 0, 4, 0, 1]
    await world.release("r1")
    assert units(await world.state()) == [3, 1, 2, 0, 0]
    await world.release("r2")
    state = await world.state()
    assert units(state) == [3, 3, 0, 0, 0]
    assert [change["delta"] for change in stock_changes(state)] == [-1, -1]


async def test_units_added_while_draining_first_make_up_for_what_was_to_leave(world: World) -> None:
    await w.draining(world)
    assert await world.adjust("a2", "s1", 3) == ["adjusted", 3, 2, 1, 0, 0]
    await world.release("r1")
    assert units(await world.state()) == [3, 3, 0, 0, 0]


async def test_draining_twice_adds_up(world: World) -> None:
    await w.admitted(world)
    world.at(1_000)
    await world.reserve(reserving("ann", "r1", s1=2), reserving("bob", "r2", s1=2))
    assert await world.adjust("a1", "s1", -2, drain=True) == ["draining", 4, 0, 4, 0, 1]
    assert await world.adjust("a2", "s1", -3, drain=True) == ["draining", 4, 0, 4, 0, 4]
    assert (await world.adjust("a3", "s1", -1, drain=True))[0] == "too_few"
    world.at(70_000)
    assert await world.expire() == 2
    assert units(await world.state()) == [0, 0, 0, 0, 0]


async def test_each_draining_has_an_id_of_its_own(world: World) -> None:
    """Postgres counts each id once, so two drainings under one id would lose units."""
    skus = (Sku("s1", "One", 4, 1_000, 2), Sku("s2", "Two", 4, 500, 2))
    await w.admitted(world)
    await world.client.flushall()
    await world.open(skus=skus)
    world.at(-5_000)
    await world.join("ann", "bob")
    await w.serve(world)
    world.at(200)
    await world.admit("ann", "bob")
    await world.reserve(*(reserving(name, f"{name}{number}", s1=1) for name in ("ann", "bob") for number in (1, 2)))
    await world.adjust("a1", "s1", -4, drain=True)
    await world.reserve(reserving("ann", "both", s2=1))
    await world.adjust("a2", "s2", -4, drain=True)
    for name in ("ann1", "bob1"):
        await world.release(name)
    _, _, results = await world.act("release", [releasing("ann2"), releasing("both"), releasing("bob2")])
    assert outcomes(results) == ["released"] * 3
    drained = [change for change in stock_changes(await world.state()) if change["reason"] == "drained"]
    assert sorted((change["sku"], change["delta"]) for change in drained) == [("s1", -2), ("s1", -1), ("s1", -1), ("s2", -1)]
    assert len({change["change_id"] for change in drained}) == 4
    assert units(await world.state()) == units(await world.state(), "s2") == [0, 0, 0, 0, 0]


async def test_a_merchants_id_cannot_be_one_of_a_draining(world: World) -> None:
    await w.reserved(world)
    with pytest.raises(ScriptError, match="drain:"):
        await world.adjust("drain:1:7:s1", "s1", 1)


async def test_the_same_adjustment_many_times_at_once_is_one(world: World) -> None:
    await w.reserved(world)
    results = await asyncio.gather(*(world.adjust("a1", "s1", -2) for _ in range(8)))
    assert sorted(outcomes(results)) == ["adjusted", *["replayed"] * 7]
    assert units(await world.state()) == [3, 2, 1, 0, 0]


async def test_the_same_id_for_both_skus_is_one_adjustment(world: World) -> None:
    await w.reserved(world)
    assert outcomes([await world.adjust("a1", "s1", 1), await world.adjust("a1", "s2", 1)]) == ["adjusted", "key_reused"]


async def test_merchant_and_shoppers_at_once_lose_no_unit(world: World) -> None:
    people = 40
    await crowd(world, people, units=20)

    async def shop(number: int) -> None:
        [result] = await world.reserve(reserving(f"p{number}", f"r{number}", s1=1))
        if result[0] == "reserved" and number % 3 == 0:
            await world.act("confirm", [paying(f"r{number}", "pay", 1_000)])
        elif result[0] == "reserved" and number % 3 == 1:
            await world.release(f"r{number}")

    changes = [world.adjust(f"a{number}", "s1", delta, drain=True) for number, delta in enumerate((-9, 4, -6, -6, 5, -3))]
    await asyncio.gather(*(shop(number) for number in range(people)), *changes)
    world.at(200_000)
    await world.expire()
    state = await world.state()
    assert conserved(state)
    assert units(state)[2] == 0
    assert units(state)[0] == 20 + sum(change["delta"] for change in stock_changes(state))
    owned = [record for record in state["reservations"].values() if record["state"] == 2]
    assert units(state)[3] == len(owned)


@pytest.mark.parametrize(
    ("adjustment_id", "sku", "delta", "outcome", "stock"),
    [
        ("a1", "s1", 2, AdjustStockOutcome.ADJUSTED, SkuStock(7, 6, 1, 0)),
        ("a1", "s1", -5, AdjustStockOutcome.DRAINING, SkuStock(1, 0, 1, 0, 1)),
        ("a1", "s9", 1, AdjustStockOutcome.UNKNOWN_SKU, None),
    ],
)
async def test_python_tells_what_it_came_to(
    world: World, adjustment_id: str, sku: str, delta: int, outcome: AdjustStockOutcome, stock: SkuStock | None
) -> None:
    await w.reserved(world)
    adjusted = await world.drops.adjust_stock("d", adjustment_id, sku, delta, drain=True)
    assert (adjusted.outcome, adjusted.stock) == (outcome, stock)
    if stock:
        assert (await world.drops.inspect("d")).skus["s1"] == stock
