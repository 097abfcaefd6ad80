"""Stand-ins for what is on the other side of a refund: a shop's address and Stripe, on real sockets, with memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

Answer = tuple[int, Any]
"""status, and a body to send as JSON or as it is"""


@dataclass(slots=True)
class Asked:
    """One request as it arrived."""

    method: str
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Elsewhere:
    """A server that writes down what it is asked and answers as it is told; `lost` answers are never sent."""

    url: str
    client: ClientSession
    answer: Callable[[Asked], Awaitable[Answer]]
    asked: list[Asked] = field(default_factory=list)
    lost: int = 0


@asynccontextmanager
async def elsewhere(answer: Callable[[Asked], Awaitable[Answer]]) -> AsyncIterator[Elsewhere]:
    async def handle(request: web.Request) -> web.StreamResponse:
        asked = Asked(
            request.method,
            {name.lower(): value for name, value in request.headers.items()},
            dict(request.query),
            await request.read(),
        )
        there.asked.append(asked)
        status, body = await there.answer(asked)
        if there.lost:
            there.lost -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as client:
        there = Elsewhere(f"http://127.0.0.1:{runner.addresses[0][1]}", client, answer)
        try:
            yield there
        finally:
            await runner.cleanup()


class Ledger:
    """Money given back, each refund id once: what a provider with idempotency keys does."""

    def __init__(self) -> None:
        self.given: dict[str, int] = {}

    def give(self, refund_id: str, amount_minor: int) -> None:
        self.given.setdefault(refund_id, amount_minor)
