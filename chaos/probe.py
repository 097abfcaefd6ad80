"""One careful shopper, step by step, through a worker of choice: what a crowd cannot show exactly, one person can."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos.process import LabProcess
from flashsale.cli.summary import Crowd
from flashsale.model import Drop, Sku
from loadtest.client import Answer, Pool
from loadtest.payment import CONFIRMED, confirm_request
from loadtest.shopper import secret_hash_of

SKU = "poster"
_ASK_AGAIN_S = 0.05
_ADMITTED_WITHIN_S = 20.0


def probe_drop(name: str, *, units: int = 5, reservation_ttl_ms: int = 60_000, limit: int = 5, durability: str = "disk") -> Drop:
    """A drop of one SKU that is open and lets everybody in at once."""
    now_ms = time.time_ns() // 1_000_000
    return Drop(
        drop_id=f"{name}-{secrets.token_hex(3)}",
        name="Poster",
        currency="EUR",
        skus=(Sku(SKU, "Poster", units, 2_500, limit),),
        joins_at_ms=now_ms - 60_000,
        opens_at_ms=now_ms - 1_000,
        closes_at_ms=now_ms + 3_600_000,
        rate_per_min=600_000,
        capacity=10_000,
        claim_window_ms=30_000,
        reservation_ttl_ms=reservation_ttl_ms,
        limit_per_shopper=limit,
        durability=durability,
    )


@dataclass(slots=True)
class Probe:
    """A shopper of one drop, and the shop's backend that confirms what is paid.

    Everything but `enter` is asked exactly once: `AnswerLost` and `NotSent` of `loadtest.client` come through.
    """

    drop: Drop
    storefront_key: str
    token: str = ""
    reservations: dict[str, int] = field(default_factory=dict)
    """acknowledged: id to units"""
    confirmed: dict[str, int] = field(default_factory=dict)
    """acknowledged payments: reservation id to status"""
    _secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def seen(self) -> Crowd:
        """What was acknowledged, as a crowd writes it down: for `Lab.judge`."""
        return Crowd(reservations=self.reservations, confirmed=self.confirmed)

    async def join(self, worker: LabProcess) -> Answer:
        """Takes a place in the line."""
        return await self._ask(worker, "POST", f"/v1/drops/{self.drop.drop_id}/tickets", body={"secret_hash": secret_hash_of(self._secret)})

    async def enter(self, worker: LabProcess) -> None:
        """Joins, and asks for admission until it is given. Raises TimeoutError."""
        ticket = (await self.join(worker)).json()["ticket_id"]
        async with asyncio.timeout(_ADMITTED_WITHIN_S):
            while True:
                answer = await self._ask(
                    worker, "POST", f"/v1/drops/{self.drop.drop_id}/admissions", {"Authorization": f"Ticket {ticket}.{self._secret}"}
                )
                if answer.status == 200:
                    self.token = answer.json()["admission_token"]
                    return
                await asyncio.sleep(_ASK_AGAIN_S)

    async def reserve(self, worker: LabProcess, key: str = "first", quantity: int = 1) -> Answer:
        """Asks for units of the SKU."""
        answer = await self._ask(
            worker,
            "POST",
            f"/v1/drops/{self.drop.drop_id}/reservations",
            {"Authorization": f"Bearer {self.token}", "Idempotency-Key": key},
            {"items": [{"sku": SKU, "quantity": quantity}]},
        )
        if answer.status in {200, 201}:
            self.reservations[answer.json()["reservation_id"]] = quantity
        return answer

    async def confirm(self, worker: LabProcess, reservation: Mapping[str, Any]) -> Answer:
        """The shop's backend says that it is paid."""
        request = confirm_request(self.storefront_key, reservation)
        answer = await self._ask(worker, "POST", request["path"], request["headers"], request["body"])
        if answer.status in CONFIRMED:
            self.confirmed[reservation["reservation_id"]] = answer.status
        return answer

    async def release(self, worker: LabProcess, reservation: Mapping[str, Any]) -> Answer:
        """Gives the units back."""
        path = f"/v1/reservations/{reservation['reservation_id']}"
        return await self._ask(worker, "DELETE", path, {"Authorization": f"Bearer {self.token}"})

    async def _ask(
        self, worker: LabProcess, method: str, path: str, headers: Mapping[str, str] | None = None, body: object = None
    ) -> Answer:
        pool = Pool(worker.url)
        try:
            return await pool.request(method, path, headers=headers, body=body)
        finally:
            pool.close()
