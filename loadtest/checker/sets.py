"""What must hold of each reservation and each order, whenever things happened: who asked, what was told, what came of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from loadtest.checker.model import EXISTING_WORDS, REFUND_WORDS, Claim, History, Operation, Rules
from loadtest.checker.state import FinalState, OrderRow
from loadtest.checker.violations import Name, Violation
from loadtest.history import Items, Kind

SETTLED = frozenset({"paid", *REFUND_WORDS})
"""states of an order that keep a payment; `cancelled` does, too, when the merchant undid a sale"""

UNPAID = frozenset({"missing", "pending", "expired", "cancelled"})
"""states of an order, as read, that acknowledge no payment"""


def check_sets(history: History, state: FinalState, rules: Rules) -> Iterator[Violation]:
    """Everything wrong with single reservations, orders, tickets and payments."""
    prices = {sku.sku: sku.price_minor for sku in state.skus}
    refunds: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for refund in state.refunds:
        refunds[refund.reservation_id][refund.payment_reference] = refund.amount_minor
    for claim in history.claims.values():
        yield from _told(claim, rules)
        yield from _kept(claim, rules)
        yield from _sold(claim, rules)
        yield from _founded(claim)
        yield from _expiry(claim, state, rules)
        yield from _amounts(claim, prices)
        yield from _refunds(claim, refunds[claim.reservation_id], rules)
    yield from _replays(history, rules)
    yield from _one_each(history, state)


# ------------------------------------------------------------------------------------------------------ what people heard


def _told(claim: Claim, rules: Rules) -> Iterator[Violation]:
    """Answers about one reservation must fit one another."""
    fresh = [operation for operation in claim.acknowledged if operation.outcome == "reserved"]
    fresh = [operation for operation in fresh if not rules.lost_after(operation.ended_ms)]
    if len(fresh) > 1:
        yield _about(claim, Name.DUPLICATE_RESERVATION, "was made more than once under one key", fresh)
    strangers = [operation for operation in claim.acknowledged if operation.told_reservation_id not in ("", claim.reservation_id)]
    if strangers:
        yield _about(
            claim, Name.DUPLICATE_RESERVATION, f"is what the key stands for, and {strangers[0].told_reservation_id} was given", strangers
        )
    if len({(operation.told_reserved_at_ms, operation.told_amount_minor) for operation in claim.acknowledged}) > 1:
        yield _about(claim, Name.CHANGED, "was told with different times or amounts", claim.acknowledged)
    if claim.record is not None and claim.acknowledged:
        yield from _changed(claim, claim.acknowledged[0], sorted(claim.record.items), claim.record.ticket_id)
    released = [operation for operation in claim.of(Kind.RELEASE) if operation.ok and operation.outcome == "released"]
    if len(released) > 1:
        yield _about(claim, Name.RELEASED_TWICE, "was given back more than once", released)
    extended = [operation for operation in claim.of(Kind.EXTEND) if operation.ok]
    if len({operation.told_expires_at_ms for operation in extended}) > 1:
        yield _about(claim, Name.EXTENDED_TWICE, "was extended to more than one time", extended)
    references = {operation.payment_reference or operation.told_payment_reference for operation in claim.payments if operation.sold}
    if len(references - {""}) > 1:
        yield _about(claim, Name.DOUBLE_PAYMENT, f"was paid by {len(references)} payments, and each was taken", claim.payments)


def _changed(claim: Claim, asked: Operation, items: Iterable[tuple[str, int]], ticket_id: str) -> Iterator[Violation]:
    if sorted(asked.items) != list(items) or asked.ticket_id not in ("", ticket_id):
        yield _about(claim, Name.CHANGED, f"was acknowledged with {asked.items} and is stored with {tuple(items)} of {ticket_id}", [asked])


def _replays(history: History, rules: Rules) -> Iterator[Violation]:
    """Whoever repeats a request whose reservation exists must be given that reservation."""
    for operation in history.reserves:
        if operation.possible or operation.outcome not in EXISTING_WORDS:
            continue
        claim = history.claims.get(operation.reservation_id)
        if claim is None or rules.losses:
            continue
        acknowledged = any(other.ended_ns < operation.invoked_ns for other in claim.acknowledged)
        stored = claim.record is not None and claim.record.reserved_at_ms + rules.clock_skew_ms < operation.invoked_ms
        if (acknowledged or stored) and sorted(operation.items) == sorted(claim.items):
            yield _about(claim, Name.REPLAY_REFUSED, f"exists, and its repetition was refused as {operation.outcome}", [operation])


# --------------------------------------------------------------------------------------------- what came of it in the end


def _kept(claim: Claim, rules: Rules) -> Iterator[Violation]:
    """Every acknowledged reservation is there, and ended only as somebody asked or as its time ran out."""
    acknowledged = claim.acknowledged
    if not acknowledged:
        return
    if claim.record is None:
        # A store made anew from Postgres has no record of what was over by then; its order tells how it ended.
        over = claim.order is not None and claim.order.state != "pending"
        if not over and not any(rules.lost_after(operation.ended_ms) for operation in acknowledged):
            yield _about(claim, Name.LOST_RESERVATION, "was acknowledged and is not in the store", acknowledged)
        return
    lost = any(rules.lost_after(operation.ended_ms) for operation in acknowledged)
    if claim.record.state == "released" and not lost and not any(operation.possible for operation in claim.releases):
        yield _about(claim, Name.LOST_RESERVATION, "was given back although nobody asked for that", acknowledged)
    if claim.order is None and claim.record.state != "confirmed":
        yield _about(claim, Name.STORES_DISAGREE, f"is {claim.record.state} in the store and not in Postgres", acknowledged)


def _sold(claim: Claim, rules: Rules) -> Iterator[Violation]:
    """Every acknowledged sale, and every one the store knows of, is an order."""
    sold = [payment for payment in claim.payments if payment.sold]
    taken = [operation for operation in (*claim.payments, *claim.of(Kind.READ_ORDER)) if operation.ok and operation.state not in UNPAID]
    # What only the store knew went with it: a provider is answered before the order is in Postgres.
    taken = [
        operation
        for operation in taken
        if operation.recorded or operation.kind is Kind.READ_ORDER or not rules.lost_after(operation.ended_ms)
    ]
    order = claim.order.state if claim.order else "missing"
    undone = _undone(claim)
    settled = order in SETTLED or (order == "cancelled" and undone)
    if taken and not settled:
        yield _about(claim, Name.LOST_ORDER, f"was acknowledged as paid; its order in Postgres is {order}", taken)
    elif claim.record is not None and claim.record.state == "confirmed" and not settled:
        yield _about(claim, Name.LOST_ORDER, f"is sold in the store; its order in Postgres is {order}", claim.operations)
    record = claim.record.state if claim.record else "missing"
    explained = record in ("confirmed", "cancelled", *REFUND_WORDS) or undone or any(rules.lost_after(payment.ended_ms) for payment in sold)
    if sold and not explained:
        yield _about(claim, Name.LOST_ORDER, f"was acknowledged as sold and is {record} in the store", sold)
    for read in claim.of(Kind.READ_ORDER):
        before = [payment for payment in sold if payment.ended_ns < read.invoked_ns]
        if read.ok and read.state in ("missing", "pending") and before:
            yield _about(claim, Name.UNCOMMITTED, f"was acknowledged as sold while its order in Postgres was {read.state}", [*before, read])


def _founded(claim: Claim) -> Iterator[Violation]:
    """Nothing is in the stores that nobody asked for."""
    stored = claim.record or claim.order
    if stored is None:
        return
    if not any(operation.possible for operation in claim.of(Kind.RESERVE)):
        yield _about(claim, Name.PHANTOM, "is in the stores and nobody asked for it", claim.operations)
        return
    paid = claim.order if claim.order is not None and claim.order.state in SETTLED else None
    if (paid or stored.state in ("confirmed", "refund_due")) and not claim.payments:
        yield _about(claim, Name.PHANTOM, "is paid in the stores and nobody paid", claim.operations)
    elif paid and not _reference_known(claim, paid):
        yield _about(claim, Name.PHANTOM, f"was paid by {paid.payment_reference}, a payment nobody made", claim.payments)


def _reference_known(claim: Claim, order: OrderRow) -> bool:
    """A provider's payment whose call was lost has a reference the shopper never heard of."""
    references = {payment.payment_reference or payment.told_payment_reference for payment in claim.payments}
    return order.payment_reference in references or "" in references


def _expiry(claim: Claim, state: FinalState, rules: Rules) -> Iterator[Violation]:
    record, order = claim.record, claim.order
    if record is None:
        return
    told = max((promise.told_expires_at_ms for promise in claim.promises if not rules.lost_after(promise.ended_ms)), default=0)
    if told and record.expires_at_ms < told:
        yield _about(claim, Name.EXPIRED_EARLY, f"was promised until {told} and is stored until {record.expires_at_ms}", claim.acknowledged)
    if order is not None and order.state == "expired":
        yield from _expired(claim, max(told, record.expires_at_ms), order.finished_at_ms, rules)
    elif record.state == "reserved" and rules.is_late(record.expires_at_ms, state.now_ms):
        yield _about(claim, Name.EXPIRED_LATE, f"ran out at {record.expires_at_ms} and is live at {state.now_ms}", claim.operations)


def _expired(claim: Claim, expires_at_ms: int, ended_at_ms: int, rules: Rules) -> Iterator[Violation]:
    if ended_at_ms < expires_at_ms:
        yield _about(claim, Name.EXPIRED_EARLY, f"was to last until {expires_at_ms} and was ended at {ended_at_ms}", claim.operations)
    if rules.is_late(expires_at_ms, ended_at_ms):
        yield _about(claim, Name.EXPIRED_LATE, f"ran out at {expires_at_ms} and was ended at {ended_at_ms}", claim.operations)


# ------------------------------------------------------------------------------------------------------------------ money


def _amounts(claim: Claim, prices: dict[str, int]) -> Iterator[Violation]:
    items: Items = claim.items
    if not all(sku in prices for sku, _ in items):
        yield _about(claim, Name.CHANGED, f"holds a SKU that is not in the drop: {items}", claim.operations)
        return
    right = sum(prices[sku] * quantity for sku, quantity in items)
    told = [operation for operation in claim.operations if operation.ok and operation.told_amount_minor not in (None, right)]
    if told:
        yield _about(claim, Name.AMOUNT_WRONG, f"costs {right}, and {told[0].told_amount_minor} was told", told)
    wrong = [payment for payment in claim.payments if payment.sold and payment.amount_minor not in (None, right)]
    if wrong:
        yield _about(claim, Name.AMOUNT_WRONG, f"costs {right}, and a payment of {wrong[0].amount_minor} was taken", wrong)
    for stored in (claim.record, claim.order):
        if stored is not None and stored.amount_minor != right:
            yield _about(claim, Name.AMOUNT_WRONG, f"costs {right}, and {stored.amount_minor} is stored", claim.operations)


def _refunds(claim: Claim, refunds: dict[str, int], rules: Rules) -> Iterator[Violation]:
    """What was paid and not sold goes back, and nothing else."""
    order = claim.order
    due: dict[str, str] = {}
    if order is not None and order.state in REFUND_WORDS:
        due[order.payment_reference] = f"its order is {order.state}"
    for payment in claim.payments:
        if rules.lost_after(payment.ended_ms):
            continue
        if payment.outcome in REFUND_WORDS and payment.payment_reference:
            due[payment.payment_reference] = "it was answered that the money goes back"
        if rules.second_payments_refunded and _surplus(payment):
            due[payment.payment_reference] = f"it was answered with {payment.outcome}"
    undone = claim.cancelled or (claim.record is not None and claim.record.state == "cancelled")
    if order is not None and order.payment_reference and undone:
        due[order.payment_reference] = "its order was cancelled after the payment"
    for reference, why in due.items():
        if reference not in refunds:
            yield _about(claim, Name.REFUND_MISSING, f"has no refund of the payment {reference}, although {why}", claim.operations)
    if order is not None and order.state == "paid" and order.payment_reference in refunds and not _undone(claim):
        yield _about(
            claim, Name.REFUND_UNFOUNDED, f"is sold, and its payment {order.payment_reference} goes back all the same", claim.operations
        )


def _surplus(payment: Operation) -> bool:
    """Money that came and pays for nothing. A storefront that names a wrong amount made a mistake; a provider reports what did come."""
    reported = payment.kind is Kind.WEBHOOK or not payment.key
    return payment.outcome == "payment_conflict" or (payment.outcome == "amount_mismatch" and reported and bool(payment.payment_reference))


def _undone(claim: Claim) -> bool:
    """Whether somebody may have undone the sale."""
    return any(operation.possible for operation in claim.of(Kind.CANCEL_ORDER))


# ------------------------------------------------------------------------------------------------------------ one of each


def _one_each(history: History, state: FinalState) -> Iterator[Violation]:
    for order_id, rows in Counter(order.reservation_id for order in state.orders).items():
        if rows > 1:
            yield _about(history.claims[order_id], Name.DUPLICATE_ORDER, f"has {rows} orders", history.claims[order_id].operations)
    for shopper, tickets in history.tickets.items():
        if len(tickets) > 1:
            yield Violation.of(Name.TICKET_CHANGED, f"The shopper {shopper} was given {len(tickets)} places: {', '.join(sorted(tickets))}.")
    by_key: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for operation in history.reserves:
        if operation.ok and operation.key:
            by_key[operation.ticket_id or operation.shopper, operation.key].add(operation.told_reservation_id or operation.reservation_id)
    for (who, key), made in by_key.items():
        if len(made) > 1:
            operations = (
                name for reservation_id in made if reservation_id in history.claims for name in history.claims[reservation_id].names
            )
            yield Violation.of(Name.DUPLICATE_RESERVATION, f"The key {key} of {who} made {', '.join(sorted(made))}.", operations)


def _about(claim: Claim, name: Name, what: str, operations: Iterable[Operation]) -> Violation:
    return Violation.of(name, f"The {claim.where} {what}.", (operation.name for operation in operations))
