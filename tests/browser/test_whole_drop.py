"""A whole drop with twenty people in real browsers and a simulated crowd beside them, on real stores.

One reloads, one closes the tab and opens it again, one is offline when it is called, one looks from two tabs, and one has no
JavaScript. All keep their places, whoever came in time is drawn and checks the draw, nobody overtakes anybody in the order drawn,
every token buys, and in the end every unit is accounted for. `--offline-s 60` keeps one offline for a real minute.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import msgspec
import pytest
from playwright.async_api import BrowserContext, Page, expect

from chaos.lab import Lab
from flashsale.cli.rehearsal import Scenario, crowd
from flashsale.model import Drop
from tests.browser.looks import layout_faults
from tests.browser.stage import SKU, Complaints, Room, Stage, Tabs, a_drop

PEOPLE = 20
EARLY = 12
"""of them come before the opening, the others with the crowd"""
CROWD = 100
UNITS = 400
"""more than anybody could want, so that each token has something to buy"""
RELOADS, CLOSES, GOES_OFFLINE, HAS_TWO_TABS = range(4)
AWAY = "ERR_INTERNET_DISCONNECTED|status of 503"
"""offline; and a busy machine may be asked to come again"""


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_twenty_tabs_and_a_crowd_go_through_a_whole_drop(
    stage: Stage, lab: Lab, tabs: Tabs, complaints: Complaints, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    complaints.allow(AWAY)
    pace = {"rate_per_min": 1_200, "capacity": 60, "claim_window_ms": 60_000, "reservation_ttl_ms": 15_000}
    drop = await stage.open_drop(a_drop(opens_in_s=3600, order="draw", units=UNITS, limit=2, **pace))
    people = [await tabs.person() for _ in range(PEOPLE - 1)]
    without_script = await (await tabs.person(java_script_enabled=False)).new_page()
    url = stage.shop.page(drop.drop_id, buys=SKU, pays="1")

    early = [Room(await _opened(person, url)) for person in people[:EARLY]]
    for room in early:  # one after the other, so that it is known who came first
        await room.joins()
    places = [await room.kept() for room in early]
    assert [place["entry"] for place in places] == list(range(EARLY))
    await _join_without_script(without_script, stage, drop)

    await _disturb(early, people, url)
    offline_until = time.monotonic() + (request.config.getoption("--offline-s", default=None) or 0)
    await lab.parts.drops.steer(drop.drop_id, "open")
    scenario = Scenario(CROWD, UNITS, seed=20, opens_in_s=0, deadline_s=60)
    async with crowd(stage.url, drop.drop_id, scenario, lab.storefront_key, tmp_path) as shoppers:
        late = [Room(await _opened(person, url)) for person in people[EARLY:]]
        await asyncio.gather(*(room.joins() for room in late))
        await lab.until(drop, lambda seen: seen.snapshot.serving_number > EARLY)  # all of them have been called, wherever they are
        await asyncio.sleep(offline_until - time.monotonic())  # at once, unless a real minute is asked for
        await _settle(early, people, url)
        bought = [await _bought(room.page) for room in (*early, *late)]
        bought.append(await _buy_without_script(without_script))
        await stage.pay(bought[-1])
        seen = await shoppers.finished()

    # Each came by the place it had from the beginning, with the number drawn for it; whoever was late is behind them.
    numbers = []
    for room, place in zip(early, places, strict=True):
        kept = await room.kept()
        assert (kept["ticket"], kept["entry"]) == (place["ticket"], place["entry"])
        assert (await room.hears("draw"))["verified"]
        numbers.append(kept["number"])
    assert len(set(numbers)) == EARLY
    assert set(numbers) < set(range(EARLY + 1)), "the one without a script was drawn as well"
    assert min([(await room.kept())["number"] for room in late]) > EARLY
    for room in (*early, *late):
        assert await layout_faults(room.page) == []

    assert len(set(bought)) == PEOPLE
    played = await lab.judge(drop, msgspec.structs.replace(seen, reservations=seen.reservations | dict.fromkeys(bought, 1)))
    assert played.wrong == ()
    assert played.report["overtakes"] == 0
    assert played.report["joined"] > PEOPLE
    assert played.report["orders_in_postgres"]["expired"] > 0  # the crowd was a lively one
    assert played.report["orders_in_postgres"]["paid"] >= PEOPLE
    stock = (await lab.inspect(drop)).skus[SKU]
    assert stock.available + stock.sold == UNITS
    assert stock.reserved == 0


async def _opened(person: BrowserContext, url: str) -> Page:
    page = await person.new_page()
    await page.goto(url)
    await Room(page).comes_to("ready", "joined", "waiting", "called", "admitted")
    return page


async def _disturb(early: list[Room], people: list[BrowserContext], url: str) -> None:
    """What happens to some of them before the opening, and for one of them through it."""
    await early[RELOADS].page.reload()
    await early[RELOADS].comes_to("joined")
    await early[CLOSES].page.close()
    await people[GOES_OFFLINE].set_offline(True)
    await Room(await _opened(people[HAS_TWO_TABS], url)).comes_to("joined")


async def _settle(early: list[Room], people: list[BrowserContext], url: str) -> None:
    """They are back, after their turn has come."""
    await early[HAS_TWO_TABS].comes_to("admitted")
    await early[RELOADS].page.reload()
    early[CLOSES] = Room(await _opened(people[CLOSES], url))
    await people[GOES_OFFLINE].set_offline(False)


async def _bought(page: Page) -> str:
    """The reservation it made with its token: new, or, after a reload and in a second tab, the one the same key has made."""
    await expect(page.locator("body")).to_have_attribute("data-status", re.compile("^20[01]$"))
    return await page.locator("#bought").inner_text()


# ------------------------------------------------------------------------------------------------------ without JavaScript


async def _join_without_script(page: Page, stage: Stage, drop: Drop) -> None:
    await page.goto(f"{stage.url}/drops/{drop.drop_id}/line")
    await page.get_by_role("button", name="Join").click()


async def _buy_without_script(page: Page) -> str:
    """The page refreshes itself until there is something to choose."""
    await page.get_by_role("button", name="Reserve").click()
    return await page.locator("main code").inner_text()
