"""Signing in to the merchant console: what a session may do, how long it lasts, and who cannot make use of it."""

from __future__ import annotations

from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from admission.signed_texts import SignedTexts
from admission.tokens import make_signing_keys
from flashsale.access import Scope, create_key, revoke_key
from flashsale.connections.database import create_database_if_missing, open_database
from flashsale.web.console_session import SESSION_LENGTH_MAX, SESSION_TTL_MS, SESSION_TYPE
from reconciler.migrations import migrate
from tests.integration.http_client import Answer, Service, in_own_task, make_drop, running_service, with_settings, with_signing_keys
from tests.stores import settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from flashsale.connections.database import Database
    from flashsale.embedded.stores import EmbeddedStores
    from flashsale.settings import Settings

DROP = "sneaker-x"
PAUSE, SHOW = f"/v1/merchant/drops/{DROP}/pause", f"/v1/merchant/drops/{DROP}"


class Console:
    """A browser with the console's page open."""

    def __init__(self, service: Service, key_id: str, key: str) -> None:
        self.service = service
        self.key_id = key_id
        self.key = key
        self.cookie = ""

    @property
    def origin(self) -> str:
        return self.service.url

    async def sign_in(self, key: str | None = None, **headers: str) -> Answer:
        body = {"key": self.key if key is None else key}
        answer = await self.service.post("/console/session", body, headers={"Origin": self.origin, **headers})
        if "Set-Cookie" in answer.headers:
            [morsel] = SimpleCookie(answer.headers["Set-Cookie"]).values()
            self.cookie = f"{morsel.key}={morsel.value}"
        return answer

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.service.request(method, path, json=body, headers={"Cookie": self.cookie, **headers})


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    async with in_own_task(with_signing_keys(settings, tmp_path), database) as running:
        await running.open_drop(make_drop())
        yield running


@pytest.fixture
async def console(service: Service) -> Console:
    return await console_of(service)


async def console_of(service: Service, **options: Any) -> Console:
    """One for whom there is a key with the merchant's scope."""
    key_id, key = await create_key(service.database, [Scope.MERCHANT], **options)
    await service.services.access.refresh()
    return Console(service, key_id, key)


async def test_a_session_stands_for_the_key_and_does_not_hold_it(console: Console) -> None:
    signed_in = await console.sign_in()
    assert signed_in.status == 200
    assert (signed_in.json["tenant"], signed_in.json["scopes"]) == ("default", ["merchant"])
    assert 0 < signed_in.json["expires_at_ms"] - console.service.services.clock.now_ms() <= SESSION_TTL_MS
    set_cookie = signed_in.headers["Set-Cookie"]
    assert console.key not in set_cookie
    assert console.key.rpartition("_")[2] not in set_cookie
    assert {"HttpOnly", "Path=/", "SameSite=Strict"} <= {part.strip() for part in set_cookie.split(";")}
    assert "Secure" not in set_cookie, "this request came by plain http"
    shown = await console.ask("GET", "/console/session")
    assert (shown.status, shown.json) == (200, signed_in.json)
    assert (await console.ask("GET", SHOW)).json["drop"] == DROP
    assert (await console.ask("POST", PAUSE, Origin=console.origin)).json["state"] == "paused"


async def test_by_https_the_cookie_is_for_this_host_and_for_https_only(
    settings: Settings, store: Redis, database: Database, tmp_path: Path
) -> None:
    settings = with_settings(with_signing_keys(settings, tmp_path), http={"trusted_proxies": ["127.0.0.0/8"]})
    async with running_service(settings, database) as service:
        console = await console_of(service)
        by_https = {"X-Forwarded-Proto": "https", "Origin": service.url.replace("http:", "https:")}
        answer = await console.sign_in(**by_https)
        assert answer.headers["Set-Cookie"].startswith("__Host-flashsale-console=")
        assert "Secure" in answer.headers["Set-Cookie"]
        assert (await console.ask("GET", "/console/session", **by_https)).status == 200
        planted = console.cookie.removeprefix("__Host-")
        refused = await service.get("/console/session", headers={"Cookie": planted, **by_https})
        assert refused.status == 401, "a cookie that a neighbour could have set does not count"
        assert (await console.sign_in(**{**by_https, "Origin": service.url})).status == 403, "a page without https is another origin"


async def test_a_proxy_that_is_not_ours_does_not_say_what_is_https(console: Console) -> None:
    answer = await console.sign_in(**{"X-Forwarded-Proto": "https"})
    assert "Secure" not in answer.headers["Set-Cookie"]


async def test_neither_key_nor_session_is_in_the_log(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    await console.sign_in()
    await console.sign_in("fs_live_AAAAAAAAAAAA_" + "B" * 43)
    await console.ask("POST", PAUSE, Origin=console.origin)
    shown = capsys.readouterr()
    logged = shown.out + shown.err
    assert f"key_id={console.key_id}" in logged, "this is the log"
    for secret in (console.key, console.key.rpartition("_")[2], "B" * 43, console.cookie.partition("=")[2]):
        assert secret not in logged


@pytest.mark.parametrize("key", ["", "fs_live_nonsense", "fs_live_AAAAAAAAAAAA_" + "A" * 43])
async def test_a_wrong_key_begins_nothing(console: Console, key: str) -> None:
    answer = await console.sign_in(key)
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert "Set-Cookie" not in answer.headers


async def test_a_storefronts_key_does_not_open_the_console(console: Console) -> None:
    answer = await console.sign_in(console.service.api_key)
    assert (answer.status, answer.code) == (403, "forbidden")


async def test_wrong_keys_are_counted_and_a_right_one_is_always_taken(
    settings: Settings, store: Redis, database: Database, tmp_path: Path
) -> None:
    settings = with_settings(with_signing_keys(settings, tmp_path), http={"rate_per_s": 0.01, "rate_burst": 3, "rate_exempt": []})
    async with running_service(settings, database) as service:
        console = await console_of(service)
        codes = [(await console.sign_in("fs_live_AAAAAAAAAAAA_" + "A" * 43)).code for _ in range(5)]
        assert codes[0] == "unauthorized"
        assert codes[-1] == "rate_limited"
        assert (await console.sign_in()).status == 200, "who has a key is not held up by who guesses"


async def test_revoking_the_key_ends_its_sessions(console: Console, database: Database) -> None:
    await console.sign_in()
    await revoke_key(database, console.key_id)
    await console.service.services.access.refresh()
    for method, path in (("GET", "/console/session"), ("GET", SHOW), ("POST", PAUSE)):
        answer = await console.ask(method, path, Origin=console.origin)
        assert (answer.status, answer.code) == (401, "unauthorized")


async def test_a_session_ends_with_its_key(service: Service) -> None:
    ends_at_ms = service.services.clock.now_ms() + 60_000
    console = await console_of(service, expires_at_ms=ends_at_ms)
    assert (await console.sign_in()).json["expires_at_ms"] <= ends_at_ms


async def test_a_session_that_is_over_or_not_ours_is_nobodys(console: Console) -> None:
    keys = console.service.services.console_sessions._texts
    now_s = console.service.services.clock.now_ms() // 1000

    def cookie(texts: SignedTexts, ends_at_s: int) -> str:
        claims = msgspec.json.encode({"sub": console.key_id, "iat": now_s - 60, "exp": ends_at_s})
        return f"flashsale-console={texts.sign(claims)}"

    others = SignedTexts(make_signing_keys(1), SESSION_TYPE, SESSION_LENGTH_MAX)
    genuine = cookie(keys, now_s + 60)
    assert (await console.service.get("/console/session", headers={"Cookie": genuine})).status == 200
    for bad in (
        cookie(keys, now_s - 1),
        cookie(others, now_s + 60),
        genuine[:-4] + "AAAA",
        "flashsale-console=",
        "flashsale-console=a.b.c",
    ):
        answer = await console.service.get(SHOW, headers={"Cookie": bad})
        assert (answer.status, answer.code) == (401, "unauthorized"), bad


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://shop.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
async def test_another_page_cannot_make_use_of_a_session(console: Console, headers: dict[str, str]) -> None:
    await console.sign_in()
    refused = await console.ask("POST", PAUSE, **headers)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert (await console.ask("DELETE", "/console/session", **headers)).status == 403
    live = console.service.services.inlet.get(DROP)
    assert live is not None
    inspection = await console.service.services.drop_store.inspect(DROP)
    assert inspection.state == "open"


async def test_the_consoles_own_page_may_by_either_header(console: Console) -> None:
    await console.sign_in()
    assert (await console.ask("POST", PAUSE, **{"Sec-Fetch-Site": "same-origin"})).status == 200
    assert (await console.ask("POST", PAUSE, Origin=console.origin)).status == 200


async def test_a_foreign_page_cannot_sign_anybody_in(console: Console) -> None:
    for headers in ({"Origin": "https://shop.example"}, {"Sec-Fetch-Site": "cross-site"}):
        refused = await console.sign_in(**headers)
        assert (refused.status, refused.code) == (403, "forbidden")


async def test_the_session_is_for_the_merchants_routes_only(console: Console) -> None:
    await console.sign_in()
    assert (await console.ask("GET", f"/v1/orders?drop={DROP}")).status == 401


async def test_a_key_counts_more_than_the_cookie(console: Console) -> None:
    await console.sign_in()
    assert (await console.ask("GET", SHOW, Authorization="Bearer fs_live_wrong")).status == 401


async def test_signing_out_takes_the_cookie_away(console: Console) -> None:
    await console.sign_in()
    gone = await console.ask("DELETE", "/console/session", Origin=console.origin)
    assert gone.status == 204
    assert "Max-Age=0" in gone.headers["Set-Cookie"]
    assert (await console.service.get("/console/session")).status == 401


async def test_a_session_works_while_postgres_is_away(fresh_stores: EmbeddedStores, tmp_path: Path) -> None:
    url = fresh_stores.postgres.url_for(database="console")
    await create_database_if_missing(fresh_stores.postgres.url, "console")
    await migrate(url)
    settings = with_signing_keys(settings_for(fresh_stores.valkey.url, url), tmp_path)
    database = await open_database(settings.postgres)
    async with running_service(settings, database) as service:
        await service.open_drop(make_drop())
        console = await console_of(service)
        await console.sign_in()
        await fresh_stores.postgres.stop()
        assert (await console.ask("GET", "/console/session")).status == 200
        assert (await console.ask("GET", "/v1/merchant/drops")).json["drops"][0]["drop"] == DROP
        assert (await console.ask("POST", PAUSE, Origin=console.origin)).json["state"] == "paused"
        assert (await console.sign_in()).status == 200, "the key is known, too"
        refused = await console.ask("GET", f"/v1/merchant/drops/{DROP}/orders.csv")
        assert (refused.status, refused.code) == (503, "database_unavailable")
    await database.close()
