"""The pages beside the shop, the waiting room and the console: the list of drops, the check of a draw, and a report as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from playwright.async_api import Page, ViewportSize, expect

from admission.report import report
from flashsale.report_page import report_page
from tests.browser.looks import axe_of, layout_faults
from tests.browser.stage import Room, Stage, Tabs, a_drop
from tests.report_stage import DROP, PlayedDrop, tell

PHONE, DESK = ViewportSize(width=360, height=780), ViewportSize(width=1280, height=900)
SHOWN: tuple[tuple[ViewportSize, Literal["light", "dark"]], ...] = ((PHONE, "light"), (DESK, "dark"))


async def faults_of(page: Page) -> list[str]:
    """What is wrong with it as it is shown on a phone by day and on a desk by night."""
    found = []
    for size, scheme in SHOWN:
        await page.set_viewport_size(size)
        await page.emulate_media(color_scheme=scheme)
        found += await axe_of(page) + await layout_faults(page)
    return found


async def test_everybody_can_read_the_list_of_drops(stage: Stage, tabs: Tabs) -> None:
    drops = [await stage.open_drop(a_drop(opens_in_s=opens_in_s)) for opens_in_s in (-1, 3600)]
    page = await tabs.open(stage.url)
    for drop in drops:
        await expect(page.locator(f"a[href*='{drop.drop_id}']").first).to_be_visible()
    assert await faults_of(page) == []


async def test_everybody_can_check_a_draw(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600, order="draw"))
    shopper = await tabs.open(stage.shop.page(drop.drop_id, auto=""))
    receipt = (await Room(shopper).has_place())["receipt"]
    page = await tabs.open(f"{stage.url}/verify-draw?drop={drop.drop_id}#receipt={receipt}")
    await expect(page.locator("#steps")).not_to_be_empty()
    assert await faults_of(page) == []
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    await Room(shopper).hears("draw")
    await page.reload()
    await expect(page.get_by_text("Everything was checked and holds")).to_be_visible()
    assert await faults_of(page) == []


async def test_everybody_can_read_a_report_that_is_one_file(tabs: Tabs, tmp_path: Path) -> None:
    played = PlayedDrop()
    file = tmp_path / "report.html"
    file.write_text(report_page(report(played.events, played.samples, DROP, played.totals, tell)), encoding="utf-8")
    page = await tabs.open(file.as_uri())
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await faults_of(page) == []
