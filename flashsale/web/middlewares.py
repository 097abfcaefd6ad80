"""The one middleware: request id, problems, common headers, metrics, the canonical log line."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
from aiohttp import web
from prometheus_client import Counter, Histogram

from flashsale.errors import FlashsaleError
from flashsale.metrics import Metrics
from flashsale.web import problems
from flashsale.web.cors import CrossOrigin
from flashsale.web.problems import Code, Problem, ProblemError, problem
from flashsale.web.request_ids import RequestIds
from flashsale.web.requests import callers_request_id
from flashsale.web.serving import SERVER_NAME

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)

_COMMON = (("Server", SERVER_NAME), ("X-Content-Type-Options", "nosniff"))


@dataclass(frozen=True, slots=True)
class RouteKind:
    """What the middleware has to know about a route."""

    name: str
    """short and stable: a metric's label"""
    hot: bool = False
    """only a sample of its successes is logged"""


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
    """Surrounds every routed request. `web.middleware` marks its `handle` as a middleware of the present kind."""

    def __init__(
        self, routes: Mapping[Handler, RouteKind], cross_origin: CrossOrigin, request_ids: RequestIds, metrics: Metrics, sample_ok: int
    ) -> None:
        self._kinds = {handler: (kind, _Meter(kind.name, metrics)) for handler, kind in routes.items()}
        self._other = (RouteKind("none"), _Meter("none", metrics))
        self._cross_origin = cross_origin
        self._next_id = request_ids.next
        self._sample_ok = sample_ok
        self._unlogged = 0
        self._log = structlog.get_logger("http")

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answers the request, whatever happens."""
        started = time.perf_counter()
        request_id = callers_request_id(request) or self._next_id()
        request[REQUEST_ID] = request_id
        response: web.StreamResponse
        try:
            response = await handler(request)
        except ProblemError as error:
            response = error.problem
        except FlashsaleError as error:
            response = self._of_error(error, request_id)
        except web.HTTPException as error:
            response = self._of_http(error, request)
        except (ConnectionError, OSError):
            raise  # the client has gone
        except Exception as error:  # noqa: BLE001 - the last net: nothing unexpected may reach a caller
            self._log.error("request_failed", request_id=request_id, path=request.path, exc_info=error)
            response = problem(Code.INTERNAL)
        headers = response.headers
        headers["X-Request-Id"] = request_id
        headers.extend(_COMMON)
        headers.extend(self._cross_origin.headers(request.headers.get("Origin")))
        self._observe(request, response, request_id, time.perf_counter() - started)
        return response

    def _of_error(self, error: FlashsaleError, request_id: str) -> Problem:
        answer = problems.of_error(error)
        if answer.code is Code.INTERNAL:
            self._log.error("request_failed", request_id=request_id, exc_info=error)
        return answer

    def _of_http(self, error: web.HTTPException, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS" and isinstance(error, web.HTTPMethodNotAllowed):
            allow = ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))
            preflight = self._cross_origin.preflight(request.headers.get("Origin")) if request.path.startswith("/v1/") else ()
            return web.Response(status=204, headers=[("Allow", allow), *preflight])
        return problems.of_http(error)

    def _observe(self, request: web.Request, response: web.StreamResponse, request_id: str, seconds: float) -> None:
        kind, meter = self._kinds.get(request.match_info.handler, self._other)
        status = response.status
        code = response.code.value if isinstance(response, Problem) else "ok"
        meter.count(status, code, seconds)
        more: dict[str, object] = {}
        if kind.hot and status < 300:
            self._unlogged += 1
            if self._unlogged < self._sample_ok:
                return
            self._unlogged = 0
            more["sample_rate"] = self._sample_ok
        drop = request.match_info.get("drop")
        if drop is not None:
            more["drop"] = drop
        self._log.info(
            "request",
            method=request.method,
            route=kind.name,
            status=status,
            code=code,
            ms=round(seconds * 1000, 2),
            request_id=request_id,
            **more,
        )
