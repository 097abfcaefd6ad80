"""Debian's Chromium: where it is, how it gets here, and how it is started. Playwright drives it and never brings one along."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.debian import provide

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

REQUIRED = "FLASHSALE_BROWSER"
"""environment variable; `required` where a run without a browser proves too little"""
NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "fonts-dejavu-core")
"""with one font at least: a bare machine has none, and every layout would be another"""
MISSING = (
    "The browser tests need Chromium, which is not on the PATH and could not be installed from here. "
    f"Debian and Ubuntu: sudo apt-get install {' '.join(PACKAGES)}. Anywhere else: have one of {', '.join(NAMES)} on the PATH."
)
ARGUMENTS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """The path of the browser, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def provide_chromium() -> str | None:
    """The browser's path; where it is missing and this is root on Debian, it is installed from its package, once in a test run."""
    return provide(PACKAGES, find_chromium)


def is_required() -> bool:
    """Whether tests without a browser fail instead of being skipped."""
    return os.environ.get(REQUIRED) == "required"


async def launch(playwright: Playwright, executable: str) -> Browser:
    """A browser with a profile of its own, which is thrown away with it."""
    sandbox = () if os.geteuid() else ("--no-sandbox",)  # Chromium's own sandbox refuses to be root's
    return await playwright.chromium.launch(executable_path=executable, args=[*ARGUMENTS, *sandbox])
