"""Who comes first: the same instant, the last unit, late payments, pauses and ends."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgpack
import pytest

from flashsale.errors import ScriptError
from tests.lua import world as w
from tests.lua.dump import ask, decode
from tests.lua.world import World, admission, joining, paying, reserving, t

EXPIRY_MS = 1_000 + w.RESERVATION_TTL_MS


def kinds(state: dict[str, Any]) -> list[str]:
    """Kinds of all transitions of the journal, in order."""
    return [transition["kind"] for entry in state["journal"] for transition in entry.get("transitions", [])]


@pytest.mark.parametrize("first", ["confirm", "expire"])
async def test_confirm_and_expire_in_the_same_millisecond(world: World, first: str) -> None:
    """Both orders end sold, because the units are free; what happened is told in order."""
    await w.reserved(world)
    world.at(EXPIRY_MS)
    if first == "confirm":
        assert (await world.confirm("r1"))[0] == "confirmed"
        assert await world.expire() == 0
    else:
        assert await world.expire() == 1
        assert (await world.confirm("r1"))[0] == "confirmed"
    state = await world.state()
    assert kinds(state) == ["reserved", "expired", "confirmed"]
    assert state["stock"]["sold:s1"] == 1
    assert state["stock"]["available:s1"] == 4


async def test_confirm_a_millisecond_early_is_on_time(world: World) -> None:
    await w.reserved(world)
    world.at(EXPIRY_MS - 1)
    assert await world.expire() == 0
    await world.confirm("r1")
    world.at(EXPIRY_MS)
    assert await world.expire() == 0
    assert kinds(await world.state()) == ["reserved", "confirmed"]


async def test_many_confirms_expiries_and_releases_at_once_have_one_winner(world: World) -> None:
    await w.reserved(world)
    world.at(EXPIRY_MS)
    calls = [world.confirm("r1"), world.expire(), world.release("r1"), world.confirm("r1"), world.expire(), world.release("r1")]
    await asyncio.gather(*calls)
    state = await world.state()
    assert sum(state["stock"][f"{place}:s1"] for place in ("available", "reserved", "sold")) == 5
    assert state["reservations"]["r1"]["state"] == 2
    assert kinds(state).count("confirmed") == 1


async def test_the_unit_went_to_somebody_else_meanwhile(world: World) -> None:
    await w.last_unit_reserved(world)
    world.at(EXPIRY_MS)
    assert await world.expire() == 1
    [bobs] = await world.reserve(reserving("bob", "r2", s1=1))
    assert bobs[0] == "reserved"
    assert await world.confirm("r1", amount_minor=1_000) == ["refund_due", 5, 1_000, t(1_000), t(EXPIRY_MS), 0]
    assert (await world.confirm("r2", "pay2", 1_000))[0] == "confirmed"
    state = await world.state()
    assert kinds(state) == ["reserved", "expired", "reserved", "refund_due", "confirmed"]
    [due] = [tr for entry in state["journal"] for tr in entry.get("transitions", []) if tr["kind"] == "refund_due"]
    assert (due["reason"], due["payment_reference"], due["at_ms"]) == ("paid_after_expiry", "pay", t(EXPIRY_MS))
    assert state["stock"]["sold:s1"] == 1
    assert state["stats"]["late_payments_refused"] == 1


async def test_a_refund_stays_due_when_units_come_back(world: World) -> None:
    """The money is on its way back; a repeated webhook must not sell a unit for it."""
    await w.refund_due(world)
    await world.release("r2")
    digest = await world.digest()
    assert (await world.confirm("r1", amount_minor=1_000))[0] == "refund_due"
    assert await world.digest() == digest


async def test_a_late_payment_does_not_break_the_limits(world: World) -> None:
    """Ann let r1 run out, took as many again, and then both payments came."""
    await w.admitted(world)
    world.at(1_000)
    await world.reserve(reserving("ann", "r1", s1=2))
    world.at(EXPIRY_MS)
    await world.expire()
    await world.reserve(reserving("ann", "r2", s1=2))
    assert (await world.confirm("r1", "pay1", 2_000))[0] == "refund_due"
    assert (await world.confirm("r2", "pay2", 2_000))[0] == "confirmed"
    assert (await world.state())["tickets"]["ann"]["held"] == {"s1": 2}


async def test_a_late_payment_keeps_to_the_limit_of_the_drop(world: World) -> None:
    await w.admitted(world)
    world.at(1_000)
    await world.reserve(reserving("ann", "r1", s1=2))
    world.at(EXPIRY_MS)
    await world.expire()
    await world.reserve(reserving("ann", "r2", s2=2))
    assert (await world.confirm("r1", "pay1", 2_000))[0] == "refund_due"


async def test_a_late_payment_takes_all_items_or_none(world: World) -> None:
    await w.admitted(world)
    world.at(1_000)
    await world.reserve(reserving("ann", "r1", s1=1, s2=2))
    world.at(EXPIRY_MS)
    await world.expire()
    await world.reserve(reserving("bob", "r2", s2=2))
    assert (await world.confirm("r1", "pay1", 2_000))[0] == "refund_due"
    assert (await world.state())["stock"]["available:s1"] == 5


async def test_what_a_shopper_owns_counts_towards_the_limit_and_what_ran_out_does_not(world: World) -> None:
    await w.confirmed(world)
    assert (await world.reserve(reserving("ann", "r2", s1=2)))[0] == ["limit_reached", 2, 1]
    await world.client.flushall()
    await w.expired(world)
    assert (await world.reserve(reserving("ann", "r2", s1=2)))[0][0] == "reserved"


async def test_a_token_is_good_for_more_than_one_reservation_and_only_the_last_one_is(world: World) -> None:
    await w.admitted(world)
    world.at(w.TOKEN_TTL_MS + 200)
    await world.admit("ann", token="second")
    results = await world.reserve(
        reserving("ann", "r1", s1=1), reserving("ann", "r2", "second", s1=1), reserving("ann", "r3", "second", s2=1)
    )
    assert [result[0] for result in results] == ["token_invalid", "reserved", "reserved"]


async def test_another_shoppers_token_is_none(world: World) -> None:
    await w.admitted(world)
    [result] = await world.reserve(["r1", "ann", "bob-token", "q", [["s1", 1]]])
    assert result[0] == "token_invalid"


async def test_paused_and_resumed_the_drop_goes_on_where_it_was(world: World) -> None:
    await w.reserved(world)
    await world.steer("pause")
    assert (await world.reserve(reserving("bob", "r2", s1=1)))[0][0] == "paused"
    assert (await world.confirm("r1"))[0] == "confirmed"  # what is held may be paid
    await world.steer("resume")
    assert (await world.reserve(reserving("bob", "r2", s1=1)))[0][0] == "reserved"


async def test_after_the_end_units_still_come_back(world: World) -> None:
    await w.closed(world)
    world.at(EXPIRY_MS)
    assert await world.expire() == 1
    assert (await world.state())["stock"]["available:s1"] == 5
    for script, request in (("join", joining("z")), ("admit", admission("bob", "new")), ("reserve", reserving("bob", "r2", s1=1))):
        world.at(w.TOKEN_TTL_MS + 1_000)
        _, _, [result] = await world.act(script, [request])
        assert result[0] == "closed"


@pytest.mark.parametrize(("after_ms", "outcome"), [(-1, "not_open"), (0, "reserved"), (599_999, "reserved"), (600_000, "closed")])
async def test_the_window_is_exact_and_needs_nobody_to_open_it(world: World, after_ms: int, outcome: str) -> None:
    await w.served(world)
    await world.client.hset(w.KEYS.drop, mapping={"token_ttl_ms": 10**9, "state": "waiting"})  # as if nobody had beaten since
    world.at(200)
    await world.admit("ann")
    world.at(after_ms)
    [result] = await world.reserve(reserving("ann", "r1", s1=1))
    assert result[0] == outcome


async def test_time_takes_effect_once_and_is_journalled_once(world: World) -> None:
    await w.joined(world)
    for after_ms in (-300, -200, 0, 100, 200, 600_000, 600_100):
        world.at(after_ms)
        await world.beat()
    await world.close()
    events = [entry["drop"] for entry in (await world.state())["journal"]]
    assert events == [["waiting", t(-300)], ["open", t(0)], ["closed", t(600_000)]]


async def test_the_journal_tells_the_whole_reservation_each_time(world: World) -> None:
    await w.reserved(world)
    world.at(EXPIRY_MS)
    await world.act("confirm", [paying("r1")])
    transitions = [tr for entry in (await world.state())["journal"] for tr in entry.get("transitions", [])]
    same = ("reservation_id", "ticket_id", "number", "items", "amount_minor", "reserved_at_ms", "expires_at_ms")
    assert len(transitions) == 3
    assert all(transition[name] == transitions[0][name] for transition in transitions for name in same)


async def test_a_drop_without_an_injected_clock_keeps_the_stores_time(world: World) -> None:
    """A caller's clock counts only where the drop was made for it."""
    await world.drops.open(w.DROP)
    world.at(0)
    seconds, _ = await world.client.time()
    word, now_ms, _ = await world.act("inspect", [[], []])
    assert word == "done"
    assert abs(now_ms - seconds * 1_000) < 60_000
    assert now_ms != t(0)


async def test_an_injected_clock_of_zero_is_the_stores_time(world: World) -> None:
    await world.open()
    world.scripts.clock_ms = 0
    seconds, _ = await world.client.time()
    _, now_ms, _ = await world.act("inspect", [[], []])
    assert abs(now_ms - seconds * 1_000) < 60_000


# ------------------------------------------------------------------------------------------------------ places and draws


async def test_many_draws_at_once_are_one(world: World) -> None:
    """Whoever closes first decides the roots, and whoever reveals first the keys."""
    await w.undrawn(world)
    closed = await asyncio.gather(*(world.draw("close", w.digits(f"root{number}-")) for number in range(8)))
    assert sorted(answer[0] for answer in closed) == ["closed", *["replayed"] * 7]
    [roots] = {tuple(answer[2]) for answer in closed}
    revealed = await asyncio.gather(*(world.draw("reveal", list(roots), w.digits(f"key{number}-"), w.BEACON) for number in range(8)))
    assert sorted(answer[0] for answer in revealed) == ["replayed"] * 7 + ["revealed"]
    assert len({tuple(answer[3]) for answer in revealed}) == 1
    assert sum("draw" in entry for entry in (await world.state())["journal"]) == 1


async def test_giving_up_and_coming_in_at_once_leave_one_of_both(world: World) -> None:
    await w.served(world)
    world.at(200)
    await asyncio.gather(*(call for _ in range(4) for call in (world.leave("ann"), world.admit("ann"))))
    state = await world.state()
    assert state["tickets"]["ann"]["gone"] == "left"
    assert (state["slots"], state["called"]) == ({}, {1: t(100)})
    assert [entry["k"] for entry in state["served"] if "k" in entry] in (["left"], ["claimed", "left"])


async def test_the_last_free_slot_goes_to_one(world: World) -> None:
    await w.served(world)
    await world.steer("capacity", 1)
    results = await asyncio.gather(*(world.admit(name) for name in ("ann", "bob") * 4))
    assert sorted(result[0][0] for result in results) == ["admitted", *["not_yet"] * 4, *["replayed"] * 3]


@pytest.mark.parametrize(
    "places", [[[5], [0]], [[0], [5]], [[0], [w.STRIDE]], [[0, 1], [0]], [[-1], [0]], [list(range(1_001)), list(range(1_001))]]
)
async def test_only_entries_are_gone(world: World, places: list[list[int]]) -> None:
    await w.drawn(world)
    before = await world.digest()
    with pytest.raises(ScriptError):
        await world.draw("gone", *places)
    assert await world.digest() == before


@pytest.mark.parametrize(
    "step",
    [["close"], ["close", []], ["close", ["short"]], ["close", ["x" * 64]], ["close", w.digits("root", 2)], ["reveal", w.digits("root")],
     ["reveal", w.digits("root"), w.digits("key"), 5], ["reveal", w.digits("root"), [], {}], ["open", []], []],
    ids=lambda step: repr(step)[:40],
)  # fmt: skip
async def test_a_spoilt_step_draws_nothing(world: World, step: list[Any]) -> None:
    await w.undrawn(world)
    before = await world.digest()
    with pytest.raises(ScriptError):
        await world.draw(*step)
    assert await world.digest() == before


async def test_two_drops_at_once_do_not_touch_each_other(world: World) -> None:
    await w.called(world)
    before = await world.state()
    other = dataclasses.replace(w.DROP, drop_id="other", order="draw")
    await world.drops.open(other, draw_secret=w.DRAW_SECRET, injected_clock=True)
    world.at(-5_000)
    for script, *request in (
        ("join", [w.joining("ann", identity="i", code=["c", 2])]),
        ("leave", w.leaving("ann")),
        ("advance", [w.BEAT_MS, -1]),
        ("inspect", [["ann"], []]),
    ):
        reply = await world.scripts.run(script, "other", *world.arguments(script, *request))
        assert msgpack.unpackb(reply, strict_map_key=False)[0] == "done"
    ours = [key for key in await world.client.keys("*") if b"{other}" not in key]
    async with world.client.pipeline(transaction=False) as pipeline:
        ask(pipeline, w.DROP_ID)
        *replies, _ = await pipeline.execute()
    assert decode(w.DROP_ID, [*replies, ours]) == before
