"""Exact origins: what pages of other origins may read of a drop, on the short path and on the long one, and in preflights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.settings import Settings
from tests.integration.http_client import Answer, Buyer, Service, in_own_task, make_drop, running_service, with_settings, with_signing_keys

SHOP, SECOND, EVIL = "https://shop.example", "http://localhost:3000", "https://evil.example"
SERVING = "/v1/drops/narrow/serving"


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    async with in_own_task(with_signing_keys(settings, tmp_path), database) as running:
        await running.open_drop(make_drop("narrow", origins=(SHOP, SECOND)))
        await running.open_drop(make_drop("wide"))
        yield running


def allowed(answer: Answer) -> str | None:
    found = answer.headers.getall("Access-Control-Allow-Origin", [])  # type: ignore[attr-defined]
    assert len(found) < 2
    assert "Access-Control-Allow-Credentials" not in answer.headers
    return found[0] if found else None


def short_answers(service: Service) -> float:
    """How many answers the short path has given; the count is brought up to date with the next document."""
    documents = service.services.documents
    return float(service.services.metrics.short_answers._value.get()) + documents._answered


async def test_the_serving_document_of_a_narrow_drop(service: Service) -> None:
    for origin in (SHOP, SECOND, EVIL, "null", None, f"{SHOP}.evil.example", SHOP.upper()):
        await check_serving(service, origin)


async def check_serving(service: Service, origin: str | None) -> None:
    headers = {"Origin": origin} if origin else {}
    before = short_answers(service)
    short = await service.get(SERVING, headers=headers)
    assert short_answers(service) == before + 1, "with and without an origin it is answered on the short path"
    again = await service.get(SERVING, headers=headers)
    long = await service.get(SERVING, headers={**headers, "X-Unheard-Of": "1"})
    assert short_answers(service) == before + 2
    unchanged = await service.get(SERVING, headers={**headers, "If-None-Match": "*"})
    for answer in (short, again, long, unchanged):
        assert allowed(answer) == (origin if origin in {SHOP, SECOND} else None)
        assert answer.headers["Vary"] == "Origin"
    assert unchanged.status == 304


async def test_the_serving_document_of_a_wide_drop_is_for_everybody(service: Service) -> None:
    for headers in ({}, {"Origin": EVIL}, {"Origin": SHOP}):
        before = short_answers(service)
        answer = await service.get("/v1/drops/wide/serving", headers=headers)
        assert short_answers(service) == before + 1
        assert (allowed(answer), answer.headers.get("Vary")) == ("*", None)


async def test_two_origins_on_one_connection_do_not_get_each_others_answer(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    origins = [SHOP, EVIL, SECOND, SHOP]
    writer.write("".join(f"GET {SERVING} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n\r\n" for origin in origins).encode())
    for origin in origins:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        assert (f"access-control-allow-origin: {origin}\r\n" in head) == (origin != EVIL)
    writer.close()


async def test_every_answer_about_a_drop_follows_its_rule(service: Service) -> None:
    buyer = Buyer(service, "narrow")
    await buyer.enter()
    reservation = (await buyer.reserve()).json["reservation_id"]
    for origin, expected in ((SHOP, SHOP), (EVIL, None)):
        headers = {"Origin": origin}
        answers = [
            await service.get("/v1/drops/narrow", headers=headers),
            await service.get("/v1/drops/narrow/fairness", headers=headers),
            await service.get(f"/v1/tickets/{buyer.ticket_id}", headers=headers),
            await service.get(f"/v1/reservations/{reservation}", headers=headers),
            await service.post("/v1/drops/narrow/tickets", {}, headers=headers),
            await service.post("/v1/drops/narrow/admissions", headers={**headers, **buyer.proof}),
            await service.get("/v1/reservations/narrow.rAAAAAAAAAAAAAAAAAAAAAA", headers=headers),
            await service.request("PUT", "/v1/drops/narrow/tickets", headers=headers),
        ]
        assert [answer.status for answer in answers] == [200, 200, 200, 200, 400, 200, 404, 405]
        assert {allowed(answer) for answer in answers} == {expected}
        assert {answer.headers["Vary"] for answer in answers} == {"Origin"}
    assert allowed(await service.get("/v1/drops/none-such", headers={"Origin": EVIL})) == "*", "nobody's drop has the operator's rule"


PREFLIGHTS = (
    ("/v1/drops/narrow/tickets", SHOP, SHOP),
    ("/v1/drops/narrow/tickets", EVIL, None),
    ("/v1/tickets/narrow.tAAAAAAAAAAAAAAAAAAAAAA", SECOND, SECOND),
    ("/v1/reservations/narrow.rAAAAAAAAAAAAAAAAAAAAAA/extend", EVIL, None),
    ("/v1/drops/wide/tickets", EVIL, "*"),
)


async def test_preflights(service: Service) -> None:
    for path, origin, expected in PREFLIGHTS:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        answer = await service.request("OPTIONS", path, headers=asked)
        assert (answer.status, allowed(answer)) == (204, expected), (path, origin)
        assert ("Access-Control-Allow-Methods" in answer.headers) == (expected is not None)


async def test_prepared_answers_have_the_headers_of_general_ones(service: Service) -> None:
    buyer = Buyer(service, "narrow")
    await buyer.enter()  # so that the place does not change between two looks at it
    for origin in (SHOP, EVIL):
        path = f"/v1/tickets/{buyer.ticket_id}"
        prepared = await service.get(path, headers={"Origin": origin})
        general = await service.get(path, headers={"Origin": origin, "Connection": "close"})
        changing = {"x-request-id", "date", "connection"}
        one, other = (
            {name.lower(): value for name, value in answer.headers.items() if name.lower() not in changing}
            for answer in (prepared, general)
        )
        assert one == other


async def test_a_drop_cannot_widen_what_the_operator_allows(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> None:
    settings = with_settings(with_signing_keys(settings, tmp_path), http={"cors_origins": [SHOP, SECOND]})
    async with running_service(settings, database) as service:
        await service.open_drop(make_drop("narrow", origins=(SHOP, EVIL)))
        assert [allowed(await service.get(SERVING, headers={"Origin": origin})) for origin in (SHOP, SECOND, EVIL)] == [SHOP, None, None]
