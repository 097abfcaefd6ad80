"""The configuration of nginx we ship, in a real nginx before a real worker: every vector, what the shop sees, what is remembered."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientSession, UnixConnector
from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.settings import Settings
from flashsale.web import verify
from tests.connectors.door_stage import running_shop, with_vector_keys
from tests.connectors.nginx import MISSING, PAGES, find_nginx, running_nginx
from tests.connectors.vector_file import DROP, vectors_at
from tests.integration.http_client import Answer, Buyer, Service, in_own_task, make_drop
from tests.vectors.make_admission_tokens import Maker

NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}


@dataclass(slots=True)
class Stage:
    """nginx between a caller, a worker and a shop."""

    client: ClientSession
    service: Service

    async def ask(self, path: str = "/", method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        async with self.client.request(method, f"http://shop.example{path}", headers=headers, allow_redirects=False) as answer:
            return Answer(answer.status, answer.headers.copy(), await answer.read())

    async def with_token(self, token: str, path: str = "/") -> Answer:
        return await self.ask(path, headers={"Authorization": f"Bearer {token}"})

    def questions(self) -> int:
        """How often nginx has asked the worker."""
        samples = [sample for metric in self.service.services.metrics.requests.collect() for sample in metric.samples]
        return int(sum(one.value for one in samples if one.labels["route"] == "verify" and one.name.endswith("_total")))


@pytest.fixture
def folder() -> Iterator[Path]:
    # A socket's address has at most 107 characters, and pytest's folders are long.
    with TemporaryDirectory(prefix="door-") as name:
        yield Path(name)


@pytest.fixture
async def stage(settings: Settings, store: Redis, database: Database, folder: Path) -> AsyncIterator[Stage]:
    if find_nginx() is None:
        pytest.skip(MISSING)
    async with AsyncExitStack() as opened:
        service = await opened.enter_async_context(in_own_task(with_vector_keys(settings, folder), database))
        await service.open_drop(make_drop(DROP, return_urls=("https://shop.example/flashsale/enter",)))
        shop_port = await opened.enter_async_context(running_shop())
        address = await opened.enter_async_context(running_nginx(folder, service.port, shop_port))
        client = await opened.enter_async_context(ClientSession(connector=UnixConnector(str(address))))
        yield Stage(client, service)


async def test_every_vector(stage: Stage) -> None:
    for vector in vectors_at(int(time.time()), epoch=1):
        for headers in ({"Authorization": f"Bearer {vector.token}"}, {"Cookie": f"a=b; flashsale_admission={vector.token}"}):
            answer = await stage.ask(headers=headers)
            assert answer.status == (200 if vector.code is None else 403), (vector.name, headers, answer.body)
            if vector.code is not None:
                assert (answer.code, answer.json["type"]) == (vector.code, f"urn:flashsale:problem:{vector.code}")


async def test_a_shop_may_have_bearers_of_its_own(stage: Stage) -> None:
    token = Maker(int(time.time())).token()
    headers = {"Authorization": "Bearer of-the-shop", "Cookie": f"flashsale_admission={token}"}
    answer = await stage.ask(headers=headers)
    assert (answer.status, answer.json["authorization"]) == (200, "Bearer of-the-shop")


async def test_the_shop_sees_who_was_let_in_and_not_what_a_caller_says(stage: Stage) -> None:
    buyer = Buyer(stage.service, DROP)
    await buyer.enter()
    claimed = {"X-Flashsale-Subject": "somebody else", "X-Flashsale-Drop": "another", "X-Flashsale-Expires": "1"}
    answer = await stage.ask("/cart?x=1", headers={"Authorization": f"Bearer {buyer.token}", **claimed})
    assert answer.status == 200
    seen = answer.json
    assert (seen["x-flashsale-subject"], seen["x-flashsale-drop"]) == (buyer.ticket_id, DROP)
    assert int(seen["x-flashsale-expires"]) > time.time()


async def test_who_opens_a_page_is_led_to_the_waiting_page_and_a_script_is_told(stage: Stage) -> None:
    led = await stage.ask("/cart?size=44&colour=a%26b", headers=NAVIGATION)
    assert (led.status, led.headers["Cache-Control"]) == (303, "no-store")
    location = urlsplit(led.headers["Location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == "https://queue.shop.example/drops/launch"
    (back,) = parse_qs(location.query)["return"]
    assert back.startswith("https://shop.example/flashsale/enter?to=")
    assert parse_qs(urlsplit(back).query)["to"] == ["/cart?size=44&colour=a%26b"]
    for headers in ({"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, {"Accept": "*/*"}):
        told = await stage.ask("/cart", headers=headers)
        assert (told.status, told.code, told.headers["Cache-Control"]) == (403, "token_missing", "no-store")
    assert (await stage.ask("/cart", "POST", NAVIGATION)).status == 403
    assert (await stage.ask("/cart", headers={"Accept": "text/html"})).status == 303


async def test_a_good_token_is_asked_about_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "REMEMBERED_S", 600)
    make = Maker(int(time.time()))
    one, other = make.token(), make.token(sub=f"{DROP}.tDDDDDDDDDDDDDDDDDDDDDD")
    for _ in range(5):
        assert (await stage.with_token(one)).status == 200
    assert stage.questions() == 1
    assert (await stage.with_token(other)).json["x-flashsale-subject"].endswith("D")
    assert (await stage.with_token(one)).json["x-flashsale-subject"].endswith("A")
    assert stage.questions() == 2
    # What is refused is asked about every time: it may be good a moment later.
    for _ in range(3):
        assert (await stage.ask()).status == 403
    assert stage.questions() == 5


async def test_the_service_away_is_not_the_shop_broken(stage: Stage, folder: Path) -> None:
    token = Maker(int(time.time())).token()
    answer = await stage.with_token(token, "/broken")
    assert (answer.status, answer.body) == (500, b"the shop's own words")
    async with running_shop() as nowhere:
        pass  # a port where nobody listens any more
    away = folder / "away"
    away.mkdir()
    async with running_nginx(away, nowhere, nowhere) as address, ClientSession(connector=UnixConnector(str(address))) as client:
        answer = await Stage(client, stage.service).with_token(token)
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "keys_unavailable", "5")


async def test_the_entrance_is_open_to_everybody(stage: Stage) -> None:
    page = await stage.ask("/flashsale/enter?to=%2Fcart")
    script = await stage.ask("/flashsale/enter.js")
    assert (page.status, page.body) == (200, (PAGES / "enter.html").read_bytes())
    assert (script.status, script.body) == (200, (PAGES / "enter.js").read_bytes())
    assert page.headers["Content-Type"].startswith("text/html")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert stage.questions() == 0


async def test_nobody_reaches_the_question_itself_or_another_route_of_the_service(stage: Stage) -> None:
    token = Maker(int(time.time())).token()
    assert (await stage.with_token(token, "/flashsale/verify")).status == 404
    seen: Any = json.loads((await stage.with_token(token, "/v1/verify")).body)
    assert seen["host"] == "shop.example", "that is the shop's own address"
