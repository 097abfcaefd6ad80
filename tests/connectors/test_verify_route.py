"""GET /v1/verify: what proxies ask of a worker."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.settings import Settings
from flashsale.web.verify import REMEMBERED_S
from tests.connectors.door_stage import with_vector_keys
from tests.connectors.vector_file import DROP, vectors_at
from tests.integration.http_client import Buyer, Service, in_own_task, make_drop
from tests.vectors.make_admission_tokens import Maker

ELSEWHERE = {"wrong_audience", "wrong_drop"}


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    async with in_own_task(with_vector_keys(settings, tmp_path), database) as running:
        await running.open_drop(make_drop(DROP))
        yield running


async def test_every_vector(service: Service) -> None:
    for vector in vectors_at(int(time.time()), epoch=1):
        answer = await service.get(f"/v1/verify?drop={DROP}", headers={"Authorization": f"Bearer {vector.token}"})
        if vector.code is None:
            assert (answer.status, answer.body) == (204, b""), vector.name
        else:
            assert (answer.status, answer.code) == (403 if vector.code in ELSEWHERE else 401, vector.code), vector.name


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


@pytest.mark.parametrize("query", ["drop=A%2FB", "drop=" + "x" * 200, "shop=launch", "drop=launch&x=1"])
async def test_a_question_nobody_understands_is_refused(service: Service, query: str) -> None:
    answer = await service.get(f"/v1/verify?{query}")
    assert (answer.status, answer.code) == (400, "bad_request")
