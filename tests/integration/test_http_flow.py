"""One shopper followed through, over HTTP and real stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from flashsale.connections import Database
from flashsale.settings import Settings
from tests.integration.http_client import Buyer, Service, in_own_task, make_drop, with_settings, with_signing_keys


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    settings = with_settings(with_signing_keys(settings, tmp_path), confirm={"deadline_ms": 200}, payments={"test_provider": True})
    async with in_own_task(settings, database) as running:
        yield running


async def test_a_shopper_joins_enters_reserves_and_pays(service: Service) -> None:
    drop = await service.open_drop(make_drop())
    buyer = Buyer(service, drop.drop_id)

    joined = await buyer.join()
    assert (joined.status, joined.json["queue_number"], joined.json["state"]) == (201, 0, "waiting")
    again = await buyer.join()
    assert (again.status, again.json["ticket_id"]) == (200, buyer.ticket_id)

    await service.until(lambda: service.services.inlet.get(drop.drop_id).snapshot.serving_number > 0)
    assert (await buyer.admit()).status == 200
    first_token = buyer.token
    await buyer.admit()
    assert buyer.token == first_token

    reserved = await buyer.reserve({"white-42": 1, "black-42": 2})
    assert reserved.status == 201, reserved.body
    assert reserved.json["state"] == "reserved"
    assert reserved.json["amount_minor"] == 39_000
    assert reserved.json["items"] == [{"sku": "black-42", "quantity": 2}, {"sku": "white-42", "quantity": 1}]
    repeated = await buyer.reserve({"black-42": 2, "white-42": 1})
    assert (repeated.status, repeated.json) == (200, reserved.json)

    reservation_id = reserved.json["reservation_id"]
    shown = await service.get(f"/v1/reservations/{reservation_id}")
    assert shown.json == {**reserved.json, "order": {"state": None, "recorded": False}}

    body = {"payment_reference": "pay-1", "amount_minor": 39_000}
    confirmed = await service.as_storefront(f"/v1/reservations/{reservation_id}/confirm", body)
    assert confirmed.status == 202, confirmed.body
    assert confirmed.headers["Location"] == f"/v1/orders/{reservation_id}"
