"""The pages and files for browsers: strict headers, lasting addresses, and no way to anywhere but the shop."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest
from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.model import Sku
from flashsale.settings import Settings
from tests.integration.http_client import Answer, Service, in_own_task, make_drop, with_signing_keys

BACK = "https://shop.example/launch"
ROOM = "flash-sale-room.js"


@pytest.fixture(scope="module")
def keys_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, keys_folder: Path) -> AsyncIterator[Service]:
    async with in_own_task(with_signing_keys(settings, keys_folder), database) as running:
        yield running


def text_of(page: Answer) -> str:
    assert page.headers["Content-Type"] == "text/html; charset=utf-8", page.body
    return page.body.decode()


# ---------------------------------------------------------------------------------------------------------------- headers


PAGES = ("/", "/verify-draw", "/drops/sneaker-x", "/drops/sneaker-x/line", "/drops/none-such", "/drops/none-such/line")


async def test_every_page_has_the_same_strict_headers(service: Service) -> None:
    await service.open_drop(make_drop())
    for path in PAGES:
        await check_page(service, path)


async def check_page(service: Service, path: str) -> None:
    page = await service.get(path)
    policy = {name: rest for name, _, rest in (part.strip().partition(" ") for part in page.headers["Content-Security-Policy"].split(";"))}
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert "*" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] in {"same-origin", "no-referrer"}
    assert page.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in page.headers
    text = text_of(page)
    assert '<html lang="en"' in text
    assert not re.search(r"<[^>]+\s(style|on\w+)=", text)
    if path != "/verify-draw":
        assert not re.search(r"<(script|style)[^>]*>[^<]", text), "what stands in the page is not let run"


async def test_text_of_a_merchant_is_text(service: Service) -> None:
    await service.open_drop(make_drop(name="Sneaker <X>", description='<img src=x onerror="alert(1)">'))
    for path in ("/", "/drops/sneaker-x", "/drops/sneaker-x/line"):
        text = text_of(await service.get(path))
        assert "Sneaker &lt;X&gt;" in text
        assert "<img src=x" not in text


# -------------------------------------------------------------------------------------------------------- the waiting page


async def test_the_waiting_page_holds_the_widget_its_picture_and_a_way_without_javascript(service: Service) -> None:
    media = "https://cdn.shop.example:8443/a.webp?b=1&c=2"
    await service.open_drop(make_drop(skus=(Sku("a", "A", 5, 100, 1, media), Sku("b", "B", 5, 100, 1, "https://other.example/b.webp"))))
    page = await service.get("/drops/sneaker-x", headers={"Accept-Language": "de-CH, en;q=0.5"})
    text = text_of(page)
    assert '<flash-sale-room drop="sneaker-x" lang="de">' in text
    assert "Auswählen und reservieren" in text
    assert 'src="https://cdn.shop.example:8443/a.webp?b=1&amp;c=2"' in text
    assert "img-src 'self' data: https://cdn.shop.example:8443;" in page.headers["Content-Security-Policy"]
    assert text.count('href="/drops/sneaker-x/line"') >= 2, "in the fallback of the widget, and for browsers without scripts"
    assert re.search(r'<noscript>.*href="/drops/sneaker-x/line"', text)
    for address in re.findall(r'(?:src|href)="(/assets/[^"]+)"', text):
        assert (await service.get(address)).headers["Cache-Control"] == "public, max-age=31536000, immutable"


LANGUAGES = (
    ("", "en"),
    ("ja", "ja"),
    ("pt-BR,fr;q=0.7,en;q=0.3", "fr"),
    ("en;q=0,ar", "ar"),
    ("*", "en"),
    ("x" * 4000, "en"),
    ("de;q=0.2,en", "en"),
)


async def test_the_waiting_room_speaks_the_shoppers_language(service: Service) -> None:
    await service.open_drop(make_drop())
    for accepted, language in LANGUAGES:
        page = text_of(await service.get("/drops/sneaker-x", headers={"Accept-Language": accepted}))
        assert f' lang="{language}">' in page, accepted[:40]


async def test_a_shopper_goes_back_to_the_shop_and_nowhere_else(service: Service) -> None:
    await service.open_drop(make_drop(return_urls=(BACK,)))
    for wanted, to in ((None, BACK), (f"{BACK}/a?b=c&d=e", f"{BACK}/a?b=c&d=e")):
        for path in ("/drops/sneaker-x", "/drops/sneaker-x/line"):
            page = await service.get(path, params={} if wanted is None else {"return": wanted})
            assert page.status == 200
            if path == "/drops/sneaker-x":
                assert f'data-to="{to}"' in unescape(text_of(page))
    for evil in (
        "https://evil.example/",
        "javascript:alert(1)",
        "https://shop.example@evil.example/launch",
        "//evil.example",
        f"{BACK}er",
        "",
    ):
        for path in ("/drops/sneaker-x", "/drops/sneaker-x/line"):
            page = await service.get(path, params={"return": evil})
            assert page.status == 400
            assert "does not belong" in text_of(page)
            assert "evil" not in text_of(page)
            assert "Location" not in page.headers


async def test_a_drop_without_a_shop_goes_on_here(service: Service) -> None:
    await service.open_drop(make_drop())
    text = text_of(await service.get("/drops/sneaker-x"))
    assert 'id="back"' not in text
    assert 'name="step" value="adopt"' in text
    assert (await service.get("/drops/sneaker-x", params={"return": BACK})).status == 400


async def test_an_unknown_drop_is_told_in_words(service: Service) -> None:
    for path in ("/drops/none-such", "/drops/none-such/line", "/drops/NONE"):
        page = await service.get(path)
        assert page.status == 404
        assert "There is no such drop" in text_of(page)
        assert 'href="/"' in text_of(page)


# ------------------------------------------------------------------------------------------------------------------- files


async def test_files_have_a_short_address_and_one_that_lasts(service: Service) -> None:
    listed = (await service.get("/assets/integrity.json")).json
    assert {ROOM, "verify-draw.js", "outlook.js", "languages/de.json"} <= set(listed)
    assert "flash-sale-room.d.ts" not in listed
    for name, told in listed.items():
        short, lasting = await service.get(f"/assets/{name}"), await service.get(told["path"])
        assert short.body == lasting.body
        assert told["integrity"] == "sha384-" + base64.b64encode(hashlib.sha384(short.body).digest()).decode()
        assert short.headers["Cache-Control"] == "no-cache"
        assert lasting.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        for answer in (short, lasting):
            assert answer.headers.getall("Access-Control-Allow-Origin") == ["*"]  # type: ignore[attr-defined]
            assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


async def test_what_a_file_loads_beside_it_is_in_the_same_edition(service: Service) -> None:
    listed = (await service.get("/assets/integrity.json")).json
    base = listed[ROOM]["path"].removesuffix(ROOM)
    assert {listed[name]["path"] for name in ("languages/ar.json", "verify-draw.js")} == {
        base + "languages/ar.json",
        base + "verify-draw.js",
    }


async def test_a_page_from_before_an_update_still_works(service: Service) -> None:
    old = await service.get(f"/assets/0123456789abcdef/{ROOM}")
    assert (old.status, old.headers["Cache-Control"]) == (200, "no-cache")


async def test_a_file_is_not_sent_twice_and_is_sent_small(service: Service) -> None:
    async with service.client.get(f"{service.url}/assets/{ROOM}", headers={"Accept-Encoding": "identity"}) as plain:
        body = await plain.read()
        assert "Content-Encoding" not in plain.headers
    service.client._auto_decompress = False
    small = await service.get(f"/assets/{ROOM}", headers={"Accept-Encoding": "br, gzip;q=0.8"})
    assert (small.headers["Content-Encoding"], small.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(small.body) == body
    assert small.headers["ETag"] != plain.headers["ETag"]
    for refused in ("gzip;q=0", "br", "xgzip"):
        assert "Content-Encoding" not in (await service.get(f"/assets/{ROOM}", headers={"Accept-Encoding": refused})).headers
    again = await service.get(f"/assets/{ROOM}", headers={"Accept-Encoding": "gzip", "If-None-Match": small.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


async def test_nothing_else_is_a_file(service: Service) -> None:
    for name in ("..%2Fopenapi.yaml", "none.js", "languages/none.json", "languages/..%2Foutlook.js", "x/y/z.js", "flash-sale-room.d.ts"):
        assert (await service.get(f"/assets/{name}")).code == "not_found", name
