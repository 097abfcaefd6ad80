"""What can be wrong, by name. The names are stable: tests and people look for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

OPERATIONS_NAMED_MAX = 20


class Name(StrEnum):
    """A broken promise."""

    OVERSOLD = "oversold"
    """more units were promised, or sold, than there are"""
    FALSE_SOLD_OUT = "false_sold_out"
    """somebody was refused although units were free during the whole call"""
    FALSE_LIMIT = "false_limit"
    """somebody was refused for a limit that was out of reach during the whole call"""
    REPLAY_REFUSED = "replay_refused"
    """a repetition was refused although its reservation exists"""
    LOST_RESERVATION = "lost_reservation"
    """an acknowledged reservation is gone, or ended by nobody's doing"""
    LOST_ORDER = "lost_order"
    """an acknowledged sale is not an order"""
    DUPLICATE_RESERVATION = "duplicate_reservation"
    """one Idempotency-Key made two reservations"""
    DUPLICATE_ORDER = "duplicate_order"
    """one reservation was sold twice, or has two rows"""
    DOUBLE_PAYMENT = "double_payment"
    """two payments of one reservation were both taken"""
    LIMIT_BROKEN = "limit_broken"
    """a shopper holds more than the limits allow"""
    PHANTOM = "phantom"
    """the stores have something nobody asked for"""
    CHANGED = "changed"
    """a reservation is not what the shopper was told"""
    RELEASED_TWICE = "released_twice"
    """a reservation's units were given back more than once"""
    EXPIRED_EARLY = "expired_early"
    EXPIRED_LATE = "expired_late"
    EXTENDED_TWICE = "extended_twice"
    AMOUNT_WRONG = "amount_wrong"
    REFUND_MISSING = "refund_missing"
    """money was taken, nothing sold, and nothing goes back"""
    REFUND_UNFOUNDED = "refund_unfounded"
    """money goes back for something that is sold"""
    NOT_CONSERVED = "not_conserved"
    """available, reserved and sold do not sum to the allotment, or not to the records"""
    STORES_DISAGREE = "stores_disagree"
    """the store and Postgres tell different things of a reservation"""
    TICKET_CHANGED = "ticket_changed"
    """one secret was given two places in the line"""
    UNCOMMITTED = "uncommitted"
    """an order was acknowledged before it was in Postgres"""
    UNEXPLAINED = "unexplained"
    """no order of the operations explains all answers"""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, with the operations that show it."""

    name: Name
    sentence: str
    operations: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: Name, sentence: str, operations: Iterable[str] = ()) -> Violation:
        """With at most `OPERATIONS_NAMED_MAX` operations named."""
        return cls(name, sentence, tuple(operations)[:OPERATIONS_NAMED_MAX])
