"""Payments over HTTP: late, double, wrong, duplicated and out of order; extensions; orders taken back; money that goes back."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from standardwebhooks.webhooks import Webhook

from flashsale import orders
from flashsale.access import Scope, create_key
from flashsale.clock import SystemClock
from flashsale.connections.database import Database
from flashsale.model import Sku, SkuStock
from flashsale.payments.test import TestRefunds
from flashsale.refunds import Refund, RefundProgress, Refunds
from flashsale.settings import Settings
from reconciler.refunds import RefundDriver
from tests.integration.http_client import Answer, Buyer, Service, in_own_task, make_drop, reconciling, with_settings, with_signing_keys
from tests.integration.reconciler_stage import query
from tests.integration.test_refunds import driver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STRIPE_SECRET = "whsec_stripe"


@pytest.fixture
def payment_settings(settings: Settings, tmp_path: Path) -> Settings:
    return with_settings(
        with_signing_keys(settings, tmp_path),
        payments={"webhook_secret": SECRET, "stripe_webhook_secret": STRIPE_SECRET, "test_provider": True},
    )


@pytest.fixture
async def service(payment_settings: Settings, store: Redis, database: Database) -> AsyncIterator[Service]:
    """A worker; the tests that wait for orders start a reconciler beside it."""
    async with in_own_task(with_settings(payment_settings, confirm={"deadline_ms": 10_000}), database) as running:
        yield running


@pytest.fixture
async def recorded(payment_settings: Settings, database: Database, service: Service) -> AsyncIterator[Service]:
    """The same worker with a reconciler, so that orders get into Postgres."""
    stop, started = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        async with reconciling(payment_settings, database, service.services):
            started.set()
            await stop.wait()

    task = asyncio.create_task(run())
    await started.wait()
    yield service
    stop.set()
    await task


async def reserve(service: Service, **changes: Any) -> tuple[Buyer, str]:
    """A buyer with one unit of a drop of its own."""
    drop = await service.open_drop(make_drop(**changes))
    buyer = Buyer(service, drop.drop_id)
    await buyer.enter()
    answer = await buyer.reserve()
    assert answer.status == 201, answer.body
    return buyer, answer.json["reservation_id"]


def payment(reservation_id: str, reference: str = "pay-1", amount_minor: int = 12_000, **more: Any) -> dict[str, Any]:
    data = {"reservation_id": reservation_id, "payment_reference": reference, "amount_minor": amount_minor, **more}
    return {"type": "payment.succeeded", "data": data}


async def send(service: Service, event: dict[str, Any], provider: str = "standard") -> Answer:
    """As the reference library of Standard Webhooks signs it."""
    body, event_id, now = json.dumps(event), f"evt_{secrets.token_hex(8)}", datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(event_id, now, body),
    }
    return await service.request("POST", f"/v1/payments/webhook/{provider}", data=body, headers=headers)


async def send_as_stripe(service: Service, kind: str, thing: dict[str, Any]) -> Answer:
    body = json.dumps({"id": f"evt_{secrets.token_hex(8)}", "type": kind, "data": {"object": thing}})
    now_s = SystemClock().now_ms() // 1000
    signature = hmac.new(STRIPE_SECRET.encode(), f"{now_s}.{body}".encode(), hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "Stripe-Signature": f"t={now_s},v1={signature}"}
    return await service.request("POST", "/v1/payments/webhook/stripe", data=body, headers=headers)


async def stock(service: Service, drop_id: str, sku: str = "black-42") -> SkuStock:
    found = (await service.services.drop_store.inspect(drop_id)).skus[sku]
    assert found.allotment == found.available + found.reserved + found.sold
    return found


async def state_of(service: Service, reservation_id: str) -> str:
    return str((await service.get(f"/v1/reservations/{reservation_id}")).json["state"])


async def order_until(service: Service, order_id: str, *states: str) -> Any:
    """The order, once it is in one of these states."""
    async with asyncio.timeout(20):
        while True:
            answer = await service.as_storefront(f"/v1/orders/{order_id}", method="GET")
            if answer.status == 200 and answer.json["state"] in states:
                return answer.json
            await asyncio.sleep(0.02)


async def refunds_until(database: Database, count: int) -> dict[str, Refund]:
    """Refunds by payment, once there are so many that are not done."""
    async with asyncio.timeout(20):
        while len(found := await Refunds(database).unfinished()) < count:  # noqa: ASYNC110 - the recorder tells the tests nothing
            await asyncio.sleep(0.02)
    assert len(found) == count
    return {refund.payment_reference: refund for refund in found}


async def until_refunded(database: Database, refund_driver: RefundDriver, count: int) -> None:
    """Drives refunds, without their pauses, until so many are done."""
    async with asyncio.timeout(20):
        while True:
            await refund_driver.drive()
            ((done,),) = await query(database, "SELECT count(*) FROM refunds WHERE state = 'done'")
            if done == count:
                return
            await query(database, "UPDATE refunds SET next_attempt_at = now()")


# ------------------------------------------------------------------------------------------------------------ webhooks


async def test_the_same_payment_told_of_by_everyone_at_once_sells_once(recorded: Service, database: Database) -> None:
    buyer, reservation_id = await reserve(recorded)
    body = {"payment_reference": "pay-1", "amount_minor": 12_000}
    told = [send(recorded, payment(reservation_id)) for _ in range(5)]
    confirmed = [recorded.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body) for _ in range(5)]
    answers = await asyncio.gather(*told, *confirmed)
    assert {answer.status for answer in answers} == {200}
    assert (await order_until(recorded, reservation_id, "paid"))["payment_reference"] == "pay-1"
    assert (await stock(recorded, buyer.drop_id)).sold == 1
    assert await Refunds(database).unfinished() == []


async def test_of_two_payments_at_once_one_pays_and_the_other_goes_back(recorded: Service, database: Database) -> None:
    buyer, reservation_id = await reserve(recorded)
    references = ["pay-1", "pay-2"]
    answers = await asyncio.gather(*(send(recorded, payment(reservation_id, reference)) for reference in references * 3))
    assert {answer.status for answer in answers} == {200}
    assert sorted(answer.json["state"] for answer in answers) == ["confirmed"] * 3 + ["surplus"] * 3
    order = await order_until(recorded, reservation_id, "paid")
    (surplus,) = (await refunds_until(database, 1)).values()
    assert {order["payment_reference"], surplus.payment_reference} == set(references)
    assert (surplus.reason, surplus.amount_minor, surplus.state) == ("paid_twice", 12_000, RefundProgress.DUE)
    assert (await stock(recorded, buyer.drop_id)).sold == 1


async def test_a_payment_of_another_amount_goes_back_and_the_reservation_stays(recorded: Service, database: Database) -> None:
    _, reservation_id = await reserve(recorded)
    for _ in range(2):
        answer = await send(recorded, payment(reservation_id, "pay-1", 11_999))
        assert (answer.status, answer.json["state"]) == (200, "surplus")
    refund = (await refunds_until(database, 1))["pay-1"]
    assert (refund.reason, refund.amount_minor) == ("amount_mismatch", 11_999)
    assert await state_of(recorded, reservation_id) == "reserved"
    assert (await send(recorded, payment(reservation_id, "pay-2"))).json["state"] == "confirmed"


async def test_a_payment_in_another_currency_is_kept_for_a_person(service: Service, database: Database) -> None:
    _, reservation_id = await reserve(service)
    for _ in range(2):
        answer = await send(service, payment(reservation_id, currency="USD"))
        assert (answer.status, answer.json["state"]) == (200, "held")
    refund = (await refunds_until(database, 1))["pay-1"]
    assert (refund.state, refund.reason, refund.currency) == (RefundProgress.HELD, "currency_mismatch", "USD")
    assert await state_of(service, reservation_id) == "reserved"
    assert (await send(service, payment(reservation_id, "pay-2", currency="eur"))).json["state"] == "confirmed"


@pytest.mark.parametrize("unknown", ["sneaker-x.rAAAAAAAAAAAAAAAAAAAAAA", "other.rAAAAAAAAAAAAAAAAAAAAAA", "basket-7"])
async def test_a_payment_for_nothing_known_is_refused_and_kept(service: Service, database: Database, unknown: str) -> None:
    await reserve(service)
    for _ in range(3):
        answer = await send(service, payment(unknown))
        assert (answer.status, answer.code) == (404, "reservation_not_found")
    (refund,) = await Refunds(database).unfinished()
    assert (refund.state, refund.reason, refund.reservation_id, refund.provider) == (RefundProgress.HELD, "unmatched", unknown, "standard")


async def test_a_kept_payment_that_matches_later_is_no_longer_anybodys_worry(recorded: Service, database: Database) -> None:
    _, reservation_id = await reserve(recorded)
    await database.execute("refund_hold", reservation_id, "sneaker-x", 12_000, "", "pay-1", "unmatched", "standard")
    assert (await send(recorded, payment(reservation_id))).status == 200
    await order_until(recorded, reservation_id, "paid")
    assert await Refunds(database).unfinished() == []


async def test_a_late_payment_is_honoured_or_goes_back(recorded: Service, database: Database) -> None:
    buyer, reservation_id = await reserve(recorded, skus=(Sku("black-42", "B", 1, 12_000, 2),), limit_per_shopper=2)
    assert (await recorded.request("DELETE", f"/v1/reservations/{reservation_id}")).status == 200
    second = (await buyer.reserve(key="second")).json["reservation_id"]
    answer = await send(recorded, payment(reservation_id))
    assert (answer.status, answer.json["state"]) == (200, "refund_due")
    assert (await order_until(recorded, reservation_id, "refund_due"))["reason"] == "paid_after_expiry"
    assert (await recorded.request("DELETE", f"/v1/reservations/{second}")).status == 200
    assert (await send(recorded, payment(second, "pay-2"))).json["state"] == "confirmed"
    assert (await order_until(recorded, second, "paid"))["payment_reference"] == "pay-2"
    assert set(await refunds_until(database, 1)) == {"pay-1"}


async def test_a_late_payment_is_not_answered_with_the_end_that_came_before_it(recorded: Service) -> None:
    _, reservation_id = await reserve(recorded)
    assert (await recorded.request("DELETE", f"/v1/reservations/{reservation_id}")).status == 200
    await order_until(recorded, reservation_id, "cancelled")
    body = {"payment_reference": "pay-1", "amount_minor": 12_000}
    answer = await recorded.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body)
    assert (answer.status, answer.json["state"]) == (200, "paid")


async def test_a_payment_is_taken_although_nobody_more_can_wait_for_its_order(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    _, reservation_id = await reserve(service)
    monkeypatch.setattr(orders, "WAITING_MAX", 0)
    body = {"payment_reference": "pay-1", "amount_minor": 12_000}
    answer = await service.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body)
    assert (answer.status, answer.json["state"]) == (202, "confirmed")


async def test_stripe_pays_and_gives_back(recorded: Service, database: Database) -> None:
    _, reservation_id = await reserve(recorded)
    intent = {"id": "pi_1", "amount_received": 12_000, "currency": "eur", "metadata": {"reservation_id": reservation_id}}
    session = {
        "id": "cs_1",
        "payment_intent": "pi_1",
        "payment_status": "paid",
        "amount_total": 12_000,
        "currency": "eur",
        "metadata": {"reservation_id": reservation_id},
    }
    for kind, thing in (("payment_intent.succeeded", intent), ("checkout.session.completed", session)):
        answer = await send_as_stripe(recorded, kind, thing)
        assert (answer.status, answer.json["state"]) == (200, "confirmed")
    assert (await send_as_stripe(recorded, "customer.created", {"id": "cus_1"})).status == 204
    await order_until(recorded, reservation_id, "paid")
    assert (await take_back(recorded, reservation_id)).status in {200, 202}
    await order_until(recorded, reservation_id, "refund_due")
    charge = {"id": "ch_1", "payment_intent": "pi_1", "amount_refunded": 12_000}
    assert (await send_as_stripe(recorded, "charge.refunded", charge)).status == 204
    await order_until(recorded, reservation_id, "refunded")


async def test_stripes_secret_is_not_another_providers(service: Service) -> None:
    _, reservation_id = await reserve(service)
    assert (await send(service, payment(reservation_id), provider="stripe")).code == "unauthorized"
    assert (await send(service, payment(reservation_id), provider="paypal")).code == "not_found"


# ----------------------------------------------------------------------------------------------------------- extension


async def extend(service: Service, reservation_id: str, key: str = "more", **headers: str) -> Answer:
    return await service.post(f"/v1/reservations/{reservation_id}/extend", headers={"Idempotency-Key": key, **headers})


async def test_a_reservation_is_extended_once(recorded: Service, database: Database) -> None:
    _, reservation_id = await reserve(recorded, extension_ms=60_000)
    before = (await recorded.get(f"/v1/reservations/{reservation_id}")).json["expires_at_ms"]
    for _ in range(2):
        answer = await extend(recorded, reservation_id)
        assert (answer.status, answer.json["state"], answer.json["expires_at_ms"]) == (200, "reserved", before + 60_000)
    answer = await extend(recorded, reservation_id, key="still-more")
    assert (answer.status, answer.code) == (409, "already_extended")
    assert (await recorded.get(f"/v1/reservations/{reservation_id}")).json["expires_at_ms"] == before + 60_000
    async with asyncio.timeout(20):
        while (await recorded.services.orders.get(reservation_id)).expires_at_ms != before + 60_000:  # type: ignore[union-attr]  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_extensions_at_once_extend_once(service: Service) -> None:
    _, reservation_id = await reserve(service, extension_ms=60_000)
    before = (await service.get(f"/v1/reservations/{reservation_id}")).json["expires_at_ms"]
    answers = await asyncio.gather(*(extend(service, reservation_id, key=f"key-{number}") for number in range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    assert (await service.get(f"/v1/reservations/{reservation_id}")).json["expires_at_ms"] == before + 60_000


async def test_extensions_that_are_refused(service: Service) -> None:
    buyer, reservation_id = await reserve(service, extension_ms=60_000)
    assert (await service.get(f"/v1/drops/{buyer.drop_id}")).json["extension_ms"] == 60_000
    answer = await service.post(f"/v1/reservations/{reservation_id}/extend")
    assert answer.code == "idempotency_key_missing"
    assert (await extend(service, f"{buyer.drop_id}.r{'A' * 22}")).code == "reservation_not_found"
    assert (await extend(service, reservation_id, Authorization="Bearer x")).code == "token_invalid"
    assert (await extend(service, reservation_id, Authorization=f"Bearer {buyer.token}")).status == 200
    await send(service, payment(reservation_id))
    assert (await extend(service, reservation_id, key="paid")).code == "already_paid"
    released = (await buyer.reserve(key="second")).json["reservation_id"]
    await service.request("DELETE", f"/v1/reservations/{released}")
    answer = await extend(service, released)
    assert (answer.status, answer.code) == (410, "reservation_expired")


async def test_a_drop_allows_extensions_or_not(service: Service) -> None:
    buyer, reservation_id = await reserve(service)
    assert (await service.get(f"/v1/drops/{buyer.drop_id}")).json["extension_ms"] == 0
    answer = await extend(service, reservation_id)
    assert (answer.status, answer.code) == (409, "extension_not_allowed")


# --------------------------------------------------------------------------------------------------- orders taken back


async def take_back(service: Service, order_id: str, body: Any = None, **options: Any) -> Answer:
    return await service.as_storefront(f"/v1/orders/{order_id}/refunds", {} if body is None else body, **options)


async def test_a_paid_order_is_taken_back_once(recorded: Service, database: Database) -> None:
    buyer, reservation_id = await reserve(recorded)
    await send(recorded, payment(reservation_id))
    await order_until(recorded, reservation_id, "paid")
    answers = await asyncio.gather(*(take_back(recorded, reservation_id, {"reason": "duplicate"}) for _ in range(4)))
    assert {answer.status for answer in answers} <= {200, 202}
    order = await order_until(recorded, reservation_id, "refund_due")
    assert order["reason"] == "storefront:duplicate"
    assert await state_of(recorded, reservation_id) == "cancelled"
    units = await stock(recorded, buyer.drop_id)
    assert (units.available, units.sold) == (100, 0)
    refund = (await refunds_until(database, 1))["pay-1"]
    assert (refund.amount_minor, refund.reason) == (12_000, "storefront:duplicate")
    assert (await take_back(recorded, reservation_id)).status == 200
    # The payment told of again changes nothing, and another one is surplus.
    assert (await send(recorded, payment(reservation_id))).json["state"] == "cancelled"
    assert (await send(recorded, payment(reservation_id, "pay-2"))).json["state"] == "surplus"
    assert set(await refunds_until(database, 2)) == {"pay-1", "pay-2"}
    body = {"payment_reference": "pay-1", "amount_minor": 12_000}
    told = await recorded.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body)
    assert (told.code, told.json["detail"]) == (
        "reservation_expired",
        "The order was paid and has been taken back since; its payment goes back.",
    )
    # The shopper may buy again what went back.
    assert (await buyer.reserve(key="again")).status == 201


async def test_orders_that_cannot_be_taken_back(service: Service, database: Database) -> None:
    buyer, reservation_id = await reserve(service)
    answer = await take_back(service, reservation_id)
    assert (answer.status, answer.code) == (409, "not_paid")
    assert await state_of(service, reservation_id) == "reserved"
    assert (await take_back(service, f"{buyer.drop_id}.r{'A' * 22}")).code == "order_not_found"
    assert (await take_back(service, reservation_id, {"reason": "because"})).json["field"] == "reason"
    assert (await take_back(service, reservation_id, key="fs_live_x")).code == "unauthorized"
    _, stranger = await create_key(database, [Scope.STOREFRONT], tenant="another")
    await service.services.access.refresh()
    assert (await take_back(service, reservation_id, key=stranger)).code == "order_not_found"
    headers = {"Authorization": f"Bearer {service.api_key}"}
    assert (await service.post(f"/v1/orders/{reservation_id}/refunds", {}, headers=headers)).code == "idempotency_key_missing"


# ---------------------------------------------------------------------------------------------------------------- races


@pytest.mark.parametrize("seed", range(6))
async def test_confirm_cancel_extend_and_release_at_once_leave_one_truth(recorded: Service, database: Database, seed: int) -> None:
    buyer, reservation_id = await reserve(recorded, extension_ms=60_000)
    calls = [
        lambda: send(recorded, payment(reservation_id)),
        lambda: send(recorded, payment(reservation_id, "pay-2")),
        lambda: extend(recorded, reservation_id),
        lambda: recorded.request("DELETE", f"/v1/reservations/{reservation_id}"),
        lambda: take_back(recorded, reservation_id),
    ]
    answers = await asyncio.gather(*(calls[(seed + at) % len(calls)]() for at in range(2 * len(calls))))
    assert max(answer.status for answer in answers) < 500
    await take_back(recorded, reservation_id)
    order = await order_until(recorded, reservation_id, "refund_due", "cancelled")
    units = await stock(recorded, buyer.drop_id)
    assert (units.available, units.reserved, units.sold) == (100, 0, 0)
    assert set(await refunds_until(database, 2)) == {"pay-1", "pay-2"}  # both payments came, so both go back
    assert order["state"] == "refund_due"


# ------------------------------------------------------------------------------------------------------- test provider


async def pay(service: Service, reservation_id: str, **behaviour: Any) -> Answer:
    return await service.post("/v1/test-provider/payments", {"reservation_id": reservation_id, "behaviour": behaviour})


async def test_the_test_provider_pays_twice_in_disorder_and_says_everything_again(recorded: Service, database: Database) -> None:
    buyer, reservation_id = await reserve(recorded)
    answer = await pay(recorded, reservation_id, payments=2, deliveries=3, disorder=True)
    assert (answer.status, answer.json["webhook_status"]) == (201, 200)
    order = await order_until(recorded, reservation_id, "paid")
    assert order["payment_reference"] == answer.json["payment_reference"]
    await refunds_until(database, 1)
    await until_refunded(database, driver(database, TestRefunds(1)), 1)
    assert (await stock(recorded, buyer.drop_id)).sold == 1


async def test_the_test_provider_fails(service: Service) -> None:
    _, reservation_id = await reserve(service)
    answer = await pay(service, reservation_id, outcome="failed", delay_ms=1)
    assert (answer.status, answer.json["webhook_status"]) == (201, 204)
    assert await state_of(service, reservation_id) == "reserved"


async def test_the_test_provider_pays_late(recorded: Service) -> None:
    buyer, reservation_id = await reserve(recorded)
    answer = await pay(recorded, reservation_id, pay_after_ms=200)
    assert (answer.status, answer.json["webhook_status"]) == (202, 0)
    assert await state_of(recorded, reservation_id) == "reserved"
    await recorded.request("DELETE", f"/v1/reservations/{reservation_id}")
    await order_until(recorded, reservation_id, "paid")  # the unit was still free
    assert (await stock(recorded, buyer.drop_id)).sold == 1


async def test_the_test_provider_loses_the_answers_to_a_refund(recorded: Service, database: Database) -> None:
    _, reservation_id = await reserve(recorded)
    await pay(recorded, reservation_id, refund_timeouts=2)
    await order_until(recorded, reservation_id, "paid")
    await take_back(recorded, reservation_id)
    await order_until(recorded, reservation_id, "refund_due")
    await until_refunded(database, driver(database, TestRefunds(1)), 1)
    (refund,) = await Refunds(database).of_order(reservation_id)
    assert refund.attempts == 3
    assert (await order_until(recorded, reservation_id, "refunded"))["state"] == "refunded"


@pytest.mark.parametrize(
    "behaviour", [{"payments": 4}, {"deliveries": 6}, {"delay_ms": 10_001}, {"outcome": "maybe"}, {"refund_timeouts": -1}, {"x": 1}]
)
async def test_the_test_provider_knows_its_limits(service: Service, behaviour: dict[str, Any]) -> None:
    _, reservation_id = await reserve(service)
    assert (await pay(service, reservation_id, **behaviour)).code == "bad_request"


# ------------------------------------------------------------------------------------------------------- Postgres is away


@pytest.fixture
async def lonely(payment_settings: Settings, store: Redis, database: Database) -> AsyncIterator[Service]:
    """A worker whose Postgres does not answer."""
    away = with_settings(payment_settings, postgres={"url": "postgresql://nobody@127.0.0.1:1/nothing"})
    async with in_own_task(away, database) as running:
        yield running


async def test_without_postgres_payments_are_taken_and_what_cannot_be_kept_is_sent_again(lonely: Service) -> None:
    buyer, reservation_id = await reserve(lonely)
    assert (await send(lonely, payment(reservation_id))).json["state"] == "confirmed"
    assert (await send(lonely, payment(reservation_id, "pay-2"))).json["state"] == "surplus"
    for event in (payment(f"{buyer.drop_id}.r{'A' * 22}"), payment(reservation_id, "pay-3", currency="USD")):
        answer = await send(lonely, event)
        assert (answer.status, answer.code) == (503, "database_unavailable")
    refund = {"type": "refund.succeeded", "data": {"payment_reference": "pay-2", "amount_minor": 12_000}}
    assert (await send(lonely, refund)).code == "database_unavailable"
