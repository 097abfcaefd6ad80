"""The generic provider: Standard Webhooks in both directions (https://www.standardwebhooks.com).

The signature is an HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`. A refund is asked for by a signed POST to
an address of the shop's; the `webhook-id` is the refund's id and the same each time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

import msgspec
from aiohttp import ClientSession
from msgspec import Struct

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

STANDARD_PROVIDER = "standard"
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of one
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
SECRETS_MAX = 8
SIGNATURES_MAX = 16
PAID, REFUNDED = "payment.succeeded", "refund.succeeded"
REFUND_REQUESTED = "refund.requested"


class _PaymentData(Struct):
    reservation_id: ReservationName
    payment_reference: Reference
    amount_minor: AmountMinor
    currency: Currency | None = None


class _RefundData(Struct):
    payment_reference: Reference
    amount_minor: AmountMinor
    refund_id: Reference | None = None
    provider_refund_id: Reference | None = None


class _Event(Struct):
    type: str
    data: msgspec.Raw


class _Answer(Struct):
    state: RefundState
    provider_refund_id: Reference | None = None
    code: Reference | None = None


class StandardWebhooks:
    """Signs and verifies by the Standard Webhooks specification."""

    def __init__(self, secrets: str, *, tolerance_ms: int, clock: Clock) -> None:
        """Takes one secret, or several with spaces between while they are changed: each is `whsec_` and base64 of 24 to 64 bytes.

        Raises:
            ConfigurationError: one has another form, or there are none or too many.
        """
        self._keys = _decode_secrets(secrets)
        self._tolerance_ms = tolerance_ms
        self._clock = clock

    def sign(self, event_id: str, timestamp_s: int, body: bytes) -> str:
        """The `webhook-signature` of an event: one signature for each secret."""
        return " ".join("v1," + mac.decode() for mac in self._macs(event_id, str(timestamp_s), body))

    def headers(self, event_id: str, body: bytes) -> dict[str, str]:
        """The headers with which an event is sent now."""
        timestamp_s = self._clock.now_ms() // 1000
        return {
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": self.sign(event_id, timestamp_s, body),
        }

    def verify(self, headers: Mapping[str, str], body: bytes) -> str:
        """The id of a genuine event.

        Raises:
            WebhookRefused: a header is missing, the time is off, or no signature matches.
        """
        event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not 1 <= len(event_id) <= EVENT_ID_LENGTH_MAX or not event_id.isascii():
            raise WebhookRefused(what="The header webhook-id is missing or malformed.")
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 15:
            raise WebhookRefused(what="The header webhook-timestamp is missing or not a whole number of seconds.")
        if abs(self._clock.now_ms() - int(timestamp) * 1000) > self._tolerance_ms:
            raise WebhookRefused(what="The event's time is too far from now.", todo="Check both clocks.")
        presented = headers.get("webhook-signature", "").split(" ", SIGNATURES_MAX)[:SIGNATURES_MAX]
        signatures = [part[3:].encode() for part in presented if part.startswith("v1,")]
        matches = [hmac.compare_digest(mac, one) for mac in self._macs(event_id, timestamp, body) for one in signatures]
        if not any(matches):
            raise WebhookRefused(what="No signature of the event matches.", todo="Do both sides have the same secret?")
        return event_id

    def verify_webhook(self, headers: Mapping[str, str], body: bytes) -> Event:
        """What the event tells. Raises as `PaymentProvider.verify_webhook` does."""
        event_id = self.verify(headers, body)
        event: _Event = decoded(body, _Event)
        if event.type == PAID:
            paid: _PaymentData = decoded(bytes(event.data), _PaymentData)
            currency = (paid.currency or "").upper()
            return PaymentEvent(event_id, paid.reservation_id, paid.payment_reference, paid.amount_minor, currency)
        if event.type == REFUNDED:
            back: _RefundData = decoded(bytes(event.data), _RefundData)
            return RefundEvent(event_id, back.payment_reference, back.amount_minor, back.refund_id or "", back.provider_refund_id or "")
        return Ignored(event_id)

    def _macs(self, event_id: str, timestamp: str, body: bytes) -> list[bytes]:
        signed = b"%b.%b.%b" % (event_id.encode(), timestamp.encode(), body)
        return [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in self._keys]


class StandardRefunds:
    """Asks the shop to give money back.

    The shop answers 200 with `{"state": "done" | "pending" | "refused"}` and, where it likes, `provider_refund_id` and
    `code`. An empty answer means pending. Asked again with the same `webhook-id` it tells what became of it.
    """

    name = STANDARD_PROVIDER

    def __init__(self, client: ClientSession, url: str, signer: StandardWebhooks, *, timeout_ms: int) -> None:
        """`url` takes the signed POST.

        Raises:
            ConfigurationError: it is no address of the web.
        """
        if not url.startswith(("https://", "http://")):
            raise ConfigurationError(what="payments.refund_url is not an address.", todo="It begins with https://.")
        self._client = client
        self._url = url
        self._signer = signer
        self._timeout_ms = timeout_ms

    def owns(self, payment_reference: str) -> bool:
        """Every payment that is nobody else's."""
        return bool(payment_reference)

    async def find_refund(self, order: RefundOrder) -> RefundAnswer | None:
        """None: to ask again with the same id is to ask what became of it."""
        del order
        return None

    async def refund(self, order: RefundOrder) -> RefundAnswer:
        """Sends the request. Raises as `RefundProvider.refund` does."""
        body = refund_request(order)
        headers = {**self._signer.headers(order.refund_id, body), "Idempotency-Key": order.refund_id}
        status, content = await ask(self._client, "POST", self._url, headers=headers, body=body, timeout_ms=self._timeout_ms)
        if status >= 400:
            return RefundAnswer(RefundState.REFUSED, code=_code_of(content) or f"http_{status}")
        if not content.strip():
            return RefundAnswer(RefundState.PENDING)
        try:
            answer: _Answer = decoded(content, _Answer)
        except BadInput:
            raise ProviderUnreachable(what="The shop's answer to a refund cannot be read.") from None
        return RefundAnswer(answer.state, answer.provider_refund_id or "", answer.code or "")


def payment_event(reservation_id: str, payment_reference: str, amount_minor: int, *, kind: str = PAID) -> bytes:
    """The body of an event about a payment."""
    data = {"reservation_id": reservation_id, "payment_reference": payment_reference, "amount_minor": amount_minor}
    return msgspec.json.encode({"type": kind, "data": data})


def refund_request(order: RefundOrder) -> bytes:
    """The body with which a refund is asked for."""
    data = {
        "refund_id": order.refund_id,
        "reservation_id": order.reservation_id,
        "payment_reference": order.payment_reference,
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "reason": order.reason,
    }
    return msgspec.json.encode({"type": REFUND_REQUESTED, "data": data})


def secret_of(seed: bytes) -> str:
    """A webhook secret made from `seed`, the same for everyone who holds the seed."""
    return SECRET_PREFIX + base64.b64encode(hashlib.sha256(b"flashsale-webhook\x00" + seed).digest()).decode()


def _code_of(content: bytes) -> str:
    try:
        code: str | None = decoded(content, _Refusal).code
    except BadInput:
        return ""
    return code or ""


class _Refusal(Struct):
    code: Reference | None = None


def _decode_secrets(secrets: str) -> list[bytes]:
    parts = secrets.split()
    keys = [_decode_secret(part) for part in parts]
    if not 1 <= len(keys) <= SECRETS_MAX or not all(keys):
        raise ConfigurationError(
            what="payments.webhook_secret is not a webhook secret.",
            todo=f"It is {SECRET_PREFIX} and the base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes; "
            f"up to {SECRETS_MAX} of them with spaces between.",
        )
    return keys


def _decode_secret(secret: str) -> bytes:
    """The key, empty when the secret has another form."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return key if secret.startswith(SECRET_PREFIX) and SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX else b""
