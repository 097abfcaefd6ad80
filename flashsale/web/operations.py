"""What operators' tools ask for: is it alive, is it ready, how is it doing, its public keys and its description."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct

from flashsale.errors import FlashsaleError
from flashsale.metrics import CONTENT_TYPE
from flashsale.web.services import Check, Services

CHECK_TIMEOUT_S = 2.0
OPTIONAL = frozenset({"postgres"})
"""a worker serves a whole drop without these"""

_ALIVE = b'{"status":"alive"}'
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class ReadyView(Struct, frozen=True):
    """Which parts work."""

    status: str
    """ready, degraded (ready without an optional part) or not_ready"""
    checks: dict[str, str]
    """part to up or down"""


class Operations:
    """Handlers of the operators' routes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._description = (Path(__file__).parent / "openapi.json").read_bytes()
        self._log = structlog.get_logger("http")

    async def alive(self, _request: web.Request) -> web.Response:
        """GET /healthz: the process answers."""
        return web.Response(body=_ALIVE, headers=_JSON)

    async def ready(self, _request: web.Request) -> web.Response:
        """GET /readyz: whether this worker should be given requests."""
        checks = self._services.checks
        results = await asyncio.gather(*(self._works(name, check) for name, check in checks.items()))
        states = dict(zip(checks, ("up" if works else "down" for works in results), strict=True))
        states["drops"] = "up" if self._services.inlet.ready.is_set() else "down"
        down = {name for name, state in states.items() if state == "down"}
        status = "ready" if not down else "degraded" if down <= OPTIONAL else "not_ready"
        body = msgspec.json.encode(ReadyView(status, states))
        return web.Response(status=503 if status == "not_ready" else 200, body=body, headers=_JSON)

    async def metrics(self, _request: web.Request) -> web.Response:
        """GET /metrics: for Prometheus."""
        body = self._services.metrics.render()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    async def keys(self, _request: web.Request) -> web.Response:
        """GET /.well-known/jwks.json: public keys of admission tokens and receipts."""
        headers = {"Content-Type": "application/json", "Cache-Control": "public, max-age=300"}
        return web.Response(body=self._services.jwks, headers=headers)

    async def description(self, _request: web.Request) -> web.Response:
        """GET /openapi.json: this interface, described."""
        headers = {"Content-Type": "application/json", "Cache-Control": "public, max-age=300"}
        return web.Response(body=self._description, headers=headers)

    async def _works(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await check()
        except (FlashsaleError, TimeoutError, OSError) as error:
            self._log.warning("check_failed", check=name, error=str(error))
            return False
        return True
