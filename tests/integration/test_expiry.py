"""Overdue reservations are ended, and are not when the store's clock has stepped."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from flashsale.expiry import Expiry
from flashsale.model import DropState
from flashsale.store_clock import STEP_MAX_MS, StoreClock
from tests.lua.world import DROP_ID, World, admitted, reserving

EXPIRY_MS = 61_000
TEN_MINUTES_MS = 600_000


class Hand:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> int:
        raise AssertionError("only the store's time counts")

    def monotonic(self) -> float:
        return self.ms / 1000


class Stage:
    """A drop with one reservation, and the time on both sides."""

    def __init__(self, store: Redis) -> None:
        self.world = World(store)
        self.hand = Hand()
        self.steps: list[int] = []
        self.expiry = Expiry(self.world.drops, self._expire, clock=self.hand, on_step=lambda _, step_ms: self.steps.append(step_ms))

    async def _expire(self, _drop_id: str, batch_size_max: int) -> int:
        return await self.world.expire(batch_size_max)

    async def begin(self) -> None:
        await admitted(self.world)
        await self.world.client.hset("fs:{d}:drop", "closes_at_ms", 2**52)
        self.at(1_000)
        await self.world.reserve(reserving("ann", "r1", s1=1))

    def at(self, ms: int, *, step_ms: int = 0) -> None:
        """Both clocks go on to `ms`; the store's is `step_ms` ahead."""
        self.hand.ms = ms
        self.world.at(ms + step_ms)

    async def look(self) -> int:
        return await self.expiry.end_overdue(DROP_ID, 100)

    async def picture(self) -> None:
        """A worker's beat has seen the drop."""
        self.expiry.watch((await self.world.drops.inspect(DROP_ID)).snapshot)

    async def state(self) -> DropState:
        return (await self.world.drops.inspect(DROP_ID)).state


@pytest.fixture
async def stage(store: Redis) -> Stage:
    made = Stage(store)
    await made.begin()
    return made


async def test_what_is_overdue_is_ended(stage: Stage) -> None:
    assert await stage.look() == 0
    stage.at(EXPIRY_MS)
    assert await stage.look() == 1
    assert stage.steps == [0, 0]


async def test_a_clock_that_steps_ends_nothing_and_pauses_the_drop(stage: Stage) -> None:
    assert await stage.look() == 0
    stage.at(2_000, step_ms=TEN_MINUTES_MS)
    assert await stage.look() == 0
    assert await stage.look() == 0
    assert await stage.state() is DropState.PAUSED
    assert (await stage.world.drops.inspect(DROP_ID)).reservations_live == 1
    assert stage.steps == [0, TEN_MINUTES_MS, TEN_MINUTES_MS]


async def test_who_only_ends_what_is_overdue_knows_of_a_step_by_the_pictures_before(stage: Stage) -> None:
    await stage.picture()
    stage.at(2_000, step_ms=TEN_MINUTES_MS)
    await stage.picture()
    assert await stage.look() == 0
    assert await stage.state() is DropState.PAUSED
    await stage.picture()
    await stage.world.steer("resume")
    await stage.picture()
    assert await stage.look() == 1, "the new time was accepted"


async def test_a_resumed_drop_is_not_paused_again_by_who_saw_nothing_overdue(stage: Stage) -> None:
    await stage.picture()
    stage.at(1_100, step_ms=61_000)
    await stage.picture()
    for how in ("pause", "resume"):
        await stage.world.steer(how)
        await stage.picture()
    stage.at(EXPIRY_MS, step_ms=61_000)
    assert await stage.look() == 1


async def test_a_clock_that_is_right_again_ends_what_is_overdue(stage: Stage) -> None:
    await stage.look()
    stage.at(2_000, step_ms=-TEN_MINUTES_MS)
    assert await stage.look() == 0
    stage.at(EXPIRY_MS)
    assert await stage.look() == 1


async def test_resuming_the_drop_accepts_the_new_time(stage: Stage) -> None:
    await stage.look()
    stage.at(2_000, step_ms=TEN_MINUTES_MS)
    assert await stage.look() == 0
    assert await stage.look() == 0
    await stage.world.steer("resume")
    assert await stage.look() == 1
    assert await stage.state() is DropState.OPEN


async def test_a_drop_that_was_paused_before_the_step_is_accepted_by_resuming_too(stage: Stage) -> None:
    await stage.world.steer("pause")
    await stage.look()
    stage.at(2_000, step_ms=TEN_MINUTES_MS)
    assert await stage.look() == 0
    await stage.world.steer("resume")
    assert await stage.look() == 1


def test_a_clock_that_is_slewed_is_followed() -> None:
    hand = Hand()
    clock = StoreClock(hand)
    for turn in range(100):
        hand.ms = turn * 1_000
        assert clock.step_ms("d", turn * 1_000 + turn * STEP_MAX_MS // 2) <= STEP_MAX_MS
    assert clock.step_ms("d", 10**9) > STEP_MAX_MS
    clock.accept("d")
    assert clock.step_ms("d", 10**9) == 0
