"""The table of routes as one resource of aiohttp's router.

aiohttp tries the patterns of a common prefix one after another, and a middleware costs every request two more coroutines.
Here an address is found in a dictionary, and what surrounds every handler is put around it once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from typing import Any

from aiohttp import web
from yarl import URL

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Expect = Callable[[web.Request], Awaitable[web.StreamResponse | None]]

SEGMENTS_MAX = 8
_VARIABLE = "*"


class Readers(Enum):
    """Pages of which other origins may read an answer."""

    BY_RULE = "by rule"
    """those of the drop's rule, or of the operator's"""
    ANYONE = "anyone"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Route:
    """One address and method. Variable segments of a path are written `{name}`."""

    method: str
    path: str
    handler: Handler
    name: str
    """short and stable: a metric's label"""
    hot: bool = False
    """only a sample of its successes is logged"""
    readers: Readers = Readers.BY_RULE


_Shape = dict[tuple[str, ...], tuple[tuple[str, ...], dict[str, web.ResourceRoute]]]
"""Addresses that vary at the same positions: the segments with those masked, to the variables' names and the methods."""


class RouteTable(web.AbstractResource):
    """Answers for every address: with its route, or with `elsewhere` when there is none.

    `elsewhere` gets the methods the address does answer in the match's `allow`, joined by commas; empty for an unknown one.
    """

    def __init__(self, routes: Sequence[Route], wrap: Callable[[Route], Handler], elsewhere: Handler, expect: Expect) -> None:
        super().__init__(name=None)
        self._elsewhere = web.ResourceRoute("*", elsewhere, self, expect_handler=expect)
        self._plain: dict[str, dict[str, web.ResourceRoute]] = {}
        self._shapes: dict[tuple[int, ...], _Shape] = {}
        for route in routes:
            methods = self._methods(route.path)
            methods[route.method] = web.ResourceRoute(route.method, wrap(route), self, expect_handler=expect)
            if route.method == "GET":
                methods["HEAD"] = methods["GET"]
        self._varying_once = sorted(((at[0], shape) for at, shape in self._shapes.items() if len(at) == 1), key=itemgetter(0), reverse=True)
        self._varying = [(positions, shape) for positions, shape in self._shapes.items() if len(positions) > 1]

    def _methods(self, path: str) -> dict[str, web.ResourceRoute]:
        segments = path.split("/")
        positions = tuple(position for position, segment in enumerate(segments) if segment.startswith("{"))
        if not positions:
            return self._plain.setdefault(path, {})
        names = tuple(segments[position][1:-1] for position in positions)
        masked = tuple(_VARIABLE if position in positions else segment for position, segment in enumerate(segments))
        return self._shapes.setdefault(positions, {}).setdefault(masked, (names, {}))[1]

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo, set[str]]:
        """The route of a request. Every request has one, so no other resource is asked."""
        values, methods = self._find(request.rel_url.path_safe)
        route = methods.get(request.method)
        if route is None:
            values, route = {**values, "allow": ", ".join(sorted(methods))}, self._elsewhere
        return web.UrlMappingMatchInfo(values, route), set()

    def _find(self, path: str) -> tuple[dict[str, str], Mapping[str, web.ResourceRoute]]:
        methods = self._plain.get(path)
        if methods is not None:
            return {}, methods
        segments = path.split("/", SEGMENTS_MAX)
        for position, shape in self._varying_once:  # nearly every address, so this is the short way
            if position < len(segments) and segments[position]:
                value = segments[position]
                segments[position] = _VARIABLE
                found = shape.get(tuple(segments))
                if found is not None:
                    return {found[0][0]: value}, found[1]
                segments[position] = value
        for positions, shape in self._varying:
            if positions[-1] < len(segments):
                found = shape.get(tuple(_VARIABLE if at in positions else segment for at, segment in enumerate(segments)))
                values = [segments[position] for position in positions]
                if found is not None and all(values):
                    return dict(zip(found[0], values, strict=True)), found[1]
        return {}, {}

    # What an aiohttp resource has to have besides.

    @property
    def canonical(self) -> str:
        """The prefix it is registered under: everything."""
        return "/"

    def url_for(self, **_: str) -> URL:
        """Addresses are not made here."""
        raise NotImplementedError

    def add_prefix(self, prefix: str) -> None:
        """The table is never mounted elsewhere."""
        raise NotImplementedError

    def get_info(self) -> Any:
        """What the router shows of it."""
        return {"path": "/"}

    def raw_match(self, path: str) -> bool:
        """It matches everything."""
        return bool(path)

    def __len__(self) -> int:
        return len(self._plain) + sum(map(len, self._shapes.values()))

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        tables = [*self._plain.values(), *(methods for shape in self._shapes.values() for _, methods in shape.values())]
        return iter([route for methods in tables for route in methods.values()])
