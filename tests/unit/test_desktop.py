"""A browser is opened where somebody sits in front of a screen, and nowhere else."""

from __future__ import annotations

import io
import sys
import webbrowser

import pytest

from flashsale.cli.desktop import is_desktop_terminal, open_in_browser


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdout", "variables", "expected"),
    [
        (Terminal(), {"DISPLAY": ":0"}, True),
        (Terminal(), {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (Terminal(), {}, False),
        (io.StringIO(), {"DISPLAY": ":0"}, False),
    ],
)
def test_a_desktop_is_a_screen_and_a_terminal(
    monkeypatch: pytest.MonkeyPatch, stdout: io.StringIO, variables: dict[str, str], *, expected: bool
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert is_desktop_terminal() is expected


async def test_no_browser_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_browser(_url: str) -> bool:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "open", no_browser)
    await open_in_browser("http://127.0.0.1:1/shop/")
