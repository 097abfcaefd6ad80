"""Valkey and Postgres together, in one data folder, and how another process finds them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self, TypeAlias

import msgspec

from flashsale.embedded.errors import EmbeddedFailed
from flashsale.embedded.folder_lock import FolderLock, lock_folder, try_lock
from flashsale.embedded.postgres import EmbeddedPostgres
from flashsale.embedded.server import Crash, EmbeddedServer
from flashsale.embedded.valkey import EmbeddedValkey
from flashsale.errors import FlashsaleError

_RESTART_BACKOFF_S = (0.1, 0.5, 2.0, 5.0, 15.0)
_STEADY_AFTER_S = 60.0

OnCrash: TypeAlias = Callable[[Crash], None]


class StoreUrls(msgspec.Struct, frozen=True):
    """Where the stores of a running data folder answer: what `stores.json` holds."""

    pid: int
    """the process that started them"""
    valkey: str
    postgres: str


class EmbeddedStores:
    """Valkey and Postgres together, in one data folder.

        async with EmbeddedStores(folder) as stores:
            ... stores.valkey.url ... stores.postgres.url

    The data stays; the next start goes on with it.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        valkey_port: int | None = None,
        postgres_port: int | None = None,
        debug_commands: bool = False,
    ) -> None:
        """Describe the stores; the ports are those of `EmbeddedServer`, `debug_commands` that of `EmbeddedValkey`."""
        self.folder = Path(data_dir).resolve()
        self.valkey = EmbeddedValkey(self.folder / "valkey", port=valkey_port, debug_commands=debug_commands)
        self.postgres = EmbeddedPostgres(self.folder / "postgres", port=postgres_port)
        self._lock: FolderLock | None = None

    @property
    def servers(self) -> tuple[EmbeddedServer, EmbeddedServer]:
        """Both servers."""
        return self.valkey, self.postgres

    async def start(self) -> None:
        """Start both at once; return when both answer.

        Raises:
            FolderInUse: another process runs stores in this folder; says which.
            EmbeddedFailed: one did not come up; neither runs then.
        """
        self._lock = lock_folder(self.folder)
        try:
            async with asyncio.TaskGroup() as group:
                for server in self.servers:
                    group.create_task(server.start())
            self._write_urls()
        except BaseException as error:
            await self.stop()
            if isinstance(error, BaseExceptionGroup) and isinstance(first := error.exceptions[0], FlashsaleError):
                raise first from None
            raise

    async def stop(self) -> None:
        """Stop both cleanly. Does nothing when they are not running."""
        if self._lock is None:
            return
        (self.folder / "stores.json").unlink(missing_ok=True)
        await asyncio.gather(*(server.stop() for server in self.servers))
        self._lock.release()
        self._lock = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def wait_crashed(self) -> Crash:
        """Return when one of them has ended without being asked to."""
        waiting = [asyncio.create_task(server.wait_crashed()) for server in self.servers]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in waiting:
                task.cancel()

    async def keep_running(self, on_crash: OnCrash | None = None) -> NoReturn:
        """Restart a server whenever it crashes, with growing pauses, also when it dies on its way up; runs until cancelled.

        Args:
            on_crash: told of every crash before the restart, for example to log it.

        Raises:
            EmbeddedFailed: a server does not come up again.
        """
        async with asyncio.TaskGroup() as group:
            for server in self.servers:
                group.create_task(_keep_running(server, on_crash))
        raise AssertionError("a server's keeper ended")

    def _write_urls(self) -> None:
        urls = StoreUrls(pid=os.getpid(), valkey=self.valkey.url, postgres=self.postgres.url)
        path = self.folder / "stores.json"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(urls))


def running_stores(data_dir: Path | str) -> StoreUrls | None:
    """Where the stores that another process runs in `data_dir` answer; None when none run there."""
    folder = Path(data_dir)
    try:
        lock = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
        urls = msgspec.json.decode((folder / "stores.json").read_bytes(), type=StoreUrls)
    except (OSError, msgspec.DecodeError):
        return None
    try:
        # The lock, not the file, is the truth: a killed process leaves its file behind, but no lock.
        return None if try_lock(lock, fcntl.LOCK_SH) else urls
    finally:
        os.close(lock)


async def _keep_running(server: EmbeddedServer, on_crash: OnCrash | None) -> NoReturn:
    crashes = 0
    while True:
        since = time.monotonic()
        crash = await server.wait_crashed()
        crashes = 0 if time.monotonic() - since > _STEADY_AFTER_S else crashes
        if on_crash is not None:
            on_crash(crash)
        crashes = await _bring_back(server, crashes)


async def _bring_back(server: EmbeddedServer, crashes: int) -> int:
    """Restarts a server that has crashed so often before; how often it has now. Raises EmbeddedFailed after the longest pause."""
    while True:
        await asyncio.sleep(_RESTART_BACKOFF_S[min(crashes, len(_RESTART_BACKOFF_S) - 1)])
        crashes += 1
        try:
            await server.restart()
        except EmbeddedFailed:
            if crashes >= len(_RESTART_BACKOFF_S):
                raise
        else:
            return crashes
