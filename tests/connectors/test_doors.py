"""The three middlewares are one door: every vector, and what a door does besides, in the terms of each framework."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from aiohttp import ClientSession, web

from flashsale.verify import Admission, AdmissionVerifier, Code, Door, Refusal, asgi, wsgi
from flashsale.verify import aiohttp as for_aiohttp
from flashsale.verify.door import Asked
from tests.connectors.vector_file import DROP, GOOD, JWKS, MIN_EPOCH, NOW_S, VECTORS, Vector

WAITING_PAGE = "https://queue.shop.example/drops/launch"
ORIGIN = "https://shop.example"
VERIFIER = AdmissionVerifier(jwks=JWKS, drop=DROP, min_epoch=MIN_EPOCH, now=lambda: float(NOW_S))
AWAY = AdmissionVerifier(jwks_url="data:nothing", drop=DROP)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back, and whom the shop saw; None when it was not asked."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    shopper: str | None

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        assert self.headers["cache-control"] == "no-store"
        return dict(json.loads(self.body))


Ask = Callable[..., Awaitable[Answered]]


def seen(admission: object) -> str:
    """What the shop behind the door says of a shopper."""
    return admission.subject if isinstance(admission, Admission) else "anybody"


async def ask_asgi(door: Door, path: str = "/", method: str = "GET", **headers: str) -> Answered:
    shopper: list[str] = []
    sent: list[MutableMapping[str, Any]] = []

    async def shop(scope: asgi.Scope, _receive: asgi.Receive, send: asgi.Send) -> None:
        shopper.append(seen(scope.get(asgi.ADMISSION)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"shop"})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    plain, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": plain,
        "query_string": query.encode(),
        "scheme": "http",
        "headers": [
            (b"host", b"shop.example"),
            *((name.lower().replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
        ],
    }
    await asgi.AdmissionMiddleware(shop, door)(scope, _nothing, send)
    start, body = sent
    return Answered(
        start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"], shopper[0] if shopper else None
    )


async def _nothing() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}


async def ask_wsgi(door: Door, path: str = "/", method: str = "GET", **headers: str) -> Answered:
    shopper: list[str] = []
    started: list[Any] = []

    def shop(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        shopper.append(seen(environ.get(wsgi.ADMISSION)))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"shop"]

    def start_response(status: str, sent: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
        started.extend((int(status.split(maxsplit=1)[0]), {name.lower(): value for name, value in sent}))
        return lambda _: None

    plain, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": plain,
        "QUERY_STRING": query,
        "HTTP_HOST": "shop.example",
    }
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO()
    app = wsgi.AdmissionMiddleware(shop, door)
    # The validator has an opinion on answers without a content type; our redirection has none, because it has no content.
    called = app if method == "HEAD" or "Sec_Fetch_Mode" in headers or "Accept" in headers else validator(app)
    result = called(environ, start_response)
    body = b"".join(result)
    if hasattr(result, "close"):
        result.close()
    return Answered(started[0], started[1], body, shopper[0] if shopper else None)


class AiohttpShops:
    """Running aiohttp applications, one per door."""

    def __init__(self) -> None:
        self._runners: dict[Door, web.AppRunner] = {}
        self._client = ClientSession(auto_decompress=False)
        self._shopper: list[str] = []

    async def ask(self, door: Door, path: str = "/", method: str = "GET", **headers: str) -> Answered:
        runner = self._runners.get(door) or await self._start(door)
        host, port = runner.addresses[0]
        self._shopper.clear()
        sent = {"Host": "shop.example", **{name.replace("_", "-"): value for name, value in headers.items()}}
        url = f"http://{host}:{port}{path}"
        async with self._client.request(method, url, headers=sent, allow_redirects=False) as answer:
            body = await answer.read()
        shopper = self._shopper[0] if self._shopper else None
        return Answered(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body, shopper)

    async def _start(self, door: Door) -> web.AppRunner:
        async def shop(request: web.Request) -> web.Response:
            self._shopper.append(seen(request.get(for_aiohttp.ADMISSION)))
            return web.Response(text="shop")

        app = web.Application(middlewares=[for_aiohttp.admission_middleware(door)])
        app.router.add_route("*", "/{anything:.*}", shop)
        runner = self._runners[door] = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def close(self) -> None:
        await self._client.close()
        for runner in self._runners.values():
            await runner.cleanup()


@pytest.fixture(scope="module", params=["asgi", "wsgi", "aiohttp"])
async def ask(request: pytest.FixtureRequest) -> AsyncIterator[Ask]:
    """Asks a door for something."""
    if request.param == "aiohttp":
        shops = AiohttpShops()
        yield shops.ask
        await shops.close()
    else:
        yield ask_asgi if request.param == "asgi" else ask_wsgi


DOOR = Door(verifier=VERIFIER, waiting_page=WAITING_PAGE, origin=ORIGIN)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
async def test_every_vector(ask: Ask, vector: Vector) -> None:
    header = await ask(DOOR, Authorization=f"Bearer {vector.token}")
    cookie = await ask(DOOR, Cookie=f"a=b; flashsale_admission={vector.token}; c=d")
    for answer in (header, cookie):
        if vector.code is None:
            assert (answer.status, answer.body, answer.shopper) == (200, b"shop", f"{DROP}.tAAAAAAAAAAAAAAAAAAAAAA")
        else:
            assert (answer.status, answer.problem["code"], answer.problem["status"], answer.shopper) == (403, vector.code, 403, None)


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"Authorization": f"Bearer {GOOD}"}, True),
        ({"Authorization": f"bearer  {GOOD} "}, True),
        ({"Authorization": "Basic dTpw", "Cookie": f"flashsale_admission={GOOD}"}, True),
        ({"Authorization": "Bearer ", "Cookie": f"flashsale_admission={GOOD}"}, True),
        ({"Authorization": "Bearer of-the-shop", "Cookie": f"flashsale_admission={GOOD}"}, True),
        ({"Authorization": f"Bearer {GOOD}", "Cookie": "flashsale_admission=bad"}, False),
        ({"Authorization": f"Bearer {GOOD}", "Cookie": "flashsale_admission="}, True),
        ({"Authorization": GOOD}, False),
        ({"Cookie": f"other_flashsale_admission={GOOD}"}, False),
        ({"Cookie": f"FLASHSALE_ADMISSION={GOOD}"}, False),
    ],
    ids=[
        *("bearer", "sloppy bearer", "cookie beside basic", "cookie beside an empty bearer", "cookie beside the shop's bearer"),
        *("cookie first", "empty cookie", "no scheme", "another name", "a name in capitals"),
    ],
)
async def test_where_a_token_is_looked_for(ask: Ask, headers: dict[str, str], *, let_in: bool) -> None:
    assert ((await ask(DOOR, **headers)).status == 200) == let_in


@pytest.mark.parametrize(
    ("headers", "led"),
    [
        ({"Sec_Fetch_Mode": "navigate"}, True),
        ({"Sec_Fetch_Mode": "navigate", "method": "HEAD"}, True),
        ({"Accept": "text/html,application/xhtml+xml"}, True),
        ({"Sec_Fetch_Mode": "cors", "Accept": "text/html"}, False),
        ({"Sec_Fetch_Mode": "navigate", "method": "POST"}, False),
        ({"Accept": "application/json"}, False),
        ({}, False),
    ],
    ids=str,
)
async def test_who_opens_a_page_is_led_to_the_waiting_page(ask: Ask, headers: dict[str, str], *, led: bool) -> None:
    answer = await ask(DOOR, **headers)
    assert answer.status == (303 if led else 403)
    if led:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["location"].startswith(f"{WAITING_PAGE}?return=")
    else:
        assert answer.problem["waiting_page"] == WAITING_PAGE


@pytest.mark.parametrize("wanted", ["/", "/launch/42?size=44&colour=black%20%26%20white", "/a?next=https://evil.example/#x"])
async def test_the_way_back_leads_through_the_entrance_to_what_was_wanted(ask: Ask, wanted: str) -> None:
    wanted = wanted.partition("#")[0]
    location = (await ask(DOOR, wanted, Sec_Fetch_Mode="navigate")).headers["location"]
    (back,) = parse_qs(urlsplit(location).query)["return"]
    assert back.startswith(f"{ORIGIN}/flashsale/enter?to=")
    (to,) = parse_qs(urlsplit(back).query)["to"]
    assert to == wanted


async def test_the_way_back_is_never_longer_than_a_browser_takes(ask: Ask) -> None:
    location = (await ask(DOOR, "/search?q=" + "x" * 3000, Sec_Fetch_Mode="navigate")).headers["location"]
    assert parse_qs(urlsplit(location).query)["return"] == [f"{ORIGIN}/flashsale/enter"]


def test_a_way_back_can_be_made_of_whatever_a_caller_sends() -> None:
    asked = Asked(method="GET", path="/\udcff\r\nX: y", query="", origin="http://\udcff", header=lambda _: "navigate")
    location = dict(Door(verifier=VERIFIER, waiting_page=WAITING_PAGE).refuse(asked, Refusal(Code.TOKEN_MISSING)).headers)["Location"]
    assert location.isascii()
    assert location.isprintable()


async def test_without_an_origin_the_request_says_it(ask: Ask) -> None:
    door = Door(verifier=VERIFIER, waiting_page=WAITING_PAGE, entrance="")
    location = (await ask(door, "/x", Sec_Fetch_Mode="navigate")).headers["location"]
    assert parse_qs(urlsplit(location).query)["return"] == ["http://shop.example/x"]


async def test_without_a_waiting_page_nobody_is_led_anywhere(ask: Ask) -> None:
    answer = await ask(Door(verifier=VERIFIER), Sec_Fetch_Mode="navigate")
    assert (answer.status, "waiting_page" in answer.problem) == (403, False)


async def test_while_keys_cannot_be_had_the_answer_says_so(ask: Ask) -> None:
    answer = await ask(Door(verifier=AWAY, waiting_page=WAITING_PAGE), Authorization=f"Bearer {GOOD}", Sec_Fetch_Mode="navigate")
    assert (answer.status, answer.problem["code"], answer.headers["retry-after"]) == (503, "keys_unavailable", "5")


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/checkout", True),
        ("/checkout/", True),
        ("/checkout/pay", True),
        ("//checkout/pay", True),
        ("/Checkout/PAY", True),
        ("/public//../CHECKOUT", True),
        ("/public/../checkout", True),
        ("/checkout/../public", True),
        ("/./checkout", True),
        ("/%63heckout", True),
        ("/", False),
        ("/public", False),
        ("/checkouts", False),
    ],
)
def test_what_is_behind_the_door(path: str, *, kept: bool) -> None:
    decoded = path.replace("%63", "c")
    assert Door(verifier=VERIFIER, paths=("/checkout",)).covers(decoded) == kept
    assert Door(verifier=VERIFIER, paths=("/CheckOut/",)).covers(decoded) == kept


async def test_only_what_is_behind_the_door_is_kept(ask: Ask) -> None:
    door = Door(verifier=VERIFIER, paths=("/checkout", "/cart/"))
    assert [(await ask(door, path)).shopper for path in ("/", "/checkouts", "/carts")] == ["anybody"] * 3
    assert [(await ask(door, path)).status for path in ("/checkout", "/checkout/pay", "/cart", "/cart/1")] == [403] * 4


async def test_the_entrance_is_open_to_everybody_and_allows_nothing_else(ask: Ask) -> None:
    door = Door(verifier=VERIFIER, entrance="/door", cookie="pass")
    page, script = await ask(door, "/door?to=/x"), await ask(door, "/door.js")
    assert (page.status, script.status, page.shopper) == (200, 200, None)
    assert b'src="/door.js" data-cookie="pass"' in page.body
    assert b"document.cookie" in script.body
    for answer in (page, script):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (answer.headers["referrer-policy"], answer.headers["x-content-type-options"]) == ("no-referrer", "nosniff")
    assert (await ask(door, "/door", "HEAD")).body == b""
    assert (await ask(door, "/door", "POST")).status == 403
    assert (await ask(door, "/", Cookie=f"pass={GOOD}")).shopper


async def test_two_cookies_of_one_name_are_not_both_tried(ask: Ask) -> None:
    assert (await ask(DOOR, Cookie=f"flashsale_admission=bad; flashsale_admission={GOOD}")).problem["code"] == "token_invalid"


@pytest.mark.parametrize(
    "options",
    [{"cookie": "a b"}, {"cookie": ""}, {"waiting_page": "queue.shop.example"}, {"paths": ("checkout",)}, {"entrance": "enter"}],
    ids=str,
)
def test_a_door_that_cannot_work_is_not_made(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"cookie|waiting_page|paths"):
        Door(verifier=VERIFIER, **options)


async def test_a_websocket_needs_admission_too() -> None:
    sent: list[MutableMapping[str, Any]] = []
    opened: list[str] = []

    async def shop(scope: asgi.Scope, _receive: asgi.Receive, _send: asgi.Send) -> None:
        opened.append(seen(scope.get(asgi.ADMISSION)))

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    app = asgi.AdmissionMiddleware(shop, DOOR)
    scope = {"type": "websocket", "path": "/live", "headers": [(b"host", b"shop.example")], "scheme": "ws", "query_string": b""}
    await app(dict(scope), _nothing, send)
    assert (sent, opened) == ([{"type": "websocket.close", "code": 4403}], [])
    await app({**scope, "headers": [(b"cookie", f"flashsale_admission={GOOD}".encode())]}, _nothing, send)
    assert opened == [f"{DROP}.tAAAAAAAAAAAAAAAAAAAAAA"]


async def test_cookies_in_several_lines_are_one_header() -> None:
    async def shop(scope: asgi.Scope, _receive: asgi.Receive, _send: asgi.Send) -> None:
        opened.set()

    opened = asyncio.Event()
    headers = [(b"cookie", b"a=b"), (b"cookie", f"flashsale_admission={GOOD}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""}
    await asgi.AdmissionMiddleware(shop, DOOR)(scope, _nothing, _ignore)
    assert opened.is_set()


async def _ignore(_message: MutableMapping[str, Any]) -> None:
    """Nobody listens."""


async def test_starting_and_stopping_the_application_is_left_to_it() -> None:
    scopes: list[str] = []

    async def shop(scope: asgi.Scope, _receive: asgi.Receive, _send: asgi.Send) -> None:
        scopes.append(scope["type"])

    await asgi.AdmissionMiddleware(shop, DOOR)({"type": "lifespan"}, _nothing, _ignore)
    assert scopes == ["lifespan"]
