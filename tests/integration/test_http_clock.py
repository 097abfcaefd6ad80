"""A worker whose clock is wrong: whatever counts goes by the store's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flashsale.cli.compose import build_services
from flashsale.clock import SystemClock
from flashsale.connections.database import Database
from flashsale.settings import Settings
from tests.integration import http_client
from tests.integration.http_client import Buyer, make_drop, running_service, with_signing_keys

HOUR_MS = 3_600_000
NEAR_MS = 60_000


class WrongClock(SystemClock):
    """This machine's, set wrong."""

    def __init__(self, off_ms: int) -> None:
        self._off_ms = off_ms

    def now_ms(self) -> int:
        return super().now_ms() + self._off_ms


@pytest.mark.parametrize("off_ms", [HOUR_MS, -HOUR_MS], ids=["ahead", "behind"])
async def test_a_sale_goes_on_by_the_stores_clock(
    settings: Settings, store: object, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off_ms: int
) -> None:
    monkeypatch.setattr(http_client, "build_services", lambda chosen: build_services(chosen, WrongClock(off_ms)))
    async with running_service(with_signing_keys(settings, tmp_path), database) as service:
        drop = await service.open_drop(make_drop())
        ann = Buyer(service, drop.drop_id)
        await ann.enter()
        reserved = await ann.reserve()
        now_ms = time.time_ns() // 1_000_000
        assert reserved.status == 201
        assert abs(reserved.json["reserved_at_ms"] - now_ms) < NEAR_MS
        assert reserved.json["expires_at_ms"] - reserved.json["reserved_at_ms"] == drop.reservation_ttl_ms
        assert abs(service.services.inlet.all()[0].snapshot.now_ms - now_ms) < NEAR_MS
        await service.until(lambda: service.services.inlet.all()[0].snapshot.reservations_live == 1)
        paid = await service.as_storefront(
            f"/v1/reservations/{reserved.json['id']}/confirm", {"payment_reference": "p1", "amount_minor": reserved.json["amount_minor"]}
        )
        assert paid.status in {200, 202}
