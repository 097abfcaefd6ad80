"""One server as a child process: started, watched, ended; its log, its password, its files."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from flashsale.child import Account, child_argv
from flashsale.embedded.errors import EmbeddedFailed, FolderInUse
from flashsale.embedded.folder_lock import FolderLock, lock_folder
from flashsale.embedded.folders import make_folder, server_account, socket_folder
from flashsale.embedded.processes import end_leftover, end_process, environment
from flashsale.errors import DatabaseUnavailable, StoreUnavailable

START_TIMEOUT_S = 60.0
"""Long, because a server that crashed replays its log before it answers."""
PING_TIMEOUT_MS = 2000
_READY_POLL_S = 0.01
_LOG_MAX_BYTES = 16_000_000
_LOG_TAIL_LINES = 8


@dataclass(frozen=True, slots=True)
class Crash:
    """An embedded server ended without being asked to."""

    server: str
    exit_status: int
    """negative: the number of the signal that ended it"""
    log_tail: str


class EmbeddedServer(ABC):
    """One server as a child process.

    `start`, `stop`, `kill` and `restart` are called from one event loop, in the main thread: the kernel ties a child's end
    to the thread that started it.
    """

    name: ClassVar[str]
    _stop_signal: ClassVar[signal.Signals]

    def __init__(self, data_dir: Path | str, *, port: int | None = None) -> None:
        """Describe the server; nothing is touched before `start`.

        Args:
            data_dir: where its files live; made when missing.
            port: a TCP port to open on loopback as well, guarded by a password; None opens none, 0 takes a free one.
        """
        self.folder = Path(data_dir).resolve()
        self._port = port
        self._lock: FolderLock | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._crashed: asyncio.Future[Crash] | None = None
        self._account: Account | None = None
        self._socket_folder: Path | None = None

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise EmbeddedFailed(what=f"The embedded {self.name} is not running.")
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """Where the server writes what it has to say."""
        return self.folder / "server.log"

    @property
    @abstractmethod
    def url(self) -> str:
        """How to reach the server over its Unix socket; known once started."""

    async def start(self) -> None:
        """Start the server and return when it answers.

        Raises:
            FolderInUse: another process runs it in this folder.
            EmbeddedFailed: it did not come up; quotes the last lines of its log.
        """
        if self._lock is not None:
            raise FolderInUse(what=f"The data folder {self.folder} is in use by this process.", todo="Stop that server first.")
        self._lock = lock_folder(self.folder)
        try:
            await self._start_locked()
        except BaseException:
            await self._end(signal.SIGKILL)
            raise

    async def stop(self) -> None:
        """Let the server finish cleanly. Does nothing when it is not running."""
        await self._end(self._stop_signal)

    async def kill(self) -> None:
        """End the server with SIGKILL, as a crash of the machine would: for tests. Not reported by `wait_crashed`."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop the server when it runs, and start it on the same data."""
        await self.stop()
        await self.start()

    async def wait_crashed(self) -> Crash:
        """Return when the server has ended without `stop` or `kill`; call it after `start`."""
        if self._crashed is None:
            raise EmbeddedFailed(what=f"The embedded {self.name} is not running.")
        return await asyncio.shield(self._crashed)

    # ---- what a kind of server has to say

    @abstractmethod
    def _paths_needed(self) -> Sequence[Path]:
        """What the server's user must be able to reach."""

    @abstractmethod
    async def _prepare(self) -> None:
        """Make the folder ready: configuration, first data."""

    @abstractmethod
    def _argv(self) -> list[str]:
        """The server's command."""

    @abstractmethod
    async def _ping(self) -> None:
        """Return when it answers; else raise `StoreUnavailable` or `DatabaseUnavailable`."""

    @property
    @abstractmethod
    def _socket_name(self) -> str:
        """The file name of its socket."""

    # ---- start

    async def _start_locked(self) -> None:
        if self._port == 0:
            self._port = _free_port()
        self._account = server_account([*self._paths_needed(), self.folder.parent])
        make_folder(self.folder, 0o700, self._account)
        self._socket_folder = socket_folder(self.folder / "run", self._socket_name, self._account)
        await end_leftover(self.folder, self._stop_signal)
        self._rotate_log()
        await self._prepare()
        deadline = time.monotonic() + START_TIMEOUT_S
        await self._spawn()
        while not await self._answers():
            if self._process is None or self._process.returncode is not None:
                if not self._may_try_again():
                    raise self._did_not_start("it ended at once")
                await asyncio.sleep(0.1)
                await self._spawn()
            if time.monotonic() > deadline:
                raise self._did_not_start(f"it did not answer within {START_TIMEOUT_S:.0f} s")
            await asyncio.sleep(_READY_POLL_S)
        self._watch()

    def _may_try_again(self) -> bool:
        """Whether the reason the server ended at once goes away by itself."""
        return False

    async def _answers(self) -> bool:
        try:
            await self._ping()
        except (StoreUnavailable, DatabaseUnavailable):
            return False
        return True

    def _did_not_start(self, why: str) -> EmbeddedFailed:
        return EmbeddedFailed(
            what=f"The embedded {self.name} in {self.folder} did not start:",
            why=f"{why}. The end of its log:\n{self._log_tail()}\n",
            todo=f"The whole log is {self.log_file}.",
        )

    async def _spawn(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *child_argv(self._argv(), death_signal=self._stop_signal, account=self._account),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment(),
                start_new_session=True,  # Ctrl-C reaches us only, and we stop the servers last
            )
        (self.folder / "pid").write_text(str(self._process.pid), encoding="ascii")

    def _watch(self) -> None:
        assert self._process is not None
        self._crashed = asyncio.get_running_loop().create_future()
        self._watcher = asyncio.create_task(self._report_crash(self._process, self._crashed))

    async def _report_crash(self, process: asyncio.subprocess.Process, crashed: asyncio.Future[Crash]) -> None:
        exit_status = await process.wait()
        crashed.set_result(Crash(self.name, exit_status, self._log_tail()))

    # ---- end

    async def _end(self, how: signal.Signals) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        if self._process is not None:
            await end_process(self._process, how)
            self._process = None
            (self.folder / "pid").unlink(missing_ok=True)
            if self._socket_folder is not None and not self._socket_folder.is_relative_to(self.folder):
                shutil.rmtree(self._socket_folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # ---- its log

    def _rotate_log(self) -> None:
        with suppress(FileNotFoundError):
            if self.log_file.stat().st_size > _LOG_MAX_BYTES:
                self.log_file.replace(self.log_file.with_suffix(".log.1"))

    def _log_tail(self) -> str:
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f"({error})"
        return "\n".join(f"  {line}" for line in lines[-_LOG_TAIL_LINES:])

    def _password(self) -> str:
        """The password of the TCP port: made once per data folder, kept in a file only we read."""
        path = self.folder / "password"
        with suppress(FileExistsError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        return path.read_text(encoding="ascii")

    def _write(self, path: Path, text: str) -> None:
        """Put `text` into `path`, whole or not at all, readable for the server only."""
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            if self._account is not None:
                os.fchown(file.fileno(), self._account.uid, self._account.gid)
        fresh.replace(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
