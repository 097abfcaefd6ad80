"""A store that went back in time, and a drop that is closed until it has been recovered."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest

from flashsale.errors import Recovering
from flashsale.model import FenceOutcome
from tests.lua import world as w
from tests.lua.test_hostile import refused
from tests.lua.world import BEAT_MS, KEYS, VALID, World, reserving

WRITING = [name for name in VALID if name not in ("inspect", "advance", "draw")]
"""That where somebody would have been who gave up before the draw is known now, nobody is told."""


async def sequence_of(world: World) -> int:
    return int((await world.state())["drop"]["sequence"])


async def roll_back(world: World, steps: int = 1) -> None:
    """The store forgets its last changes; here that it made them is enough."""
    await world.client.hset(KEYS.drop, "sequence", await sequence_of(world) - steps)


# -------------------------------------------------------------------------------------------------------------- sequence


@pytest.mark.parametrize("script", VALID)
async def test_a_store_behind_what_was_seen_is_recovering_and_fences_the_drop_off(world: World, script: str) -> None:
    """At once: whoever has seen less would go on, and soon nothing would tell that changes are missing."""
    await w.busy(world)
    world.seen = await sequence_of(world) + 1
    before = await world.state()
    assert await world.act(script, *VALID[script]) == ("recovering", 1, [])
    changes = {"fenced": "" if script == "inspect" else "rolled_back"}
    assert await world.state() == before | {"drop": before["drop"] | changes}
    world.seen = 0
    assert (await world.act(script, *VALID[script]))[0] == ("done" if script == "inspect" else "recovering")


@pytest.mark.parametrize("script", VALID)
async def test_a_store_of_another_epoch_is_recovering_and_changes_nothing(world: World, script: str) -> None:
    await w.busy(world)
    world.epoch, world.seen = 2, 1_000
    before = await world.digest()
    assert await world.act(script, *VALID[script]) == ("recovering", 1, [])
    assert await world.digest() == before


@pytest.mark.parametrize("script", VALID)
async def test_a_sequence_without_its_epoch_says_nothing(world: World, script: str) -> None:
    """It counts within an epoch; who has seen none cannot compare."""
    await w.busy(world)
    world.epoch, world.seen = 0, 1_000
    assert (await world.act(script, *VALID[script]))[0] == "done"


@pytest.mark.parametrize("script", WRITING)
async def test_a_change_takes_the_next_number_once(world: World, script: str) -> None:
    await w.busy(world)
    before = await sequence_of(world)
    for _ in range(3):
        await world.act(script, *VALID[script])
        assert world.told == await sequence_of(world) == before + 1


async def test_a_beat_takes_a_number_when_it_serves_somebody_or_changes_the_state(world: World) -> None:
    """There are ten a second, and a quiet one tells nobody anything."""
    await w.joined(world)
    numbers = []
    for after_ms in (-BEAT_MS, 0, BEAT_MS, 2 * BEAT_MS, w.CLAIM_WINDOW_MS + 2 * BEAT_MS):
        world.at(after_ms)
        assert await world.beat() == "advanced"
        numbers.append(await sequence_of(world))
    assert numbers == [3, 4, 5, 5, 5]  # joining begins, the opening, two served, nothing, two slots lapse


async def test_a_whole_batch_takes_one_number(world: World) -> None:
    await w.admitted(world)
    before = await sequence_of(world)
    await world.reserve(reserving("ann", "r1", s1=1), reserving("bob", "r2", s1=1))
    assert world.told == before + 1


async def test_numbers_of_the_journal_grow_and_end_with_the_drops(world: World) -> None:
    await w.cancelled(world)
    await world.adjust("a1", "s1", 2)
    await world.close()
    state = await world.state()
    numbers = [entry["sequence"] for entry in state["journal"]]
    assert numbers == sorted(set(numbers))
    assert str(numbers[-1]) == state["drop"]["sequence"]


@pytest.mark.parametrize("number", [10**8 - 1, 11 * 10**8 - 1, 10**15 - 1])
async def test_a_round_number_is_written_in_digits(world: World, number: int) -> None:
    """Some stores write a number that ends in zeros as 1e+8, which nobody here would read."""
    await w.reserved(world)
    await world.client.hset(KEYS.drop, "sequence", number)
    await world.release("r1")
    assert await world.client.hget(KEYS.drop, "sequence") == str(number + 1).encode()
    assert (await world.state())["journal"][-1]["sequence"] == number + 1


# ------------------------------------------------------------------------------------------------------------ from Python


async def test_a_process_remembers_how_far_the_store_had_come(world: World) -> None:
    await w.reserved(world)
    assert World(world.client).scripts.seen("d") == (0, 0)
    await world.drops.inspect("d")
    assert world.scripts.seen("d") == (1, await sequence_of(world))
    await world.drops.close("d")
    assert world.scripts.seen("d") == (1, await sequence_of(world))


async def test_a_process_does_not_act_on_a_store_that_went_back(world: World) -> None:
    await w.reserved(world)
    for _ in range(2):
        await world.drops.inspect("d")
    await roll_back(world)
    before = await world.state()
    for call in (world.drops.close("d"), world.drops.inspect("d"), world.drops.steer("d", "pause")):
        with pytest.raises(Recovering):
            await call
    assert await world.state() == before | {"drop": before["drop"] | {"fenced": "rolled_back"}}


async def test_whoever_has_seen_less_does_not_go_on_in_a_store_that_went_back(world: World) -> None:
    await w.reserved(world)
    for _ in range(2):
        await world.drops.inspect("d")
    await roll_back(world)
    with pytest.raises(Recovering):
        await world.drops.steer("d", "notice", "of a process that has seen the lost change")
    with pytest.raises(Recovering):
        await World(world.client).drops.steer("d", "notice", "of one that has not")


async def test_a_later_epoch_begins_a_new_count(world: World) -> None:
    await w.reserved(world)
    for _ in range(2):
        await world.drops.inspect("d")
    await world.client.hset(KEYS.drop, mapping={"epoch": 2, "sequence": 1})
    assert (await world.drops.inspect("d")).epoch == 2
    assert world.scripts.seen("d") == (2, 1)


async def test_calls_at_once_never_take_each_other_for_a_store_that_went_back(world: World) -> None:
    await w.admitted(world)
    for _ in range(2):
        await world.drops.inspect("d")
    await asyncio.gather(*(world.drops.steer("d", "notice", f"number {number}") for number in range(40)), world.drops.inspect("d"))
    assert world.scripts.seen("d") == (1, await sequence_of(world))


# ----------------------------------------------------------------------------------------------------------------- fence


@pytest.mark.parametrize("script", VALID)
async def test_a_fenced_drop_is_recovering_and_changes_nothing(world: World, script: str) -> None:
    await w.busy(world)
    assert await world.fence() == "fenced"
    before = await world.digest()
    for epoch in (0, 1):
        world.epoch = epoch
        assert await world.act(script, *VALID[script]) == ("recovering", 1, [])
    assert await world.digest() == before
    await world.client.hset(KEYS.drop, "fenced", "")
    assert (await world.act(script, *VALID[script]))[0] == "done"


async def test_a_fence_whose_reply_was_lost_stands_once(world: World) -> None:
    await w.reserved(world)
    assert [await world.fence("first"), await world.fence("first"), await world.fence("second")] == ["fenced", "replayed", "replayed"]
    assert (await world.state())["drop"]["fenced"] == "first"


async def test_opening_a_fenced_drop_again_does_not_open_it(world: World) -> None:
    await w.reserved(world)
    await world.fence()
    before = await world.digest()
    assert (await world.open()).value == "replayed"
    assert await world.digest() == before


async def test_fencing_by_what_was_seen(world: World) -> None:
    """The reconciler has recorded a later change than the store knows: only then the drop is closed."""
    await w.reserved(world)
    recorded = await sequence_of(world)
    assert await world.drops.fence("d", 1, "went back", recorded) is FenceOutcome.REFUSED
    await roll_back(world)
    await world.client.hset(KEYS.drop, "epoch", 2)
    assert await world.drops.fence("d", 1, "went back", recorded) is FenceOutcome.REFUSED  # recovered since
    await world.client.hset(KEYS.drop, "epoch", 1)
    assert await world.drops.fence("d", 1, "went back", recorded) is FenceOutcome.FENCED
    assert await world.drops.fence("d", 1, "went back", recorded) is FenceOutcome.REPLAYED
    with pytest.raises(Recovering):
        await world.drops.inspect("d")
    assert await world.drops.fence("other", 1, "went back") is FenceOutcome.MISSING


@pytest.mark.parametrize(
    "fence",
    [
        [0, 0, "x"], [-1, 0, "x"], [1.5, 0, "x"], ["1", 0, "x"], [2**53 + 2, 0, "x"], [1, -1, "x"], [1, "0", "x"], [1, 0, ""],
        [1, 0, 5], [1, 0, "x" * 65], [1, 0], [1], [], [1, 0, "x", 0], {"a": 1}, "fence", 7, None,
    ],
    ids=repr,
)  # fmt: skip
async def test_a_spoilt_fence_closes_nothing(world: World, fence: Any) -> None:
    await w.reserved(world)
    await refused(world, "fence", msgpack.packb(fence))
