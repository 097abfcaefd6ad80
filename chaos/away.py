"""A whole drop without Postgres, at a size that matters: what shoppers saw, and how soon every order was there afterwards.

    python -m chaos.away --shoppers 20000 --units 5000

Stops Postgres before the drop opens and starts it when the last shopper has left. Exit code 1 when a shopper saw an error,
anything does not add up in the end, or the last order was there more than ten seconds after Postgres.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from chaos.lab import recovery_of
from flashsale.access import Scope, create_key
from flashsale.cli.rehearsal import SETTINGS, Pace, Scenario, come_to_rest, crowd, make_drop, new_drop_id, report_on, verdict
from flashsale.cli.stack import Stack, running_stack
from flashsale.cli.target import Parts, opened

OPENS_IN_S = 20.0
KEY_KNOWN_S = 3.0
"""workers read new API keys every two seconds, and cannot once Postgres is away"""
PACE = Pace(reservation_ttl_ms=15_000, claim_window_ms=8_000)
DEADLINE_S = 400.0
REST_WITHIN_S = 120.0
"""longer, and it is taken for lost"""


async def play(folder: Path, shoppers: int, units: int, seed: int) -> dict[str, Any]:
    """The drop; what came of it, with `wrong` in words and `all_orders_after_s` from the moment Postgres takes connections."""
    async with (
        running_stack(folder, port=0, workers=2, overrides={**SETTINGS, "log": {"level": "error"}}) as stack,
        opened(stack.settings) as parts,
    ):
        _, key = await create_key(parts.database, [Scope.STOREFRONT], label="away")
        await asyncio.sleep(KEY_KNOWN_S)
        return await _without_postgres(stack, parts, Scenario(shoppers, units, seed, OPENS_IN_S, DEADLINE_S, PACE), key)


async def _without_postgres(stack: Stack, parts: Parts, scenario: Scenario, key: str) -> dict[str, Any]:
    drop = make_drop(new_drop_id(), scenario, int(time.time() * 1000))
    await parts.catalog.create(drop)
    postgres = stack.stores.postgres
    async with crowd(stack.http_url, drop.drop_id, scenario, key, stack.data_dir) as people:
        await postgres.stop()
        stopped_at = time.time()
        seen = await people.finished()
    gone_s = time.time() - drop.opens_at_ms / 1000
    await postgres.start()
    recovery = await recovery_of(parts, drop.drop_id, REST_WITHIN_S)
    await come_to_rest(parts, drop.drop_id, REST_WITHIN_S)
    report = await report_on(parts, drop.drop_id, seen)
    still_there = ["Postgres was still there when the drop opened"] if stopped_at * 1000 > drop.opens_at_ms else []
    return {
        "shoppers": scenario.shoppers,
        "units": scenario.units,
        "sold": report["sold_units"],
        "orders_in_postgres": report["orders_in_postgres"],
        "http_5xx": seen.http_5xx,
        "drop_took_s": round(gone_s, 1),
        "all_orders_after_s": round(recovery.caught_up_s, 2),
        "wrong": [*still_there, *recovery.late, *verdict(report)],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays it and prints what came of it as JSON; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos.away", description="A whole drop without Postgres.")
    parser.add_argument("--shoppers", type=int, default=20_000)
    parser.add_argument("--units", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="flashsale-away-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        result = uvloop.run(play(Path(name), options.shoppers, options.units, options.seed))
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")
    return 1 if result["wrong"] or result["http_5xx"] else 0


if __name__ == "__main__":
    sys.exit(main())
