"""Scenarios of reservations and units: reserve, confirm, release, extend, expire, adjust_stock."""

from __future__ import annotations

from typing import Any

import msgpack

from tests.lua import world as w
from tests.lua.dump import GONE
from tests.lua.scenario import Scenario, entry, reservation, stock_change, transition
from tests.lua.world import World, extending, paying, releasing, reserving, t

AT = ([1, 1_500, t(1_000), t(61_000)],)


def told(outcome: str, state: int, amount_minor: int = 1_500, expires_after_ms: int = 61_000) -> list[Any]:
    """The answer about ann's r1."""
    return [outcome, state, amount_minor, t(1_000), t(expires_after_ms), 0]


def surplus(reference: str, amount_minor: int, reason: str, **fields: Any) -> dict[str, Any]:
    """The journal entry of a payment that pays nothing."""
    payment = {"request_id": "q-confirm", "payment_reference": reference, "amount_minor": amount_minor, "reason": reason}
    return entry(transition("surplus", **(payment | fields)))


async def one_left(world: World) -> None:
    """Ann holds two of s2's three units and so all that the limits let her."""
    await w.admitted(world)
    world.at(1_000)
    await world.reserve(reserving("ann", "r1", s2=2))


async def one_paid(world: World) -> None:
    """Two of s2's three units are sold."""
    await one_left(world)
    assert (await world.confirm("r1", amount_minor=1_000))[0] == "confirmed"


async def unit_back(world: World) -> None:
    """The only unit is back; bob and carl have waited for it, and it is bob's turn."""
    await w.all_reserved(world)
    assert (await world.release("r1"))[0] == "released"


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


async def paid_twice(world: World) -> None:
    """Ann has paid r1 with pay and then with other."""
    await w.confirmed(world)
    assert (await world.confirm("r1", "other"))[0] == "payment_conflict"


async def wrong_amount_paid(world: World) -> None:
    """The provider has reported less than r1 costs."""
    await w.reserved(world)
    assert (await world.confirm("r1", "pay", 1_499))[0] == "amount_mismatch"


async def extended_and_paid(world: World) -> None:
    """Ann had more time and has paid."""
    await w.extended(world)
    assert (await world.confirm("r1"))[0] == "confirmed"


async def drained(world: World) -> None:
    """Ann's r1 has run out, and its unit of s1 was the last one and has left the drop."""
    await w.draining(world)
    world.at(61_000)
    assert await world.expire() == 1


async def adjusted_and_closed(world: World) -> None:
    """Three units of s1 were added; then the drop ended."""
    await w.reserved(world)
    await world.adjust("a1", "s1", 3)
    await world.close()


async def often_adjusted(world: World) -> None:
    """As many adjustments are on record as may be."""
    await w.reserved(world)
    await world.client.hset(w.KEYS.adjustments, mapping={f"b{number}": msgpack.packb(["s1", 1, 0, t(0)]) for number in range(10_000)})


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
            "flow": {"chose:3": 1, "reserved": 1},
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
        "reserve", "sold_out", one_left, ([reserving("bob", "r2", s1=1, s2=2)],), ["sold_out", ["s1", 5, "s2", 1], 1],
        when="of one SKU, so none of the other is taken", counted={"refused:sold_out": 1}, quiet=True,
        changes={"standby": {1: 1}, "wants": {1: [["s1", 1], ["s2", 2]]}, "asked": {1: t(1_000)}},
    ),
    Scenario(
        "reserve", "sold_out", w.last_unit_reserved, ([reserving("bob", "r2", s1=1)],), ["sold_out", ["s1", 0], 1],
        counted={"refused:sold_out": 1}, quiet=True, changes={"standby": {1: 1}, "wants": {1: [["s1", 1]]}, "asked": {1: t(1_000)}},
    ),
    Scenario(
        "reserve", "sold_out", one_paid, ([reserving("bob", "r2", s2=2)],), ["sold_out", ["s2", 1], 0], when="for good",
        counted={"refused:sold_out": 1},
    ),
    Scenario(
        "reserve", "sold_out", unit_back, ([reserving("carl", "r3", s1=1)],), ["sold_out", ["s1", 1], 1], when="because bob is first",
        counted={"refused:sold_out": 1},
    ),
    Scenario(
        "reserve", "reserved", unit_back, ([reserving("bob", "r2", s1=1)],), ["reserved", 1, 1_000, t(1_000), t(61_000), 1],
        when="what has come back", replay="replayed",
        changes={
            "flow": {"chose:3": 2, "reserved": 2},
            "stock": {"available:s1": 0, "reserved:s1": 1},
            "tickets": {"bob": {"reservations": 1, "live": 1, "units": 1, "held": {"s1": 1}}},
            "reservations": {"r2": reservation(ticket_id="bob", number=1, items=[["s1", 1]], amount_minor=1_000, request_id="q-r2")},
            "expiries": {"r2": t(61_000)}, "slots": {1: t(61_000)}, "stats": {"reserved_units": 2},
            "standby": {1: GONE}, "wants": {1: GONE}, "asked": {1: GONE},
            "journal": [
                entry(
                    transition(
                        "reserved", reservation_id="r2", ticket_id="bob", number=1, items=[["s1", 1]], amount_minor=1_000,
                        request_id="q-r2",
                    )
                )
            ],
        },
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
            "flow": {"paid:8": 1},
            "stock": SOLD, "tickets": {"ann": {"live": 0}}, "reservations": {"r1": PAID}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "journal": [entry(transition("confirmed", at_ms=t(60_999), request_id="q-confirm", payment_reference="pay"))],
        },
    ),
    Scenario(
        "confirm", "confirmed", w.reserved, ([paying("r1")],), told("confirmed", 2), after_ms=61_000, replay="replayed",
        when="late, before anybody has ended it",
        changes={
            "flow": {"paid:9": 1},
            "stock": SOLD, "tickets": {"ann": {"live": 0}}, "reservations": {"r1": PAID}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "stats": {"expired_units": 2, "late_payments_honoured": 1}, "journal": [EXPIRED_THEN_PAID],
        },
    ),
    Scenario(
        "confirm", "confirmed", w.expired, ([paying("r1")],), told("confirmed", 2), after_ms=70_000, replay="replayed",
        when="late, and the units are free",
        changes={
            "flow": {"paid:9": 1},
            "stock": SOLD_AGAIN, "tickets": {"ann": {"units": 2, "held": {"s1": 1, "s2": 1}}}, "reservations": {"r1": PAID},
            "stats": {"late_payments_honoured": 1},
            "journal": [entry(transition("confirmed", at_ms=t(70_000), request_id="q-confirm", payment_reference="pay"))],
        },
    ),
    Scenario(
        "confirm", "confirmed", w.released, ([paying("r1")],), told("confirmed", 2), when="after giving it back", replay="replayed",
        changes={
            "flow": {"paid:1": 1},
            "stock": SOLD_AGAIN, "tickets": {"ann": {"units": 2, "held": {"s1": 1, "s2": 1}}}, "reservations": {"r1": PAID},
            "stats": {"late_payments_honoured": 1},
            "journal": [entry(transition("confirmed", at_ms=t(2_000), request_id="q-confirm", payment_reference="pay"))],
        },
    ),
    Scenario(
        "confirm", "confirmed", w.closed, ([paying("r1")],), told("confirmed", 2), when="after the end", replay="replayed",
        changes={
            "flow": {"paid:1": 1},
            "stock": SOLD, "tickets": {"ann": {"live": 0}}, "reservations": {"r1": PAID}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "journal": [entry(transition("confirmed", request_id="q-confirm", payment_reference="pay"))],
        },
    ),
    Scenario("confirm", "replayed", w.confirmed, ([paying("r1")],), told("replayed", 2), after_ms=99_000),
    Scenario("confirm", "replayed", w.confirmed, ([paying("r1", "pay", 7)],), told("replayed", 2), when="whatever the amount"),
    Scenario(
        "confirm", "confirmed", w.reserved, ([paying("r1", key="k")],), told("confirmed", 2), replay="replayed", when="with a key",
        changes={
            "flow": {"paid:1": 1},
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
        changes={"reservations": {"r1": {"surplus": ["other"]}}, "journal": [surplus("other", 1_500, "paid_twice", at_ms=t(2_000))]},
    ),
    Scenario("confirm", "replayed", w.confirmed_with_key, ([paying("r1")],), told("replayed", 2), when="without the key"),
    Scenario(
        "confirm", "payment_conflict", w.confirmed, ([paying("r1", "other", 7)],), told("payment_conflict", 2),
        changes={"reservations": {"r1": {"surplus": ["other"]}}, "journal": [surplus("other", 7, "paid_twice", at_ms=t(2_000))]},
    ),
    Scenario("confirm", "payment_conflict", paid_twice, ([paying("r1", "other")],), told("payment_conflict", 2), when="once more"),
    Scenario(
        "confirm", "payment_conflict", paid_twice, ([paying("r1", "third")],), told("payment_conflict", 2), when="and a third",
        changes={
            "reservations": {"r1": {"surplus": ["other", "third"]}}, "journal": [surplus("third", 1_500, "paid_twice", at_ms=t(2_000))],
        },
    ),
    Scenario(
        "confirm", "payment_conflict", w.refund_due, ([paying("r1", "other", 1_000)],), told("payment_conflict", 5, 1_000),
        when="with money to go back",
        changes={
            "reservations": {"r1": {"surplus": ["other"]}},
            "journal": [surplus("other", 1_000, "paid_twice", at_ms=t(61_000), items=[["s1", 1]])],
        },
    ),
    Scenario(
        "confirm", "payment_conflict", w.cancelled, ([paying("r1", "other")],), told("payment_conflict", 6),
        when="after the order was cancelled",
        changes={"reservations": {"r1": {"surplus": ["other"]}}, "journal": [surplus("other", 1_500, "paid_twice", at_ms=t(3_000))]},
    ),
    Scenario(
        "confirm", "payment_conflict", wrong_amount_paid, ([paying("r1")],), told("payment_conflict", 1),
        when="because that payment goes back already",
    ),
    Scenario(
        "confirm", "amount_mismatch", w.reserved, ([paying("r1", "pay", 1_499)],), told("amount_mismatch", 1),
        changes={"reservations": {"r1": {"surplus": ["pay"]}}, "journal": [surplus("pay", 1_499, "amount_mismatch")]},
    ),
    Scenario(
        "confirm", "amount_mismatch", w.expired, ([paying("r1", "pay", 1_501)],), told("amount_mismatch", 4), when="and late",
        changes={"reservations": {"r1": {"surplus": ["pay"]}}, "journal": [surplus("pay", 1_501, "amount_mismatch", at_ms=t(61_000))]},
    ),
    Scenario(
        "confirm", "amount_mismatch", w.reserved, ([paying("r1", "pay", 1_499, key="k")],), told("amount_mismatch", 1),
        when="of a storefront, which can say it again",
    ),
    Scenario("confirm", "refund_due", w.cancelled, ([paying("r1")],), told("refund_due", 6), when="after the order was cancelled"),
    Scenario(
        "confirm", "confirmed", w.extended, ([paying("r1")],), told("confirmed", 2, expires_after_ms=91_000), after_ms=90_999,
        when="in the time it was given", replay="replayed",
        changes={
            "flow": {"paid:9": 1},
            "stock": SOLD, "tickets": {"ann": {"live": 0}}, "reservations": {"r1": PAID}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "journal": [
                entry(
                    transition("confirmed", at_ms=t(90_999), expires_at_ms=t(91_000), request_id="q-confirm", payment_reference="pay")
                )
            ],
        },
    ),
    Scenario(
        "confirm", "refund_due", drained, ([paying("r1")],), told("refund_due", 5), when="because the unit was withdrawn",
        changes={
            "reservations": {"r1": {"state": 5, "payment_reference": "pay"}}, "stats": {"late_payments_refused": 1},
            "journal": [
                entry(
                    transition(
                        "refund_due", at_ms=t(61_000), request_id="q-confirm", payment_reference="pay", reason="paid_after_expiry"
                    )
                )
            ],
        },
    ),
    Scenario(
        "confirm", "refund_due", w.refund_due, ([paying("r1", "pay", 1_000)],), told("refund_due", 5, 1_000), when="again",
    ),
    Scenario("confirm", "not_found", w.reserved, ([paying("r9")],), ["not_found", 0]),
    Scenario("confirm", "recovering", w.forgotten, ([paying("r1")],), None),
]  # fmt: skip

RELEASE = [
    Scenario(
        "release", "released", w.reserved, ([["r1", "q", "shopper", 0]],), told("released", 3), after_ms=2_000, replay="replayed",
        changes={
            "flow": {"freed:1": 1},
            "stock": BACK, "tickets": {"ann": EMPTY}, "reservations": {"r1": {"state": 3}}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "journal": [entry(transition("released", at_ms=t(2_000), request_id="q", reason="shopper"))],
        },
    ),
    Scenario("release", "replayed", w.released, ([["r1", "q", "shopper", 0]],), told("replayed", 3)),
    Scenario("release", "expired", w.expired, ([["r1", "q", "shopper", 0]],), told("expired", 4)),
    Scenario("release", "expired", w.refund_due, ([["r1", "q", "shopper", 0]],), told("expired", 5, 1_000), when="and paid too late"),
    Scenario("release", "confirmed", w.confirmed, ([["r1", "q", "shopper", 0]],), told("confirmed", 2)),
    Scenario("release", "not_found", w.reserved, ([["r9", "q", "shopper", 0]],), ["not_found", 0]),
    Scenario("release", "confirmed", w.confirmed, ([releasing("r1")],), told("confirmed", 2), when="whoever asks"),
    Scenario(
        "release", "cancelled", w.confirmed, ([releasing("r1", paid_too=True)],), told("cancelled", 6), after_ms=3_000, replay="replayed",
        changes={
            "stock": {"sold:s1": 0, "available:s1": 5, "sold:s2": 0, "available:s2": 3}, "tickets": {"ann": EMPTY},
            "reservations": {"r1": {"state": 6}},
            "journal": [
                entry(transition("cancelled", at_ms=t(3_000), request_id="q-release", payment_reference="pay", reason="shopper"))
            ],
        },
    ),
    Scenario(
        "release", "released", w.reserved, ([releasing("r1", paid_too=True)],), told("released", 3), replay="replayed",
        when="unpaid by one who may cancel",
        changes={
            "flow": {"freed:1": 1},
            "stock": BACK, "tickets": {"ann": EMPTY}, "reservations": {"r1": {"state": 3}}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "journal": [entry(transition("released", request_id="q-release", reason="shopper"))],
        },
    ),
    Scenario("release", "replayed", w.cancelled, ([releasing("r1")],), told("replayed", 6), when="when it was cancelled"),
    Scenario(
        "release", "released", w.draining, ([releasing("r1")],), told("released", 3), replay="replayed", when="and drained",
        changes={
            "flow": {"freed:1": 1},
            "stock": BACK | {"available:s1": 0, "allotment:s1": 0, "draining:s1": 0}, "tickets": {"ann": EMPTY},
            "reservations": {"r1": {"state": 3}}, "expiries": {"r1": GONE}, "slots": {0: GONE},
            "journal": [
                entry(
                    transition("released", request_id="q-release", reason="shopper"),
                    stock_changes=[stock_change("drain:1:8:s1", "s1", -1, 0, 1_000, "drained")],
                )
            ],
        },
    ),
    Scenario("release", "recovering", w.forgotten, ([["r1", "q", "shopper", 0]],), None),
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
        "expire", "expired", overdue_and_gone, (100,), ["expired", 0], when="none that is not there",
        changes={"expiries": {"r1": GONE}}, quiet=True,
    ),
    Scenario(
        "expire", "expired", paid_and_still_listed, (100,), ["expired", 0], when="only the entry of one that is paid",
        changes={"expiries": {"r1": GONE}}, quiet=True,
    ),
    Scenario(
        "expire", "expired", released_and_still_listed, (100,), ["expired", 0], when="only the entry of one given back",
        changes={"expiries": {"r1": GONE}}, quiet=True,
    ),
    Scenario("expire", "expired", w.extended, (100,), ["expired", 0], after_ms=90_999, when="none that was given more time"),
    Scenario(
        "expire", "expired", w.draining, (100,), ["expired", 1], after_ms=61_000, when="and drained",
        changes={
            "stock": BACK | {"available:s1": 0, "allotment:s1": 0, "draining:s1": 0}, "tickets": {"ann": EMPTY},
            "reservations": {"r1": {"state": 4}}, "expiries": {"r1": GONE}, "slots": {0: GONE}, "stats": {"expired_units": 2},
            "journal": [
                entry(
                    transition("expired", at_ms=t(61_000), reason="expired"),
                    stock_changes=[stock_change("drain:1:8:s1", "s1", -1, 0, 61_000, "drained")],
                )
            ],
        },
    ),
    Scenario("expire", "recovering", w.forgotten, (100,), None),
]  # fmt: skip

EXTENDED = told("extended", 1, expires_after_ms=91_000)

EXTEND = [
    Scenario(
        "extend", "extended", w.reserved, ([extending("r1")],), EXTENDED, after_ms=60_999, replay="replayed",
        changes={
            "reservations": {"r1": {"expires_at_ms": t(91_000), "extend_key": "k-extend"}}, "expiries": {"r1": t(91_000)},
            "slots": {0: t(91_000)},
            "journal": [entry(transition("extended", at_ms=t(60_999), expires_at_ms=t(91_000), request_id="q-extend"))],
        },
    ),
    Scenario(
        "extend", "replayed", w.extended, ([extending("r1", 7)],), told("replayed", 1, expires_after_ms=91_000), when="whatever is asked",
    ),
    Scenario(
        "extend", "replayed", extended_and_paid, ([extending("r1")],), told("replayed", 2, expires_after_ms=91_000), when="when it is sold",
    ),
    Scenario(
        "extend", "replayed", w.extended, ([extending("r1")],), told("replayed", 1, expires_after_ms=91_000), after_ms=91_000,
        when="when it is over",
    ),
    Scenario(
        "extend", "already_extended", w.extended, ([extending("r1", key="k2")],), told("already_extended", 1, expires_after_ms=91_000),
    ),
    Scenario("extend", "ended", w.reserved, ([extending("r1")],), told("ended", 1), after_ms=61_000, when="at this very millisecond"),
    Scenario("extend", "ended", w.expired, ([extending("r1")],), told("ended", 4), when="by its time"),
    Scenario("extend", "ended", w.released, ([extending("r1")],), told("ended", 3), when="given back"),
    Scenario("extend", "ended", w.confirmed, ([extending("r1")],), told("ended", 2), when="paid"),
    Scenario("extend", "ended", w.refund_due, ([extending("r1")],), told("ended", 5, 1_000), when="paid too late"),
    Scenario("extend", "ended", w.cancelled, ([extending("r1")],), told("ended", 6), when="cancelled"),
    Scenario("extend", "not_found", w.reserved, ([extending("r9")],), ["not_found", 0]),
    Scenario("extend", "recovering", w.forgotten, ([extending("r1")],), None),
]  # fmt: skip


def adjustment(delta: int, *, drain: int = 0) -> dict[str, Any]:
    """The record of an adjustment of s1."""
    return {"sku": "s1", "delta": delta, "drain": drain, "at_ms": t(1_000)}


ADJUST_STOCK = [
    Scenario(
        "adjust_stock", "adjusted", w.reserved, (["a1", "s1", 3, 0],), ["adjusted", 8, 7, 1, 0, 0], when="upwards", replay="replayed",
        changes={
            "stock": {"allotment:s1": 8, "available:s1": 7}, "adjustments": {"a1": adjustment(3)},
            "journal": [entry(stock_changes=[stock_change("a1", "s1", 3, 8, 1_000, "added")])],
        },
    ),
    Scenario(
        "adjust_stock", "adjusted", w.reserved, (["a1", "s1", -4, 0],), ["adjusted", 1, 0, 1, 0, 0], when="down to what is held",
        replay="replayed",
        changes={
            "stock": {"allotment:s1": 1, "available:s1": 0}, "adjustments": {"a1": adjustment(-4)},
            "journal": [entry(stock_changes=[stock_change("a1", "s1", -4, 1, 1_000, "withdrawn")])],
        },
    ),
    Scenario(
        "adjust_stock", "adjusted", w.reserved, (["a1", "s1", -4, 1],), ["adjusted", 1, 0, 1, 0, 0], when="with nothing to drain",
        replay="replayed",
        changes={
            "stock": {"allotment:s1": 1, "available:s1": 0}, "adjustments": {"a1": adjustment(-4, drain=1)},
            "journal": [entry(stock_changes=[stock_change("a1", "s1", -4, 1, 1_000, "withdrawn")])],
        },
    ),
    Scenario(
        "adjust_stock", "adjusted", w.draining, (["a2", "s1", 3, 0],), ["adjusted", 3, 2, 1, 0, 0], when="upwards while it drains",
        replay="replayed",
        changes={
            "stock": {"allotment:s1": 3, "available:s1": 2, "draining:s1": 0}, "adjustments": {"a2": adjustment(3)},
            "journal": [
                entry(
                    stock_changes=[
                        stock_change("a2", "s1", 3, 4, 1_000, "added"), stock_change("drain:1:8:s1", "s1", -1, 3, 1_000, "drained"),
                    ]
                )
            ],
        },
    ),
    Scenario(
        "adjust_stock", "draining", w.reserved, (["a1", "s1", -5, 1],), ["draining", 1, 0, 1, 0, 1], replay="replayed",
        changes={
            "stock": {"allotment:s1": 1, "available:s1": 0, "draining:s1": 1}, "adjustments": {"a1": adjustment(-5, drain=1)},
            "journal": [entry(stock_changes=[stock_change("a1", "s1", -4, 1, 1_000, "withdrawn")])],
        },
    ),
    Scenario(
        "adjust_stock", "draining", w.last_unit_reserved, (["a1", "s1", -1, 1],), ["draining", 1, 0, 1, 0, 1], when="with none free",
        replay="replayed",
        changes={
            "stock": {"draining:s1": 1}, "adjustments": {"a1": adjustment(-1, drain=1)},
            "journal": [entry(stock_changes=[stock_change("a1", "s1", 0, 1, 1_000, "withdrawn")])],
        },
    ),
    Scenario("adjust_stock", "replayed", w.draining, (["a1", "s1", -5, 1],), ["replayed", 1, 0, 1, 0, 1]),
    Scenario("adjust_stock", "replayed", adjusted_and_closed, (["a1", "s1", 3, 0],), ["replayed", 8, 7, 1, 0, 0], when="after the end"),
    Scenario("adjust_stock", "key_reused", w.draining, (["a1", "s1", -4, 1],), ["key_reused", 1, 0, 1, 0, 1]),
    Scenario("adjust_stock", "key_reused", w.draining, (["a1", "s2", -5, 1],), ["key_reused", 3, 2, 1, 0, 0], when="for another SKU"),
    Scenario("adjust_stock", "key_reused", w.draining, (["a1", "s1", -5, 0],), ["key_reused", 1, 0, 1, 0, 1], when="in another way"),
    Scenario("adjust_stock", "too_few", w.reserved, (["a1", "s1", -5, 0],), ["too_few", 5, 4, 1, 0, 0]),
    Scenario("adjust_stock", "too_few", w.reserved, (["a1", "s1", -6, 1],), ["too_few", 5, 4, 1, 0, 0], when="even by draining"),
    Scenario("adjust_stock", "too_few", w.draining, (["a2", "s1", -1, 1],), ["too_few", 1, 0, 1, 0, 1], when="because it drains already"),
    Scenario("adjust_stock", "too_few", w.confirmed, (["a1", "s1", -5, 1],), ["too_few", 5, 4, 0, 1, 0], when="because one is sold"),
    Scenario("adjust_stock", "too_many", w.reserved, (["a1", "s1", 9_999_996, 0],), ["too_many", 5, 4, 1, 0, 0]),
    Scenario(
        "adjust_stock", "too_many", often_adjusted, (["a1", "s1", 1, 0],), ["too_many", 5, 4, 1, 0, 0], when="adjustments",
    ),
    Scenario("adjust_stock", "closed", w.closed, (["a1", "s1", 1, 0],), ["closed", 5, 4, 1, 0, 0]),
    Scenario("adjust_stock", "unknown_sku", w.reserved, (["a1", "s9", 1, 0],), ["unknown_sku"]),
    Scenario("adjust_stock", "recovering", w.forgotten, (["a1", "s1", 1, 0],), None),
]  # fmt: skip

SCENARIOS = [*RESERVE, *CONFIRM, *RELEASE, *EXTEND, *EXPIRE, *ADJUST_STOCK]
