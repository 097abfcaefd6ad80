"""Sound interval bounds, O(n log n): what the answers prove about every moment, whatever the true order of the calls was.

A unit is *certainly* held from the answer that gave it to a shopper until somebody can have taken it back, and *possibly*
held from the first call that asked for it until it is known to be back. More units certainly held than there are is
oversold; a refusal during all of which units were free, even with everything possibly held taken away, is false. So is one for
a limit that the shopper did not reach with everything possibly held.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from loadtest.checker.model import FOREVER_NS, PROMISES, Claim, History, Operation, Rules, Timeline
from loadtest.checker.standby import demand_before
from loadtest.checker.state import FinalState
from loadtest.checker.violations import Name, Violation
from loadtest.history import Kind

Span = tuple[int, int]
"""from (inclusive) to (exclusive), monotonic ns"""

_COUNTED = frozenset({"paid"})
_UNSOLD_RECORDS = frozenset({"reserved", "released", "expired", "refund_due"})


def check_bounds(history: History, state: FinalState, rules: Rules) -> Iterator[Violation]:
    """Everything the bounds prove wrong."""
    certain = {claim.reservation_id: certain_spans(claim, history.timeline, rules) for claim in history.claims.values()}
    for sku in state.skus:
        yield from _oversold(sku.sku, sku.allotment_first, history, certain)
    yield from _oversold_in_the_end(history, state)
    yield from _limits(history, state, certain)
    yield from _false_refusals(history, state, rules)
    yield from _false_limits(history, state, rules)


# -------------------------------------------------------------------------------------------------------- who holds what


def certain_spans(claim: Claim, timeline: Timeline, rules: Rules) -> list[Span]:
    """When the shopper certainly held the units, ascending and disjoint.

    From an acknowledgement until the first call that gave them back began, or until they can have expired; and from an
    acknowledged sale until the first call that undid it began. What the store lost nobody holds for certain, but for sales
    that were in Postgres when they were acknowledged.
    """
    released_ns = min((operation.invoked_ns for operation in claim.releases if operation.possible), default=FOREVER_NS)
    cancelled_ns = min((operation.invoked_ns for operation in claim.of(Kind.CANCEL_ORDER) if operation.possible), default=FOREVER_NS)
    spans = [
        (operation.ended_ns, min(released_ns, timeline.certainly_before(operation.told_expires_at_ms)))
        for operation in claim.of(*PROMISES)
        if operation.ok and operation.told_expires_at_ms and operation.state in ("", "reserved")
    ]
    spans += [(payment.ended_ns, cancelled_ns) for payment in claim.payments if payment.sold and not payment.recorded]
    spans = [(start, min(end, _lost_ns(start, timeline, rules))) for start, end in spans]
    spans += [(payment.ended_ns, cancelled_ns) for payment in claim.payments if payment.recorded]
    return _merged(spans)


def _lost_ns(start_ns: int, timeline: Timeline, rules: Rules) -> int:
    """Until when what was acknowledged at `start_ns` was certainly not lost."""
    not_over = (window for window in rules.losses if timeline.certainly_after(window.end_ms) > start_ns)
    return min((timeline.certainly_before(window.start_ms) for window in not_over), default=FOREVER_NS)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def possible_span(claim: Claim, timeline: Timeline, *, records_complete: bool) -> Span | None:
    """The span outside of which the units were certainly not held; None when they never were.

    Args:
        claim: whose.
        timeline: for the store's times.
        records_complete: the store has lost nothing, so a reservation without a record was never made.
    """
    attempts = [operation.invoked_ns for operation in claim.of(Kind.RESERVE) if operation.possible]
    if not attempts or (records_complete and claim.record is None and not claim.acknowledged):
        return None
    return min(attempts), _certainly_back(claim, timeline) if records_complete else FOREVER_NS


def _certainly_back(claim: Claim, timeline: Timeline) -> int:
    if claim.record is not None and claim.record.state == "cancelled":
        return min((operation.ended_ns for operation in claim.cancelled), default=FOREVER_NS)
    if claim.record is None or claim.record.state not in _UNSOLD_RECORDS or any(payment.sold for payment in claim.payments):
        return FOREVER_NS
    back = [operation.ended_ns for operation in claim.releases if operation.ok]
    if claim.order is not None and claim.order.finished_at_ms and claim.order.state in ("expired", "cancelled"):
        back.append(timeline.certainly_after(claim.order.finished_at_ms))
    return min(back, default=FOREVER_NS)


# ---------------------------------------------------------------------------------------------------------- the allotment


@dataclass(slots=True)
class _Adjustment:
    sku: str
    delta: int
    begun_ns: int
    done_ns: int
    """FOREVER_NS when it may not have happened, or not wholly"""


def _adjustments(history: History, sku: str) -> list[_Adjustment]:
    """Each change of stock once, however often it was asked for."""
    by_key: dict[str, _Adjustment] = {}
    for operation in history.adjustments:
        if not operation.possible or operation.items[0][0] != sku:
            continue
        done_ns = operation.ended_ns if operation.ok and operation.outcome != "draining" else FOREVER_NS
        known = by_key.setdefault(operation.key or operation.name, _Adjustment(sku, operation.delta, operation.invoked_ns, done_ns))
        known.begun_ns, known.done_ns = min(known.begun_ns, operation.invoked_ns), min(known.done_ns, done_ns)
    return list(by_key.values())


def _allotment_steps(history: History, sku: str, *, highest: bool) -> Iterator[tuple[int, int]]:
    """(when, by how much) the highest or the lowest allotment there can have been changes."""
    for adjustment in _adjustments(history, sku):
        when = adjustment.begun_ns if (adjustment.delta > 0) == highest else adjustment.done_ns
        if when < FOREVER_NS:
            yield when, adjustment.delta


def allotment_range(history: History, sku: str, first: int) -> tuple[int, int]:
    """The lowest and highest allotment there can be in the end."""
    adjustments = _adjustments(history, sku)
    certain = first + sum(adjustment.delta for adjustment in adjustments if adjustment.done_ns < FOREVER_NS)
    open_ends = [adjustment.delta for adjustment in adjustments if adjustment.done_ns == FOREVER_NS]
    return certain + sum(delta for delta in open_ends if delta < 0), certain + sum(delta for delta in open_ends if delta > 0)


def allotment_peak(history: History, sku: str, first: int) -> int:
    """The highest allotment there can ever have been."""
    return first + sum(max(0, adjustment.delta) for adjustment in _adjustments(history, sku))


# --------------------------------------------------------------------------------------------------------------- oversold


def _oversold(sku: str, allotment: int, history: History, certain: dict[str, list[Span]]) -> Iterator[Violation]:
    steps = list(_allotment_steps(history, sku, highest=True))
    changes = [(when, -by) for when, by in steps]
    for claim in history.claims.values():
        if units := _units(claim, sku):
            for start, end in certain[claim.reservation_id]:
                changes += ((start, units), (end, -units))
    changes.sort()  # at one moment what is given back counts before what is taken
    excess, worst, at = -allotment, 0, 0
    for when, by in changes:
        excess += by
        if excess > worst and when < FOREVER_NS:
            worst, at = excess, when
    if worst:
        holders = [
            claim
            for claim in history.claims.values()
            if _units(claim, sku) and any(start <= at < end for start, end in certain[claim.reservation_id])
        ]
        yield Violation.of(
            Name.OVERSOLD,
            f"{worst} units of {sku} too many were held at {at} ns: {sum(_units(claim, sku) for claim in holders)} "
            f"by {len(holders)} reservations.",
            (name for claim in holders for name in claim.names),
        )


def _oversold_in_the_end(history: History, state: FinalState) -> Iterator[Violation]:
    """What Postgres calls paid is sold, whatever anybody was told."""
    paid: defaultdict[str, int] = defaultdict(int)
    for order in state.orders:
        if order.state in _COUNTED:
            for name, quantity in order.items:
                paid[name] += quantity
    for sku in state.skus:
        if paid[sku.sku] > sku.database_allotment:
            buyers = (history.claims[order.reservation_id] for order in state.orders if order.state in _COUNTED)
            yield Violation.of(
                Name.OVERSOLD,
                f"Postgres has {paid[sku.sku]} paid units of {sku.sku}, and there are {sku.database_allotment}.",
                (name for claim in buyers if _units(claim, sku.sku) for name in claim.names),
            )


# ----------------------------------------------------------------------------------------------------------------- limits


def _limits(history: History, state: FinalState, certain: dict[str, list[Span]]) -> Iterator[Violation]:
    limits = [(sku.sku, sku.limit_per_shopper) for sku in state.skus]
    for ticket_id, claims in _by_ticket(history).items():
        if len(claims) == 1 and not _beyond(claims[0], limits, state.limit_per_shopper):
            continue
        for sku, limit in (*limits, ("", state.limit_per_shopper)):
            held, bought = _most_at_once(claims, sku, certain), sum(_units(claim, sku) for claim in claims if _paid(claim))
            if max(held, bought) > limit:
                yield Violation.of(
                    Name.LIMIT_BROKEN,
                    f"The ticket {ticket_id} held {held} units of {sku or 'all SKUs'} at once and bought {bought}; the limit is {limit}.",
                    (name for claim in claims for name in claim.names),
                )


def _by_ticket(history: History) -> dict[str, list[Claim]]:
    by_ticket: defaultdict[str, list[Claim]] = defaultdict(list)
    for claim in history.claims.values():
        if claim.ticket_id:
            by_ticket[claim.ticket_id].append(claim)
    return by_ticket


def _beyond(claim: Claim, limits: Sequence[tuple[str, int]], limit: int) -> bool:
    return _units(claim, "") > limit or any(_units(claim, sku) > most for sku, most in limits)


def _paid(claim: Claim) -> bool:
    return claim.order is not None and claim.order.state in _COUNTED


def _units(claim: Claim, sku: str) -> int:
    """Units of a SKU, or of all when `sku` is empty."""
    return sum(quantity for name, quantity in claim.items if sku in ("", name))


def _most_at_once(claims: Iterable[Claim], sku: str, certain: dict[str, list[Span]]) -> int:
    changes = []
    for claim in claims:
        units = _units(claim, sku)
        for start, end in certain[claim.reservation_id]:
            changes += [(start, units), (end, -units)]
    held = most = 0
    for _, by in sorted(changes):
        held += by
        most = max(most, held)
    return most


def _false_limits(history: History, state: FinalState, rules: Rules) -> Iterator[Violation]:
    refused = [operation for operation in history.reserves if operation.outcome == "limit_reached" and not operation.possible]
    by_ticket = _by_ticket(history) if refused else {}
    limits = [*((sku.sku, sku.limit_per_shopper) for sku in state.skus), ("", state.limit_per_shopper)]
    complete = rules.records_complete(state)
    for operation in refused:
        if not operation.ticket_id:
            continue
        held = []
        for claim in by_ticket.get(operation.ticket_id, ()):
            span = possible_span(claim, history.timeline, records_complete=complete)
            if span and span[0] <= operation.ended_ns:
                held.append((claim, span[1]))
        if len(held) >= state.reservations_per_shopper_max:
            continue
        live = [claim for claim, back_ns in held if back_ns >= operation.invoked_ns]
        most = {sku: sum(_units(claim, sku) for claim in live) for sku, _ in limits}
        if all(most[sku] + _asked(operation, sku) <= limit for sku, limit in limits if _asked(operation, sku)):
            yield Violation.of(
                Name.FALSE_LIMIT,
                f"{_wish(operation)} were refused for a limit; the ticket {operation.ticket_id} had at most {most['']} units, and "
                f"{state.limit_per_shopper} are allowed.",
                [operation.name, *(name for claim in live for name in claim.names)],
            )


def _asked(operation: Operation, sku: str) -> int:
    """Units of a SKU that a call asks for, or of all when `sku` is empty."""
    return sum(quantity for name, quantity in operation.items if sku in ("", name))


def _wish(operation: Operation) -> str:
    return ", ".join(f"{units} of {sku}" for sku, units in operation.items)


# --------------------------------------------------------------------------------------------------------------- sold out


class Spare:
    """The fewest units of a SKU that can have been free, as a step function of time."""

    def __init__(self, units: int, changes: Iterable[tuple[int, int]]) -> None:
        """`units` at the beginning; `changes` are (when, by how much)."""
        self._times, values = [0], [units]
        for when, by in sorted(changes):
            units += by
            if when == self._times[-1]:
                values[-1] = units
            else:
                self._times.append(when)
                values.append(units)
        self._rows = [values]
        """row n holds the lowest of each 2^n neighbours (a sparse table)"""
        while (width := 1 << len(self._rows)) <= len(values):
            row = self._rows[-1]
            self._rows.append(list(map(min, row, row[width // 2 :])))

    def lowest(self, start: int, end: int) -> int:
        """The fewest at any moment from `start` to `end`, both included."""
        first, last = bisect_right(self._times, start) - 1, bisect_right(self._times, end)
        level = (last - first).bit_length() - 1
        row = self._rows[level]
        return min(row[first], row[last - (1 << level)])


def _false_refusals(history: History, state: FinalState, rules: Rules) -> Iterator[Violation]:
    refused = [operation for operation in history.reserves if operation.outcome == "sold_out" and not operation.possible]
    if not refused:
        return
    complete = rules.records_complete(state)
    spans = [(claim, possible_span(claim, history.timeline, records_complete=complete)) for claim in history.claims.values()]
    spare: dict[str, Spare] = {}
    for sku in state.skus:
        changes = list(_allotment_steps(history, sku.sku, highest=False))
        for claim, span in spans:
            if span and (units := _units(claim, sku.sku)):
                changes += ((span[0], -units), (span[1] + 1, units))
        spare[sku.sku] = Spare(sku.allotment_first, changes)
    needed = demand_before(history, state.places, records_complete=complete)
    for operation in refused:
        demand = needed[operation.name]
        if all(sku in spare and spare[sku].lowest(operation.invoked_ns, operation.ended_ns) >= units for sku, units in demand):
            yield Violation.of(Name.FALSE_SOLD_OUT, _refusal(operation, spare), [operation.name])


def _refusal(operation: Operation, spare: dict[str, Spare]) -> str:
    free = ", ".join(f"{spare[sku].lowest(operation.invoked_ns, operation.ended_ns)} of {sku}" for sku, _ in operation.items)
    return f"{_wish(operation)} were refused as sold out; at least {free} were free during the whole call."
