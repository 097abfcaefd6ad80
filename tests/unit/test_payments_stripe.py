"""Stripe's events: genuine or not, and what they tell."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from flashsale.errors import BadInput, ConfigurationError
from flashsale.payments.provider import Ignored, PaymentEvent, RefundEvent, WebhookRefused
from flashsale.payments.stripe import StripeWebhooks
from tests.unit.test_payments import FixedClock

SECRET = "whsec_test_secret"
NOW_S = 1614265330
BODY = b'{"id":"evt_1"}'
# printf '%s' '1614265330.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_test_secret
SIGNATURE = "e135cdbed3dda004bf8a2fb350f2541d299393c770e0b9e6e319dc595e9072aa"
RESERVATION = "sneaker-x.rAAAAAAAAAAAAAAAAAAAAAA"


def stripe(secrets: str = SECRET, now_s: int = NOW_S) -> StripeWebhooks:
    return StripeWebhooks(secrets, tolerance_ms=300_000, clock=FixedClock(now_s))


def signature_header(*signatures: str, timestamp: object = NOW_S) -> dict[str, str]:
    return {"stripe-signature": ",".join([f"t={timestamp}", *(f"v1={one}" for one in signatures)])}


def told(kind: str, thing: Any) -> Any:
    body = json.dumps({"id": "evt_1", "object": "event", "type": kind, "data": {"object": thing}, "livemode": False}).encode()
    signature = hmac.new(SECRET.encode(), b"%d.%b" % (NOW_S, body), hashlib.sha256).hexdigest()
    return stripe().verify_webhook(signature_header(signature), body)


def test_a_signature_made_elsewhere() -> None:
    stripe().verify(signature_header(SIGNATURE), BODY)


@pytest.mark.parametrize("signatures", [["0" * 64, SIGNATURE], [SIGNATURE, "x"], [SIGNATURE, SIGNATURE]])
def test_one_of_several_signatures_is_enough(signatures: list[str]) -> None:
    stripe().verify(signature_header(*signatures), BODY)


def test_other_schemes_are_passed_over() -> None:
    stripe().verify({"stripe-signature": f"t={NOW_S}, v0=abc, v1={SIGNATURE}, v2="}, BODY)


def test_while_the_secret_is_changed_both_are_taken() -> None:
    stripe(f"whsec_next {SECRET}").verify(signature_header(SIGNATURE), BODY)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        ({"stripe-signature": ""}, BODY),
        ({"stripe-signature": "t=,v1="}, BODY),
        ({"stripe-signature": f"v1={SIGNATURE}"}, BODY),
        (signature_header(timestamp=NOW_S), BODY),
        (signature_header(SIGNATURE, timestamp=NOW_S + 1), BODY),
        (signature_header(SIGNATURE, timestamp="9" * 16), BODY),
        (signature_header(SIGNATURE, timestamp="²"), BODY),
        (signature_header(SIGNATURE.upper()), BODY),
        (signature_header("é"), BODY),
        (signature_header(*["0" * 8] * 16, SIGNATURE), BODY),
        ({"stripe-signature": f"t={NOW_S},v0={SIGNATURE}"}, BODY),
        (signature_header(SIGNATURE), BODY + b" "),
    ],
)
def test_what_is_not_genuine(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        stripe().verify_webhook(headers, body)


@pytest.mark.parametrize(("late_s", "taken"), [(300, True), (301, False), (-300, True), (-301, False)])
def test_old_and_future_events(late_s: int, *, taken: bool) -> None:
    if taken:
        stripe(now_s=NOW_S + late_s).verify(signature_header(SIGNATURE), BODY)
        return
    with pytest.raises(WebhookRefused):
        stripe(now_s=NOW_S + late_s).verify(signature_header(SIGNATURE), BODY)


SESSION = {
    "id": "cs_test_1", "object": "checkout.session", "payment_intent": "pi_1", "payment_status": "paid", "status": "complete",
    "amount_total": 1200, "currency": "eur", "metadata": {"reservation_id": RESERVATION, "anything": "else"},
}  # fmt: skip
INTENT = {
    "id": "pi_1", "object": "payment_intent", "amount": 1200, "amount_received": 1200, "currency": "eur", "status": "succeeded",
    "latest_charge": "ch_1", "metadata": {"reservation_id": RESERVATION},
}  # fmt: skip
CHARGE = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "amount": 1200, "amount_refunded": 1200, "refunded": True}
REFUND = {
    "id": "re_1", "object": "refund", "payment_intent": "pi_1", "charge": "ch_1", "amount": 1200, "status": "succeeded",
    "metadata": {"refund_id": "rf_1"},
}  # fmt: skip
PAID = PaymentEvent("evt_1", RESERVATION, "pi_1", 1200, "EUR")


@pytest.mark.parametrize(
    ("kind", "thing", "event"),
    [
        ("checkout.session.completed", SESSION, PAID),
        ("checkout.session.async_payment_succeeded", SESSION, PAID),
        ("checkout.session.completed", {**SESSION, "payment_status": "unpaid"}, Ignored("evt_1")),
        ("checkout.session.completed", {**SESSION, "metadata": {}}, Ignored("evt_1")),
        ("checkout.session.completed", {**SESSION, "metadata": None}, Ignored("evt_1")),
        ("checkout.session.completed", {**SESSION, "payment_intent": None}, Ignored("evt_1")),
        ("payment_intent.succeeded", INTENT, PAID),
        ("payment_intent.succeeded", {**INTENT, "metadata": {"order": "7"}}, Ignored("evt_1")),
        ("payment_intent.payment_failed", INTENT, Ignored("evt_1")),
        ("charge.refunded", CHARGE, RefundEvent("evt_1", "pi_1", 1200)),
        ("charge.refunded", {**CHARGE, "payment_intent": None}, RefundEvent("evt_1", "ch_1", 1200)),
        ("refund.updated", REFUND, RefundEvent("evt_1", "pi_1", 1200, "rf_1", "re_1")),
        ("refund.created", {**REFUND, "status": "pending"}, Ignored("evt_1")),
        ("charge.refund.updated", {**REFUND, "status": "failed"}, Ignored("evt_1")),
        ("customer.created", {"id": "cus_1"}, Ignored("evt_1")),
    ],
)
def test_what_an_event_tells(kind: str, thing: Any, event: object) -> None:
    assert told(kind, thing) == event


@pytest.mark.parametrize(
    "thing", [[], {}, {"id": ""}, {**SESSION, "amount_total": -1}, {**SESSION, "metadata": {"reservation_id": "with a blank"}}]
)
def test_genuine_and_malformed(thing: Any) -> None:
    with pytest.raises(BadInput):
        told("checkout.session.completed", thing)


@pytest.mark.parametrize("secrets", ["", "  ", " ".join(["whsec_x"] * 9)])
def test_no_secret_or_too_many(secrets: str) -> None:
    with pytest.raises(ConfigurationError):
        stripe(secrets)
