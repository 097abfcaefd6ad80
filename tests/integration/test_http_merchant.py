"""The merchant's routes on a running worker: stock changes seen by shoppers at once, refusals that say why, the last audit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flashsale.access import Scope, create_key
from tests.integration.http_client import Answer, Buyer, Service, in_own_task, make_drop, reconciling, with_settings, with_signing_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from flashsale.connections.database import Database
    from flashsale.settings import Settings

DROP = "sneaker-x"
STOCK, AUDIT = f"/v1/merchant/drops/{DROP}/stock", f"/v1/merchant/drops/{DROP}/audit"
SKU = "black-42"


class Shop:
    """A worker with one open drop, and the merchant's key."""

    def __init__(self, service: Service, key: str) -> None:
        self.service = service
        self.key = key

    async def change(self, delta: int, *, sku: str = SKU, key: str | None = None, **more: Any) -> Answer:
        body = {"sku": sku, "delta": delta, **more}
        return await self.service.as_storefront(STOCK, body, key=self.key, idempotency_key=key)

    async def shown(self) -> dict[str, int]:
        answer = await self.service.get(f"/v1/drops/{DROP}")
        return {sku["sku"]: sku["allotment"] for sku in answer.json["skus"]}

    @property
    def allotment(self) -> int:
        live = self.service.services.inlet.get(DROP)
        assert live is not None
        return live.snapshot.skus[SKU].allotment


@pytest.fixture
async def shop(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    async with in_own_task(with_signing_keys(settings, tmp_path), database) as service:
        await service.open_drop(make_drop())
        _, key = await create_key(database, [Scope.MERCHANT])
        await service.services.access.refresh()
        yield Shop(service, key)


async def test_units_added_can_be_bought_and_caches_hear_of_them(shop: Shop) -> None:
    before = await shop.service.get(f"/v1/drops/{DROP}")
    allotment = shop.allotment
    first = await shop.change(7, key="more")
    assert (first.status, first.json["outcome"], first.json["allotment"]) == (200, "adjusted", allotment + 7)
    again = await shop.change(7, key="more")
    assert (again.status, again.json["outcome"], again.json["allotment"]) == (200, "replayed", allotment + 7)
    await shop.service.until(lambda: shop.allotment == allotment + 7)
    after = await shop.service.get(f"/v1/drops/{DROP}", headers={"If-None-Match": before.headers["ETag"]})
    assert after.status == 200, "the allotment is part of what a cache holds"
    assert (await shop.shown())[SKU] == allotment + 7
    unchanged = await shop.service.get(f"/v1/drops/{DROP}", headers={"If-None-Match": after.headers["ETag"]})
    assert unchanged.status == 304
    document = (await shop.service.get(f"/v1/drops/{DROP}/serving")).json
    assert document["available"][SKU] == allotment + 7


async def test_withdrawing_what_is_held_is_refused_with_the_numbers_or_drained(shop: Shop) -> None:
    buyer, allotment = Buyer(shop.service, DROP), shop.allotment
    await buyer.enter()
    reservation = await buyer.reserve({SKU: 1})
    assert reservation.status == 201
    refused = await shop.change(-allotment)
    assert (refused.status, refused.code) == (409, "too_few_units")
    assert (refused.json["available_units"], refused.json["reserved_units"], refused.json["draining_units"]) == (allotment - 1, 1, 0)
    drained = await shop.change(-allotment, drain=True)
    assert (drained.json["outcome"], drained.json["allotment"], drained.json["draining"]) == ("draining", 1, 1)
    released = await shop.service.request(
        "DELETE", f"/v1/reservations/{reservation.json['id']}", headers={"Authorization": f"Bearer {buyer.token}"}
    )
    assert released.status == 200
    await shop.service.until(lambda: shop.allotment == 0)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"sku": SKU, "delta": 0}, 400, "bad_request"),
        ({"sku": SKU, "delta": 1.5}, 400, "bad_request"),
        ({"sku": SKU, "delta": 10**9}, 400, "bad_request"),
        ({"sku": SKU, "delta": 1, "drain": True}, 400, "bad_request"),
        ({"sku": SKU, "delta": 1, "more": 1}, 400, "bad_request"),
        ({"sku": "no-such", "delta": 1}, 404, "sku_not_found"),
        ({"sku": "no-such", "delta": -1}, 404, "sku_not_found"),
        ({"sku": SKU, "delta": 10_000_000}, 409, "too_many_units"),
    ],
)
async def test_refusals_have_their_code_and_change_nothing(shop: Shop, body: dict[str, Any], status: int, code: str) -> None:
    allotment = shop.allotment
    answer = await shop.service.as_storefront(STOCK, body, key=shop.key)
    assert (answer.status, answer.code) == (status, code)
    [row] = [row for row in await shop.service.database.fetch("stock_allotments", DROP) if row["sku"] == SKU]
    assert row["allotment"] == allotment


async def test_a_key_is_of_one_change(shop: Shop) -> None:
    assert (await shop.change(1, key="one")).status == 200
    reused = await shop.change(2, key="one")
    assert (reused.status, reused.code) == (422, "idempotency_key_reused")


async def test_only_the_merchant_of_the_drop_may(shop: Shop, database: Database) -> None:
    _, stranger = await create_key(database, [Scope.MERCHANT], tenant="another")
    await shop.service.services.access.refresh()
    for path, method in ((STOCK, "POST"), (AUDIT, "GET")):
        json = {"sku": SKU, "delta": 1} if method == "POST" else None
        answers = [
            await shop.service.as_storefront(path, json, method=method, key=key)
            for key in ("", "fs_live_nonsense", shop.service.api_key, stranger)
        ]
        assert [(answer.status, answer.code) for answer in answers] == [
            (401, "unauthorized"),
            (401, "unauthorized"),
            (403, "forbidden"),
            (404, "drop_not_found"),
        ]


async def test_the_last_audit_is_told(shop: Shop, settings: Settings, database: Database) -> None:
    never = await shop.service.as_storefront(AUDIT, method="GET", key=shop.key)
    assert (never.status, never.json["result"]) == (200, None)
    often = with_settings(settings, reconciler={"audit_interval_ms": 1_000})
    async with reconciling(often, database, shop.service.services):

        async def told() -> bool:
            return (await shop.service.services.audits.last(DROP)) is not None

        while not await told():
            await shop.service.services.inlet.next_look()
    clean = await shop.service.as_storefront(AUDIT, method="GET", key=shop.key)
    assert (clean.json["drop"], clean.json["result"], clean.json["drifts"]) == (DROP, "clean", [])
