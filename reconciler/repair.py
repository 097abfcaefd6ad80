"""Repair of what an audit found, in the safe direction only.

Safe means: no unit becomes available that Postgres does not prove to be free, and nothing is taken from a shopper who was
told that it is theirs. Whatever else is wrong needs `flashsale recover`, which rebuilds the drop from Postgres.

The plan is made from one second look (`reconciler.evidence`) and says by how much each counter is wrong. That difference
stays the same while orders flow, so the plan may be carried out later than it was made.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack

from flashsale.errors import FlashsaleError
from flashsale.model import RepairOutcome, ReservationState
from reconciler.laws import DriftKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flashsale.connections.database import Database
    from flashsale.drops import DropStore
    from flashsale.model import SkuStock
    from flashsale.scripts import Scripts
    from reconciler.evidence import SecondLook

STEPS_MAX = 500
"""Of one call, so that none holds the store up for long."""
REASON = "refused_by_postgres"
"""Of the cancellation of a payment the allotment has no unit for."""

_HOPELESS = {
    DriftKind.ORDER_UNKNOWN: "Postgres has pending or paid orders whose reservations the store has lost",
    DriftKind.ORDER_AHEAD: "Postgres knows more of some orders than the store does: the store went back in time",
    DriftKind.SKU_UNKNOWN: "the store and Postgres do not have the same SKUs",
}

Step = list[Any]
"""As `repair.lua` takes it."""


class RepairRefused(FlashsaleError):
    """The store refused a step: something has changed since the plan was made."""

    code = "repair_refused"


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing to do, in words."""

    what: str
    ids: tuple[str, ...] = ()
    """reservations concerned"""


@dataclass(slots=True)
class Plan:
    """What a repair would do."""

    drop_id: str
    measures: list[Measure] = field(default_factory=list)
    unsafe: list[str] = field(default_factory=list)
    """what is wrong and cannot be repaired safely"""
    set_sold: bool = False
    """Postgres: `sold` becomes the units of the orders counted"""
    cancel: list[str] = field(default_factory=list)
    """reservations whose payment goes back"""
    steps: list[Step] = field(default_factory=list)
    plan_id: str = field(default_factory=lambda: secrets.token_hex(8))
    """makes a repeated call of the same plan have one effect"""


def plan_repair(drop_id: str, look: SecondLook) -> Plan:
    """What can be put right safely, and what cannot."""
    plan, ids = Plan(drop_id), look.misfits.ids
    drifts = look.drifts()
    lost = {drift.sku for drift in drifts if drift.kind in _HOPELESS}
    plan.unsafe += [why for kind, why in _HOPELESS.items() if any(drift.kind is kind for drift in drifts)]
    _plan_sold(plan, look)
    if refused := ids.get(DriftKind.ORDER_REFUSED):
        plan.cancel += refused
        plan.measures.append(Measure("store: take back what Postgres refused to sell; those payments are due for refund", tuple(refused)))
    for sku in look.counters.store.skus:
        if sku in look.counters.postgres.totals and sku not in lost:
            _plan_counters(plan, look, sku)
    _plan_reservations(plan, "expire", "store: let live reservations expire again", ids.get(DriftKind.EXPIRY_MISSING, ()))
    untold = [*ids.get(DriftKind.ORDER_MISSING, ()), *ids.get(DriftKind.ORDER_BEHIND, ())]
    _plan_reservations(plan, "tell", "journal: tell Postgres again of reservations whose news was lost", untold)
    return plan


def _plan_sold(plan: Plan, look: SecondLook) -> None:
    for sku, totals in look.counters.postgres.totals.items():
        if totals.counted_units > totals.allotment:
            plan.unsafe.append(f"{sku}: orders for {totals.counted_units} units are paid, and the allotment is {totals.allotment}")
        elif totals.sold != totals.counted_units:
            plan.set_sold = True
            plan.measures.append(Measure(f"Postgres: set sold of {sku} from {totals.sold} to {totals.counted_units}, as its orders say"))


def _plan_counters(plan: Plan, look: SecondLook, sku: str) -> None:
    stock, allotment = look.counters.store.skus[sku], look.counters.expected_allotment(sku)
    held, sold = look.held[sku, ReservationState.RESERVED], look.held[sku, ReservationState.CONFIRMED]
    cancelled = look.misfits.units(DriftKind.ORDER_REFUSED, sku)
    right = right_stock(stock, allotment, held, sold, cancelled)
    if right is None:
        plan.unsafe.append(f"{sku}: {held + sold} units are reserved and sold, and the allotment is {allotment}")
        return
    now = (stock.allotment, stock.available + cancelled, stock.reserved, stock.sold - cancelled)
    if now != right:
        plan.steps.append(["correct", sku, *(after - before for before, after in zip(now, right, strict=True))])
        names = ("allotment", "available", "reserved", "sold")
        said = [f"{name} {before} → {after}" for name, before, after in zip(names, now, right, strict=True) if before != after]
        plan.measures.append(Measure(f"store: correct {sku}: {', '.join(said)}"))
    if allotment > right[0]:
        plan.steps.append(["lower", sku, allotment - right[0]])
        plan.measures.append(Measure(f"journal: tell Postgres that the allotment of {sku} is {right[0]} and not {allotment}"))


def right_stock(stock: SkuStock, allotment: int, held: int, sold: int, cancelled: int) -> tuple[int, int, int, int] | None:
    """What a SKU's counters must be: (allotment, available, reserved, sold); None when the units do not suffice.

    Args:
        stock: what they are.
        allotment: Postgres'.
        held: units of the live records.
        sold: units of the paid records.
        cancelled: of those, units that are taken back.
    """
    total = stock.available + held + sold
    # Units the store has given up, and Postgres has not heard of it, are not put on sale again.
    given_up = stock.allotment < allotment and total != allotment
    right = stock.allotment if given_up else allotment
    available = right - held - (sold - cancelled)
    return (right, available, held, sold - cancelled) if available >= 0 else None


def _plan_reservations(plan: Plan, word: str, what: str, ids: Sequence[str]) -> None:
    if ids:
        plan.steps += [[word, reservation_id] for reservation_id in sorted(set(ids))]
        plan.measures.append(Measure(what, tuple(sorted(set(ids)))))


class Repairer:
    """Carries plans out."""

    def __init__(self, drops: DropStore, scripts: Scripts, database: Database) -> None:
        self._drops = drops
        self._scripts = scripts
        self._database = database

    async def carry_out(self, plan: Plan) -> None:
        """Pauses the drop and does what the plan says. Repeating it is harmless.

        Raises:
            RepairRefused: something has changed; make a new plan.
            Recovering: the store does not hold the drop.
            StoreUnavailable, StoreUnknown, DatabaseUnavailable: some of it may be done; repeat it.
        """
        await self._drops.pause(plan.drop_id)
        if plan.set_sold:
            async with self._database.transaction() as session:
                # Whoever counts a payment waits for this lock, so what is summed afterwards stays true.
                await session.fetch("skus_lock", plan.drop_id)
                await session.fetch("repair_sold", plan.drop_id)
        for number, ids in enumerate(_chunks(plan.cancel)):
            requests = [[reservation_id, f"repair-{plan.plan_id}-{number}", REASON, 1] for reservation_id in ids]
            await self._scripts.call("release", plan.drop_id, _pack(requests))
        for number, steps in enumerate(_chunks(plan.steps)):
            _, results = await self._scripts.call("repair", plan.drop_id, _pack([f"repair:{plan.plan_id}:{number}", steps]))
            if results[0] == RepairOutcome.REFUSED:
                raise RepairRefused(
                    what=f"The store refused to repair {plan.drop_id}: it would not add up afterwards.",
                    why="Something has changed since the plan was made.",
                    todo=f"Look again with 'flashsale repair {plan.drop_id}'.",
                )


def _chunks(whole: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (whole[start : start + STEPS_MAX] for start in range(0, len(whole), STEPS_MAX))


def _pack(value: Iterable[Any]) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
