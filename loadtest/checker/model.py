"""A history as the checks need it: operations instead of events, gathered by the reservation they are about."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from msgspec import Struct

from loadtest.checker.state import FIRST_EPOCH, FinalState, OrderRow, ReservationRecord
from loadtest.history import Event, HistoryBroken, Items, Kind, Step

FOREVER_NS = 1 << 62
RECORDED_WORD = "paid"
SOLD_WORDS = frozenset({"confirmed", "replayed", RECORDED_WORD})
"""outcomes of a payment that say: these units are yours"""
REFUND_WORDS = frozenset({"refund_due", "refunded"})
EXISTING_WORDS = frozenset({"sold_out", "limit_reached", "not_open", "paused", "closed", "token_expired"})
"""refusals nobody may get whose reservation exists: a repetition is looked for before any of them is decided"""


PROMISES = (Kind.RESERVE, Kind.EXTEND, Kind.RESTORE)
"""calls whose answer promises units until an expiry"""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of wall time, ms since the epoch."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What the service promises, and what was done to it meanwhile."""

    expiry_grace_ms: int = 2_000
    """units are on sale again this long after their reservation's expiry, while the service is healthy"""
    clock_skew_ms: int = 50
    """the recorder's wall clock and the store's differ by at most this"""
    faults: tuple[Window, ...] = ()
    """spans in which an expiry may be late"""
    losses: tuple[Window, ...] = ()
    """spans in which the store lost what it had acknowledged: a failover, a store without its disk"""
    second_payments_refunded: bool = True
    """a second payment of one reservation is refused and goes back"""
    exact_operations_max: int = 40
    """larger histories are not searched exhaustively"""

    def is_late(self, expires_at_ms: int, ended_at_ms: int) -> bool:
        """Whether a reservation ended later than it may: its grace begins anew when a fault that struck within it has healed."""
        due_ms = expires_at_ms + self.expiry_grace_ms
        for window in sorted(self.faults, key=attrgetter("start_ms")):
            if window.start_ms <= due_ms:
                due_ms = max(due_ms, window.end_ms + self.expiry_grace_ms)
        return ended_at_ms > due_ms

    def records_complete(self, state: FinalState) -> bool:
        """Whether the store has lost nothing it ever held."""
        return not self.losses and state.epoch <= FIRST_EPOCH

    def lost_after(self, at_ms: int) -> bool:
        """Whether the store lost data at or after `at_ms`."""
        return any(window.end_ms >= at_ms for window in self.losses)


class Operation(Struct, gc=False):
    """A call from its invocation to its end. It took effect, if at all, between the two."""

    name: str
    """its number, with the process in front when there are several"""
    kind: Kind
    shopper: str
    drop: str
    key: str
    items: Items
    delta: int
    ticket_id: str
    reservation_id: str
    amount_minor: int | None
    payment_reference: str
    invoked_ns: int
    invoked_ms: int
    step: Step = Step.UNKNOWN
    ended_ns: int = FOREVER_NS
    """of an unknown call FOREVER_NS: it may take effect long after the client gave up"""
    ended_ms: int = 0
    outcome: str = ""
    state: str = ""
    told_reservation_id: str = ""
    told_amount_minor: int | None = None
    told_payment_reference: str = ""
    told_reserved_at_ms: int = 0
    told_expires_at_ms: int = 0

    @property
    def ok(self) -> bool:
        """It was acknowledged."""
        return self.step is Step.OK

    @property
    def possible(self) -> bool:
        """It may have had an effect."""
        return self.step is not Step.FAIL

    @property
    def recorded(self) -> bool:
        """It is a payment, acknowledged when its order was in Postgres, where no store can lose it."""
        return self.ok and self.outcome == RECORDED_WORD

    @property
    def sold(self) -> bool:
        """It is a payment, acknowledged as a sale."""
        return self.ok and self.outcome in SOLD_WORDS


class Timeline:
    """When, on the monotonic clock, a wall time certainly had not come yet, and when it certainly had.

    Reckoned from what the events' two clocks showed, so that a wall clock that runs unevenly, or a test's that jumps, makes
    the answers less sharp and not wrong.
    """

    def __init__(self, skew_ms: int) -> None:
        self._ns = array("q")
        self._highest_ms = array("q")
        self._skew_ms = skew_ms

    def add(self, at_ns: int, at_ms: int) -> None:
        """Notes what both clocks showed; calls in order of `at_ns`."""
        highest = self._highest_ms
        self._ns.append(at_ns)
        highest.append(max(at_ms, highest[-1]) if highest else at_ms)

    def certainly_before(self, at_ms: int) -> int:
        """Until when, exclusive, the wall time `at_ms` was certainly not reached."""
        index = bisect_left(self._highest_ms, at_ms - self._skew_ms)
        return self._ns[index - 1] + 1 if index else 0

    def certainly_after(self, at_ms: int) -> int:
        """The earliest known moment after the wall time `at_ms`, or FOREVER_NS."""
        index = bisect_left(self._highest_ms, at_ms + self._skew_ms + 1)
        return self._ns[index] if index < len(self._ns) else FOREVER_NS


@dataclass(slots=True)
class Claim:
    """Everything known about one reservation, from the shopper's side and from the stores'."""

    reservation_id: str
    ticket_id: str = ""
    operations: list[Operation] = field(default_factory=list)
    record: ReservationRecord | None = None
    order: OrderRow | None = None

    def of(self, *kinds: Kind) -> Iterator[Operation]:
        """Its operations of these kinds, as invoked."""
        return (operation for operation in self.operations if operation.kind in kinds)

    @property
    def payments(self) -> list[Operation]:
        """Confirms and webhooks."""
        return list(self.of(Kind.CONFIRM, Kind.WEBHOOK))

    @property
    def acknowledged(self) -> list[Operation]:
        """Reserve calls that were acknowledged."""
        return [operation for operation in self.of(Kind.RESERVE) if operation.ok]

    @property
    def releases(self) -> list[Operation]:
        """Calls that give it back while it is unpaid. Cancelling an order does, too, when there is no payment yet."""
        return list(self.of(Kind.RELEASE, Kind.CANCEL_ORDER))

    @property
    def cancelled(self) -> list[Operation]:
        """Calls that were acknowledged as having undone a sale."""
        return [
            operation for operation in self.of(Kind.CANCEL_ORDER) if operation.ok and "cancelled" in (operation.outcome, operation.state)
        ]

    @property
    def items(self) -> Items:
        """Its units: as acknowledged, else as the store has them, else as asked for."""
        asked = [operation.items for operation in self.acknowledged] or ([self.record.items] if self.record else [])
        return asked[0] if asked else next((operation.items for operation in self.of(Kind.RESERVE) if operation.possible), ())

    @property
    def promises(self) -> list[Operation]:
        """Calls whose answer promised the units until an expiry."""
        return [operation for operation in self.of(*PROMISES) if operation.ok]

    @property
    def told_expires_at_ms(self) -> int:
        """The latest expiry the shopper was promised; 0 for none."""
        return max((operation.told_expires_at_ms for operation in self.promises), default=0)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its operations."""
        return tuple(operation.name for operation in self.operations)

    @property
    def where(self) -> str:
        """How to call it in a sentence."""
        return f"reservation {self.reservation_id}"


@dataclass(slots=True)
class History:
    """A drop's history, understood."""

    timeline: Timeline
    claims: dict[str, Claim] = field(default_factory=dict)
    adjustments: list[Operation] = field(default_factory=list)
    reserves: list[Operation] = field(default_factory=list)
    """all attempts, also those without effect"""
    tickets: dict[str, set[str]] = field(default_factory=dict)
    """shopper, by process and number, to the tickets its joins were answered with"""
    events: int = 0
    operations: int = 0
    unknown: int = 0
    """operations nobody can tell the effect of"""

    def claim(self, reservation_id: str) -> Claim:
        """What is known of a reservation."""
        found = self.claims.get(reservation_id)
        if found is None:
            found = self.claims[reservation_id] = Claim(reservation_id)
        return found


def understand(events: Iterable[Event], state: FinalState, rules: Rules) -> History:
    """The history of one drop, with the final state's records beside it.

    Args:
        events: in ascending order of `at_ns`.
        state: of the drop the history is about; operations of other drops are left out.
        rules: for the clocks.

    Raises:
        HistoryBroken: an end without its invocation, or an event before its predecessor.
    """
    history = History(Timeline(rules.clock_skew_ms))
    for operation in _operations(events, history):
        if operation.drop in ("", state.drop_id):
            _take_in(history, operation)
    for record in state.reservations:
        claim = history.claim(record.reservation_id)
        claim.record, claim.ticket_id = record, claim.ticket_id or record.ticket_id
    for order in state.orders:
        claim = history.claim(order.reservation_id)
        claim.order, claim.ticket_id = order, claim.ticket_id or order.ticket_id
    return history


def _operations(events: Iterable[Event], history: History) -> Iterator[Operation]:
    """Operations in the order they ended; those that never did come last."""
    running: dict[tuple[str, int], Operation] = {}
    last_ns = 0
    for event in events:
        if event.at_ns < last_ns:
            raise HistoryBroken(f"operation {event.op} of process {event.process!r} goes back in time: sort the histories by at_ns")
        last_ns = event.at_ns
        history.events += 1
        history.timeline.add(event.at_ns, event.at_ms)
        key = (event.process, event.op)
        if event.step is Step.INVOKE:
            if key in running or event.kind is None:
                raise HistoryBroken(f"operation {event.op} of process {event.process!r} is invoked twice, or says not what it is")
            running[key] = _begun(event, event.kind)
            continue
        operation = running.pop(key, None)
        if operation is None:
            raise HistoryBroken(f"operation {event.op} of process {event.process!r} ends without having been invoked")
        yield _ended(operation, event)
    yield from running.values()


def _begun(event: Event, kind: Kind) -> Operation:
    return Operation(
        name=f"{event.process}:{event.op}" if event.process else str(event.op),
        kind=kind,
        shopper=event.shopper,
        drop=event.drop,
        key=event.key,
        items=event.items,
        delta=event.delta,
        ticket_id=event.ticket_id,
        reservation_id=event.reservation_id,
        amount_minor=event.amount_minor,
        payment_reference=event.payment_reference,
        invoked_ns=event.at_ns,
        invoked_ms=event.at_ms,
    )


def _ended(operation: Operation, event: Event) -> Operation:
    operation.step, operation.outcome, operation.state = event.step, event.outcome, event.state
    operation.ended_ms = event.at_ms
    if event.step is not Step.UNKNOWN:
        operation.ended_ns = event.at_ns
    operation.ticket_id = operation.ticket_id or event.ticket_id
    operation.told_reservation_id = event.reservation_id
    operation.told_amount_minor = event.amount_minor
    operation.told_payment_reference = event.payment_reference
    operation.told_reserved_at_ms = event.reserved_at_ms
    operation.told_expires_at_ms = event.expires_at_ms
    return operation


def _take_in(history: History, operation: Operation) -> None:
    history.operations += 1
    history.unknown += operation.step is Step.UNKNOWN
    match operation.kind:
        case Kind.JOIN:
            if operation.ok and operation.shopper:
                shopper = f"{operation.name.rpartition(':')[0]}:{operation.shopper}"
                history.tickets.setdefault(shopper, set()).add(operation.ticket_id)
            return
        case Kind.ADMIT:
            return
        case Kind.ADJUST_STOCK:
            history.adjustments.append(operation)
            return
        case Kind.RESERVE:
            history.reserves.append(operation)
        case _:
            pass
    reservation_id = operation.reservation_id or operation.told_reservation_id
    if reservation_id:
        claim = history.claim(reservation_id)
        claim.operations.append(operation)
        claim.ticket_id = claim.ticket_id or operation.ticket_id
