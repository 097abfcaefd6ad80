"""Webhooks: genuine ones are read, everything else is refused."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from flashsale.errors import BadInput, ConfigurationError
from flashsale.payments.provider import Ignored, PaymentEvent, ProviderUnknown, RefundEvent, WebhookRefused
from flashsale.payments.registry import Payments
from flashsale.payments.standard import StandardWebhooks, payment_event, secret_of

# The example of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
ID, TIMESTAMP = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


class FixedClock:
    """One moment."""

    def __init__(self, now_s: int = TIMESTAMP) -> None:
        self.now_s = now_s

    def now_ms(self) -> int:
        return self.now_s * 1000

    def monotonic(self) -> float:
        return 0.0


def provider(now_s: int = TIMESTAMP, secret: str = SECRET) -> StandardWebhooks:
    return StandardWebhooks(secret, tolerance_ms=300_000, clock=FixedClock(now_s))


def headers(**changes: str) -> dict[str, str]:
    values = {"webhook-id": ID, "webhook-timestamp": str(TIMESTAMP), "webhook-signature": SIGNATURE}
    return {**values, **{f"webhook-{name}": value for name, value in changes.items()}}


def signed(event: Any) -> tuple[dict[str, str], bytes]:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return headers(signature=provider().sign(ID, TIMESTAMP, body)), body


def test_the_specifications_example() -> None:
    assert provider().sign(ID, TIMESTAMP, BODY) == SIGNATURE
    assert provider().verify(headers(), BODY) == ID


@pytest.mark.parametrize("signature", [f"v1,{'A' * 44} {SIGNATURE}", f"v1a,x {SIGNATURE} v2,y", f"{SIGNATURE} {SIGNATURE}"])
def test_one_of_several_signatures_is_enough(signature: str) -> None:
    assert provider().verify(headers(signature=signature), BODY) == ID


@pytest.mark.parametrize(
    ("changed", "body"),
    [
        (headers(id=""), BODY),
        (headers(id="other"), BODY),
        (headers(id="é"), BODY),
        (headers(timestamp=""), BODY),
        (headers(timestamp="1e9"), BODY),
        (headers(timestamp=str(TIMESTAMP + 1)), BODY),
        (headers(timestamp="9" * 400), BODY),
        (headers(signature=""), BODY),
        (headers(signature=SIGNATURE[3:]), BODY),
        (headers(signature="v1a," + SIGNATURE[3:]), BODY),
        (headers(signature="v1,"), BODY),
        (headers(signature="v1," + "é" * 44), BODY),
        (headers(signature=("v1,x " * 16) + SIGNATURE), BODY),
        (headers(), BODY + b" "),
    ],
)
def test_what_is_not_genuine(changed: dict[str, str], body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        provider().verify(changed, body)


@pytest.mark.parametrize(("late_s", "taken"), [(300, True), (301, False), (-300, True), (-301, False)])
def test_old_and_future_events(late_s: int, taken: bool) -> None:  # noqa: FBT001
    if taken:
        assert provider(TIMESTAMP + late_s).verify(headers(), BODY) == ID
        return
    with pytest.raises(WebhookRefused):
        provider(TIMESTAMP + late_s).verify(headers(), BODY)


def test_a_payment_is_read() -> None:
    payment = provider().verify_webhook(*signed(payment_event("d.r1", "pay-1", 1200)))
    assert payment == PaymentEvent(ID, "d.r1", "pay-1", 1200)


def test_other_events_are_ignored() -> None:
    assert provider().verify_webhook(*signed({"type": "payment.failed", "data": {"anything": 1}})) == Ignored(ID)


@pytest.mark.parametrize(
    "event",
    [
        b"{",
        b"\xff",
        {"type": "payment.succeeded"},
        {"type": "payment.succeeded", "data": []},
        {"type": "payment.succeeded", "data": {"reservation_id": "d.r1", "payment_reference": "p"}},
        {"type": "payment.succeeded", "data": {"reservation_id": "d.r1", "payment_reference": "", "amount_minor": 1}},
        {"type": "payment.succeeded", "data": {"reservation_id": "d.r1", "payment_reference": "p", "amount_minor": -1}},
        {"type": "payment.succeeded", "data": {"reservation_id": "d.r1", "payment_reference": "p", "amount_minor": "1"}},
    ],
)
def test_genuine_and_malformed(event: Any) -> None:
    with pytest.raises(BadInput):
        provider().verify_webhook(*signed(event))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_!",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        f"{SECRET} whsec_!",
        " ".join([SECRET] * 9),
    ],
)
def test_secrets_of_another_form(secret: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        provider(secret=secret)
    assert not secret or secret not in str(raised.value)


def test_a_refund_is_read() -> None:
    data = {"payment_reference": "pay-1", "amount_minor": 1200, "refund_id": "rf_1", "provider_refund_id": "re_1"}
    event = {"type": "refund.succeeded", "data": data}
    assert provider().verify_webhook(*signed(event)) == RefundEvent(ID, "pay-1", 1200, "rf_1", "re_1")


def test_a_currency_is_read() -> None:
    data = {"reservation_id": "d.r1", "payment_reference": "p", "amount_minor": 1, "currency": "eur"}
    assert provider().verify_webhook(*signed({"type": "payment.succeeded", "data": data})) == PaymentEvent(ID, "d.r1", "p", 1, "EUR")


# ------------------------------------------------------------------------------------ what others sign and verify with

OTHER_SECRET = secret_of(b"the next secret")
SENT_AT = datetime.fromtimestamp(TIMESTAMP, UTC)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64), st.text(max_size=200))
def test_the_reference_library_signs_as_we_do(event_id: str, body: str) -> None:
    assert Webhook(SECRET).sign(event_id, SENT_AT, body) == provider().sign(event_id, TIMESTAMP, body.encode())


def test_the_reference_library_takes_what_we_send() -> None:
    now_s = int(time.time())
    body = payment_event("d.r1", "pay-1", 1200)
    sent = provider(now_s, f"{OTHER_SECRET} {SECRET}").headers("evt_1", body)
    for secret in (SECRET, OTHER_SECRET):  # while the secret is changed, whoever has either of them understands
        assert Webhook(secret).verify(body, sent) == json.loads(body)


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET])
def test_while_the_secret_is_changed_both_are_taken(secret: str) -> None:
    signature = Webhook(secret).sign(ID, SENT_AT, BODY.decode())
    assert provider(secret=f" {SECRET}\n{OTHER_SECRET} ").verify(headers(signature=signature), BODY) == ID


def test_providers_by_name() -> None:
    one = provider(secret=secret_of(b"seed"))
    assert Payments({"standard": one}).provider("standard") is one
    with pytest.raises(ProviderUnknown):
        Payments({}).provider("standard")
    assert secret_of(b"seed") == secret_of(b"seed") != secret_of(b"other")
