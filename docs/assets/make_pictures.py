"""Makes the README's pictures from a real demo: `python docs/assets/make_pictures.py [CHROMIUM]`.

`demo.svg` is what the terminal shows: the live view in the middle of the sale, and the card at the end. With the path of a
Chromium, `page.png` is the page of somebody who waits in line in the same demo.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse
from rich.console import Console, RenderableType
from rich.text import Text

from flashsale.access import Scope, create_key
from flashsale.cli.looking import Looker
from flashsale.cli.rehearsal import HUMAN_PACE, SETTINGS, Scenario, come_to_rest, crowd, make_drop, new_drop_id, report_on, verdict
from flashsale.cli.shapes import Picture
from flashsale.cli.stack import running_stack
from flashsale.cli.summary_card import show_card
from flashsale.cli.target import Parts, opened
from flashsale.cli.watch_view import History, view

FOLDER = Path(__file__).parent
WIDTH = 96
SCENARIO = Scenario(shoppers=2000, units=300, seed=7, opens_in_s=10, pace=HUMAN_PACE)
PNG_BYTES_MAX = 200_000
PATIENCE_S = 60
MIDDLE_OF_THE_LINE_S = 0.8
"""Who joins this late waits a while and still gets something."""


class Photographer:
    """Keeps the live view of the moment about two thirds of the units are sold."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._history = History()
        self.best: Any = None
        self._distance = 2.0

    async def watch(self, parts: Parts, drop_id: str) -> None:
        looker = Looker(parts, drop_id)
        while True:
            _, picture = await looker.look()
            self._history.add(picture)
            if (distance := abs(_sold_share(picture) - 0.66)) < self._distance and picture.state == "open":
                self._distance, self.best = distance, _drawn(view(picture, self._name, self._history))
            await asyncio.sleep(1)


def _drawn(shown: RenderableType) -> str:
    """What is shown, as text with its colours, taken now."""
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=WIDTH, highlight=False)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


def _sold_share(picture: Picture) -> float:
    return sum(stock.sold for stock in picture.skus.values()) / SCENARIO.units


async def main(chromium: str | None) -> None:
    """Plays the demo and writes the pictures."""
    started = time.time()
    async with AsyncExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="flashsale-pictures-", ignore_cleanup_errors=True)))
        folder.chmod(0o711)
        stack = await held.enter_async_context(running_stack(folder / "data", port=0, workers=2, overrides=SETTINGS))
        parts = await held.enter_async_context(opened(stack.settings))
        _, key = await create_key(parts.database, [Scope.STOREFRONT], label="demo")
        drop = make_drop(new_drop_id(), SCENARIO, int(time.time() * 1000))
        await parts.catalog.create(drop)
        photographer = Photographer(drop.name)
        async with crowd(stack.http_url, drop.drop_id, SCENARIO, key, folder / "data") as shoppers:
            watching = asyncio.create_task(photographer.watch(parts, drop.drop_id))
            if chromium is not None:
                await photograph_page(chromium, f"{stack.http_url}/drops/{drop.drop_id}", folder / "profile")
            seen = await shoppers.finished()
            watching.cancel()
        await come_to_rest(parts, drop.drop_id)
        report = {
            "shoppers": SCENARIO.shoppers,
            "units": SCENARIO.units,
            "seed": SCENARIO.seed,
            "seconds": round(time.time() - started, 2),
            **await report_on(parts, drop.drop_id, seen),
        }
    write_terminal(photographer.best, report)


def write_terminal(live: str, report: dict[str, Any]) -> None:
    """The terminal as a picture."""
    console = Console(record=True, force_terminal=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print(
        Text.assemble(
            ("$ ", "dim"),
            ("make demo", "bold"),
            (f' ARGS="--shoppers {SCENARIO.shoppers} --units {SCENARIO.units} --seed {SCENARIO.seed}"', ""),
        )
    )
    console.print()
    console.print(Text.from_ansi(live.rstrip("\n")))
    console.print()
    show_card(console, report, verdict(report))
    svg = console.export_svg(title="flashsale demo")
    # The picture loads nothing from elsewhere: whoever sees it has a monospace font.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (FOLDER / "demo.svg").write_text(svg, encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------ the browser


async def photograph_page(chromium: str, url: str, profile: Path) -> None:
    """Takes part in a fresh browser and takes its picture when the turn has come."""
    process = await asyncio.create_subprocess_exec(
        *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"),
        *("--remote-debugging-port=0", "--window-size=900,900", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async for line in process.stderr:
            if b"DevTools listening on" in line:
                break
        port = line.decode().rsplit(":", 1)[1].split("/")[0]
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                page = next(target for target in await answer.json() if target["type"] == "page")
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                await _take_part(Tab(socket), url)
    finally:
        process.kill()
        await process.wait()


class Tab:
    """One page of the browser, over its debugging protocol."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._id = 0

    async def call(self, method: str, **parameters: object) -> Any:
        self._id += 1
        await self._socket.send_json({"id": self._id, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive(timeout=20)).data)
            if message.get("id") == self._id:
                return message["result"]

    async def evaluate(self, script: str) -> Any:
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return result["result"].get("value")

    async def picture(self) -> bytes:
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


async def _take_part(tab: Tab, url: str) -> None:
    """Joins, waits in line, where the picture is taken, reserves and pays."""
    await tab.call("Emulation.setDeviceMetricsOverride", width=640, height=620, deviceScaleFactor=1.5, mobile=False)
    await tab.call("Emulation.setScrollbarsHidden", hidden=True)
    await tab.call("Page.navigate", url=url)
    await _until(tab, "!document.getElementById('act').hidden")
    await asyncio.sleep(MIDDLE_OF_THE_LINE_S)
    await tab.evaluate("document.getElementById('act').click()")
    await _until(
        tab, "document.getElementById('headline').textContent.startsWith('You are in line') && !stock.textContent.includes('180 of 180')"
    )
    png = await tab.picture()
    assert len(png) < PNG_BYTES_MAX, f"the picture has {len(png)} bytes"
    (FOLDER / "page.png").write_bytes(png)
    await _until(tab, "document.getElementById('headline').textContent === 'Your turn.'")
    await tab.evaluate("document.getElementById('act').click()")
    await _until(tab, "document.getElementById('headline').textContent.startsWith('Reserved for you')")
    await tab.evaluate("document.getElementById('act').click()")
    await _until(tab, "document.getElementById('headline').textContent === 'It is yours.'")


async def _until(tab: Tab, condition: str) -> None:
    """Returns once the page says so."""
    async with asyncio.timeout(PATIENCE_S):
        while not await tab.evaluate(condition):  # noqa: ASYNC110 - the page tells nobody
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
