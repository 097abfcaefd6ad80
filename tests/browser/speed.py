"""How fast the widget is on a slow phone: 400 ms and 400 kbit/s of network, a processor a quarter as fast.

    python -m tests.browser.speed
    python -m tests.browser.speed --runs 9 --json

Prints medians beside their goals, and ends with 1 when one is above. It is no test, for a number of milliseconds on a busy
machine proves nothing: what can be counted, and what must not block, is held by tests/browser/test_speed.py. `first paint` is
the storefront's own page; `useful` is when the widget has painted where the shopper stands; `widget` is what the main thread
spends on it until then: script, style, layout.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from playwright.async_api import Browser, Page, Route, async_playwright

from tests.browser.chromium import MISSING, launch, provide_chromium
from tests.browser.stage import PATIENCE_MS, SLOW_3G, Stage, a_drop, running_stage, throttle

CPU_RATE = 4
RUNS = 5
GOALS = {"useful_ms": 2_000, "widget_cpu_ms": 100}
"""what medians may be at most"""
_NOTE_USEFUL = """addEventListener("flash-sale-state", ({ detail }) => {
  if (detail.state !== "loading") requestAnimationFrame(() => setTimeout(() => { globalThis.usefulMs ??= performance.now(); }));
});"""
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a page with the widget."""

    first_paint_ms: float
    useful_ms: float
    widget_cpu_ms: float
    """of the slowed down processor"""


async def measure(browser: Browser, stage: Stage, url: str) -> Start:
    """One start in a fresh browser without any cache, beside the same page without the widget."""
    first_paint_ms, useful_ms, busy_ms = await _start(browser, stage, url)
    *_, idle_ms = await _start(browser, stage, url, blocked=True)
    return Start(first_paint_ms, useful_ms, max(0.0, busy_ms - idle_ms))


async def _start(browser: Browser, stage: Stage, url: str, *, blocked: bool = False) -> tuple[float, float, float]:
    """(first paint, useful, main thread's work until then) in ms."""
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    try:
        page = await context.new_page()
        await page.add_init_script(_NOTE_USEFUL)
        session = await throttle(page, cpu=CPU_RATE, network=SLOW_3G)
        await session.send("Performance.enable", {"timeDomain": "threadTicks"})  # what others take of the machine does not count
        if blocked:
            await page.route(f"{stage.url}/**", _abort)
        await page.goto(url)
        await page.wait_for_function(f"() => {_PAINTED}" if blocked else "() => globalThis.usefulMs", timeout=PATIENCE_MS)
        told = await session.send("Performance.getMetrics")
        seconds = {metric["name"]: metric["value"] for metric in told["metrics"]}
        busy_s = seconds["ScriptDuration"] + seconds["LayoutDuration"] + seconds["RecalcStyleDuration"]
        return await _number(page, _PAINTED), 0.0 if blocked else await _number(page, "globalThis.usefulMs"), busy_s * 1000
    finally:
        await context.close()


async def _abort(route: Route) -> None:
    await route.abort("blockedbyclient")


async def _number(page: Page, expression: str) -> float:
    return float(await page.evaluate(expression))


async def _measure_all(runs: int, executable: str) -> list[Start]:
    with tempfile.TemporaryDirectory(prefix="flashsale-speed-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        async with running_stage(folder) as stage, async_playwright() as playwright:
            browser = await launch(playwright, executable)
            drop = await stage.open_drop(a_drop(opens_in_s=3600))
            url = stage.shop.page(drop.drop_id)
            await measure(browser, stage, url)  # the first start of a browser is nobody's
            starts = [await measure(browser, stage, url) for _ in range(runs)]
            await browser.close()
            return starts


def above_goals(medians: Mapping[str, float]) -> list[str]:
    """Names of those that are greater than they may be."""
    return [name for name, goal in GOALS.items() if medians[name] > goal]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser.speed",
        description="How fast the widget is on a slow phone.",
        epilog="It ends with 1 when a median is above its goal, and with 2 when it could not measure. Nothing else should run meanwhile.",
    )
    parser.add_argument("--runs", type=int, default=RUNS, help=f"starts measured; medians are printed (default: {RUNS})")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    executable = provide_chromium()
    if executable is None:
        print(MISSING, file=sys.stderr)
        sys.exit(2)
    starts = [asdict(start) for start in uvloop.run(_measure_all(max(1, options.runs), executable))]
    medians = {name: round(statistics.median(start[name] for start in starts), 1) for name in starts[0]}
    above = above_goals(medians)
    if options.json:
        machine = {"network": asdict(SLOW_3G), "cpu_rate": CPU_RATE, "machine": platform.machine()}
        print(json.dumps({**machine, "medians": medians, "goals": GOALS, "above_goals": above, "starts": starts}, indent=2))
    else:
        _print_table(starts, medians, above)
    sys.exit(1 if above else 0)


def _print_table(starts: Sequence[Mapping[str, float]], medians: Mapping[str, float], above: Collection[str]) -> None:
    print(f"{SLOW_3G.latency_ms} ms, {SLOW_3G.bytes_per_s * 8 // 1000} kbit/s, processor / {CPU_RATE}; medians of {len(starts)}")
    for name, median in medians.items():
        values = [start[name] for start in starts]
        goal = f"   goal <= {GOALS[name]}{', missed' if name in above else ''}" if name in GOALS else ""
        print(f"{name:<16}{median:>9.1f}   ({min(values):.0f} to {max(values):.0f}){goal}")


if __name__ == "__main__":
    main()
