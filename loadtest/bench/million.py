"""A line of a million: what a place costs in time and memory as the line grows, and how long its draw takes.

    python -m loadtest.bench.million --tickets 1000000

People join through `WaitingRoom`, with signed receipts, 512 at a time. Over the last quarter of the way every slice of joins is
held against one of the same size that joins short lines of their own, in the same breath: a store that is busy, or a machine that
is, slows both. A store doubles its table at some sizes and pays for it over the next joins; the dearest slice says how much.
Then the entries are closed and drawn as a worker does it, and the store's own slow log says which call was the longest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import uvloop

from admission.draw import Draw
from admission.drawing import draws_of, make_draw, prepare
from admission.receipts import ReceiptSigner
from admission.serving import encode_document, serving_document
from admission.tokens import TokenSigner, make_signing_keys
from admission.waiting_room import WaitingRoom
from flashsale.model import Refused, secret_hash_of
from loadtest.bench.stage import Stage, running_stage

CALLERS = 512
SLICE = 20_000
"""joins measured together"""
SHORT = 1_000
"""people in a short line"""
SHORT_GROWS = 5_000
"""joins to one short line; as many such lines as it takes are compared with a slice of the long one"""
COMPARED = 0.25
"""of the slices, the last ones, are compared"""
DOCUMENTS = 2_000
SLOW_CALL_US = 200
OPENS_IN_MS = 3_600_000
CALLED = 2_000
"""queue numbers worked out for the cost of one"""


class Line:
    """One drop whose line grows."""

    def __init__(self, stage: Stage, drop_id: str) -> None:
        self._stage = stage
        self._drop_id = drop_id
        keys = make_signing_keys(0)
        tokens = TokenSigner(keys, issuer="bench", audience="bench")
        self._room = WaitingRoom(stage.scripts, tokens, ReceiptSigner(keys))

    async def grow(self, joins: int) -> float:
        """Lets people join; microseconds for each."""
        hashes = iter([secret_hash_of(secrets.token_urlsafe(16)) for _ in range(joins)])

        async def caller(share: Iterator[str]) -> None:
            for secret_hash in share:
                place = await self._room.join(self._drop_id, secret_hash)
                if isinstance(place, Refused):
                    raise TypeError(f"{place}")

        began = time.perf_counter()
        await asyncio.gather(*(caller(hashes) for _ in range(CALLERS)))
        return (time.perf_counter() - began) / joins * 1e6

    async def document_us(self) -> float:
        """What making the serving document costs."""
        snapshot = (await self._stage.drops.inspect(self._drop_id)).snapshot
        began = time.perf_counter()
        for _ in range(DOCUMENTS):
            encode_document(serving_document(snapshot, self._stage.settings.waiting_room))
        return (time.perf_counter() - began) / DOCUMENTS * 1e6


async def _memory(stage: Stage) -> int:
    return int((await stage.store.info("memory"))["used_memory_dataset"])


async def _slowest_ms(stage: Stage) -> float:
    return max((call["duration"] for call in await stage.store.slowlog_get(1024)), default=0) / 1000


async def _draw(stage: Stage, drop_id: str) -> dict[str, Any]:
    """Closes the entries and draws, as a worker does it."""
    await stage.store.config_set("slowlog-log-slower-than", SLOW_CALL_US)
    await stage.store.config_set("slowlog-max-len", 1024)
    await stage.store.slowlog_reset()
    began = time.perf_counter()
    await stage.drops.steer(drop_id, "open")
    await make_draw(stage.drops, (await stage.drops.inspect(drop_id)).snapshot, {}, "none")
    drawn_s = time.perf_counter() - began
    draws = draws_of((await stage.drops.inspect(drop_id)).snapshot)
    await prepare(draws)
    prepared_s = time.perf_counter() - began
    [draw] = draws
    assert isinstance(draw, Draw)
    began = time.perf_counter()
    for entry in range(0, draw.entries, max(1, draw.entries // CALLED)):
        draw.queue_number(entry)
    return {
        "closed_and_drawn_s": round(drawn_s, 2),
        "and_prepared_s": round(prepared_s, 2),
        "longest_store_call_ms": await _slowest_ms(stage),
        "queue_number_us": round((time.perf_counter() - began) / CALLED * 1e6, 1),
    }


async def _short_lines(stage: Stage) -> tuple[float, float]:
    """What a join to a short line costs, and making its document: both in microseconds."""
    joins, documents = [], []
    for _ in range(SLICE // SHORT_GROWS):
        drop_id, line = await _line(stage)
        await line.grow(SHORT)
        joins.append(await line.grow(SHORT_GROWS))
        documents.append(await line.document_us())
        await stage.forget(drop_id)
    return statistics.mean(joins), statistics.mean(documents)


async def measure(stage: Stage, tickets: int) -> dict[str, Any]:
    """One line, from nobody to `tickets`; over the last slices, joins to short lines in turn with it."""
    drop_id, line = await _line(stage)
    await line.grow(SHORT)
    empty = await _memory(stage)
    slices = max(2, (tickets - SHORT) // SLICE)
    compared = max(1, round(slices * COMPARED))
    for _ in range(slices - compared):
        await line.grow(SLICE)
    bytes_a_ticket = (await _memory(stage) - empty) / (slices - compared) / SLICE
    pairs, document_pairs = [], []
    for _ in range(compared):
        short, short_document = await _short_lines(stage)
        pairs.append((short, await line.grow(SLICE)))
        document_pairs.append((short_document, await line.document_us()))
    ratios = [long / short for short, long in pairs]
    document_ratios = [long / short for short, long in document_pairs]
    result = {
        "tickets": SHORT + slices * SLICE,
        "slices_compared": compared,
        "join_us_when_short": round(statistics.median(short for short, _ in pairs), 2),
        "join_us_when_long": round(statistics.median(long for _, long in pairs), 2),
        "join_ratio": round(statistics.median(ratios), 3),
        "join_ratio_of_all": round(sum(long for _, long in pairs) / sum(short for short, _ in pairs), 3),
        "join_ratio_of_the_dearest_slice": round(max(ratios), 3),
        "document_ratio": round(statistics.median(document_ratios), 3),
        "bytes_a_ticket": round(bytes_a_ticket, 1),
        **await _draw(stage, drop_id),
    }
    await stage.forget(drop_id)
    return result


async def _line(stage: Stage) -> tuple[str, Line]:
    drop_id = await stage.make_drop(100, order="draw", opens_in_ms=OPENS_IN_MS)
    return drop_id, Line(stage, drop_id)


async def _measure(folder: Path, tickets: int) -> dict[str, Any]:
    async with running_stage(folder / "stores") as stage:
        return await measure(stage, tickets)


def main() -> None:
    """Prints one JSON object."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tickets", type=int, default=1_000_000)
    chosen = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="flashsale-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the Postgres account must get in when we are root
        sys.stdout.write(json.dumps(uvloop.run(_measure(folder, chosen.tickets)), indent=1) + "\n")


if __name__ == "__main__":
    main()
