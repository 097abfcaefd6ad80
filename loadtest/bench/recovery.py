"""How long a drop is away after the store has lost everything: `python -m loadtest.bench.recovery --reservations 100000`.

Live reservations are put into Postgres, the store is emptied, and the drop is recovered by the very parts the command uses.
Beside the time until the drop is open again it shows the longest call of the store meanwhile, for which everybody else waits.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import structlog
import uvloop

from flashsale.cli.recover import recovery_of
from flashsale.cli.target import opened
from loadtest.bench.stage import SKU, Stage, running_stage

RUNS = 3
PER_SHOPPER = 2
SLOW_CALL_US = 500
SEED = """
WITH made AS (
    INSERT INTO orders
        (reservation_id, drop_id, ticket_id, queue_number, state, amount_minor, currency, reserved_at, expires_at, request_id)
    SELECT
        $1::text || '.r' || rpad(n::text, 22, 'x'), $1, $1::text || '.t' || rpad((n / $3::int)::text, 22, 'y'), n / $3::int, 'pending',
        4900, 'EUR', now(), now() + interval '1 hour', 'bench'
    FROM generate_series(1, $2::int) AS n
    RETURNING reservation_id
)
INSERT INTO order_items (reservation_id, drop_id, sku, quantity) SELECT reservation_id, $1, $4, 1 FROM made
"""


async def measure(stage: Stage, reservations: int) -> dict[str, Any]:
    """One loss and its recovery."""
    drop_id = await stage.make_drop(2 * reservations, recorded=True)
    async with stage.database.acquire() as session:
        await session.connection.execute(SEED, drop_id, reservations, PER_SHOPPER, SKU, timeout=120)
    await stage.store.flushall()
    await stage.store.config_set("slowlog-log-slower-than", SLOW_CALL_US)
    await stage.store.slowlog_reset()
    async with opened(stage.settings) as parts:
        recovered = await recovery_of(parts).recover(drop_id)
        assert recovered is not None
        held = (await parts.drops.inspect(drop_id)).reservations_live
        assert held == reservations
    slowest_us = max((call["duration"] for call in await stage.store.slowlog_get(128)), default=0)
    await stage.forget(drop_id)
    return {"reservations": reservations, "ready_ms": recovered.ready_ms, "longest_store_call_ms": slowest_us / 1000}


async def _measure(folder: Path, reservations: int, runs: int) -> list[dict[str, Any]]:
    async with running_stage(folder / "stores") as stage:
        return [await measure(stage, reservations) for _ in range(runs)]


def main() -> None:
    """Prints one line of JSON for each run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--reservations", type=int, default=100_000)
    options.add_argument("--runs", type=int, default=RUNS)
    chosen = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="flashsale-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the Postgres account must get in when we are root
        rows = uvloop.run(_measure(folder, chosen.reservations, chosen.runs))
    for row in rows:
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
