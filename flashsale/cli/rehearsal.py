"""A rehearsed drop on a running stack: its definition, the crowd, coming to rest, and the report. For the demo and the tests."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from flashsale.cli.draw_summary import draw_summary, read_draw_records
from flashsale.cli.summary import Crowd, faults, read_records, summarise
from flashsale.cli.target import Parts
from flashsale.errors import FlashsaleError, StoreUnavailable
from flashsale.model import Drop, Sku

LIMIT_PER_SHOPPER = 2
PRICE_MINOR = 14_900
SESSION_S = 2.5
"""about how long an admitted shopper keeps a slot"""
REST_S_MAX = 30.0
LOOK_S = 0.25
DROP_HOURS = 2
CROWD_STOP_S = 10.0

SETTINGS: dict[str, dict[str, Any]] = {
    "payments": {"test_provider": True},
    "log": {"level": "warning"},
}
"""what a rehearsal sets besides the defaults"""


class CrowdFailed(FlashsaleError):
    """The process that plays the shoppers ended without a result."""

    code = "crowd_failed"


class NotAtRest(FlashsaleError):
    """Reservations or journal entries were still unfinished when the time was up."""

    code = "not_at_rest"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a shopper may take. The defaults are for programs, so that a rehearsal is short."""

    reservation_ttl_ms: int = 6_000
    claim_window_ms: int = 3_000
    extension_ms: int = 0
    selling_s: float = 6.0
    """how long the first sell-out takes, so that a line forms in front of it"""

    @property
    def reservation_s_max(self) -> float:
        """How long the last reservation can keep a drop from coming to rest."""
        return (self.reservation_ttl_ms + self.extension_ms) / 1000


HUMAN_PACE = Pace(reservation_ttl_ms=30_000, claim_window_ms=10_000, extension_ms=30_000, selling_s=20.0)
"""somebody in a browser takes part"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is rehearsed."""

    shoppers: int
    units: int
    seed: int
    opens_in_s: float
    deadline_s: float = 120.0
    """after the start; then every simulated shopper goes home"""
    pace: Pace = Pace()
    order: str = "arrival"
    """of those who come before the opening: by `arrival`, or by `draw`"""


def new_drop_id() -> str:
    """An id no other rehearsal in the same data folder has."""
    return f"demo-{secrets.token_hex(3)}"


def make_drop(drop_id: str, scenario: Scenario, now_ms: int, shop_url: str = "") -> Drop:
    """A drop of one lamp in three glazes, whose rate and capacity make a line for this many units.

    Args:
        drop_id: of the drop.
        scenario: what is rehearsed.
        now_ms: when joining begins.
        shop_url: of a service that also plays the shop; empty when nobody looks.
    """
    rate_per_s = max(4.0, scenario.units / scenario.pace.selling_s)
    clay, ink = scenario.units * 35 // 100, scenario.units * 25 // 100
    allotments = (
        ("halo-moon", "Halo, Moon", scenario.units - clay - ink),
        ("halo-clay", "Halo, Clay", clay),
        ("halo-ink", "Halo, Ink", ink),
    )
    opens_at_ms = now_ms + int(scenario.opens_in_s * 1000)
    return Drop(
        drop_id=drop_id,
        name="Halo, first firing",
        currency="EUR",
        skus=tuple(
            Sku(sku, name, units, PRICE_MINOR, LIMIT_PER_SHOPPER, media=f"{shop_url}/assets/{sku}.svg" if shop_url else "")
            for sku, name, units in allotments
            if units
        ),
        joins_at_ms=now_ms,
        opens_at_ms=opens_at_ms,
        closes_at_ms=opens_at_ms + DROP_HOURS * 3_600_000,
        rate_per_min=int(rate_per_s * 60),
        capacity=int(rate_per_s * SESSION_S),
        claim_window_ms=scenario.pace.claim_window_ms,
        reservation_ttl_ms=scenario.pace.reservation_ttl_ms,
        extension_ms=scenario.pace.extension_ms,
        limit_per_shopper=LIMIT_PER_SHOPPER,
        description="A rehearsal: nothing here is real but the machinery.",
        order=scenario.order,
        return_urls=(f"{shop_url}/shop/{drop_id}",) if shop_url else (),
    )


# ------------------------------------------------------------------------------------------------------------- the crowd


@dataclass(frozen=True, slots=True)
class RunningCrowd:
    """Simulated shoppers in a process of their own."""

    process: asyncio.subprocess.Process
    result_file: Path
    log_file: Path

    async def finished(self) -> Crowd:
        """What they wrote down, once the last one has left.

        Raises:
            CrowdFailed: the process ended without a result, or before all had left.
        """
        code = await self.process.wait()
        try:
            seen = msgspec.json.decode(self.result_file.read_bytes(), type=Crowd)
        except (OSError, msgspec.DecodeError) as error:
            said = self.log_file.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
            raise CrowdFailed(what=f"The simulated shoppers ended with status {code} and no result:", why=said or str(error)) from error
        if not seen.complete:
            raise CrowdFailed(
                what=f"The simulated shoppers ended with status {code} before all of them had left.",
                todo="Somebody stopped their process; what it saw is not the whole drop, so play it again.",
            )
        return seen


@asynccontextmanager
async def crowd(
    url: str, drop_id: str, scenario: Scenario, storefront_key: str, folder: Path, history: Path | None = None
) -> AsyncIterator[RunningCrowd]:
    """Simulated shoppers on their way to a drop; sent home when the block is left.

    Args:
        url: of the service.
        drop_id: the drop they come for.
        scenario: how many, and which.
        storefront_key: an API key that may confirm; goes by file, so that nobody reads it in the process list.
        folder: for the key, the result and the process's messages.
        history: where every call is written down, for the checker (`loadtest.checker`).
    """
    key_file, result_file, log_file = folder / f"{drop_id}.key", folder / f"{drop_id}.crowd.json", folder / f"{drop_id}.crowd.log"
    key_file.touch(mode=0o600)
    key_file.write_text(storefront_key, encoding="ascii")
    argv = [
        *(sys.executable, "-m", "loadtest.swarm", "--url", url, "--drop", drop_id, "--seed", str(scenario.seed)),
        *("--shoppers", str(scenario.shoppers), "--deadline-s", str(scenario.deadline_s)),
        *("--storefront-key-file", str(key_file), "--result", str(result_file)),
        *(("--history", str(history)) if history else ()),
    ]
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=_crowd_environment(), start_new_session=True
        )
    try:
        yield RunningCrowd(process, result_file, log_file)
    finally:
        await _send_home(process)
        key_file.unlink(missing_ok=True)


def _crowd_environment() -> dict[str, str]:
    """Ours without the service's settings: shoppers know the service from outside only."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FLASHSALE_")}


async def _send_home(process: asyncio.subprocess.Process) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(how)
        with suppress(TimeoutError):
            async with asyncio.timeout(CROWD_STOP_S):
                await process.wait()


# --------------------------------------------------------------------------------------------------------------- the end


async def come_to_rest(parts: Parts, drop_id: str, within_s: float = REST_S_MAX) -> float:
    """Returns when no reservation is live and everything in the journal is in Postgres; how long that took, in seconds.

    Raises:
        NotAtRest: that was not so `within_s`.
    """
    from reconciler.journal import Journal

    journal, started = Journal(parts.store, drop_id, "rehearsal"), time.monotonic()
    unfinished = "the store does not answer"
    while (waited_s := time.monotonic() - started) < within_s:
        with suppress(StoreUnavailable, FlashsaleError):
            live = (await parts.drops.inspect(drop_id)).reservations_live
            age_ms = await journal.oldest_unfinished_ms()
            if not live and age_ms is None:
                return waited_s
            unfinished = f"{live} reservations are live, the oldest unfinished journal entry is {age_ms} ms old"
        await asyncio.sleep(LOOK_S)
    raise NotAtRest(what=f"The drop {drop_id} has not come to rest within {within_s:.0f} s:", why=f"{unfinished}.")


async def report_on(parts: Parts, drop_id: str, seen: Crowd) -> dict[str, Any]:
    """The report on a drop at rest, from Postgres and the store.

    Raises:
        FlashsaleError: one of them cannot be read.
    """
    from reconciler.auditor import audit
    from reconciler.evidence import Evidence

    report = await audit(Evidence(drop_id, parts.database, parts.store))
    inspection = await parts.drops.inspect(drop_id)
    records = await read_records(parts.store, parts.database, inspection, report.word.value)
    draw = await read_draw_records(parts.drops, parts.database, inspection.snapshot, seen.lots)
    return summarise(records, seen) | draw_summary(draw, seen.commitment, seen.lots)


def verdict(report: dict[str, Any]) -> list[str]:
    """What is wrong, in words; empty when nothing is."""
    return faults(report)
