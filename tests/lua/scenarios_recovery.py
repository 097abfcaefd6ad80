"""Scenarios of recovery: rebuild, restore, and joining with a receipt from before a loss."""

from __future__ import annotations

from typing import Any

from tests.lua import world as w
from tests.lua.dump import GONE
from tests.lua.scenario import Scenario, entry, reservation, ticket, transition
from tests.lua.scenarios_room import FRESH_DROP, FRESH_STOCK, nothing
from tests.lua.world import World, joining, restoring, t

ATTEMPT = "attempt-1"
NEXT_EPOCH = 2
FIELDS: dict[str, str] = {
    **{name: str(value) for name, value in FRESH_DROP.items() if name not in {"skus", "fenced"}},
    "epoch": "1", "state": "open", "state_at_ms": str(t(0)), "joined": "5", "entries": "3", "serving_number": "4",
    "sequence": "40", "restore_from": "0", "restore_to": "5",
}  # fmt: skip
SKUS: list[list[Any]] = [["s1", 5, 1, 1_000, 2], ["s2", 3, 0, 500, 2]]
"""One of s1 is sold by an order nobody knows any more."""


def step(word: str, *rest: Any, attempt: str = ATTEMPT) -> list[Any]:
    """The argument of rebuild."""
    return [attempt, t(5_000), word, *rest]


def order(
    name: str, state: int, *, reference: str = "", reason: str = "", extend_key: str = "", surplus: tuple[str, ...] = (), **items: int
) -> list[Any]:
    """An order as Postgres has it."""
    times = (t(1_000), t(61_000))
    wanted = [list(item) for item in sorted(items.items())]
    return [name, state, wanted, 1_500, *times, reference, f"q-{name}", reason, extend_key, list(surplus)]


BEGINNING = step("begin", 0, FIELDS, SKUS)
LOADING = step(
    "load",
    [
        ["ann", 0, [order("r1", 1, extend_key="x", s1=1, s2=1), order("r2", 4, surplus=("pay-less",), s1=1)]],
        ["bob", 3, [order("r3", 2, reference="pay", s1=1), order("r4", 3, reason="no_units_after_recovery", s2=2)]],
    ],
    [["a1", "s1", 2, t(500)]],
)
ACCOUNTED = [["s1", 1, 2, 0], ["s2", 1, 0, 0]]
FINISHING = step("finish", NEXT_EPOCH, "open", ACCOUNTED, 4, 1, [1, t(100)])
BEGUN_STOCK = {**FRESH_STOCK, "available:s1": 4, "sold:s1": 1}
BEGUN_DROP = {**FIELDS, "skus": ["s1", "s2"], "fenced": "rebuilding", "rebuild": ATTEMPT}


async def begun(world: World) -> None:
    """The store had lost everything; rebuilding has begun."""
    world.at(5_000)
    assert (await world.act("rebuild", BEGINNING))[0] == "begun"


async def loaded(world: World) -> None:
    """All that Postgres knows is back, and the drop is still closed."""
    await begun(world)
    assert (await world.act("rebuild", LOADING))[0] == "loaded"


async def finished(world: World) -> None:
    """The drop is open again in its second epoch; people with receipts come back."""
    await loaded(world)
    assert (await world.act("rebuild", FINISHING))[0] == "finished"
    world.epoch = NEXT_EPOCH


async def fenced_with_a_line(world: World) -> None:
    """The store has gone back in time; ann holds r1 and bob waits."""
    await w.reserved(world)
    assert await world.fence("rolled_back") == "fenced"


async def begun_with_a_line(world: World) -> None:
    """Its rebuilding has begun; ann's ticket still counts what nobody may know."""
    await fenced_with_a_line(world)
    world.at(5_000)
    assert (await world.act("rebuild", step("begin", 1, FIELDS, SKUS)))[0] == "begun"


async def given_back(world: World) -> None:
    """Carl has his old place again."""
    await finished(world)
    assert (await world.act("join", [claiming("carl", 2)]))[2][0][0] == "restored"


async def all_out(world: World) -> None:
    """After the recovery the last two units of s2 were taken."""
    await finished(world)
    assert (await world.act("restore", [restoring("dora", "r8", epoch=1, number=4, s2=2)]))[2][0][0] == "restored"


def claiming(name: str, number: int, epoch: int = 1, *shared: str) -> list[Any]:
    """A request of join with a receipt; that of a second device names the ticket whose place it `shared`."""
    return joining(name, claim=[number, 0, t(-5_000), epoch, *shared])


def back(number: int, **fields: Any) -> dict[str, Any]:
    """A ticket made anew: nobody knows when it was given."""
    first = {"joined_at_ms": 0, "admitted_at_ms": t(1_000)}
    return ticket(number, **first | fields)


REBUILD = [
    Scenario(
        "rebuild", "begun", nothing, (BEGINNING,), None, after_ms=5_000, replay="replayed", quiet=True,
        changes={"drop": BEGUN_DROP, "stock": BEGUN_STOCK},
    ),
    Scenario(
        "rebuild", "begun", fenced_with_a_line, (step("begin", 1, FIELDS, SKUS),), None, replay="replayed", quiet=True,
        when="and keeps the line",
        changes={
            "drop": BEGUN_DROP, "stock": BEGUN_STOCK, "reservations": {"r1": GONE}, "expiries": {"r1": GONE}, "slots": {0: GONE, 1: GONE},
        },
    ),
    Scenario("rebuild", "replayed", begun, (BEGINNING,), ["replayed", t(5_000), ""]),
    Scenario("rebuild", "superseded", w.reserved, (BEGINNING,), None, when="because the drop is there"),
    Scenario("rebuild", "superseded", w.reserved, (step("begin", 1, FIELDS, SKUS),), None, when="because nobody has fenced it"),
    Scenario("rebuild", "superseded", finished, (BEGINNING,), None, when="because somebody else has finished"),
    Scenario("rebuild", "superseded", begun, (step(*LOADING[2:], attempt="attempt-0"),), None, when="because a later attempt has begun"),
    Scenario("rebuild", "superseded", nothing, (LOADING,), None, when="because nothing has begun"),
    Scenario(
        "rebuild", "kept", begun_with_a_line, (step("keep", ["ann", "nobody"]),), ["kept", t(5_000), ""], quiet=True,
        changes={"tickets": {"ann": {"reservations": 0, "live": 0, "units": 0, "held": {}}}, "restored": {0: "ann"}}, replay="kept",
    ),
    Scenario("rebuild", "replayed", loaded, (step("keep", ["ann"]),), None, when="because orders are back"),
    Scenario("rebuild", "superseded", finished, (step("keep", ["ann"]),), None, when="because the drop is open"),
    Scenario(
        "rebuild", "loaded", begun, (LOADING,), ["loaded", t(5_000), ""], replay="replayed",
        changes={
            "stock": {"available:s1": 2, "reserved:s1": 1, "sold:s1": 2, "available:s2": 2, "reserved:s2": 1},
            "reservations": {
                "r1": reservation(extend_key="x"),
                "r2": reservation(state=4, items=[["s1", 1]], request_id="q-r2", extend_key="", surplus=["pay-less"]),
                "r3": reservation(
                    state=2, ticket_id="bob", number=3, items=[["s1", 1]], request_id="q-r3", payment_reference="pay"
                ),
                "r4": reservation(state=3, ticket_id="bob", number=3, items=[["s2", 2]], request_id="q-r4"),
            },
            "tickets": {
                "ann": back(0, reservations=2, live=1, units=2, held={"s1": 1, "s2": 1}),
                "bob": back(3, late=1, reservations=2, units=1, held={"s1": 1}),
            },
            "expiries": {"r1": t(61_000)}, "slots": {0: t(61_000)}, "restored": {0: "ann", 3: "bob"},
            "adjustments": {"a1": {"sku": "s1", "delta": 2, "drain": 2, "at_ms": t(500)}},
            "journal": [
                entry(
                    transition(
                        "released", reservation_id="r4", ticket_id="bob", number=3, items=[["s2", 2]], at_ms=t(5_000),
                        reason="no_units_after_recovery",
                    )
                )
            ],
        },
    ),
    Scenario(
        "rebuild", "finished", loaded, (FINISHING,), ["finished", t(5_000), ""], replay="replayed",
        changes={
            "drop": {"fenced": "", "epoch": "2", "state_at_ms": str(t(5_000))}, "journal": [{"drop": ["open", t(5_000)]}],
            "served": [{"at_ms": t(100), "from": 1, "to": 4}],
        },
    ),
    Scenario(
        "rebuild", "unbalanced", loaded, (step("finish", 2, "open", [["s1", 1, 1, 0], ["s2", 1, 0, 0]], 4, 1, [0, 0]),),
        ["unbalanced", t(5_000), "units of s1"], when="because a unit is missing",
    ),
    Scenario(
        "rebuild", "unbalanced", loaded, (step("finish", 2, "open", ACCOUNTED, 5, 1, [0, 0]),), ["unbalanced", t(5_000), "reservations"],
        when="because a reservation is missing",
    ),
    Scenario(
        "rebuild", "unbalanced", loaded, (step("finish", 2, "open", ACCOUNTED, 4, 2, [0, 0]),),
        ["unbalanced", t(5_000), "live reservations"], when="because a live one is missing",
    ),
    Scenario(
        "rebuild", "unbalanced", loaded, (step("finish", 2, "open", ACCOUNTED[:1], 4, 1, [0, 0]),), ["unbalanced", t(5_000), "SKUs"],
        when="because a SKU is missing",
    ),
    Scenario("rebuild", "superseded", finished, (LOADING,), None, when="because the drop is open again"),
]  # fmt: skip

JOIN = [
    Scenario(
        "join", "restored", finished, ([claiming("carl", 2)],), ["restored", 2, 0, t(-5_000), "carl"], replay="replayed",
        changes={"tickets": {"carl": ticket(2)}, "restored": {2: "carl"}},
    ),
    Scenario(
        "join", "restored", finished, ([claiming("zoe", 9)],), ["restored", 9, 1, t(-5_000), "zoe"], replay="replayed",
        when="although the recovery knew nothing of it, behind those who were there at the opening",
        changes={"drop": {"joined": "10", "restore_to": "10"}, "tickets": {"zoe": ticket(9, late=1)}, "restored": {9: "zoe"}},
    ),
    Scenario(
        "join", "joined", given_back, ([claiming("carla", 2)],), ["joined", 5, 1, t(5_000), "carla"], replay="replayed",
        when="at the end, because somebody has the number",
        changes={"drop": {"joined": "6"}, "tickets": {"carla": ticket(5, late=1, joined_at_ms=t(5_000))}},
    ),
    Scenario(
        "join", "joined", finished, ([claiming("carl", 2, epoch=2)],), ["joined", 5, 1, t(5_000), "carl"], replay="replayed",
        when="at the end, because the receipt is of this epoch",
        changes={"drop": {"joined": "6"}, "tickets": {"carl": ticket(5, late=1, joined_at_ms=t(5_000))}},
    ),
    Scenario(
        "join", "joined", w.admitted, ([claiming("carl", 1, epoch=0)],), ["joined", 2, 1, t(200), "carl"], replay="replayed",
        when="at the end, because nothing was ever lost",
        changes={"drop": {"joined": "3"}, "tickets": {"carl": ticket(2, late=1, joined_at_ms=t(200))}},
    ),
    Scenario(
        "join", "replayed", finished, ([joining("ann")],), ["replayed", 0, 0, 0, "ann"],
        when="for a ticket that came back",
    ),
    Scenario(
        "join", "replayed", finished, ([claiming("ann", 0)],), ["replayed", 0, 0, t(-5_000), "ann"], replay="replayed",
        when="and its receipt says when the ticket had joined", changes={"tickets": {"ann": {"joined_at_ms": t(-5_000)}}},
    ),
    Scenario(
        "join", "restored", finished, ([claiming("laptop", 2, 1, "carl")],), ["restored", 2, 0, 0, "carl"], replay="replayed",
        when="to the ticket that a second device had shared it with",
        changes={"tickets": {"carl": ticket(2, joined_at_ms=0, shared=1)}, "aliases": {"laptop": "carl"}, "restored": {2: "carl"}},
    ),
    Scenario(
        "join", "replayed", given_back, ([claiming("laptop", 2, 1, "carl")],), ["replayed", 2, 0, t(-5_000), "carl"], replay="replayed",
        when="for a second device of a ticket that is back",
        changes={"tickets": {"carl": {"shared": 1}}, "aliases": {"laptop": "carl"}},
    ),
    Scenario(
        "join", "joined", finished, ([claiming("laptop", 2, 2, "carl")],), ["joined", 5, 1, t(5_000), "laptop"], replay="replayed",
        when="at the end, because a second device's receipt is of this epoch",
        changes={"drop": {"joined": "6"}, "tickets": {"laptop": ticket(5, late=1, joined_at_ms=t(5_000))}},
    ),
]  # fmt: skip

RESTORE = [
    Scenario(
        "restore", "restored", finished, ([restoring("dora", "r9", epoch=1, number=4, s1=1)],),
        ["restored", 1, 1_500, t(1_000), t(65_000), 4], replay="replayed",
        changes={
            "stock": {"available:s1": 1, "reserved:s1": 2},
            "tickets": {
                "dora": back(4, late=1, admitted_at_ms=t(5_000), reservations=1, live=1, units=1,
                             held={"s1": 1})
            },
            "reservations": {
                "r9": reservation(ticket_id="dora", number=4, items=[["s1", 1]], expires_at_ms=t(65_000), request_id="q-r9")
            },
            "expiries": {"r9": t(65_000)}, "slots": {4: t(65_000)}, "restored": {4: "dora"}, "stats": {"restored": 1},
            "journal": [
                entry(
                    transition(
                        "reserved", reservation_id="r9", ticket_id="dora", number=4, items=[["s1", 1]], at_ms=t(5_000),
                        request_id="q-r9", expires_at_ms=t(65_000),
                    )
                )
            ],
        },
    ),
    Scenario(
        "restore", "restored", finished, ([restoring("dora", "r9", epoch=1, number=3, s1=1)],), None, replay="replayed", after_ms=9_000,
        when="with another number, because bob has it",
        changes={
            "drop": {"joined": "6"}, "stock": {"available:s1": 1, "reserved:s1": 2},
            "tickets": {
                "dora": back(5, late=1, admitted_at_ms=t(9_000), reservations=1, live=1, units=1,
                             held={"s1": 1})
            },
            "reservations": {
                "r9": reservation(ticket_id="dora", number=5, items=[["s1", 1]], expires_at_ms=t(69_000), request_id="q-r9")
            },
            "expiries": {"r9": t(69_000)}, "slots": {5: t(69_000)}, "stats": {"restored": 1},
            "journal": [
                entry(
                    transition(
                        "reserved", reservation_id="r9", ticket_id="dora", number=5, items=[["s1", 1]], at_ms=t(9_000),
                        request_id="q-r9", expires_at_ms=t(69_000),
                    )
                )
            ],
        },
    ),
    Scenario(
        "restore", "replayed", finished, ([restoring("ann", "r1", epoch=1, s1=1, s2=1)],), ["replayed", 1, 1_500, t(1_000), t(61_000), 0]
    ),
    Scenario(
        "restore", "replayed", finished, ([restoring("bob", "r4", epoch=1, number=3, s2=2)],), None, when="although it was given back"
    ),
    Scenario("restore", "not_found", finished, ([restoring("dora", "r9", epoch=2, number=4, s1=1)],), ["not_found", 0]),
    Scenario("restore", "expired", finished, ([restoring("dora", "r9", epoch=1, number=4, s1=1)],), ["expired", 0], after_ms=121_000),
    Scenario("restore", "sold_out", all_out, ([restoring("erin", "r9", epoch=1, number=4, s2=1)],), ["sold_out", 0]),
    Scenario("restore", "sold_out", finished, ([restoring("erin", "r9", epoch=1, gone=1)],), ["sold_out", 0], when="because its SKU is"),
    Scenario("restore", "limit_reached", finished, ([restoring("ann", "r9", epoch=1, s1=2)],), ["limit_reached", 0]),
    Scenario("restore", "recovering", loaded, ([restoring("dora", "r9", epoch=1, s1=1)],), None),
]  # fmt: skip


SCENARIOS = [*REBUILD, *JOIN, *RESTORE]
