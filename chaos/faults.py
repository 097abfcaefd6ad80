"""Faults by name, each of which strikes a running laboratory and mends itself after a while.

For random runs: the rows of the fault table have tests of their own, which strike at exact points.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
from redis.exceptions import RedisError

from chaos.lab import Lab, until
from chaos.losses import empty_store, log_size, recovered, set_back, unrecorded
from chaos.process import ProcessFailed
from chaos.proxy import Swallow, armed
from chaos.wire import Side, command, reply_to
from flashsale.errors import FlashsaleError
from flashsale.keys import drop_keys
from reconciler.journal import GROUP

if TYPE_CHECKING:
    from chaos.process import LabProcess
    from chaos.proxy import Proxy
    from flashsale.model import Drop

ENTRIES_COPIED = 20
CUT_BYTES_MAX = 20_000
"""a few dozen calls of the scripts"""
HALF = 0.5
FLUSH_US = (20_000, 300_000)
ROOM_BYTES = (1_000, 30_000)
LONG_S = 6.0
"""as long as the longest reservation of a run lives"""

Strike = Callable[["Blow"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Blow:
    """One strike of a fault: where, on whose drop, for how long, and its own luck."""

    lab: Lab
    drop: Drop
    luck: random.Random
    span_s: float

    @property
    def worker(self) -> LabProcess:
        """One of the API workers."""
        return self.luck.choice(self.lab.workers)

    @property
    def reconciler(self) -> LabProcess:
        """One of the reconcilers."""
        return self.luck.choice(self.lab.reconcilers)

    async def passes(self) -> None:
        """The time the fault lasts."""
        await asyncio.sleep(self.span_s)


@dataclass(frozen=True, slots=True)
class Fault:
    """What can happen to a service."""

    name: str
    target: str
    """valkey, postgres, worker, reconciler or drop; what strikes the same target waits for its turn"""
    sentence: str
    strike: Strike
    loses_time: bool = True
    """while it lasts reservations may end late. One of several processes may be gone, and Postgres: neither is a reason"""
    loses_data: bool = False
    """the store forgets what it has acknowledged"""


FAULTS: dict[str, Fault] = {}
"""All faults by name."""


def _fault(target: str, sentence: str, *, loses_time: bool = True, loses_data: bool = False) -> Callable[[Strike], Strike]:
    def add(strike: Strike) -> Strike:
        name = strike.__name__.removeprefix("_")
        FAULTS[name] = Fault(name, target, sentence, strike, loses_time, loses_data)
        return strike

    return add


# ------------------------------------------------------------------------------------------------------------- processes


@_fault("worker", "kill -9 of a worker", loses_time=False)
async def _kill_worker(blow: Blow) -> None:
    await _kill(blow, blow.worker)


@_fault("reconciler", "kill -9 of a reconciler", loses_time=False)
async def _kill_reconciler(blow: Blow) -> None:
    await _kill(blow, blow.reconciler)


async def _kill(blow: Blow, process: LabProcess) -> None:
    await process.kill()
    await blow.passes()
    await process.start()


@_fault("worker", "a worker is frozen", loses_time=False)
async def _freeze_worker(blow: Blow) -> None:
    await _freeze(blow, blow.worker)


@_fault("reconciler", "a reconciler is frozen", loses_time=False)
async def _freeze_reconciler(blow: Blow) -> None:
    await _freeze(blow, blow.reconciler)


async def _freeze(blow: Blow, process: LabProcess) -> None:
    process.signal(signal.SIGSTOP)
    try:
        await blow.passes()
    finally:
        process.signal(signal.SIGCONT)


@_fault("worker", "a worker is deployed anew", loses_time=False)
async def _deploy_worker(blow: Blow) -> None:
    await _deploy(blow.worker)


@_fault("reconciler", "a reconciler is deployed anew", loses_time=False)
async def _deploy_reconciler(blow: Blow) -> None:
    await _deploy(blow.reconciler)


async def _deploy(process: LabProcess) -> None:
    code = await process.stop()
    await process.start()
    if code:
        raise ProcessFailed(what=f"{process.name} ended with exit code {code} after SIGTERM.")


# ---------------------------------------------------------------------------------------------------------------- valkey


@_fault("valkey", "kill -9 of Valkey")
async def _crash_valkey(blow: Blow) -> None:
    await blow.lab.crash_valkey()
    try:
        await blow.passes()
    finally:
        await blow.lab.stores.valkey.start()


@_fault("valkey", "Valkey is frozen")
async def _freeze_valkey(blow: Blow) -> None:
    blow.lab.freeze_valkey()
    try:
        await blow.passes()
    finally:
        blow.lab.thaw_valkey()


@_fault("valkey", "Valkey forgets the scripts", loses_time=False)
async def _flush_scripts(blow: Blow) -> None:
    await blow.lab.parts.store.script_flush()


@_fault("valkey", "every client of Valkey is thrown out")
async def _kill_clients(blow: Blow) -> None:
    await _admin(blow.lab, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@_fault("valkey", "Valkey takes no writes for a while")
async def _pause_writes(blow: Blow) -> None:
    await _admin(blow.lab, "CLIENT", "PAUSE", int(blow.span_s * 1000), "WRITE")
    await blow.passes()


@_fault("valkey", "Valkey's memory is full")
async def _fill_memory(blow: Blow) -> None:
    await blow.lab.parts.store.config_set("maxmemory", 1)
    try:
        await blow.passes()
    finally:
        await blow.lab.parts.store.config_set("maxmemory", 0)


@_fault("valkey", "Valkey's disk is slow")
async def _slow_disk(blow: Blow) -> None:
    await _admin(blow.lab, "DEBUG", "AOF-FLUSH-SLEEP", blow.luck.randint(*FLUSH_US))
    try:
        await blow.passes()
    finally:
        await _admin(blow.lab, "DEBUG", "AOF-FLUSH-SLEEP", 0)


@_fault("valkey", "Valkey's disk is full, and it ends itself")
async def _fill_disk(blow: Blow) -> None:
    await blow.lab.restart_valkey_with_room(blow.luck.randint(*ROOM_BYTES))
    try:
        await blow.passes()
    finally:
        await blow.lab.stores.valkey.restart()


@_fault("valkey", "Valkey loses everything and the drop is recovered", loses_data=True)
async def _lose_store(blow: Blow) -> None:
    with _perhaps_unrecorded(blow):
        await blow.passes()
        await empty_store(blow.lab)
    await recovered(blow.lab, blow.drop)


@_fault("valkey", "Valkey comes back as it was a moment ago and the drop is recovered", loses_data=True)
async def _roll_back_store(blow: Blow) -> None:
    log, size = log_size(blow.lab)
    with _perhaps_unrecorded(blow):
        await blow.passes()
        await set_back(blow.lab, log, size if blow.luck.random() < HALF else -blow.luck.randint(1, CUT_BYTES_MAX))
    await recovered(blow.lab, blow.drop)


def _perhaps_unrecorded(blow: Blow) -> AbstractContextManager[None]:
    """Every other time only the shoppers know what is lost."""
    return unrecorded(blow.lab) if blow.luck.random() < HALF else nullcontext()


async def _admin(lab: Lab, *words: str | int) -> Any:
    store: Any = lab.parts.store
    return await store.execute_command(*words)


# ------------------------------------------------------------------------------------------------------------- the wires


@_fault("worker", "answers to reservations get lost", loses_time=False)
async def _lose_reserve_replies(blow: Blow) -> None:
    await _lose_replies(blow, "reserve")


@_fault("worker", "answers to payments get lost", loses_time=False)
async def _lose_confirm_replies(blow: Blow) -> None:
    await _lose_replies(blow, "confirm")


async def _lose_replies(blow: Blow, script: str) -> None:
    wires = [worker.store for worker in blow.lab.workers]
    with armed(wires, Swallow(Side.REPLIES, reply_to(blow.lab.script(script)), times=blow.luck.randint(1, 4))):
        await blow.passes()


@_fault("reconciler", "acknowledgements of the journal get lost", loses_time=False)
async def _lose_acknowledgements(blow: Blow) -> None:
    wires = [reconciler.store for reconciler in blow.lab.reconcilers]
    with armed(wires, Swallow(Side.REQUESTS, command("XACK"), times=blow.luck.randint(1, 3))):
        await blow.passes()


@_fault("worker", "a worker hears nothing from Valkey", loses_time=False)
async def _silence_worker(blow: Blow) -> None:
    await _stall(blow, blow.worker.store, blow.luck.choice(((), (Side.REPLIES,))))


@_fault("reconciler", "a reconciler hears nothing from Valkey", loses_time=False)
async def _silence_reconciler(blow: Blow) -> None:
    await _stall(blow, blow.reconciler.store, ())


@_fault("reconciler", "a reconciler hears nothing from Postgres", loses_time=False)
async def _silence_postgres(blow: Blow) -> None:
    await _stall(blow, blow.reconciler.database, ())


async def _stall(blow: Blow, wire: Proxy, sides: tuple[Side, ...]) -> None:
    wire.stall(*sides)
    try:
        await blow.passes()
    finally:
        wire.heal()


@_fault("worker", "a worker's connections to Valkey are cut again and again", loses_time=False)
async def _cut_worker(blow: Blow) -> None:
    await _cut(blow, blow.worker.store)


@_fault("reconciler", "a reconciler's connections to Postgres are cut again and again", loses_time=False)
async def _cut_postgres(blow: Blow) -> None:
    await _cut(blow, blow.reconciler.database)


async def _cut(blow: Blow, wire: Proxy) -> None:
    for _ in range(4):
        wire.cut()
        await asyncio.sleep(blow.span_s / 4)


@_fault("worker", "the way to Valkey is slow", loses_time=False)
async def _slow_store(blow: Blow) -> None:
    wires = [worker.store for worker in blow.lab.workers]
    try:
        for wire in wires:
            replies = wire.flows[Side.REPLIES]
            replies.latency_ms, replies.jitter_ms = 40.0, 80.0
        await blow.passes()
    finally:
        for wire in wires:
            wire.heal()


# -------------------------------------------------------------------------------------------------------------- postgres


@_fault("postgres", "Postgres restarts", loses_time=False)
async def _restart_postgres(blow: Blow) -> None:
    await blow.lab.stores.postgres.stop()
    try:
        await blow.passes()
    finally:
        await blow.lab.stores.postgres.start()


@_fault("postgres", "Postgres crashes", loses_time=False)
async def _crash_postgres(blow: Blow) -> None:
    await blow.lab.stop_postgres_at_once()
    try:
        await blow.passes()
    finally:
        await blow.lab.stores.postgres.start()


@_fault("postgres", "Postgres is away for longer than reservations live", loses_time=False)
async def _stop_postgres_for_long(blow: Blow) -> None:
    await blow.lab.stores.postgres.stop()
    try:
        await asyncio.sleep(blow.span_s + LONG_S)
    finally:
        await blow.lab.stores.postgres.start()


@_fault("postgres", "somebody holds a lock on all orders", loses_time=False)
async def _lock_orders(blow: Blow) -> None:
    async with blow.lab.parts.database.acquire() as session, session.connection.transaction():
        await session.connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        await blow.passes()


@_fault("postgres", "every connection to Postgres is ended", loses_time=False)
async def _end_connections(blow: Blow) -> None:
    await blow.lab.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


# ------------------------------------------------------------------------------------------------------------ the journal


@_fault("drop", "the journal's consumer group is destroyed", loses_time=False)
async def _destroy_group(blow: Blow) -> None:
    await blow.lab.parts.store.xgroup_destroy(drop_keys(blow.drop.drop_id).journal, GROUP)


@_fault("drop", "journal entries come again, in another order", loses_time=False)
async def _repeat_entries(blow: Blow) -> None:
    store, key = blow.lab.parts.store, drop_keys(blow.drop.drop_id).journal
    entries = await store.xrange(key, count=ENTRIES_COPIED)
    blow.luck.shuffle(entries)
    for _, fields in entries:
        await store.xadd(key, fields)


@_fault("drop", "an entry nobody can read is in the journal", loses_time=False)
async def _poison_entry(blow: Blow) -> None:
    key = drop_keys(blow.drop.drop_id).journal
    await blow.lab.parts.store.xadd(key, {"v": "1", "e": blow.luck.randbytes(24)})


async def resume(lab: Lab, drop: Drop) -> None:
    """Returns when the drop is not paused, or closed. A recovery in between does not resume a drop that was paused."""

    async def resumed() -> bool:
        await lab.parts.drops.steer(drop.drop_id, "resume")
        return True

    await until(resumed)


@_fault("drop", "the merchant pauses the drop and resumes it")
async def _pause_drop(blow: Blow) -> None:
    await blow.lab.parts.drops.steer(blow.drop.drop_id, "pause")
    try:
        await blow.passes()
    finally:
        await resume(blow.lab, blow.drop)


async def strike(fault: Fault, blow: Blow) -> str:
    """Lets a fault happen; what kept it from happening, or nothing.

    A fault that meets another one's damage (a store that does not answer) has struck enough.

    Raises:
        ProcessFailed: one of our own processes had ended by itself, did not end when told, or did not start.
    """
    try:
        await fault.strike(blow)
    except ProcessFailed:
        raise
    except (FlashsaleError, OSError, RedisError, asyncpg.PostgresError) as error:
        return type(error).__name__
    return ""
