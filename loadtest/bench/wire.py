"""A closed-loop HTTP/1.1 load generator: a fixed set of connections, each sending its next request on the last answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

_STATUS_LINE = b"HTTP/1.1 200 "


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
    def __init__(self, share: Iterator[bytes], tally: Tally) -> None:
        self._share = share
        self._tally = tally
        self._buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        """Sends what comes next, or ends."""
        request = next(self._share, None)
        if request is None:
            self._finish("")
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head_end = buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(buffer, 0, head_end) if head_end >= 0 else None
        if length is None or len(buffer) < head_end + 4 + int(length[1]):
            self._buffer = buffer
            return
        self._buffer = b""
        if not buffer.startswith(self._tally.expected):
            self._finish(buffer[:400].decode(errors="replace"))
            return
        self._tally.answered += 1
        if self._tally.keep:
            self._tally.bodies.append(buffer[head_end + 4 :])
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"connection lost: {exc}")

    def _finish(self, failure: str) -> None:
        if not self.done.done():
            self._tally.failure = self._tally.failure or failure
            self.done.set_result(None)
            self._transport.close()


class _Flood(asyncio.Protocol):
    """Sends one pipelined block again and again and only counts status lines, so that the server is the bottleneck."""

    def __init__(self, block: bytes, depth: int, rounds: int) -> None:
        self._block = block
        self._depth = depth
        self._rounds = rounds
        self._due = 0
        self._tail = b""
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        """Sends what comes next, or ends."""
        if self._rounds == 0:
            self._finish()
            return
        self._rounds -= 1
        self._due += self._depth
        self._transport.write(self._block)

    def data_received(self, data: bytes) -> None:
        seen = self._tail + data
        self.answered += seen.count(_STATUS_LINE)
        self._tail = seen[1 - len(_STATUS_LINE) :]
        if self.answered >= self._due:
            self.send()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
            self._transport.close()


async def flood(host: str, port: int, request: bytes, *, connections: int, depth: int, rounds: int) -> float:
    """Sends `request` over `connections`, `rounds` times `depth` at once on each; answers requests a second.

    Raises:
        WrongStatus: not every request was answered with 200.
    """
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Flood(request * depth, depth, rounds), host, port) for _ in range(connections)]
    started = time.perf_counter()
    for _, protocol in made:
        protocol.send()
    await asyncio.gather(*(protocol.done for _, protocol in made))
    seconds = time.perf_counter() - started
    answered = sum(protocol.answered for _, protocol in made)
    if answered != connections * depth * rounds:
        raise WrongStatus(f"{answered} answers with 200 for {connections * depth * rounds} requests")
    return answered / seconds


async def drive(
    host: str,
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    expected: bytes = b"HTTP/1.1 20",
    keep: bool = False,
) -> tuple[float, list[bytes]]:
    """Sends all `requests` over `connections`, one at a time on each; answers (requests a second, bodies).

    Raises:
        WrongStatus: an answer did not begin with `expected`; quotes it.
    """
    loop = asyncio.get_running_loop()
    tally = Tally(expected, keep)
    share = iter(requests)
    made = [await loop.create_connection(lambda: _Connection(share, tally), host, port) for _ in range(connections)]
    started = time.perf_counter()
    for _, protocol in made:
        protocol.send()
    await asyncio.gather(*(protocol.done for _, protocol in made))
    seconds = time.perf_counter() - started
    if tally.failure or tally.answered != len(requests):
        raise WrongStatus(tally.failure or f"{tally.answered} answers for {len(requests)} requests")
    return tally.answered / seconds, tally.bodies
