"""Answers of the hot routes, written to the connection in one piece.

A general response keeps its headers in a mapping, copies them, adds defaults, serializes them and goes through a stream
writer: a third of the time of a whole request. The answers to a crowd always have the same headers, so their head is
made once per status. What is unusual about a request (HEAD, HTTP/1.0, `Connection: close`) is left to a general response with
the same headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from time import time
from types import MappingProxyType

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11
from msgspec import Struct
from multidict import CIMultiDict

Headers = tuple[tuple[str, str], ...]

PERSONAL: Mapping[str, str] = {"Content-Type": "application/json", "Cache-Control": "no-store"}
"""Headers of answers that are for one caller only."""

_encode = msgspec.json.Encoder().encode


def personal(view: Struct, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    """A view for one caller only, with `headers` besides; for routes that no crowd asks."""
    return web.Response(body=_encode(view), status=status, headers={**PERSONAL, **headers})


class HttpDate:
    """The Date header's value, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        """The present date (RFC 9110, 5.6.7)."""
        second = int(time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode()
        return self._text


class PreparedHeads:
    """Heads of personal JSON answers by status, up to what differs from one to the next."""

    def __init__(self, common: Headers) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in (*PERSONAL.items(), *common))
        self._lines = lines.encode()
        self._heads: dict[int, bytes] = {}
        self._date = HttpDate()

    def answer(self, status: int, request_id: str, body: bytes) -> bytes:
        """The whole answer."""
        head = self._heads.get(status)
        if head is None:
            head = self._heads[status] = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode() + self._lines
        return b"%bX-Request-Id: %b\r\nDate: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            head,
            request_id.encode(),
            self._date.now(),
            len(body),
            body,
        )


class JsonAnswer(web.StreamResponse):
    """A personal JSON answer.

    It is not initialized as a general response is: every property that is asked for is its own.
    """

    def __init__(self, body: bytes, status: int = 200) -> None:
        self._body_bytes = body
        self._code = status
        self._ready = b""
        self._general: web.Response | None = None

    @property
    def status(self) -> int:
        """The status code."""
        return self._code

    @property
    def headers(self) -> CIMultiDict[str]:
        """Headers as a mapping; asking for them makes this a general response."""
        return self.general().headers

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open."""
        return True if self._general is None else self._general.keep_alive

    @property
    def prepared(self) -> bool:
        """Whether it has been sent."""
        return self._general is not None and self._general.prepared

    def general(self) -> web.Response:
        """The same answer as a general response."""
        if self._general is None:
            self._general = web.Response(body=self._body_bytes, status=self._code, headers=PERSONAL)
        return self._general

    def prepare_bytes(self, request: web.Request, heads: PreparedHeads, request_id: str) -> bool:
        """Makes the bytes to send; False when only a general response will do."""
        if request.version != HttpVersion11 or not request.keep_alive or request.method == "HEAD":
            return False
        self._ready = heads.answer(self._code, request_id, self._body_bytes)
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Sends it."""
        if not self._ready:
            return await self.general().prepare(request)
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("The client has gone.")
        transport.write(self._ready)
        if request.protocol.writing_paused:
            await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Ends it."""
        if not self._ready:
            await self.general().write_eof(data)

    def __repr__(self) -> str:
        return f"<JsonAnswer {self._code}>"
