"""A closed-loop HTTP/1.1 load generator: a fixed set of connections, each sending its next request on the last answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class WrongStatus(RuntimeError):
    """An answer had another status than the one measured."""


@dataclass(slots=True)
class Tally:
    """Answers of one run."""

    expected: bytes
    """start of the status line every answer must have"""
    keep: bool = False
    """collect the bodies"""
    answered: int = 0
    bodies: list[bytes] = field(default_factory=list)
    failure: str = ""


class _Connection(asyncio.Protocol):
    def __init__(self, share: Iterator[bytes], depth: int, tally: Tally) -> None:
        self._share = share
        self._depth = depth
        self._tally = tally
        self._pending = 0
        self._buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        requests = [request for request, _ in zip(self._share, range(self._depth), strict=False)]
        if not requests:
            self._finish("")
            return
        self._pending = len(requests)
        self._transport.write(b"".join(requests))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        while True:
            head_end = buffer.find(b"\r\n\r\n")
            if head_end < 0:
                break
            length = _LENGTH.search(buffer, 0, head_end)
            end = head_end + 4 + (int(length[1]) if length else 0)
            if len(buffer) < end:
                break
            if not buffer.startswith(self._tally.expected):
                self._finish(buffer[:400].decode(errors="replace"))
                return
            self._tally.answered += 1
            if self._tally.keep:
                self._tally.bodies.append(buffer[head_end + 4 : end])
            buffer = buffer[end:]
            self._pending -= 1
        self._buffer = buffer
        if self._pending == 0:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"connection lost: {exc}")

    def _finish(self, failure: str) -> None:
        if not self.done.done():
            self._tally.failure = self._tally.failure or failure
            self.done.set_result(None)
            self._transport.close()


async def drive(
    host: str,
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    depth: int = 1,
    expected: bytes = b"HTTP/1.1 20",
    keep: bool = False,
) -> tuple[float, list[bytes]]:
    """Sends all `requests` over `connections`, `depth` at a time on each; answers (requests a second, bodies).

    Raises:
        WrongStatus: an answer did not begin with `expected`; quotes it.
    """
    loop = asyncio.get_running_loop()
    tally = Tally(expected, keep)
    share = iter(requests)
    started = time.perf_counter()
    made = [await loop.create_connection(lambda: _Connection(share, depth, tally), host, port) for _ in range(connections)]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    seconds = time.perf_counter() - started
    if tally.failure or tally.answered != len(requests):
        raise WrongStatus(tally.failure or f"{tally.answered} answers for {len(requests)} requests")
    return tally.answered / seconds, tally.bodies
