"""A line of a million: what a place costs in time and memory as the line grows, and how long its draw takes.

    python -m loadtest.bench.million --tickets 1000000

People join through `WaitingRoom`, with signed receipts, 512 at a time; the cost of a join and of making the serving document is
measured where the line is short and where it is long. Then the entries are closed and drawn as a worker does it, and the store's
own slow log says which call was the longest.
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
SLICES_COMPARED = 5
"""so many slices of a short line and of the long one are taken in turn; their medians are compared"""
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


async def measure(stage: Stage, tickets: int) -> dict[str, Any]:
    """One line, from nobody to `tickets`, and at its end joins there in turn with joins to new lines."""
    drop_id, line = await _line(stage)
    await line.grow(SHORT)
    empty = await _memory(stage)
    slices = max(2 * SLICES_COMPARED, (tickets - SHORT) // SLICE)
    for _ in range(slices - SLICES_COMPARED):
        await line.grow(SLICE)
    bytes_a_ticket = (await _memory(stage) - empty) / (slices - SLICES_COMPARED) / SLICE
    short, long, short_document, long_document = [], [], [], []
    for _ in range(SLICES_COMPARED):
        another_id, another = await _line(stage)
        await another.grow(SHORT)
        short_document.append(await another.document_us())
        long_document.append(await line.document_us())
        short.append(await another.grow(SLICE))
        long.append(await line.grow(SLICE))
        await stage.forget(another_id)
    result = {
        "tickets": SHORT + slices * SLICE,
        "join_us_when_short": round(statistics.median(short), 2),
        "join_us_when_long": round(statistics.median(long), 2),
        "join_ratio": round(statistics.median(long) / statistics.median(short), 3),
        "document_us_when_short": round(statistics.median(short_document), 2),
        "document_us_when_long": round(statistics.median(long_document), 2),
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
