"""The local test provider: pays with nothing, and misbehaves as it is told, as real providers sometimes do.

It remembers nothing. What a later refund is to do stands in the payment's reference: `test-<digest>`, then `.2` for a
second payment of the same reservation, then `.t3` when the first three answers to its refund are to be lost.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from flashsale.model import digest
from flashsale.payments.provider import ProviderUnreachable, RefundAnswer, RefundOrder, RefundState
from flashsale.payments.standard import payment_event

TEST_PROVIDER = "test"
FAILED, PROCESSING = "payment.failed", "payment.processing"
DELAY_MAX_MS = 10_000
PAY_AFTER_MAX_MS = 3_600_000
PAYMENTS_MAX = 3
DELIVERIES_MAX = 5
REFUND_TIMEOUTS_MAX = 9

_REFERENCE = re.compile(r"test-[A-Za-z0-9_-]{22}(?:\.[23])?(?:\.t(?P<timeouts>[1-9]))?")


class Behaviour(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the test provider is to behave. Left out, it pays once, at once."""

    outcome: Literal["paid", "failed"] = "paid"
    delay_ms: Annotated[int, Meta(ge=0, le=DELAY_MAX_MS)] = 0
    """how long it takes to answer"""
    pay_after_ms: Annotated[int, Meta(ge=0, le=PAY_AFTER_MAX_MS)] = 0
    """it answers at once, and the money comes so much later"""
    payments: Annotated[int, Meta(ge=1, le=PAYMENTS_MAX)] = 1
    """2: the shopper pays twice"""
    deliveries: Annotated[int, Meta(ge=1, le=DELIVERIES_MAX)] = 1
    """how often each event is sent"""
    disorder: bool = False
    """the event that a payment has begun comes after the one that it succeeded"""
    refund_timeouts: Annotated[int, Meta(ge=0, le=REFUND_TIMEOUTS_MAX)] = 0
    """so many answers to a refund are lost, though the money went back with the first"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event to send."""

    event_id: str
    body: bytes


def reference_of(reservation_id: str, payment: int = 1, refund_timeouts: int = 0) -> str:
    """The reference of a reservation's n-th payment. The same each time, as a real provider's payment intent."""
    again = f".{payment}" if payment > 1 else ""
    lossy = f".t{refund_timeouts}" if refund_timeouts else ""
    return f"test-{digest('test-payment', reservation_id)}{again}{lossy}"


def deliveries_of(reservation_id: str, amount_minor: int, behaviour: Behaviour) -> list[Delivery]:
    """The events the provider sends, in the order it sends them."""
    events = []
    for payment in range(1, behaviour.payments + 1):
        reference = reference_of(reservation_id, payment, behaviour.refund_timeouts)
        kinds = [FAILED] if behaviour.outcome == "failed" else ["payment.succeeded"]
        if behaviour.disorder:
            kinds.append(PROCESSING)
        events += [
            Delivery(f"evt_{digest('test-event', reference, kind)}", payment_event(reservation_id, reference, amount_minor, kind=kind))
            for kind in kinds
        ]
    return events * behaviour.deliveries


class TestRefunds:
    """Gives back what the test provider was paid. Stateless: the reference and the attempt tell what to do."""

    __test__ = False
    name = TEST_PROVIDER

    def __init__(self, timeout_ms: int) -> None:
        """`timeout_ms` is how long an answer that is to be lost is waited for."""
        self._timeout_s = timeout_ms / 1000

    def owns(self, payment_reference: str) -> bool:
        """Payments of this provider."""
        return _REFERENCE.fullmatch(payment_reference) is not None

    async def find_refund(self, order: RefundOrder) -> RefundAnswer | None:
        """The truth, from the moment it is willing to tell it. Raises as `RefundProvider.find_refund` does."""
        return await self.refund(order)

    async def refund(self, order: RefundOrder) -> RefundAnswer:
        """The money goes back with the first request; whether the answer arrives is another matter."""
        match = _REFERENCE.fullmatch(order.payment_reference)
        if match is not None and order.attempt <= int(match["timeouts"] or 0):
            await asyncio.sleep(self._timeout_s)
            raise ProviderUnreachable(what="The test provider did not answer in time, as it was told.")
        return RefundAnswer(RefundState.DONE, f"re_{order.refund_id.removeprefix('rf_')}")
