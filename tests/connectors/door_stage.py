"""A worker with the vectors' keys, whose drop is the vectors' drop, and a shop that tells which headers it got."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from flashsale.settings import Settings
from tests.integration.http_client import with_settings
from tests.vectors.make_admission_tokens import SIGNING_KEYS


def with_vector_keys(settings: Settings, folder: Path) -> Settings:
    """`settings` with the keys that sign the vectors."""
    path = folder / "signing-keys.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(SIGNING_KEYS), encoding="utf-8")
    return with_settings(settings, tokens={"signing_keys_file": str(path)})


async def tell_headers(request: web.Request) -> web.Response:
    """A shop that answers with the headers it got; at /broken it is."""
    if request.path == "/broken":
        return web.Response(status=500, text="the shop's own words")
    return web.json_response({name.lower(): value for name, value in request.headers.items()})


@asynccontextmanager
async def running_shop(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]] = tell_headers, *middlewares: Middleware
) -> AsyncIterator[int]:
    """Yields the port of a shop."""
    app = web.Application(middlewares=middlewares)
    app.router.add_route("*", "/{anything:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
