"""Metrics of a process that answers nothing else: `GET /metrics` on a port of its own, a few connections at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from flashsale.errors import ConfigurationError
from flashsale.metrics import CONTENT_TYPE

CONNECTIONS_MAX = 8
HEAD_BYTES_MAX = 8192
ANSWER_TIMEOUT_S = 10.0


@asynccontextmanager
async def serving_metrics(host: str, port: int, render: Callable[[], bytes]) -> AsyncIterator[int]:
    """Answers with what `render` gives while the context lasts; yields the port, which 0 leaves to the system.

    `render` is called on another thread.

    Raises:
        ConfigurationError: nobody can listen there.
    """
    listener = _Listener(render)
    try:
        server = await asyncio.start_server(listener.connected, host, port, limit=HEAD_BYTES_MAX)
    except OSError as error:
        raise ConfigurationError(
            what=f"Metrics cannot be served on {host}, port {port}:",
            why=f"{os.strerror(error.errno) if error.errno else error}.",
            todo="Set reconciler.metrics_host and reconciler.metrics_port, or --metrics-port, to another address of this machine.",
        ) from error
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await listener.end()
        await server.wait_closed()


class _Listener:
    def __init__(self, render: Callable[[], bytes]) -> None:
        self._render = render
        self._answering: set[asyncio.Task[None]] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request and closes; at once when there are too many connections."""
        if len(self._answering) >= CONNECTIONS_MAX:
            writer.close()
            return
        task = asyncio.create_task(self._answer(reader, writer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def end(self) -> None:
        """Ends those that are being answered."""
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer_to(head))
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone, asks for nothing, or does not read
        finally:
            writer.transport.abort()

    async def _answer_to(self, head: bytes) -> bytes:
        match head.partition(b"\r\n")[0].split():
            case [b"GET", path, _] if path.partition(b"?")[0] == b"/metrics":
                return _response("200 OK", CONTENT_TYPE, await asyncio.to_thread(self._render))
            case _:
                return _response("404 Not Found", "text/plain; charset=utf-8", b"Only GET /metrics is answered here.\n")


def _response(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
