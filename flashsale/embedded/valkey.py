"""Valkey as an embedded server."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from flashsale.connections.store import ping_store
from flashsale.embedded.configuration import configuration, quoted
from flashsale.embedded.folders import make_folder
from flashsale.embedded.programs import valkey_program
from flashsale.embedded.server import PING_TIMEOUT_MS, EmbeddedServer


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
        make_folder(self.folder / "data", 0o700, self._account)
        assert self._socket_folder is not None
        own = {
            "port": self._port or 0,
            "bind": "127.0.0.1",
            "unixsocket": quoted(self._socket_folder / self._socket_name),
            "unixsocketperm": 700,
            "dir": quoted(self.folder / "data"),
            "daemonize": "no",
            "logfile": '""',
            **({"requirepass": self._password()} if self._port is not None else {}),
            **({"enable-debug-command": "yes"} if self._debug_commands else {}),
        }
        self._write(self.folder / "valkey.conf", configuration("valkey.conf", own, between=" "))

    def _argv(self) -> list[str]:
        return [str(valkey_program()), str(self.folder / "valkey.conf")]

    async def _ping(self) -> None:
        await ping_store(self.url, timeout_ms=PING_TIMEOUT_MS)
