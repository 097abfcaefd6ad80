"""One visitor of a running service, over HTTP, who repeats what was not answered, as a browser does."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from flashsale.model import secret_hash_of
from loadtest.client import Answer, AnswerLost, NotSent, Pool

PATIENCE_S = 20.0
LOOK_AGAIN_S = 0.05
_LATER = frozenset({429, 503})


async def every_worker_serves(url: str, drop_id: str) -> bool:
    """Whether fresh connections, which the kernel spreads over the workers, all find the drop."""
    for _ in range(8):
        with closing(Pool(url)) as pool:
            if (await pool.request("GET", f"/v1/drops/{drop_id}/serving")).status != 200:
                return False
    return True


@dataclass(slots=True)
class Visitor:
    """A shopper of one drop."""

    pool: Pool
    drop_id: str
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    ticket: dict[str, Any] = field(default_factory=dict)
    """as the join answered it"""
    token: str = ""
    asked_at_s: float = 0.0
    answered_at_s: float = 0.0
    """of the join, by this process's monotonic clock"""
    repeated: int = 0
    """requests that had no answer, or "later" """

    async def join(self) -> Answer:
        """Takes a place, or has it again with the receipt."""
        body = {"secret_hash": secret_hash_of(self.secret)} | ({"receipt": self.ticket["receipt"]} if self.ticket else {})
        self.asked_at_s = time.monotonic()
        answer = await self._ask("POST", f"/v1/drops/{self.drop_id}/tickets", body=body)
        self.answered_at_s = time.monotonic()
        if answer.status in {200, 201}:
            self.ticket = answer.json()
        return answer

    async def asks_to_come_in(self) -> Answer:
        """Whether it is the shopper's turn."""
        proof = {"Authorization": f"Ticket {self.ticket['ticket_id']}.{self.secret}"}
        answer = await self._ask("POST", f"/v1/drops/{self.drop_id}/admissions", headers=proof)
        if answer.status == 200:
            self.token = answer.json()["admission_token"]
        return answer

    async def comes_in(self) -> None:
        """Asks until it is. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await self.asks_to_come_in()).status != 200:
                assert answer.json()["code"] == "not_yet", answer.body
                await asyncio.sleep(LOOK_AGAIN_S)

    async def reserves(self, sku: str) -> Answer:
        """One unit."""
        body = {"items": [{"sku": sku, "quantity": 1}]}
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": "first"}
        return await self._ask("POST", f"/v1/drops/{self.drop_id}/reservations", headers=headers, body=body)

    async def _ask(self, method: str, path: str, **request: Any) -> Answer:
        """The first answer that is not "later"; what got lost on the way is asked again. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    answer = await self.pool.request(method, path, **request)
                except (NotSent, AnswerLost):
                    answer = None
                if answer is not None and answer.status not in _LATER:
                    return answer
                self.repeated += 1
                await asyncio.sleep(LOOK_AGAIN_S)
