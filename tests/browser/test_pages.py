"""The pages beside the shop, the waiting room and the console: the list of drops, the check of a draw, and a report as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from admission.report import report
from flashsale.report_page import report_page
from tests.browser.looks import axe_of, layout_faults
from tests.browser.stage import Room, Stage, Tabs, a_drop
from tests.report_stage import DROP, PlayedDrop, tell

PHONE, DESK = {"width": 360, "height": 780}, {"width": 1280, "height": 900}
SHOWN: dict[str, dict[str, Any]] = {
    "phone": {"viewport": PHONE, "color_scheme": "light"},
    "desk-dark": {"viewport": DESK, "color_scheme": "dark"},
}


@pytest.fixture(params=SHOWN)
def shown(request: pytest.FixtureRequest) -> dict[str, Any]:
    """On what it is looked at."""
    return SHOWN[request.param]


async def test_everybody_can_read_the_list_of_drops(stage: Stage, tabs: Tabs, shown: dict[str, Any]) -> None:
    drops = [await stage.open_drop(a_drop(opens_in_s=opens_in_s)) for opens_in_s in (-1, 3600)]
    page = await tabs.open(stage.url, **shown)
    for drop in drops:
        await expect(page.locator(f"a[href*='{drop.drop_id}']").first).to_be_visible()
    assert await axe_of(page) + await layout_faults(page) == []


async def test_everybody_can_check_a_draw(stage: Stage, tabs: Tabs, shown: dict[str, Any]) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600, order="draw"))
    shopper = await tabs.open(stage.shop.page(drop.drop_id, auto=""))
    receipt = (await Room(shopper).has_place())["receipt"]
    address = f"{stage.url}/verify-draw?drop={drop.drop_id}#receipt={receipt}"
    page = await tabs.open(address, **shown)
    await expect(page.locator("#steps")).not_to_be_empty()
    assert await axe_of(page) + await layout_faults(page) == []
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    await Room(shopper).hears("draw")
    await page.reload()
    await expect(page.get_by_text("Everything was checked and holds")).to_be_visible()
    assert await axe_of(page) + await layout_faults(page) == []


async def test_everybody_can_read_a_report_that_is_one_file(tabs: Tabs, shown: dict[str, Any], tmp_path: Path) -> None:
    played = PlayedDrop()
    file = tmp_path / "report.html"
    file.write_text(report_page(report(played.events, played.samples, DROP, played.totals, tell)), encoding="utf-8")
    page = await tabs.open(file.as_uri(), **shown)
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await axe_of(page) + await layout_faults(page) == []
