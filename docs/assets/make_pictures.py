"""Makes the README's pictures from a real demo: `python docs/assets/make_pictures.py [CHROMIUM]`.

`demo.svg` is what the terminal shows: the live view in the middle of the sale, and the card at the end. With the path of a
Chromium, `shop.jpg` is the shop of somebody who waits in line in the same demo, and `checkout.jpg` what comes after it;
`console.jpg` is what the merchant sees meanwhile.
"""
# ruff: noqa: INP001 - a script beside what it makes, not a package

from __future__ import annotations

import asyncio
import io
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, ViewportSize, async_playwright
from rich.console import Console, RenderableType
from rich.text import Text

from flashsale.access import Scope, create_key
from flashsale.cli.looking import Looker
from flashsale.cli.rehearsal import HUMAN_PACE, SETTINGS, Scenario, come_to_rest, crowd, make_drop, new_drop_id, report_on, verdict
from flashsale.cli.shapes import Picture
from flashsale.cli.stack import running_stack
from flashsale.cli.summary_card import show_card
from flashsale.cli.target import Parts, opened
from flashsale.cli.watch_view import History, view
from flashsale.model import Snapshot

FOLDER = Path(__file__).parent
WIDTH = 96
SCENARIO = Scenario(shoppers=2000, units=300, seed=7, opens_in_s=25, pace=HUMAN_PACE)
PICTURE_BYTES_MAX = {"shop": 200_000, "checkout": 200_000, "console": 150_000}
PATIENCE_S = 60
AHEAD = 120
"""Who joins after so many waits a while and still gets something."""
SOLD_SHARE = 0.5
"""The merchant's picture is taken when so much is sold."""
DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)


class Photographer:
    """Keeps the live view of the moment about two thirds of the units are sold."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._history = History()
        self.best: Any = None
        self._distance = 2.0

    async def watch(self, parts: Parts, drop_id: str) -> None:
        """Looks every second, until cancelled."""
        looker = Looker(parts, drop_id)
        while True:
            _, picture = await looker.look()
            self._history.add(picture)
            if (distance := abs(_sold_share(picture) - 0.66)) < self._distance and picture.state == "open":
                self._distance, self.best = distance, _drawn(view(picture, self._name, self._history))
            await asyncio.sleep(1)


def _drawn(shown: RenderableType) -> str:
    """What is shown, as text with its colours, taken now."""
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=WIDTH, highlight=False)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


def _sold_share(picture: Picture) -> float:
    return sum(stock.sold for stock in picture.skus.values()) / SCENARIO.units


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for the stores, open to the servers' own user."""
    with tempfile.TemporaryDirectory(prefix="flashsale-pictures-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


async def main(chromium: str | None) -> None:
    """Plays the demo and writes the pictures."""
    started = time.time()
    async with AsyncExitStack() as held:
        folder = held.enter_context(scratch_folder())
        stack = await held.enter_async_context(running_stack(folder / "data", port=0, workers=2, overrides=SETTINGS))
        parts = await held.enter_async_context(opened(stack.settings))
        _, key = await create_key(parts.database, [Scope.STOREFRONT], label="demo")
        _, merchants_key = await create_key(parts.database, [Scope.MERCHANT], label="console")
        drop = make_drop(new_drop_id(), SCENARIO, int(time.time() * 1000), shop_url=stack.http_url)
        await parts.catalog.create(drop)
        photographer = Photographer(drop.name)
        pages = None
        if chromium:
            browser = await held.enter_async_context(running_browser(chromium))
            to = f"#key={merchants_key}&drop={drop.drop_id}"
            pages = [await opened_page(browser, stack.http_url + path) for path in (f"/shop/{drop.drop_id}", f"/console{to}")]
        async with crowd(stack.http_url, drop.drop_id, SCENARIO, key, folder / "data") as shoppers:
            watching = asyncio.create_task(photographer.watch(parts, drop.drop_id))
            if pages is not None:
                shop, console = pages
                await until_seen(parts, drop.drop_id, lambda seen: seen.joined >= AHEAD)
                await asyncio.gather(buy(shop), watch_sale(console, parts, drop.drop_id))
            seen = await shoppers.finished()
            watching.cancel()
        await come_to_rest(parts, drop.drop_id)
        report = {
            "shoppers": SCENARIO.shoppers,
            "units": SCENARIO.units,
            "seed": SCENARIO.seed,
            "seconds": round(time.time() - started, 2),
            **await report_on(parts, drop.drop_id, seen),
        }
    write_terminal(photographer.best, report)


def write_terminal(live: str, report: dict[str, Any]) -> None:
    """The terminal as a picture."""
    console = Console(record=True, force_terminal=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print(
        Text.assemble(
            ("$ ", "dim"),
            ("make demo", "bold"),
            (f' ARGS="--shoppers {SCENARIO.shoppers} --units {SCENARIO.units} --seed {SCENARIO.seed}"', ""),
        )
    )
    console.print()
    console.print(Text.from_ansi(live.rstrip("\n")))
    console.print()
    show_card(console, report, verdict(report))
    svg = console.export_svg(title="flashsale demo")
    # The picture loads nothing from elsewhere: whoever sees it has a monospace font.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (FOLDER / "demo.svg").write_text(svg, encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------ the browser


@asynccontextmanager
async def running_browser(chromium: str) -> AsyncIterator[Browser]:
    """A fresh browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, chromium_sandbox=False, args=["--disable-quic", "--no-first-run", "--enable-unsafe-swiftshader"]
        )
        yield browser
        await browser.close()


async def opened_page(browser: Browser, url: str) -> Page:
    """A page of somebody's own."""
    page = await browser.new_page(viewport=DESKTOP, color_scheme="light", locale="en-GB")
    page.set_default_timeout(PATIENCE_S * 1000)
    await page.goto(url)
    return page


async def buy(page: Page) -> None:
    """Joins, waits and buys, and takes pictures on the way: in line, and at the checkout."""
    await page.locator("flash-sale-room [part~=button]").click()
    await page.locator("canvas#model").wait_for()
    await page.locator("flash-sale-room[data-state=waiting]").wait_for()
    await photograph(page, "shop")
    await page.get_by_role("button", name="Reserve for").click()
    await page.get_by_role("button", name="Pay", disabled=False).wait_for()
    await page.set_viewport_size(PHONE)
    await page.emulate_media(color_scheme="dark")
    await photograph(page, "checkout")
    await page.get_by_role("button", name="Pay").click()
    await page.get_by_role("heading", name="It is yours").wait_for()


async def watch_sale(console: Page, parts: Parts, drop_id: str) -> None:
    """Takes the merchant's picture in the middle of the sale."""
    sold = SOLD_SHARE * SCENARIO.units
    await until_seen(parts, drop_id, lambda seen: sum(stock.sold for stock in seen.skus.values()) >= sold)
    await photograph(console, "console")


async def until_seen(parts: Parts, drop_id: str, condition: Callable[[Snapshot], bool]) -> None:
    """Returns when `condition` is true of the drop."""
    while not condition((await parts.drops.inspect(drop_id)).snapshot):  # noqa: ASYNC110 - the store tells nobody
        await asyncio.sleep(0.05)


async def photograph(page: Page, name: str) -> None:
    """Writes what the page shows."""
    picture = await page.screenshot(path=FOLDER / f"{name}.jpg", type="jpeg", quality=85)
    assert len(picture) < PICTURE_BYTES_MAX[name], f"{name} has {len(picture)} bytes"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
