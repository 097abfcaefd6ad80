"""The merchant's console, used by keyboard in a real browser against the whole service."""

from __future__ import annotations

import asyncio
import re
import secrets
from functools import partial
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, ViewportSize, expect

from chaos.lab import Lab, until
from flashsale.access import Scope, create_key, revoke_key
from flashsale.model import Drop, secret_hash_of
from loadtest.client import Pool
from tests.browser.looks import LANDMARKS, announced, announcements, axe_of, layout_faults, looks_of, screenshot
from tests.browser.stage import SKU, Complaints, Stage, Tabs, a_drop

AWAY = r"net::ERR_|status of 50\d|Failed to load resource"
"""what a browser says of a service that it cannot reach"""
REFUSED = r"status of 4\d\d"
SOON_LATE = """() => {
  const { timeout } = AbortSignal;
  AbortSignal.timeout = (ms) => timeout.call(AbortSignal, ms > 60_000 ? 1 : ms);
}"""
"""Limits of more than a minute are over at once."""
CONSOLE_LANDMARKS = f"{LANDMARKS}, main [id]:not([id$=-title], [id$=-words]), main table, main .now, main .sides, main .column"
PHONE, TABLET, DESKTOP, WIDE = (
    ViewportSize(width=width, height=height) for width, height in ((360, 780), (820, 1100), (1280, 900), (2560, 1300))
)


async def console(stage: Stage, tabs: Tabs, drop: Drop | None = None, **options: Any) -> Page:
    """The console of somebody who came by a link with a key."""
    key = await stage.new_key(Scope.MERCHANT)
    to = f"&drop={drop.drop_id}" if drop else ""
    page = await tabs.open(f"{stage.url}/console#key={key}{to}", **{"viewport": DESKTOP, **options})
    await expect(page.get_by_role("heading", level=1, name=drop.name if drop else "Drops")).to_be_visible()
    return page


async def is_live(page: Page) -> None:
    """Returns once numbers come."""
    await expect(page.locator(".link")).to_have_text("Live")


def figure(page: Page, name: str) -> Locator:
    """One of the numbers at the top."""
    return page.locator(".now .figures > div").filter(has=page.get_by_text(name, exact=True)).locator("dd").first


def control(page: Page, name: str) -> Locator:
    """One of the controls."""
    return page.locator(".control").filter(has=page.get_by_role("heading", name=name, exact=True))


async def press(page: Page, where: Locator, key: str = "Enter") -> None:
    """As somebody without a mouse does."""
    await where.focus()
    await page.keyboard.press(key)


class Shopper:
    """Somebody in line who needs no browser."""

    def __init__(self, stage: Stage, drop: Drop) -> None:
        self._pool = Pool(stage.url)
        self._path = f"/v1/drops/{drop.drop_id}"
        self._secret = secrets.token_urlsafe(24)
        self._ticket = ""

    async def join(self) -> None:
        """Takes a place."""
        answer = await self._pool.request("POST", f"{self._path}/tickets", body={"secret_hash": secret_hash_of(self._secret)})
        self._ticket = answer.json()["ticket_id"]

    async def reserve(self, units: int = 1) -> str:
        """Is admitted and reserves; the reservation's id."""
        proof = {"Authorization": f"Ticket {self._ticket}.{self._secret}"}
        found: dict[str, Any] = {}

        async def is_admitted() -> bool:
            answer = await self._pool.request("POST", f"{self._path}/admissions", headers=proof)
            found.update(answer.json())
            return answer.status == 200

        await until(is_admitted)
        headers = {"Authorization": f"Bearer {found['admission_token']}", "Idempotency-Key": "first"}
        answer = await self._pool.request(
            "POST", f"{self._path}/reservations", headers=headers, body={"items": [{"sku": SKU, "quantity": units}]}
        )
        assert answer.status == 201, answer.body
        return str(answer.json()["reservation_id"])

    def go(self) -> None:
        """Hangs up."""
        self._pool.close()


@pytest.fixture
async def shoppers(stage: Stage) -> Any:
    came: list[Shopper] = []

    async def come(drop: Drop, number: int) -> list[Shopper]:
        new = [Shopper(stage, drop) for _ in range(number)]
        came.extend(new)
        await asyncio.gather(*(shopper.join() for shopper in new))
        return new

    yield come
    for shopper in came:
        shopper.go()


# ----------------------------------------------------------------------------------------------------------------- sign in


async def test_somebody_signs_in_by_keyboard_and_the_page_keeps_no_key(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(REFUSED)
    drop = await stage.open_drop(a_drop())
    shops, key = await stage.new_key(Scope.STOREFRONT), await stage.new_key(Scope.MERCHANT)
    page = await tabs.open(f"{stage.url}/console", viewport=DESKTOP)
    await expect(page.get_by_label("API key")).to_be_focused()
    assert await axe_of(page) == []

    for wrong, words in (
        ("hello", "That is not an API key"),
        ("fs_live_" + "a" * 12 + "_" + "b" * 43, "does not know this key"),
        (shops, "has not the scope “merchant”"),
    ):
        await page.get_by_label("API key").fill(wrong)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text(words)
        await expect(page.get_by_label("API key")).to_be_focused()

    await page.get_by_label("API key").fill(key)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name=drop.name).first).to_be_visible()
    await expect(page.get_by_role("heading", name="Drops")).to_be_focused()
    assert await page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
    assert key.rpartition("_")[2] not in await page.content()
    [cookie] = await page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert key not in cookie["value"]
    assert await axe_of(page) == []

    await page.reload()
    await expect(page.get_by_role("heading", name="Drops")).to_be_visible()
    await press(page, page.get_by_role("button", name="Sign out"))
    await expect(page.get_by_label("API key")).to_be_focused()
    assert await page.context.cookies() == []


async def test_a_link_with_a_key_is_used_once_and_leaves_no_trace(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    drop = await stage.open_drop(a_drop())
    page = await console(stage, tabs, drop)
    assert page.url == f"{stage.url}/console#/{drop.drop_id}"
    await page.get_by_role("link", name="Drops").click()
    await page.get_by_role("link", name=drop.name).first.wait_for()
    while await page.evaluate("history.length > 1 && (history.back(), true) && location.href !== 'about:blank'"):
        assert "fs_live" not in page.url
        break
    complaints.allow(REFUSED)
    await page.goto(f"{stage.url}/console#key=fs_live_{'a' * 12}_{'b' * 43}")
    await expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    assert "fs_live" not in page.url


async def test_the_list_tells_what_comes_next_and_can_be_narrowed(stage: Stage, tabs: Tabs) -> None:
    coming = await stage.open_drop(a_drop(opens_in_s=900, name=f"Later {secrets.token_hex(3)}"))
    on = await stage.open_drop(a_drop(name=f"Now {secrets.token_hex(3)}"))
    page = await console(stage, tabs)
    row = page.get_by_role("row").filter(has_text=coming.name)
    await expect(row).to_contain_text(re.compile(r"opens in 1\d:\d\d"))
    await expect(row).to_contain_text("waiting")
    await expect(page.get_by_role("row").filter(has_text=on.name)).to_contain_text("0 of 20 units")
    await page.get_by_label("State").select_option("open")
    await expect(row).to_have_count(0)
    await expect(page.get_by_role("row").filter(has_text=on.name)).to_be_visible()
    await page.set_viewport_size(PHONE)
    assert await layout_faults(page) == []
    await page.get_by_label("State").select_option("paused")
    await expect(page.get_by_text("No drop is paused just now.")).to_be_visible()


# -------------------------------------------------------------------------------------------------------------------- live


async def test_the_numbers_move_while_people_come_and_buy(stage: Stage, tabs: Tabs, shoppers: Any) -> None:
    drop = await stage.open_drop(a_drop(units=10, limit=3))
    page = await console(stage, tabs, drop)
    await is_live(page)
    people = await shoppers(drop, 3)
    await expect(page.locator(".now")).to_contain_text("of 3 who joined")
    bought, _ = await people[0].reserve(2), await people[1].reserve(1)
    await expect(figure(page, "Reserved")).to_have_text("3")
    await expect(page.get_by_role("row").filter(has_text="Poster")).to_contain_text("3")
    await stage.pay(bought)
    await expect(figure(page, "Sold")).to_have_text("2")
    await expect(page.locator(".now")).to_contain_text("€50.00")
    await expect(figure(page, "Orders paid")).to_have_text("1")
    await expect(page.get_by_role("list", name="Open reservations")).to_contain_text("up to 1 min")

    units = page.get_by_role("img", name="Units")
    await expect(units).to_have_accessible_description(re.compile(r"2 sold and 1 reserved of 10"))
    await page.locator("#chart-units summary").press("Enter")
    await expect(page.locator("#chart-units tbody tr").first).to_contain_text("2")
    for size in (DESKTOP, PHONE, TABLET, WIDE):
        await page.set_viewport_size(size)
        assert await layout_faults(page) == [], size
    assert await axe_of(page) == []


async def test_it_can_be_read_however_somebody_looks(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop())
    page = await console(stage, tabs, drop, color_scheme="dark")
    await is_live(page)
    await stage.lab.parts.drops.pause(drop.drop_id)
    await expect(page.locator(".attention")).to_contain_text("Paused")
    assert await axe_of(page) == []
    await screenshot(page, "console.dark")
    await page.emulate_media(color_scheme="light", forced_colors="active", reduced_motion="reduce")
    assert await axe_of(page) == []
    assert await layout_faults(page) == []
    assert await page.evaluate("document.getAnimations().length") == 0


async def test_live_numbers_are_not_read_out_every_second(stage: Stage, tabs: Tabs, shoppers: Any) -> None:
    drop = await stage.open_drop(a_drop())
    page = await console(stage, tabs, drop)
    await is_live(page)
    await announcements(page)
    await shoppers(drop, 2)
    await expect(page.locator(".now")).to_contain_text("of 2 who joined")
    assert await announced(page) == []
    await stage.lab.parts.drops.pause(drop.drop_id)
    await expect(page.locator(".attention")).to_contain_text("Paused")
    assert [said["text"].partition(".")[0] for said in await announced(page)] == ["Paused"]


# ------------------------------------------------------------------------------------------------------------------- steer


async def test_everything_is_steered_by_keyboard_and_says_the_command(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(rate_per_min=600, capacity=50))
    page, name = await console(stage, tabs, drop), drop.drop_id
    await is_live(page)

    await page.get_by_label("Shoppers a minute").fill("900")
    await page.keyboard.press("Enter")
    await expect(control(page, "Rate")).to_contain_text("Admits 900 a minute from now on.")
    await expect(control(page, "Rate").locator("code")).to_have_text(f"flashsale drop rate {name} 900")

    for wrong in ("0", "1.5", ""):
        await page.get_by_label("Shoppers inside at once").fill(wrong)
        await page.keyboard.press("Enter")
        await expect(control(page, "Capacity")).to_contain_text("A whole number from 1 to 1,000,000.")
    await page.get_by_label("Shoppers inside at once").fill("75")
    await page.keyboard.press("Enter")
    await expect(control(page, "Capacity")).to_contain_text("Has room for 75 at once.")

    await page.get_by_label("Read by all in line").fill("It's nearly gone")
    await expect(control(page, "Message").locator("code")).to_have_text(f"flashsale drop message {name} 'It'\\''s nearly gone'")
    await press(page, page.get_by_role("button", name="Tell them"))
    await expect(control(page, "Message")).to_contain_text("“It's nearly gone”")
    await press(page, page.get_by_role("button", name="Take it back"))
    await expect(control(page, "Message")).to_contain_text("The message is taken back.")

    await press(page, control(page, "Joining").get_by_role("button", name="Close", exact=True), "Space")
    await expect(page.locator(".attention")).to_contain_text("Nobody new can join.")
    await expect(control(page, "Joining").locator("code")).to_have_text(f"flashsale drop joining {name} open")

    await press(page, page.get_by_role("button", name="Pause", exact=True))
    await expect(page.locator(".badge")).to_have_text("paused")
    await expect(page.get_by_role("button", name="Pause", exact=True)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(control(page, "The drop")).to_contain_text("It is paused already.")
    await press(page, page.get_by_role("button", name="Resume", exact=True))
    await expect(page.locator(".badge")).to_have_text("open")

    snapshot = (await stage.lab.inspect(drop)).snapshot
    assert (snapshot.rate_per_min, snapshot.capacity, snapshot.notice, snapshot.joining_closed) == (900, 75, "", True)
    assert await axe_of(page) == []


async def test_units_are_added_and_withdrawn_and_count_once(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(AWAY, REFUSED)
    drop = await stage.open_drop(a_drop(units=10))
    page = await console(stage, tabs, drop)
    await is_live(page)
    units, all_units = (
        page.get_by_role("spinbutton", name="Units"),
        page.get_by_role("row").filter(has_text="Poster").get_by_role("cell").last,
    )
    await units.fill("5")
    await page.route("**/stock", lose_answer)
    await page.keyboard.press("Enter")
    await expect(control(page, "Units")).to_contain_text("The service does not answer.")
    await expect(all_units).to_have_text("15")
    await page.unroute("**/stock")
    await press(page, control(page, "Units").get_by_role("button", name="Add", exact=True))
    await expect(control(page, "Units")).to_contain_text("It had happened already; it counts once.")

    await units.fill("100")
    await press(page, page.get_by_role("button", name="Withdraw", exact=True))
    await expect(control(page, "Units")).to_contain_text("So many cannot be withdrawn.")
    await units.fill("14")
    await expect(control(page, "Units").locator("code")).to_have_text(f"flashsale drop stock {drop.drop_id} {SKU} --withdraw 14")
    await press(page, page.get_by_role("button", name="Withdraw", exact=True))
    await expect(control(page, "Units")).to_contain_text(f"{SKU} has 1 unit.")
    await expect(all_units).to_have_text("1")


async def lose_answer(route: Route) -> None:
    """The service does it, and nobody hears of it."""
    await route.fetch()
    await route.abort()


async def test_commands_are_copied_and_what_was_seen_outlives_a_reload_but_not_the_session(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop())
    page = await console(stage, tabs, drop, permissions=["clipboard-read", "clipboard-write"])
    await is_live(page)
    await press(page, page.get_by_role("button", name=f"Copy the command flashsale drop pause {drop.drop_id}"))
    await expect(page.locator("#said")).to_have_text("Copied.")
    assert await page.evaluate("navigator.clipboard.readText()") == f"flashsale drop pause {drop.drop_id}"

    waiting = page.get_by_role("img", name="Waiting")
    await expect(waiting).to_have_accessible_description(re.compile("since"))
    seen_since = re.findall(r"since [\d:]+", await page.locator("#chart-waiting .words").inner_text())
    await page.reload()
    await is_live(page)
    await expect(waiting).to_have_accessible_description(re.compile(seen_since[0]))
    await press(page, page.get_by_role("button", name="Sign out"))
    await expect(page.get_by_label("API key")).to_be_focused()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_what_somebody_types_stays_while_numbers_move(stage: Stage, tabs: Tabs, shoppers: Any) -> None:
    drop = await stage.open_drop(a_drop(rate_per_min=600))
    page = await console(stage, tabs, drop)
    await is_live(page)
    rate = page.get_by_label("Shoppers a minute")
    await expect(rate).to_have_value("600")
    await rate.fill("12")
    await stage.lab.parts.drops.steer(drop.drop_id, "rate_per_min", 700)
    await expect(control(page, "Rate")).to_contain_text("700 a minute")
    await shoppers(drop, 1)
    await expect(page.locator(".now")).to_contain_text("of 1 who joined")
    await expect(rate).to_have_value("12")
    await expect(rate).to_be_focused()
    await rate.fill("700")
    await page.get_by_label("Read by all in line").focus()
    await stage.lab.parts.drops.steer(drop.drop_id, "rate_per_min", 800)
    await expect(rate).to_have_value("800")


async def test_a_drop_is_closed_by_typing_its_id_and_its_report_appears(stage: Stage, tabs: Tabs, shoppers: Any) -> None:
    drop = await stage.open_drop(a_drop(units=1))
    page = await console(stage, tabs, drop)
    await is_live(page)
    [person] = await shoppers(drop, 1)
    bought = await person.reserve()
    await stage.pay(bought)
    await expect(figure(page, "Sold")).to_have_text("1")

    await press(page, page.get_by_role("button", name="Close for good …"))
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_label("Type")).to_be_focused()
    assert await axe_of(page) == []
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Close for good …")).to_be_focused()

    await page.keyboard.press("Enter")
    await page.keyboard.type("lunch")
    await page.keyboard.press("Enter")
    await expect(dialog.get_by_role("alert")).to_have_text("That is not its id; nothing was changed.")
    await dialog.get_by_label("Type").fill(drop.drop_id)
    await page.keyboard.press("Enter")
    await expect(page.locator(".badge")).to_have_text("closed · sold out")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    await expect(page.get_by_role("heading", name="Steer")).to_have_count(0)

    report = page.get_by_role("region", name="Report")
    await expect(report).to_contain_text("nobody was called before somebody ahead of them")
    await expect(report.get_by_role("img", name="How long people waited")).to_be_visible()
    assert await axe_of(page) == []
    assert await layout_faults(page) == []
    async with page.context.expect_page() as opened:
        await press(page, report.get_by_role("link", name="The whole report"))
    await expect((await opened.value).get_by_role("heading", level=1)).to_contain_text(drop.name)
    async with page.expect_download() as saved:
        await press(page, report.get_by_role("link", name="Orders as CSV"))
    assert bought in (await (await saved.value).path()).read_text(encoding="utf-8")


async def test_a_report_that_takes_long_is_waited_for_and_given_up_in_its_own_words(
    stage: Stage, tabs: Tabs, complaints: Complaints
) -> None:
    complaints.allow(AWAY)
    drop = await stage.open_drop(a_drop())
    page = await console(stage, tabs, drop)
    await is_live(page)
    made = asyncio.Event()

    async def answer_late(route: Route) -> None:
        await made.wait()
        await route.continue_()

    await page.route("**/report", answer_late)
    await press(page, page.get_by_role("button", name="The report so far"))
    report = page.get_by_role("region", name="Report")
    await expect(report.get_by_text("Making the report …")).to_be_visible()
    assert await axe_of(page) == []
    made.set()
    await expect(report).to_contain_text("nobody was called before somebody ahead of them")
    await expect(report.get_by_text("Making the report …")).to_be_hidden()

    made.clear()
    await page.evaluate(SOON_LATE)
    await press(page, page.get_by_role("button", name="The report so far"))
    await expect(report).to_contain_text("The report cannot be had just now: it is not ready after two minutes.")
    made.set()


async def test_closing_ends_well_when_its_answer_comes_after_the_end(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop())
    page = await console(stage, tabs, drop)
    await is_live(page)

    async def answer_late(route: Route) -> None:
        response = await route.fetch()
        await expect(page.get_by_role("heading", name="Steer")).to_have_count(0)
        await route.fulfill(response=response)

    await page.route("**/close", answer_late)
    await press(page, page.get_by_role("button", name="Close for good …"))
    await page.keyboard.type(drop.drop_id)
    async with page.expect_response("**/close"):
        await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    await expect(page.get_by_role("dialog")).to_have_count(0)


# ------------------------------------------------------------------------------------------------------------------- looks


@pytest.mark.parametrize(("look", "viewport"), [("desktop", DESKTOP), ("phone", PHONE)])
async def test_the_list_and_the_live_view_look_as_they_did(
    stage: Stage, tabs: Tabs, shoppers: Any, look: str, viewport: ViewportSize
) -> None:
    tenant = f"looks-{secrets.token_hex(4)}"  # whose list has no other test's drops
    _, key = await create_key(stage.lab.parts.database, [Scope.MERCHANT], tenant=tenant)
    await stage.open_drop(a_drop(tenant=tenant, name="Later", opens_in_s=900))
    drop = await stage.open_drop(a_drop(tenant=tenant, name="Now"))
    page = await tabs.open(f"{stage.url}/console#key={key}", viewport=viewport)
    await expect(page.get_by_role("row")).to_have_count(3)
    assert await looks_of(page, f"console-drops-{look}", landmarks=CONSOLE_LANDMARKS) == []

    people = await shoppers(drop, 3)
    await people[0].reserve()
    await page.get_by_role("link", name=drop.name).click()
    await is_live(page)
    await expect(figure(page, "Reserved")).to_have_text("1")
    await expect(page.locator(".now")).to_contain_text("of 3 who joined")
    assert await looks_of(page, f"console-live-{look}", landmarks=CONSOLE_LANDMARKS) == []


# ----------------------------------------------------------------------------------------------------------------- trouble


async def test_a_restart_of_the_service_is_told_and_got_over(stage: Stage, lab: Lab, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(AWAY)
    drop = await stage.open_drop(a_drop())
    page = await console(stage, tabs, drop)
    await is_live(page)
    await lab.workers[0].kill()
    banner = page.locator("header.title .banner")
    await expect(banner).to_contain_text(re.compile(r"Connection lost since \d\d:\d\d:\d\d\."))
    await expect(page.locator("article")).to_have_attribute("data-stale", "")
    assert await axe_of(page) == []
    await screenshot(page, "console.connection-lost")
    await press(page, page.get_by_role("button", name="Pause", exact=True))
    await expect(control(page, "The drop")).to_contain_text("The service does not answer.")
    await lab.workers[0].start()
    await is_live(page)
    await expect(banner).to_be_hidden()
    await expect(page.locator("article")).not_to_have_attribute("data-stale", "")


async def test_why_there_is_no_live_view_is_said_as_far_as_it_is_known(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(AWAY, REFUSED, 'not "text/event-stream"')
    drop = await stage.open_drop(a_drop())
    page = await (await tabs.person(viewport=DESKTOP)).new_page()
    answers = [(502, ""), (429, "rate_limited"), (503, "busy"), (503, "recovering"), (200, "")]
    told: dict[str, Any] = {}

    async def refuse(route: Route) -> None:
        await route.fulfill(**told)

    await page.route("**/live", refuse)
    for status, code in answers:
        told = {"status": status, "json": {"code": code, "detail": "In its own words."} if code else {}}
        await page.goto("about:blank")
        await page.goto(f"{stage.url}/console#key={await stage.new_key(Scope.MERCHANT)}&drop={drop.drop_id}")
        link = page.locator(".link")
        await expect(link).to_contain_text("Read every few seconds.")
        words = await link.inner_text()
        assert ("no room" in words) == (code in {"rate_limited", "busy"}), (status, code, words)
        assert ("In its own words." in words) == (code == "recovering"), (status, code, words)
    await expect(figure(page, "Sold")).to_have_text("0")
    await page.unroute("**/live")
    await is_live(page)


async def test_a_revoked_key_ends_the_session(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(AWAY, REFUSED)
    drop = await stage.open_drop(a_drop())
    key = await stage.new_key(Scope.MERCHANT)
    page = await tabs.open(f"{stage.url}/console#key={key}&drop={drop.drop_id}", viewport=DESKTOP)
    await is_live(page)
    await revoke_key(stage.lab.parts.database, key.split("_")[2])
    await expect(page.get_by_role("alert")).to_contain_text("not signed in any more")
    await expect(page.get_by_label("API key")).to_be_focused()
    assert drop.name not in await page.locator("main").inner_text()


async def test_without_postgres_everything_else_goes_on(stage: Stage, lab: Lab, tabs: Tabs, complaints: Complaints, shoppers: Any) -> None:
    complaints.allow(AWAY)
    drop = await stage.open_drop(a_drop())
    page = await console(stage, tabs, drop)
    await is_live(page)
    await lab.stop_postgres_at_once()
    await expect(page.locator(".attention")).to_contain_text("Postgres does not answer.")
    await expect(figure(page, "Orders paid")).to_have_text("—")
    await shoppers(drop, 2)
    await expect(page.locator(".now")).to_contain_text("of 2 who joined")
    await lab.heal()
    await expect(figure(page, "Orders paid")).to_have_text("0")
    await expect(page.locator(".attention")).to_be_hidden()


async def test_a_lost_drop_is_shown_as_one_that_has_to_be_recovered(stage: Stage, lab: Lab, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(AWAY)
    drop = await stage.open_drop(a_drop())
    page = await console(stage, tabs, drop)
    await is_live(page)
    await stage.lose_everything()
    await expect(page.locator(".badge")).to_have_text("recovering")
    await expect(page.locator(".attention code")).to_have_text(f"flashsale recover {drop.drop_id}")
    await stage.recover()
    await expect(page.locator(".badge")).to_have_text("open")
    await is_live(page)


async def test_a_console_that_starts_while_nobody_answers_goes_on_trying(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(AWAY, REFUSED)
    page = await (await tabs.person(viewport=PHONE)).new_page()
    away = partial(page.route, "**/console/session")
    await away(lambda route: route.abort())
    await page.goto(f"{stage.url}/console")
    await expect(page.get_by_role("heading", name="The service does not answer")).to_be_visible()
    assert await axe_of(page) == []
    await page.unroute("**/console/session")
    await expect(page.get_by_label("API key")).to_be_visible()
    assert await layout_faults(page) == []


async def test_a_drop_that_is_not_there_is_said_so(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(REFUSED)
    page = await console(stage, tabs)
    await page.goto(f"{stage.url}/console#/nothing-of-that-name")
    await expect(page.get_by_text("There is no drop of that name, or it is not this key's.")).to_be_visible()
    await expect(page.get_by_role("link", name="All drops")).to_be_visible()
