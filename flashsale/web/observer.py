"""What surrounds every handler: request id, problems, common headers, metrics, the canonical log line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import assert_never

import structlog
from aiohttp import web
from prometheus_client import Counter, Histogram

from flashsale.errors import FlashsaleError
from flashsale.metrics import Metrics
from flashsale.web import problems
from flashsale.web.answers import Headers, JsonAnswer, PreparedHeads
from flashsale.web.cors import FOR_ANYONE, CrossOrigins
from flashsale.web.problems import Code, Problem, ProblemError, problem
from flashsale.web.request_ids import RequestIds
from flashsale.web.requests import callers_request_id
from flashsale.web.routing import Handler, Readers, Route
from flashsale.web.serving import SERVER_NAME

REQUEST_ID = web.RequestKey("request_id", str)

_COMMON = (("Server", SERVER_NAME), ("X-Content-Type-Options", "nosniff"))


class _Meter:
    """Metrics of one route; children are bound once."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self._name = name
        self._requests = metrics.requests
        self._bound: dict[tuple[int, str], Counter] = {}
        self._seconds: Histogram = metrics.request_seconds.labels(name)

    def count(self, status: int, outcome: str, seconds: float) -> None:
        counter = self._bound.get((status, outcome))
        if counter is None:
            counter = self._bound[status, outcome] = self._requests.labels(self._name, f"{status // 100}xx", outcome)
        counter.inc()
        self._seconds.observe(seconds)


class Observer:
    """Puts a request's surroundings around the handlers of routes."""

    def __init__(self, cross_origins: CrossOrigins, request_ids: RequestIds, metrics: Metrics, sample_ok: int) -> None:
        self._cross_origins = cross_origins
        self._next_id = request_ids.next
        self._metrics = metrics
        self._sample_ok = sample_ok
        self._log = structlog.get_logger("http")
        self._heads: dict[Headers, PreparedHeads] = {}

    def around(self, route: Route) -> Handler:
        """The route's handler, with everything around it. It answers whatever happens."""
        handler, hot, name = route.handler, route.hot, route.name
        cross_origin_for = self._cross_origin_for(route.readers)
        meter = _Meter(name, self._metrics)
        unlogged = 0

        async def observed(request: web.Request) -> web.StreamResponse:
            nonlocal unlogged
            started = time.perf_counter()
            request_id = request[REQUEST_ID] = callers_request_id(request) or self._next_id()
            response: web.StreamResponse
            try:
                response = await handler(request)
            except ConnectionError:
                raise  # the client has gone
            except Exception as error:  # noqa: BLE001 - the last net: nothing unexpected may reach a caller
                response = self._of_error(error, request_id)
            self._finish(request, response, request_id, cross_origin_for(request))
            seconds = time.perf_counter() - started
            code = response.code.value if isinstance(response, Problem) else "ok"
            meter.count(response.status, code, seconds)
            more: dict[str, object] = {}
            if hot and response.status < 300:
                unlogged += 1
                if unlogged < self._sample_ok:
                    return response
                unlogged = 0
                more["sample_rate"] = self._sample_ok
            self._log_line(request, response.status, route=name, code=code, seconds=seconds, more=more)
            return response

        return observed

    def _finish(self, request: web.Request, response: web.StreamResponse, request_id: str, cross_origin: Headers) -> None:
        if isinstance(response, JsonAnswer) and response.prepare_bytes(request, self._prepared(cross_origin), request_id):
            return
        headers = response.headers
        headers["X-Request-Id"] = request_id
        headers.extend((*_COMMON, *cross_origin))

    def _cross_origin_for(self, readers: Readers) -> Callable[[web.Request], Headers]:
        """What tells the cross-origin headers of an answer to a request."""
        match readers:
            case Readers.BY_RULE:
                return self._by_rule
            case Readers.ANYONE:
                return lambda _: FOR_ANYONE
            case Readers.NOBODY:
                return lambda _: ()
            case _:
                assert_never(readers)

    def _by_rule(self, request: web.Request) -> Headers:
        return self._cross_origins.of_values(request.match_info).headers(request.headers.get("Origin"))

    def _prepared(self, cross_origin: Headers) -> PreparedHeads:
        """The heads with these headers; there are as many as origins on allow-lists."""
        heads = self._heads.get(cross_origin)
        if heads is None:
            heads = self._heads[cross_origin] = PreparedHeads((*_COMMON, *cross_origin))
        return heads

    def _of_error(self, error: Exception, request_id: str) -> Problem:
        match error:
            case ProblemError():
                return error.problem
            case FlashsaleError():
                answer = problems.of_error(error)
            case web.HTTPException():
                return problems.of_http(error)
            case _:
                answer = problem(Code.INTERNAL)
        if answer.code is Code.INTERNAL:
            self._log.error("request_failed", request_id=request_id, exc_info=error)
        return answer

    def _log_line(self, request: web.Request, status: int, *, route: str, code: str, seconds: float, more: dict[str, object]) -> None:
        drop = request.match_info.get("drop")
        if drop is not None:
            more["drop"] = drop
        self._log.info(
            "request",
            method=request.method,
            route=route,
            status=status,
            code=code,
            ms=round(seconds * 1000, 2),
            request_id=request[REQUEST_ID],
            **more,
        )


class Elsewhere:
    """Answers where there is no route: unknown addresses, methods an address does not have, and preflights."""

    def __init__(self, cross_origins: CrossOrigins) -> None:
        self._cross_origins = cross_origins

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """404, 405, or 204 to an OPTIONS of an address there is."""
        allow = request.match_info["allow"]
        if not allow:
            return problem(Code.NOT_FOUND)
        if request.method == "OPTIONS":
            origin = request.headers.get("Origin")
            preflight = self._cross_origins.preflight_of(request.match_info, origin) if request.path.startswith("/v1/") else ()
            return web.Response(status=204, headers=[("Allow", f"{allow}, OPTIONS"), *preflight])
        answer = problem(Code.METHOD_NOT_ALLOWED)
        answer.headers["Allow"] = f"{allow}, OPTIONS"
        return answer
