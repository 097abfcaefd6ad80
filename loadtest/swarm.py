"""A crowd of simulated shoppers, in a process of its own, over real HTTP.

    python -m loadtest.swarm --url http://127.0.0.1:8080 --drop sneaker-x --shoppers 2000 --seed 7 \
        --storefront-key-file key.txt --result crowd.json --history history.jsonl

With `--history`, every call that can change something is noted before it is sent and when it has ended; `loadtest.checker`
holds that against what the stores have in the end.

The same seed makes the same people with the same plans; only what the service answers, and when, is its own. The crowd
always ends by itself: every visit has a deadline.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from loadtest.asking import Asker
from loadtest.client import CONNECTIONS_MAX, Pool
from loadtest.diary import Diary
from loadtest.history import Recorder
from loadtest.payment import Payments
from loadtest.shopper import Habits, Ware, plan_shopper
from loadtest.visit import Sale, Visit

SHOPPERS_MAX = 100_000
CONNECTIONS_LIMIT = 20_000
DEADLINE_S = 180.0
LATE_SPAN_S = 5.0

EXIT_OK = 0
EXIT_NO_DROP = 3
EXIT_NO_HISTORY = 4
EXIT_INTERRUPTED = 130


class NoDrop(Exception):
    """The drop's description could not be read."""


def read_sale(drop: dict[str, Any], now: float, late_span_s: float) -> tuple[Sale, int]:
    """(what is on sale, units one shopper may have in all), from the drop's public description.

    Args:
        drop: as GET /v1/drops/{drop} answers it.
        now: seconds since the epoch; early shoppers come from now, or from when joining begins, until the opening.
        late_span_s: the late ones come within this time after it.
    """
    opens_at = drop["opens_at_ms"] / 1000
    sale = Sale(
        drop_id=drop["drop"],
        wares=tuple(Ware(sku["sku"], sku["limit_per_shopper"]) for sku in sorted(drop["skus"], key=lambda sku: str(sku["sku"]))),
        opens_at=max(opens_at, now),
        starts_at=min(max(now, drop["joins_at_ms"] / 1000), max(opens_at, now)),
        late_span_s=late_span_s,
        draws=drop["order"] == "draw",
    )
    return sale, int(drop["limit_per_shopper"])


async def run_crowd(options: argparse.Namespace, diary: Diary, recorder: Recorder | None = None) -> None:
    """All visits of a crowd; returns when the last shopper has left.

    Raises:
        NoDrop: there is no such drop.
    """
    pool = Pool(options.url, options.connections)
    asker = Asker(pool, diary, time.monotonic() + options.deadline_s, recorder)
    try:
        answer = await asker.ask("drop", "GET", f"/v1/drops/{options.drop}")
        if answer.status != 200:
            raise NoDrop(f"GET /v1/drops/{options.drop} was answered {answer.status}: {answer.body[:200]!r}")
        drop = answer.json()
        sale, limit = read_sale(drop, time.time(), options.late_span_s)
        diary.commitment = drop["commitment"] or ""
        payments = Payments(asker, diary, _key_of(options.storefront_key_file))
        usual = Habits() if payments.can_confirm else Habits(webhook=1.0)
        habits = replace(usual, **dict(options.habit))
        async with asyncio.TaskGroup() as visits:
            for number in range(options.shoppers):
                plan = plan_shopper(options.seed, number, sale.wares, limit, habits)
                visits.create_task(Visit(plan, sale, asker, payments, diary).run())
    finally:
        pool.close()


def _key_of(path: Path | None) -> str:
    return path.read_text(encoding="utf-8").strip() if path else ""


async def _until_signalled(options: argparse.Namespace, diary: Diary, recorder: Recorder | None) -> int:
    crowd = asyncio.create_task(run_crowd(options, diary, recorder))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, crowd.cancel)
    try:
        await crowd
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED
    except NoDrop as error:
        print(error, file=sys.stderr)
        return EXIT_NO_DROP
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a crowd and writes what it saw; the exit code."""
    options = _parser().parse_args(arguments)
    diary, started = Diary(), time.time()
    try:
        recorder = Recorder(options.history, f"p{os.getpid()}") if options.history else None
    except OSError as error:
        print(f"The history cannot be written: {error}", file=sys.stderr)
        return EXIT_NO_HISTORY
    with recorder or nullcontext():
        exit_code = uvloop.run(_until_signalled(options, diary, recorder))
    if exit_code == EXIT_NO_DROP:
        return exit_code  # nobody came, and a result would read as if nobody had wanted anything
    result = {
        "shoppers": options.shoppers,
        "seed": options.seed,
        "seconds": round(time.time() - started, 3),
        "complete": exit_code == EXIT_OK,
        **diary.result(),
    }
    text = json.dumps(result)
    if options.result:
        options.result.write_text(text, encoding="utf-8")
    else:
        print(text)
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.swarm", description="A crowd of simulated shoppers for one drop.")
    parser.add_argument("--url", required=True, help="where the service answers; loopback only")
    parser.add_argument("--drop", required=True, help="id of the drop")
    parser.add_argument("--shoppers", type=_bounded(1, SHOPPERS_MAX), default=500)
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same people")
    parser.add_argument("--storefront-key-file", type=Path, help="file with an API key that may confirm; without it all pay by webhook")
    parser.add_argument("--habit", type=_habit, action="append", default=[], help="NAME=SHARE, as in pays_twice=0.1; several may be given")
    parser.add_argument("--connections", type=_bounded(1, CONNECTIONS_LIMIT), default=CONNECTIONS_MAX)
    parser.add_argument("--late-span-s", type=float, default=LATE_SPAN_S, help="late shoppers come within this time after the opening")
    parser.add_argument("--deadline-s", type=float, default=DEADLINE_S, help="after this, everybody goes home")
    parser.add_argument("--history", type=Path, help="file for the history of all calls (JSON Lines), added to what is there")
    parser.add_argument("--result", type=Path, help="file for the result (JSON); stdout without it")
    return parser


def _habit(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    if name not in Habits.__dataclass_fields__ or not 0 <= float(share) <= 1:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(Habits.__dataclass_fields__)} with a share from 0 to 1")
    return name, float(share)


def _bounded(low: int, high: int) -> Any:
    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}")
        return value

    return integer


if __name__ == "__main__":
    sys.exit(main())
