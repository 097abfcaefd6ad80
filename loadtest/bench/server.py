"""The two servers the HTTP rows compare, each in a process of its own on one core: `python -m loadtest.bench.server`."""

from __future__ import annotations

import asyncio
import os
import sys

import uvloop
from aiohttp import web


async def _empty(_request: web.Request) -> web.Response:
    return web.Response()


async def _run_empty(port: int) -> None:
    app = web.Application()
    app.router.add_get("/empty", _empty)
    app.router.add_post("/empty", _empty)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


def main() -> None:
    """`server.py empty PORT` or `server.py service`; BENCH_CORE names the core to stay on."""
    core = os.environ.get("BENCH_CORE")
    if core is not None:
        os.sched_setaffinity(0, {int(core)})
    if sys.argv[1] == "empty":
        uvloop.run(_run_empty(int(sys.argv[2])))
        return
    from flashsale.cli.compose import run_worker  # noqa: PLC0415 - the baseline process must not carry the service
    from flashsale.settings import load_settings  # noqa: PLC0415

    run_worker(load_settings())


if __name__ == "__main__":
    main()
