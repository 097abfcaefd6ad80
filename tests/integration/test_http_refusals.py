"""Everything malformed, oversized, expired, forged, of another drop, replayed with another body or out of order gets its
code and changes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import pytest
from redis.asyncio import Redis

from flashsale.access import Scope, create_key
from flashsale.connections.database import Database
from flashsale.model import Sku
from flashsale.settings import Settings
from tests.integration.http_client import Answer, Buyer, Service, dump_of, in_own_task, make_drop, with_settings, with_signing_keys

WEBHOOK_KEY = secrets.token_bytes(24)
WEBHOOK_SECRET = "whsec_" + base64.b64encode(WEBHOOK_KEY).decode()
GOOD_HASH = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
ID = "sneaker-x.rAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    settings = with_settings(
        with_signing_keys(settings, tmp_path), confirm={"deadline_ms": 20}, payments={"webhook_secret": WEBHOOK_SECRET}
    )
    async with in_own_task(settings, database) as running:
        yield running


class Still:
    """Holds the inlet, so that nothing but the requests of a test could change the store."""

    def __init__(self, service: Service, store: Redis) -> None:
        self._service = service
        self._store = store
        self._before: dict[str, bytes] = {}

    async def __aenter__(self) -> Self:
        self._before = await self._dump()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert await self._dump() == self._before

    async def _dump(self) -> dict[str, Any]:
        dump = await dump_of(self._store)
        # The beat's own keys and fields move with time, refusals are counted for people, and who finds too little is remembered
        # for what comes back; none of it is stock or a place.
        beats_own = (":stats", "}:drop", ":served", ":samples", ":flow", ":standby", ":wants")
        kept = {key: value for key, value in dump.items() if not key.endswith(beats_own)}
        for key in dump:
            if key.endswith("}:drop"):
                fields = await self._store.hgetall(key)
                moving = {b"beat", b"credit", b"advanced_at_ms", b"serving_number"}
                kept[key] = sorted((name, value) for name, value in fields.items() if name not in moving)
        return kept


async def settled_drop(service: Service, **changes: Any) -> str:
    """A drop whose change of state, if one is due, is in the journal already."""
    drop = await service.open_drop(make_drop(**changes))
    await service.services.drop_store.advance(drop.drop_id, 50)
    return drop.drop_id


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "secret_hash"),
        ({"secret_hash": GOOD_HASH, "colour": 1}, "colour"),
        ({"secret_hash": 7}, "secret_hash"),
        ({"secret_hash": GOOD_HASH[:-1]}, "secret_hash"),
        ({"secret_hash": GOOD_HASH + "="}, "secret_hash"),
        ({"secret_hash": GOOD_HASH[:-1] + "V"}, "secret_hash"),
        ({"secret_hash": GOOD_HASH + "\n"}, "secret_hash"),
        ({"secret_hash": GOOD_HASH, "identity": "x"}, "identity"),
        ({"secret_hash": GOOD_HASH, "code": "x"}, "code"),
        ({"secret_hash": GOOD_HASH, "challenge": {}}, "challenge"),
        ([GOOD_HASH], "body"),
        ("x", "body"),
    ],
)
async def test_a_malformed_join(service: Service, store: Redis, body: Any, field: str) -> None:
    drop_id = await settled_drop(service)
    async with Still(service, store):
        answer = await service.post(f"/v1/drops/{drop_id}/tickets", body)
    assert (answer.status, answer.code, answer.json["field"]) == (400, "bad_request", field)


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([], "items"),
        ([{"sku": "black-42", "quantity": 1}] * 2, "items"),
        ([{"sku": f"s{number}", "quantity": 1} for number in range(11)], "items"),
        ([{"sku": "black-42"}], "quantity"),
        ([{"sku": "black-42", "quantity": 0}], "quantity"),
        ([{"sku": "black-42", "quantity": 1001}], "quantity"),
        ([{"sku": "black-42", "quantity": 1.5}], "quantity"),
        ([{"sku": "black-42", "quantity": True}], "quantity"),
        ([{"sku": "../x", "quantity": 1}], "sku"),
        ([{"sku": "unheard-of", "quantity": 1}], "items"),
        ([{"sku": "black-42", "quantity": 1, "price": 1}], "price"),
    ],
)
async def test_malformed_items(service: Service, store: Redis, items: Any, field: str) -> None:
    buyer = Buyer(service, await settled_drop(service))
    await buyer.enter()
    headers = {"Authorization": f"Bearer {buyer.token}", "Idempotency-Key": "k"}
    async with Still(service, store):
        answer = await service.post(f"/v1/drops/{buyer.drop_id}/reservations", {"items": items}, headers=headers)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert answer.json["field"].rpartition(".")[2].rpartition("]")[2] == field, answer.json


async def test_bodies_that_are_not_bodies(service: Service, store: Redis) -> None:
    path = f"/v1/drops/{await settled_drop(service)}/tickets"
    as_json = {"Content-Type": "application/json"}
    async with Still(service, store):
        for data, headers, status, code in (
            (b"{", as_json, 400, "bad_request"),
            (b"\xff\xfe", as_json, 400, "bad_request"),
            (b"[" * 10_000, as_json, 400, "bad_request"),
            (b"", as_json, 400, "bad_request"),
            (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
            (b" " * 16_385, as_json, 413, "body_too_large"),
        ):
            answer = await service.request("POST", path, data=data, headers=headers)
            assert (answer.status, answer.code) == (status, code), data[:20]

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 4096

        answer = await service.request("POST", path, data=endless(), headers=as_json)
        assert (answer.status, answer.code) == (413, "body_too_large")


async def test_credentials_of_shoppers(service: Service, store: Redis) -> None:
    drop_id = await settled_drop(service)
    other = await settled_drop(service, drop_id="other")
    buyer, elsewhere = Buyer(service, drop_id), Buyer(service, other)
    await buyer.enter()
    await elsewhere.enter()
    head, payload, signature = buyer.token.split(".")
    forged = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    async with Still(service, store):
        for authorization in (
            "",
            "Ticket",
            f"Bearer {buyer.ticket_id}.{buyer.secret}",
            f"Ticket {buyer.ticket_id}.{'x' * 32}",
            f"Ticket {buyer.ticket_id}.short",
            f"Ticket {buyer.ticket_id}.{'x' * 129}",
            f"Ticket {elsewhere.ticket_id}.{elsewhere.secret}",
            f"Ticket {drop_id}.t{'A' * 22}.{buyer.secret}",
        ):
            answer = await service.post(f"/v1/drops/{drop_id}/admissions", headers={"Authorization": authorization})
            assert (answer.status, answer.code) == (401, "ticket_invalid"), authorization
        for token in (
            "",
            "x",
            elsewhere.token,
            f"{forged}.{payload}.",
            f"{head}.{payload}.{signature[:-4]}AAAA",
            f"{head}.{payload}.{signature}x",
            "x" * 5000,
        ):
            answer = await buyer.reserve(token=token, key="other")
            assert (answer.status, answer.code) == (401, "token_invalid"), token[:40]
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_idempotency_keys(service: Service, store: Redis) -> None:
    buyer = Buyer(service, await settled_drop(service))
    await buyer.enter()
    assert (await buyer.reserve(key="k")).status == 201
    async with Still(service, store):
        for key in ("", "with space", "x" * 129):
            answer = await buyer.reserve(key=key)
            assert (answer.status, answer.code) == (400, "idempotency_key_missing"), key
        answer = await buyer.reserve({"white-42": 1}, key="k")
        assert (answer.status, answer.code) == (422, "idempotency_key_reused")


async def test_limit_and_stock(service: Service, store: Redis) -> None:
    drop_id = await settled_drop(service, skus=(Sku("black-42", "B", 3, 100, 2), Sku("white-42", "W", 5, 100, 5)), limit_per_shopper=4)
    first, second = Buyer(service, drop_id), Buyer(service, drop_id)
    await first.enter()
    await second.enter()
    assert (await first.reserve({"black-42": 2})).status == 201
    async with Still(service, store):
        answer = await first.reserve({"black-42": 1}, key="more")
        assert (answer.status, answer.code, answer.json["limit"], answer.json["held"]) == (409, "limit_reached", 2, 2)
        answer = await second.reserve({"black-42": 2, "white-42": 1}, key="all-or-nothing")
        assert (answer.status, answer.code, answer.json["available"]) == (409, "sold_out", {"black-42": 1, "white-42": 5})
        assert answer.json["place_kept"] is True  # two of the three may come back


async def test_out_of_order(service: Service, store: Redis) -> None:
    scheduled = await settled_drop(service, drop_id="later", joins_at_ms=2**41, opens_at_ms=2**41, closes_at_ms=2**42)
    slow = await settled_drop(service, drop_id="slow", rate_per_min=1, capacity=1)
    open_drop = await settled_drop(service, drop_id="open")
    waiting, bought = Buyer(service, slow), Buyer(service, open_drop)
    ahead = Buyer(service, slow)
    await ahead.join()
    await waiting.join()
    await bought.enter()
    async with Still(service, store):
        refused = await Buyer(service, scheduled).join()
        assert (refused.status, refused.code, refused.json["opens_at_ms"]) == (409, "not_open", 2**41)
        refused = await waiting.admit()
        assert (refused.status, refused.code, refused.json["queue_number"]) == (409, "not_yet", 1)
        assert refused.json["poll_after_ms"] > 0
    await service.services.drop_store.steer(open_drop, "pause")
    async with Still(service, store):
        refused = await bought.reserve()
        assert (refused.status, refused.code) == (409, "paused")
    await service.services.drop_store.close(open_drop)
    async with Still(service, store):
        for refused in (await bought.reserve(), await Buyer(service, open_drop).join()):
            assert (refused.status, refused.code) == (409, "closed")


async def test_what_does_not_exist(service: Service, store: Redis) -> None:
    drop_id = await settled_drop(service)
    missing = f"{drop_id}.r{'A' * 22}"
    async with Still(service, store):
        for method, path, code in (
            ("GET", "/v1/drops/nothing", "drop_not_found"),
            ("GET", "/v1/drops/NOT%20A%20SLUG", "drop_not_found"),
            ("GET", "/v1/drops/nothing/serving", "drop_not_found"),
            ("POST", "/v1/drops/nothing/tickets", "drop_not_found"),
            ("POST", "/v1/drops/nothing/admissions", "drop_not_found"),
            ("POST", "/v1/drops/nothing/reservations", "drop_not_found"),
            ("GET", f"/v1/tickets/{drop_id}.t{'A' * 22}", "ticket_not_found"),
            ("GET", "/v1/tickets/nothing", "ticket_not_found"),
            ("GET", f"/v1/reservations/{missing}", "reservation_not_found"),
            ("DELETE", f"/v1/reservations/{missing}", "reservation_not_found"),
            ("DELETE", "/v1/reservations/nothing", "reservation_not_found"),
            ("GET", "/v1/nothing", "not_found"),
            ("GET", "/v1/drops//tickets", "not_found"),
            ("GET", "/v1/drops/a/b/c/d/e/f/g/h/i/j", "not_found"),
            ("POST", "/v1/payments/webhook/nobody", "not_found"),
            ("POST", "/v1/test-provider/payments", "not_found"),
        ):
            answer = await service.request(method, path)
            assert (answer.status, answer.code) == (404, code), path
        answer = await service.request("PUT", f"/v1/drops/{drop_id}/tickets")
        assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "method_not_allowed", "POST, OPTIONS")


async def confirm(service: Service, reservation_id: str, body: Any, **options: Any) -> Answer:
    return await service.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body, **options)


async def test_confirmations(service: Service, store: Redis, database: Database) -> None:
    buyer = Buyer(service, await settled_drop(service))
    await buyer.enter()
    reservation_id = (await buyer.reserve()).json["reservation_id"]
    _, merchant = await create_key(database, [Scope.MERCHANT])
    await service.services.access.refresh()
    good = {"payment_reference": "pay-1", "amount_minor": 12_000}
    async with Still(service, store):
        for key in ("", "fs_live_x", service.api_key[:-1] + "!", "fs_live_AAAAAAAAAAAA_" + "A" * 43, service.api_key[:-4] + "AAAA"):
            answer = await confirm(service, reservation_id, good, key=key)
            assert (answer.status, answer.code) == (401, "unauthorized"), key
        assert (await confirm(service, reservation_id, good, key=merchant)).code == "forbidden"
        no_key = {"Authorization": f"Bearer {service.api_key}"}
        answer = await service.post(f"/v1/reservations/{reservation_id}/confirm", good, headers=no_key)
        assert answer.code == "idempotency_key_missing"
        for change, field in (({"amount_minor": -1}, "amount_minor"), ({"payment_reference": ""}, "payment_reference"), ({"x": 1}, "x")):
            answer = await confirm(service, reservation_id, {**good, **change})
            assert (answer.status, answer.code, answer.json["field"]) == (400, "bad_request", field)
        answer = await confirm(service, reservation_id, {**good, "amount_minor": 11_999})
        assert (answer.status, answer.code, answer.json["amount_minor"]) == (422, "amount_mismatch", 12_000)
        answer = await confirm(service, f"{buyer.drop_id}.r{'A' * 22}", good)
        assert (answer.status, answer.code) == (404, "reservation_not_found")
    assert (await confirm(service, reservation_id, good, idempotency_key="k-1")).status == 202
    async with Still(service, store):
        for change in ({"payment_reference": "pay-2"}, {"amount_minor": 12_001}):
            answer = await confirm(service, reservation_id, {**good, **change}, idempotency_key="k-1")
            assert (answer.status, answer.code) == (422, "idempotency_key_reused")
        answer = await service.request("DELETE", f"/v1/reservations/{reservation_id}")
        assert (answer.status, answer.code) == (409, "already_paid")
    answer = await confirm(service, reservation_id, {**good, "payment_reference": "pay-2"})
    assert (answer.status, answer.code) == (409, "payment_conflict")


async def test_a_payment_after_the_end_is_due_back_when_the_unit_is_gone(service: Service) -> None:
    drop_id = await settled_drop(service, skus=(Sku("black-42", "B", 1, 100, 1),), reservation_ttl_ms=1000)
    late, next_one = Buyer(service, drop_id), Buyer(service, drop_id)
    await late.enter()
    reservation_id = (await late.reserve()).json["reservation_id"]
    await next_one.enter()  # is called when the unit has come back, and not before
    assert (await next_one.reserve()).status == 201
    answer = await service.request("DELETE", f"/v1/reservations/{reservation_id}")
    assert (answer.status, answer.code) == (410, "reservation_expired")
    answer = await confirm(service, reservation_id, {"payment_reference": "pay-late", "amount_minor": 100})
    assert (answer.status, answer.code, answer.json["refund_due"]) == (410, "reservation_expired", True)


async def webhook(service: Service, event: Any, *, key: bytes = WEBHOOK_KEY, age_s: int = 0, signatures: str = "{}") -> Answer:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    timestamp = str(service.services.clock.now_ms() // 1000 - age_s)
    signature = "v1," + base64.b64encode(hmac.digest(key, b"evt_1." + timestamp.encode() + b"." + body, hashlib.sha256)).decode()
    headers = {"webhook-id": "evt_1", "webhook-timestamp": timestamp, "webhook-signature": signatures.format(signature)}
    return await service.request("POST", "/v1/payments/webhook/standard", data=body, headers=headers)


async def test_webhooks(service: Service, store: Redis) -> None:
    buyer = Buyer(service, await settled_drop(service))
    await buyer.enter()
    reservation_id = (await buyer.reserve()).json["reservation_id"]
    data = {"reservation_id": reservation_id, "payment_reference": "pay-1", "amount_minor": 12_000}
    event = {"type": "payment.succeeded", "data": data}
    async with Still(service, store):
        assert (await webhook(service, event, key=b"x" * 24)).code == "unauthorized"
        assert (await webhook(service, event, age_s=301)).code == "unauthorized"
        assert (await webhook(service, event, age_s=-301)).code == "unauthorized"
        assert (await webhook(service, event, signatures="v1a,{}")).code == "unauthorized"
        assert (await webhook(service, event, signatures="")).code == "unauthorized"
        assert (await webhook(service, {"type": "payment.failed", "data": {}})).status == 204
        assert (await webhook(service, b"{")).code == "bad_request"
        assert (await webhook(service, {"type": "payment.succeeded", "data": {}})).code == "bad_request"
        unknown = {**event, "data": {**data, "reservation_id": f"{buyer.drop_id}.r{'A' * 22}"}}
        assert (await webhook(service, unknown)).code == "reservation_not_found"
    for _ in range(2):
        taken = await webhook(service, event, signatures="v1,b2xk {}")
        assert (taken.status, taken.json) == (200, {"reservation_id": reservation_id, "state": "confirmed"})


async def test_a_lost_store_is_recovering_and_a_forgotten_drop_never_zero(service: Service, store: Redis) -> None:
    buyer = Buyer(service, await settled_drop(service))
    await buyer.enter()
    await store.flushall()
    for answer in (await buyer.join(), await buyer.admit(), await buyer.reserve()):
        assert (answer.status, answer.code) == (503, "recovering")
        assert int(answer.headers["Retry-After"]) >= 1


async def test_unexpected_failures_tell_nothing(service: Service, store: Redis) -> None:
    buyer = Buyer(service, await settled_drop(service))
    await buyer.enter()
    await store.set("fs:{sneaker-x}:reservations", "not a hash")
    answer = await buyer.reserve()
    assert (answer.status, answer.code) == (500, "internal")
    assert set(answer.json) == {"type", "title", "status", "detail", "code"}
    assert b"WRONGTYPE" not in answer.body


async def test_what_takes_too_long_within_is_logged_and_not_taken_for_a_client_who_has_gone(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def late(*_: object) -> None:
        raise TimeoutError

    drop_id = await settled_drop(service)
    monkeypatch.setattr(service.services.reservations, "reserve", late)
    buyer = Buyer(service, drop_id)
    await buyer.enter()
    answer = await buyer.reserve()
    assert (answer.status, answer.code) == (500, "internal")
    logged = capsys.readouterr().out
    assert "request_failed" in logged
    assert "route=reserve" in logged


async def test_query_parameters(service: Service) -> None:
    drop_id = await settled_drop(service)
    for query, field in (
        ("", "drop"),
        (f"drop={drop_id}&limit=0", "limit"),
        (f"drop={drop_id}&limit=101", "limit"),
        (f"drop={drop_id}&limit=%D9%A3", "limit"),
        (f"drop={drop_id}&after=%00", "after"),
        (f"drop={drop_id}&x=1", "x"),
    ):
        answer = await service.as_storefront(f"/v1/orders?{query}", method="GET")
        assert (answer.status, answer.code, answer.json["field"]) == (400, "bad_request", field), query
