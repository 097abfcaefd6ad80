"""A merchant steers a drop over HTTP while it is on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flashsale.access import Scope, create_key
from flashsale.keys import drop_keys
from tests.integration.http_client import Answer, Buyer, Service, in_own_task, make_drop, with_signing_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from admission.inlet import LiveDrop
    from flashsale.connections.database import Database
    from flashsale.settings import Settings

DROP = "sneaker-x"
ROUTES: dict[str, Any] = {
    "pause": None,
    "resume": None,
    "rate": {"rate_per_min": 77},
    "capacity": {"capacity": 88},
    "message": {"message": "Size 42 is nearly gone."},
    "joining": {"open": False},
    "signal": {"factor": 0.5, "ttl_s": 60},
}


class Shop:
    """A worker, and the merchant's key."""

    def __init__(self, service: Service, key: str) -> None:
        self.service = service
        self.key = key

    async def tell(self, what: str, body: Any = ..., *, key: str | None = None) -> Answer:
        path = f"/v1/merchant/drops/{DROP}/{what}"
        return await self.service.as_storefront(path, ROUTES[what] if body is ... else body, key=self.key if key is None else key)

    @property
    def live(self) -> LiveDrop:
        live = self.service.services.inlet.get(DROP)
        assert live is not None
        return live


@pytest.fixture
async def shop(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    async with in_own_task(with_signing_keys(settings, tmp_path), database) as service:
        _, key = await create_key(database, [Scope.MERCHANT])
        await service.services.access.refresh()
        yield Shop(service, key)


async def test_what_is_told_is_so_at_once_and_again(shop: Shop) -> None:
    await shop.service.open_drop(make_drop())
    for what in ("rate", "capacity", "message", "signal"):
        for _ in range(2):
            answer = await shop.tell(what)
            assert (answer.status, answer.json) == (200, {"drop": DROP, "outcome": "done", "state": "open"})
    await shop.service.until(lambda: shop.live.snapshot.signal_permille == 500)
    assert (shop.live.snapshot.rate_per_min, shop.live.snapshot.capacity) == (77, 88)
    document = (await shop.service.get(f"/v1/drops/{DROP}/serving")).json
    assert (document["notice"], document["rate_per_min"]) == ("Size 42 is nearly gone.", 77)
    assert (await shop.tell("message", {"message": ""})).status == 200
    await shop.service.until(lambda: not shop.live.snapshot.notice)


async def test_a_paused_drop_keeps_everybodys_place(shop: Shop) -> None:
    await shop.service.open_drop(make_drop())
    buyer = Buyer(shop.service, DROP)
    await buyer.join()
    told = [(await shop.tell(what)).json for what in ("pause", "pause", "resume", "resume")]
    assert [(one["outcome"], one["state"]) for one in told] == [
        ("done", "paused"),
        ("unchanged", "paused"),
        ("done", "open"),
        ("unchanged", "open"),
    ]
    assert (await shop.tell("pause")).status == 200
    assert (await buyer.admit()).code == "paused"
    assert (await shop.tell("resume")).status == 200
    await buyer.be_admitted()


async def test_joining_is_closed_to_newcomers_only(shop: Shop) -> None:
    await shop.service.open_drop(make_drop())
    there, newcomer = Buyer(shop.service, DROP), Buyer(shop.service, DROP)
    await there.join()
    assert (await shop.tell("joining")).status == 200
    refused = await newcomer.join()
    assert (refused.status, refused.code) == (409, "joining_closed")
    assert (await there.join()).status == 200
    assert (await shop.tell("joining", {"open": True})).status == 200
    assert (await newcomer.join()).status == 201


async def test_what_cannot_be_told_now_is_refused_by_state(shop: Shop) -> None:
    await shop.service.open_drop(make_drop(opens_in_ms=60_000))
    early = await shop.tell("pause")
    assert (early.status, early.code) == (409, "not_open")
    assert early.json["opens_at_ms"] == shop.live.snapshot.opens_at_ms
    await shop.service.services.drop_store.close(DROP)
    for what in ("pause", "resume", "rate", "capacity"):
        assert (await shop.tell(what)).code == "closed"


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("rate", {"rate_per_min": 0}),
        ("rate", {"rate_per_min": 1_000_001}),
        ("rate", {"rate_per_min": 1.5}),
        ("rate", {"rate_per_min": 5, "more": 1}),
        ("rate", {}),
        ("capacity", {"capacity": 0}),
        ("capacity", {"capacity": "9"}),
        ("message", {"message": "x" * 201}),
        ("message", {"message": "two\nlines"}),
        ("message", {"message": None}),
        ("joining", {"open": 1}),
        ("joining", {}),
        ("signal", {"factor": 1.1, "ttl_s": 60}),
        ("signal", {"factor": -0.1, "ttl_s": 60}),
        ("signal", {"factor": 0.5, "ttl_s": 0}),
        ("signal", {"factor": 0.5, "ttl_s": 3601}),
        ("signal", {"factor": 0.5}),
    ],
    ids=str,
)
async def test_what_is_malformed_changes_nothing(shop: Shop, store: Redis, what: str, body: dict[str, Any]) -> None:
    await shop.service.open_drop(make_drop(opens_in_ms=60_000))
    rules = await _rules(store)
    answer = await shop.tell(what, body)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert answer.json["field"]
    assert await _rules(store) == rules


async def _rules(store: Redis) -> list[Any]:
    return list(await store.hmget(drop_keys(DROP).drop, ["rate_per_min", "capacity", "notice", "joining", "signal", "signal_until_ms"]))


async def test_only_who_may_can_tell_a_drop_anything(shop: Shop, store: Redis, database: Database) -> None:
    await shop.service.open_drop(make_drop(opens_in_ms=60_000))
    _, stranger = await create_key(database, [Scope.MERCHANT], tenant="another")
    await shop.service.services.access.refresh()
    rules = await _rules(store)
    routes = {**ROUTES, f"tickets/{DROP}.t{'A' * 22}/remove": {"why": "x"}}
    for what, body in routes.items():
        if what != "signal":
            assert (await shop.tell(what, body, key=shop.service.api_key)).code == "forbidden"
        assert (await shop.tell(what, body, key="fs_live_nonsense")).code == "unauthorized"
        assert (await shop.tell(what, body, key=stranger)).code == "drop_not_found"
    assert await _rules(store) == rules
    assert (await shop.tell("signal", key=shop.service.api_key)).status == 200, "the storefront says what it can take itself"
