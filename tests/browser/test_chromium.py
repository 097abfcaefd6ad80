"""Getting a browser: found, installed once where that is allowed, or asked for in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.browser.chromium import MISSING, find_chromium, provide_chromium


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, on a machine that is root's."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def command(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
    path.chmod(0o755)


def calls(tools: Path) -> list[str]:
    log = tools / "calls"
    return log.read_text(encoding="ascii").splitlines() if log.exists() else []


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_that_is_there_is_taken(tools: Path, name: str) -> None:
    command(tools / name, "exit 0")
    assert find_chromium() == provide_chromium() == str(tools / name)


def test_root_on_debian_gets_the_package_with_fresh_lists_when_the_old_ones_do_not_do(tools: Path) -> None:
    install = f'[ -e "{tools}/lists" ] || exit 100; : > "{tools}/chromium"; PATH=/bin:/usr/bin chmod 755 "{tools}/chromium"'
    command(tools / "apt-get", f'echo "$1" >> "{tools}/calls"\ncase "$1" in update) : > "{tools}/lists";; install) {install};; esac')
    assert provide_chromium() == str(tools / "chromium")
    assert calls(tools) == ["install", "update", "install"]


def test_what_cannot_be_installed_is_tried_once_in_a_run(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tools / "apt-get", f'echo "$1" >> "{tools}/calls"; exit 100')
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "one-run")
    assert provide_chromium() is None
    assert provide_chromium() is None
    assert calls(tools) == ["install", "update"]
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "another-run")
    assert provide_chromium() is None
    assert len(calls(tools)) == 4


def test_nobody_but_root_installs_anything(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    command(tools / "apt-get", f'echo "$1" >> "{tools}/calls"')
    assert provide_chromium() is None
    assert calls(tools) == []
    assert "sudo apt-get install chromium" in MISSING


def test_where_one_is_required_and_none_can_be_had_its_tests_fail_and_say_why(tmp_path: Path) -> None:
    one = f"{Path(__file__).with_name('test_stage.py')}::test_axe_looks_and_finds"
    environment = {**os.environ, "PATH": str(tmp_path), "FLASHSALE_BROWSER": "required", "PYTEST_ADDOPTS": ""}
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", one)
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "1 error" in ran.stdout
    assert MISSING in ran.stdout
