"""A connection: aiohttp's protocol with the short path in front, a time limit for request heads, and a limit on number."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage

from flashsale.metrics import Metrics
from flashsale.web.problems import Code, problem
from flashsale.web.request_ids import RequestIds
from flashsale.web.serving import SERVER_NAME, ServingDocuments

_LOST = -1


class Connections:
    """What all connections of a worker share."""

    def __init__(
        self, documents: ServingDocuments, request_ids: RequestIds, metrics: Metrics, *, connections_max: int, head_timeout_s: float
    ) -> None:
        self.documents = documents
        self.request_ids = request_ids
        self.metrics = metrics
        self.head_timeout_s = head_timeout_s
        self.log = structlog.get_logger("http")
        self._connections_max = connections_max
        self._open = 0

    def enter(self) -> bool:
        """Counts a new connection; False when there are too many already."""
        if self._open >= self._connections_max:
            self.metrics.connections_refused.inc()
            return False
        self._open += 1
        self.metrics.connections.inc()
        return True

    def leave(self) -> None:
        """Counts a closed connection."""
        self._open -= 1
        self.metrics.connections.dec()


class Connection(web.RequestHandler):
    """One client's connection.

    `_owed` tells where in the stream of requests we are: 0 between requests, so that the next byte begins a request line;
    positive, that many bytes of a body are still to come; negative, not known, and then the short path is not taken on
    this connection any more. That is what makes it safe: bytes inside another request are never taken for a request.
    """

    __slots__ = ("_entered", "_head_timer", "_owed", "_shared")

    def __init__(self, manager: web.Server, shared: Connections, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._shared = shared
        self._entered = False
        self._owed = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection, or closes it at once when there are too many."""
        super().connection_made(transport)
        self._entered = self._shared.enter()
        if self._entered:
            self._await_head()
        else:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forgets the connection."""
        self._head_came()
        if self._entered:
            self._entered = False
            self._shared.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answers simple requests for serving documents at once and gives everything else to the parser."""
        if self._owed == 0 and self._is_idle():
            answer = self._shared.documents.short_answer(data)
            if answer is not None and self.transport is not None:
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                if self._head_timer is not None:
                    self._head_came()
                self.transport.write(answer)
                return
        queued = len(self._messages)
        super().data_received(data)
        if data:
            self._follow(data, queued)

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - the framework's signature
        """Goes on reading, if it was paused; asked after every body that was read."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _is_idle(self) -> bool:
        """Nothing is being answered and nothing waits to be, so that answers stay in order; and the client reads them."""
        waiter = self._waiter
        # Before the first request the task that waits may not have begun to.
        waits = not waiter.done() if waiter is not None else self._request_count == 0
        return waits and not (self._messages or self._paused or self._close or self._force_close or self._upgraded)

    def _follow(self, data: bytes, queued: int) -> None:
        """Keeps `_owed` and the head's timer right after the parser took `data`."""
        arrived = len(self._messages) - queued
        if arrived > 0:
            self._head_came()
        if self._owed > 0:
            self._owed = self._owed - len(data) if arrived == 0 and len(data) <= self._owed else _LOST
        elif self._owed == 0:
            self._owed = _bytes_owed(data, self._messages[-1][0]) if arrived == 1 else _LOST
        if arrived == 0 and self._owed == _LOST and self._is_idle():
            self._await_head()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(self._shared.head_timeout_s, self._head_is_late)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the framework's own words are not shown
    ) -> web.StreamResponse:
        """The answer to what is not HTTP, as a problem document. Such input is the client's matter, so it is logged quietly."""
        if request.writer.output_size > 0:
            raise ConnectionError("An answer has begun already.")
        code = Code.BAD_REQUEST if status < 500 else Code.INTERNAL
        request_id = self._shared.request_ids.next()
        if code is Code.INTERNAL:
            self._shared.log.error("connection_failed", request_id=request_id, exc_info=exc)
        else:
            self._shared.log.debug("not_http", request_id=request_id, error=type(exc).__name__)
        answer = problem(code, "The request is not valid HTTP." if code is Code.BAD_REQUEST else "")
        answer.headers["X-Request-Id"] = request_id
        answer.headers["Server"] = SERVER_NAME
        answer.force_close()
        return answer


def _bytes_owed(data: bytes, message: object) -> int:
    """How many bytes of the request that `data` begins are still to come; negative when that cannot be told."""
    if not isinstance(message, RawRequestMessage) or message.chunked or message.upgrade:
        return _LOST
    end = data.find(b"\r\n\r\n")
    length = message.headers.get("Content-Length", "0")
    if end < 0 or not length.isdigit():
        return _LOST
    return max(_LOST, end + 4 + int(length) - len(data))
