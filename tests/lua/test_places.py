"""A place by its options: identities, codes, handoffs, lines; and several requests about one place in one call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flashsale.errors import ScriptError
from flashsale.model import Group
from tests.lua import world as w
from tests.lua.world import BEAT_MS, KEYS, STRIDE, World, joining, secret_of, t


def words(results: list[Any]) -> list[str]:
    return [result[0] for result in results]


async def test_two_requests_of_one_identity_in_one_call_are_one_place(world: World) -> None:
    await w.waiting(world)
    results = await world.join_with(joining("phone", identity="id-ann"), joining("laptop", identity="id-ann"), joining("bob"))
    assert [(result[0], result[1], result[4]) for result in results] == [
        ("joined", 0, "phone"),
        ("replayed", 0, "phone"),
        ("joined", 1, "bob"),
    ]
    state = await world.state()
    assert (state["drop"]["joined"], state["aliases"]) == ("2", {"laptop": "phone"})


async def test_both_devices_of_an_identity_have_the_same_admission(world: World) -> None:
    await w.waiting(world)
    await world.join_with(joining("phone", identity="id-ann"))
    await world.join_with(joining("laptop", identity="id-ann"))
    await w.serve(world)
    assert words(await world.admit("laptop", "phone")) == ["admitted", "replayed"]
    state = await world.state()
    assert list(state["slots"]) == [0]
    assert state["drop"]["admitted"] == "1"


async def test_a_place_is_on_so_many_devices_and_no_more(world: World) -> None:
    """Each is a record that stays: one identity must not fill the store with them."""
    await w.waiting(world)
    await world.join_with(joining("phone", identity="id-ann"))
    answers = await world.join_with(*(joining(f"d{number}", identity="id-ann") for number in range(12)))
    answers += await world.join_with(*(joining(f"d{number}", identity="id-ann") for number in range(10, 23)))
    assert words(answers) == ["replayed"] * 22 + ["devices_full"] * 3
    state = await world.state()
    assert (len(state["aliases"]), state["tickets"]["phone"]["shared"]) == (20, 20)


async def test_an_identity_has_one_place_whatever_line_it_asks_for(world: World) -> None:
    await world.open(groups=(Group("vip", "VIP", 200),))
    world.at(-5_000)
    results = await world.join_with(joining("phone", identity="id-ann"), joining("laptop", identity="id-ann", line=1))
    assert [result[:2] for result in results] == [["joined", 0], ["replayed", 0]]


async def test_a_code_is_used_as_often_as_it_may_be_within_a_call_and_across_calls(world: World) -> None:
    await w.waiting(world)
    results = await world.join_with(*(joining(f"p{number}", code=["c1", 3]) for number in range(5)), joining("q", code=["c2", 1]))
    assert words(results) == ["joined", "joined", "joined", "code_used", "code_used", "joined"]
    assert words(await world.join_with(joining("p0", code=["c1", 3]), joining("p3", code=["c1", 3]))) == ["replayed", "code_used"]
    assert (await world.state())["codes"] == {"c1": 3, "c2": 1}


async def test_a_code_at_once_from_everywhere_is_used_no_more_often(world: World) -> None:
    await w.waiting(world)
    answers = await asyncio.gather(*(world.join_with(joining(f"p{number}", code=["c1", 3])) for number in range(12)))
    assert sorted(words([answer[0] for answer in answers])) == ["code_used"] * 9 + ["joined"] * 3


async def test_a_refused_request_uses_no_code(world: World) -> None:
    await w.scheduled(world)
    assert words(await world.join_with(joining("ann", code=["c1", 1], identity="id-ann"))) == ["not_open"]
    state = await world.state()
    assert (state["codes"], state["identities"], state["tickets"]) == ({}, {}, {})


async def test_one_of_two_devices_that_take_a_place_over_at_once_has_it(world: World) -> None:
    await w.joined(world)
    results = await world.join_with(joining("phone", handoff="ann"), joining("tablet", handoff="ann"), joining("ann"))
    assert words(results) == ["taken_over", "handoff_used", "moved"]
    assert (await world.state())["aliases"] == {"phone": "ann"}


async def test_a_place_handed_over_is_admitted_reserves_and_is_given_up_on_the_new_device(world: World) -> None:
    await w.joined(world)
    await world.join_with(joining("phone", handoff="ann"))
    await w.serve(world)
    [admitted] = await world.admit("phone")
    assert admitted[5] == "ann"  # whose token it is
    assert (await world.reserve(["r1", "ann", "phone-token", "q", [["s1", 1]]]))[0][0] == "reserved"
    assert (await world.leave("phone"))[0] == "reserved"
    await world.release("r1")
    assert await world.leave("ann") == ["moved", 0]
    assert await world.leave("phone") == ["left", 0]
    assert words(await world.admit("phone", "ann")) == ["left", "left"]


@pytest.mark.parametrize("handed_over", [False, True])
async def test_a_place_taken_away_is_taken_from_every_device_and_once(world: World, handed_over: bool) -> None:  # noqa: FBT001 - a table of cases
    await w.waiting(world)
    await world.join_with(joining("ann", identity="id-ann"))
    if handed_over:
        await world.join_with(joining("phone", handoff="ann"))
    assert await world.leave("ann", "removed", "a robot") == ["removed", 0]
    digest = await world.digest()
    assert await world.leave("ann", "removed", "a robot") == ["replayed", 0]
    assert words(await world.join_with(joining("ann"), joining("laptop", identity="id-ann"))) == ["removed", "removed"]
    assert await world.digest() == digest


async def test_joining_with_and_without_a_place_while_joining_is_closed(world: World) -> None:
    await w.joined(world)
    await world.steer("joining", "closed")
    assert words(await world.join_with(joining("ann"), joining("carl"), joining("phone", handoff="bob"))) == [
        "replayed",
        "joining_closed",
        "taken_over",
    ]
    await world.steer("joining", "open")
    assert words(await world.join("carl")) == ["joined"]


async def test_lines_count_for_themselves_and_the_room_for_all(world: World) -> None:
    world.drops = World(world.client, w.settings_of_tests(tickets_max=4)).drops
    await world.open(groups=(Group("vip", "VIP", 200), Group("staff", "Staff", 100)))
    world.at(-5_000)
    requests = [joining("a"), joining("b", line=2), joining("c", line=1), joining("d", line=2), joining("e")]
    assert [result[:2] for result in await world.join_with(*requests)] == [
        ["joined", 0],
        ["joined", 2 * STRIDE],
        ["joined", STRIDE],
        ["joined", 2 * STRIDE + 1],
        ["room_full", t(-5_000)],
    ]


async def test_the_entries_of_a_call_lie_together_and_tell_where_they_begin(world: World) -> None:
    await world.open(order="draw", groups=(Group("vip", "VIP", 200),))
    world.at(-5_000)
    await world.join_with(joining("a"), joining("b"), joining("v", line=1), joining("c"))
    await world.join("d")
    world.at(BEAT_MS)
    await world.join("late")
    assert (await world.state())["entries"] == [
        {"l": 0, "n": 0, "h": [secret_of("a"), secret_of("b")]},
        {"l": 1, "n": 0, "h": [secret_of("v")]},
        {"l": 0, "n": 2, "h": [secret_of("c")]},
        {"l": 0, "n": 3, "h": [secret_of("d")]},
    ]


async def test_a_hash_of_another_length_cannot_be_in_a_draw(world: World) -> None:
    await world.open(order="draw")
    world.at(-5_000)
    with pytest.raises(ScriptError, match="secret_hash must have 32 bytes"):
        await world.join_with(joining("ann"), ["bob", "short"])
    assert (await world.state())["tickets"] == {}


@pytest.mark.parametrize(
    "options",
    [
        5,
        "text",
        {"line": 1},
        {"line": -1},
        {"line": 0.5},
        {"line": "0"},
        {"identity": ""},
        {"identity": 5},
        {"identity": "x" * 65},
        {"code": 5},
        {"code": []},
        {"code": ["c1"]},
        {"code": ["c1", 0]},
        {"code": ["c1", 1.5]},
        {"code": ["", 1]},
        {"code": ["x" * 65, 1]},
        {"handoff": ""},
        {"handoff": 5},
        {"handoff": "x" * 129},
        {"claim": 5},
        {"claim": [0, 0, 0]},
        {"claim": [-1, 0, 0, 0]},
        {"claim": [0, 2, 0, 0]},
    ],
    ids=repr,
)
async def test_spoilt_options_join_nobody(world: World, options: Any) -> None:
    await w.joined(world)
    before = await world.digest()
    with pytest.raises(ScriptError):
        await world.join_with(joining("carl"), ["dora", secret_of("dora"), options])
    assert await world.digest() == before


async def test_an_entry_given_back_after_the_opening_says_so(world: World) -> None:
    """It tells what a loss has swallowed, and has no part in a draw whose entries are fixed."""
    await w.undrawn(world)
    await world.client.hset(KEYS.drop, mapping={"epoch": 2, "restore_from": 0, "restore_to": 3})
    await world.client.hdel(KEYS.tickets, "bob")
    world.epoch = 2
    assert words(await world.join_with(joining("bob", claim=[1, 0, t(-5_000), 1]))) == ["restored"]
    state = await world.state()
    assert state["entries"][-1] == {"l": 0, "n": 1, "h": [secret_of("bob")], "again": 1}
    assert (state["drop"]["entries"], state["restored"]) == ("3", {1: "bob"})
