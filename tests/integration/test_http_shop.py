"""The demo's shop over HTTP: there only where nothing costs money, and never without its strict headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.model import Sku
from flashsale.settings import Settings
from tests.integration.http_client import Service, in_own_task, make_drop, with_settings, with_signing_keys

LAMP = (Sku("halo-moon", "Halo, Moon", 50, 14_900, 2),)


def shop_settings(settings: Settings, folder: Path, **payments: Any) -> Settings:
    return with_settings(with_signing_keys(settings, folder), payments=payments)


@pytest.fixture
async def service(settings: Settings, tmp_path: Path, store: Redis, database: Database) -> AsyncIterator[Service]:
    async with in_own_task(shop_settings(settings, tmp_path, test_provider=True), database) as running:
        yield running


async def test_there_is_no_shop_where_money_is_real(settings: Settings, tmp_path: Path, store: Redis, database: Database) -> None:
    async with in_own_task(shop_settings(settings, tmp_path, test_provider=False), database) as service:
        drop = await service.open_drop(make_drop(skus=LAMP))
        for path in ("/shop", "/shop/", *(f"/shop/{drop.drop_id}{page}" for page in ("", "/checkout", "/order"))):
            answer = await service.get(path)
            assert (answer.status, answer.code) == (404, "not_found"), path


async def test_the_front_leads_to_the_drop_that_is_on(service: Service) -> None:
    nothing = await service.get("/shop/")
    assert nothing.status == 404
    assert b"Nothing is on sale just now" in nothing.body
    await service.open_drop(make_drop("next", opens_in_ms=60_000, skus=LAMP))
    assert (await service.get("/shop/", allow_redirects=False)).headers["Location"] == "/shop/next"
    await service.open_drop(make_drop("now", skus=LAMP))
    await service.open_drop(make_drop("later", opens_in_ms=120_000, skus=LAMP))
    for path in ("/shop", "/shop/"):
        answer = await service.get(path, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (302, "/shop/now")


async def test_every_page_has_strict_headers_and_loads_what_is_there(service: Service) -> None:
    drop = await service.open_drop(make_drop(skus=LAMP))
    for page in ("", "/checkout", "/order"):
        answer = await service.get(f"/shop/{drop.drop_id}{page}")
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] in {"no-referrer", "same-origin"}
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert b"<noscript>" in answer.body
        assert b"{{" not in answer.body
        for address in sorted({part.split('"')[1] for part in answer.body.decode().split("=") if part.startswith('"/assets/')}):
            found = await service.get(address)
            assert found.status == 200, address
            if not address.endswith("flash-sale-room.js"):
                assert found.headers["Cache-Control"] == "public, max-age=31536000, immutable", address


async def test_what_a_drop_says_is_text(service: Service) -> None:
    drop = await service.open_drop(make_drop(name="<script>alert(1)</script>", skus=(Sku("x", '"><b onclick="', 5, 100, 1),)))
    body = (await service.get(f"/shop/{drop.drop_id}")).body.decode()
    assert "&lt;script&gt;alert(1)" in body
    assert "<script>alert" not in body
    assert "<b onclick" not in body


async def test_a_drop_nobody_knows_is_a_page_with_a_way_on(service: Service) -> None:
    answer = await service.get("/shop/nothing-here")
    assert answer.status == 404
    assert b"There is no such drop" in answer.body
    assert b'href="/"' in answer.body
