"""A reservation that is given more time: until when it lives, and what that does to its slot."""

from __future__ import annotations

import asyncio

import pytest

from flashsale.model import ExtendOutcome, ReservationState
from flashsale.reservations import Reservations
from tests.lua import world as w
from tests.lua.test_races import EXPIRY_MS, kinds
from tests.lua.world import BEAT_MS, KEYS, World, admission, extending, reserving, t

EXTENSION_MS = 30_000


@pytest.mark.parametrize(
    ("after_ms", "first", "told"),
    [
        (EXPIRY_MS - 1, "expire", "extended"),
        (EXPIRY_MS, "extend", "ended"),
        (EXPIRY_MS, "expire", "ended"),
        (EXPIRY_MS + 1, "extend", "ended"),
    ],
)
async def test_extending_and_expiring_at_the_end(world: World, after_ms: int, first: str, told: str) -> None:
    """At the very millisecond of its expiry a reservation is over, whoever looks first."""
    await w.reserved(world)
    world.at(after_ms)
    if first == "expire":
        await world.expire()
    assert (await world.extend("r1"))[0] == told
    await world.expire()
    assert (await world.state())["stock"]["available:s1"] == (4 if told == "extended" else 5)


async def test_an_extended_reservation_runs_out_later(world: World) -> None:
    await w.extended(world)
    world.at(EXPIRY_MS + EXTENSION_MS - 1)
    assert await world.expire() == 0
    world.at(EXPIRY_MS + EXTENSION_MS)
    assert await world.expire() == 1
    assert kinds(await world.state()) == ["reserved", "extended", "expired"]


async def test_a_retry_long_after_gets_the_same_answer(world: World) -> None:
    await w.reserved(world)
    first = await world.extend("r1")
    world.at(EXPIRY_MS + EXTENSION_MS)
    await world.expire()
    again = await world.extend("r1")
    assert (first[0], again[0]) == ("extended", "replayed")
    assert again[4] == first[4] == t(EXPIRY_MS + EXTENSION_MS)


async def test_extending_is_done_once_whoever_asks_how_often(world: World) -> None:
    await w.reserved(world)
    results = await asyncio.gather(*(world.extend("r1", key=f"k{number % 2}") for number in range(8)))
    assert sorted(result[0] for result in results) == [*["already_extended"] * 4, "extended", *["replayed"] * 3]
    assert {result[4] for result in results} == {t(EXPIRY_MS + EXTENSION_MS)}


async def test_two_extensions_in_one_batch(world: World) -> None:
    await w.reserved(world)
    _, _, results = await world.act("extend", [extending("r1"), extending("r1"), extending("r1", key="k2"), extending("r9")])
    assert [result[0] for result in results] == ["extended", "replayed", "already_extended", "not_found"]


async def test_a_repeated_reservation_tells_the_later_end(world: World) -> None:
    await w.extended(world)
    [again] = await world.reserve(reserving("ann", "r1", s1=1, s2=1))
    assert again[:5] == ["replayed", 1, 1_500, t(1_000), t(EXPIRY_MS + EXTENSION_MS)]


@pytest.mark.parametrize("first", ["extend", "reserve"])
async def test_a_slot_is_kept_for_the_longest_reservation(world: World, first: str) -> None:
    """The extended one ends after the later one, in whatever order they were made."""
    await w.reserved(world)
    world.at(10_000)
    if first == "extend":
        await world.extend("r1")
    await world.reserve(reserving("ann", "r2", s1=1))
    if first == "reserve":
        await world.extend("r1")
    assert (await world.state())["slots"][0] == t(EXPIRY_MS + EXTENSION_MS)
    world.at(10_000 + w.RESERVATION_TTL_MS)
    assert await world.expire() == 1
    await world.beat()
    assert 0 in (await world.state())["slots"]
    world.at(EXPIRY_MS + EXTENSION_MS)
    assert await world.expire() == 1
    assert 0 not in (await world.state())["slots"]


async def test_a_short_extension_does_not_shorten_the_slot(world: World) -> None:
    await w.reserved(world)
    world.at(20_000)
    await world.reserve(reserving("ann", "r2", s1=1))
    await world.extend("r1", 1)
    assert (await world.state())["slots"][0] == t(20_000 + w.RESERVATION_TTL_MS)


async def test_a_slot_that_had_lapsed_is_taken_again(world: World) -> None:
    """The inlet beats before the reaper at the very end; the extension a millisecond before saves the slot."""
    await w.reserved(world)
    await world.client.zrem(KEYS.slots, 0)
    await world.extend("r1")
    world.at(2 * BEAT_MS)
    await world.beat()
    assert (await world.state())["slots"][0] == t(EXPIRY_MS + EXTENSION_MS)


async def test_a_closed_and_a_paused_drop_let_reservations_be_extended(world: World) -> None:
    await w.reserved(world)
    await world.steer("pause")
    assert (await world.extend("r1"))[0] == "extended"
    await world.client.flushall()
    await w.closed(world)
    assert (await world.extend("r1"))[0] == "extended"


async def test_admission_again_while_extended_keeps_the_longer_slot(world: World) -> None:
    await w.reserved(world)
    world.at(60_000)
    await world.extend("r1", 24 * 3_600_000)
    world.at(w.TOKEN_TTL_MS + 200)
    _, _, [again] = await world.act("admit", [admission("ann", "second")])
    assert again[0] == "admitted"
    assert (await world.state())["slots"][0] == t(EXPIRY_MS + 24 * 3_600_000)


async def test_python_tells_what_it_came_to(world: World) -> None:
    await w.admitted(world)
    world.at(1_000)
    reservation_id = "d.r" + "1" * 22
    await world.reserve(reserving("ann", reservation_id, s1=1))
    reservations = Reservations(world.scripts)
    settled = await reservations.extend(reservation_id, EXTENSION_MS, "k", "q")
    assert (settled.outcome, settled.state) == (ExtendOutcome.EXTENDED, ReservationState.RESERVED)
    assert settled.expires_at_ms == t(EXPIRY_MS + EXTENSION_MS)
    assert (await reservations.extend("d.r" + "2" * 22, 1, "k", "q")).outcome is ExtendOutcome.NOT_FOUND
