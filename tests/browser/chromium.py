"""Debian's Chromium: where it is, how it gets here, and how it is started. Playwright drives it and never brings one along."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGE = "chromium"
INSTALL_WITHIN_S = 300
MISSING = (
    "The browser tests need Chromium, which is not on the PATH and could not be installed from here. "
    f"Debian and Ubuntu: sudo apt-get install {PACKAGE}. Anywhere else: have one of {', '.join(NAMES)} on the PATH."
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
    """The browser's path; where it is missing and this is root on Debian, its package is installed, once in a test run."""
    if (found := find_chromium()) or os.geteuid() or not shutil.which("apt-get"):
        return found
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    with (Path(tempfile.gettempdir()) / f"flashsale-chromium-{run}.lock").open("a+", encoding="ascii") as tried:
        fcntl.flock(tried, fcntl.LOCK_EX)
        tried.seek(0)
        if not tried.read():
            tried.write("tried")
            _install()
    return find_chromium()


def _install() -> None:
    """Tries with the lists of packages there are, then with fresh ones."""
    wait = ("-o", "DPkg::Lock::Timeout=120")
    install = ("apt-get", "install", "--yes", "--no-install-recommends", *wait, PACKAGE)
    for commands in ((install,), (("apt-get", "update", *wait), install)):
        if all(_succeeds(command) for command in commands):
            return


def _succeeds(command: tuple[str, ...]) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


async def launch(playwright: Playwright, executable: str) -> Browser:
    """A browser with a profile of its own, which is thrown away with it."""
    sandbox = () if os.geteuid() else ("--no-sandbox",)  # Chromium's own sandbox refuses to be root's
    return await playwright.chromium.launch(executable_path=executable, args=[*ARGUMENTS, *sandbox])
