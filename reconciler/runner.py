"""The reconciler process: every background loop, started and stopped together."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from flashsale.errors import FlashsaleError
from flashsale.payments.registry import RefundProviders
from reconciler.agents import Loop, keep_running
from reconciler.auditor import Auditor
from reconciler.consumer import JournalConsumer
from reconciler.evidence import Evidence
from reconciler.janitor import Janitor
from reconciler.journal import Journal, Store
from reconciler.lost_commits import LostCommits
from reconciler.orders import OrderRecorder
from reconciler.outbox import Outbox
from reconciler.reaper import Reaper
from reconciler.refunds import RefundDriver
from reconciler.registry import Registry
from reconciler.stock import StockRecorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from flashsale.connections.database import Database
    from flashsale.settings import Settings
    from reconciler.agents import Agent
    from reconciler.consumer import Fence
    from reconciler.metrics import ReconcilerMetrics
    from reconciler.reaper import Expire

STOP_GRACE_S = 10.0
LIVE_DROPS_MAX = 500
"""Each takes a connection to the store."""

_log = structlog.get_logger("reconciler")


class OpenInStore(Protocol):
    """Gives the store a drop that Postgres has and the store has not."""

    async def __call__(self, drop_id: str) -> None:
        """Opens the drop and notes it (`drop_opened_in_store`); repeated, it changes nothing."""
        ...


class Reconciler:
    """One reconciler process. Any number may run beside each other on the same stores."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        open_journal_store: Callable[[], Store],
        expire: Expire,
        pause: Callable[[str], Awaitable[bool]],
        open_in_store: OpenInStore,
        complete_stock: Callable[[], Awaitable[object]],
        metrics: ReconcilerMetrics,
        fence: Fence | None = None,
        refund_providers: RefundProviders | None = None,
        consumer: str | None = None,
        more_agents: Sequence[Agent] = (),
        live_drops_max: int = LIVE_DROPS_MAX,
    ) -> None:
        """Put the agents together; nothing connects before `run`.

        Args:
            settings: all of them.
            database: Postgres.
            open_journal_store: a new client of the store whose time limit leaves room for a read that blocks
                `settings.reconciler.block_ms`. Each live drop gets one of its own, since a blocking read keeps a connection.
            expire: ends overdue reservations.
            pause: pauses a drop that does not add up; True when it was open until now.
            open_in_store: gives the store a drop.
            complete_stock: finishes additions of units that were interrupted between Postgres and the store.
            metrics: what is counted.
            fence: closes a drop whose store has lost what was recorded; nobody when None.
            refund_providers: who gives payments back; nobody when None, and refunds wait.
            consumer: this process's name in the consumer groups; unique, made up when None.
            more_agents: run beside the reconciler's own.
            live_drops_max: drops worked on at once; those beyond are said to be left out.
        """
        self._settings = settings
        self._database = database
        self._open_journal_store = open_journal_store
        self._open_in_store = open_in_store
        self._metrics = metrics
        self._fence = fence
        self._consumer = consumer or f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
        self._recorder = OrderRecorder(database)
        self._stock = StockRecorder(database)
        self._outbox = Outbox(database)
        self._store = open_journal_store()
        self._lost_commits = LostCommits(database, self._store, settings.reconciler.refresh_ms)
        self._registry = Registry(database, self._store)
        self._live_drops_max = live_drops_max
        self._drops: dict[str, _LiveDrop] = {}
        self._left_out = False
        self._agents: list[Agent] = [
            Reaper(expire, self.live_drops, metrics, settings.reaper),
            Auditor(self._evidence, pause, database, metrics, settings.reconciler, self._lost_commits),
            self._lost_commits,
            Janitor(self._journals, metrics, settings.reconciler),
            RefundDriver(database, refund_providers or RefundProviders(), metrics, settings.payments),
            Loop("stock", settings.reconciler.refresh_ms, complete_stock),
            Loop("outbox", settings.reconciler.refresh_ms, self._count_outbox),
            *more_agents,
        ]

    def live_drops(self) -> frozenset[str]:
        """Ids of the drops worked on now."""
        return frozenset(self._drops)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then finish what is in hand within `STOP_GRACE_S` and return."""
        _log.info("reconciler_started", consumer=self._consumer)
        try:
            async with asyncio.TaskGroup() as tasks:
                interval_ms = self._settings.reconciler.refresh_ms
                agents = [
                    *self._agents,
                    Loop("registry", interval_ms, lambda: self._refresh(stop, tasks)),
                    Loop("opener", interval_ms, self._open_drops),
                ]
                running = [tasks.create_task(keep_running(agent, stop), name=agent.name) for agent in agents]
                await stop.wait()
                await self._finish(running)
        finally:
            await self._store.aclose()
            _log.info("reconciler_stopped", consumer=self._consumer)

    def _journals(self) -> Mapping[str, Journal]:
        return {drop_id: drop.journal for drop_id, drop in self._drops.items()}

    def _evidence(self) -> Mapping[str, Evidence]:
        return {drop_id: drop.evidence for drop_id, drop in self._drops.items()}

    async def _finish(self, running: list[asyncio.Task[None]]) -> None:
        for drop in self._drops.values():
            drop.stop.set()
        tasks = [*running, *(drop.task for drop in self._drops.values())]
        _, late = await asyncio.wait(tasks, timeout=STOP_GRACE_S)
        for task in late:
            _log.warning("agent_cancelled", agent=task.get_name())
            task.cancel()

    async def _count_outbox(self) -> None:
        self._metrics.outbox_waiting.set(await self._outbox.waiting())

    async def _refresh(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        """Start consumers for drops that are new, end those of drops that are gone or past."""
        found = await self._registry.look()
        if stop.is_set():
            return
        await self._leave(self._drops.keys() - set(found))
        new = [drop_id for drop_id in found if drop_id not in self._drops]
        room = self._live_drops_max - len(self._drops)
        for drop_id in new[:room]:
            self._drops[drop_id] = self._follow(drop_id, tasks)
            _log.info("drop_followed", drop=drop_id)
        self._say_left_out(new[room:])

    async def _leave(self, drop_ids: Collection[str]) -> None:
        leaving = {drop_id: self._drops.pop(drop_id) for drop_id in drop_ids}
        await asyncio.gather(*(drop.end() for drop in leaving.values()))
        for drop_id in leaving:
            self._metrics.forget(drop_id)
            _log.info("drop_left", drop=drop_id)

    def _say_left_out(self, drop_ids: Sequence[str]) -> None:
        self._metrics.drops_not_followed.set(len(drop_ids))
        if drop_ids and not self._left_out:
            _log.error(
                "drops_not_followed",
                drops=len(drop_ids),
                first=drop_ids[0],
                live_drops_max=self._live_drops_max,
                todo="Their orders are not recorded. Run the service for some of the drops on another store.",
            )
        elif self._left_out and not drop_ids:
            _log.info("all_drops_followed")
        self._left_out = bool(drop_ids)

    async def _open_drops(self) -> None:
        for row in await self._database.fetch("drops_to_open"):
            try:
                await self._open_in_store(row["drop_id"])
                _log.info("drop_opened_in_store", drop=row["drop_id"])
            except FlashsaleError as error:
                _log.warning("drop_not_opened", drop=row["drop_id"], code=error.code, error=str(error))

    def _follow(self, drop_id: str, tasks: asyncio.TaskGroup) -> _LiveDrop:
        store, stop = self._open_journal_store(), asyncio.Event()
        journal = Journal(store, drop_id, self._consumer)
        consumer = JournalConsumer(
            drop_id,
            journal,
            self._recorder,
            self._stock,
            self._metrics,
            self._settings.reconciler,
            before_refusing=self._lost_commits.look,
            fence=self._fence,
        )

        async def work() -> None:
            try:
                await keep_running(consumer, stop)
            finally:
                await store.aclose()

        evidence = Evidence(drop_id, self._database, store)
        return _LiveDrop(journal, evidence, stop, tasks.create_task(work(), name=consumer.name))


@dataclass(frozen=True, slots=True)
class _LiveDrop:
    """A drop whose journal is being worked on."""

    journal: Journal
    evidence: Evidence
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def end(self) -> None:
        """Finish the batch in hand and go."""
        self.stop.set()
        await self.task


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
