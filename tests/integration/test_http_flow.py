"""Shoppers followed through, over HTTP and real stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from flashsale.access import AccessKeys, Scope, create_key, revoke_key
from flashsale.connections.database import Database
from flashsale.drops import DropCatalog
from flashsale.settings import Settings
from tests.integration.http_client import (
    Buyer,
    Service,
    in_own_task,
    make_drop,
    reconciling,
    running_service,
    with_settings,
    with_signing_keys,
)


@pytest.fixture
def settings_in_use(settings: Settings, tmp_path: Path) -> Settings:
    return with_settings(with_signing_keys(settings, tmp_path), payments={"test_provider": True})


@pytest.fixture
async def service(settings_in_use: Settings, store: Redis, database: Database) -> AsyncIterator[Service]:
    async with in_own_task(settings_in_use, database) as running:
        yield running


async def reserved(service: Service, drop_id: str) -> tuple[Buyer, str]:
    buyer = Buyer(service, drop_id)
    await buyer.enter()
    answer = await buyer.reserve()
    assert answer.status == 201, answer.body
    return buyer, answer.json["reservation_id"]


async def test_a_shopper_joins_enters_reserves_and_pays(service: Service, settings_in_use: Settings, database: Database) -> None:
    drop = await service.open_drop(make_drop())
    buyer = Buyer(service, drop.drop_id)

    joined = await buyer.join()
    assert (joined.status, joined.json["queue_number"], joined.json["state"]) == (201, 0, "waiting")
    again = await buyer.join()
    assert (again.status, again.json["ticket_id"]) == (200, buyer.ticket_id)

    await buyer.be_admitted()
    first_token = buyer.token
    await buyer.admit()
    assert buyer.token == first_token
    place = (await service.get(f"/v1/tickets/{buyer.ticket_id}")).json
    assert (place["queue_number"], place["position"], place["state"], place["chance"]) == (0, 0, "admitted", 1.0)

    answer = await buyer.reserve({"white-42": 1, "black-42": 2})
    assert answer.status == 201, answer.body
    assert (answer.json["state"], answer.json["amount_minor"], answer.json["durability"]) == ("reserved", 39_000, "disk")
    assert answer.json["items"] == [{"sku": "black-42", "quantity": 2}, {"sku": "white-42", "quantity": 1}]
    repeated = await buyer.reserve({"black-42": 2, "white-42": 1})
    assert (repeated.status, repeated.json) == (200, answer.json)

    reservation_id = answer.json["reservation_id"]
    body = {"payment_reference": "pay-1", "amount_minor": 39_000}
    async with reconciling(settings_in_use, database, service.services):
        confirmed = await service.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body)
        assert (confirmed.status, confirmed.json["state"], confirmed.json["order_id"]) == (200, "paid", reservation_id)
        again = await service.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body)
        assert (again.status, again.json) == (200, confirmed.json)
    shown = (await service.get(f"/v1/reservations/{reservation_id}")).json
    assert (shown["state"], shown["order"]) == ("confirmed", {"state": "paid", "recorded": True})
    order = await service.as_storefront(f"/v1/orders/{reservation_id}", method="GET")
    assert (order.status, order.json) == (200, confirmed.json)
    page = await service.as_storefront(f"/v1/orders?drop={drop.drop_id}&limit=1", method="GET")
    assert page.json == {"orders": [confirmed.json], "next": reservation_id}
    page = await service.as_storefront(f"/v1/orders?drop={drop.drop_id}&after={reservation_id}", method="GET")
    assert page.json == {"orders": [], "next": None}


async def test_the_callers_request_id_ends_in_the_order(service: Service, settings_in_use: Settings, database: Database) -> None:
    drop = await service.open_drop(make_drop())
    _, reservation_id = await reserved(service, drop.drop_id)
    async with reconciling(settings_in_use, database, service.services):
        headers = {"Authorization": f"Bearer {service.api_key}", "Idempotency-Key": "k", "X-Request-Id": "checkout.4711"}
        body = {"payment_reference": "pay-1", "amount_minor": 12_000}
        answer = await service.post(f"/v1/reservations/{reservation_id}/confirm", body, headers=headers)
    assert (answer.headers["X-Request-Id"], answer.json["request_id"]) == ("checkout.4711", "checkout.4711")


async def test_units_given_back_can_be_taken_again(service: Service) -> None:
    drop = await service.open_drop(make_drop())
    buyer, reservation_id = await reserved(service, drop.drop_id)
    stranger = Buyer(service, drop.drop_id)
    await stranger.enter()
    refused = await service.request("DELETE", f"/v1/reservations/{reservation_id}", headers={"Authorization": f"Bearer {stranger.token}"})
    assert (refused.status, refused.code) == (401, "token_invalid")
    for headers in ({"Authorization": f"Bearer {buyer.token}"}, {}):
        released = await service.request("DELETE", f"/v1/reservations/{reservation_id}", headers=headers)
        assert (released.status, released.json["state"]) == (200, "released")
    stock = (await service.services.drop_store.inspect(drop.drop_id)).skus["black-42"]
    assert (stock.available, stock.reserved) == (100, 0)
    assert (await buyer.reserve(key="second")).status == 201


async def test_everything_but_the_confirmation_works_without_postgres(
    settings: Settings, store: Redis, database: Database, tmp_path: Path
) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:1/{tmp_path.name}"
    settings = with_settings(with_signing_keys(settings, tmp_path), postgres={"url": nowhere}, confirm={"deadline_ms": 50})
    async with running_service(settings, database) as service:
        service.services.access._active = await _keys_known(service, database)
        drop = await service.open_drop(make_drop())
        _, reservation_id = await reserved(service, drop.drop_id)
        ready = await service.get("/readyz")
        assert (ready.status, ready.json["status"], ready.json["checks"]["postgres"]) == (200, "degraded", "down")
        body = {"payment_reference": "pay-1", "amount_minor": 12_000}
        confirmed = await service.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body)
        assert (confirmed.status, confirmed.json["state"]) == (202, "confirmed")
        assert confirmed.headers["Location"] == confirmed.json["status_url"] == f"/v1/orders/{reservation_id}"
        assert int(confirmed.headers["Retry-After"]) >= 1
        looked_up = await service.as_storefront(confirmed.json["status_url"], method="GET")
        assert (looked_up.status, looked_up.json) == (202, confirmed.json)
        shown = (await service.get(f"/v1/reservations/{reservation_id}")).json
        assert (shown["state"], shown["order"]) == ("confirmed", {"state": None, "recorded": False})
        page = await service.as_storefront(f"/v1/orders?drop={drop.drop_id}", method="GET")
        assert (page.status, page.code) == (503, "database_unavailable")


async def _keys_known(service: Service, database: Database) -> dict[str, Any]:
    """The keys a worker would have learned before Postgres went away."""
    keys = AccessKeys(database, service.services.clock)
    await keys.refresh()
    return dict(keys._active)


async def test_the_test_provider_pays_by_its_own_webhook(service: Service) -> None:
    drop = await service.open_drop(make_drop())
    _, reservation_id = await reserved(service, drop.drop_id)
    paid = await service.post("/v1/test-provider/payments", {"reservation_id": reservation_id})
    assert (paid.status, paid.json["webhook_status"], paid.json["amount_minor"]) == (201, 200, 12_000)
    inspection = await service.services.drop_store.inspect(drop.drop_id, reservations=(reservation_id,))
    assert inspection.reservations[0] is not None
    assert inspection.reservations[0].payment_reference == paid.json["payment_reference"]
    twice = await service.post("/v1/test-provider/payments", {"reservation_id": reservation_id})
    assert (twice.json["webhook_status"], twice.json["payment_reference"]) == (200, paid.json["payment_reference"])


async def test_a_key_works_at_once_and_ends_within_seconds_of_its_revocation(service: Service, database: Database) -> None:
    drop = await service.open_drop(make_drop())
    key_id, key = await create_key(database, [Scope.STOREFRONT], label="till 3")
    orders = f"/v1/orders?drop={drop.drop_id}"
    await asyncio.sleep(0.25)  # the limit on looks into Postgres for unknown keys
    assert (await service.as_storefront(orders, method="GET", key=key)).status == 200
    assert await revoke_key(database, key_id)
    await service.services.access.refresh()
    assert (await service.as_storefront(orders, method="GET", key=key)).code == "unauthorized"


async def test_another_tenants_things_do_not_exist(service: Service, database: Database) -> None:
    drop = await service.open_drop(make_drop())
    _, reservation_id = await reserved(service, drop.drop_id)
    _, key = await create_key(database, [Scope.STOREFRONT], tenant="other")
    await service.services.access.refresh()
    body = {"payment_reference": "pay-1", "amount_minor": 12_000}
    assert (await service.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body, key=key)).code == "reservation_not_found"
    assert (await service.as_storefront(f"/v1/orders/{reservation_id}", method="GET", key=key)).code == "order_not_found"
    assert (await service.as_storefront(f"/v1/orders?drop={drop.drop_id}", method="GET", key=key)).code == "drop_not_found"


async def test_a_drop_made_a_moment_ago_is_waited_for_and_a_made_up_one_is_not(service: Service, database: Database) -> None:
    await DropCatalog(database, service.services.drop_store).create(make_drop("fresh"))
    assert (await service.get("/v1/drops/fresh")).status == 200
    started = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(service.get(f"/v1/drops/made-up-{number}") for number in range(300)))
    assert {answer.status for answer in answers} == {404}
    assert asyncio.get_running_loop().time() - started < 1.5


async def test_operations(service: Service) -> None:
    assert (await service.get("/healthz")).json == {"status": "alive"}
    ready = (await service.get("/readyz")).json
    assert ready == {"status": "ready", "checks": {"store": "up", "postgres": "up", "drops": "up"}}
    keys = await service.get("/.well-known/jwks.json")
    assert keys.headers["Cache-Control"] == "public, max-age=300"
    assert {key["purpose"] for key in keys.json["keys"]} == {"admission", "receipt"}
    assert "d" not in keys.json["keys"][0]
    metrics = (await service.get("/metrics")).body.decode()
    assert 'flashsale_requests_total{outcome="ok",route="healthz",status="2xx"} 1.0' in metrics
