"""What the scripts write is what the reconciler reads."""

from __future__ import annotations

from typing import Any

from flashsale.model import DropState, Transition
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
