"""The crowd of a rehearsal: what it saw counts when all of it has left."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from flashsale.cli.rehearsal import CrowdFailed, Scenario, crowd


async def test_a_crowd_that_was_sent_home_is_no_result(tmp_path: Path) -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        asked.set()
        await never.wait()
        raise AssertionError

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", silent)
    async with TestServer(app) as server:
        scenario = Scenario(shoppers=2, units=1, seed=1, opens_in_s=0.0)
        async with crowd(f"http://127.0.0.1:{server.port}", "d", scenario, "key", tmp_path) as shoppers:
            await asked.wait()
            shoppers.process.send_signal(signal.SIGTERM)
            with pytest.raises(CrowdFailed, match="before all of them had left"):
                await shoppers.finished()
        assert msgspec.json.decode(shoppers.result_file.read_bytes())["complete"] is False
        never.set()
