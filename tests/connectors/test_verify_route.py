"""GET /v1/verify: what proxies ask of a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.settings import Settings
from flashsale.web.verify import REMEMBERED_S
from tests.connectors.door_stage import with_vector_keys
from tests.connectors.vector_file import DROP, vectors_at
from tests.integration.http_client import Buyer, Service, in_own_task, make_drop
from tests.vectors.make_admission_tokens import Maker

ENTRANCE = "https://shop.example/flashsale/enter"
ELSEWHERE = {"wrong_audience", "wrong_drop"}


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    async with in_own_task(with_vector_keys(settings, tmp_path), database) as running:
        await running.open_drop(make_drop(DROP, return_urls=(ENTRANCE, "https://shop.example/other")))
        yield running


async def test_every_vector(service: Service) -> None:
    for vector in vectors_at(int(time.time()), epoch=1):
        answer = await service.get(f"/v1/verify?drop={DROP}", headers={"Authorization": f"Bearer {vector.token}"})
        if vector.code is None:
            assert (answer.status, answer.body) == (204, b""), vector.name
        else:
            assert (answer.status, answer.code) == (403 if vector.code in ELSEWHERE else 401, vector.code), vector.name
            assert answer.headers["X-Flashsale-Refused"] == vector.code


async def test_an_admitted_shoppers_token_says_who_it_is(service: Service) -> None:
    buyer = Buyer(service, DROP)
    await buyer.enter()
    answer = await service.get("/v1/verify", headers={"Authorization": f"Bearer {buyer.token}"})
    assert answer.status == 204
    assert (answer.headers["X-Flashsale-Subject"], answer.headers["X-Flashsale-Drop"]) == (buyer.ticket_id, DROP)
    assert 0 < int(answer.headers["X-Flashsale-Expires"]) - time.time() <= 601
    assert answer.headers["Cache-Control"] == "no-store"


async def test_where_a_token_is_looked_for(service: Service) -> None:
    token = Maker(int(time.time())).token()
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Cookie": f"a=b; flashsale_admission={token}"},
        {"X-Original-Authorization": f"Bearer {token}"},
        {"X-Original-Cookie": f"flashsale_admission={token}"},
        {"Authorization": "Basic dTpw", "X-Original-Cookie": f"flashsale_admission={token}"},
    ):
        assert (await service.get("/v1/verify", headers=headers)).status == 204, headers
    for headers in ({}, {"Authorization": token}, {"Cookie": f"other={token}"}, {"X-Original-URI": f"/?token={token}"}):
        assert (await service.get("/v1/verify", headers=headers)).code == "token_missing"


async def test_a_token_of_a_drop_this_worker_does_not_know_is_good_by_its_signature(service: Service) -> None:
    make = Maker(int(time.time()), epoch=1)
    headers = {"Authorization": f"Bearer {make.token(drop='another')}"}
    assert (await service.get("/v1/verify", headers=headers)).status == 204
    assert (await service.get(f"/v1/verify?drop={DROP}", headers=headers)).code == "wrong_drop"


async def test_a_proxy_may_remember_a_good_token_while_it_is_good(service: Service) -> None:
    now_s = int(time.time())
    make = Maker(now_s)
    for expires, at_most in ((500, REMEMBERED_S), (-10, 0)):
        token = make.token(**make.span(issued=-60, expires=expires))
        answer = await service.get("/v1/verify", headers={"Authorization": f"Bearer {token}"})
        assert int(answer.headers["X-Accel-Expires"]) == at_most
    refused = await service.get("/v1/verify")
    assert "X-Accel-Expires" not in refused.headers


@pytest.mark.parametrize("header", ["X-Original-URI", "X-Forwarded-Uri"])
async def test_a_refusal_says_the_way_back_through_the_entrance(service: Service, header: str) -> None:
    wanted = "/cart?size=44&colour=a%26b"
    answer = await service.get(f"/v1/verify?drop={DROP}", headers={header: wanted})
    way_back = answer.headers["X-Flashsale-Way-Back"]
    assert way_back.startswith("?return=")
    (back,) = parse_qs(way_back[1:])["return"]
    assert back.startswith(f"{ENTRANCE}?to=")
    assert parse_qs(urlsplit(back).query)["to"] == [wanted]
    assert (await service.get(f"/drops/{DROP}{way_back}")).status == 200, "the waiting page takes it"


async def test_an_address_that_is_no_text_is_handed_back_as_it_came(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(f"GET /v1/verify?drop={DROP} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Original-URI: ".encode() + b"/\xff\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    assert "X-Flashsale-Way-Back: ?return=" in answer
    assert "to%3D%252F%25FF\r\n" in answer


async def test_the_way_back_is_never_longer_than_the_waiting_page_takes(service: Service) -> None:
    answer = await service.get(f"/v1/verify?drop={DROP}", headers={"X-Original-URI": "/?q=" + "x" * 3000})
    assert parse_qs(answer.headers["X-Flashsale-Way-Back"][1:])["return"] == [ENTRANCE]


@pytest.mark.parametrize("question", ["", "?drop=unknown"])
async def test_without_a_drop_there_is_no_way_back_to_say(service: Service, question: str) -> None:
    assert (await service.get(f"/v1/verify{question}")).headers["X-Flashsale-Way-Back"] == ""


@pytest.mark.parametrize("query", ["drop=A%2FB", "drop=" + "x" * 200, "shop=launch", "drop=launch&x=1"])
async def test_a_question_nobody_understands_is_refused(service: Service, query: str) -> None:
    answer = await service.get(f"/v1/verify?{query}")
    assert (answer.status, answer.code) == (400, "bad_request")
