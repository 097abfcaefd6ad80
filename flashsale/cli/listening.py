"""The API's port before its workers have it: is it free, and does somebody answer?"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flashsale.cli.exits import AlreadyRunning
from flashsale.errors import ConfigurationError

PROBE_TIMEOUT_S = 2.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - only to say where to reach it


def reachable(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    return _ANY_ADDRESS.get(host, host)


def http_url(host: str, port: int) -> str:
    """Where a server that listens on `host` and `port` answers."""
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


@contextmanager
def port_for_workers(host: str, port: int) -> Iterator[int]:
    """A port that only our workers will share, kept from others meanwhile.

    Workers listen with SO_REUSEPORT, and the kernel would let those of another installation join them without a word;
    so the port is first asked for alone.

    Args:
        port: 0 takes a free one.

    Raises:
        AlreadyRunning: somebody listens there.
        ConfigurationError: the address is not one of this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            # Linux lets two sockets with SO_REUSEADDR bind as long as neither listens.
            alone.listen(1)
            taken = int(alone.getsockname()[1])
        keeper = socket.socket(family, socket.SOCK_STREAM)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind((address[0], taken))
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    with keeper:
        yield taken


def _cannot_listen(host: str, port: int, error: OSError) -> AlreadyRunning | ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return AlreadyRunning(
            what=f"Port {port} of {host} is in use.",
            todo="Stop what listens there, or choose another port with --port (0 takes a free one).",
        )
    return ConfigurationError(
        what=f"The API cannot listen on {host}, port {port}:",
        why=f"{error.strerror or error}.",
        todo="Set --host and --port, or http.host and http.port.",
    )


async def answers(host: str, port: int, path: str = "/healthz") -> bool:
    """Whether a worker answers `path` with 200."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(reachable(host), port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    return False
