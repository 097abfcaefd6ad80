"""What must hold of the sums: in the store, in Postgres, between the two, and at every step of the journal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from loadtest.checker.bounds import allotment_peak, allotment_range
from loadtest.checker.model import Claim, History, Rules
from loadtest.checker.state import FIRST_EPOCH, FinalState, Items, SkuState
from loadtest.checker.violations import Name, Violation

COUNTED = frozenset({"paid"})
_FITTING = {
    "reserved": frozenset({"pending"}),
    "confirmed": frozenset({"paid", "refund_due", "refunded", "cancelled"}),
    "released": frozenset({"cancelled"}),
    "expired": frozenset({"expired"}),
    "refund_due": frozenset({"refund_due", "refunded"}),
    "cancelled": frozenset({"cancelled", "refund_due", "refunded"}),
}
"""state in the store to the states its order may have in Postgres. A sale that Postgres refused is refund_due there."""

_ENDED = ("released", "expired")
_STEPS = frozenset({"reserved", "confirmed", *_ENDED, "refund_due", "cancelled"})
"""transitions to another state; others only add to one"""


def check_ledger(history: History, state: FinalState, rules: Rules) -> Iterator[Violation]:
    """Everything that does not add up."""
    reserved = _units(record.items for record in state.reservations if record.state == "reserved")
    confirmed = _units(record.items for record in state.reservations if record.state == "confirmed")
    paid = _units(order.items for order in state.orders if order.state in COUNTED)
    made_anew = state.epoch > FIRST_EPOCH
    for sku in state.skus:
        yield from _store(sku, reserved[sku.sku], confirmed[sku.sku], made_anew=made_anew)
        yield from _database(sku, paid[sku.sku])
        yield from _allotment(sku, history)
    if not rules.losses:
        for claim in history.claims.values():
            yield from _between(claim, made_anew=made_anew)
        yield from _journal(history, state)
    if rules.records_complete(state):
        yield from _ended_early_and_paid(history, state)


def _units(all_items: Iterable[Items]) -> Counter[str]:
    total: Counter[str] = Counter()
    for items in all_items:
        for sku, quantity in items:
            total[sku] += quantity
    return total


def _store(sku: SkuState, reserved: int, confirmed: int, *, made_anew: bool) -> Iterator[Violation]:
    if sku.allotment != sku.available + sku.reserved + sku.sold or min(sku.available, sku.reserved, sku.sold) < 0:
        yield _does_not_add_up(
            f"In the store {sku.sku} has {sku.available} available, {sku.reserved} reserved and {sku.sold} sold of {sku.allotment}."
        )
    if reserved != sku.reserved:
        yield _does_not_add_up(f"The store counts {sku.reserved} units of {sku.sku} as reserved; its live reservations hold {reserved}.")
    if confirmed > sku.sold or (confirmed < sku.sold and not made_anew):
        yield _does_not_add_up(f"The store counts {sku.sold} units of {sku.sku} as sold; its confirmed reservations hold {confirmed}.")


def _database(sku: SkuState, paid: int) -> Iterator[Violation]:
    if paid != sku.database_sold:
        yield _does_not_add_up(f"Postgres counts {sku.database_sold} units of {sku.sku} as sold; its paid orders hold {paid}.")
    if sku.database_allotment != sku.allotment:
        yield _does_not_add_up(f"The store has an allotment of {sku.allotment} of {sku.sku}, Postgres one of {sku.database_allotment}.")


def _allotment(sku: SkuState, history: History) -> Iterator[Violation]:
    lowest, highest = allotment_range(history, sku.sku, sku.allotment_first)
    if not lowest <= sku.allotment <= highest:
        yield _does_not_add_up(
            f"{sku.sku} was defined with {sku.allotment_first} units; with what was added and withdrawn there are {lowest} to {highest}, "
            f"and the store has {sku.allotment}."
        )


def _between(claim: Claim, *, made_anew: bool) -> Iterator[Violation]:
    if claim.record is None and claim.order is not None and not made_anew:
        yield Violation.of(Name.STORES_DISAGREE, f"The {claim.where} is {claim.order.state} in Postgres and not in the store.", claim.names)
    if claim.record is not None and claim.order is not None:
        fitting = _FITTING.get(claim.record.state, frozenset())
        if claim.order.state not in fitting or sorted(claim.record.items) != sorted(claim.order.items):
            yield Violation.of(
                Name.STORES_DISAGREE,
                f"The {claim.where} is {claim.record.state} in the store with {claim.record.items}, "
                f"and {claim.order.state} in Postgres with {claim.order.items}.",
                claim.names,
            )


# ---------------------------------------------------------------------------------------------------------------- journal


def _journal(history: History, state: FinalState) -> Iterator[Violation]:
    """Each reservation's transitions are a path of its states, and at no step are more units out than there are."""
    last: dict[str, str] = {}
    for step in state.journal:
        if step.kind not in _STEPS:
            continue
        before = last.get(step.reservation_id)
        name = _misstep(before, step.kind)
        if name:
            claim = history.claim(step.reservation_id)
            yield Violation.of(name, f"The journal has the {claim.where} {step.kind} after {before}.", claim.names)
        last[step.reservation_id] = step.kind
    yield from _oversold_on_the_way(history, state)


def _misstep(before: str | None, kind: str) -> Name | None:
    """What is wrong with a transition that follows `before`; None when nothing is, or nothing can be known."""
    if before is None:
        return None
    if kind == "reserved":
        return Name.DUPLICATE_RESERVATION
    if kind in _ENDED:
        return Name.RELEASED_TWICE if before in _ENDED else Name.LOST_ORDER if before == "confirmed" else None
    return Name.DUPLICATE_ORDER if kind == before == "confirmed" else None


def _oversold_on_the_way(history: History, state: FinalState) -> Iterator[Violation]:
    """Every prefix of the journal. Reservations whose beginning is not in it any more are left out."""
    out: defaultdict[str, int] = defaultdict(int)
    live: set[str] = set()
    highest = {sku.sku: allotment_peak(history, sku.sku, sku.allotment_first) for sku in state.skus}
    for step in state.journal:
        held = step.reservation_id in live
        taken = step.kind in ("reserved", "confirmed") and not held
        back = held and step.kind in (*_ENDED, "cancelled", "refund_due")
        if taken or back:
            (live.add if taken else live.discard)(step.reservation_id)
            for sku, quantity in step.items:
                out[sku] += quantity if taken else -quantity
                if taken and out[sku] > highest.get(sku, 0):
                    yield Violation.of(
                        Name.OVERSOLD,
                        f"At {step.at_ms} the journal has {out[sku]} units of {sku} out, and there are {highest.get(sku, 0)}.",
                        history.claim(step.reservation_id).names,
                    )
                    return


def _ended_early_and_paid(history: History, state: FinalState) -> Iterator[Violation]:
    """Expiries before their time whose trace a later payment has taken from the order."""
    for step in state.journal:
        claim = history.claims.get(step.reservation_id) if step.kind == "expired" else None
        if claim is None or claim.record is None or claim.record.state == "expired":
            continue
        if step.at_ms < claim.record.expires_at_ms:
            sentence = f"The {claim.where} was to last until {claim.record.expires_at_ms}, and the journal has it expired at {step.at_ms}."
            yield Violation.of(Name.EXPIRED_EARLY, sentence, claim.names)


def _does_not_add_up(sentence: str) -> Violation:
    return Violation.of(Name.NOT_CONSERVED, sentence)
