"""Postgres as an embedded server."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from flashsale.child import child_argv
from flashsale.connections.database import create_database_if_missing, ping_database
from flashsale.embedded.configuration import configuration, quoted
from flashsale.embedded.processes import end_process, environment
from flashsale.embedded.programs import postgres_programs
from flashsale.embedded.server import PING_TIMEOUT_MS, EmbeddedServer

_USER = "flashsale"
_DATABASE = "flashsale"
_PORT = 5432  # names the socket's file when no port is open


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

    def url_for(self, *, user: str = _USER, database: str = _DATABASE) -> str:
        """The URL over the socket for another role or database."""
        assert self._socket_folder is not None, "start it first"
        host, port = quote(str(self._socket_folder), safe=""), self._port or _PORT
        return f"postgresql://{quote(user)}@/{quote(database)}?host={host}&port={port}"

    @property
    def tcp_url(self) -> str:
        """`postgresql://…` on loopback as the owner; only when a port was asked for."""
        assert self._port, "no port was asked for"
        return f"postgresql://{_USER}:{self._password()}@127.0.0.1:{self._port}/{_DATABASE}"

    @property
    def _socket_name(self) -> str:
        return f".s.PGSQL.{self._port or _PORT}"

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
            "port": self._port or _PORT,
            "unix_socket_directories": quoted(self._socket_folder, mark="'"),
            "unix_socket_permissions": "0700",
        }
        self._write(self._data / "postgresql.conf", configuration("postgresql.conf", own, between=" = "))

    async def _initialise(self) -> None:
        """Make an empty cluster beside its place and move it there, so that a half-made one is never taken for whole."""
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password_file = self.folder / "password.initdb"
        self._write(password_file, self._password())
        argv = [
            str(postgres_programs() / "initdb"),
            f"--pgdata={fresh}",
            f"--username={_USER}",
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
                env=environment(),
            )
        try:
            exit_status = await process.wait()
        except BaseException:
            await end_process(process, signal.SIGTERM)
            raise
        finally:
            password_file.unlink()
        if exit_status != 0:
            raise self._did_not_start(f"initdb ended with status {exit_status}")
        fresh.replace(self._data)

    def _argv(self) -> list[str]:
        return [str(postgres_programs() / "postgres"), "-D", str(self._data)]

    async def _ping(self) -> None:
        await ping_database(self.url_for(database="postgres"), timeout_ms=PING_TIMEOUT_MS)

    async def _start_locked(self) -> None:
        await super()._start_locked()
        await create_database_if_missing(self.url_for(database="postgres"), _DATABASE)

    def _may_try_again(self) -> bool:
        # The backends of a killed Postgres notice its end a moment later and let go of the shared memory.
        return "pre-existing shared memory block" in self._log_tail()
