"""Programs of the distribution that a test needs: found, or installed from its packages where that is allowed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

INSTALL_WITHIN_S = 300


def provide(packages: Sequence[str], find: Callable[[], str | None]) -> str | None:
    """What `find` finds; where that is nothing and this is root on Debian, after installing `packages`, once in a test run."""
    if (found := find()) or os.geteuid() or not shutil.which("apt-get"):
        return found
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    with (Path(tempfile.gettempdir()) / f"flashsale-{packages[0]}-{run}.lock").open("a+", encoding="ascii") as tried:
        fcntl.flock(tried, fcntl.LOCK_EX)
        tried.seek(0)
        if not tried.read():
            tried.write("tried")
            _install(packages)
    return find()


def _install(packages: Sequence[str]) -> None:
    """Tries with the lists of packages there are, then with fresh ones."""
    wait = ("-o", "DPkg::Lock::Timeout=120")
    install = ("apt-get", "install", "--yes", "--no-install-recommends", *wait, *packages)
    for commands in ((install,), (("apt-get", "update", *wait), install)):
        if all(_succeeds(command) for command in commands):
            return


def _succeeds(command: tuple[str, ...]) -> bool:
    # In runlevel 1 no package starts a server of its own when it is installed.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0
