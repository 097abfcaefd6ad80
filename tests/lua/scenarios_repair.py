"""Scenarios of repair."""

from __future__ import annotations

from typing import Any

import msgpack

from tests.lua import world as w
from tests.lua.scenario import Scenario, entry, stock_change, transition
from tests.lua.world import World, t

REPAIRED = {"sku": "repair", "delta": 0, "drain": 0, "at_ms": t(1_000)}


def fix(*steps: list[Any]) -> tuple[list[Any]]:
    """The argument."""
    return (["fix", list(steps)],)


async def one_too_many(world: World) -> None:
    """Ann holds r1, and a unit of s1 too much is available."""
    await w.reserved(world)
    await world.client.hincrby(w.KEYS.stock, "available:s1", 1)


async def never_expiring(world: World) -> None:
    """Ann holds r1, which has lost its expiry."""
    await w.reserved(world)
    await world.client.zrem(w.KEYS.expiries, "r1")


async def repaired(world: World) -> None:
    """The expiry is back."""
    await never_expiring(world)
    await world.act("repair", *fix(["expire", "r1"]))


async def often_adjusted(world: World) -> None:
    """As many adjustments are on record as may be."""
    await w.reserved(world)
    await world.client.hset(w.KEYS.adjustments, mapping={f"b{number}": msgpack.packb(["s1", 1, 0, t(0)]) for number in range(10_000)})


def told(kind: str, start: Any, at_ms: int = 1_000, **fields: Any) -> Scenario:
    """A reservation is told of as it is."""
    return Scenario(
        "repair", "repaired", start, fix(["tell", "r1"], ["tell", "nobody"]), ["repaired"], when=f"telling {kind}", replay="replayed",
        changes={
            "adjustments": {"fix": REPAIRED | {"at_ms": t(at_ms)}},
            "journal": [entry(transition(kind, at_ms=t(at_ms), **fields))],
        },
    )  # fmt: skip


async def cancelled(world: World) -> None:
    """Ann has paid r1 and the merchant took it back."""
    await w.confirmed(world)
    await world.act("release", [["r1", "q", "merchant", 1]])


async def refunded(world: World) -> None:
    """Ann's payment came too late."""
    await w.refund_due(world)


SCENARIOS = [
    Scenario(
        "repair", "repaired", one_too_many, fix(["correct", "s1", 0, -1, 0, 0]), ["repaired"], when="a counter", replay="replayed",
        changes={"stock": {"available:s1": 4}, "adjustments": {"fix": REPAIRED}}, quiet=True,
    ),
    Scenario(
        "repair", "repaired", one_too_many, fix(["correct", "s1", -2, -3, 0, 0]), ["repaired"], when="an allotment", replay="replayed",
        changes={"stock": {"allotment:s1": 3, "available:s1": 2}, "adjustments": {"fix": REPAIRED}}, quiet=True,
    ),
    Scenario(
        "repair", "repaired", never_expiring, fix(["expire", "r1"], ["expire", "nobody"]), ["repaired"], when="an expiry",
        replay="replayed", changes={"expiries": {"r1": t(61_000)}, "adjustments": {"fix": REPAIRED}}, quiet=True,
    ),
    Scenario(
        "repair", "repaired", w.reserved, fix(["lower", "s1", 2]), ["repaired"], when="the allotment in Postgres", replay="replayed",
        changes={
            "adjustments": {"fix": REPAIRED},
            "journal": [entry(stock_changes=[stock_change("fix:s1", "s1", -2, 5, 1_000, "repaired")])],
        },
    ),
    told("reserved", w.reserved),
    told("confirmed", w.confirmed, 2_000, payment_reference="pay"),
    told("released", w.released, 2_000, reason="repaired"),
    told("expired", w.expired, 61_000, reason="expired"),
    told("cancelled", cancelled, 2_000, payment_reference="pay", reason="repaired"),
    told(
        "refund_due", refunded, 61_000, payment_reference="pay", reason="repaired", items=[["s1", 1]], amount_minor=1_000,
    ),
    Scenario("repair", "replayed", repaired, fix(["expire", "r1"]), ["replayed"]),
    Scenario("repair", "replayed", repaired, fix(["correct", "s1", 0, 1, 0, 0]), ["replayed"], when="whatever is asked under the id"),
    Scenario("repair", "refused", w.reserved, fix(["correct", "s1", 0, 1, 0, 0]), ["refused"], when="it would not add up"),
    Scenario("repair", "refused", w.reserved, fix(["correct", "s1", -6, -5, -1, 0]), ["refused"], when="it would be negative"),
    Scenario("repair", "refused", w.reserved, fix(["correct", "s9", 0, 0, 0, 0]), ["refused"], when="no such SKU"),
    Scenario("repair", "refused", w.reserved, fix(["lower", "s9", 1]), ["refused"], when="no such SKU to lower"),
    Scenario("repair", "refused", often_adjusted, fix(["tell", "r1"]), ["refused"], when="too many adjustments"),
    Scenario("repair", "recovering", w.forgotten, fix(["tell", "r1"]), None),
]  # fmt: skip
