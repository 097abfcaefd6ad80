"""Scenarios of reservations: reserve, confirm, release, expire."""

from __future__ import annotations

from typing import Any

from tests.lua import world as w
from tests.lua.dump import GONE
from tests.lua.scenario import Scenario, entry, reservation, transition
from tests.lua.world import World, paying, reserving, t

AT = ([1, 1_500, t(1_000), t(61_000)],)


def told(outcome: str, state: int, amount_minor: int = 1_500) -> list[Any]:
    """The answer about ann's r1."""
    return [outcome, state, amount_minor, t(1_000), t(61_000)]


async def one_left(world: World) -> None:
    """Ann holds two of s2's three units and so all that the limits let her."""
    await w.admitted(world)
    world.at(1_000)
    await world.reserve(reserving("ann", "r1", s2=2))


async def often(world: World) -> None:
    """Ann has reserved and given back as often as one may."""
    await w.admitted(world)
    for name in ("r1", "r2", "r3"):
        await world.reserve(reserving("ann", name, s1=1))
        await world.release(name)


async def overdue_and_gone(world: World) -> None:
    """An overdue entry names a reservation that is no longer there."""
    await w.reserved(world)
    await world.client.hdel(w.KEYS.reservations, "r1")
    world.at(61_000)


async def paid_and_still_listed(world: World) -> None:
    """An overdue entry names a reservation that is sold."""
    await w.confirmed(world)
    await world.client.zadd(w.KEYS.expiries, {"r1": t(61_000)})
    world.at(61_000)


async def released_and_still_listed(world: World) -> None:
    """An overdue entry names a reservation whose units are back already."""
    await w.released(world)
    await world.client.zadd(w.KEYS.expiries, {"r1": t(61_000)})
    world.at(61_000)


UNITS = {"available:s1": 4, "reserved:s1": 1, "available:s2": 2, "reserved:s2": 1}
SOLD = {"reserved:s1": 0, "sold:s1": 1, "reserved:s2": 0, "sold:s2": 1}
SOLD_AGAIN = {"available:s1": 4, "sold:s1": 1, "available:s2": 2, "sold:s2": 1}
BACK = {"reserved:s1": 0, "available:s1": 5, "reserved:s2": 0, "available:s2": 3}
HOLDING = {"reservations": 1, "live": 1, "units": 2, "held": {"s1": 1, "s2": 1}}
EMPTY = {"live": 0, "units": 0, "held": {}}

RESERVE = [
    Scenario(
        "reserve", "reserved", w.admitted, ([reserving("ann", "r1", s1=1, s2=1)],), told("reserved", 1), after_ms=1_000, replay="replayed",
        changes={
            "stock": UNITS, "tickets": {"ann": HOLDING}, "reservations": {"r1": reservation()}, "expiries": {"r1": t(61_000)},
            "slots": {0: t(61_000)}, "stats": {"reserved_units": 2}, "journal": [entry(transition("reserved", request_id="q-r1"))],
        },
    ),
    Scenario("reserve", "replayed", w.reserved, ([reserving("ann", "r1", s1=1, s2=1)],), told("replayed", 1), after_ms=9_000),
    Scenario("reserve", "replayed", w.confirmed, ([reserving("ann", "r1", s1=1, s2=1)],), told("replayed", 2), when="when it is sold"),
    Scenario("reserve", "replayed", w.expired, ([reserving("ann", "r1", s1=1, s2=1)],), told("replayed", 4), when="when it ran out"),
    Scenario("reserve", "replayed", w.closed, ([reserving("ann", "r1", s1=1, s2=1)],), told("replayed", 1), when="after the end"),
    Scenario(
        "reserve", "replayed", w.last_unit_reserved, ([reserving("ann", "r1", s1=1)],), told("replayed", 1, 1_000),
        when="although no unit is left",
    ),
    Scenario(
        "reserve", "replayed", w.reserved, ([reserving("ann", "r1", "other", s1=1, s2=1)],), told("replayed", 1), after_ms=500_000,
        when="although the token is another and has run out",
    ),
    Scenario("reserve", "key_reused", w.reserved, ([reserving("ann", "r1", s1=1)],), ["key_reused", 0]),
    Scenario("reserve", "key_reused", w.reserved, ([reserving("ann", "r1", s1=1, s2=2)],), ["key_reused", 0], when="other quantity"),
    Scenario(
        "reserve", "not_open", w.joined, ([reserving("ann", "r1", s1=1)],), ["not_open", t(0)], counted={"refused:not_open": 1},
    ),
    Scenario("reserve", "paused", w.paused, ([reserving("ann", "r1", s1=1)],), ["paused", t(200)], counted={"refused:paused": 1}),
    Scenario("reserve", "closed", w.closed, ([reserving("bob", "r2", s1=1)],), ["closed", t(1_000)], counted={"refused:closed": 1}),
    Scenario("reserve", "token_invalid", w.admitted, ([reserving("ann", "r1", "other", s1=1)],), ["token_invalid", 0]),
    Scenario("reserve", "token_invalid", w.admitted, ([reserving("nobody", "r1", s1=1)],), ["token_invalid", 0], when="without a ticket"),
    Scenario("reserve", "token_invalid", w.served, ([reserving("ann", "r1", s1=1)],), ["token_invalid", 0], when="never admitted"),
    Scenario(
        "reserve", "token_expired", w.admitted, ([reserving("ann", "r1", s1=1)],), ["token_expired", t(120_200)], after_ms=120_200,
    ),
    Scenario("reserve", "unknown_sku", w.admitted, ([reserving("ann", "r1", s1=1, s9=1)],), ["unknown_sku", 0]),
    Scenario(
        "reserve", "limit_reached", w.admitted, ([reserving("ann", "r1", s1=3)],), ["limit_reached", 2, 0], when="of a SKU",
        counted={"refused:limit_reached": 1},
    ),
    Scenario(
        "reserve", "limit_reached", w.reserved, ([reserving("ann", "r2", s1=2)],), ["limit_reached", 2, 1], when="with those held",
        counted={"refused:limit_reached": 1},
    ),
    Scenario(
        "reserve", "limit_reached", w.confirmed, ([reserving("ann", "r2", s1=2)],), ["limit_reached", 2, 1],
        when="with those owned", counted={"refused:limit_reached": 1},
    ),
    Scenario(
        "reserve", "limit_reached", w.admitted, ([reserving("ann", "r1", s1=2, s2=2)],), ["limit_reached", 3, 0], when="of the drop",
        counted={"refused:limit_reached": 1},
    ),
    Scenario(
        "reserve", "limit_reached", often, ([reserving("ann", "r4", s1=1)],), ["limit_reached", 3, 3], when="of reservations",
        counted={"refused:limit_reached": 1},
    ),
    Scenario(
        "reserve", "sold_out", one_left, ([reserving("bob", "r2", s1=1, s2=2)],), ["sold_out", ["s1", 5, "s2", 1]],
        when="of one SKU, so none of the other is taken", counted={"refused:sold_out": 1},
    ),
    Scenario(
        "reserve", "sold_out", w.last_unit_reserved, ([reserving("bob", "r2", s1=1)],), ["sold_out", ["s1", 0]],
        counted={"refused:sold_out": 1},
    ),
    Scenario("reserve", "recovering", w.forgotten, ([reserving("ann", "r1", s1=1, s2=1)],), None),
]  # fmt: skip

PAID = {"state": 2, "payment_reference": "pay"}
EXPIRED_THEN_PAID = entry(
    transition("expired", at_ms=t(61_000), reason="expired"),
    transition("confirmed", at_ms=t(61_000), request_id="q-confirm", payment_reference="pay"),
)

CONFIRM = [
    Scenario(
        "confirm", "confirmed", w.reserved, ([paying("r1")],), told("confirmed", 2), after_ms=60_999, replay="replayed",
        changes={
            "stock": SOLD, "tickets": {"ann": {"live": 0}}, "reservations": {"r1": PAID}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "journal": [entry(transition("confirmed", at_ms=t(60_999), request_id="q-confirm", payment_reference="pay"))],
        },
    ),
    Scenario(
        "confirm", "confirmed", w.reserved, ([paying("r1")],), told("confirmed", 2), after_ms=61_000, replay="replayed",
        when="late, before anybody has ended it",
        changes={
            "stock": SOLD, "tickets": {"ann": {"live": 0}}, "reservations": {"r1": PAID}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "stats": {"expired_units": 2, "late_payments_honoured": 1}, "journal": [EXPIRED_THEN_PAID],
        },
    ),
    Scenario(
        "confirm", "confirmed", w.expired, ([paying("r1")],), told("confirmed", 2), after_ms=70_000, replay="replayed",
        when="late, and the units are free",
        changes={
            "stock": SOLD_AGAIN, "tickets": {"ann": {"units": 2, "held": {"s1": 1, "s2": 1}}}, "reservations": {"r1": PAID},
            "stats": {"late_payments_honoured": 1},
            "journal": [entry(transition("confirmed", at_ms=t(70_000), request_id="q-confirm", payment_reference="pay"))],
        },
    ),
    Scenario(
        "confirm", "confirmed", w.released, ([paying("r1")],), told("confirmed", 2), when="after giving it back", replay="replayed",
        changes={
            "stock": SOLD_AGAIN, "tickets": {"ann": {"units": 2, "held": {"s1": 1, "s2": 1}}}, "reservations": {"r1": PAID},
            "stats": {"late_payments_honoured": 1},
            "journal": [entry(transition("confirmed", at_ms=t(2_000), request_id="q-confirm", payment_reference="pay"))],
        },
    ),
    Scenario(
        "confirm", "confirmed", w.closed, ([paying("r1")],), told("confirmed", 2), when="after the end", replay="replayed",
        changes={
            "stock": SOLD, "tickets": {"ann": {"live": 0}}, "reservations": {"r1": PAID}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "journal": [entry(transition("confirmed", request_id="q-confirm", payment_reference="pay"))],
        },
    ),
    Scenario("confirm", "replayed", w.confirmed, ([paying("r1")],), told("replayed", 2), after_ms=99_000),
    Scenario("confirm", "replayed", w.confirmed, ([paying("r1", "pay", 7)],), told("replayed", 2), when="whatever the amount"),
    Scenario(
        "confirm", "confirmed", w.reserved, ([paying("r1", key="k")],), told("confirmed", 2), replay="replayed", when="with a key",
        changes={
            "stock": SOLD, "tickets": {"ann": {"live": 0}}, "reservations": {"r1": PAID | {"confirm_key": "k"}}, "expiries": {"r1": GONE},
            "slots": {0: GONE}, "journal": [entry(transition("confirmed", request_id="q-confirm", payment_reference="pay"))],
        },
    ),
    Scenario("confirm", "key_reused", w.confirmed_with_key, ([paying("r1", "other", key="k")],), told("key_reused", 2)),
    Scenario(
        "confirm", "key_reused", w.confirmed_with_key, ([paying("r1", "pay", 7, key="k")],), told("key_reused", 2),
        when="for another amount",
    ),
    Scenario(
        "confirm", "payment_conflict", w.confirmed_with_key, ([paying("r1", "other", key="k2")],), told("payment_conflict", 2),
        when="with another key",
    ),
    Scenario("confirm", "replayed", w.confirmed_with_key, ([paying("r1")],), told("replayed", 2), when="without the key"),
    Scenario("confirm", "payment_conflict", w.confirmed, ([paying("r1", "other")],), told("payment_conflict", 2)),
    Scenario(
        "confirm", "payment_conflict", w.refund_due, ([paying("r1", "other", 1_000)],), told("payment_conflict", 5, 1_000),
        when="with money to go back",
    ),
    Scenario("confirm", "amount_mismatch", w.reserved, ([paying("r1", "pay", 1_499)],), told("amount_mismatch", 1)),
    Scenario("confirm", "amount_mismatch", w.expired, ([paying("r1", "pay", 1_501)],), told("amount_mismatch", 4), when="and late"),
    Scenario(
        "confirm", "refund_due", w.refund_due, ([paying("r1", "pay", 1_000)],), told("refund_due", 5, 1_000), when="again",
    ),
    Scenario("confirm", "not_found", w.reserved, ([paying("r9")],), ["not_found", 0]),
    Scenario("confirm", "recovering", w.forgotten, ([paying("r1")],), None),
]  # fmt: skip

RELEASE = [
    Scenario(
        "release", "released", w.reserved, ([["r1", "q", "shopper"]],), told("released", 3), after_ms=2_000, replay="replayed",
        changes={
            "stock": BACK, "tickets": {"ann": EMPTY}, "reservations": {"r1": {"state": 3}}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "journal": [entry(transition("released", at_ms=t(2_000), request_id="q", reason="shopper"))],
        },
    ),
    Scenario("release", "replayed", w.released, ([["r1", "q", "shopper"]],), told("replayed", 3)),
    Scenario("release", "expired", w.expired, ([["r1", "q", "shopper"]],), told("expired", 4)),
    Scenario("release", "expired", w.refund_due, ([["r1", "q", "shopper"]],), told("expired", 5, 1_000), when="and paid too late"),
    Scenario("release", "confirmed", w.confirmed, ([["r1", "q", "shopper"]],), told("confirmed", 2)),
    Scenario("release", "not_found", w.reserved, ([["r9", "q", "shopper"]],), ["not_found", 0]),
    Scenario("release", "recovering", w.forgotten, ([["r1", "q", "shopper"]],), None),
]  # fmt: skip

EXPIRE = [
    Scenario(
        "expire", "expired", w.reserved, (100,), ["expired", 1], after_ms=61_000,
        changes={
            "stock": BACK, "tickets": {"ann": EMPTY}, "reservations": {"r1": {"state": 4}}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "stats": {"expired_units": 2}, "journal": [entry(transition("expired", at_ms=t(61_000), reason="expired"))],
        },
    ),
    Scenario("expire", "expired", w.reserved, (100,), ["expired", 0], after_ms=60_999, when="none a millisecond early"),
    Scenario("expire", "expired", w.confirmed, (100,), ["expired", 0], after_ms=99_000, when="none that is paid"),
    Scenario("expire", "expired", w.released, (100,), ["expired", 0], after_ms=99_000, when="none that was given back"),
    Scenario(
        "expire", "expired", overdue_and_gone, (100,), ["expired", 0], when="none that is not there", changes={"expiries": {"r1": GONE}},
    ),
    Scenario(
        "expire", "expired", paid_and_still_listed, (100,), ["expired", 0], when="only the entry of one that is paid",
        changes={"expiries": {"r1": GONE}},
    ),
    Scenario(
        "expire", "expired", released_and_still_listed, (100,), ["expired", 0], when="only the entry of one given back",
        changes={"expiries": {"r1": GONE}},
    ),
    Scenario("expire", "recovering", w.forgotten, (100,), None),
]  # fmt: skip

SCENARIOS = [*RESERVE, *CONFIRM, *RELEASE, *EXPIRE]
