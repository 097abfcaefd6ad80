"""The laboratory: a whole service of real processes, each with a way of its own to its stores, and a proxy on every way.

async with running_lab(folder) as lab:
    worker = lab.process("worker-1")
    with holding([worker.store], Side.REPLIES, reply_to(lab.script("reserve"))) as hold:
        …                      # somebody reserves through worker-1
        await hold.reached()   # the units are taken, the answer has not left the store
        await worker.kill()
    await lab.heal()
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
from redis.exceptions import RedisError

from admission.drawing import draws_of, prepare
from chaos.process import LabProcess
from chaos.proxy import Proxy
from chaos.wire import Bytes, Pattern, Postgres, Resp, script
from flashsale.access import Scope, create_key
from flashsale.cli.listening import http_url, port_for_workers
from flashsale.cli.metric_files import shared_metrics
from flashsale.cli.rehearsal import SETTINGS, Scenario, come_to_rest, crowd, make_drop, new_drop_id, report_on, verdict
from flashsale.cli.stack import prepared, processes_of
from flashsale.cli.summary import Crowd, overtakes, read_raises, read_tickets
from flashsale.cli.target import Parts, opened
from flashsale.embedded.stores import EmbeddedStores
from flashsale.errors import FlashsaleError
from flashsale.keys import DROPS, drop_keys
from flashsale.model import Drop, Inspection
from flashsale.resources import resource_dir
from flashsale.scripts import Script, read_scripts
from flashsale.settings import Settings, load_settings
from loadtest.checker.model import Rules, Window
from loadtest.checker.stores import read_final_state
from loadtest.checker.verdict import Verdict, check
from loadtest.diary import asks_to_repeat
from loadtest.history import read_history
from reconciler.journal import Journal

HOST = "127.0.0.1"
PATIENCE_S = 30.0
"""longer, and it is taken for lost"""
CAUGHT_UP_WITHIN_S = 10.0
"""after the last fault has healed everything from before is finished: recorded, or ended in time"""
MOVES_WITHIN_S = 2.0
"""after the last fault has healed the line moves"""
NOTICED_LATE_MS = 1_000
"""after a loss, shoppers hear of what is free again at their next poll"""
_LOOK_S = 0.03
_SHARED_MEMORY_BYTES = 1_200_000
"""more than the largest file Postgres makes for shared memory at its start"""

LAB_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    **SETTINGS,
    # Everything that happens is told, so that a test can wait for it.
    "log": {"level": "info", "format": "json"},
    # What a dead consumer held is taken over within a second and a half, so that a fault and its repair fit into seconds.
    "reconciler": {"claim_idle_ms": 1_000, "audit_interval_ms": 1_000},
    # Small, so that a process can be killed between two calls of one look.
    "reaper": {"batch_size_max": 5},
}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A drop that was played to its end while something was broken."""

    drop: Drop
    report: dict[str, Any]
    seen: Crowd
    wrong: tuple[str, ...]
    """what is wrong, in words; empty when every invariant held"""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How soon a drop had recovered from its last fault, by the store's clock."""

    moved_s: float
    """until the line had its first beat"""
    caught_up_s: float
    """until everything from before was finished"""

    @property
    def late(self) -> tuple[str, ...]:
        """What took longer than is promised, in words."""
        moved = f"the line stood still for {self.moved_s:.1f} s after healing, {MOVES_WITHIN_S:g} s are promised"
        finished = f"what was unfinished took {self.caught_up_s:.1f} s after healing, {CAUGHT_UP_WITHIN_S:g} s are promised"
        return tuple(
            sentence
            for sentence, too_late in ((moved, self.moved_s > MOVES_WITHIN_S), (finished, self.caught_up_s > CAUGHT_UP_WITHIN_S))
            if too_late
        )


@dataclass(frozen=True, slots=True)
class Lab:
    """A running service, from the inside and from the outside."""

    folder: Path
    stores: EmbeddedStores
    settings: Settings
    """of the service, with the URLs past the proxies"""
    parts: Parts
    """the laboratory's own way to both stores, which no fault on the wire touches"""
    front: Proxy
    """shoppers' way to the workers, each connection to the next in turn"""
    processes: Mapping[str, LabProcess]
    storefront_key: str
    _scripts: Mapping[str, Script]
    recoveries: list[Recovery]
    """of the drops played and judged since somebody last emptied this"""

    # ---- who is who

    @property
    def url(self) -> str:
        """Where shoppers find the service."""
        return f"http://{HOST}:{self.front.port}"

    def process(self, name: str) -> LabProcess:
        """The process called `worker-1` or `reconciler-2`."""
        return self.processes[name]

    @property
    def workers(self) -> list[LabProcess]:
        """The API workers."""
        return [process for process in self.processes.values() if process.url]

    @property
    def reconcilers(self) -> list[LabProcess]:
        """The reconcilers."""
        return [process for process in self.processes.values() if not process.url]

    def owner(self, link: Proxy) -> LabProcess:
        """Whose way out a proxy is."""
        return next(process for process in self.processes.values() if link in process.links)

    def script(self, name: str, *words: str) -> Pattern:
        """Calls of the script `name`, with all these words (a drop's key, mostly)."""
        return script(self._scripts[name].sha, *words)

    # ---- a drop from beginning to end

    async def open_drop(self, drop: Drop) -> Drop:
        """Creates a drop; returns when every running worker serves it."""
        await self.parts.catalog.create(drop)
        for worker in self.workers:
            if worker.running:
                await until(partial(worker.answers, f"/v1/drops/{drop.drop_id}/serving", 200))
        return drop

    async def rehearse(
        self,
        scenario: Scenario,
        disturb: Callable[[Drop], Coroutine[Any, Any, None]],
        *,
        mend: Callable[[], Awaitable[None]] | None = None,
        losses: Sequence[Window] = (),
        **changes: Any,
    ) -> Rehearsal:
        """Plays a drop to a crowd while `disturb` goes on; then `mend`, waits until all is at rest, and looks what is wrong.

        `changes` are made to the rehearsed drop, for example its durability. `disturb` adds to `losses` when the store forgot
        what it had acknowledged.

        Raises:
            NotAtRest: something was still unfinished long after the mending.
            CrowdFailed: the shoppers' process broke.
        """
        drop = replace(make_drop(new_drop_id(), scenario, now_ms()), **changes)
        await self.open_drop(drop)
        history, struck_ms, healed_ms = self.folder / f"{drop.drop_id}.history.jsonl", now_ms(), 0

        async def disturbed() -> None:
            nonlocal healed_ms
            await disturb(drop)
            if mend is None:
                healed_ms = now_ms()
                await self.recovery(drop)

        async with crowd(self.url, drop.drop_id, scenario, self.storefront_key, self.folder, history) as shoppers:
            disturbing = asyncio.create_task(disturbed())
            try:
                seen = await shoppers.finished()
                await disturbing
            finally:
                disturbing.cancel()
        if mend is not None:
            await mend()
            healed_ms = now_ms()
        played = await self.judge(drop, since_the_losses(seen, losses), losses=losses)
        verdict = await self.checked(drop, history, (Window(struck_ms, healed_ms),), tuple(losses))
        return replace(played, wrong=(*played.wrong, *_rude_answers(shoppers.result_file), *_violations(verdict)))

    async def checked(self, drop: Drop, history: Path, faults: tuple[Window, ...], losses: tuple[Window, ...] = ()) -> Verdict:
        """What a crowd's history proves, held against a drop at rest.

        The windows of `faults` put off the expiries they strike; in those of `losses` the store forgot what it had acknowledged.
        """
        state = await read_final_state(self.parts.store, self.parts.database, self.parts.drops, drop.drop_id)
        # Each process writes its lines when it has enough of them, so those of several are not in order.
        events = sorted(read_history(history), key=attrgetter("at_ns"))
        return await asyncio.to_thread(check, events, state, Rules(faults=faults, losses=losses))

    async def judge(self, drop: Drop, seen: Crowd | None = None, within_s: float = PATIENCE_S, losses: Sequence[Window] = ()) -> Rehearsal:
        """Waits until a drop is at rest and holds every invariant against it. Raises NotAtRest."""
        seen = seen or Crowd()
        await self.recovery(drop, within_s)
        await come_to_rest(self.parts, drop.drop_id, within_s)
        report = await report_on(self.parts, drop.drop_id, seen)
        if losses:
            report["overtakes"] = await self._overtakes_outside(losses, drop)
        return Rehearsal(drop, report, seen, tuple(_wrong(report, seen)))

    async def recovery(self, drop: Drop, within_s: float = PATIENCE_S) -> Recovery:
        """How soon a drop recovers from now on, as `recovery_of`; kept in `recoveries`."""
        found = await recovery_of(self.parts, drop.drop_id, within_s)
        self.recoveries.append(found)
        return found

    async def _overtakes_outside(self, losses: Sequence[Window], drop: Drop) -> int:
        """Times somebody went before their turn, but for places given in a loss.

        Until a store that went back in time is found out, it gives numbers of people it has forgotten to others.
        """
        tickets = await read_tickets(self.parts.store, drop.drop_id)
        certain = [ticket for ticket in tickets if not any(loss.start_ms <= ticket.joined_at_ms <= loss.end_ms for loss in losses)]
        snapshot = (await self.inspect(drop)).snapshot
        draws = draws_of(snapshot)
        await prepare(draws)
        return overtakes(certain, await read_raises(self.parts.store, drop.drop_id), draws, snapshot.drawn_at_ms)

    async def retire(self, drop: Drop) -> None:
        """Closes a drop that has been judged, so that nobody works for it any more. What is recorded of it stays."""
        await self.parts.drops.close(drop.drop_id)
        await self.parts.store.srem(DROPS, drop.drop_id)
        await self.sql(
            "UPDATE drops SET joins_at = joins_at - a, opens_at = opens_at - a, closes_at = closes_at - a"
            " FROM (VALUES (interval '30 days')) AS v (a) WHERE drop_id = $1",
            drop.drop_id,
        )

    async def inspect(self, drop: Drop) -> Inspection:
        """The drop in the store, now."""
        return await self.parts.drops.inspect(drop.drop_id)

    async def until(self, drop: Drop, happened: Callable[[Inspection], bool]) -> None:
        """Returns once `happened` is true of the drop in the store."""

        async def looked() -> bool:
            return happened(await self.inspect(drop))

        await until(looked)

    async def sql(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Rows of a statement the service has no name for."""
        async with self.parts.database.acquire() as session:
            return [tuple(row) for row in await session.connection.fetch(statement, *arguments)]

    # ---- the stores

    async def crash_valkey(self) -> None:
        """`kill -9` for Valkey; it stays away until `stores.valkey.start()`."""
        await self.stores.valkey.kill()

    def freeze_valkey(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        os.kill(self.stores.valkey.pid, signal.SIGSTOP)

    def thaw_valkey(self) -> None:
        """SIGCONT."""
        os.kill(self.stores.valkey.pid, signal.SIGCONT)

    async def restart_valkey_with_room(self, left_bytes: int, appendfsync: str = "always") -> None:
        """Restarts Valkey with room for `left_bytes` more in its log; `stores.valkey.restart()` gives it all the room again.

        A limit on the size of its files does what a full disk does: the write fails (EFBIG, as ENOSPC would). Nobody writes until it
        has started, or it could be full before.
        """
        writers = [process for process in (*self.workers, *self.reconcilers) if process.running]
        for process in writers:
            process.signal(signal.SIGSTOP)
        try:
            await self.stores.valkey.stop()
            with _files_limited_to(self.append_only_files[-1].stat().st_size + left_bytes):
                await self.stores.valkey.start()
            await self.parts.store.config_set("appendfsync", appendfsync)
        finally:
            for process in writers:
                if process.running:  # another fault may have killed it meanwhile
                    process.signal(signal.SIGCONT)

    async def restart_postgres_with_room(self, left_bytes: int) -> None:
        """Restarts Postgres with room for about `left_bytes` more in its present WAL file, and none for another one.

        `stores.postgres.restart()` gives it all the room again. Its shared memory is a file as well and has to fit, so a WAL
        file that is nearly empty is filled first.
        """
        used_bytes = await self._wal_offset_bytes()
        if used_bytes < _SHARED_MEMORY_BYTES:
            filler = "SELECT pg_logical_emit_message(false, 'laboratory', repeat('x', $1::int))"
            await self.sql(filler, _SHARED_MEMORY_BYTES - used_bytes)
            used_bytes = await self._wal_offset_bytes()
        await self.stores.postgres.stop()
        with _files_limited_to(used_bytes + left_bytes):
            await self.stores.postgres.start()

    async def _wal_offset_bytes(self) -> int:
        ((used_bytes,),) = await self.sql("SELECT file_offset FROM pg_walfile_name_offset(pg_current_wal_insert_lsn())")
        return int(used_bytes)

    async def stop_postgres_at_once(self) -> None:
        """Postgres's "immediate" shutdown: no checkpoint, the next start recovers. It stays away until `stores.postgres.start()`."""
        os.kill(self.stores.postgres.pid, signal.SIGQUIT)
        await self.stores.postgres.wait_crashed()
        await self.stores.postgres.stop()

    async def restart_postgres_with(self, **values: str | int) -> None:
        """Restarts Postgres with settings over its own; without any, with its own."""
        await self.stores.postgres.stop()
        self._postgres_values.write_text("".join(f"{name} = {value}\n" for name, value in values.items()), encoding="ascii")
        await self.stores.postgres.start()

    @property
    def _postgres_values(self) -> Path:
        """Where Postgres looks for settings over its own (ALTER SYSTEM writes there, too)."""
        return self.stores.postgres.folder / "data" / "postgresql.auto.conf"

    @property
    def append_only_files(self) -> list[Path]:
        """Valkey's increments, the one being written last. Cut or change them only while it is down."""
        return sorted((self.stores.valkey.folder / "data" / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    # ---- afterwards

    async def heal(self) -> None:
        """Ends every fault: wires flow, frozen processes go on, dead ones are started, both stores are up as configured."""
        self.front.heal()
        for process in self.processes.values():
            for link in process.links:
                link.heal()
            if process.running:
                process.signal(signal.SIGCONT)
        await self._heal_stores()
        for process in self.processes.values():
            if not process.running:
                await process.start()
        for worker in self.workers:
            await until(partial(worker.answers, "/readyz", 200))

    async def _heal_stores(self) -> None:
        for server in self.stores.servers:
            try:
                os.kill(server.pid, signal.SIGCONT)
            except FlashsaleError:
                await server.start()
            except ProcessLookupError:
                await server.restart()
        if any(not line.startswith("#") for line in self._postgres_values.read_text(encoding="ascii").splitlines()):
            await self.restart_postgres_with()
        await self.parts.store.config_set("maxmemory", 0, "appendfsync", "always")
        await self.parts.store.execute_command("DEBUG", "AOF-FLUSH-SLEEP", 0)

    async def knows_key(self) -> None:
        """Returns when every worker lets the storefront's key in."""
        headers = {"Authorization": f"Bearer {self.storefront_key}"}
        for worker in self.workers:
            await until(partial(worker.answers, "/v1/orders?drop=nothing", 200, 404, headers=headers))


@contextmanager
def _files_limited_to(size: int) -> Iterator[None]:
    """A process started inside cannot write past `size` bytes in any file, for as long as it lives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def flip_byte(path: Path, offset: int) -> None:
    """Changes one byte of a file; a negative offset counts from its end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def cut_file(path: Path, size: int) -> None:
    """Shortens a file to `size` bytes; a negative size takes so many off its end."""
    os.truncate(path, size if size >= 0 else max(0, path.stat().st_size + size))


def _wrong(report: Mapping[str, Any], seen: Crowd) -> list[str]:
    """Every broken invariant. A 5xx that asks for a repetition is an honest answer while something is broken."""
    rude = seen.http_5xx - sum(seen.retry_later.values())
    wrong = verdict({**report, "http_5xx": rude})
    return [*wrong, *seen.broken_promises_examples]


def _rude_answers(result_file: Path) -> list[str]:
    """Every 5xx that did not ask for a repetition, by what was asked."""
    answers: dict[str, dict[str, int]] = msgspec.json.decode(result_file.read_bytes())["answers"]
    return [
        f"{operation} was answered {answer}, {count} times"
        for operation, counts in answers.items()
        for answer, count in counts.items()
        if answer.startswith("5") and not asks_to_repeat(operation, answer.partition(" ")[2])
    ]


def since_the_losses(seen: Crowd, losses: Sequence[Window]) -> Crowd:
    """What a crowd saw, without what a store that loses data may take back.

    The history checker holds every single promise against the windows of the losses. Left here are people who left
    empty-handed when the last loss was over.
    """
    if not losses:
        return seen
    over_ms = max(loss.end_ms for loss in losses) + NOTICED_LATE_MS
    return msgspec.structs.replace(
        seen,
        reservations={},
        confirmed={},
        lots={},
        empty_handed=[shopper for shopper in seen.empty_handed if shopper.left_at_ms > over_ms],
    )


def _violations(verdict: Verdict) -> list[str]:
    """The broken promises that a history proves, with an example of each."""
    examples = {example["name"]: example["sentence"] for example in reversed(verdict.examples)}
    return [f"{name}, {count} times: {examples.get(name, '')}" for name, count in verdict.violations.items()]


async def until(question: Callable[[], Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Asks until the answer is yes; a part that does not answer just now counts as no.

    Raises:
        TimeoutError: it never was.
    """
    async with asyncio.timeout(within_s):
        while True:
            try:
                if await question():
                    return
            except (FlashsaleError, OSError, RedisError):
                pass
            await asyncio.sleep(_LOOK_S)


async def recovery_of(parts: Parts, drop_id: str, within_s: float = PATIENCE_S) -> Recovery:
    """How soon a drop recovers from now on, when its last fault has healed; one that does not takes `within_s`.

    Shoppers may go on meanwhile: what comes after now is not waited for.
    """
    journal, healed_ms = Journal(parts.store, drop_id, "laboratory"), now_ms()
    moved_s = caught_up_s = 0.0

    async def moved() -> bool:
        nonlocal moved_s
        moved_s = (int(await parts.store.hget(drop_keys(drop_id).drop, "advanced_at_ms") or 0) - healed_ms) / 1000
        return moved_s >= 0

    async def caught_up() -> bool:
        nonlocal caught_up_s
        age_ms, snapshot = await journal.oldest_unfinished_ms(), (await parts.drops.inspect(drop_id)).snapshot
        caught_up_s = (snapshot.now_ms - healed_ms) / 1000
        return not snapshot.overdue and (age_ms is None or age_ms < snapshot.now_ms - healed_ms)

    line, rest = await asyncio.gather(*(_comes_true(question, within_s) for question in (moved, caught_up)))
    return Recovery(moved_s if line else within_s, caught_up_s if rest else within_s)


async def _comes_true(question: Callable[[], Awaitable[bool]], within_s: float) -> bool:
    try:
        await until(question, within_s)
    except TimeoutError:
        return False
    return True


def now_ms() -> int:
    """The wall time, ms since the epoch; the store on this machine has the same."""
    return int(time.time() * 1000)


# ------------------------------------------------------------------------------------------------------------ putting up


@asynccontextmanager
async def running_lab(
    folder: Path, *, workers: int = 2, reconcilers: int = 2, overrides: Mapping[str, Mapping[str, Any]] | None = None, seed: int = 0
) -> AsyncIterator[Lab]:
    """A laboratory in `folder`, ready when everything answers; everything is ended afterwards.

    Args:
        folder: for all data; its path must be short (sockets have a limit) and open to the servers' own user.
        workers: API processes.
        reconcilers: of these, any may do any work.
        overrides: settings over `LAB_SETTINGS`.
        seed: of the wires' jitter.

    Raises:
        EmbeddedFailed: a store did not come up.
        ProcessFailed: a process did not.
    """
    stores = EmbeddedStores(folder, valkey_port=0, postgres_port=0, debug_commands=True)
    async with AsyncExitStack() as held:
        await held.enter_async_context(stores)
        settings = await prepared(_lab_settings(overrides or {}), stores, folder, lambda _text: None)
        variables = held.enter_context(shared_metrics())
        processes: dict[str, LabProcess] = {}
        ports = [held.enter_context(port_for_workers(HOST, 0)) for _ in range(workers)]
        for name, port in [(f"worker-{n}", port) for n, port in enumerate(ports, 1)] + [
            (f"reconciler-{n}", 0) for n in range(1, reconcilers + 1)
        ]:
            processes[name] = await _wired(held, stores, settings, variables, name, port, seed)
        front = await held.enter_async_context(Proxy("front", [(HOST, port) for port in ports], Bytes, seed=seed))
        parts = await held.enter_async_context(opened(settings))
        _, key = await create_key(parts.database, [Scope.STOREFRONT], label="laboratory")
        held.push_async_callback(_close_all, processes.values())
        await _start_all(processes.values())
        lab = Lab(folder, stores, settings, parts, front, processes, key, read_scripts(resource_dir("lua")), [])
        await lab.knows_key()
        yield lab


def _lab_settings(overrides: Mapping[str, Mapping[str, Any]]) -> Settings:
    sections = {*LAB_SETTINGS, *overrides}
    merged = {name: {**LAB_SETTINGS.get(name, {}), **overrides.get(name, {})} for name in sections}
    return load_settings(environment={}, overrides=merged)


async def _wired(
    held: AsyncExitStack, stores: EmbeddedStores, settings: Settings, variables: Mapping[str, str], name: str, port: int, seed: int
) -> LabProcess:
    """A process, not yet started, with proxies on its ways out. `port` is a worker's; a reconciler has none."""
    store = await held.enter_async_context(Proxy(f"{name} to valkey", [address_of(stores.valkey.tcp_url)], Resp, seed=seed))
    database = await held.enter_async_context(Proxy(f"{name} to postgres", [address_of(stores.postgres.tcp_url)], Postgres, seed=seed))
    own = msgspec.structs.replace(
        settings,
        store=msgspec.structs.replace(settings.store, url=through(stores.valkey.tcp_url, store)),
        postgres=msgspec.structs.replace(settings.postgres, url=through(stores.postgres.tcp_url, database)),
        http=msgspec.structs.replace(settings.http, host=HOST, port=port or settings.http.port, workers=1),
    )
    *_, description = processes_of(own, variables, reconciler=not port)
    return LabProcess(replace(description, name=name), store, database, http_url(HOST, port) if port else "")


def address_of(url: str) -> tuple[str, int]:
    """Host and port in a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def through(url: str, proxy: Proxy) -> str:
    """`url` by way of `proxy`."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}"))


async def _start_all(processes: Iterable[LabProcess]) -> None:
    async with asyncio.TaskGroup() as group:
        for process in processes:
            group.create_task(process.start())


async def _close_all(processes: Iterable[LabProcess]) -> None:
    await asyncio.gather(*(process.close() for process in processes))
