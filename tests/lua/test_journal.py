"""What the scripts write is what the reconciler reads."""

from __future__ import annotations

from typing import Any

import pytest

from flashsale.errors import ScriptError
from flashsale.model import DropState, Sku, Transition
from reconciler.entries import Entry, read_entry
from tests.lua import world as w
from tests.lua.test_races import EXPIRY_MS
from tests.lua.world import KEYS, World, reserving


async def read(world: World) -> list[Entry]:
    """The whole journal, understood by the reconciler."""
    written: Any = await world.client.xrange(KEYS.journal)
    found = [read_entry(entry_id.decode(), fields) for entry_id, fields in written]
    assert all(isinstance(entry, Entry) for entry in found), found
    return [entry for entry in found if isinstance(entry, Entry)]


async def everything_happens(world: World) -> None:
    """Each kind of transition, of stock change and of drop event once at least."""
    await w.admitted(world)
    world.at(1_000)
    await world.reserve(reserving("ann", "r1", s1=1), reserving("ann", "r2", s1=1, s2=1), reserving("bob", "r3", s1=2))
    await world.extend("r1")
    await world.confirm("r1", amount_minor=1_000)
    await world.confirm("r1", "again", 1_000)
    await world.adjust("a1", "s2", 7)
    await world.adjust("a2", "s1", -4, drain=True)
    await world.release("r1", paid_too=True)
    await world.release("r2")
    world.at(EXPIRY_MS)
    await world.expire()
    await world.confirm("r3", amount_minor=2_000)
    await world.steer("pause")
    await world.steer("resume")
    await world.close()


async def test_the_reconciler_understands_every_entry(world: World) -> None:
    await everything_happens(world)
    entries = await read(world)
    assert {transition.kind for entry in entries for transition in entry.transitions} == set(Transition)
    assert {change.reason for entry in entries for change in entry.stock_changes} == {"added", "withdrawn", "drained"}
    assert {entry.event.state for entry in entries if entry.event} == set(DropState) - {DropState.SCHEDULED}


async def test_its_sequences_are_the_drops(world: World) -> None:
    await everything_happens(world)
    numbers = [entry.sequence for entry in await read(world)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == int((await world.state())["drop"]["sequence"])


async def test_allotments_follow_from_the_changes_alone(world: World) -> None:
    await everything_happens(world)
    allotments = {sku.sku: sku.allotment for sku in w.SKUS}
    for entry in await read(world):
        for change in entry.stock_changes:
            allotments[change.sku] += change.delta
            assert change.allotment == allotments[change.sku]
    stock = (await world.state())["stock"]
    assert allotments == {sku: stock[f"allotment:{sku}"] for sku in allotments}


async def test_no_change_has_the_id_of_another(world: World) -> None:
    await everything_happens(world)
    ids = [change.change_id for entry in await read(world) for change in entry.stock_changes]
    assert len(ids) == len(set(ids))


async def test_the_longest_names_are_understood_too(world: World) -> None:
    """An entry with a text the reconciler thinks too long would end as a dead letter."""
    sku = "s" * 64
    await world.open(skus=(Sku(sku, "Long", 5, 1_000, 2),))
    await world.adjust("a" * 128, sku, 1)
    await world.act("repair", ["i" * 63, [["lower", sku, 1]]])
    with pytest.raises(ScriptError, match="id must be"):
        await world.act("repair", ["i" * 64, [["lower", sku, 1]]])
    assert [change.change_id for entry in await read(world) for change in entry.stock_changes] == ["a" * 128, "i" * 63 + ":" + sku]


async def test_an_epoch_and_sequence_of_all_digits_make_an_id_that_fits(world: World) -> None:
    sku = "s" * 64
    await world.open(skus=(Sku(sku, "Long", 1, 1_000, 1),), limit_per_shopper=1)
    world.at(-5_000)
    await world.join("ann")
    await w.serve(world)
    await world.admit("ann")
    await world.reserve(["r1", "ann", "ann-token", "q", [[sku, 1]]])
    await world.adjust("a1", sku, -1, drain=True)
    await world.client.hset(KEYS.drop, mapping={"epoch": 2**53 - 1, "sequence": 2**53 - 2})
    world.epoch = 0
    await world.release("r1")
    assert (await read(world))[-1].stock_changes[0].change_id == f"drain:{2**53 - 1}:{2**53 - 1}:{sku}"
