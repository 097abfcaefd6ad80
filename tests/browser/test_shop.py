"""The demo's shop, as somebody buys in it: in a real browser, against the whole service."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from flashsale.cli.rehearsal import PRICE_MINOR
from flashsale.model import Drop, Sku
from tests.browser.looks import LANDMARKS, announced, announcements, axe_of, looks_of
from tests.browser.stage import Complaints, Room, Stage, Tabs, a_drop

REFUSED = r"status of 4\d\d"
"""what a browser says of a refusal that the page expects"""
AWAY = r"net::ERR_|status of 50\d|Failed to load resource"
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


def a_lamp(**changes: Any) -> Drop:
    """A drop of the lamp: plenty of one glaze, two of another."""
    skus = (Sku("halo-moon", "Halo, Moon", 50, PRICE_MINOR, 2), Sku("halo-clay", "Halo, Clay", 2, PRICE_MINOR, 2))
    return a_drop(name="Halo, first firing", skus=skus, limit=2, extension_ms=60_000, **changes)


async def kept_by(page: Page, drop: Drop) -> dict[str, Any]:
    """What the browser keeps about the drop."""
    text = await page.evaluate("(name) => localStorage.getItem(name) ?? '{}'", f"flashsale:{drop.drop_id}")
    return dict(json.loads(text))


RESERVATION = re.compile(r"/v1/reservations/[^/]+$")
RESTORE = re.compile(r"/v1/reservations/[^/]+/restore$")
SLEPT_MS = 120_000
FALLS_ASLEEP = f"() => {{ const now = performance.now.bind(performance); performance.now = () => now() - {SLEPT_MS}; }}"
"""The one clock that nobody sets stands still while a machine sleeps. Headless, none does, so it is put back by what it would lack."""
WAKING = (
    "() => document.dispatchEvent(new Event('visibilitychange'))",
    "() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))",
    f"() => {{ const now = Date.now; Date.now = () => now() + {SLEPT_MS}; }}",
)
"""what a page notices of it: it is looked at again, comes back as it was left, or the clock that somebody sets has jumped"""
SPARES_DATA = "Object.defineProperty(navigator, 'connection', { value: { saveData: true } })"


async def product_page(stage: Stage, tabs: Tabs, drop: Drop, **options: Any) -> Page:
    """The product page of somebody who spares data, so that nobody draws a model without being asked to."""
    person = await tabs.person(**options)
    await person.add_init_script(SPARES_DATA)
    page = await person.new_page()
    await page.goto(f"{stage.url}/shop/{drop.drop_id}")
    return page


async def admitted(stage: Stage, tabs: Tabs, drop: Drop, **options: Any) -> Page:
    """The same once it is their turn."""
    page = await product_page(stage, tabs, drop, **options)
    room = Room(page)
    await room.comes_to("ready")
    await room.join()
    await expect(page.get_by_role("heading", name="Choose and reserve")).to_be_visible()
    return page


async def at_the_checkout(stage: Stage, tabs: Tabs, drop: Drop, **options: Any) -> Page:
    """The checkout of somebody who has reserved one lamp."""
    page = await admitted(stage, tabs, drop, **options)
    await page.get_by_role("button", name="Reserve for").click()
    await expect(page.get_by_role("button", name="Pay €149")).to_be_enabled()
    return page


def answering(status: int, code: str, detail: str) -> Callable[[Route], Awaitable[None]]:
    """A handler for `page.route` that refuses in the service's words."""

    async def answer(route: Route) -> None:
        body = json.dumps({"status": status, "code": code, "detail": detail})
        await route.fulfill(status=status, content_type="application/problem+json", body=body)

    return answer


async def is_recorded(page: Page) -> None:
    """Returns once the order page says that the order is in the order book."""
    await expect(page.get_by_role("heading", name="It is yours")).to_be_visible()


async def test_a_lamp_is_bought_and_everything_outlives_a_reload(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await admitted(stage, tabs, drop)
    await page.reload()
    await expect(page.get_by_role("heading", name="Choose and reserve")).to_be_visible()

    await page.get_by_role("radio", name="Halo, Clay").check()
    await page.get_by_label("How many").select_option("2")
    await page.get_by_role("button", name="Reserve for €298").click()
    await expect(page.get_by_text("2 \N{MULTIPLICATION SIGN} Halo, Clay")).to_be_visible()
    reservation = (await kept_by(page, drop))["reservation"]
    await page.reload()
    await expect(page.get_by_text("2 \N{MULTIPLICATION SIGN} Halo, Clay")).to_be_visible()
    assert (await kept_by(page, drop))["reservation"]["reservation_id"] == reservation["reservation_id"]

    await page.get_by_role("button", name="Pay €298").click()
    await is_recorded(page)
    await page.reload()
    await is_recorded(page)
    await expect(page.get_by_text(reservation["reservation_id"])).to_be_visible()

    await page.goto(f"{stage.url}/shop/{drop.drop_id}")
    await page.get_by_role("link", name="See your order").click()
    await is_recorded(page)


async def test_a_declined_payment_is_said_and_the_next_one_counts(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await at_the_checkout(stage, tabs, drop)
    await page.get_by_role("radio", name="Declines").check()
    await page.get_by_role("button", name="Pay €149").click()
    await expect(page.get_by_text("The bank declined the payment")).to_be_visible()
    await page.get_by_role("radio", name="Pays at once").check()
    await page.get_by_role("button", name="Pay €149").click()
    await is_recorded(page)


async def test_a_slow_payment_outlives_a_reload(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await at_the_checkout(stage, tabs, drop)
    await page.get_by_role("radio", name="Takes four seconds").check()
    await page.get_by_role("button", name="Pay €149").click()
    await expect(page.get_by_text("Asking the bank")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("Waiting for the bank")).to_be_visible()
    await is_recorded(page)


async def test_more_time_once_and_giving_back(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await at_the_checkout(stage, tabs, drop)
    before = (await kept_by(page, drop))["reservation"]["expires_at_ms"]
    await page.get_by_role("button", name="I need more time").click()
    await expect(page.get_by_role("button", name="I need more time")).to_be_hidden()
    assert (await kept_by(page, drop))["reservation"]["expires_at_ms"] == before + drop.extension_ms
    await page.reload()
    await expect(page.get_by_role("button", name="Pay €149")).to_be_enabled()
    await expect(page.get_by_role("button", name="I need more time")).to_be_hidden()

    await page.get_by_role("button", name="Give it back").click()
    await page.get_by_role("button", name="Keep it").click()
    await page.get_by_role("button", name="Give it back").click()
    await page.get_by_role("button", name="Give it back").click()
    await expect(page.get_by_role("heading", name="Given back")).to_be_visible()
    await page.get_by_role("link", name="Back to the lamp").click()
    await expect(page.get_by_role("heading", name="Choose and reserve")).to_be_visible()


async def test_a_reservation_that_runs_out_says_so(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp(reservation_ttl_ms=1_500))
    page = await admitted(stage, tabs, drop)
    await page.get_by_role("button", name="Reserve for").click()
    await expect(page.get_by_role("heading", name="The time is up")).to_be_visible()
    assert (await kept_by(page, drop))["reservation"] is None


async def test_after_sleep_the_checkout_shows_no_time_that_is_not_there(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await at_the_checkout(stage, tabs, drop)
    for waking in WAKING:
        await page.evaluate(FALLS_ASLEEP)
        await page.wait_for_function("() => document.querySelector('#countdown').textContent > '5:01'")
        await page.evaluate(waking)
        await page.wait_for_function("() => document.querySelector('#countdown').textContent <= '5:01'")


async def test_a_reservation_nobody_knows_any_more_says_why_and_its_receipt_is_kept(
    stage: Stage, tabs: Tabs, complaints: Complaints
) -> None:
    complaints.allow(REFUSED)
    drop = await stage.open_drop(a_lamp())
    page = await at_the_checkout(stage, tabs, drop)
    receipt = (await kept_by(page, drop))["reservation"]["receipt"]
    await page.route(RESERVATION, answering(404, "reservation_not_found", "There is no such reservation."))
    await page.route(RESTORE, answering(409, "sold_out", "Not enough units are available."))
    for path, words in (("checkout", "There is no reservation here"), ("order", "There is no order here")):
        await page.goto(f"{stage.url}/shop/{drop.drop_id}/{path}")
        await expect(page.get_by_role("heading", name=words)).to_be_visible()
        await expect(page.get_by_text("Not enough units are available.")).to_be_visible()
        assert (await kept_by(page, drop))["reservation"]["receipt"] == receipt
    await page.unroute(RESTORE)
    await page.goto(f"{stage.url}/shop/{drop.drop_id}/checkout")
    await expect(page.get_by_role("button", name="Pay €149")).to_be_enabled()


async def test_a_failure_is_not_taken_for_the_end_of_a_reservation(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow("status of (408|500)")
    drop = await stage.open_drop(a_lamp())
    page = await at_the_checkout(stage, tabs, drop)
    ready = {"checkout": page.get_by_role("button", name="Pay €149"), "order": page.get_by_text("Not paid yet")}
    for status, path in ((500, "checkout"), (408, "order")):
        await page.route(RESERVATION, answering(status, "internal", "Something failed here."))
        await page.goto(f"{stage.url}/shop/{drop.drop_id}/{path}")
        await expect(page.get_by_text("There is no answer from the shop just now")).to_be_visible()
        await page.unroute(RESERVATION)
        await expect(ready[path]).to_be_visible()


async def test_an_order_that_was_lost_comes_back_by_its_receipt(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(REFUSED)
    drop = await stage.open_drop(a_lamp())
    page = await at_the_checkout(stage, tabs, drop)
    await page.get_by_role("button", name="Pay €149").click()
    await is_recorded(page)
    await page.route(RESERVATION, answering(404, "reservation_not_found", "There is no such reservation."))
    await page.reload()
    await expect(page.get_by_role("heading", name="Paid", exact=True)).to_be_visible()  # what the service answers to the receipt
    await page.unroute(RESERVATION)
    await is_recorded(page)


async def test_a_turn_that_has_run_out_is_said_until_the_next_one(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(REFUSED)
    drop = await stage.open_drop(a_lamp())
    page = await admitted(stage, tabs, drop)
    await page.route(f"**/v1/drops/{drop.drop_id}/reservations", answering(401, "token_expired", "The admission token has expired."))
    await page.get_by_role("button", name="Reserve for").click()
    said = page.get_by_role("alert").filter(has_text="Your turn has run out")
    await expect(said).to_be_visible()
    await expect(page.get_by_role("heading", name="Choose and reserve")).to_be_hidden()
    await page.evaluate(
        """() => {
          const room = document.querySelector("flash-sale-room");
          room.dispatchEvent(new CustomEvent("flash-sale-admitted", { detail: { token: room.token } }));
        }"""
    )
    await expect(page.get_by_role("heading", name="Choose and reserve")).to_be_visible()
    await expect(said).to_be_hidden()


async def test_the_end_of_a_reservation_is_told_at_thresholds_and_louder_at_last(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await at_the_checkout(stage, tabs, drop)
    await page.clock.install()
    await page.reload()
    until = page.locator("#until")
    await expect(until).to_have_text("more than 4 minutes")
    regions = await announcements(page)
    assert [role for role, _ in regions].count("alert") == 2  # the last seconds, and what went wrong
    await comes_to(page, 60)
    await expect(until).to_have_text("less than a minute")
    await comes_to(page, 30)
    await comes_to(page, 10)
    await page.clock.run_for(3_000)
    assert await told_of_the_end(page) == ["status", "status", "alert"]
    await page.get_by_role("button", name="I need more time").click()
    await expect(until).to_have_text("more than 1 minute")
    await comes_to(page, 10)
    assert (await told_of_the_end(page)).count("alert") == 2  # of this end, too


async def told_of_the_end(page: Page) -> list[str]:
    """How loudly it has been said how much is left; a busy machine may have said other things besides."""
    return [one["role"] for one in await announced(page) if re.fullmatch(r"\d+ (second|minute)s? left to pay\.", one["text"])]


async def comes_to(page: Page, left_s: int) -> None:
    """Passes the time until so much of the reservation is left, and waits until that is said."""
    minutes, _, seconds = (await page.locator("#countdown").inner_text()).partition(":")
    said = len(await told_of_the_end(page))
    await page.clock.fast_forward(1000 * (int(minutes) * 60 + int(seconds) - left_s))
    await page.wait_for_function("(said) => announced.filter(({ text }) => text.includes('left to pay')).length > said", arg=said)


async def test_the_stock_is_live_and_who_comes_too_late_gets_what_comes_back(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(REFUSED, AWAY)
    drop = await stage.open_drop(a_lamp())
    first, second = await admitted(stage, tabs, drop), await admitted(stage, tabs, drop)
    looking = await product_page(stage, tabs, drop)
    left = looking.locator('[data-stock="halo-clay"]')
    await expect(left).to_have_text("2 left")
    await second.route("**/serving", lambda route: route.abort())  # it does not hear of the first one's luck
    for page in (first, second):
        await page.get_by_role("radio", name="Halo, Clay").check()
        await page.get_by_label("How many").select_option("2")
    await first.get_by_role("button", name="Reserve for").click()
    await first.get_by_role("button", name="Pay").wait_for()
    await second.get_by_role("button", name="Reserve for").click()
    await expect(second.get_by_text("All of it is reserved just now")).to_be_visible()
    await expect(left).to_have_text("all reserved just now")
    await second.unroute("**/serving")
    await first.get_by_role("button", name="Give it back").click()
    await first.get_by_role("button", name="Give it back").click()
    await second.get_by_role("button", name="Pay").wait_for()  # what came back was asked for without a click


async def test_the_model_is_loaded_while_waiting_and_only_then(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp(opens_in_s=3600))
    asked: list[str] = []
    person = await tabs.person()
    person.on("request", lambda request: asked.append(request.url))
    page = await person.new_page()
    await page.goto(f"{stage.url}/shop/{drop.drop_id}")
    room = Room(page)
    await room.comes_to("ready")
    assert not [url for url in asked if url.endswith((".glb", "shop-viewer.js"))]
    async with page.expect_response("**/halo.glb") as loaded:
        await room.join()
    assert (await (await loaded.value).all_headers())["cache-control"] == "public, max-age=31536000, immutable"
    await page.close()  # before it is drawn without a graphics card


async def test_the_model_is_not_loaded_by_who_spares_data(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp(opens_in_s=3600))
    person = await tabs.person()
    await person.add_init_script(SPARES_DATA)
    asked: list[str] = []
    person.on("request", lambda request: asked.append(request.url))
    page = await person.new_page()
    await page.goto(f"{stage.url}/shop/{drop.drop_id}")
    room = Room(page)
    await room.comes_to("ready")
    await room.joins()
    await page.reload()
    await room.has_place()
    assert not [url for url in asked if url.endswith((".glb", "shop-viewer.js"))]


async def test_where_nothing_is_kept_the_reservation_goes_along(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    person = await tabs.person()
    await person.add_init_script(SPARES_DATA)
    await person.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    page = await person.new_page()
    await page.goto(f"{stage.url}/shop/{drop.drop_id}")
    room = Room(page)
    await room.comes_to("ready")
    await room.join()
    await page.get_by_role("button", name="Reserve for").click()
    await page.get_by_role("button", name="Pay €149").click()
    await is_recorded(page)


async def test_the_waiting_page_hands_its_token_to_the_shop(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await admitted(stage, tabs, drop)
    token = (await kept_by(page, drop))["token"]
    other = await tabs.open(f"{stage.url}/shop/{drop.drop_id}#flashsale_token={token}")
    await expect(other.get_by_role("heading", name="Choose and reserve")).to_be_visible()
    assert "flashsale_token" not in other.url
    await other.get_by_role("button", name="Reserve for").click()
    await expect(other.get_by_role("button", name="Pay €149")).to_be_enabled()


async def test_what_is_not_there_is_said_with_a_way_on(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(REFUSED)
    page = await tabs.open(f"{stage.url}/shop/no-such-drop")
    await expect(page.get_by_role("heading", name="There is no such drop")).to_be_visible()
    await expect(page.get_by_role("link", name="All drops").first).to_be_visible()
    drop = await stage.open_drop(a_lamp())
    for path, words in (("checkout", "There is no reservation here"), ("order", "There is no order here")):
        await page.goto(f"{stage.url}/shop/{drop.drop_id}/{path}")
        await expect(page.get_by_role("heading", name=words)).to_be_visible()
        await expect(page.get_by_role("link", name="Back to the").first).to_be_visible()


@pytest.mark.parametrize(("path", "headline"), [("checkout", "There is no reservation here"), ("order", "There is no order here")])
async def test_a_shop_that_does_not_answer_says_so_and_goes_on(
    stage: Stage, tabs: Tabs, complaints: Complaints, path: str, headline: str
) -> None:
    complaints.allow(AWAY)
    drop = await stage.open_drop(a_lamp())
    page = await tabs.open(f"{stage.url}/shop/{drop.drop_id}")
    await page.evaluate(
        "(name) => localStorage.setItem(name, JSON.stringify({ reservation: { reservation_id: 'x' } }))", f"flashsale:{drop.drop_id}"
    )
    await page.route("**/v1/**", lambda route: route.abort())
    await page.goto(f"{stage.url}/shop/{drop.drop_id}/{path}")
    await expect(page.get_by_text("There is no answer from the shop just now")).to_be_visible()
    await page.unroute("**/v1/**")
    await expect(page.get_by_role("heading", name=headline)).to_be_visible()


async def test_when_it_is_over_there_is_a_way_on(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await product_page(stage, tabs, drop)
    over = page.get_by_role("heading", name="This drop is over")
    await Room(page).comes_to("ready")
    await expect(over).to_be_hidden()
    await stage.lab.parts.drops.close(drop.drop_id)
    await expect(over).to_be_visible()
    await expect(page.get_by_role("link", name="another drop")).to_have_attribute("href", "/")


async def test_without_the_widget_there_is_the_plain_line(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(AWAY)
    drop = await stage.open_drop(a_lamp())
    person = await tabs.person()
    await person.route("**/flash-sale-room.js", lambda route: route.abort())
    page = await person.new_page()
    await page.goto(f"{stage.url}/shop/{drop.drop_id}")
    await expect(page.get_by_role("link", name="join the line on the plain page")).to_be_visible()
    await expect(page.locator('[data-stock="halo-moon"]')).to_have_text("50 left")


@pytest.mark.parametrize(
    ("size", "options"),
    [("phone", {"viewport": PHONE, "color_scheme": "light"}), ("desktop", {"viewport": DESKTOP, "color_scheme": "dark"})],
    ids=["phone-light", "desktop-dark"],
)
async def test_everybody_can_read_and_use_it(stage: Stage, tabs: Tabs, size: str, options: dict[str, Any]) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await admitted(stage, tabs, drop, **options)
    faults = {"product": await faults_of(page, f"shop-product-{size}")}
    await page.get_by_role("button", name="Reserve for").click()
    await expect(page.get_by_role("button", name="Pay €149")).to_be_enabled()
    faults["checkout"] = await faults_of(page, f"shop-checkout-{size}")
    await page.get_by_role("button", name="Pay €149").click()
    await is_recorded(page)
    faults["order"] = await faults_of(page, f"shop-order-{size}")
    assert faults == {"product": [], "checkout": [], "order": []}


async def faults_of(page: Page, name: str) -> list[str]:
    """What is wrong with it, for whoever listens and for whoever looks; with its cards, too."""
    return await axe_of(page) + await looks_of(page, name, landmarks=f"{LANDMARKS}, main section, main form, main figure, main fieldset")


async def test_it_is_bought_with_the_keyboard_alone(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_lamp())
    page = await product_page(stage, tabs, drop)
    room = Room(page)
    await room.comes_to("ready")
    await tab_to(page, "flash-sale-room")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Choose and reserve")).to_be_visible()
    await tab_to(page, "#reserve", backwards=True)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Pay €149")).to_be_enabled()
    await tab_to(page, "#pay")
    await page.keyboard.press("Enter")
    await is_recorded(page)


async def tab_to(page: Page, selector: str, *, backwards: bool = False) -> None:
    """Presses Tab until the element has the focus."""
    for _ in range(40):
        if await page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        await page.keyboard.press("Shift+Tab" if backwards else "Tab")
    raise AssertionError(f"{selector} cannot be reached with Tab")
