"""A merchant's drops over HTTP: listed, shown, scheduled, closed, and what is taken home from them."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import ClientPayloadError

from flashsale.access import Scope, create_key
from flashsale.drops import DropCatalog, DropStore
from flashsale.errors import DatabaseUnavailable, StoreUnavailable
from flashsale.model import Group
from flashsale.reports import make_report
from flashsale.resources import resource_dir
from flashsale.web import merchant_reports
from flashsale.web.merchant_drops import MerchantDropView
from tests.integration.command_line import find_by_environment, flashsale
from tests.integration.http_client import Answer, Buyer, Service, in_own_task, make_drop, reconciling, with_signing_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from admission.inlet import LiveDrop
    from admission.report_shapes import DropReport
    from flashsale.connections.database import Database
    from flashsale.orders import Order
    from flashsale.settings import Settings

DROP = "sneaker-x"
DROPS = "/v1/merchant/drops"
NEW: dict[str, Any] = {
    "id": "poster",
    "name": "Poster",
    "currency": "EUR",
    "opens_at": "in 10m",
    "sku": [{"id": "a2", "allotment": 50, "price_minor": 1900}],
}


class Shop:
    """A worker, and the merchant's key."""

    def __init__(self, service: Service, key: str) -> None:
        self.service = service
        self.key = key

    @property
    def live(self) -> LiveDrop:
        live = self.service.services.inlet.get(DROP)
        assert live is not None
        return live

    async def get(self, path: str = "", *, key: str = "") -> Answer:
        return await self.service.as_storefront(DROPS + path, method="GET", key=key or self.key)

    async def post(self, path: str, body: Any = None, *, key: str = "") -> Answer:
        return await self.service.as_storefront(DROPS + path, body, key=key or self.key)

    async def listed(self, query: str = "") -> list[str]:
        return [drop["drop"] for drop in (await self.get(query)).json["drops"]]


@pytest.fixture
async def shop(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    async with in_own_task(with_signing_keys(settings, tmp_path), database) as service:
        _, key = await create_key(database, [Scope.MERCHANT])
        await service.services.access.refresh()
        yield Shop(service, key)


# ----------------------------------------------------------------------------------------------------------------- the list


async def test_the_list_has_the_latest_opening_first_with_units_and_people(shop: Shop) -> None:
    await shop.service.open_drop(make_drop())
    await shop.service.open_drop(make_drop("next-one", opens_in_ms=60_000))
    await Buyer(shop.service, DROP).enter()
    await shop.service.until(lambda: shop.live.snapshot.joined == 1)
    answer = await shop.get()
    assert [drop["drop"] for drop in answer.json["drops"]] == ["next-one", DROP]
    assert answer.json["next"] is None
    assert abs(answer.json["now_ms"] - shop.service.services.clock.now_ms()) < 60_000
    entry = answer.json["drops"][1]
    assert (entry["state"], entry["joined"], entry["allotment"], entry["available"]) == ("open", 1, 103, 103)
    assert (entry["reserved"], entry["sold"], entry["order"]) == (0, 0, "arrival")


async def test_pages_follow_one_another_without_gap_or_repetition(shop: Shop) -> None:
    for number in range(5):
        await shop.service.open_drop(make_drop(f"drop-{number}", opens_in_ms=60_000 * (number // 2 + 1)))
    everything, seen, after = await shop.listed(), [], ""
    while True:
        page = (await shop.get(f"?limit=2{after}")).json
        seen += [drop["drop"] for drop in page["drops"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == everything
    assert len(seen) == 5


async def test_the_list_can_be_of_one_state(shop: Shop) -> None:
    await shop.service.open_drop(make_drop())
    await shop.service.open_drop(make_drop("later", opens_in_ms=60_000))
    assert await shop.listed("?state=open") == [DROP]
    assert await shop.listed("?state=waiting") == ["later"]
    assert await shop.listed("?state=closed") == []


@pytest.mark.parametrize("query", ["?state=nonsense", "?limit=0", "?limit=101", "?limit=x", "?after=x", "?after=1.UPPER", "?color=red"])
async def test_a_malformed_query_is_refused_with_its_field(shop: Shop, query: str) -> None:
    answer = await shop.get(query)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert answer.json["field"] == query[1:].partition("=")[0]


async def test_a_drop_that_the_store_has_lost_is_listed_as_recovering(shop: Shop, store: Redis) -> None:
    await shop.service.open_drop(make_drop())
    await store.flushall()
    await shop.service.until(lambda: shop.live.recovering)
    assert (await shop.get("?state=recovering")).json["drops"][0]["drop"] == DROP


async def test_a_merchant_sees_and_touches_only_their_own(shop: Shop, database: Database, store: Redis) -> None:
    await shop.service.open_drop(make_drop())
    _, stranger = await create_key(database, [Scope.MERCHANT], tenant="another")
    await shop.service.services.access.refresh()
    assert (await shop.get(key=stranger)).json["drops"] == []
    for path in ("", "/live", "/report", "/orders.csv"):
        answer = await shop.get(f"/{DROP}{path}", key=stranger)
        assert (answer.status, answer.code) == (404, "drop_not_found"), path
    assert (await shop.post(f"/{DROP}/close", {"confirm": DROP}, key=stranger)).status == 404
    assert (await shop.service.services.drop_store.inspect(DROP)).state == "open"
    for path in ("", f"/{DROP}", f"/{DROP}/live", f"/{DROP}/report", f"/{DROP}/orders.csv"):
        assert (await shop.get(path, key=shop.service.api_key)).status == 403, "a storefront's key is none of a merchant"
        assert (await shop.get(path, key="fs_live_wrong")).status == 401


# ------------------------------------------------------------------------------------------------------------------ one drop


async def test_a_drop_is_shown_whole(shop: Shop) -> None:
    groups = (Group("vip", "Members", 200),)
    await shop.service.open_drop(make_drop(groups=groups, invites="accepted", description="Once only."))
    view = (await shop.get(f"/{DROP}")).json
    assert set(view) == set(MerchantDropView.__struct_fields__)
    assert (view["name"], view["currency"], view["description"], view["epoch"]) == ("Sneaker X", "EUR", "Once only.", 1)
    assert (view["rate_per_min"], view["capacity"], view["limit_per_shopper"], view["joining"]) == (600_000, 10_000, 3, "open")
    assert view["skus"][0] == {
        "sku": "black-42", "name": "Black 42", "price_minor": 12_000, "limit_per_shopper": 2,
        "allotment": 100, "available": 100, "reserved": 0, "sold": 0, "draining": 0,
    }  # fmt: skip
    assert view["groups"] == [{"group": "vip", "name": "Members", "share_permille": 200, "joined": 0, "waiting": 0, "serving_number": 0}]


async def test_closing_takes_the_drops_id_once_more(shop: Shop) -> None:
    await shop.service.open_drop(make_drop())
    for body in ({}, {"confirm": ""}, {"confirm": "sneaker-y"}, {"confirm": DROP, "more": 1}):
        refused = await shop.post(f"/{DROP}/close", body)
        assert (refused.status, refused.code) == (400, "bad_request")
    assert (await shop.service.services.drop_store.inspect(DROP)).state == "open"
    for outcome in ("closed", "replayed"):
        answer = await shop.post(f"/{DROP}/close", {"confirm": DROP})
        assert (answer.status, answer.json) == (200, {"drop": DROP, "outcome": outcome, "state": "closed"})
    assert (await shop.service.services.drop_store.inspect(DROP)).state == "closed"


# ---------------------------------------------------------------------------------------------------------------- a new drop


async def test_a_drop_is_scheduled_once_and_is_the_tenants(shop: Shop, database: Database) -> None:
    now_ms = shop.service.services.clock.now_ms()
    body = {**NEW, "opens_at": datetime.fromtimestamp(now_ms / 1000 + 3600, UTC).isoformat()}
    created = await shop.post("", body)
    assert (created.status, created.json) == (201, {"drop": "poster", "outcome": "created", "in_store": True})
    assert created.headers["Location"] == f"{DROPS}/poster"
    again = await shop.post("", body)
    assert (again.status, again.json["outcome"]) == (200, "existed")
    assert (await shop.get("/poster")).json["skus"][0]["available"] == 50
    other = await shop.post("", {**body, "name": "Another"})
    assert (other.status, other.code) == (409, "drop_exists")
    _, stranger = await create_key(database, [Scope.MERCHANT], tenant="another")
    await shop.service.services.access.refresh()
    assert (await shop.post("", {**body, "id": "theirs"}, key=stranger)).status == 201
    assert (await DropCatalog(database, shop.service.services.drop_store).get("theirs")).drop.tenant == "another"


async def test_a_drop_that_existed_is_told_so_while_the_store_is_away(
    shop: Shop, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable(what="The store cannot be reached.")

    monkeypatch.setattr(DropStore, "open", away)
    find_by_environment(settings, tmp_path, monkeypatch)
    opens_at = datetime.fromtimestamp(shop.service.services.clock.now_ms() // 1000 + 3600, UTC).isoformat()
    file = tmp_path / "poster.toml"
    file.write_text(
        f'name = "Poster"\ncurrency = "EUR"\nid = "poster"\nopens_at = {opens_at}\n[[sku]]\nid = "a2"\nallotment = 50\nprice_minor = 1900\n'
    )
    body = {**NEW, "opens_at": opens_at}
    created, again = await shop.post("", body), await shop.post("", body)
    assert (created.status, created.json) == (201, {"drop": "poster", "outcome": "created", "in_store": False})
    assert (again.status, again.json) == (200, {"drop": "poster", "outcome": "existed", "in_store": False})
    by_command = (await flashsale("drop", "create", str(file), "--json")).json
    assert (by_command["outcome"], by_command["in_store"]) == ("existed", False)


async def test_a_drop_file_can_be_sent_as_it_is(shop: Shop) -> None:
    text = (resource_dir("config") / "drops" / "trial.toml").read_text(encoding="utf-8")
    headers = {"Authorization": f"Bearer {shop.key}", "Content-Type": "text/x-toml"}
    answer = await shop.service.request("POST", DROPS, data=text.encode(), headers=headers)
    assert (answer.status, answer.json["drop"]) == (201, "trial")
    bad = await shop.service.request("POST", DROPS, data=b'name = "x\n', headers=headers)
    assert (bad.status, bad.json["problems"][0]["line"]) == (400, 1)
    assert (await shop.service.request("POST", DROPS, data=b"\xff", headers=headers)).status == 400


async def test_every_problem_of_a_drop_is_told_at_once(shop: Shop, database: Database) -> None:
    answer = await shop.post("", {"id": "Poster!", "currency": "EUR", "opens_at": "soon", "colour": "red", "sku": [{"id": "a2"}]})
    assert (answer.status, answer.code) == (400, "bad_request")
    keys = {one["key"] for one in answer.json["problems"]}
    assert {"id", "name", "opens_at", "colour", "sku[0].allotment", "sku[0].price_minor"} <= keys
    assert answer.json["field"] in keys
    assert "line" not in answer.json["problems"][0], "JSON has none to speak of"
    assert await DropCatalog(database, shop.service.services.drop_store).list() == []


@pytest.mark.parametrize("body", [[], "text", None, {"sku": 5}, {"id": 5}], ids=str)
async def test_what_is_no_drop_is_refused(shop: Shop, body: Any) -> None:
    answer = await shop.service.post(DROPS, headers={"Authorization": f"Bearer {shop.key}"}, data=None) if body is None else None
    answer = answer or await shop.post("", body)
    assert answer.status in {400, 415}


# ------------------------------------------------------------------------------------------------------------- to take home


async def test_the_report_is_the_commands(shop: Shop, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.service.open_drop(make_drop())
    await Buyer(shop.service, DROP).enter()
    await shop.post(f"/{DROP}/close", {"confirm": DROP})
    answer = await shop.get(f"/{DROP}/report")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    find_by_environment(settings, tmp_path, monkeypatch)
    by_command = (await flashsale("drop", "report", DROP, "--json")).json
    by_http = answer.json
    for told in (by_command, by_http):
        told.pop("made_at_ms")
    assert by_http == by_command
    assert by_http["final"] is True


async def test_a_report_that_took_long_to_make_is_made_once_for_all_who_wait(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.service.open_drop(make_drop())
    clock, makings = shop.service.services.clock, 0
    now_s = clock.monotonic()

    async def making_long(*given: Any) -> DropReport:
        nonlocal now_s, makings
        makings += 1
        now_s += 60
        return await make_report(*given)

    monkeypatch.setattr(merchant_reports, "make_report", making_long)
    monkeypatch.setattr(type(clock), "monotonic", lambda _self: now_s)
    answers = await asyncio.gather(*(shop.get(f"/{DROP}/report") for _ in range(3)))
    assert ([answer.status for answer in answers], makings) == ([200] * 3, 1)
    now_s += merchant_reports.FRESH_FOR_S + 1
    await shop.get(f"/{DROP}/report")
    assert makings == 2


async def test_the_reports_page_lets_nothing_else_in(shop: Shop) -> None:
    await shop.service.open_drop(make_drop(name='<script>alert("x")</script>'))
    answer = await shop.get(f"/{DROP}/report?format=html")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "style-src 'sha256-" in policy
    assert "frame-ancestors 'none'" in policy
    assert b"<script" not in answer.body
    assert b" style=" not in answer.body, "the policy would not let it apply"
    assert (await shop.get(f"/{DROP}/report?format=pdf")).json["field"] == "format"


async def test_orders_are_a_table_that_spreadsheets_read(
    shop: Shop, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.service.open_drop(make_drop())
    order_id = await _pay(shop, settings, "=cmd|A1")
    answer = await shop.get(f"/{DROP}/orders.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{DROP}-orders.csv"'
    [row] = csv.DictReader(io.StringIO(answer.body.decode()))
    assert (row["order_id"], row["state"], row["items"]) == (order_id, "paid", "black-42 x 2; white-42 x 1")
    assert row["payment_reference"] == "'=cmd|A1", "nothing that a spreadsheet would run"
    assert row["reserved_at"].endswith("Z")
    find_by_environment(settings, tmp_path, monkeypatch)
    assert (await flashsale("drop", "orders", DROP)).out.splitlines() == answer.body.decode().splitlines()
    [line] = (await flashsale("drop", "orders", DROP, "--json")).out.splitlines()
    assert msgspec.json.decode(line)["payment_reference"] == "=cmd|A1"


async def test_a_long_table_has_every_order(shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashsale.web.merchant_reports.PAGE_MAX", 2)
    await shop.service.open_drop(make_drop())
    ids = set()
    for _ in range(5):
        buyer = Buyer(shop.service, DROP)
        await buyer.enter()
        ids.add((await buyer.reserve()).json["id"])
    async with reconciling(settings, shop.service.database, shop.service.services):
        rows: list[dict[str, str]] = []
        while len(rows) < 5:
            rows = list(csv.DictReader(io.StringIO((await shop.get(f"/{DROP}/orders.csv")).body.decode())))
    assert {row["order_id"] for row in rows} == ids


async def test_a_table_that_breaks_off_does_not_look_whole(shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.service.open_drop(make_drop())
    await _pay(shop, settings, "pay-1")
    orders = shop.service.services.orders
    first_page = await orders.page(DROP, "", 100)

    async def breaking(_drop_id: str, after: str, limit: int) -> list[Order]:
        if after:
            raise DatabaseUnavailable(what="Postgres cannot be reached.")
        return first_page[:limit]

    monkeypatch.setattr(orders, "page", breaking)
    with pytest.raises(ClientPayloadError):
        await shop.get(f"/{DROP}/orders.csv")


async def _pay(shop: Shop, settings: Settings, reference: str) -> str:
    """A shopper buys three units; the order's id, once it is in Postgres."""
    buyer = Buyer(shop.service, DROP)
    await buyer.enter()
    reservation = (await buyer.reserve({"black-42": 2, "white-42": 1})).json
    async with reconciling(settings, shop.service.database, shop.service.services):
        body = {"payment_reference": reference, "amount_minor": reservation["amount_minor"]}
        paid = await shop.service.as_storefront(f"/v1/reservations/{reservation['id']}/confirm", body)
        assert paid.status == 200
    return str(reservation["id"])


async def test_the_orders_of_a_drop_nobody_knows(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Redis) -> None:
    find_by_environment(settings, tmp_path, monkeypatch)
    done = await flashsale("drop", "orders", "no-such-drop")
    assert (done.code, done.out) == (4, "")
