"""The entrance in a real browser: from the shop's door through the waiting page and back in, and what is said when that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.settings import Settings
from flashsale.verify import Admission, AdmissionVerifier, Door
from flashsale.verify.aiohttp import ADMISSION, admission_middleware
from flashsale.verify.door import COOKIE
from tests.browser.chromium import MISSING, launch, provide_chromium
from tests.connectors.door_stage import running_shop, with_vector_keys
from tests.connectors.vector_file import DROP, GOOD, JWKS, NOW_S
from tests.integration.http_client import Service, in_own_task, make_drop
from tests.vectors.make_admission_tokens import STRANGER, Maker

MAKE = Maker(NOW_S)
NOT_GENUINE = MAKE.token(STRANGER)
NO_COOKIES = "Object.defineProperty(Document.prototype, 'cookie', {get: () => '', set() {}})"


@dataclass(slots=True)
class Visit:
    """A shop with a door, and a person's browser."""

    shop: str
    person: BrowserContext
    complaints: list[str] = field(default_factory=list)

    async def open(self, address: str) -> Page:
        page = await self.person.new_page()
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await page.goto(self.shop + address)
        return page

    async def kept(self) -> str | None:
        """The token the browser keeps for the shop."""
        cookies = {cookie.get("name"): cookie.get("value") for cookie in await self.person.cookies(self.shop)}
        return cookies.get(COOKIE)


@asynccontextmanager
async def visiting(browser: Browser, door: Door) -> AsyncIterator[Visit]:
    """A person before a shop with this door; nothing may go wrong in their browser."""
    async with running_shop(show, admission_middleware(door)) as port:
        person = await browser.new_context()
        visit = Visit(f"http://127.0.0.1:{port}", person)
        yield visit
        await person.close()
    assert visit.complaints == []


async def show(request: web.Request) -> web.Response:
    """The shop's every page."""
    admission = request.get(ADMISSION)
    assert isinstance(admission, Admission)
    return web.Response(text=f"<title>Shop</title><p>{admission.subject} at {request.path_qs}", content_type="text/html")


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    executable = provide_chromium()
    if executable is None:
        pytest.skip(MISSING)
    async with async_playwright() as playwright:
        browser = await launch(playwright, executable)
        yield browser
        await browser.close()


@pytest.fixture
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    async with visiting(browser, Door(verifier=AdmissionVerifier(jwks=JWKS))) as visit:
        yield visit


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    async with in_own_task(with_vector_keys(settings, tmp_path), database) as running:
        yield running


async def test_a_shopper_waits_is_let_in_and_gets_what_was_wanted(service: Service, browser: Browser) -> None:
    verifier = AdmissionVerifier(jwks_url=f"{service.url}/.well-known/jwks.json", drop=DROP)
    waiting_page = f"{service.url}/drops/{DROP}"
    async with visiting(browser, Door(verifier=verifier, waiting_page=waiting_page)) as visit:
        await service.open_drop(make_drop(DROP, return_urls=(f"{visit.shop}/flashsale/enter",)))
        page = await visit.open("/shoes/42?size=44&colour=black%20%26%20white")
        assert page.url.startswith(f"{waiting_page}?return=")
        await page.get_by_role("button").first.click()
        await page.locator("#back").click()
        await page.wait_for_url(f"{visit.shop}/shoes/**")
        assert page.url == f"{visit.shop}/shoes/42?size=44&colour=black%20%26%20white"
        assert f"{DROP}.t" in await page.inner_text("p")
        # And the token is in no address that a step back leads to.
        token = await visit.kept()
        assert token
        await page.go_back()
        assert token not in page.url
        # A token that is not good ends at the waiting page again.
        page = await visit.open(f"/flashsale/enter?to=/cart#flashsale_token={NOT_GENUINE}")
        await page.wait_for_url(f"{waiting_page}**")
        assert await visit.kept() == NOT_GENUINE


@pytest.mark.parametrize(
    ("to", "onwards"),
    [
        ("/cart?x=1#y", "{shop}/cart?x=1#y"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        # The address of another shop, dressed up as a path of this one.
        ("/.//evil.example/x", "{shop}//evil.example/x"),
        ("{shop}//evil.example/x", "{shop}//evil.example/x"),
        ("{shop}/%2e//evil.example/x", "{shop}//evil.example/x"),
        ("//user:secret@{host}/cart", "{shop}/cart"),
        ("javascript:alert(1)", "/"),
        ("/flashsale/enter?to=/", "/"),
        ("", "{shop}/"),
    ],
)
async def test_nobody_is_led_out_of_the_shop(visit: Visit, to: str, onwards: str) -> None:
    names = {"shop": visit.shop, "host": visit.shop.removeprefix("http://")}
    page = await visit.open(f"/flashsale/enter?to={quote(to.format(**names), safe='')}")
    link = page.get_by_role("link", name="Go on to the shop")
    assert await link.get_attribute("href") == onwards.format(**names)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c",
        "a.b.c; Domain=evil",
        f"{GOOD}; Domain=evil",
        MAKE.token(header=MAKE.header(typ="JWT")),
        MAKE.token(**MAKE.span(issued=0, expires=0)),
        MAKE.token(iat=None),
    ],
)
async def test_what_is_no_token_is_not_kept_in_place_of_a_good_one(visit: Visit, token: str) -> None:
    await visit.person.add_cookies([{"name": COOKIE, "value": GOOD, "url": visit.shop}])
    page = await visit.open(f"/flashsale/enter?to=/cart#flashsale_token={quote(token, safe='')}")
    assert await page.get_by_role("heading").inner_text() == "No admission here"
    assert await visit.kept() == GOOD


async def test_a_browser_that_keeps_no_cookies_is_told_so(visit: Visit) -> None:
    await visit.person.add_init_script(NO_COOKIES)
    page = await visit.open(f"/flashsale/enter?to=/cart#flashsale_token={GOOD}")
    assert await page.get_by_role("heading").inner_text() == "Cookies are off"
    assert "keeps no cookies" in await page.get_by_role("status").inner_text()
