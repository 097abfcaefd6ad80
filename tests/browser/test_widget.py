"""The widget on a storefront of another origin, in a real browser, against the whole service."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.async_api import Page, Request, Route, expect

from admission.draw import commitment_of, draw_key
from chaos.lab import Lab
from flashsale.model import Drop
from tests.browser.looks import announced, announcements, axe_of, layout_faults, looks_of
from tests.browser.stage import SKU, Complaints, Room, Stage, Tabs, a_drop
from tests.browser.storefront import FALLBACK

AWAY = r"net::ERR_|status of 50\d|Failed to load resource"
"""what a browser says of a service it cannot reach"""
LANGUAGES = ("en", "de", "es", "fr", "ja", "ar")
PHONE = {"width": 360, "height": 780}


@pytest.fixture(scope="module")
async def before(stage: Stage) -> AsyncIterator[Drop]:
    """A drop that people join, and that opens long after the tests."""
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    yield drop
    await stage.lab.retire(drop)


@pytest.fixture(scope="module")
async def selling(stage: Stage) -> AsyncIterator[Drop]:
    """A drop that is open and lets everybody in at once."""
    drop = await stage.open_drop(a_drop(units=1_000))
    yield drop
    await stage.lab.retire(drop)


@pytest.fixture(scope="module")
async def crawling(stage: Stage) -> AsyncIterator[Drop]:
    """A drop that is open, with room for nobody: everybody waits."""
    drop = await stage.open_drop(a_drop(rate_per_min=1, capacity=1))
    await stage.lab.parts.drops.pause(drop.drop_id)
    yield drop
    await stage.lab.retire(drop)


def asked(page: Page, ending: str, method: str = "GET") -> list[Request]:
    """Requests of a page from now on, whose path ends so."""
    found: list[Request] = []

    def note(request: Request) -> None:
        if request.method == method and request.url.split("?")[0].endswith(ending):
            found.append(request)

    page.context.on("request", note)
    return found


async def is_told(room: Room) -> None:
    """Returns once its place is told waiting time and chance, which is loaded apart."""
    await room.page.wait_for_function("heard.some(({ name, detail }) => name === 'position' && detail.chance !== null)")


async def seconds_left(room: Room) -> int:
    """What the countdown shows."""
    digits = [int(part) for part in re.findall(r"\d+", await room.part("clock").inner_text())]
    return sum(part * 60**power for power, part in enumerate(reversed(digits)))


# ------------------------------------------------------------------------------------------------------------- the place


async def test_a_place_outlives_a_reload_and_a_second_tab_has_the_same(stage: Stage, tabs: Tabs, before: Drop) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id))
    room, joins = Room(page), asked(page, "/tickets", "POST")
    await room.comes_to("ready")
    place = await room.joins()
    assert place["ticket"]
    assert isinstance(place["entry"], int)

    await page.reload()
    await room.comes_to("joined")
    assert (await room.kept())["ticket"] == place["ticket"]

    second = await page.context.new_page()
    await second.goto(page.url)
    await Room(second).comes_to("joined")
    assert (await Room(second).kept())["ticket"] == place["ticket"]
    assert len(joins) == 1


async def test_a_tab_that_is_open_already_hears_of_the_place(stage: Stage, tabs: Tabs, before: Drop) -> None:
    context = await tabs.person()
    first, second = await context.new_page(), await context.new_page()
    for page in (first, second):
        await page.goto(stage.shop.page(before.drop_id))
        await Room(page).comes_to("ready")
    joins = asked(second, "/tickets", "POST")
    await Room(first).join()
    await Room(first).comes_to("joined")
    await Room(second).comes_to("joined")
    assert len(joins) == 1


async def test_whoever_leaves_may_join_again(stage: Stage, tabs: Tabs, before: Drop) -> None:
    room = Room(await tabs.open(stage.shop.page(before.drop_id)))
    place = await room.joins()
    await room.page.evaluate("document.querySelector('flash-sale-room').leave()")
    await room.comes_to("ready")
    assert (await room.joins())["ticket"] != place["ticket"]


async def test_another_device_takes_the_place_over_and_the_first_is_told(stage: Stage, tabs: Tabs, before: Drop) -> None:
    room = Room(await tabs.open(stage.shop.page(before.drop_id)))
    place = await room.joins()
    told = await room.page.evaluate("document.querySelector('flash-sale-room').handoff()")
    other = Room(await tabs.open(stage.shop.page(before.drop_id)))
    await other.comes_to("ready")
    await other.page.evaluate("(handoff) => document.querySelector('flash-sale-room').join({ handoff })", told["handoff"])
    assert (await other.has_place())["entry"] == place["entry"]
    await room.comes_to("moved")


async def test_offline_and_back_keeps_the_place(stage: Stage, tabs: Tabs, complaints: Complaints, before: Drop) -> None:
    complaints.allow(AWAY)
    page = await tabs.open(stage.shop.page(before.drop_id))
    room = Room(page)
    place = await room.joins()
    await page.context.set_offline(True)
    await expect(room.part("notice")).to_be_visible()
    await room.comes_to("joined")
    async with page.expect_response("**/serving"):
        await page.context.set_offline(False)
    await expect(room.part("notice")).to_be_hidden()
    assert (await room.kept())["ticket"] == place["ticket"]


async def test_a_hidden_tab_asks_nothing_and_catches_up_at_once(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    page = await tabs.open(stage.shop.page(drop.drop_id))
    room = Room(page)
    await room.joins()
    await _show(page, "hidden")
    polls = asked(page, "/serving")
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    # Another person's page has long seen the opening when the hidden one has not even asked.
    other = Room(await tabs.open(stage.shop.page(drop.drop_id, auto="")))
    await other.comes_to("admitted")
    assert len(polls) <= 1  # one may have been on its way
    await _show(page, "visible")
    await room.comes_to("admitted")


async def test_a_hidden_tab_says_in_its_title_that_it_is_the_shoppers_turn(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    person = await tabs.person()
    hidden, other, quiet = [await person.new_page() for _ in range(3)]
    for page, words in ((hidden, {}), (other, {}), (quiet, {"keep_title": ""})):
        await page.goto(stage.shop.page(drop.drop_id, **words))
        await Room(page).comes_to("ready", "joined")
    await Room(other).joins()
    for page in (hidden, quiet):
        await Room(page).comes_to("joined")
        await _show(page, "hidden")
    await expect(hidden).to_have_title("A poster")
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    await Room(other).comes_to("admitted")
    await expect(hidden).to_have_title("It is your turn")
    await Room(quiet).comes_to("admitted")
    await expect(quiet).to_have_title("A poster")
    await _show(hidden, "visible")
    await expect(hidden).to_have_title("A poster")
    await expect(other).to_have_title("A poster")


async def test_a_hidden_tab_says_when_its_turn_may_be_near_without_asking(stage: Stage, tabs: Tabs, before: Drop) -> None:
    page = await (await tabs.person()).new_page()
    await page.clock.install()
    await page.goto(stage.shop.page(before.drop_id))
    room = Room(page)
    await room.joins()
    await is_told(room)
    low_ms, _ = (await room.heard("position"))[-1]["etaMs"]
    await _show(page, "hidden")
    polls = asked(page, "/serving")
    await page.clock.fast_forward(max(0, low_ms - 120_000))
    await page.evaluate("dispatchEvent(new Event('online'))")  # a connection that is back is no reason either
    await expect(page).to_have_title("A poster")
    await page.clock.fast_forward(180_000)
    await expect(page).to_have_title("Your turn may be near")
    assert polls == []
    await _show(page, "visible")
    await expect(page).to_have_title("A poster")


async def test_a_hidden_tab_whose_turn_is_in_weeks_does_not_call_it_near(stage: Stage, tabs: Tabs) -> None:
    """A browser's timer of more than 2^31 - 1 ms is over at once."""
    drop = await stage.open_drop(a_drop(opens_in_s=30 * 86_400, closes_at_ms=(int(time.time()) + 31 * 86_400) * 1000))
    page = await (await tabs.person()).new_page()
    await page.goto(stage.shop.page(drop.drop_id))
    room = Room(page)
    await room.joins()
    await is_told(room)
    low_ms, _ = (await room.heard("position"))[-1]["etaMs"]
    assert low_ms >= 2**31
    await _show(page, "hidden")
    await page.evaluate("new Promise((done) => setTimeout(done, 2 ** 31))")  # over at once, too, and after the element's
    await expect(page).to_have_title("A poster")


async def _show(page: Page, visibility: str) -> None:
    """As the browser does with a tab in the background. Headless, every tab is in front."""
    await page.evaluate(
        """(state) => {
          Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
          Object.defineProperty(document, "hidden", { configurable: true, get: () => state === "hidden" });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        visibility,
    )


async def test_a_restart_of_the_service_costs_nobody_the_place(stage: Stage, lab: Lab, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(AWAY)
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    room = Room(await tabs.open(stage.shop.page(drop.drop_id)))
    place = await room.joins()
    worker = lab.process("worker-1")
    await worker.kill()
    await expect(room.part("notice")).to_be_visible()
    await worker.start()
    await expect(room.part("notice")).to_be_hidden()
    await lab.parts.drops.steer(drop.drop_id, "open")
    await room.comes_to("admitted")
    assert (await room.kept())["ticket"] == place["ticket"]


async def test_a_store_that_lost_everything_gives_the_place_back(stage: Stage, lab: Lab, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow(AWAY)
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    first, second = [Room(await tabs.open(stage.shop.page(drop.drop_id))) for _ in range(2)]
    places = [await first.joins(), await second.joins()]
    await stage.lose_everything()
    await first.comes_to("recovering")
    await stage.recover()
    for room, place in ((second, places[1]), (first, places[0])):
        await room.comes_to("joined")
        await expect_kept(room, entry=place["entry"], epoch=2)
    await lab.parts.drops.steer(drop.drop_id, "open")
    await first.comes_to("admitted")
    await second.comes_to("admitted")


async def expect_kept(room: Room, **values: Any) -> None:
    """Returns once the widget keeps these values."""
    await room.page.wait_for_function(
        """(wanted) => {
          const drop = document.querySelector("flash-sale-room").getAttribute("drop");
          const kept = JSON.parse(localStorage.getItem(`flashsale:${drop}`) ?? "{}");
          return Object.entries(wanted).every(([name, value]) => kept[name] === value);
        }""",
        arg=values,
    )


# -------------------------------------------------------------------------------------------------------------- the clock


async def test_a_clock_that_is_an_hour_wrong_changes_nothing(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=1800))
    for wrong_by_ms in (3_600_000, -3_600_000):
        page = await (await tabs.person()).new_page()
        await page.add_init_script(f"{{ const now = Date.now; Date.now = () => now() + {wrong_by_ms}; }}")
        await page.goto(stage.shop.page(drop.drop_id))
        room = Room(page)
        await room.joins()
        assert 1500 < await seconds_left(room) <= 1800
        await room.comes_to("joined")


async def test_after_sleep_the_countdown_is_right_and_the_place_is_kept(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    page = await (await tabs.person()).new_page()
    await page.clock.install()
    await page.goto(stage.shop.page(drop.drop_id))
    room = Room(page)
    place = await room.joins()
    async with page.expect_response("**/serving"):
        await page.clock.fast_forward("02:00:00")  # the machine slept: timers are overdue, clocks have jumped
    await room.comes_to("joined")
    assert 3300 < await seconds_left(room) <= 3600
    assert (await room.kept())["ticket"] == place["ticket"]


# ----------------------------------------------------------------------------------------------------------- what is wrong


async def test_without_storage_the_place_lasts_while_the_page_is_open_and_it_says_so(
    stage: Stage, tabs: Tabs, complaints: Complaints, before: Drop
) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id, sandbox="1"))
    room = Room(page)
    await room.comes_to("ready")
    await room.join()
    await room.comes_to("joined")
    await expect(room.part("notice")).to_be_visible()
    assert await page.evaluate("(() => { try { return !localStorage; } catch { return true; } })()")


async def test_methods_of_an_element_in_no_page_reject_with_a_code(stage: Stage, tabs: Tabs, before: Drop) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id))
    room = Room(page)
    await room.joins()
    tell = """async (room) => {
      const codes = await Promise.all(["join", "leave", "handoff"].map((name) => room[name]().catch(({ code }) => code)));
      room.reset();
      return [room.token, ...codes];
    }"""
    expected = [None, "disconnected", "disconnected", "disconnected"]
    assert await page.evaluate(f"({tell})(document.createElement('flash-sale-room'))") == expected
    assert await page.evaluate(f"const room = document.querySelector('flash-sale-room'); room.remove(); ({tell})(room)") == expected
    ticket = "Object.values(localStorage).map((text) => JSON.parse(text).ticket)[0]"
    assert await page.evaluate(ticket), "what is kept stays"


async def test_it_speaks_the_language_around_the_shadow_tree_it_is_in(stage: Stage, tabs: Tabs, before: Drop) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id))
    await Room(page).comes_to("ready")
    await page.evaluate("""() => {
      const room = document.querySelector("flash-sale-room");
      const host = document.createElement("div");
      host.lang = "DE";
      room.replaceWith(host);
      host.attachShadow({ mode: "open" }).append(room);
    }""")
    await expect(page.locator("flash-sale-room [part~=button]")).to_have_text("Anstellen")


async def test_words_that_are_not_to_be_had_are_asked_for_again(stage: Stage, tabs: Tabs, complaints: Complaints, before: Drop) -> None:
    """An error of the service's is JSON as well, and no words."""
    complaints.allow(AWAY)
    page = await (await tabs.person()).new_page()
    tries: list[str] = []

    async def answer(route: Route) -> None:
        tries.append(route.request.url.rpartition("/")[2])
        if len(tries) > 2:
            return await route.continue_()
        return await route.fulfill(status=503, json={"code": "busy"}, headers={"Access-Control-Allow-Origin": "*"})

    await page.route("**/languages/*.json", answer)
    await page.goto(stage.shop.page(before.drop_id, lang="de"))
    await Room(page).comes_to("ready")
    assert tries == ["de.json", "en.json", "de.json"]
    await expect(Room(page).part("button")).to_have_text("Anstellen")


async def test_a_drop_nobody_knows_is_a_sentence_not_a_spinner(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow("status of 404")
    page = await (await tabs.person()).new_page()
    calls = asked(page, "/serving")
    await page.goto(stage.shop.page("no-such-drop"))
    room = Room(page)
    await room.comes_to("trouble")
    await expect(room.part("details")).to_be_visible()
    assert (await room.hears("error"))["code"] == "drop_not_found"
    assert len(calls) <= 2
    assert await layout_faults(page) == []


async def test_a_service_that_is_away_from_the_start_is_told_and_tried_again(
    stage: Stage, lab: Lab, tabs: Tabs, complaints: Complaints, before: Drop
) -> None:
    complaints.allow(AWAY)
    lab.front.refuse()
    page = await tabs.open(stage.shop.page(before.drop_id, own_script="1"))
    room = Room(page)
    await expect(room.part("card")).to_be_visible()
    await room.comes_to("trouble")
    await expect(room.part("details")).to_be_visible()
    assert await layout_faults(page) == []
    lab.front.heal()
    await room.comes_to("ready")


async def test_where_the_script_is_blocked_the_link_stays(stage: Stage, tabs: Tabs, complaints: Complaints, before: Drop) -> None:
    complaints.allow("ERR_BLOCKED_BY_CLIENT")
    page = await (await tabs.person()).new_page()
    await page.route("**/flash-sale-room.js", lambda route: route.abort("blockedbyclient"))
    await page.goto(stage.shop.page(before.drop_id))
    await expect(page.get_by_role("link", name=FALLBACK)).to_be_visible()


async def test_who_cannot_be_told_how_long_it_takes_is_admitted_all_the_same(
    stage: Stage, tabs: Tabs, complaints: Complaints, selling: Drop
) -> None:
    complaints.allow("ERR_BLOCKED_BY_CLIENT")
    page = await (await tabs.person()).new_page()
    await page.route("**/place.js*", lambda route: route.abort("blockedbyclient"))
    await page.goto(stage.shop.page(selling.drop_id))
    await Room(page).joins()
    await Room(page).comes_to("admitted")


async def test_sold_out_is_said_and_told(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(units=1))
    buyer = await tabs.open(stage.shop.page(drop.drop_id, auto="", buys=SKU, pays="1"))
    await expect(buyer.locator("body")).to_have_attribute("data-status", "201")
    late = Room(await tabs.open(stage.shop.page(drop.drop_id)))
    await late.comes_to("sold_out")
    assert (await late.hears("sold-out"))["drop"] == drop.drop_id
    assert re.search(r'- heading "Sold out"', await late.host.aria_snapshot())
    assert await axe_of(late.page) == []
    assert await looks_of(late.page, "widget-sold-out") == []


async def test_the_end_is_said_and_told(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    room = Room(await tabs.open(stage.shop.page(drop.drop_id)))
    await room.joins()
    await stage.lab.parts.drops.close(drop.drop_id)
    await room.comes_to("closed")
    assert (await room.hears("closed"))["drop"] == drop.drop_id


async def test_a_paused_drop_says_that_the_place_is_kept(stage: Stage, tabs: Tabs, crawling: Drop) -> None:
    room = Room(await tabs.open(stage.shop.page(crawling.drop_id)))
    await room.join()
    await room.comes_to("paused")
    await is_told(room)
    assert await axe_of(room.page) == []
    assert await looks_of(room.page, "widget-paused") == []


# ------------------------------------------------------------------------------------------------------------------- looks


async def test_a_token_is_handed_over_and_buys_and_again_after_a_reload(stage: Stage, tabs: Tabs, selling: Drop) -> None:
    page = await tabs.open(stage.shop.page(selling.drop_id, buys=SKU))
    room = Room(page)
    await room.join()
    await room.comes_to("admitted")
    handed = await room.hears("admitted")
    assert handed["drop"] == selling.drop_id
    await expect(page.locator("body")).to_have_attribute("data-status", "201")
    await page.reload()
    assert (await room.hears("admitted"))["token"] == handed["token"]
    await expect(page.locator("body")).to_have_attribute("data-status", "200")
    assert len(await room.heard("admitted")) == 1
    assert all(told["document"] for told in await room.heard("serving"))
    assert await axe_of(page) == []
    assert await looks_of(page, "widget-admitted") == []


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_language_fits_and_arabic_runs_from_right_to_left(stage: Stage, tabs: Tabs, before: Drop, language: str) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id, lang=language), viewport=PHONE)
    room = Room(page)
    await room.comes_to("ready")
    await room.joins()
    await is_told(room)
    headline = room.part("headline")
    if language == "en":
        await expect(headline).to_contain_text("You are in")
    else:
        await expect(headline).not_to_contain_text("You are in")
    card = room.part("card")
    assert await card.evaluate("(card) => getComputedStyle(card).direction") == ("rtl" if language == "ar" else "ltr")
    assert await axe_of(page) == []
    assert await looks_of(page, f"widget-joined-{language}") == []


@pytest.mark.parametrize(
    "media",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}, {"color_scheme": "dark", "contrast": "more"}],
    ids=["light", "dark", "forced-colours", "dark-more-contrast"],
)
async def test_it_is_legible_however_it_is_shown(stage: Stage, tabs: Tabs, before: Drop, media: dict[str, Any]) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id), **media)
    room = Room(page)
    await room.comes_to("ready")
    assert await axe_of(page) == []
    await room.joins()
    assert await axe_of(page) == []
    assert await layout_faults(page) == []


async def test_a_page_gives_it_its_own_colours(stage: Stage, tabs: Tabs, before: Drop) -> None:
    room = Room(await tabs.open(stage.shop.page(before.drop_id)))
    await room.comes_to("ready")
    colour = await room.part("button").evaluate("(button) => getComputedStyle(button).backgroundColor")
    assert colour == "rgb(122, 31, 92)"  # the shop's --accent, by way of --fsr-accent


async def test_nothing_moves_for_whoever_wants_it_so(stage: Stage, tabs: Tabs, before: Drop) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id), reduced_motion="reduce")
    room = Room(page)
    await room.joins()
    moving = "(host) => host.shadowRoot.getAnimations().filter((one) => one.effect.getTiming().duration > 1).length"
    assert await room.host.evaluate(moving) == 0


# ----------------------------------------------------------------------------------------- keyboard and screen reader


async def test_with_keys_alone(stage: Stage, tabs: Tabs, before: Drop) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id))
    room = Room(page)
    await room.comes_to("ready")
    await page.keyboard.press("Tab")
    button = room.part("button")
    await expect(button).to_be_focused()
    assert await button.evaluate("(button) => getComputedStyle(button).outlineStyle") != "none"
    box = await button.bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 24
    await page.keyboard.press("Enter")
    await room.comes_to("joined")


async def test_the_focus_goes_from_the_button_to_what_is_said_instead(stage: Stage, tabs: Tabs, before: Drop) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id))
    room = Room(page)
    await room.comes_to("ready")
    await room.part("button").focus()
    await page.keyboard.press("Enter")
    await room.comes_to("joined")
    await expect(room.part("headline")).to_be_focused()


async def test_a_wrong_invite_code_leaves_the_focus_where_it_can_be_mended(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow("status of 40")
    drop = await stage.open_drop(a_drop(opens_in_s=3600, invites="required"))
    page = await tabs.open(stage.shop.page(drop.drop_id))
    room = Room(page)
    await room.comes_to("ready")
    await room.part("code").fill("AAAAA-BBBBB")
    await page.keyboard.press("Enter")
    await room.comes_to("trouble")
    await expect(room.part("code")).to_be_focused()
    assert (await room.hears("error"))["code"] == "code_invalid"
    assert await axe_of(page) == []
    assert await looks_of(page, "widget-problem") == []


async def test_focus_is_left_where_it_is_when_the_line_moves(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    page = await tabs.open(stage.shop.page(drop.drop_id))
    room = Room(page)
    await room.joins()
    await page.evaluate("document.body.append(Object.assign(document.createElement('input'), { id: 'elsewhere', ariaLabel: 'Elsewhere' }))")
    await page.locator("#elsewhere").focus()
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    await room.comes_to("admitted")
    await expect(page.locator("#elsewhere")).to_be_focused()


async def test_a_screen_reader_finds_what_there_is(stage: Stage, tabs: Tabs, before: Drop) -> None:
    page = await tabs.open(stage.shop.page(before.drop_id))
    room = Room(page)
    await room.comes_to("ready")
    tree = await room.host.aria_snapshot()
    assert re.search(r'- button "Join the line"', tree), tree
    assert re.search(r"- status", tree), tree
    await room.joins()
    tree = await room.host.aria_snapshot()
    assert "Join the line" not in tree
    assert "timer" not in tree  # the countdown is for eyes; ears get it at thresholds
    assert re.search(r'- heading "You are in', tree), tree


async def test_a_screen_reader_finds_who_waits_and_who_is_let_in(stage: Stage, tabs: Tabs, complaints: Complaints) -> None:
    complaints.allow("status of 409")  # called, and no slot is free yet
    drop = await stage.open_drop(a_drop(capacity=1))
    first = Room(await tabs.open(stage.shop.page(drop.drop_id, auto="")))
    await first.comes_to("admitted")
    tree = await first.host.aria_snapshot()
    assert re.search(r'- heading "It is your turn"', tree), tree
    assert "button" not in tree
    second = Room(await tabs.open(stage.shop.page(drop.drop_id, auto="")))
    await second.comes_to("called", "waiting")
    tree = await second.host.aria_snapshot()
    assert re.search(r"- heading \"You are (being let in|in line|next)", tree), tree
    assert "button" not in tree


async def test_waiting_is_said_shown_and_reached_with_keys(stage: Stage, tabs: Tabs) -> None:
    """Three join, and nobody is let in: the third has two people ahead."""
    drop = await stage.open_drop(a_drop(opens_in_s=3600, rate_per_min=1))
    rooms = [Room(await tabs.open(stage.shop.page(drop.drop_id), viewport=PHONE)) for _ in range(3)]
    for room in rooms:
        await room.joins()
    last = rooms[-1]
    await announcements(last.page)
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    await last.comes_to("waiting")
    await expect(last.host.locator("[part=position]")).to_contain_text("people ahead of you")
    await expect(last.part("progress")).to_be_visible()
    await is_told(last)
    tree = await last.host.aria_snapshot()
    assert re.search(r'- heading "You are in line"', tree), tree
    assert re.search(r'- progressbar "Progress in line"', tree), tree
    assert re.search(r"- status: You are in line", tree), tree
    assert await axe_of(last.page) == []
    assert await looks_of(last.page, "widget-waiting") == []


async def test_it_speaks_at_thresholds_only_and_raises_its_voice_once(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=6))
    page = await tabs.open(stage.shop.page(drop.drop_id))
    room = Room(page)
    await room.comes_to("ready")
    regions = await announcements(page)
    assert sum(role == "status" for role, _ in regions) == 1
    await room.joins()
    await room.comes_to("admitted")
    await expect(room.host.get_by_role("alert")).not_to_be_empty()
    said = await announced(page)
    assert [one["text"] for one in said if one["role"] == "alert"] == [
        "It is your turn. Choose and pay. What you reserve is held for you for a while."
    ]
    spoken = [one["text"] for one in said if one["role"] == "status"]
    assert re.match(r"The drop opens in \d seconds?\. People are served", spoken[0]), spoken
    assert any(re.match(r"You are in\. The drop opens in \d seconds?\. Your number is 0\.", text) for text in spoken), spoken
    assert await page.evaluate("document.querySelector('flash-sale-room').shadowRoot.querySelector('[role=status]').closest('[lang]').lang")
    assert 1 <= sum(one["role"] == "status" for one in said) <= 5  # a countdown of seconds would be more


async def test_the_end_of_an_admission_is_shown_said_once_and_told(stage: Stage, tabs: Tabs, selling: Drop) -> None:
    page = await tabs.open(stage.shop.page(selling.drop_id))
    room = Room(page)
    await room.join()
    await room.comes_to("admitted")
    await page.evaluate(
        """(drop) => {
          const name = `flashsale:${drop}`;
          const now_ms = heard.findLast((one) => one.name === "serving").detail.document.now_ms;
          localStorage[name] = JSON.stringify({ ...JSON.parse(localStorage[name]), tokenExpiresAtMs: now_ms + 63_000 });
        }""",
        selling.drop_id,
    )
    await page.reload()
    await room.comes_to("admitted")
    await announcements(page)
    assert (await room.hears("ending"))["expiresAtMs"]
    await expect(room.part("headline")).to_have_text("Your turn ends in")
    assert 50 < await seconds_left(room) <= 61  # a timer may fire a moment early, and seconds are rounded up
    await expect(room.host.get_by_role("alert")).to_have_text("Your turn ends in 60 seconds.")
    assert len(await room.heard("ending")) == 1


# ---------------------------------------------------------------------------------------------------------------- the draw


async def test_the_draw_is_checked_in_the_browser(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600, order="draw"))
    rooms = [Room(await tabs.open(stage.shop.page(drop.drop_id, auto=""))) for _ in range(3)]
    entries = {(await room.has_place())["entry"] for room in rooms}
    assert entries == {0, 1, 2}
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    for room in rooms:
        assert (await room.hears("draw"))["verified"] is True
        await expect(room.part("proof")).to_be_visible()
        await room.comes_to("admitted")
    numbers = {(await room.kept())["number"] for room in rooms}
    assert numbers == {0, 1, 2}


async def test_a_secret_exchanged_with_its_commitment_is_found_out(stage: Stage, tabs: Tabs) -> None:
    """Whoever could choose the secret afterwards would choose the order; everything else fits."""
    drop = await stage.open_drop(a_drop(opens_in_s=3600, order="draw"))
    person = await tabs.person()
    page = await person.new_page()
    await page.goto(stage.shop.page(drop.drop_id, auto=""))
    room = Room(page)
    await room.has_place()
    await announcements(page)
    await person.route("**/fairness", _exchange)
    await stage.lab.parts.drops.steer(drop.drop_id, "open")
    told = await room.hears("draw")
    assert [told["verified"], told["remembered"], told["step"]] == [False, True, "commitment"]
    await expect(room.part("proof")).to_contain_text("it was exchanged after you had seen it")
    assert any("could not be checked" in one["text"] for one in await announced(page))

    link = await room.part("secondary").get_attribute("href")
    assert link is not None
    assert link.endswith(f"&commitment={(await room.kept())['commitment']}")
    see = await person.new_page()
    await see.goto(link)
    await expect(see.locator("#missing")).to_have_text("It does not hold. The last step says why.")
    await expect(see.locator("#steps .failed")).to_contain_text("it was exchanged after you had seen it")
    await see.goto("about:blank")
    await see.goto(link.partition("&commitment")[0])
    await expect(see.locator("#missing")).to_contain_text("Everything was checked and holds")
    await person.unroute("**/fairness")
    await see.goto("about:blank")
    await see.goto(link)
    await expect(see.locator("#missing")).to_contain_text("Everything was checked and holds")


async def _exchange(route: Route) -> None:
    """Answers with the fairness document of another secret, everything that follows from it included."""
    answer = await route.fetch()
    told = await answer.json()
    secret = bytes(32)
    for line in told["lines"]:
        line["key"] = draw_key(secret, bytes.fromhex(line["root"]), line["entries"], b"").hex()
    assert told["beacon"] is None or told["beacon"]["value"] == ""
    await route.fulfill(response=answer, json={**told, "secret": secret.hex(), "commitment": commitment_of(secret)})


# -------------------------------------------------------------------------------------------------------- what is not there


async def test_no_cookie_no_secret_in_an_address_and_credentials_omitted(stage: Stage, tabs: Tabs, selling: Drop) -> None:
    page = await (await tabs.person()).new_page()
    urls: list[str] = []
    page.context.on("request", lambda request: urls.append(request.url))
    await page.goto(stage.shop.page(selling.drop_id))
    room = Room(page)
    await room.join()
    await room.comes_to("admitted")
    assert await page.context.cookies() == []
    kept = await room.kept()
    for secret in ("secret", "token", "receipt"):
        assert kept[secret]
        assert not any(kept[secret] in url for url in urls)


async def test_what_others_keep_beside_it_is_left_alone(stage: Stage, tabs: Tabs, before: Drop) -> None:
    page = await (await tabs.person()).new_page()
    name, others = f"flashsale:{before.drop_id}", {"key": "the shop's own", "reservation": {"id": 1}}
    await page.add_init_script(f"localStorage[{json.dumps(name)}] ??= {json.dumps(json.dumps(others))}")
    await page.goto(stage.shop.page(before.drop_id))
    kept = await Room(page).joins()
    assert {key: kept[key] for key in others} == others


@pytest.mark.parametrize("stored", ["no json {", "[]", '{"v": 7, "ticket": 3}', "null"])
async def test_storage_full_of_rubbish_is_no_end(stage: Stage, tabs: Tabs, before: Drop, stored: str) -> None:
    page = await (await tabs.person()).new_page()
    await page.add_init_script(f"localStorage[{json.dumps(f'flashsale:{before.drop_id}')}] ??= {json.dumps(stored)}")
    await page.goto(stage.shop.page(before.drop_id))
    assert (await Room(page).joins())["ticket"]


async def test_a_message_from_the_merchant_is_shown_as_text(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(replace(a_drop(opens_in_s=3600), name="<b>A poster</b>"))
    room = Room(await tabs.open(stage.shop.page(drop.drop_id)))
    await room.joins()
    await stage.lab.parts.drops.steer(drop.drop_id, "notice", "<img src=x onerror=alert(1)> Doors at eight")
    await expect(room.part("notice")).to_contain_text("<img src=x onerror=alert(1)> Doors at eight")
    assert await room.host.evaluate("(host) => host.shadowRoot.querySelectorAll('img').length") == 0


async def test_a_message_runs_in_its_own_direction(stage: Stage, tabs: Tabs) -> None:
    drop = await stage.open_drop(a_drop(opens_in_s=3600))
    room = Room(await tabs.open(stage.shop.page(drop.drop_id, lang="ar")))
    await room.joins()
    await stage.lab.parts.drops.steer(drop.drop_id, "notice", "Doors at eight.")
    paragraph = room.part("notice").locator("p")
    await expect(paragraph).to_have_text("Doors at eight.")
    begins_at = """(paragraph) => {
      const text = document.createRange();
      text.selectNodeContents(paragraph);
      return text.getBoundingClientRect().left - paragraph.getBoundingClientRect().left;
    }"""
    assert await paragraph.evaluate(begins_at) < 2
    assert await room.part("details").locator("p").first.evaluate(begins_at) > 2  # the card itself runs from right to left
