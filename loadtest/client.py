"""A lean HTTP/1.1 client: a bounded pool of keep-alive connections to one service.

The crowd shares a machine with the service it visits, so a request has to cost little. What a general client does for
redirects, cookies, proxies and encodings is left out; an answer without Content-Length is refused.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

CONNECTIONS_MAX = 512
HEAD_BYTES_MAX = 32_768
BODY_BYTES_MAX = 1 << 22
REQUEST_TIMEOUT_S = 10.0

_NO_BODY = frozenset({204, 304})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class NotSent(Exception):
    """No connection could be made: the service has not seen the request."""


class AnswerLost(Exception):
    """The request was sent and no whole answer came: it may or may not have taken effect."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said."""

    status: int
    headers: Mapping[str, str]
    """names in lower case"""
    body: bytes

    def json(self) -> Any:
        """The body as JSON, or an empty object when it is something else."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


class _Connection(asyncio.Protocol):
    """One keep-alive connection; at most one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._buffer = bytearray()
        self._head: tuple[int, dict[str, str], int, int] | None = None
        self.usable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail(f"the connection was closed: {exc}" if exc else "the connection was closed")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._read()
        except (ValueError, KeyError, IndexError) as error:
            self._fail(f"the answer cannot be read: {error!r}")
            self.close()

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Writes a request; the future gets its answer, or `AnswerLost`."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """Drops the connection at once, with whatever is on the way."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _read(self) -> None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > HEAD_BYTES_MAX:
                    raise ValueError("the head is too long")
                return
            self._head = _read_head(bytes(self._buffer[:end]), end + 4)
        status, headers, start, length = self._head
        if len(self._buffer) < start + length:
            return
        body = bytes(self._buffer[start : start + length])
        self._buffer.clear()
        self._head = None
        if headers.get("connection", "").lower() == "close":
            self.usable = False
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(Answer(status, headers, body))

    def _fail(self, why: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(AnswerLost(why))


def _read_head(head: bytes, start: int) -> tuple[int, dict[str, str], int, int]:
    """(status, headers, where the body starts, its length)."""
    first, *lines = head.decode("latin-1").split("\r\n")
    status = int(first.split(" ", 2)[1])
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if status in _NO_BODY:
        return status, headers, start, 0
    length = int(headers["content-length"])
    if not 0 <= length <= BODY_BYTES_MAX:
        raise ValueError("the body is too long")
    return status, headers, start, length


class Pool:
    """Connections to one service on this machine, opened as needed and kept."""

    def __init__(self, url: str, connections_max: int = CONNECTIONS_MAX) -> None:
        """Describes the service at `url`; connects on first use.

        Raises:
            ValueError: the URL is not plain HTTP on a loopback address. Load is never sent to anybody else.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "http" or host not in _LOOPBACK:
            raise ValueError(f"{url} is not http:// on a loopback address; load is only ever sent to this machine")
        self._host, self._port = host, parts.port or 80
        self._host_header = f"Host: {parts.netloc}\r\n"
        self._idle: list[_Connection] = []
        self._free = connections_max
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
        lose_after_s: float | None = None,
    ) -> Answer:
        """One request and its answer.

        Args:
            method: GET, POST or DELETE.
            path: from the first slash, with its query.
            headers: besides Host and those of the body.
            body: sent as JSON unless None.
            timeout_s: how long the answer may take.
            lose_after_s: drop the connection this long after sending, as a phone in a tunnel does.

        Raises:
            NotSent: no connection could be made.
            AnswerLost: no whole answer in time, or `lose_after_s` was given.
        """
        message = self._message(method, path, headers, body)
        await self._enter()
        try:
            connection = await self._connect()
            try:
                return await _exchange(connection, message, timeout_s, lose_after_s)
            finally:
                if connection.usable:
                    self._idle.append(connection)
        finally:
            self._leave()

    def close(self) -> None:
        """Drops all idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _message(self, method: str, path: str, headers: Mapping[str, str] | None, body: object) -> bytes:
        head = [f"{method} {path} HTTP/1.1\r\n", self._host_header]
        for name, value in (headers or {}).items():
            head.append(f"{name}: {value}\r\n")
        content = b""
        if isinstance(body, bytes):
            content = body
        elif body is not None:
            content = json.dumps(body, separators=(",", ":")).encode()
        if content or method == "POST":
            head.append(f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n")
        head.append("\r\n")
        return "".join(head).encode("latin-1") + content

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                _, connection = await loop.create_connection(_Connection, self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise NotSent(str(error)) from error
        return connection

    async def _enter(self) -> None:
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


async def _exchange(connection: _Connection, message: bytes, timeout_s: float, lose_after_s: float | None) -> Answer:
    answer = connection.send(message)
    if lose_after_s is not None:
        await asyncio.wait((answer,), timeout=lose_after_s)
        answer.cancel()
        connection.close()
        raise AnswerLost("given up on purpose")
    timer = asyncio.get_running_loop().call_later(timeout_s, _expire, connection, answer)
    try:
        return await answer
    except asyncio.CancelledError:
        connection.close()
        raise
    finally:
        timer.cancel()


def _expire(connection: _Connection, answer: asyncio.Future[Answer]) -> None:
    if not answer.done():
        answer.set_exception(AnswerLost("no answer in time"))
        connection.close()
