"""The stage itself: it hears complaints, sees broken layouts, and its browser is the machine's own."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from flashsale.keys import DROPS
from flashsale.model import DropState
from tests.browser.chromium import find_chromium
from tests.browser.looks import announced, announcements, axe_of, differences, layout_faults
from tests.browser.stage import Complaints, Stage, Tabs, a_drop
from tests.browser.storefront import FALLBACK

BROKEN = """
<main style="position: relative; width: 1200px"><h1 id="title">A heading</h1>
<p id="over" style="position: absolute; top: 0; margin: 0; font-size: 2em; line-height: 2">A heading over it</p></main>
"""


@pytest.fixture
async def blank(tabs: Tabs, complaints: Complaints) -> Page:
    return await tabs.open("about:blank")


async def test_the_storefront_shows_its_fallback_where_the_script_is_blocked(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    drop = await stage.open_drop(a_drop())
    complaints.allow("ERR_BLOCKED_BY_CLIENT")
    page = await (await tabs.person()).new_page()
    await page.route("**/flash-sale-room.js", lambda route: route.abort("blockedbyclient"))
    await page.goto(stage.shop.page(drop.drop_id))
    await expect(page.get_by_role("link", name=FALLBACK)).to_have_attribute("href", f"{stage.url}/drops/{drop.drop_id}")
    assert page.url.startswith("http://localhost:")
    assert stage.url.startswith("http://127.0.0.1:")
    assert await layout_faults(page) == []


async def test_an_error_an_exception_and_a_third_party_are_complained_of(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    page = await tabs.open(f"{stage.shop.origin}/bought")
    await page.evaluate("console.error('a sad sentence')")
    async with page.expect_event("pageerror"):
        await page.evaluate("setTimeout(() => { throw new Error('a thrown one') })")
    await page.route("https://tracker.example/**", lambda route: route.fulfill(body=""))
    await page.evaluate("fetch('https://tracker.example/', { mode: 'no-cors' }).then(() => 0)")
    assert [heard.partition(":")[0] for heard in complaints.found] == ["console", "exception", "third party"]
    complaints.allow("a sad sentence", "a thrown one", "tracker")
    assert complaints.found == []


async def test_a_broken_policy_is_complained_of(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    page = await tabs.open(f"{stage.shop.origin}/p/nothing?own-script=1&drop=nothing")
    async with page.expect_console_message(lambda message: "Content Security Policy" in message.text or "TrustedHTML" in message.text):
        await page.evaluate(
            "document.body.appendChild(Object.assign(document.createElement('div'), {})).setAttribute('style', 'color: red')"
        )
    assert any("Content Security Policy" in heard for heard in complaints.found)
    complaints.allow("")


async def test_what_lies_outside_or_over_something_is_seen(blank: Page) -> None:
    await blank.set_content(BROKEN)
    found = await layout_faults(blank)
    assert any(fault.startswith("the page scrolls sideways") for fault in found)
    assert any("lies over" in fault for fault in found)
    await blank.set_content("<main><h1>A heading</h1><p>Some <b>words</b> and a <button>button</button></p></main>")
    assert await layout_faults(blank) == []


async def test_axe_looks_and_finds(blank: Page) -> None:
    await blank.set_content('<html lang="en"><title>t</title><main><h1>h</h1><button></button></main>')
    assert [fault.partition(":")[0] for fault in await axe_of(blank)] == ["button-name"]


async def test_what_a_live_region_says_is_heard_once(blank: Page) -> None:
    await blank.set_content('<p role="status" aria-live="polite"></p>')
    assert await announcements(blank) == [["status", "polite"]]
    for text in ("One.", "One.", "Two."):
        await blank.evaluate("(text) => { document.querySelector('p').textContent = text; }", text)
    assert [said["text"] for said in await announced(blank)] == ["One.", "Two."]


async def test_nobody_works_for_a_drop_that_its_test_has_done_with(stage: Stage) -> None:
    drop = await stage.open_drop(a_drop())
    await stage.retire([drop])
    assert (await stage.lab.inspect(drop)).snapshot.state is DropState.CLOSED
    assert not await stage.lab.parts.store.sismember(DROPS, drop.drop_id)
    await stage.retire([drop])  # once more, for a test may have ended it itself


def test_another_font_is_no_other_layout_but_a_moved_box_is() -> None:
    recorded = {"main": [0, 0, 800, 300], "part button": [16, 200, 120, 40]}
    assert differences(recorded, {"main": [0, 0, 800, 330], "part button": [16, 212, 131, 44]}, 800) == []
    assert differences(recorded, {"main": [0, 0, 800, 300], "part button": [400, 200, 120, 40]}, 800) == [
        "left of part button was 16 px and is 400 px"
    ]
    assert differences(recorded, {"main": [0, 0, 800, 300]}, 800) == ["part button is gone"]


def test_the_browser_is_the_machines_own() -> None:
    assert (find_chromium() or "").startswith("/")
