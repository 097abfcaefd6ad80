"""The waiting page that the service itself serves: for storefronts that redirect, and for browsers without JavaScript."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, Request, Route, expect

from flashsale.model import Drop
from tests.browser.looks import axe_of, layout_faults, looks_of
from tests.browser.stage import Complaints, Room, Stage, Tabs, a_drop

PHONE = {"width": 360, "height": 780}


def returning(stage: Stage, **changes: Any) -> Drop:
    """A drop whose waiting page may lead back to the storefront."""
    return a_drop(return_urls=(f"{stage.shop.origin}/bought",), **changes)


def line_of(stage: Stage, drop: Drop) -> str:
    return f"{stage.url}/drops/{drop.drop_id}/line"


async def test_after_admission_a_link_leads_back_with_the_token_in_the_fragment(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(returning(stage))
    page = await tabs.open(f"{stage.url}/drops/{drop.drop_id}?return={stage.shop.origin}/bought")
    room = Room(page)
    await room.join()
    await room.comes_to("admitted")
    token = (await room.kept())["token"]
    async with page.expect_request(re.compile("/bought")) as asked:
        await page.locator(f"a[href^='{stage.shop.origin}/bought']").click()
    assert token not in (await asked.value).url.partition("#")[0]
    await expect(page.get_by_role("heading", name="Back in the shop")).to_be_visible()
    assert page.url == f"{stage.shop.origin}/bought#flashsale_token={token}"
    assert await page.evaluate("document.referrer") in {"", f"{stage.url}/"}


async def admitted_without_storage(stage: Stage, tabs: Tabs, drop: Drop) -> Room:
    page = await (await tabs.person()).new_page()
    await page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    await page.goto(f"{stage.url}/drops/{drop.drop_id}")
    room = Room(page)
    await room.join()
    await room.comes_to("admitted")
    return room


async def test_without_storage_the_place_goes_along_to_choosing(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop())
    page = (await admitted_without_storage(stage, tabs, drop)).page
    await page.get_by_role("button", name="Choose and reserve").click()
    await page.get_by_role("button", name="Reserve").click()
    await expect(page.get_by_role("heading", name="Reserved for you")).to_be_visible()
    snapshot = await stage.lab.inspect(drop)
    assert (snapshot.snapshot.joined, snapshot.skus["poster"].reserved) == (1, 1)


async def test_whoever_is_stopped_on_the_way_to_choosing_can_go_on(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow("status of 409")  # a second code is refused, and not needed
    drop = await stage.open_drop(a_drop())
    room = await admitted_without_storage(stage, tabs, drop)
    page = room.page

    async def stop(route: Route) -> None:
        await route.fetch(max_redirects=0)  # the place has moved, and nobody hears of it
        await page.context.clear_cookies()
        await route.abort("aborted")

    await page.route("**/line*", stop, times=1)
    choose = page.get_by_role("button", name="Choose and reserve")
    await choose.click()
    await room.comes_to("moved")
    await choose.click()
    await page.get_by_role("button", name="Reserve").click()
    await expect(page.get_by_role("heading", name="Reserved for you")).to_be_visible()
    assert (await stage.lab.inspect(drop)).snapshot.joined == 1


async def test_a_place_that_cannot_be_taken_along_is_told_and_tried_again(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow("ERR_FAILED")
    drop = await stage.open_drop(a_drop())
    page = (await admitted_without_storage(stage, tabs, drop)).page
    await page.route("**/handoff", lambda route: route.abort(), times=1)
    choose = page.get_by_role("button", name="Choose and reserve")
    await choose.click()
    await expect(page.get_by_role("alert").filter(has_text="could not be taken along")).to_be_visible()
    await choose.click()
    await expect(page.get_by_role("button", name="Reserve")).to_be_visible()


async def test_without_cookies_it_says_so_before_anybody_joins(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop())
    page = await (await tabs.person()).new_page()
    await page.add_init_script("Object.defineProperty(Navigator.prototype, 'cookieEnabled', { get: () => false })")
    await page.goto(f"{stage.url}/drops/{drop.drop_id}")
    await expect(page.get_by_role("alert").filter(has_text="takes no cookies")).to_be_visible()
    room = Room(page)
    await room.join()
    await room.comes_to("admitted")
    await expect(page.get_by_role("button", name="Choose and reserve")).to_be_hidden()
    await page.goto(f"{stage.url}/drops/{(await stage.open_drop(returning(stage))).drop_id}")
    await Room(page).comes_to("ready")
    assert await page.locator("#cookieless").count() == 0


@pytest.mark.parametrize("wanted", ["https://evil.example/", "javascript:alert(1)", "{origin}/elsewhere", "{origin}@evil.example/bought"])
async def test_an_address_that_is_not_allowed_is_a_page_that_says_so(stage: Stage, tabs: Tabs, complaints: Complaints, wanted: str) -> None:
    complaints.allow("status of 400")
    drop = await stage.open_drop(returning(stage))
    page = await tabs.open(f"{stage.url}/drops/{drop.drop_id}?return={wanted.format(origin=stage.shop.origin)}")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await page.locator("a[href*='evil'], a[href^='javascript']").count() == 0
    assert await page.locator("flash-sale-room").count() == 0


@pytest.mark.parametrize("look", ["light", "dark"])
async def test_it_is_handsome_on_a_phone_and_on_a_desk(stage: Stage, tabs: Tabs, look: Any) -> None:
    drop = await stage.open_drop(returning(stage, opens_in_s=3600))
    for name, viewport in (("phone", PHONE), ("desk", {"width": 1280, "height": 900})):
        page = await tabs.open(f"{stage.url}/drops/{drop.drop_id}", viewport=viewport, color_scheme=look)
        await Room(page).comes_to("ready")
        assert await axe_of(page) == []
        assert await looks_of(page, f"waiting-page-{name}-{look}") == []


async def test_nothing_on_the_page_breaks_its_own_policy_and_it_sets_no_cookie(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(returning(stage))
    page = await (await tabs.person()).new_page()
    answer = await page.goto(f"{stage.url}/drops/{drop.drop_id}")
    assert answer is not None
    policy = (await answer.all_headers())["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    room = Room(page)
    await room.join()
    await room.comes_to("admitted")
    assert await page.context.cookies() == []


async def test_the_widget_sends_no_cookie_even_where_it_is_at_home(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(returning(stage))
    person = await tabs.person()
    await person.add_cookies([{"name": "somebody", "value": "else", "url": stage.url}])
    page = await person.new_page()
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))  # noqa: PLW0108 - Playwright cannot wrap a built-in
    await page.goto(f"{stage.url}/drops/{drop.drop_id}")
    room = Room(page)
    await room.join()
    await room.comes_to("admitted")
    sent = {request.url.removeprefix(stage.url): "cookie" in await request.all_headers() for request in requests}
    assert sent[f"/drops/{drop.drop_id}"]  # the browser would send it
    asked = {path for path in sent if path.startswith("/v1/")}
    assert len(asked) >= 4
    assert not any(sent[path] for path in asked)


async def test_a_drop_nobody_knows_is_a_page_with_a_sentence(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow("status of 404")
    for path in ("/drops/no-such-drop", "/drops/no-such-drop/line"):
        page = await tabs.open(stage.url + path)
        assert len((await page.inner_text("body")).strip()) > 20
        assert await layout_faults(page) + await axe_of(page) == []


# ------------------------------------------------------------------------------------------------------ without JavaScript


@pytest.fixture
async def plain(tabs: Tabs) -> Page:
    """A tab without JavaScript, on a phone."""
    return await (await tabs.person(java_script_enabled=False, viewport=PHONE)).new_page()


async def test_without_javascript_the_page_leads_to_the_plain_line(stage: Stage, plain: Page) -> None:
    drop = await stage.open_drop(returning(stage))
    await plain.goto(f"{stage.url}/drops/{drop.drop_id}")
    await plain.locator(f"a[href*='/drops/{drop.drop_id}/line']").first.click()
    assert "/line" in plain.url


async def test_the_plain_line_goes_from_joining_to_a_reservation_by_itself(stage: Stage, plain: Page) -> None:
    drop = await stage.open_drop(returning(stage, opens_in_s=3600))
    await plain.goto(line_of(stage, drop))
    assert await looks_of(plain, "plain-line-before") == []
    await plain.get_by_role("button", name="Join").click()
    cookies = await plain.context.cookies()
    assert len(cookies) == 1, cookies
    cookie = cookies[0]
    assert (cookie["httpOnly"], cookie["path"], cookie["sameSite"]) == (True, f"/drops/{drop.drop_id}", "Lax")
    await expect(plain.locator("main")).to_contain_text(re.compile("number|place|line", re.IGNORECASE))
    assert await looks_of(plain, "plain-line-joined") == []
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    # It refreshes itself; nobody presses anything until there is something to choose.
    await expect(plain.get_by_role("button", name="Reserve")).to_be_visible()
    assert await looks_of(plain, "plain-line-choice") == []
    await plain.get_by_role("button", name="Reserve").click()
    await expect(plain.locator("main")).to_contain_text(re.compile("reserved", re.IGNORECASE))
    assert await looks_of(plain, "plain-line-reserved") == []
    assert (await stage.lab.inspect(drop)).skus["poster"].reserved == 1


async def test_everybody_can_read_the_plain_line(stage: Stage, tabs: Tabs) -> None:
    """With JavaScript, for axe is a script; the pages are the same, but for looking again while it looks."""
    drop = await stage.open_drop(returning(stage, opens_in_s=3600))
    page = await (await tabs.person(viewport=PHONE)).new_page()

    async def faults() -> list[str]:
        await page.route(line_of(stage, drop), _without_refresh)
        await page.goto(line_of(stage, drop))
        await page.unroute(line_of(stage, drop))
        return await axe_of(page)

    found = {"before": await faults()}
    await page.get_by_role("button", name="Join").click()
    found["joined"] = await faults()
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    await stage.lab.until(drop, lambda seen: seen.snapshot.serving_number > 0)
    await page.goto(line_of(stage, drop))
    await expect(page.get_by_role("button", name="Reserve")).to_be_visible()
    found["choice"] = await faults()
    await page.get_by_role("button", name="Reserve").click()
    found["reserved"] = await faults()
    assert not any(found.values()), found


async def _without_refresh(route: Route) -> None:
    answer = await route.fetch()
    await route.fulfill(response=answer, headers={name: value for name, value in answer.headers.items() if name != "refresh"})


async def test_another_site_cannot_join_for_somebody(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow("status of 40")
    drop = await stage.open_drop(returning(stage, opens_in_s=3600))
    page = await tabs.open(f"{stage.shop.origin}/bought")
    await page.evaluate(
        """(action) => {
          const form = Object.assign(document.createElement("form"), { method: "post", action });
          document.body.append(form);
          form.submit();
        }""",
        line_of(stage, drop),
    )
    await page.wait_for_url(f"{stage.url}/**")
    assert (await stage.lab.inspect(drop)).snapshot.joined == 0
