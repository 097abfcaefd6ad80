"""The live view of a drop: what it tells, when it ends, and that there is never too much of it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import ClientSession

from flashsale.access import Scope, create_key, revoke_key
from flashsale.cli.compose import build_services
from flashsale.connections.database import create_database_if_missing, open_database
from flashsale.web import merchant_live
from flashsale.web.app import listen, serving
from flashsale.web.live_view import LiveView
from reconciler.migrations import migrate
from tests.integration.http_client import Buyer, Service, in_own_task, make_drop, reconciling, with_settings, with_signing_keys
from tests.stores import settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import ClientResponse
    from redis.asyncio import Redis

    from flashsale.connections.database import Database
    from flashsale.embedded.stores import EmbeddedStores
    from flashsale.settings import Settings

DROP = "sneaker-x"
LIVE = f"/v1/merchant/drops/{DROP}/live"
PATIENCE_S = 20


class Stream:
    """One open stream."""

    def __init__(self, answer: ClientResponse) -> None:
        self.answer = answer

    async def event(self) -> tuple[str, Any]:
        """The next event: (name, data); ("", None) at the end of the stream."""
        name, data = "", b""
        async with asyncio.timeout(PATIENCE_S):
            while line := await self.answer.content.readline():
                text = line.rstrip(b"\n")
                if text.startswith(b"event: "):
                    name = text[7:].decode()
                elif text.startswith(b"data: "):
                    data = text[6:]
                elif not text and name:
                    return name, msgspec.json.decode(data)
        return "", None

    async def live(self, condition: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next picture of which `condition` is true."""
        while True:
            name, data = await self.event()
            assert name in {"live", "trouble"}, name
            if name == "live" and condition(data):
                return data

    async def rest(self) -> list[str]:
        """The names of all events to come."""
        names = []
        while name := (await self.event())[0]:
            names.append(name)
        return names


class Shop:
    """A worker with one open drop, and a merchant's key."""

    def __init__(self, service: Service, key_id: str, key: str) -> None:
        self.service = service
        self.key_id = key_id
        self.key = key

    @asynccontextmanager
    async def watch(self, *, key: str = "", path: str = LIVE) -> AsyncIterator[Stream]:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        async with self.service.client.get(self.service.url + path, headers=headers) as answer:
            yield Stream(answer)


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merchant_live, "BEAT_S", 0.02)
    monkeypatch.setattr(merchant_live, "ORDERS_EVERY_S", 0.05)
    monkeypatch.setattr(merchant_live, "ORDERS_PAUSE_S", 0.05)
    monkeypatch.setattr(merchant_live, "ORDERS_TIMEOUT_S", 5.0)


@pytest.fixture
async def shop(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    async with in_own_task(with_signing_keys(settings, tmp_path), database) as service:
        await service.open_drop(make_drop())
        key_id, key = await create_key(database, [Scope.MERCHANT])
        await service.services.access.refresh()
        yield Shop(service, key_id, key)


async def test_it_is_an_event_stream_that_proxies_pass_on(shop: Shop) -> None:
    async with shop.watch() as stream:
        headers = stream.answer.headers
        assert stream.answer.status == 200
        assert headers["Content-Type"] == "text/event-stream"
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
        assert headers["X-Request-Id"]
        assert await stream.answer.content.readline() == b"retry: 2000\n"


async def test_a_proxy_that_speaks_http_1_0_gets_it_too(shop: Shop) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", shop.service.port)
    writer.write(f"GET {LIVE} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {shop.key}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200")
    assert b"chunked" not in head, "nginx asks like this unless told otherwise"
    assert (await reader.readuntil(b"\n\n")) == b"retry: 2000\n\n"
    assert (await reader.readuntil(b"\n\n")).startswith(b"event: live\n")
    writer.close()


async def test_it_tells_where_the_drop_stands(shop: Shop) -> None:
    async with shop.watch() as stream:
        view = await stream.live()
    assert set(view) == set(LiveView.__struct_fields__) - {"lines"}
    assert (view["state"], view["joined"], view["joining"], view["notice"]) == ("open", 0, "open", "")
    assert (view["rate_per_min"], view["capacity"]) == (600_000, 10_000)
    assert {sku["sku"]: sku["available"] for sku in view["skus"]} == {"black-42": 100, "white-42": 3}
    assert view["reservations"] == {"open": 0, "by_age": [{"up_to_s": up_to, "count": 0} for up_to in (24, 48, 72, 96, 120)]}
    assert (view["postgres"], view["orders"]["pending"], view["errors"]["of"]) == ("up", 0, "worker")


async def test_it_moves_when_somebody_joins_enters_and_reserves(shop: Shop) -> None:
    buyer = Buyer(shop.service, DROP)
    async with shop.watch() as stream:
        await stream.live()
        await buyer.join()
        await stream.live(lambda view: view["joined"] == 1)
        await buyer.be_admitted()
        entered = await stream.live(lambda view: view["admitted_total"] == 1)
        assert (entered["inside"], entered["waiting"]) == (1, 0)
        assert (await buyer.reserve({"black-42": 2})).status == 201
        held = await stream.live(lambda view: view["reservations"]["open"] == 1)
        assert [band["count"] for band in held["reservations"]["by_age"]] == [1, 0, 0, 0, 0]
        [black] = [sku for sku in held["skus"] if sku["sku"] == "black-42"]
        assert (black["available"], black["reserved"], black["sold"]) == (98, 2, 0)
        assert held["journal"]["length"] >= 1


async def test_orders_come_from_postgres(shop: Shop, settings: Settings) -> None:
    buyer = Buyer(shop.service, DROP)
    await buyer.enter()
    await buyer.reserve()
    async with reconciling(settings, shop.service.database, shop.service.services), shop.watch() as stream:
        view = await stream.live(lambda view: view["orders"]["pending"] == 1)
        assert view["orders"] == {
            "pending": 1, "paid": 0, "expired": 0, "cancelled": 0, "refund_due": 0, "refunded": 0, "recorded_last_min": 1,
        }  # fmt: skip


async def test_what_the_merchant_changes_is_seen(shop: Shop) -> None:
    drops = shop.service.services.drop_store
    async with shop.watch() as stream:
        await stream.live()
        await drops.steer(DROP, "notice", "Size 42 is nearly gone.")
        await drops.steer(DROP, "joining", "closed")
        await drops.pause(DROP)
        await stream.live(lambda view: (view["state"], view["joining"], view["notice"]) == ("paused", "closed", "Size 42 is nearly gone."))


async def test_refusals_of_this_worker_are_counted_by_code(shop: Shop) -> None:
    async with shop.watch() as stream:
        before = (await stream.live())["errors"]["last_min_by_code"].get("drop_not_found", 0)
        for _ in range(3):
            assert (await shop.service.get("/v1/drops/no-such-drop")).code == "drop_not_found"
        await stream.live(lambda view: view["errors"]["last_min_by_code"].get("drop_not_found", 0) == before + 3)


async def test_it_ends_when_the_drop_is_closed(shop: Shop) -> None:
    async with shop.watch() as stream:
        await stream.live()
        await shop.service.services.drop_store.close(DROP)
        names = await stream.rest()
    assert names[-1] == "ended"
    async with shop.watch() as late:
        assert await late.rest() == ["live", "ended"], "whoever comes later sees the last picture"


async def test_it_ends_with_the_key(shop: Shop, database: Database) -> None:
    async with shop.watch() as stream:
        await stream.live()
        await revoke_key(database, shop.key_id)
        await shop.service.services.access.refresh()
        assert "ended" not in await stream.rest()
    async with shop.watch() as refused:
        assert refused.answer.status == 401


async def test_a_session_watches_and_its_end_ends_the_stream(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in = await shop.service.post("/console/session", {"key": shop.key})
    cookie = signed_in.headers["Set-Cookie"].partition(";")[0]
    async with shop.service.client.get(shop.service.url + LIVE, headers={"Cookie": cookie}) as answer:
        stream = Stream(answer)
        await stream.live()
        later_ms = signed_in.json["expires_at_ms"]
        monkeypatch.setattr(type(shop.service.services.clock), "now_ms", lambda _self: later_ms)
        await stream.rest()


async def test_another_tenants_drop_is_not_there(shop: Shop, database: Database) -> None:
    _, stranger = await create_key(database, [Scope.MERCHANT], tenant="another")
    await shop.service.services.access.refresh()
    async with shop.watch(key=stranger) as stream:
        assert stream.answer.status == 404


async def test_all_who_watch_share_one_sampler_which_goes_with_the_last(shop: Shop) -> None:
    def samplers() -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks() if task.get_name() == f"live:{DROP}"]

    async with shop.watch() as one:
        async with shop.watch() as other:
            await one.live()
            await other.live()
            assert len(samplers()) == 1
        await one.live()
        assert len(samplers()) == 1
    await shop.service.until(lambda: not samplers())


async def test_there_are_only_so_many_streams_of_a_key_and_a_worker(
    shop: Shop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merchant_live, "STREAMS_PER_KEY_MAX", 1)
    monkeypatch.setattr(merchant_live, "STREAMS_MAX", 2)
    keys = [(await create_key(database, [Scope.MERCHANT]))[1] for _ in range(2)]
    await shop.service.services.access.refresh()
    async with shop.watch() as first:
        await first.live()
        async with shop.watch() as again:
            assert again.answer.status == 429
            assert (await again.answer.json(content_type=None))["code"] == "rate_limited"
        async with shop.watch(key=keys[0]) as second, shop.watch(key=keys[1]) as third:
            await second.live()
            assert third.answer.status == 503
            assert (await third.answer.json(content_type=None))["code"] == "busy"
    await _free(shop)


async def test_asking_for_the_head_takes_no_place(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merchant_live, "STREAMS_PER_KEY_MAX", 1)
    for _ in range(2):
        answer = await shop.service.request("HEAD", LIVE, headers={"Authorization": f"Bearer {shop.key}"})
        assert (answer.status, answer.body) == (200, b"")


async def test_a_defect_ends_the_stream_and_is_logged(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    async with shop.watch() as stream:
        await stream.live()
        monkeypatch.setattr(merchant_live, "lines_of", broken)
        await stream.rest()
    assert "sampler_failed" in capsys.readouterr().out
    monkeypatch.undo()
    async with shop.watch() as again:
        await again.live()


async def _free(shop: Shop) -> None:
    """A stream that was left makes room for another."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with shop.watch() as stream:
                if stream.answer.status == 200:
                    return
            await asyncio.sleep(0.02)


async def test_a_reader_who_does_not_read_is_dropped(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merchant_live, "UNREAD_MAX_S", 0.05)
    monkeypatch.setattr(merchant_live, "BEAT_S", 0)
    monkeypatch.setattr(merchant_live, "LiveView", _heavy)
    monkeypatch.setattr(merchant_live, "STREAMS_PER_KEY_MAX", 1)
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.setblocking(False)
    with lazy:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(lazy, ("127.0.0.1", shop.service.port))
        await loop.sock_sendall(lazy, f"GET {LIVE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shop.key}\r\n\r\n".encode())
        assert (await loop.sock_recv(lazy, 12)) == b"HTTP/1.1 200", "it has the only place"
        await _free(shop)


def _heavy(**values: Any) -> LiveView:
    return LiveView(**{**values, "notice": "x" * 500_000})


# ------------------------------------------------------------------------------------------------------------- when parts are away


@pytest.fixture
async def own_shop(fresh_stores: EmbeddedStores, tmp_path: Path) -> AsyncIterator[Shop]:
    """A worker on stores that may be stopped."""
    url = fresh_stores.postgres.url_for(database="live")
    await create_database_if_missing(fresh_stores.postgres.url, "live")
    await migrate(url)
    settings = with_signing_keys(settings_for(fresh_stores.valkey.url, url), tmp_path)
    database = await open_database(settings.postgres)
    async with in_own_task(settings, database) as service:
        await service.open_drop(make_drop())
        key_id, key = await create_key(database, [Scope.MERCHANT])
        await service.services.access.refresh()
        yield Shop(service, key_id, key)
    await database.close()


async def test_without_postgres_everything_else_goes_on(own_shop: Shop, fresh_stores: EmbeddedStores) -> None:
    async with own_shop.watch() as stream:
        assert (await stream.live())["postgres"] == "up"
        await fresh_stores.postgres.stop()
        view = await stream.live(lambda view: view["postgres"] == "away")
        assert view["orders"] is None
        assert view["skus"][0]["available"] == 100


async def test_without_the_store_it_says_so(own_shop: Shop, fresh_stores: EmbeddedStores) -> None:
    async with own_shop.watch() as stream:
        await stream.live()
        await fresh_stores.valkey.stop()
        while (event := await stream.event())[0] != "trouble":
            pass
        assert event[1]["code"] in {"store_unavailable", "unknown"}
        assert event[1]["detail"]


async def test_a_worker_that_stops_ends_its_streams(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> None:
    patient = with_settings(with_signing_keys(settings, tmp_path), http={"shutdown_grace_ms": 3_600_000})
    async with build_services(patient) as services, ClientSession() as client:
        async with serving(services, listen("127.0.0.1", 0)) as port:
            service = Service(services, f"http://127.0.0.1:{port}", port, client, database)
            await service.open_drop(make_drop())
            shop = Shop(service, *await create_key(database, [Scope.MERCHANT]))
            opened = shop.watch()
            stream = await opened.__aenter__()
            await stream.live()
        assert set(await stream.rest()) <= {"live"}
        await opened.__aexit__(None, None, None)
