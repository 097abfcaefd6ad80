"""Scenarios of the waiting room and of the drop itself: open_drop, join, admit, advance, steer_drop, close_drop, inspect."""

from __future__ import annotations

from typing import Any

from flashsale.drops import digest_of, encode_drop
from flashsale.model import Group
from tests.lua import world as w
from tests.lua.dump import GONE
from tests.lua.scenario import Scenario, ticket
from tests.lua.world import DROP, KEYS, World, admission, joining, t

DEFINITION = encode_drop(DROP)
RULES = {
    "epoch": 1,
    "joins_at_ms": DROP.joins_at_ms,
    "opens_at_ms": DROP.opens_at_ms,
    "closes_at_ms": DROP.closes_at_ms,
    "rate_per_min": DROP.rate_per_min,
    "capacity": DROP.capacity,
    "claim_window_ms": DROP.claim_window_ms,
    "reservation_ttl_ms": DROP.reservation_ttl_ms,
    "token_ttl_ms": w.TOKEN_TTL_MS,
    "limit_per_shopper": DROP.limit_per_shopper,
    "tickets_max": 100,
    "reservations_per_shopper_max": 3,
    "clock": "injected",
}
STOCK = [[sku.sku, sku.allotment, sku.allotment, 0, sku.price_minor, sku.limit_per_shopper] for sku in DROP.skus]
DIGEST = digest_of(DEFINITION)
FRESH_DROP = {name: str(value) for name, value in RULES.items()} | {
    "state": "scheduled",
    "state_at_ms": "0",
    "digest": DIGEST,
    "definition": DEFINITION,
    "skus": ["s1", "s2"],
    "joined": "0",
    "entries": "",
    "key": "",
    "root": "",
    "lines": "",
    "order": "arrival",
    "draw_secret": "",
    "notice": "",
    "serving_number": "0",
    "admitted": "0",
    "beat": "0",
    "credit": "0",
    "advanced_at_ms": "0",
    "sequence": "1",
    "fenced": "",
}
FRESH_STOCK = {
    "allotment:s1": 5, "available:s1": 5, "reserved:s1": 0, "sold:s1": 0, "price:s1": 1_000, "limit:s1": 2, "draining:s1": 0,
    "allotment:s2": 3, "available:s2": 3, "reserved:s2": 0, "sold:s2": 0, "price:s2": 500, "limit:s2": 2, "draining:s2": 0,
}  # fmt: skip


async def nothing(world: World) -> None:
    """An empty store."""


async def only_stock(world: World) -> None:
    """The store has lost the drop's rules but holds its units."""
    await world.open()
    await world.client.delete(KEYS.drop)


async def room_full(world: World) -> None:
    """Every place is taken."""
    world.drops = World(world.client, w.settings_of_tests(tickets_max=1)).drops
    await w.waiting(world)
    await world.join("ann")


async def slots_taken(world: World) -> None:
    """One slot in all. Ann lost it to bob and he to carl, and her token has run out."""
    await world.open(capacity=1)
    world.at(-5_000)
    await world.join("ann", "bob", "carl")
    await w.serve(world)
    world.at(200)
    await world.let_in("ann")
    for name, after_ms in (("bob", w.CLAIM_WINDOW_MS + 1_000), ("carl", w.TOKEN_TTL_MS + 1_000)):
        world.at(after_ms)
        await world.beat()
        await world.let_in(name)


async def unserved(world: World) -> None:
    """Open, with nobody served yet."""
    await w.joined(world)
    world.at(10)


async def unserved_waiting(world: World) -> None:
    """Ann and bob wait, and the last beat was just before the opening."""
    await w.joined(world)
    world.at(-w.BEAT_MS)
    await world.beat()


async def long_called(world: World) -> None:
    """Ann was called so long ago that nobody waits for her."""
    await w.served(world)
    world.at(9_000)
    await world.beat()


async def capacity_gone(world: World) -> None:
    """Ann and bob are called. Only one slot is left of those there were, and ann has it."""
    await w.served(world)
    world.at(200)
    await world.steer("capacity", 1)
    await world.let_in("ann")


async def slot_for_a_returning(world: World) -> None:
    """Bob found no slot; now there are as many as he needs."""
    await capacity_gone(world)
    assert (await world.admit("bob"))[0][0] == "not_yet"
    await world.steer("capacity", 2)


async def handed_over(world: World) -> None:
    """Ann and bob wait; ann goes on with her phone."""
    await w.joined(world)
    assert (await world.join_with(joining("ann-phone", handoff="ann")))[0][0] == "taken_over"


async def handed_over_and_called(world: World) -> None:
    """Ann's place is called, which her phone has."""
    await handed_over(world)
    await w.serve(world)
    world.at(200)


async def left(world: World) -> None:
    """Ann was called and has given up."""
    await w.served(world)
    assert await world.leave("ann") == ["left", 0]


async def left_while_admitted(world: World) -> None:
    """Ann was in and has gone."""
    await w.admitted(world)
    assert await world.leave("ann") == ["left", 0]


async def removed(world: World) -> None:
    """The merchant has taken ann's place away."""
    await w.served(world)
    assert await world.leave("ann", "removed", "a robot") == ["removed", 0]


async def removed_by_identity(world: World) -> None:
    """The merchant has taken the place of whoever ann is."""
    await known(world)
    assert await world.leave("ann", "removed", "a robot") == ["removed", 0]


async def left_by_identity(world: World) -> None:
    """Whoever ann is has given up."""
    await known(world)
    assert await world.leave("ann") == ["left", 0]


async def known(world: World) -> None:
    """The storefront says who ann is."""
    await w.waiting(world)
    await world.join_with(joining("ann", identity="id-ann"))


async def on_many_devices(world: World) -> None:
    """Ann has looked from everywhere."""
    await known(world)
    assert {result[0] for result in await world.join_with(*(joining(f"d{number}", identity="id-ann") for number in range(20)))} == {
        "replayed"
    }


async def known_and_moved(world: World) -> None:
    """The storefront says who ann is, and she goes on with her phone."""
    await known(world)
    assert (await world.join_with(joining("ann-phone", handoff="ann")))[0][0] == "taken_over"


async def code_used(world: World) -> None:
    """Ann has used the only use of code c1."""
    await w.waiting(world)
    await world.join_with(joining("ann", code=["c1", 1]))


async def paused_an_hour_ahead(world: World) -> None:
    """The clock jumped ahead, and the drop was paused for that."""
    await w.served(world)
    world.at(500_000)
    assert await world.steer("pause") == ["done", "paused"]


async def joining_closed(world: World) -> None:
    """Ann and bob wait, and nobody may join any more."""
    await w.joined(world)
    assert await world.steer("joining", "closed") == ["done", "waiting"]


async def drawing(world: World) -> None:
    """A drop with a draw; people may join."""
    await world.open(order="draw")
    world.at(-5_000)


async def two_lines(world: World) -> None:
    """People may join, in a line for everybody or in one for vips."""
    await world.open(groups=(Group("vip", "VIP", 200),))
    world.at(-5_000)


async def ran_out_of_time(world: World) -> None:
    """Nobody has closed the drop, but its time is over."""
    await w.admitted(world)
    world.at(600_000)


async def second_epoch(world: World) -> None:
    """As `reserved`, after a recovery."""
    await w.reserved(world)
    await world.client.hset(w.KEYS.drop, "epoch", 2)


async def fenced(world: World) -> None:
    """Closed to every script."""
    await w.reserved(world)
    assert await world.fence("lost") == "fenced"


async def counter_lost(world: World) -> None:
    """The store has lost the count of its changes."""
    await w.reserved(world)
    await world.client.hdel(KEYS.drop, "sequence")


def line(**fields: Any) -> dict[str, Any]:
    """The line of the vips as recorded, with other `fields`."""
    usual = {"group": "vip", "share": 200, "joined": 0, "entries": -1, "serving": 0, "key": "", "root": "", "credit": 0}
    assert fields.keys() <= usual.keys()
    return usual | fields


SEQUENCE = 6
"""Of the drop in the state `reserved`: opened, joined, two beats, admitted, reserved."""

JOIN = [
    Scenario(
        "join", "joined", w.waiting, ([joining("ann")],), ["joined", 0, 0, t(-5_000), "ann"], when="before the opening",
        changes={"drop": {"joined": "1"}, "tickets": {"ann": ticket(0)}}, replay="replayed",
    ),
    Scenario(
        "join", "joined", w.joined, ([joining("carl")],), ["joined", 2, 1, t(50), "carl"], after_ms=50, replay="replayed",
        when="after it, and nobody has noticed the opening yet",
        changes={"drop": {"joined": "3", "entries": "2"}, "tickets": {"carl": ticket(2, late=1, joined_at_ms=t(50))}},
    ),
    Scenario(
        "join", "joined", w.paused, ([joining("dora")],), ["joined", 3, 1, t(200), "dora"], replay="replayed",
        when="while the drop is paused",
        changes={"drop": {"joined": "4"}, "tickets": {"dora": ticket(3, late=1, joined_at_ms=t(200))}},
    ),
    Scenario("join", "replayed", w.joined, ([joining("bob")],), ["replayed", 1, 0, t(-5_000), "bob"]),
    Scenario("join", "replayed", w.closed, ([joining("bob")],), ["replayed", 1, 0, t(-5_000), "bob"], when="although the drop has closed"),
    Scenario("join", "not_open", w.scheduled, ([joining("ann")],), ["not_open", t(-60_000)]),
    Scenario("join", "closed", w.closed, ([joining("carl")],), ["closed", t(1_000)]),
    Scenario("join", "closed", ran_out_of_time, ([joining("carl")],), ["closed", t(600_000)], when="by its time"),
    Scenario("join", "sold_out", w.all_sold, ([joining("carl")],), ["sold_out", t(1_000)]),
    Scenario("join", "room_full", room_full, ([joining("bob")],), ["room_full", t(-5_000)]),
    Scenario("join", "recovering", w.forgotten, ([joining("carl")],), None),
]  # fmt: skip

TOKEN = {"token_id": "ann-token", "token_issued_at_ms": t(200), "token_expires_at_ms": t(120_200), "admitted_at_ms": t(200)}
AGAIN_MS = w.TOKEN_TTL_MS + 200


def back(place: int, **fields: Any) -> dict[str, Any]:
    """An entry of the admission log: who was called has come."""
    return {"at_ms": t(200), "k": "claimed", "p": [place], "w": [100]} | fields


ADMIT = [
    Scenario(
        "admit", "admitted", w.served, ([admission("ann")],), ["admitted", "ann-token", t(200), t(120_200), 0, "ann"], after_ms=200,
        changes={
            "drop": {"admitted": "1"}, "tickets": {"ann": TOKEN}, "slots": {0: t(5_200)}, "called": {0: GONE},
            "flow": {"claims:1": 1, "entered": 1}, "served": [back(0)],
        },
        replay="replayed",
    ),
    Scenario(
        "admit", "admitted", w.admitted, ([admission("ann", "second")],), when="again, when the token has run out", after_ms=AGAIN_MS,
        answer=["admitted", "ann-second", t(AGAIN_MS), t(2 * w.TOKEN_TTL_MS + 200), 0, "ann"], replay="replayed",
        changes={
            "tickets": {
                "ann": {"token_id": "ann-second", "token_issued_at_ms": t(AGAIN_MS), "token_expires_at_ms": t(2 * w.TOKEN_TTL_MS + 200)}
            },
            "slots": {0: t(AGAIN_MS + w.CLAIM_WINDOW_MS)},
        },
    ),
    Scenario(
        "admit", "admitted", long_called, ([admission("ann")],), when="although nobody waits for them any more", replay="replayed",
        answer=["admitted", "ann-token", t(9_000), t(129_000), 0, "ann"],
        changes={
            "drop": {"admitted": "1"},
            "tickets": {
                "ann": {"token_id": "ann-token", "token_issued_at_ms": t(9_000), "token_expires_at_ms": t(129_000),
                    "admitted_at_ms": t(9_000)}
            },
            "slots": {0: t(14_000)}, "flow": {"entered": 1}, "served": [back(0, at_ms=t(9_000), w=[-1])],
        },
    ),
    Scenario(
        "admit", "admitted", w.called, ([admission("ann", place=0, queue=1)],), after_ms=300, when="in the place that the draw gave",
        answer=["admitted", "ann-token", t(300), t(120_300), 1, "ann"], replay="replayed",
        changes={
            "drop": {"admitted": "1"},
            "tickets": {
                "ann": {
                    "token_id": "ann-token", "token_issued_at_ms": t(300), "token_expires_at_ms": t(120_300), "admitted_at_ms": t(300),
                    "turn": 1,
                }
            },
            "slots": {1: t(5_300)}, "called": {1: GONE}, "flow": {"claims:1": 1, "entered": 1}, "served": [back(1, at_ms=t(300))],
        },
    ),
    Scenario(
        "admit", "admitted", w.called, ([admission("dora")],), after_ms=300, when="by arrival, because she came after the draw",
        answer=["admitted", "dora-token", t(300), t(120_300), 3, "dora"], replay="replayed",
        changes={
            "drop": {"admitted": "1"},
            "tickets": {
                "dora": {"token_id": "dora-token", "token_issued_at_ms": t(300), "token_expires_at_ms": t(120_300),
                    "admitted_at_ms": t(300)}
            },
            "slots": {3: t(5_300)}, "called": {3: GONE}, "flow": {"claims:1": 1, "entered": 1}, "served": [back(3, at_ms=t(300))],
        },
    ),
    Scenario(
        "admit", "admitted", handed_over_and_called, ([admission("ann-phone")],), when="by the device that has the place now",
        answer=["admitted", "ann-phone-token", t(200), t(120_200), 0, "ann"], replay="replayed",
        changes={
            "drop": {"admitted": "1"}, "tickets": {"ann": TOKEN | {"token_id": "ann-phone-token"}}, "slots": {0: t(5_200)},
            "called": {0: GONE}, "flow": {"claims:1": 1, "entered": 1}, "served": [back(0)],
        },
    ),
    Scenario(
        "admit", "replayed", w.admitted, ([admission("ann", "second")],), ["replayed", "ann-token", t(200), t(120_200), 0, "ann"],
        after_ms=9_000,
    ),
    Scenario(
        "admit", "replayed", w.paused, ([admission("ann")],), ["replayed", "ann-token", t(200), t(120_200), 0, "ann"],
        when="although the drop is paused",
    ),
    Scenario("admit", "not_yet", unserved, ([admission("bob")],), ["not_yet", 0, 1]),
    Scenario(
        "admit", "not_yet", slots_taken, ([admission("ann")],), ["not_yet", 3, 0], when="because every slot is taken",
        changes={"returning": {0: 0}}, quiet=True,
    ),
    Scenario(
        "admit", "not_yet", capacity_gone, ([admission("bob")],), ["not_yet", 2, 1], when="and counted as come", quiet=True,
        changes={"returning": {1: 1}, "called": {1: GONE}, "flow": {"claims:1": 2}},
    ),
    Scenario("admit", "not_yet", w.undrawn, ([admission("ann", place=0)],), ["not_yet", 0, -1], when="because nothing is drawn yet"),
    Scenario("admit", "not_yet", w.drawn, ([admission("ann", place=0, queue=1)],), ["not_yet", 0, 1], when="and knows the draw"),
    Scenario("admit", "place", w.called, ([admission("bob")],), ["place", 1]),
    Scenario("admit", "place", w.called, ([admission("bob", place=0, queue=0)],), ["place", 1], when="because it is another's"),
    Scenario("admit", "place", w.called, ([admission("bob", place=1, queue=3)],), ["place", 1], when="because no entry is drawn there"),
    Scenario("admit", "place", w.called, ([admission("bob", place=1)],), ["place", 1], when="because the caller knows no draw"),
    Scenario("admit", "not_open", w.joined, ([admission("ann")],), ["not_open", t(0)]),
    Scenario("admit", "paused", w.paused, ([admission("carl")],), ["paused", t(200)]),
    Scenario("admit", "closed", w.closed, ([admission("ann")],), ["closed", t(1_000)], after_ms=AGAIN_MS),
    Scenario("admit", "sold_out", w.all_sold, ([admission("bob")],), ["sold_out", t(AGAIN_MS)], after_ms=AGAIN_MS),
    Scenario("admit", "ticket_invalid", w.served, ([admission("nobody")],), ["ticket_invalid", 0]),
    Scenario("admit", "moved", handed_over_and_called, ([admission("ann")],), ["moved", 0]),
    Scenario("admit", "left", left, ([admission("ann")],), ["left", 0]),
    Scenario("admit", "left", left_while_admitted, ([admission("ann")],), ["left", 0], when="although the token was good for longer"),
    Scenario("admit", "removed", removed, ([admission("ann")],), ["removed", 0]),
    Scenario("admit", "recovering", w.forgotten, ([admission("bob")],), None),
]  # fmt: skip

DUE = {"beat": str(t(-100) // 100), "advanced_at_ms": str(t(-100))}
ADVANCE = [
    Scenario(
        "advance", "advanced", w.joined, ([100, -1],), None, after_ms=-100, when="before the opening", replay="held",
        changes={"drop": DUE | {"state": "waiting", "state_at_ms": str(t(-100))}, "journal": [{"drop": ["waiting", t(-100)]}]},
    ),
    Scenario(
        "advance", "advanced", unserved_waiting, ([100, -1],), None, after_ms=100, when="and calls people", replay="held",
        changes={
            "drop": {
                "beat": str(t(100) // 100), "advanced_at_ms": str(t(100)), "state": "open", "state_at_ms": str(t(100)), "entries": "2",
                "serving_number": "2", "credit": "98.000000",
            },
            "journal": [{"drop": ["open", t(100)]}], "called": {0: t(100), 1: t(100)}, "served": [{"at_ms": t(100), "from": 0, "to": 2}],
            "flow": {"called": 2, "progress": [[t(100), 2]]},
        },
    ),
    Scenario(
        "advance", "advanced", w.admitted, ([100, -1],), None, after_ms=5_000, replay="held", quiet=True,
        when="and frees nothing before its time",
        changes={"drop": {"beat": str(t(5_000) // 100), "advanced_at_ms": str(t(5_000)), "credit": "2000.000000"}},
    ),
    Scenario(
        "advance", "advanced", w.admitted, ([100, -1],), None, after_ms=5_200, when="and frees slots", replay="held", quiet=True,
        changes={
            "drop": {"beat": str(t(5_200) // 100), "advanced_at_ms": str(t(5_200)), "credit": "2000.000000"},
            "slots": {0: GONE, 1: GONE}, "stats": {"slots_lapsed": 2}, "flow": {"ended": 2, "progress": [[t(100), 2], [t(5_200), 2]]},
        },
    ),
    Scenario(
        "advance", "advanced", w.served, ([100, -1],), None, after_ms=5_100, when="and waits no longer for those who did not come",
        replay="held", quiet=True,
        changes={
            "drop": {"beat": str(t(5_100) // 100), "advanced_at_ms": str(t(5_100)), "credit": "2000.000000"},
            "called": {0: GONE, 1: GONE}, "flow": {"progress": [[t(100), 2], [t(5_100), 2]]},
        },
    ),
    Scenario(
        "advance", "advanced", slot_for_a_returning, ([100, -1],), None, after_ms=300, when="and lets those in who found no slot",
        replay="held", quiet=True,
        changes={
            "drop": {"beat": str(t(300) // 100), "advanced_at_ms": str(t(300)), "credit": "298.000000"},
            "returning": {1: GONE}, "slots": {1: t(5_300)}, "served": [{"at_ms": t(300), "k": "returned", "p": [1]}],
        },
    ),
    Scenario(
        "advance", "advanced", w.all_sold, ([100, -1],), None, after_ms=1_100, when="and tells that everything is sold", replay="held",
        quiet=True,
        changes={
            "drop": {"beat": str(t(1_100) // 100), "advanced_at_ms": str(t(1_100)), "credit": "1098.000000"},
            "served": [{"at_ms": t(1_100), "k": "cut", "p": [2], "why": "sold_out"}], "flow": {"cut_at_ms": t(1_100)},
        },
    ),
    Scenario(
        "advance", "advanced", ran_out_of_time, ([100, -1],), None, when="at the end", replay="held",
        changes={
            "drop": {
                "beat": str(t(600_000) // 100), "advanced_at_ms": str(t(600_000)), "state": "closed", "state_at_ms": str(t(600_000)),
            },
            "journal": [{"drop": ["closed", t(600_000)]}],
        },
    ),
    Scenario("advance", "held", w.served, ([100, -1],), None),
    Scenario("advance", "recovering", w.forgotten, ([100, -1],), None),
]  # fmt: skip

STEER = [
    Scenario(
        "steer_drop", "done", w.served, (["pause", 0],), ["done", "paused"], replay="unchanged",
        changes={
            "drop": {"state": "paused", "state_at_ms": str(t(100)), "paused_ms": "0"}, "journal": [{"drop": ["paused", t(100)]}],
        },
    ),
    Scenario(
        "steer_drop", "done", w.paused, (["resume", 0],), ["done", "open"], after_ms=700, replay="unchanged",
        changes={
            "drop": {"state": "open", "state_at_ms": str(t(700)), "resumed_at_ms": str(t(700)), "paused_ms": "500"},
            "journal": [{"drop": ["open", t(700)]}],
        },
    ),
    Scenario(
        "steer_drop", "done", paused_an_hour_ahead, (["resume", 0],), ["done", "open"], after_ms=700, replay="unchanged",
        when="the clock was wrong when it was paused, and nobody is any younger",
        changes={
            "drop": {"state": "open", "state_at_ms": str(t(700)), "resumed_at_ms": str(t(700)), "paused_ms": "0"},
            "journal": [{"drop": ["open", t(700)]}],
        },
    ),
    Scenario(
        "steer_drop", "done", w.joined, (["open", 0],), ["done", "open"], when="open before its time", replay="unchanged",
        changes={
            "drop": {"state": "open", "state_at_ms": str(t(-5_000)), "opens_at_ms": str(t(-5_000)), "entries": "2"},
            "journal": [{"drop": ["open", t(-5_000)]}],
        },
    ),
    Scenario(
        "steer_drop", "done", w.scheduled, (["open", 0],), ["done", "open"], when="open before anyone may join", replay="unchanged",
        changes={
            "drop": {
                "state": "open", "state_at_ms": str(t(-100_000)), "opens_at_ms": str(t(-100_000)), "joins_at_ms": str(t(-100_000)),
                "entries": "0",
            },
            "journal": [{"drop": ["open", t(-100_000)]}],
        },
    ),
    Scenario("steer_drop", "done", w.served, (["rate_per_min", 7],), ["done", "open"], changes={"drop": {"rate_per_min": "7"}}),
    Scenario("steer_drop", "done", w.served, (["capacity", 9],), ["done", "open"], changes={"drop": {"capacity": "9"}}),
    Scenario("steer_drop", "done", w.closed, (["notice", "Thanks"],), ["done", "closed"], changes={"drop": {"notice": "Thanks"}}),
    Scenario("steer_drop", "done", w.served, (["capacity", DROP.capacity],), ["done", "open"], when="the capacity it has"),
    Scenario(
        "steer_drop", "done", w.joined, (["joining", "closed"],), ["done", "waiting"], when="nobody may join any more",
        changes={"drop": {"joining": "closed"}},
    ),
    Scenario(
        "steer_drop", "done", joining_closed, (["joining", "open"],), ["done", "waiting"], when="people may join again",
        changes={"drop": {"joining": "open"}},
    ),
    Scenario(
        "steer_drop", "done", w.served, (["signal", 500, 60_000],), ["done", "open"], when="what the storefront can take", quiet=True,
        changes={"drop": {"signal": "500", "signal_until_ms": str(t(60_100))}},
    ),
    Scenario(
        "steer_drop", "done", w.grouped, (["open", 0],), ["done", "open"], when="open both lines", replay="unchanged",
        changes={
            "drop": {
                "state": "open", "state_at_ms": str(t(-100)), "opens_at_ms": str(t(-100)), "entries": "2",
                "lines": [line(joined=2, entries=2)],
            },
            "journal": [{"drop": ["open", t(-100)]}],
        },
    ),
    Scenario("steer_drop", "unchanged", w.paused, (["pause", 0],), ["unchanged", "paused"]),
    Scenario("steer_drop", "unchanged", w.served, (["resume", 0],), ["unchanged", "open"]),
    Scenario("steer_drop", "unchanged", w.served, (["open", 0],), ["unchanged", "open"]),
    Scenario("steer_drop", "refused", w.joined, (["pause", 0],), ["refused", "waiting"]),
    Scenario("steer_drop", "refused", w.closed, (["resume", 0],), ["refused", "closed"]),
    Scenario("steer_drop", "refused", w.paused, (["open", 0],), ["refused", "paused"]),
    Scenario("steer_drop", "refused", w.closed, (["capacity", 9],), ["refused", "closed"]),
    Scenario("steer_drop", "recovering", w.forgotten_rules, (["pause", 0],), None),
]  # fmt: skip

DRAWN_LOTS = ["draw", "5e" * 32, [["vip", 200], ["staff", 0]]]
DROPS = [
    Scenario(
        "open_drop", "opened", nothing, ([DIGEST, DEFINITION, RULES, STOCK],), ["opened", 1], replay="replayed", quiet=True,
        changes={"drop": FRESH_DROP, "stock": FRESH_STOCK},
    ),
    Scenario(
        "open_drop", "opened", nothing, ([DIGEST, DEFINITION, RULES, STOCK, DRAWN_LOTS],), ["opened", 1], replay="replayed", quiet=True,
        when="with a draw and groups",
        changes={
            "drop": FRESH_DROP | {"order": "draw", "draw_secret": "5e" * 32, "lines": [line(), line(group="staff", share=0)]},
            "stock": FRESH_STOCK,
        },
    ),
    Scenario("open_drop", "replayed", w.reserved, ([DIGEST, DEFINITION, RULES, STOCK],), ["replayed", 1]),
    Scenario("open_drop", "exists", w.reserved, (["other", DEFINITION, RULES, STOCK],), ["exists", 1]),
    Scenario("open_drop", "exists", only_stock, ([DIGEST, DEFINITION, RULES, STOCK],), ["exists", 0], when="in part"),
    Scenario(
        "close_drop", "closed", w.reserved, (), ["closed", t(5_000)], after_ms=5_000, replay="replayed",
        changes={
            "drop": {"state": "closed", "state_at_ms": str(t(5_000)), "closes_at_ms": str(t(5_000))},
            "journal": [{"drop": ["closed", t(5_000)]}],
        },
    ),
    Scenario(
        "close_drop", "closed", w.joined, (), ["closed", t(-5_000)], when="before the opening", replay="replayed",
        changes={
            "drop": {"state": "closed", "state_at_ms": str(t(-5_000)), "closes_at_ms": str(t(-5_000)), "entries": "2"},
            "journal": [{"drop": ["closed", t(-5_000)]}],
        },
    ),
    Scenario("close_drop", "replayed", w.closed, (), ["replayed", t(1_000)], after_ms=9_000),
    Scenario("close_drop", "recovering", w.forgotten_rules, (), None),
    Scenario(
        "fence", "fenced", w.reserved, ([1, 0, "lost"],), ["fenced", 1, SEQUENCE], replay="replayed", quiet=True,
        changes={"drop": {"fenced": "lost"}},
    ),
    Scenario(
        "fence", "fenced", w.reserved, ([1, SEQUENCE + 1, "lost"],), ["fenced", 1, SEQUENCE], replay="replayed", quiet=True,
        when="because it has not come as far", changes={"drop": {"fenced": "lost"}},
    ),
    Scenario(
        "fence", "fenced", counter_lost, ([1, SEQUENCE, "lost"],), ["fenced", 1, 0], replay="replayed", quiet=True,
        when="because it does not know how far it has come", changes={"drop": {"fenced": "lost"}},
    ),
    Scenario("fence", "replayed", fenced, ([1, 0, "another"],), ["replayed", 1, SEQUENCE], when="and keeps the first reason"),
    Scenario("fence", "refused", w.reserved, ([1, SEQUENCE, "lost"],), ["refused", 1, SEQUENCE], when="because it has come as far"),
    Scenario(
        "fence", "fenced", w.reserved, ([2, 1, "lost"],), ["fenced", 1, SEQUENCE], replay="replayed", quiet=True,
        when="because it is of an earlier epoch", changes={"drop": {"fenced": "lost"}},
    ),
    Scenario("fence", "refused", second_epoch, ([1, 0, "lost"],), ["refused", 2, SEQUENCE], when="because its epoch is a later one"),
    Scenario("fence", "missing", nothing, ([1, 0, "lost"],), ["missing", 0, 0]),
    Scenario("inspect", "found", w.reserved, ([["ann", "nobody"], ["r1", "r9"]],), None),
    Scenario("inspect", "recovering", w.forgotten, ([[], []],), None),
]  # fmt: skip

SCENARIOS = [*JOIN, *ADMIT, *ADVANCE, *STEER, *DROPS]
