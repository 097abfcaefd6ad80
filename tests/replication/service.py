"""A whole service as processes of its own on stores of several servers, and drops played on it by a crowd."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from admission.tokens import make_signing_keys
from flashsale.access import Scope, create_key
from flashsale.cli.listening import http_url, port_for_workers
from flashsale.cli.metric_files import shared_metrics
from flashsale.cli.rehearsal import SETTINGS, Scenario, come_to_rest, crowd, make_drop, report_on
from flashsale.cli.runtime import write_private
from flashsale.cli.stack import processes_of
from flashsale.cli.summary import Crowd
from flashsale.cli.target import Parts, opened
from flashsale.errors import FlashsaleError
from flashsale.model import Drop, Inspection
from flashsale.settings import Settings, load_settings
from flashsale.supervisor import Supervisor
from tests.workers import every_worker_knows

HOST = "127.0.0.1"
WORKERS = 2
PATIENCE_S = 30.0
REST_S = 10.0
"""Everything is finished this long after the last fault is mended."""
_LOOK_S = 0.05
NEVER = ("oversold_units", "lost_orders", "duplicate_orders", "overtakes", "broken_promises")


@dataclass(frozen=True, slots=True)
class Played:
    """A drop that is over."""

    drop: Drop
    report: dict[str, Any]
    seen: Crowd
    rest_s: float
    """how long it took, after the crowd had left and everything was mended, until nothing was unfinished"""

    def require_nothing_lost(self, units: int) -> None:
        """Every unit is sold, everything acknowledged is there once, and every error was worth repeating."""
        assert {name: self.report[name] for name in NEVER} == dict.fromkeys(NEVER, 0), self.seen.broken_promises_examples
        assert self.report["undersold_units"] == 0
        assert self.report["audit"] == "clean"
        assert self.report["orders_in_postgres"]["pending"] == 0
        assert self.report["sold_units"] == units
        self.require_polite()

    def require_polite(self) -> None:
        """Whatever was refused was refused with a word that says: try again."""
        assert self.seen.http_5xx == sum(self.seen.retry_later.values()), self.seen.retry_later


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, from the inside and from the outside."""

    folder: Path
    url: str
    parts: Parts
    storefront_key: str

    async def create(self, drop_id: str, scenario: Scenario, **changes: Any) -> Drop:
        """A drop of the scenario, with `changes` to its definition."""
        drop = dataclasses.replace(make_drop(drop_id, scenario, int(time.time() * 1000)), **changes)
        await self.parts.catalog.create(drop)
        return drop

    async def play(
        self,
        drop: Drop,
        scenario: Scenario,
        disturb: Callable[[], Coroutine[Any, Any, None]],
        *,
        mend: Callable[[], Awaitable[None]] | None = None,
    ) -> Played:
        """Sends the crowd, with `disturb` going on beside it and `mend` after it, and waits until nothing is unfinished."""
        async with crowd(self.url, drop.drop_id, scenario, self.storefront_key, self.folder) as shoppers:
            disturbing = asyncio.create_task(disturb())
            seen = await shoppers.finished()
            await disturbing
        if mend is not None:
            await mend()
        rest_s = await come_to_rest(self.parts, drop.drop_id)
        return Played(drop, await report_on(self.parts, drop.drop_id, seen), seen, rest_s)

    async def until(self, drop: Drop, happened: Callable[[Inspection], bool]) -> None:
        """Returns once `happened` is true of the drop in the store."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    if happened(await self.parts.drops.inspect(drop.drop_id)):
                        return
                except FlashsaleError:
                    pass
                await asyncio.sleep(_LOOK_S)

    async def selling(self, drop: Drop) -> None:
        """Returns once a quarter of the units is reserved: the crowd is in the middle of it."""
        units = sum(sku.allotment for sku in drop.skus)
        await self.until(drop, lambda inspection: inspection.stats.get("reserved_units", 0) >= units // 4)


@asynccontextmanager
async def running_service(folder: Path, store_url: str, database_url: str) -> AsyncIterator[Service]:
    """Two workers and a reconciler on these stores; everything is ended afterwards."""
    keys_file = folder / "signing-keys.json"
    write_private(keys_file, msgspec.json.encode(make_signing_keys(time.time_ns() // 1_000_000)))
    own = {
        **SETTINGS,
        "store": {"url": store_url},
        "postgres": {"url": database_url},
        "tokens": {"signing_keys_file": str(keys_file)},
        "reconciler": {"claim_idle_ms": 1_000, "audit_interval_ms": 1_000},
        "http": {"host": HOST, "workers": WORKERS},
    }
    with port_for_workers(HOST, 0) as port, shared_metrics() as variables:
        settings: Settings = load_settings(environment={}, overrides={**own, "http": {**own["http"], "port": port}})
        ready = asyncio.Event()
        supervisor = Supervisor(processes_of(settings, variables, reconciler=True), on_ready=ready.set)
        running = asyncio.create_task(supervisor.run())
        try:
            async with opened(settings) as parts:
                _, key = await create_key(parts.database, [Scope.STOREFRONT], label="replication")
                async with asyncio.timeout(PATIENCE_S):
                    await ready.wait()
                    url = http_url(HOST, port)
                    while not await every_worker_knows(url, key):  # noqa: ASYNC110 - the answer comes from another process
                        await asyncio.sleep(_LOOK_S)
                yield Service(folder, url, parts, key)
        finally:
            supervisor.stop()
            await running
