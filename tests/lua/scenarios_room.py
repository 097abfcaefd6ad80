"""Scenarios of the waiting room and of the drop itself: open_drop, join, admit, advance, steer_drop, close_drop, inspect."""

from __future__ import annotations

from flashsale.drops import digest_of, encode_drop
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
    await world.admit("ann")
    for after_ms in (w.CLAIM_WINDOW_MS + 1_000, w.TOKEN_TTL_MS + 1_000):
        world.at(after_ms)
        await world.beat()


async def unserved(world: World) -> None:
    """Open, with nobody served yet."""
    await w.joined(world)
    world.at(10)


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


SEQUENCE = 6
"""Of the drop in the state `reserved`: opened, joined, two beats, admitted, reserved."""

JOIN = [
    Scenario(
        "join", "joined", w.waiting, ([joining("ann")],), ["joined", 0, 0, t(-5_000)], when="before the opening",
        changes={"drop": {"joined": "1"}, "tickets": {"ann": ticket(0, "ann")}}, replay="replayed",
    ),
    Scenario(
        "join", "joined", w.joined, ([joining("carl")],), ["joined", 2, 1, t(50)], after_ms=50, replay="replayed",
        when="after it, and nobody has noticed the opening yet",
        changes={"drop": {"joined": "3", "entries": "2"}, "tickets": {"carl": ticket(2, "carl", late=1, joined_at_ms=t(50))}},
    ),
    Scenario(
        "join", "joined", w.paused, ([joining("dora")],), ["joined", 3, 1, t(200)], when="while the drop is paused", replay="replayed",
        changes={"drop": {"joined": "4"}, "tickets": {"dora": ticket(3, "dora", late=1, joined_at_ms=t(200))}},
    ),
    Scenario("join", "replayed", w.joined, ([joining("bob")],), ["replayed", 1, 0, t(-5_000)]),
    Scenario("join", "replayed", w.closed, ([joining("bob")],), ["replayed", 1, 0, t(-5_000)], when="although the drop has closed"),
    Scenario("join", "not_open", w.scheduled, ([joining("ann")],), ["not_open", t(-60_000)]),
    Scenario("join", "closed", w.closed, ([joining("carl")],), ["closed", t(1_000)]),
    Scenario("join", "closed", ran_out_of_time, ([joining("carl")],), ["closed", t(600_000)], when="by its time"),
    Scenario("join", "sold_out", w.all_sold, ([joining("carl")],), ["sold_out", t(1_000)]),
    Scenario("join", "room_full", room_full, ([joining("bob")],), ["room_full", t(-5_000)]),
    Scenario("join", "ticket_invalid", w.joined, ([["ann", "another-secret"]],), ["ticket_invalid", 0]),
    Scenario("join", "recovering", w.forgotten, ([joining("carl")],), None),
]  # fmt: skip

TOKEN = {"token_id": "ann-token", "token_issued_at_ms": t(200), "token_expires_at_ms": t(120_200), "admitted_at_ms": t(200)}
AGAIN_MS = w.TOKEN_TTL_MS + 200

ADMIT = [
    Scenario(
        "admit", "admitted", w.served, ([admission("ann")],), ["admitted", "ann-token", t(200), t(120_200), 0], after_ms=200,
        changes={"drop": {"admitted": "1"}, "tickets": {"ann": TOKEN}, "slots": {0: t(5_200)}}, replay="replayed",
    ),
    Scenario(
        "admit", "admitted", w.admitted, ([admission("ann", "second")],), when="again, when the token has run out", after_ms=AGAIN_MS,
        answer=["admitted", "ann-second", t(AGAIN_MS), t(2 * w.TOKEN_TTL_MS + 200), 0], replay="replayed",
        changes={
            "tickets": {
                "ann": {"token_id": "ann-second", "token_issued_at_ms": t(AGAIN_MS), "token_expires_at_ms": t(2 * w.TOKEN_TTL_MS + 200)}
            },
            "slots": {0: t(AGAIN_MS + w.CLAIM_WINDOW_MS)},
        },
    ),
    Scenario(
        "admit", "replayed", w.admitted, ([admission("ann", "second")],), ["replayed", "ann-token", t(200), t(120_200), 0], after_ms=9_000,
    ),
    Scenario(
        "admit", "replayed", w.paused, ([admission("ann")],), ["replayed", "ann-token", t(200), t(120_200), 0],
        when="although the drop is paused",
    ),
    Scenario("admit", "not_yet", unserved, ([admission("bob")],), ["not_yet", 0, 1]),
    Scenario(
        "admit", "not_yet", slots_taken, ([admission("ann")],), ["not_yet", 3, 0], when="because every slot is taken",
        changes={"returning": {0: 0}}, quiet=True,
    ),
    Scenario("admit", "not_open", w.joined, ([admission("ann")],), ["not_open", t(0)]),
    Scenario("admit", "paused", w.paused, ([admission("carl")],), ["paused", t(200)]),
    Scenario("admit", "closed", w.closed, ([admission("ann")],), ["closed", t(1_000)], after_ms=AGAIN_MS),
    Scenario("admit", "sold_out", w.all_sold, ([admission("bob")],), ["sold_out", t(AGAIN_MS)], after_ms=AGAIN_MS),
    Scenario("admit", "ticket_invalid", w.served, ([["ann", "another-secret", "ann-token"]],), ["ticket_invalid", 0]),
    Scenario("admit", "ticket_invalid", w.served, ([admission("nobody")],), ["ticket_invalid", 0], when="without a ticket"),
    Scenario("admit", "recovering", w.forgotten, ([admission("bob")],), None),
]  # fmt: skip

ADVANCE = [
    Scenario(
        "advance", "advanced", w.joined, ([100, -1],), None, after_ms=-100, when="before the opening", replay="held",
        changes={
            "drop": {"beat": str(t(-100) // 100), "advanced_at_ms": str(t(-100)), "state": "waiting", "state_at_ms": str(t(-100))},
            "journal": [{"drop": ["waiting", t(-100)]}],
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
            "slots": {0: GONE, 1: GONE},
            "stats": {"slots_lapsed": 2},
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
        changes={"drop": {"state": "paused", "state_at_ms": str(t(100))}, "journal": [{"drop": ["paused", t(100)]}]},
    ),
    Scenario(
        "steer_drop", "done", w.paused, (["resume", 0],), ["done", "open"], after_ms=700, replay="unchanged",
        changes={"drop": {"state": "open", "state_at_ms": str(t(700))}, "journal": [{"drop": ["open", t(700)]}]},
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
    Scenario("steer_drop", "unchanged", w.paused, (["pause", 0],), ["unchanged", "paused"]),
    Scenario("steer_drop", "unchanged", w.served, (["resume", 0],), ["unchanged", "open"]),
    Scenario("steer_drop", "unchanged", w.served, (["open", 0],), ["unchanged", "open"]),
    Scenario("steer_drop", "refused", w.joined, (["pause", 0],), ["refused", "waiting"]),
    Scenario("steer_drop", "refused", w.closed, (["resume", 0],), ["refused", "closed"]),
    Scenario("steer_drop", "refused", w.paused, (["open", 0],), ["refused", "paused"]),
    Scenario("steer_drop", "refused", w.closed, (["capacity", 9],), ["refused", "closed"]),
    Scenario("steer_drop", "recovering", w.forgotten_rules, (["pause", 0],), None),
]  # fmt: skip

DROPS = [
    Scenario(
        "open_drop", "opened", nothing, ([DIGEST, DEFINITION, RULES, STOCK],), ["opened", 1], replay="replayed", quiet=True,
        changes={"drop": FRESH_DROP, "stock": FRESH_STOCK},
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
