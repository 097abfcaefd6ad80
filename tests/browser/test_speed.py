"""What makes the widget fast and can be counted: few requests, few bytes, nothing that blocks the page. Times: `speed.py`."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from playwright.async_api import Page, Response

from tests.browser.speed import above_goals
from tests.browser.stage import SLOW_3G, Room, Stage, Tabs, a_drop, throttle

BYTES_MAX = 8192
_ENTRIES = """() => performance.getEntriesByType("resource").map((one) => ({
  name: one.name, blocking: one.renderBlockingStatus, start: one.startTime, end: one.responseEnd, by: one.initiatorType,
}))"""


async def test_a_start_takes_few_requests_and_few_bytes_and_blocks_nothing(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    page = await (await tabs.person()).new_page()
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - Playwright cannot wrap a built-in
    await page.goto(stage.shop.page(drop.drop_id))
    await Room(page).comes_to("ready")
    ours = [answer for answer in answers if answer.url.startswith(stage.url)]
    scripts = [answer for answer in ours if answer.url.endswith(".js")]
    assert len(scripts) == 1, [answer.url for answer in scripts]
    assert len(gzip.compress(await scripts[0].body(), 9, mtime=0)) <= BYTES_MAX
    assert len(ours) <= 4, [answer.url for answer in ours]  # the script, the drop, its serving document, and one to spare
    blocking = {entry["name"] for entry in await _entries(page) if entry["blocking"] == "blocking"}
    assert blocking == {f"{stage.shop.origin}/shop.css"}


async def test_a_second_visit_takes_the_script_from_the_cache(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    page = await tabs.open(stage.shop.page(drop.drop_id))
    await Room(page).comes_to("ready")
    async with page.expect_response("**/flash-sale-room.js") as coming:
        await page.reload()
    answer = await coming.value
    sizes = await answer.request.sizes()
    assert sizes["responseBodySize"] == 0  # 304, or not asked at all


async def test_on_a_slow_phone_the_page_is_there_before_the_widget_and_the_fallback_meanwhile(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    page = await (await tabs.person()).new_page()
    await throttle(page, cpu=4, network=SLOW_3G)
    await page.add_init_script("addEventListener('flash-sale-state', () => { globalThis.startedMs ??= performance.now(); });")
    await page.goto(stage.shop.page(drop.drop_id))
    await Room(page).comes_to("ready")
    painted, started = await page.evaluate("[performance.getEntriesByName('first-contentful-paint')[0].startTime, startedMs]")
    assert painted < started


@pytest.mark.parametrize(
    ("medians", "above"),
    [
        ({"first_paint_ms": 9_000, "useful_ms": 2_000, "widget_cpu_ms": 100}, []),
        ({"first_paint_ms": 100, "useful_ms": 2_000.1, "widget_cpu_ms": 37}, ["useful_ms"]),
        ({"first_paint_ms": 100, "useful_ms": 2_500, "widget_cpu_ms": 100.1}, ["useful_ms", "widget_cpu_ms"]),
    ],
)
def test_the_measurement_knows_what_is_above_its_goal(medians: dict[str, float], above: list[str]) -> None:
    assert above_goals(medians) == above


async def _entries(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await page.evaluate(_ENTRIES)
    return found
