"""The browser tests' fixtures; `tests/browser/stage.py` says what they give.

stage    the service, its stores and a storefront: one of each for all tests of a process. Drops are each test's own, and end with it.
lab      the same service, for tests that stop or break a part of it; mended afterwards
tabs     opens people's browsers; a test fails when one complains (console errors, broken policies, third parties)
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from chaos.lab import Lab
from tests.browser.chromium import MISSING, is_required, launch, provide_chromium
from tests.browser.looks import screenshot
from tests.browser.stage import Complaints, Stage, Tabs, running_stage
from tests.folders import scratch

HERE = Path(__file__).parent
PICTURES_MAX = 4
"""of a test with many tabs"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--offline-s", type=float, help="seconds for which a shopper of the whole drop is offline at least, e.g. 60")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where no browser can be had, its tests are skipped and say how to install one; unless one is required, then they fail so."""
    ours = [item for item in items if HERE in item.path.parents]
    if ours and not config.option.collectonly and not is_required() and provide_chromium() is None:
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.fixture(scope="session")
async def stage() -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="flashsale-browser-", dir=scratch(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        async with running_stage(folder) as running:
            yield running


@pytest.fixture
async def ending(stage: Stage) -> AsyncIterator[None]:
    """Ends what a test has opened; a drop that several share belongs to their module, which opened it before."""
    before = len(stage.opened)
    yield
    await stage.retire(stage.opened[before:])


@pytest.fixture
async def lab(stage: Stage, ending: None) -> AsyncIterator[Lab]:
    yield stage.lab
    await stage.lab.heal()


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    executable = provide_chromium()
    if executable is None:
        pytest.fail(MISSING, pytrace=False)
    async with async_playwright() as playwright:
        browser = await launch(playwright, executable)
        yield browser
        await browser.close()


@pytest.fixture
def complaints(stage: Stage) -> Complaints:
    return Complaints(frozenset({stage.url, stage.shop.origin}))


@pytest.fixture
async def tabs(browser: Browser, complaints: Complaints, ending: None, request: pytest.FixtureRequest) -> AsyncIterator[Tabs]:
    tabs = Tabs(browser, complaints)
    yield tabs
    module, test = request.path.stem.removeprefix("test_"), request.node.name.removeprefix("test_")
    for number, page in enumerate(tabs.pages[:PICTURES_MAX], 1):
        await screenshot(page, re.sub(r"[^\w.-]+", "-", f"{module}.{test}" + (f".{number}" if number > 1 else "")).strip("-"))
    await tabs.close()
    assert not complaints.found
