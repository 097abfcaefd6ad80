"""Payment providers: telling a genuine payment event from anything else. Pure; whoever receives it is elsewhere.

The generic provider speaks Standard Webhooks (https://www.standardwebhooks.com): the signature is an HMAC-SHA256 over
`<webhook-id>.<webhook-timestamp>.<body>`. Nothing is remembered about events: a payment is known by its reference, and
confirming the same one twice is harmless.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta, Struct

from flashsale.clock import Clock
from flashsale.errors import BadInput, ConfigurationError, FlashsaleError
from flashsale.model import PAYMENT_REFERENCE_LENGTH_MAX

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of one
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
SIGNATURES_MAX = 16
SUCCEEDED = "payment.succeeded"


class WebhookRefused(FlashsaleError):
    """The request is not a genuine event of the provider."""

    code = "unauthorized"


class ProviderUnknown(FlashsaleError):
    """No payment provider of that name is set up."""

    code = "not_found"


@dataclass(frozen=True, slots=True)
class Payment:
    """Money received for a reservation."""

    event_id: str
    reservation_id: str
    payment_reference: str
    amount_minor: int


class PaymentProvider(Protocol):
    """One way in for payments."""

    def read(self, headers: Mapping[str, str], body: bytes) -> Payment | None:
        """The payment an event tells of; None for events of other kinds.

        Raises:
            WebhookRefused: the event is not genuine, or too old.
            BadInput: it is genuine and malformed.
        """
        ...


class _PaymentData(Struct):
    reservation_id: Annotated[str, Meta(max_length=128)]
    payment_reference: Annotated[str, Meta(pattern=rf"^[\x21-\x7e]{{1,{PAYMENT_REFERENCE_LENGTH_MAX}}}\Z")]
    amount_minor: Annotated[int, Meta(ge=0, le=2**53)]


class _Event(Struct):
    type: str
    data: msgspec.Raw


class StandardWebhooks:
    """Signs and verifies by the Standard Webhooks specification."""

    def __init__(self, secret: str, *, tolerance_ms: int, clock: Clock) -> None:
        """Takes the secret as `whsec_` and base64 of 24 to 64 bytes.

        Raises:
            ConfigurationError: it has another form.
        """
        self._secret = _decode_secret(secret)
        self._tolerance_ms = tolerance_ms
        self._clock = clock

    def sign(self, event_id: str, timestamp_s: int, body: bytes) -> str:
        """The `webhook-signature` of an event."""
        return "v1," + base64.b64encode(self._mac(event_id, str(timestamp_s), body)).decode()

    def verify(self, headers: Mapping[str, str], body: bytes) -> str:
        """The id of a genuine event.

        Raises:
            WebhookRefused: a header is missing, the time is off, or no signature matches.
        """
        event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not 1 <= len(event_id) <= 256 or not event_id.isascii():
            raise WebhookRefused(what="The header webhook-id is missing or malformed.")
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 15:
            raise WebhookRefused(what="The header webhook-timestamp is missing or not a whole number of seconds.")
        if abs(self._clock.now_ms() - int(timestamp) * 1000) > self._tolerance_ms:
            raise WebhookRefused(what="The event's time is too far from now.", todo="Check both clocks.")
        expected = base64.b64encode(self._mac(event_id, timestamp, body))
        presented = headers.get("webhook-signature", "").split(" ", SIGNATURES_MAX)[:SIGNATURES_MAX]
        matches = [hmac.compare_digest(expected, part[3:].encode()) for part in presented if part.startswith("v1,")]
        if not any(matches):
            raise WebhookRefused(what="No signature of the event matches.", todo="Do both sides have the same secret?")
        return event_id

    def read(self, headers: Mapping[str, str], body: bytes) -> Payment | None:
        """The payment an event tells of; None for events of other kinds. Raises as `PaymentProvider.read` does."""
        event_id = self.verify(headers, body)
        event: _Event = _decoded(body, _Event)
        if event.type != SUCCEEDED:
            return None
        data: _PaymentData = _decoded(bytes(event.data), _PaymentData)
        return Payment(event_id, data.reservation_id, data.payment_reference, data.amount_minor)

    def _mac(self, event_id: str, timestamp: str, body: bytes) -> bytes:
        return hmac.digest(self._secret, b"%b.%b.%b" % (event_id.encode(), timestamp.encode(), body), "sha256")


class Payments:
    """The providers that are set up, by the name in their webhook's address."""

    def __init__(self, providers: Mapping[str, PaymentProvider], test_provider: StandardWebhooks | None = None) -> None:
        self._providers = dict(providers)
        self.test_provider = test_provider
        """signs the events of the local test provider; None when it is off"""

    def provider(self, name: str) -> PaymentProvider:
        """The provider `name`.

        Raises:
            ProviderUnknown: there is none.
        """
        try:
            return self._providers[name]
        except KeyError:
            raise ProviderUnknown(what="There is no payment provider of that name here.") from None


def payment_event(reservation_id: str, payment_reference: str, amount_minor: int) -> bytes:
    """The body of a `payment.succeeded` event."""
    data = {"reservation_id": reservation_id, "payment_reference": payment_reference, "amount_minor": amount_minor}
    return msgspec.json.encode({"type": SUCCEEDED, "data": data})


def secret_of(seed: bytes) -> str:
    """A webhook secret made from `seed`, the same for everyone who holds the seed."""
    return SECRET_PREFIX + base64.b64encode(hashlib.sha256(b"flashsale-webhook\x00" + seed).digest()).decode()


def _decode_secret(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ConfigurationError(
            what="payments.webhook_secret is not a webhook secret.",
            todo=f"It is {SECRET_PREFIX} and the base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes.",
        )
    return key


def _decoded(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(what="The event cannot be read:", why=f"{error}.", field="body") from None
