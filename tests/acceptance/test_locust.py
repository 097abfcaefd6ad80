"""The Locust file plays the same shoppers against a running service."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashsale.cli.rehearsal import Scenario, come_to_rest, make_drop, new_drop_id

if TYPE_CHECKING:
    from tests.acceptance.conftest import Stage

LOCUSTFILE = Path(__file__).parents[2] / "loadtest" / "locustfile.py"
UNITS = 12
RUN_S = 10


async def test_locust_plays_shoppers_who_buy(stage: Stage, tmp_path: Path) -> None:
    drop = make_drop(new_drop_id(), Scenario(shoppers=0, units=UNITS, seed=0, opens_in_s=0.5), int(time.time() * 1000))
    await stage.parts.catalog.create(drop)
    key_file = tmp_path / "key"
    key_file.write_text(stage.storefront_key, encoding="ascii")
    statistics = await _locust(stage.stack.http_url, drop.drop_id, key_file)
    failed = {(row["name"], row["num_failures"]) for row in statistics if row["num_failures"]}
    assert not failed
    assert {"drop", "join", "serving", "admission", "reserve", "confirm"} <= {row["name"] for row in statistics}
    await come_to_rest(stage.parts, drop.drop_id)
    assert sum(stock.sold for stock in (await stage.parts.drops.inspect(drop.drop_id)).skus.values()) > 0


async def _locust(url: str, drop_id: str, key_file: Path) -> list[dict[str, Any]]:
    """The statistics of a short run, one element per kind of request."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", url, "--headless", "--json", "--only-summary"),
        *("--users", "30", "--spawn-rate", "30", "--run-time", f"{RUN_S}s", "--stop-timeout", "2"),
        env={**os.environ, "LOADTEST_DROP": drop_id, "LOADTEST_STOREFRONT_KEY_FILE": str(key_file), "LOADTEST_SEED": "3"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(RUN_S + 30):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()[-4000:]
    statistics: list[dict[str, Any]] = json.loads(out)
    return statistics
