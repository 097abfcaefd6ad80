"""Stripe's format: its webhooks and its refunds (https://docs.stripe.com/webhooks, https://docs.stripe.com/api/refunds).

The signature is `t=<seconds>,v1=<hex>` with an HMAC-SHA256 over `<t>.<body>`, several `v1` while a secret is being changed.
A payment is known by its PaymentIntent, or by its Charge where there is none. What it pays for stands in the metadata that
the shop gives the Checkout Session or PaymentIntent: `reservation_id`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, TypeVar
from urllib.parse import urlencode

import msgspec
from aiohttp import ClientSession
from msgspec import Meta, Struct, field

from flashsale.clock import Clock
from flashsale.errors import BadInput, ConfigurationError
from flashsale.payments.asking import ask
from flashsale.payments.provider import (
    EVENT_ID_LENGTH_MAX,
    AmountMinor,
    Currency,
    Event,
    Ignored,
    PaymentEvent,
    ProviderUnreachable,
    Reference,
    RefundAnswer,
    RefundEvent,
    RefundOrder,
    RefundState,
    ReservationName,
    WebhookRefused,
    decoded,
)

Kind = TypeVar("Kind")

STRIPE_PROVIDER = "stripe"
SECRETS_MAX = 8
SIGNATURES_MAX = 16
HEADER_LENGTH_MAX = 2048
REFUNDS_LISTED_MAX = 100
ALREADY_REFUNDED = "charge_already_refunded"
OWN_REFERENCES = ("pi_", "ch_", "py_")

_STATES = {
    "succeeded": RefundState.DONE,
    "pending": RefundState.PENDING,
    "requires_action": RefundState.PENDING,
    "failed": RefundState.REFUSED,
    "canceled": RefundState.REFUSED,
}
_Id = Annotated[str, Meta(max_length=EVENT_ID_LENGTH_MAX)]


class _Metadata(Struct):
    reservation_id: ReservationName | None = None
    refund_id: Reference | None = None
    refund_generation: str | None = None


class _Object(Struct):
    """What concerns us of a Checkout Session, PaymentIntent, Charge or Refund."""

    id: Reference
    payment_intent: Reference | None = None
    charge: Reference | None = None
    payment_status: str = ""
    status: str | None = None
    amount: AmountMinor | None = None
    amount_total: AmountMinor | None = None
    amount_received: AmountMinor | None = None
    amount_refunded: AmountMinor | None = None
    currency: Currency | None = None
    metadata: _Metadata | None = field(default_factory=_Metadata)


class _Data(Struct):
    object: msgspec.Raw


class _Event(Struct):
    id: _Id
    type: str
    data: _Data


class _Refund(Struct):
    id: Reference
    status: str | None = None
    failure_reason: str | None = None
    metadata: _Metadata | None = None


class _Refunds(Struct):
    data: list[_Refund]


class _Error(Struct):
    code: Reference | None = None
    type: Reference | None = None


class _Failure(Struct):
    error: _Error


class StripeWebhooks:
    """Verifies Stripe's events."""

    def __init__(self, secrets: str, *, tolerance_ms: int, clock: Clock) -> None:
        """Takes the endpoint's signing secret, or several with spaces between while they are changed.

        Raises:
            ConfigurationError: there are none or too many.
        """
        self._keys = [secret.encode() for secret in secrets.split()]
        if not 1 <= len(self._keys) <= SECRETS_MAX:
            raise ConfigurationError(
                what="payments.stripe_webhook_secret is not one to eight secrets.",
                todo="Take the signing secret of the endpoint at Stripe.",
            )
        self._tolerance_ms = tolerance_ms
        self._clock = clock

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Returns when the event is genuine.

        Raises:
            WebhookRefused: the header is missing, the time is off, or no signature matches.
        """
        timestamp, signatures = _signatures(headers.get("stripe-signature", ""))
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 15:
            raise WebhookRefused(what="The header Stripe-Signature is missing or malformed.")
        if abs(self._clock.now_ms() - int(timestamp) * 1000) > self._tolerance_ms:
            raise WebhookRefused(what="The event's time is too far from now.", todo="Check both clocks.")
        signed = b"%b.%b" % (timestamp.encode(), body)
        macs = [hmac.new(key, signed, hashlib.sha256).hexdigest().encode() for key in self._keys]
        if not any([hmac.compare_digest(mac, one) for mac in macs for one in signatures]):  # noqa: C419 - all are compared
            raise WebhookRefused(what="No signature of the event matches.", todo="Is it the signing secret of this endpoint?")

    def verify_webhook(self, headers: Mapping[str, str], body: bytes) -> Event:
        """What the event tells. Raises as `PaymentProvider.verify_webhook` does."""
        self.verify(headers, body)
        event: _Event = decoded(body, _Event)
        read = _READERS.get(event.type)
        return Ignored(event.id) if read is None else read(event.id, decoded(bytes(event.data.object), _Object))


def _signatures(header: str) -> tuple[str, list[bytes]]:
    """(timestamp, signatures of the scheme v1) of a Stripe-Signature header."""
    timestamp, signatures = "", []
    for part in header[:HEADER_LENGTH_MAX].split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            timestamp = value
        elif name == "v1":
            signatures.append(value.encode())
    return timestamp, signatures[:SIGNATURES_MAX]


def _paid(event_id: str, reservation_id: str | None, reference: str | None, amount_minor: int | None, currency: str | None) -> Event:
    if reservation_id is None or reference is None or amount_minor is None:
        return Ignored(event_id)  # of another business of the same account
    return PaymentEvent(event_id, reservation_id, reference, amount_minor, (currency or "").upper())


def _session(event_id: str, session: _Object) -> Event:
    if session.payment_status != "paid":
        return Ignored(event_id)  # the money comes later, with an event of its own
    return _paid(event_id, _of(session).reservation_id, session.payment_intent, session.amount_total, session.currency)


def _intent(event_id: str, intent: _Object) -> Event:
    return _paid(event_id, _of(intent).reservation_id, intent.id, intent.amount_received, intent.currency)


def _charge_refunded(event_id: str, charge: _Object) -> Event:
    return RefundEvent(event_id, charge.payment_intent or charge.id, charge.amount_refunded or 0)


def _refund_changed(event_id: str, refund: _Object) -> Event:
    reference = refund.payment_intent or refund.charge
    if refund.status != "succeeded" or reference is None:
        return Ignored(event_id)
    return RefundEvent(event_id, reference, refund.amount or 0, _of(refund).refund_id or "", refund.id)


def _of(thing: _Object) -> _Metadata:
    return thing.metadata or _Metadata()


_READERS = {
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "payment_intent.succeeded": _intent,
    "charge.refunded": _charge_refunded,
    "refund.created": _refund_changed,
    "refund.updated": _refund_changed,
    "charge.refund.updated": _refund_changed,
}


class StripeRefunds:
    """Gives money back through Stripe's API.

    Stripe keeps idempotency keys for a day. An unknown outcome may be older, so before anything is asked a second time the
    payment's refunds are looked through for ours. Of those that failed, only one of the order's own generation counts: an
    earlier one is what a person has sent the refund on for, and its key would only tell of it again.
    """

    name = STRIPE_PROVIDER

    def __init__(self, client: ClientSession, api_url: str, api_key: str, *, timeout_ms: int) -> None:
        self._client = client
        self._url = api_url.rstrip("/") + "/v1/refunds"
        self._authorization = {"Authorization": f"Bearer {api_key}"}
        self._timeout_ms = timeout_ms

    def owns(self, payment_reference: str) -> bool:
        """PaymentIntents and Charges."""
        return payment_reference.startswith(OWN_REFERENCES)

    async def find_refund(self, order: RefundOrder) -> RefundAnswer | None:
        """The refund of this payment that bears our id, one that lives before one that failed.

        Raises as `RefundProvider.find_refund` does.
        """
        url = f"{self._url}?{urlencode({**_payment(order), 'limit': REFUNDS_LISTED_MAX})}"
        status, content = await ask(self._client, "GET", url, headers=self._authorization, body=None, timeout_ms=self._timeout_ms)
        if status >= 400:
            return None  # a payment Stripe does not know has no refunds; asking for one will say so
        ours = [
            one for one in _understood(content, _Refunds).data if one.metadata is not None and one.metadata.refund_id == order.refund_id
        ]
        living = [one for one in ours if _state(one) is not RefundState.REFUSED]
        failed_now = [one for one in ours if one.metadata is not None and one.metadata.refund_generation == _generation(order)]
        return _answer((living or failed_now)[0]) if living or failed_now else None

    async def refund(self, order: RefundOrder) -> RefundAnswer:
        """Creates the refund. Raises as `RefundProvider.refund` does."""
        form = {
            **_payment(order),
            "amount": order.amount_minor,
            "metadata[refund_id]": order.refund_id,
            "metadata[reservation_id]": order.reservation_id,
        }
        generation = _generation(order)
        if generation is not None:
            form["metadata[refund_generation]"] = generation
        headers = {
            **self._authorization,
            "Idempotency-Key": order.refund_id if generation is None else f"{order.refund_id}-{generation}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = urlencode(form).encode()
        status, content = await ask(self._client, "POST", self._url, headers=headers, body=body, timeout_ms=self._timeout_ms)
        if status >= 400:
            error = _understood(content, _Failure).error
            code = error.code or error.type or f"http_{status}"
            return RefundAnswer(RefundState.DONE if code == ALREADY_REFUNDED else RefundState.REFUSED, code=code)
        return _answer(_understood(content, _Refund))


def _payment(order: RefundOrder) -> dict[str, object]:
    kind = "payment_intent" if order.payment_reference.startswith("pi_") else "charge"
    return {kind: order.payment_reference}


def _generation(order: RefundOrder) -> str | None:
    """As it stands in the metadata: not at all for the first."""
    return str(order.generation) if order.generation else None


def _state(refund: _Refund) -> RefundState:
    return _STATES.get(refund.status or "", RefundState.PENDING)


def _answer(refund: _Refund) -> RefundAnswer:
    state = _state(refund)
    return RefundAnswer(state, refund.id, refund.failure_reason or refund.status or "" if state is RefundState.REFUSED else "")


def _understood(content: bytes, kind: type[Kind]) -> Kind:
    try:
        answer: Kind = decoded(content, kind)
    except BadInput:
        raise ProviderUnreachable(what="Stripe's answer cannot be read.") from None
    return answer
