"""Scenarios of what becomes of a place: join with its options, leave, and the draw."""

from __future__ import annotations

from typing import Any

from tests.lua import scenarios_room as room
from tests.lua import world as w
from tests.lua.dump import GONE
from tests.lua.scenario import Scenario, ticket
from tests.lua.scenarios_room import line
from tests.lua.world import BEACON, STRIDE, World, digits, joining, leaving, secret_of, t

ANN = ["joined", 0, 0, t(-5_000), "ann"]
ROOTS, KEYS = digits("root"), digits("key")


async def entries_closed(world: World) -> None:
    """Nobody can be in the draw any more, and its key is not known yet."""
    await w.undrawn(world)
    assert (await world.draw("close", ROOTS))[0] == "closed"


async def left_undrawn(world: World) -> None:
    """Bob gave up before the draw; where he would have been nobody has worked out yet."""
    await w.undrawn(world)
    assert await world.leave("bob") == ["left", 1]
    await w.draw(world)


async def gone(world: World) -> None:
    """It is known where bob would have been."""
    await left_undrawn(world)
    assert (await world.draw("gone", [1], [2]))[0] == "gone"


async def bob_found_no_slot(world: World) -> None:
    """Ann has the only slot, and bob waits for one."""
    await room.capacity_gone(world)
    assert (await world.admit("bob"))[0][0] == "not_yet"


async def turn_begun(world: World) -> None:
    """The only unit is back, and it is bob's turn."""
    await w.all_reserved(world)
    await world.release("r1")
    world.at(1_100)
    await world.beat()


async def two_lines_open(world: World) -> None:
    """Nobody has noticed the opening yet."""
    await w.grouped(world)
    world.at(50)


JOIN = [
    Scenario(
        "join", "joined", room.drawing, ([joining("ann")],), ANN, when="and is in the draw", replay="replayed",
        changes={
            "drop": {"joined": "1"}, "tickets": {"ann": ticket(0)}, "entries": [{"l": 0, "n": 0, "h": [secret_of("ann")]}],
        },
    ),
    Scenario(
        "join", "joined", w.undrawn, ([joining("dora")],), ["joined", 3, 1, t(100), "dora"], when="after those in the draw",
        replay="replayed", changes={"drop": {"joined": "4"}, "tickets": {"dora": ticket(3, late=1, joined_at_ms=t(100))}},
    ),
    Scenario(
        "join", "joined", room.two_lines, ([joining("vic", line=1)],), ["joined", STRIDE, 0, t(-5_000), "vic"], when="a line of its own",
        replay="replayed", changes={"drop": {"lines": [line(joined=1)]}, "tickets": {"vic": ticket(STRIDE)}},
    ),
    Scenario(
        "join", "joined", two_lines_open, ([joining("vera", line=1)],), ["joined", STRIDE + 2, 1, t(50), "vera"], replay="replayed",
        when="a line of its own after the opening",
        changes={
            "drop": {"entries": "2", "lines": [line(joined=3, entries=2)]},
            "tickets": {"vera": ticket(STRIDE + 2, late=1, joined_at_ms=t(50))},
        },
    ),
    Scenario(
        "join", "joined", w.waiting, ([joining("ann", identity="id-ann")],), ANN, when="with an identity", replay="replayed",
        changes={"drop": {"joined": "1"}, "tickets": {"ann": ticket(0, identity="id-ann")}, "identities": {"id-ann": "ann"}},
    ),
    Scenario(
        "join", "replayed", room.known, ([joining("laptop", identity="id-ann")],), ["replayed", 0, 0, t(-5_000), "ann"],
        when="because the identity has a place", changes={"tickets": {"ann": {"shared": 1}}, "aliases": {"laptop": "ann"}},
    ),
    Scenario(
        "join", "replayed", room.known_and_moved, ([joining("laptop", identity="id-ann")],), ["replayed", 0, 0, t(-5_000), "ann"],
        when="because the identity has a place, wherever it was handed",
        changes={"tickets": {"ann": {"shared": 2}}, "aliases": {"laptop": "ann"}},
    ),
    Scenario(
        "join", "replayed", room.known_and_moved, ([joining("ann-phone")],), ["replayed", 0, 0, t(-5_000), "ann"],
        when="on the device that has the place now",
    ),
    Scenario(
        "join", "joined", room.left_by_identity, ([joining("laptop", identity="id-ann")],), ["joined", 1, 0, t(-5_000), "laptop"],
        when="anew after giving up", replay="replayed",
        changes={"drop": {"joined": "2"}, "tickets": {"laptop": ticket(1, identity="id-ann")}, "identities": {"id-ann": "laptop"}},
    ),
    Scenario(
        "join", "joined", w.waiting, ([joining("ann", code=["c1", 2])],), ANN, when="with a code", replay="replayed",
        changes={"drop": {"joined": "1"}, "tickets": {"ann": ticket(0)}, "codes": {"c1": 1}},
    ),
    Scenario("join", "replayed", room.code_used, ([joining("ann", code=["c1", 1])],), ["replayed", 0, 0, t(-5_000), "ann"],
             when="although the code is used up"),
    Scenario("join", "devices_full", room.on_many_devices, ([joining("laptop", identity="id-ann")],), ["devices_full", t(-5_000)]),
    Scenario("join", "code_used", room.code_used, ([joining("bob", code=["c1", 1])],), ["code_used", t(-5_000)]),
    Scenario(
        "join", "taken_over", w.joined, ([joining("phone", handoff="ann")],), ["taken_over", 0, 0, t(-5_000), "ann"], replay="replayed",
        changes={"tickets": {"ann": {"holder": "phone", "shared": 1}}, "aliases": {"phone": "ann"}},
    ),
    Scenario(
        "join", "taken_over", w.admitted, ([joining("phone", handoff="ann")],), ["taken_over", 0, 0, t(-5_000), "ann"], replay="replayed",
        when="while in", changes={"tickets": {"ann": {"holder": "phone", "shared": 1}}, "aliases": {"phone": "ann"}},
    ),
    Scenario(
        "join", "taken_over", room.joining_closed, ([joining("phone", handoff="ann")],), ["taken_over", 0, 0, t(-5_000), "ann"],
        replay="replayed", when="although nobody may join",
        changes={"tickets": {"ann": {"holder": "phone", "shared": 1}}, "aliases": {"phone": "ann"}},
    ),
    Scenario("join", "handoff_used", room.handed_over, ([joining("tablet", handoff="ann")],), ["handoff_used", t(-5_000)]),
    Scenario(
        "join", "handoff_used", room.handed_over, ([joining("tablet", handoff="ann-phone")],), ["handoff_used", t(-5_000)],
        when="because it was handed over once",
    ),
    Scenario("join", "not_found", w.joined, ([joining("phone", handoff="nobody")],), ["not_found", t(-5_000)]),
    Scenario("join", "moved", room.handed_over, ([joining("ann")],), ["moved", t(-5_000)]),
    Scenario("join", "left", room.left, ([joining("ann")],), ["left", t(100)]),
    Scenario("join", "left", room.left, ([joining("phone", handoff="ann")],), ["left", t(100)], when="what was to be handed over"),
    Scenario("join", "removed", room.removed, ([joining("ann")],), ["removed", t(100)]),
    Scenario(
        "join", "removed", room.removed_by_identity, ([joining("laptop", identity="id-ann")],), ["removed", t(-5_000)],
        when="whoever has the identity",
    ),
    Scenario("join", "joining_closed", room.joining_closed, ([joining("carl")],), ["joining_closed", t(-5_000)]),
    Scenario(
        "join", "replayed", room.joining_closed, ([joining("bob")],), ["replayed", 1, 0, t(-5_000), "bob"], when="although nobody may join",
    ),
]  # fmt: skip


def gone_by(word: str, place: int, after_ms: int, why: str = "", *, entry: int = 0) -> dict[str, Any]:
    """The admission log's entry."""
    return {"at_ms": t(after_ms), "k": word, "p": [place], "why": why, "entry": entry}


LEAVE = [
    Scenario(
        "leave", "left", w.joined, (leaving("ann"),), ["left", 0], replay="replayed", when="before the opening",
        changes={"tickets": {"ann": {"gone": "left"}}, "gone": {0: 0}, "served": [gone_by("left", 0, -5_000)]},
    ),
    Scenario(
        "leave", "left", w.undrawn, (leaving("bob", place=1),), ["left", 1], replay="replayed", when="before the draw",
        changes={"tickets": {"bob": {"gone": "left"}}, "leaving": {1: 1}, "served": [gone_by("left", 1, 100, entry=1)]},
    ),
    Scenario(
        "leave", "left", w.drawn, (leaving("bob", place=1, queue=2),), ["left", 2], replay="replayed", when="after the draw",
        changes={"tickets": {"bob": {"gone": "left"}}, "gone": {2: 2}, "served": [gone_by("left", 2, 100)]},
    ),
    Scenario(
        "leave", "left", w.drawn, (leaving("dora"),), ["left", 3], replay="replayed", when="without having been in the draw",
        changes={"tickets": {"dora": {"gone": "left"}}, "gone": {3: 3}, "served": [gone_by("left", 3, 100)]},
    ),
    Scenario(
        "leave", "left", w.served, (leaving("ann"),), ["left", 0], replay="replayed", when="when called",
        changes={"tickets": {"ann": {"gone": "left"}}, "called": {0: GONE}, "served": [gone_by("left", 0, 100)]},
    ),
    Scenario(
        "leave", "left", w.admitted, (leaving("ann"),), ["left", 0], after_ms=300, replay="replayed", when="when in",
        changes={
            "tickets": {"ann": {"gone": "left", "token_expires_at_ms": t(300)}}, "slots": {0: GONE}, "flow": {"ended": 1, "left:1": 1},
            "served": [gone_by("left", 0, 300)],
        },
    ),
    Scenario(
        "leave", "left", bob_found_no_slot, (leaving("bob"),), ["left", 1], replay="replayed", when="while waiting for a slot",
        changes={"tickets": {"bob": {"gone": "left"}}, "returning": {1: GONE}, "served": [gone_by("left", 1, 200)]},
    ),
    Scenario(
        "leave", "left", turn_begun, (leaving("bob"),), ["left", 1], replay="replayed", when="while waiting for units",
        changes={
            "tickets": {"bob": {"gone": "left", "token_expires_at_ms": t(1_100)}}, "slots": {1: GONE},
            "flow": {"ended": 1, "left:3": 1}, "standby": {1: GONE}, "wants": {1: GONE}, "asked": {1: GONE}, "offers": {1: GONE},
            "served": [gone_by("left", 1, 1_100)],
        },
    ),
    Scenario(
        "leave", "left", w.confirmed, (leaving("ann"),), ["left", 0], replay="replayed", when="with what was bought",
        changes={
            "tickets": {"ann": {"gone": "left", "token_expires_at_ms": t(2_000)}}, "served": [gone_by("left", 0, 2_000)],
        },
    ),
    Scenario(
        "leave", "left", room.handed_over, (leaving("ann-phone"),), ["left", 0], replay="replayed", when="by the device that has the place",
        changes={"tickets": {"ann": {"gone": "left"}}, "gone": {0: 0}, "served": [gone_by("left", 0, -5_000)]},
    ),
    Scenario(
        "leave", "left", room.known, (leaving("ann"),), ["left", 0], replay="replayed", when="and may come again",
        changes={
            "tickets": {"ann": {"gone": "left"}}, "gone": {0: 0}, "identities": {"id-ann": GONE}, "served": [gone_by("left", 0, -5_000)],
        },
    ),
    Scenario(
        "leave", "removed", room.known, (leaving("ann", "removed", "a robot"),), ["removed", 0], replay="replayed",
        when="and may not come again",
        changes={"tickets": {"ann": {"gone": "removed"}}, "gone": {0: 0}, "served": [gone_by("removed", 0, -5_000, "a robot")]},
    ),
    Scenario(
        "leave", "removed", room.handed_over, (leaving("ann", "removed"),), ["removed", 0], replay="replayed",
        when="wherever it was handed",
        changes={"tickets": {"ann": {"gone": "removed"}}, "gone": {0: 0}, "served": [gone_by("removed", 0, -5_000)]},
    ),
    Scenario(
        "leave", "removed", w.reserved, (leaving("ann", "removed"),), ["removed", 0], replay="replayed", when="under what is reserved",
        changes={
            "tickets": {"ann": {"gone": "removed", "token_expires_at_ms": t(1_000)}}, "served": [gone_by("removed", 0, 1_000)],
        },
    ),
    Scenario("leave", "replayed", room.left, (leaving("ann"),), ["replayed", 0]),
    Scenario("leave", "replayed", room.left, (leaving("ann", "removed"),), ["replayed", 0], when="although it was the shopper"),
    Scenario("leave", "not_found", w.joined, (leaving("nobody"),), ["not_found", 0]),
    Scenario("leave", "moved", room.handed_over, (leaving("ann"),), ["moved", 0]),
    Scenario("leave", "place", w.drawn, (leaving("bob"),), ["place", 1]),
    Scenario("leave", "place", w.drawn, (leaving("bob", place=0, queue=1),), ["place", 1], when="because it is another's"),
    Scenario("leave", "reserved", w.reserved, (leaving("ann"),), ["reserved", 0]),
    Scenario("leave", "recovering", w.forgotten_rules, (leaving("ann"),), None),
]  # fmt: skip

DRAW = [
    Scenario(
        "draw", "closed", w.undrawn, (["close", ROOTS],), ["closed", t(100), ROOTS, [""]], replay="replayed",
        changes={"drop": {"root": ROOTS[0], "closed_entries_at_ms": str(t(100))}},
    ),
    Scenario("draw", "replayed", entries_closed, (["close", digits("other")],), ["replayed", t(100), ROOTS, [""]], when="with other roots"),
    Scenario("draw", "refused", room.drawing, (["close", ROOTS],), ["refused", 0, [""], [""]], when="before the opening"),
    Scenario("draw", "refused", w.served, (["close", ROOTS],), ["refused", 0, [""], [""]], when="without a draw"),
    Scenario(
        "draw", "revealed", entries_closed, (["reveal", ROOTS, KEYS, BEACON],), ["revealed", t(100), ROOTS, KEYS], after_ms=300,
        replay="replayed",
        changes={
            "drop": {"key": KEYS[0], "drawn_at_ms": str(t(300)), "beacon": BEACON},
            "journal": [{"draw": [t(300), [["", 3, ROOTS[0], KEYS[0]]], BEACON]}],
        },
    ),
    Scenario(
        "draw", "replayed", w.drawn, (["reveal", ROOTS, digits("other"), BEACON],), ["replayed", t(100), ROOTS, KEYS],
        when="with another key",
    ),
    Scenario("draw", "refused", w.undrawn, (["reveal", ROOTS, KEYS, BEACON],), ["refused", 0, [""], [""]], when="before the roots"),
    Scenario(
        "draw", "refused", entries_closed, (["reveal", digits("other"), KEYS, BEACON],), ["refused", t(100), ROOTS, [""]],
        when="for other roots",
    ),
    Scenario(
        "draw", "gone", left_undrawn, (["gone", [1], [2]],), ["gone", t(100), ROOTS, KEYS], quiet=True,
        changes={"leaving": {1: GONE}, "gone": {2: 2}},
    ),
    Scenario("draw", "gone", gone, (["gone", [1], [2]],), ["gone", t(100), ROOTS, KEYS], when="once more"),
    Scenario("draw", "refused", w.undrawn, (["gone", [1], [2]],), ["refused", 0, [""], [""]], when="before the draw"),
    Scenario("draw", "recovering", w.forgotten_rules, (["close", ROOTS],), None),
]  # fmt: skip

SCENARIOS = [*JOIN, *LEAVE, *DRAW]
