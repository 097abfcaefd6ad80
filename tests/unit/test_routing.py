"""The table of routes: every address finds its own, with its variables, and no other."""

from __future__ import annotations

from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from flashsale.web.routing import Handler, Route, RouteTable


def named(name: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=name)

    return handler


async def meet(request: web.Request) -> None:
    return None


PATHS = {
    "list": "/v1/drops",
    "drop": "/v1/drops/{drop}",
    "serving": "/v1/drops/{drop}/serving",
    "proof": "/v1/drops/{drop}/proofs/{number}",
    "ticket": "/v1/tickets/{ticket_id}",
    "remove": "/v1/merchant/drops/{drop}/tickets/{ticket_id}/remove",
    "pause": "/v1/merchant/drops/{drop}/pause",
}
TABLE = RouteTable(
    [Route("GET", path, named(name), name) for name, path in PATHS.items()], lambda route: route.handler, named("elsewhere"), meet
)


async def found(path: str) -> tuple[str, dict[str, str]]:
    request = make_mocked_request("GET", path)
    match, _ = await TABLE.resolve(request)
    answer = await match.handler(request)
    return cast(web.Response, answer).text or "", dict(match)


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        ("/v1/drops", "list", {}),
        ("/v1/drops/x", "drop", {"drop": "x"}),
        ("/v1/drops/x/serving", "serving", {"drop": "x"}),
        ("/v1/drops/serving/serving", "serving", {"drop": "serving"}),
        ("/v1/drops/x/proofs/7", "proof", {"drop": "x", "number": "7"}),
        ("/v1/drops/*/proofs/*", "proof", {"drop": "*", "number": "*"}),
        ("/v1/tickets/x.t1", "ticket", {"ticket_id": "x.t1"}),
        ("/v1/merchant/drops/x/tickets/x.t1/remove", "remove", {"drop": "x", "ticket_id": "x.t1"}),
        ("/v1/merchant/drops/x/pause", "pause", {"drop": "x"}),
    ],
)
async def test_every_address_finds_its_route(path: str, name: str, values: dict[str, str]) -> None:
    assert await found(path) == (name, values)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/drops/",
        "/v1/drops//serving",
        "/v1/drops/x/",
        "/v1/drops/x/proofs",
        "/v1/drops/x/proofs/",
        "/v1/drops//proofs/7",
        "/v1/drops/x/*",
        "/v1/*/x",
        "/v1/merchant/drops/x/tickets//remove",
        "/v1/merchant/drops/x/tickets/y",
        "/a/b/c/d/e/f/g/h/i/j/k",
    ],
)
async def test_other_addresses_find_none(path: str) -> None:
    assert (await found(path))[0] == "elsewhere"
