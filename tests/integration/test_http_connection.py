"""The connection itself, byte by byte: the short path, its limits, and what is not HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.settings import Settings
from flashsale.web.serving import HEADS_MAX, PIPELINED_MAX
from tests.integration.http_client import Buyer, Service, in_own_task, make_drop, running_service, with_settings, with_signing_keys

PATH = "/v1/drops/sneaker-x/serving"
GOOD_HASH = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
JOIN = "POST /v1/drops/sneaker-x/tickets HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path, connect: Connect) -> AsyncIterator[Service]:
    async with in_own_task(with_signing_keys(settings, tmp_path), database) as running:
        await running.open_drop(make_drop(opens_in_ms=600_000))
        yield running


@dataclass(slots=True)
class Wire:
    """A raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, body: bool = True) -> tuple[str, dict[str, str], bytes]:
        """(status line, headers by lower-case name, body) of the next answer."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = int(headers.get("content-length", "0")) if body and " 304 " not in status else 0
            return status, headers, await self.reader.readexactly(length)

    async def closed(self) -> bool:
        """Whether the service closes the connection, sending nothing more."""
        async with asyncio.timeout(5):
            return await self.reader.read() == b""

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


Connect = Callable[[Service], Awaitable[Wire]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    async with AsyncExitStack() as opened:

        async def open_wire(service: Service) -> Wire:
            wire = Wire(*await asyncio.open_connection("127.0.0.1", service.port))
            opened.push_async_callback(wire.close)
            return wire

        yield open_wire


def get(path: str = PATH, *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "Host: shop.example", *lines, "", ""]).encode()


def short_answers(service: Service) -> int:
    return service.services.documents._answered + int(service.services.metrics.short_answers._value.get())


async def still_document(service: Service) -> None:
    """Holds the document as it is, so that two answers can be compared."""
    service.services.inlet._on_change = lambda _live: None


async def exchange(connect: Connect, service: Service, request: bytes) -> tuple[str, dict[str, str], bytes]:
    wire = await connect(service)
    await wire.send(request)
    return await wire.answer()


@pytest.mark.parametrize("if_none_match", [None, "same", "*", '"other"'])
async def test_both_paths_give_the_same_answer(service: Service, connect: Connect, if_none_match: str | None) -> None:
    await still_document(service)
    document = service.services.documents.get("sneaker-x")
    assert document is not None
    lines = [] if if_none_match is None else [f"If-None-Match: {document.etag if if_none_match == 'same' else if_none_match}"]
    before = short_answers(service)
    short = await exchange(connect, service, get(PATH, *lines))
    assert short_answers(service) == before + 1
    # A header that the short path does not know.
    routed = await exchange(connect, service, get(PATH, *lines, "X-Unheard-Of: 1"))
    assert short_answers(service) == before + 1
    for headers in (short[1], routed[1]):
        assert headers.pop("x-request-id")
        assert headers.pop("date").endswith("GMT")
    assert short == routed
    assert short[0] == ("HTTP/1.1 304 Not Modified" if if_none_match in {"same", "*"} else "HTTP/1.1 200 OK")
    assert short[1]["cache-control"] == "public, max-age=1"


async def test_origins_on_an_allow_list(settings: Settings, store: Redis, database: Database, tmp_path: Path, connect: Connect) -> None:
    settings = with_settings(with_signing_keys(settings, tmp_path), http={"cors_origins": ["https://shop.example"]})
    async with running_service(settings, database) as service:
        await service.open_drop(make_drop(opens_in_ms=600_000))
        for origin, allowed in (("https://shop.example", "https://shop.example"), ("https://evil.example", None), (None, None)):
            _, headers, _ = await exchange(connect, service, get(PATH, *([f"Origin: {origin}"] if origin else [])))
            assert headers.get("access-control-allow-origin") == allowed
            assert headers["vary"] == "Origin"
        preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        answer = await service.request("OPTIONS", "/v1/drops/sneaker-x/tickets", headers=preflight)
        assert (answer.status, answer.headers["Access-Control-Max-Age"]) == (204, "7200")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        answer = await service.request("OPTIONS", "/v1/drops/sneaker-x/tickets", headers={**preflight, "Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Access-Control-Allow-Methods" not in answer.headers


async def test_many_requests_on_one_connection(service: Service, connect: Connect) -> None:
    wire = await connect(service)
    before = short_answers(service)
    seen = set()
    for _ in range(3):
        await wire.send(get())
        status, headers, body = await wire.answer()
        assert (status, json.loads(body)["drop"]) == ("HTTP/1.1 200 OK", "sneaker-x")
        seen.add(headers["x-request-id"])
        await wire.send(get("/healthz"))
        assert json.loads((await wire.answer())[2]) == {"status": "alive"}
    await wire.send(b"POST /v1/drops/nothing/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    assert (await wire.answer())[0].startswith("HTTP/1.1 404")
    await wire.send(b"POST /v1/drops/nothing/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
    await wire.send(b"{}")
    assert (await wire.answer())[0].startswith("HTTP/1.1 404")
    await wire.send(get())
    await wire.answer()
    assert short_answers(service) == before + 4
    assert len(seen) == 3


@pytest.mark.parametrize("count", [2, PIPELINED_MAX, PIPELINED_MAX + 1, 200])
async def test_pipelined_requests_are_answered_in_order(service: Service, connect: Connect, count: int) -> None:
    wire = await connect(service)
    await wire.send(get() * count + get("/healthz"))
    for _ in range(count):
        assert json.loads((await wire.answer())[2])["drop"] == "sneaker-x"
    assert json.loads((await wire.answer())[2]) == {"status": "alive"}


@pytest.mark.parametrize(
    "request_bytes",
    [
        get(version="1.0"),
        get(PATH, "Connection: close"),
        get(PATH, "Connection: upgrade", "Upgrade: websocket"),
        get(PATH, "Content-Length: 0"),
        get(PATH, "X-Request-Id: mine"),
        get(PATH + "?x=1"),
        get("http://shop.example" + PATH),
        get().replace(b"GET", b"HEAD"),
        get().replace(b"\r\nHost: shop.example", b""),
        get(PATH, "Host: other.example"),
        get(PATH, "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        get(PATH, "Content-Length: 5") + b"hello",
        get(PATH, " folded"),
        get(PATH, "Accept : x"),
        get(PATH, "Accept: \x00"),
        get().replace(b"\r\n", b"\n"),
        get(PATH, "If-None-Match: *", "If-None-Match: *"),
        get(PATH, *["Accept: */*"] * 400),
    ],
)
async def test_what_is_unusual_goes_the_long_way(service: Service, connect: Connect, request_bytes: bytes) -> None:
    before = short_answers(service)
    wire = await connect(service)
    await wire.send(request_bytes)
    status, headers, _ = await wire.answer(body=False)
    assert status.split()[1] in {"200", "304", "400"}
    assert headers["x-request-id"]
    assert short_answers(service) == before


async def test_bytes_inside_a_request_are_never_taken_for_one(service: Service, connect: Connect) -> None:
    before = short_answers(service)
    wire = await connect(service)
    # The body of a request, sent in pieces, looks like a request.
    inner = get()
    await wire.send(f"POST /v1/drops/nothing/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: {len(inner) + 1}\r\n\r\n".encode())
    await wire.send(inner)
    await wire.send(b"x")
    assert (await wire.answer())[0].startswith("HTTP/1.1 404")
    # The value of a header, sent in pieces, looks like a request.
    await wire.send(b"GET /healthz HTTP/1.1\r\nX-Piece: ")
    await asyncio.sleep(0.01)
    await wire.send(inner)
    assert json.loads((await wire.answer())[2]) == {"status": "alive"}
    # After that nobody can tell where requests begin but the parser, and it goes on working.
    await wire.send(inner)
    assert json.loads((await wire.answer())[2])["drop"] == "sneaker-x"
    assert short_answers(service) == before


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\xa5\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        get(PATH, "Accept : x"),
        get(PATH, "Content-Length: 5", "Transfer-Encoding: chunked"),
        get(PATH, "Host: second.example"),
    ],
)
async def test_what_is_not_http_is_answered_as_a_problem(service: Service, connect: Connect, data: bytes) -> None:
    wire = await connect(service)
    await wire.send(data)
    status, headers, body = await wire.answer()
    assert status.startswith(("HTTP/1.1 400", "HTTP/1.0 400"))
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["code"] == "bad_request"
    assert await wire.closed()


async def test_an_expectation_is_met_or_refused(service: Service, connect: Connect) -> None:
    wire = await connect(service)
    head = JOIN.format(2).replace("\r\n\r\n", "\r\nExpect: {}\r\n\r\n")
    await wire.send(head.format("100-continue").encode())
    assert (await wire.answer())[0] == "HTTP/1.1 100 Continue"
    await wire.send(b"{}")
    assert (await wire.answer())[0].startswith("HTTP/1.1 400")
    await wire.send(head.format("tea").encode() + b"{}")
    status, _, body = await wire.answer()
    assert (status.split()[1], json.loads(body)["code"]) == ("417", "expectation_failed")


async def test_limits_of_connections(settings: Settings, store: Redis, database: Database, tmp_path: Path, connect: Connect) -> None:
    http = {"head_timeout_ms": 150, "keepalive_ms": 300, "body_timeout_ms": 100, "connections_max": 3}
    settings = with_settings(with_signing_keys(settings, tmp_path), http=http)
    async with running_service(settings, database) as service:
        await service.open_drop(make_drop(opens_in_ms=600_000))
        await service.client.connector.close()  # type: ignore[union-attr]
        await service.until(lambda: service.services.metrics.connections._value.get() == 0)
        silent, slow, idle = [await connect(service) for _ in range(3)]
        await idle.send(get())
        await idle.answer()
        too_many = await connect(service)
        assert await too_many.closed()
        await slow.send(b"GET /healthz HTTP/1.1\r\nHo")
        started = asyncio.get_running_loop().time()
        assert await silent.closed()
        assert await slow.closed()
        assert asyncio.get_running_loop().time() - started < 0.3
        assert await idle.closed()
        assert asyncio.get_running_loop().time() - started > 0.2

        wire = await connect(service)
        await wire.send(
            b"POST /v1/drops/sneaker-x/tickets HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        status, _, body = await wire.answer()
        assert (status.split()[1], json.loads(body)["code"]) == ("408", "body_timeout")
        assert await wire.closed()


async def test_heads_that_differ_each_time_fill_nothing(service: Service, connect: Connect) -> None:
    documents = service.services.documents
    for number in range(HEADS_MAX + 10):
        assert documents.short_answer(get(PATH, f"User-Agent: browser {number}")) is not None
    assert len(documents._heads) <= HEADS_MAX


async def test_a_flood_from_one_address_is_limited(
    settings: Settings, store: Redis, database: Database, tmp_path: Path, connect: Connect
) -> None:
    http = {"rate_per_s": 0.5, "rate_burst": 3, "rate_exempt": ["10.0.0.0/8"], "trusted_proxies": ["127.0.0.1"]}
    async with running_service(with_settings(with_signing_keys(settings, tmp_path), http=http), database) as service:
        await service.open_drop(make_drop(opens_in_ms=600_000))
        path = "/v1/drops/sneaker-x/tickets"

        async def statuses(forwarded: str, count: int) -> list[int]:
            return [(await service.post(path, {}, headers={"X-Forwarded-For": forwarded})).status for _ in range(count)]

        assert await statuses("198.51.100.7", 4) == [400, 400, 400, 429]
        assert await statuses("203.0.113.9, 198.51.100.7", 1) == [429]
        assert await statuses("198.51.100.7, 203.0.113.9", 1) == [400]
        assert await statuses("2001:db8::1", 3) == [400] * 3
        assert await statuses("2001:db8::2", 1) == [429]
        assert await statuses("10.1.2.3", 5) == [400] * 5
        limited = await service.post(path, {}, headers={"X-Forwarded-For": "198.51.100.7"})
        assert (limited.code, int(limited.headers["Retry-After"]) >= 1) == ("rate_limited", True)
        # Wrong keys count too, right ones do not.
        key = {"X-Forwarded-For": "192.0.2.1", "Authorization": "Bearer wrong"}
        assert [(await service.get("/v1/orders?drop=sneaker-x", headers=key)).status for _ in range(4)] == [401, 401, 401, 429]


async def test_prepared_answers_are_the_general_ones(service: Service, connect: Connect) -> None:
    await service.client.post(f"{service.url}/v1/drops/sneaker-x/tickets", json={"secret_hash": GOOD_HASH})
    body = b'{"secret_hash":"%b"}' % GOOD_HASH.encode()
    prepared, general = [
        JOIN.format(len(body)).replace("\r\n\r\n", f"\r\n{line}\r\n\r\n").encode() + body for line in ("Accept: */*", "Connection: close")
    ]
    answers = [await exchange(connect, service, request) for request in (prepared, general)]
    assert answers[1][1].pop("connection") == "close"
    for status, headers, _ in answers:
        assert status == "HTTP/1.1 200 OK"
        assert headers.pop("x-request-id")
        assert headers.pop("date").endswith("GMT")
    # A receipt is signed together with those of the same call, and the document moves on.
    one, other = [json.loads(answer[2]) | {"receipt": "", "serving_number": 0} for answer in answers]
    assert (one, answers[0][1]) == (other, answers[1][1])

    path = f"/v1/tickets/{one['ticket_id']}"
    wire = await connect(service)
    await wire.send(get(path).replace(b"GET", b"HEAD") + get(path))
    _, head, _ = await wire.answer(body=False)
    _, headers, found = await wire.answer()
    assert json.loads(found)["ticket_id"] == one["ticket_id"]
    assert head["content-length"] == headers["content-length"]


async def test_requests_in_flight_are_finished_before_stopping(
    settings: Settings, store: Redis, database: Database, tmp_path: Path, connect: Connect
) -> None:
    settings = with_settings(with_signing_keys(settings, tmp_path), confirm={"deadline_ms": 300})
    async with in_own_task(settings, database) as service:
        await service.open_drop(make_drop())
        buyer = Buyer(service, "sneaker-x")
        await buyer.enter()
        reservation_id = (await buyer.reserve()).json["reservation_id"]
        waiting, idle = await connect(service), await connect(service)
        body = b'{"payment_reference":"pay-1","amount_minor":12000}'
        head = f"POST /v1/reservations/{reservation_id}/confirm HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {service.api_key}\r\nIdempotency-Key: k\r\nContent-Length: {len(body)}\r\n\r\n"
        await waiting.send(head.encode() + body)
        await service.until(lambda: service.services.orders._waiting)
    status, _, answered = await waiting.answer()
    assert (status.split()[1], json.loads(answered)["state"]) == ("202", "confirmed")
    assert await waiting.closed()
    assert await idle.closed()
    with pytest.raises(ConnectionError):
        await connect(service)
