"""Exhaustive search for an order of the operations that explains every answer.

Wing and Gong's algorithm ("Testing and verifying concurrent objects", 1993) with Lowe's memory of configurations seen
("Testing for linearizability", 2017), on the partitions that cannot influence one another: SKUs that no reservation takes
together (Horn and Kroening, "Faster linearizability checking via P-compositionality", 2015).

The search is exponential in the worst case. It is for small histories, and gives up after `CONFIGURATIONS_MAX`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from loadtest.checker.model import FOREVER_NS, REFUND_WORDS, Claim, History, Operation, Rules, Timeline
from loadtest.checker.standby import demand_before
from loadtest.checker.state import FinalState
from loadtest.checker.violations import Name, Violation
from loadtest.history import Items, Kind, Step

CONFIGURATIONS_MAX = 100_000

ABSENT, RESERVED, SOLD, RELEASED, EXPIRED, REFUND_DUE, CANCELLED = range(7)
_SEARCHED = frozenset({Kind.RESERVE, Kind.RELEASE, Kind.CONFIRM, Kind.WEBHOOK, Kind.CANCEL_ORDER})

State = tuple[tuple[int, ...], tuple[int, ...]]
"""(free units by SKU, state of each reservation)"""


class Deed(Enum):
    """What an operation does if its turn comes, and what must be true for its answer."""

    RESERVE = "reserve"
    SOLD_OUT = "sold_out"
    RELEASE = "release"
    PAY = "pay"
    PAY_TOO_LATE = "pay_too_late"
    CANCEL = "cancel"
    EXPIRE = "expire"
    ADJUST = "adjust"


@dataclass(frozen=True, slots=True)
class Turn:
    """An operation to be put in order."""

    deed: Deed
    begun_ns: int
    ended_ns: int
    required: bool
    """False when it may never have taken effect"""
    claim: int
    units: tuple[int, ...]
    """by SKU"""
    name: str


def check_exact(history: History, state: FinalState, rules: Rules) -> tuple[list[Violation], dict[str, int]]:
    """What cannot be explained, and how much was searched: partitions decided, passed over (too large, or not
    to be put in order: losses, and withdrawals that take effect little by little), and given up.
    """
    done = {"decided": 0, "passed_over": 0, "given_up": 0}
    violations = []
    needed = demand_before(history, state.places, records_complete=rules.records_complete(state))
    for skus in _partitions(history, state):
        order = sorted(skus)
        turns, claims = _turns(history, order, needed)
        if len(turns) > rules.exact_operations_max or rules.losses or _drains(history, skus):
            done["passed_over"] += 1
            continue
        firsts = {sku.sku: sku.allotment_first for sku in state.skus}
        free = tuple(firsts[sku] for sku in order)
        explained = search(turns, (free, (ABSENT,) * claims))
        done["given_up" if explained is None else "decided"] += 1
        if explained is False:
            violations.append(
                Violation.of(
                    Name.UNEXPLAINED,
                    f"No order of the {len(turns)} operations on {', '.join(order)} explains all their answers.",
                    (turn.name for turn in turns if turn.name),
                )
            )
    return violations, done


# -------------------------------------------------------------------------------------------------------------- the model


def apply(turn: Turn, state: State) -> State | None:
    """The state after `turn`, or None when its answer is impossible in `state`."""
    free, claims = state
    match turn.deed:
        case Deed.ADJUST:
            after = _add(free, turn.units)
            return None if min(after) < 0 else (after, claims)
        case Deed.SOLD_OUT:
            return state if claims[turn.claim] == ABSENT and any(a < b for a, b in zip(free, turn.units, strict=True)) else None
        case _:
            found = _MOVES.get((turn.deed, claims[turn.claim]))
    if found is None or (found[1] < 0 and any(a < b for a, b in zip(free, turn.units, strict=True))):
        return None
    status, sign = found
    moved = _add(free, tuple(sign * units for units in turn.units)) if sign else free
    return moved, (*claims[: turn.claim], status, *claims[turn.claim + 1 :])


_MOVES = {
    (Deed.RESERVE, ABSENT): (RESERVED, -1),
    **{(Deed.RESERVE, status): (status, 0) for status in (RESERVED, SOLD, RELEASED, EXPIRED, REFUND_DUE, CANCELLED)},
    (Deed.RELEASE, RESERVED): (RELEASED, 1),
    (Deed.RELEASE, RELEASED): (RELEASED, 0),
    (Deed.RELEASE, CANCELLED): (CANCELLED, 0),
    (Deed.EXPIRE, RESERVED): (EXPIRED, 1),
    (Deed.PAY, RESERVED): (SOLD, 0),
    (Deed.PAY, SOLD): (SOLD, 0),
    (Deed.PAY, RELEASED): (SOLD, -1),
    (Deed.PAY, EXPIRED): (SOLD, -1),
    (Deed.PAY_TOO_LATE, RELEASED): (REFUND_DUE, 0),
    (Deed.PAY_TOO_LATE, EXPIRED): (REFUND_DUE, 0),
    (Deed.PAY_TOO_LATE, REFUND_DUE): (REFUND_DUE, 0),
    (Deed.PAY_TOO_LATE, CANCELLED): (CANCELLED, 0),
    (Deed.CANCEL, RESERVED): (RELEASED, 1),
    (Deed.CANCEL, RELEASED): (RELEASED, 0),
    (Deed.CANCEL, SOLD): (CANCELLED, 1),
    (Deed.CANCEL, CANCELLED): (CANCELLED, 0),
}
"""what a deed makes of a reservation: its state afterwards, and -1 when units are taken, 1 when they come back"""


def _add(free: tuple[int, ...], units: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(free, units, strict=True))


# ------------------------------------------------------------------------------------------------------------- the search


def search(turns: list[Turn], start: State, configurations_max: int = CONFIGURATIONS_MAX) -> bool | None:
    """Whether some order explains all turns; None when that could not be found out in so many configurations."""
    required = sum(1 << index for index, turn in enumerate(turns) if turn.required)
    seen: set[tuple[int, State]] = set()
    stack = [(0, start)]
    while stack:
        done, state = stack.pop()
        if done & required == required:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        if len(seen) > configurations_max:
            return None
        stack += _next(turns, done, state)
    return False


def _next(turns: list[Turn], done: int, state: State) -> Iterator[tuple[int, State]]:
    """Every step that may come first among those left: it began before any of them had ended."""
    left = [(index, turn) for index, turn in enumerate(turns) if not done >> index & 1]
    earliest_end = min((turn.ended_ns for _, turn in left if turn.required), default=FOREVER_NS)
    for index, turn in left:
        if turn.begun_ns <= earliest_end and (after := apply(turn, state)) is not None:
            yield done | 1 << index, after


# -------------------------------------------------------------------------------------------------------- what is searched


def _partitions(history: History, state: FinalState) -> list[frozenset[str]]:
    """SKUs that some call takes together are in one set, all others apart."""
    parts = {sku.sku: {sku.sku} for sku in state.skus}
    for operation in history.reserves:
        together = [parts[sku] for sku, _ in operation.items if sku in parts]
        for other in together[1:]:
            if other is not together[0]:
                together[0] |= other
                parts.update(dict.fromkeys(other, together[0]))
    return list({frozenset(part) for part in parts.values()})


def _drains(history: History, skus: frozenset[str]) -> bool:
    return any(operation.outcome == "draining" and operation.items[0][0] in skus for operation in history.adjustments)


def _turns(history: History, order: list[str], needed: Mapping[str, Items]) -> tuple[list[Turn], int]:
    claims = [claim for claim in history.claims.values() if claim.operations and any(sku in order for sku, _ in claim.items)]
    turns: list[Turn] = []
    for number, claim in enumerate(claims):
        turns += _turns_of(claim, number, order, history.timeline, needed)
    for operation in history.adjustments:
        [(sku, _)] = operation.items
        if operation.possible and operation.outcome != "replayed" and sku in order:
            units = _units(((sku, operation.delta),), order)
            turns.append(Turn(Deed.ADJUST, operation.invoked_ns, operation.ended_ns, operation.ok, 0, units, operation.name))
    return turns, len(claims)


def _turns_of(claim: Claim, number: int, order: list[str], timeline: Timeline, needed: Mapping[str, Items]) -> Iterator[Turn]:
    for operation in claim.operations:
        deed = _deed(operation)
        if deed is not None:
            required = operation.step is not Step.UNKNOWN
            items = needed[operation.name] if deed is Deed.SOLD_OUT else operation.items or claim.items
            units = _units(items, order)
            yield Turn(deed, operation.invoked_ns, operation.ended_ns, required, number, units, operation.name)
    begun = timeline.certainly_before(claim.told_expires_at_ms) if claim.told_expires_at_ms else 0
    yield Turn(Deed.EXPIRE, begun, FOREVER_NS, required=False, claim=number, units=_units(claim.items, order), name="")


def _deed(operation: Operation) -> Deed | None:
    """None for an answer that says nothing about units."""
    if operation.kind not in _SEARCHED:
        return None
    if not operation.possible:
        if operation.kind is Kind.RESERVE and operation.outcome == "sold_out":
            return Deed.SOLD_OUT
        if operation.kind in (Kind.CONFIRM, Kind.WEBHOOK) and operation.outcome in REFUND_WORDS:
            return Deed.PAY_TOO_LATE
        return None
    if operation.kind in (Kind.CONFIRM, Kind.WEBHOOK):
        # An acknowledgement that does not say "sold" may be either, so it is left out; an unknown one may be a sale.
        return Deed.PAY if operation.sold or not operation.ok else None
    return {Kind.RESERVE: Deed.RESERVE, Kind.RELEASE: Deed.RELEASE, Kind.CANCEL_ORDER: Deed.CANCEL}[operation.kind]


def _units(items: Items, order: Iterable[str]) -> tuple[int, ...]:
    quantities = dict(items)
    return tuple(quantities.get(sku, 0) for sku in order)
