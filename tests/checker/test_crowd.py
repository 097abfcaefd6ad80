"""A crowd visits the real service over HTTP while its parts are killed; its history proves that every promise was kept."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from flashsale.access import Scope, create_key
from flashsale.cli.rehearsal import SETTINGS, Scenario, come_to_rest, make_drop, new_drop_id
from flashsale.cli.stack import Stack, running_stack
from flashsale.cli.target import Parts, opened
from loadtest.checker.__main__ import EXIT_KEPT
from loadtest.checker.stores import read_final_state
from loadtest.checker.verdict import check
from loadtest.history import Kind, read_history
from tests.acceptance.conftest import until
from tests.workers import every_worker_knows

ROOT = Path(__file__).parents[2]
SCENARIO = Scenario(shoppers=120, units=40, seed=7, opens_in_s=1.0)


@pytest.fixture
async def service() -> AsyncIterator[tuple[Stack, Parts]]:
    with tempfile.TemporaryDirectory(prefix="flashsale-crowd-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        async with running_stack(folder, port=0, workers=2, overrides=SETTINGS) as stack, opened(stack.settings) as parts:
            yield stack, parts


async def run(*words: str | Path, environment: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *words, cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.faults
async def test_a_crowd_that_lives_through_kills_was_promised_nothing_in_vain(service: tuple[Stack, Parts], tmp_path: Path) -> None:
    stack, parts = service
    _, key = await create_key(parts.database, [Scope.STOREFRONT], label="crowd")
    await until(lambda: every_worker_knows(stack.http_url, key))
    key_file, history, kept_state = tmp_path / "key", tmp_path / "history.jsonl", tmp_path / "state.json"
    key_file.write_text(key)
    drop = replace(make_drop(new_drop_id(), SCENARIO, int(time.time() * 1000)), extension_ms=2_000)
    await parts.catalog.create(drop)
    crowd = await run(
        *("loadtest.swarm", "--url", stack.http_url, "--drop", drop.drop_id, "--shoppers", str(SCENARIO.shoppers)),
        *("--habit", "extends=0.4", "--habit", "pays_twice=0.4", "--habit", "regrets=0.3"),
        *("--storefront-key-file", key_file, "--history", history, "--result", tmp_path / "result.json"),
    )
    for part in ("worker-1", "valkey", "reconciler"):
        await _units_taken(parts, drop.drop_id, more=4)
        os.kill(stack.pids[part], signal.SIGKILL)
    assert await crowd.wait() == 0
    await come_to_rest(parts, drop.drop_id)

    verdict = check(read_history(history), await read_final_state(parts.store, parts.database, parts.drops, drop.drop_id))
    assert verdict.kept, verdict.examples
    kinds = {event.kind for event in read_history(history)}
    assert {Kind.JOIN, Kind.ADMIT, Kind.RESERVE, Kind.EXTEND, Kind.CONFIRM, Kind.WEBHOOK, Kind.CANCEL_ORDER} <= kinds
    assert key not in history.read_text()

    urls = {"FLASHSALE_STORE_URL": stack.settings.store.url, "FLASHSALE_POSTGRES_URL": stack.settings.postgres.url}
    command = await run("loadtest.checker", history, "--drop", drop.drop_id, "--keep-state", kept_state, environment=urls)
    said, _ = await command.communicate()
    assert command.returncode == EXIT_KEPT
    assert msgspec.json.decode(said)["reservations"] == verdict.reservations
    again = await run("loadtest.checker", history, "--state", kept_state)
    assert (await again.communicate())[0] == said


async def _units_taken(parts: Parts, drop_id: str, *, more: int) -> None:
    """Returns once `more` units than now are out."""
    seen: list[int] = []

    async def out() -> bool:
        skus = (await parts.drops.inspect(drop_id)).skus.values()
        seen.append(sum(stock.reserved + stock.sold for stock in skus))
        return seen[-1] >= min(seen[0] + more, SCENARIO.units)

    await until(out)
