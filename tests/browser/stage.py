"""The stage of the browser tests: the whole service on real stores, a storefront elsewhere, and tabs that may not complain.

    async def test_…(stage: Stage, tabs: Tabs) -> None:
        drop = await stage.open_drop(a_drop())
        page = await tabs.open(stage.shop.page(drop.drop_id))
        room = Room(page)
        await room.join()
        await room.comes_to("admitted")

Everything is waited for by what shows in the page; no test sleeps.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, CDPSession, ConsoleMessage, Locator, Page, Request, WebError, expect

from chaos.lab import Lab, running_lab, until
from flashsale.access import Scope, create_key
from flashsale.cli.recover import recovery_of
from flashsale.errors import DropNotFound, Recovering
from flashsale.model import Drop, Sku
from flashsale.recorded import recorded_drops
from loadtest.client import Pool
from tests.browser.storefront import Storefront, running_storefront
from tests.stores import PATIENCE

PATIENCE_MS = 20_000
SKU = "poster"
SETTINGS: dict[str, dict[str, Any]] = {
    "waiting_room": {"poll_floor_ms": 250, "poll_ceiling_ms": 1_000},
    "store": PATIENCE,
}
"""Pages look often, so that a test sees soon what has changed."""

expect.set_options(timeout=PATIENCE_MS)


def a_drop(*, opens_in_s: float = -1, joins_in_s: float = -60, units: int = 20, limit: int = 1, **changes: Any) -> Drop:
    """A drop of posters that is open and lets everybody in at once, but for what is changed."""
    now_ms = time.time_ns() // 1_000_000
    plain: dict[str, Any] = {
        "drop_id": f"poster-{secrets.token_hex(4)}",
        "name": "A poster",
        "currency": "EUR",
        "skus": (Sku(SKU, "Poster", units, 2_500, limit),),
        "joins_at_ms": now_ms + int(joins_in_s * 1000),
        "opens_at_ms": now_ms + int(opens_in_s * 1000),
        "closes_at_ms": now_ms + 2 * 3_600_000,
        "rate_per_min": 600_000,
        "capacity": 10_000,
        "claim_window_ms": 60_000,
        "reservation_ttl_ms": 300_000,
        "limit_per_shopper": limit,
        "description": "One print, signed.",
    }
    return Drop(**plain | changes)


@dataclass(frozen=True, slots=True)
class Stage:
    """A running service and a storefront."""

    lab: Lab
    shop: Storefront
    opened: list[Drop] = field(default_factory=list)
    """by tests, in this order"""

    @property
    def url(self) -> str:
        """Origin of the service."""
        return self.lab.url

    async def open_drop(self, drop: Drop) -> Drop:
        """Creates a drop; returns when the service serves it."""
        self.opened.append(drop)
        return await self.lab.open_drop(drop)

    async def retire(self, drops: Iterable[Drop]) -> None:
        """Ends drops that a test has done with; each that goes on takes a little of the machine from all later tests."""
        for drop in drops:
            with suppress(DropNotFound, Recovering):
                await self.lab.retire(drop)

    async def new_key(self, *scopes: Scope) -> str:
        """An API key that every worker knows."""
        _, key = await create_key(self.lab.parts.database, scopes, label="browser test")
        headers = {"Authorization": f"Bearer {key}"}
        for worker in self.lab.workers:
            await until(partial(worker.answers, "/v1/orders?drop=nothing", 200, 403, 404, headers=headers))
        return key

    async def pay(self, reservation_id: str) -> None:
        """What a shopper without a page of the storefront pays at the test provider."""
        pool = Pool(self.url)
        try:
            answer = await pool.request("POST", "/v1/test-provider/payments", body={"reservation_id": reservation_id})
            assert answer.status < HTTPStatus.BAD_REQUEST, answer.body
        finally:
            pool.close()

    async def lose_everything(self) -> None:
        """The store forgets all it has."""
        await self.lab.parts.store.flushall()

    async def recover(self) -> None:
        """What `flashsale recover --all` does."""
        parts = self.lab.parts
        for drop_id in await recorded_drops(parts.database):
            await recovery_of(parts).recover(drop_id)


@asynccontextmanager
async def running_stage(folder: Path) -> AsyncIterator[Stage]:
    """A stage with its data in `folder`, which has a short path and is open to the servers' own user."""
    async with running_storefront() as shop, running_lab(folder, workers=1, reconcilers=1, overrides=SETTINGS) as lab:
        shop.service = lab.url
        yield Stage(lab, shop)


# -------------------------------------------------------------------------------------------------------------------- tabs


@dataclass
class Complaints:
    """What browsers complained of: errors in the console (a broken policy is one), exceptions, and requests to third parties."""

    origins: frozenset[str]
    """who may be asked"""
    _heard: list[str] = field(default_factory=list)
    _allowed: list[re.Pattern[str]] = field(default_factory=list)

    def allow(self, *patterns: str) -> None:
        """From now on and before, what matches is expected: a service that is away cannot be asked without an error."""
        self._allowed += map(re.compile, patterns)

    @property
    def found(self) -> list[str]:
        """Everything that was not expected."""
        return [heard for heard in self._heard if not any(pattern.search(heard) for pattern in self._allowed)]

    def listen(self, context: BrowserContext) -> None:
        """Hears everything in all pages of `context`."""
        context.on("console", self._console)
        context.on("weberror", self._exception)
        context.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._heard.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _exception(self, error: WebError) -> None:
        self._heard.append(f"exception: {error.error}")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https"} and f"{parts.scheme}://{parts.netloc}" not in self.origins:
            self._heard.append(f"third party: {request.url}")


@dataclass(slots=True)
class Tabs:
    """Tabs of a test: each `open` is another person's browser, with a storage of its own."""

    browser: Browser
    complaints: Complaints
    contexts: list[BrowserContext] = field(default_factory=list)

    async def person(self, **options: Any) -> BrowserContext:
        """Another person's browser; `options` are Playwright's, for example `java_script_enabled=False`."""
        context = await self.browser.new_context(**{"locale": "en-GB", "viewport": {"width": 800, "height": 900}, **options})
        context.set_default_timeout(PATIENCE_MS)
        self.complaints.listen(context)
        self.contexts.append(context)
        return context

    async def open(self, url: str, **options: Any) -> Page:
        """A new person's tab at `url`."""
        page = await (await self.person(**options)).new_page()
        await page.goto(url)
        return page

    @property
    def pages(self) -> list[Page]:
        """All that are open."""
        return [page for context in self.contexts for page in context.pages]

    async def close(self) -> None:
        """Closes everything."""
        for context in self.contexts:
            await context.close()


@dataclass(frozen=True, slots=True)
class Network:
    """A way to the service: what each request waits besides, and what goes through in a second."""

    latency_ms: int
    bytes_per_s: int


SLOW_3G = Network(latency_ms=400, bytes_per_s=50_000)
"""400 ms and 400 kbit/s, as WebPageTest has it"""


async def throttle(page: Page, *, cpu: float = 1, network: Network | None = None) -> CDPSession:
    """Makes the machine of a tab `cpu` times as slow, and its network what it is told; the session ends with the page."""
    session = await page.context.new_cdp_session(page)
    await session.send("Emulation.setCPUThrottlingRate", {"rate": cpu})
    if network is not None:
        await session.send("Network.enable")
        speed = network.bytes_per_s
        conditions = {"offline": False, "latency": network.latency_ms, "downloadThroughput": speed, "uploadThroughput": speed}
        await session.send("Network.emulateNetworkConditions", conditions)
    return session


# ------------------------------------------------------------------------------------------------------------------ widget


@dataclass(frozen=True, slots=True)
class Room:
    """The widget on a page."""

    page: Page

    @property
    def host(self) -> Locator:
        """The element itself."""
        return self.page.locator("flash-sale-room")

    def part(self, name: str) -> Locator:
        """One of its parts, for example `headline`."""
        return self.host.locator(f"[part~={name}]")

    async def comes_to(self, *states: str) -> None:
        """Returns once it is in one of these states."""
        await expect(self.host).to_have_attribute("data-state", re.compile(f"^({'|'.join(states)})$"))

    async def join(self) -> None:
        """As a person does."""
        await self.part("button").click()

    async def joins(self) -> dict[str, Any]:
        """Takes a place and returns what is kept of it."""
        await self.join()
        return await self.has_place()

    async def has_place(self) -> dict[str, Any]:
        """Returns once it has one, with what is kept of it."""
        await self.comes_to("joined", "drawing", "waiting", "called", "admitted")
        return await self.kept()

    async def kept(self) -> dict[str, Any]:
        """What the widget keeps in the storefront's storage."""
        found: dict[str, Any] = await self.page.evaluate(
            "() => JSON.parse(localStorage.getItem(`flashsale:${document.querySelector('flash-sale-room').getAttribute('drop')}`) ?? '{}')"
        )
        return found

    async def hears(self, event: str) -> dict[str, Any]:
        """Returns what the page was told by the first event of this name (without `flash-sale-`), past or to come."""
        await self.page.wait_for_function("(name) => heard.some((one) => one.name === name)", arg=event)
        return (await self.heard(event))[0]

    async def heard(self, event: str) -> list[dict[str, Any]]:
        """What the page was told by all events of this name so far."""
        found: list[dict[str, Any]] = await self.page.evaluate(
            "(name) => heard.filter((one) => one.name === name).map((one) => one.detail)", event
        )
        return found

    async def text(self) -> str:
        """Everything it shows."""
        return await self.part("card").inner_text()
