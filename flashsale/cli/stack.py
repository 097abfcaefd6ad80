"""The whole service on one machine: embedded stores, workers and the reconciler, for `flashsale up` and the demo."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from admission.tokens import make_signing_keys
from flashsale.cli.environment import child_environment
from flashsale.cli.exits import AlreadyRunning
from flashsale.cli.listening import answers, http_url, port_for_workers
from flashsale.cli.metric_files import shared_metrics
from flashsale.cli.runtime import SIGNING_KEYS_FILE, Runtime, remove_runtime, write_private, write_runtime
from flashsale.embedded.errors import EmbeddedFailed, FolderInUse
from flashsale.embedded.server import Crash
from flashsale.embedded.stores import EmbeddedStores
from flashsale.errors import FlashsaleError
from flashsale.settings import Settings, load_settings
from flashsale.supervisor import EXIT_OK, Process, Supervisor
from reconciler.migrations import migrate

Result = TypeVar("Result")


class StackStopped(FlashsaleError):
    """The service was asked to stop while something still needed it."""

    code = "stopped"


class StackFailed(FlashsaleError):
    """A process of the service would not stay up."""

    code = "not_started"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running service."""

    data_dir: Path
    http_url: str
    settings: Settings
    """with the URLs of the embedded stores: anything of this installation can be opened from them"""
    supervisor: Supervisor
    stores: EmbeddedStores
    _ends: asyncio.Future[int]

    @property
    def pids(self) -> Mapping[str, int]:
        """Process ids by name: `worker-1`, `reconciler`, `valkey`, `postgres`; a process being restarted is absent."""
        return {**self.supervisor.pids, **{server.name: server.pid for server in self.stores.servers}}

    async def wait_ended(self) -> int:
        """Return when SIGTERM or Ctrl-C ended the service, with its exit code.

        Raises:
            EmbeddedFailed: a store did not come up again after a crash.
        """
        return await asyncio.shield(self._ends)

    async def while_running(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """The result of `coroutine`, which is cancelled when the service ends before it.

        Raises:
            StackStopped: the service was stopped, or gave up.
            EmbeddedFailed: a store did not come up again after a crash.
        """
        work = asyncio.ensure_future(coroutine)
        ends = asyncio.ensure_future(self.wait_ended())
        try:
            await asyncio.wait((work, ends), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            ends.result()
            raise StackStopped(what="The service was stopped before this was finished.")
        finally:
            for task in (work, ends):
                task.cancel()
            await asyncio.gather(work, ends, return_exceptions=True)


@asynccontextmanager
async def running_stack(
    data_dir: Path,
    *,
    port: int | None = None,
    workers: int | None = None,
    host: str | None = None,
    config: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    on_event: Callable[[str], None] = lambda _text: None,
) -> AsyncIterator[Stack]:
    """Starts everything in `data_dir`, yields when the API answers, and stops everything afterwards.

    While it runs, SIGTERM and Ctrl-C end the service: see `Stack.wait_ended` and `Stack.while_running`.

    Args:
        port: of the API; 0 takes a free one. None for what is set, as `workers` and `host`.
        config: a settings file over the defaults.
        overrides: settings over everything else.
        on_event: told in a sentence what happens: a start, a crash, a restart.

    Raises:
        FolderInUse: another process runs in that folder.
        AlreadyRunning: the port is in use.
        EmbeddedFailed: a store did not come up.
        StackStopped: SIGTERM or Ctrl-C came before it was ready.
        StackFailed: a worker or the reconciler would not stay up.
        ConfigurationError: a setting is not valid.
    """
    given = {name: value for name, value in (("host", host), ("port", port), ("workers", workers)) if value is not None}
    settings = load_settings(config, overrides=_merged(overrides or {}, {"http": given}))
    stores = EmbeddedStores(data_dir)
    with ExitStack() as held:
        try:
            settings = _with(settings, "http", port=held.enter_context(port_for_workers(settings.http.host, settings.http.port)))
        except AlreadyRunning:
            _refuse_second_start(data_dir)
            raise
        on_event(f"Starting Valkey and Postgres in {data_dir} …")
        async with stores:
            settings = await prepared(settings, stores, data_dir, on_event)
            variables = held.enter_context(shared_metrics())
            async with _running_processes(settings, stores, variables, on_event) as stack:
                yield stack


def _refuse_second_start(data_dir: Path) -> None:
    """The port is taken, most likely by an `up` in this very folder; that is the better thing to say."""
    from flashsale.embedded.stores import running_stores

    urls = running_stores(data_dir)
    if urls is not None:
        raise FolderInUse(
            what=f"'flashsale up' already runs in {data_dir}, as process {urls.pid}.",
            todo="Use that one, stop it first, or choose another --data folder.",
        )


async def prepared(settings: Settings, stores: EmbeddedStores, data_dir: Path, on_event: Callable[[str], None]) -> Settings:
    """The settings with the embedded stores, which are running, and the signing keys; the database migrated.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
        ConfigurationError: an applied migration has changed.
    """
    (data_dir / ".gitignore").write_text("*\n", encoding="ascii")
    keys_file = settings.tokens.signing_keys_file or str(_own_signing_keys(data_dir))
    applied = await migrate(stores.postgres.url)
    if applied:
        on_event(f"Applied {len(applied)} migrations.")
    settings = _with(settings, "store", url=stores.valkey.url)
    settings = _with(settings, "postgres", url=stores.postgres.url)
    return _with(settings, "tokens", signing_keys_file=keys_file)


def _own_signing_keys(data_dir: Path) -> Path:
    path = (data_dir / SIGNING_KEYS_FILE).resolve()
    if not path.exists():
        write_private(path, msgspec.json.encode(make_signing_keys(time.time_ns() // 1_000_000)))
    return path


@asynccontextmanager
async def _running_processes(
    settings: Settings, stores: EmbeddedStores, variables: Mapping[str, str], on_event: Callable[[str], None]
) -> AsyncIterator[Stack]:
    ready = asyncio.Event()
    grace_s = settings.http.shutdown_grace_ms / 1000 + 1
    supervisor = Supervisor(processes_of(settings, variables, reconciler=True), on_ready=ready.set, stop_timeout_s=grace_s)
    ends = asyncio.ensure_future(_ends(supervisor, stores, on_event))
    stack = Stack(stores.folder, http_url(settings.http.host, settings.http.port), settings, supervisor, stores, ends)
    try:
        await _wait_ready(ready, stack)
        write_runtime(stores.folder, _runtime_of(stack))
        yield stack
    finally:
        remove_runtime(stores.folder)
        supervisor.stop()
        await asyncio.wait((ends,))


async def _wait_ready(ready: asyncio.Event, stack: Stack) -> None:
    code = await _first(ready.wait(), stack.wait_ended())
    if code is True:
        return
    if code == EXIT_OK:
        raise StackStopped(what="The service was stopped before it was ready.")
    raise StackFailed(
        what="The service did not start:", why="a process would not stay up; its last messages are above.", todo="Look at them first."
    )


async def _first(*coroutines: Coroutine[Any, Any, Any]) -> Any:
    """The result of whichever ends first; the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ends(supervisor: Supervisor, stores: EmbeddedStores, on_event: Callable[[str], None]) -> int:
    """Keeps processes and stores running; the exit code once the processes have ended."""
    keeper = asyncio.ensure_future(stores.keep_running(partial(_tell_crash, on_event)))
    running = asyncio.ensure_future(supervisor.run())
    try:
        await asyncio.wait((keeper, running), return_when=asyncio.FIRST_COMPLETED)
        supervisor.stop()
        code = await running
        if keeper.done():
            _raise_single(keeper.exception())
        return code
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


def _raise_single(error: BaseException | None) -> None:
    if isinstance(error, BaseExceptionGroup):
        error = next((inner for inner in error.exceptions if isinstance(inner, EmbeddedFailed)), error)
    if error is not None:
        raise error


def _tell_crash(on_event: Callable[[str], None], crash: Crash) -> None:
    on_event(f"{crash.server} ended unexpectedly (status {crash.exit_status}); it is restarted on its data.")


def processes_of(settings: Settings, variables: Mapping[str, str], *, reconciler: bool) -> list[Process]:
    """The API workers and, if asked for, the reconciler. Settings and secrets go by environment only.

    Args:
        settings: of the service.
        variables: environment variables over all others.
        reconciler: start one beside the workers.
    """
    environment = child_environment(settings) | dict(variables)
    ready = partial(answers, settings.http.host, settings.http.port)
    found = [Process(f"worker-{number}", _argv("serve-worker"), environment, ready) for number in range(1, settings.http.workers + 1)]
    if reconciler:
        found.append(Process("reconciler", _argv("reconcile-worker"), environment))
    return found


def _argv(command: str) -> list[str]:
    return [sys.executable, "-m", "flashsale", command]


def _runtime_of(stack: Stack) -> Runtime:
    settings = stack.settings
    return Runtime(
        pid=os.getpid(),
        http_url=stack.http_url,
        store_url=settings.store.url,
        postgres_url=settings.postgres.url,
        signing_keys_file=settings.tokens.signing_keys_file,
    )


def _with(settings: Settings, section: str, **values: Any) -> Settings:
    """`settings` with some values of one section replaced."""
    return msgspec.structs.replace(settings, **{section: msgspec.structs.replace(getattr(settings, section), **values)})


def _merged(*overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for override in overrides:
        for section, values in override.items():
            merged.setdefault(section, {}).update(values)
    return merged
