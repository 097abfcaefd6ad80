"""The desktop a command runs on, if it does."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from contextlib import suppress


def is_desktop_terminal() -> bool:
    """Whether somebody reads stdout on a machine with a screen: a browser in the terminal itself would take it over."""
    has_screen = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return has_screen and sys.stdout.isatty()


async def open_in_browser(url: str) -> None:
    """Opens `url` in the person's browser; where that does not work, nothing happens. Never blocks the loop."""
    with suppress(webbrowser.Error, OSError):
        await asyncio.to_thread(webbrowser.open, url)
