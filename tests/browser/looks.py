"""How a page looks, checked without looking: axe's rules, the layout's faults, and its coarse geometry beside a recorded one.

faults = await looks_of(page, "shop-product-phone")       # [] or sentences
UPDATE_LAYOUTS=1 make test ARGS="tests/browser"     # after a layout was changed on purpose; look at build/screenshots first
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from playwright.async_api import Page

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
LAYOUTS = Path(__file__).with_name("layouts.json")
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = Path(__file__).with_name("looks.js")
LANDMARKS = "header, main, footer, nav, aside, h1, flash-sale-room, [part]:not([part=''], [part~=clock])"
"""Not the countdown: it is as wide as the time that is left."""
SIDEWAYS_SHARE = 0.06
"""of the page's width a box may be off: fonts differ between machines"""
DOWN_SHARE, DOWN_PX = 0.35, 40
"""and down the page: lines break elsewhere"""
_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


async def evaluate_past_policy(page: Page, expression: str) -> Any:
    """The value of an expression, which the page's own policy has no say in: as a debugger asks, not as a script runs."""
    session = await page.context.new_cdp_session(page)
    try:
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True, "allowUnsafeEvalBlockedByCSP": True}
        answer = await session.send("Runtime.evaluate", asked)
    finally:
        await session.detach()
    assert "exceptionDetails" not in answer, answer["exceptionDetails"]
    return answer["result"].get("value")


async def axe_of(page: Page, *, disabled: tuple[str, ...] = ()) -> list[str]:
    """What axe-core finds wrong, a sentence each, shadow trees included.

    Args:
        page: as it is now.
        disabled: rules that do not apply, by axe's names.
    """
    await evaluate_past_policy(page, f"{AXE.read_text(encoding='utf-8')};0")
    options = {"runOnly": {"type": "tag", "values": _RULES}, "rules": {name: {"enabled": False} for name in disabled}}
    found = await evaluate_past_policy(page, f"axe.run(document, {json.dumps(options)}).then((told) => told.violations)")
    return [f"{one['id']}: {one['help']}: {node['html'][:160]} {node['failureSummary']}" for one in found for node in one["nodes"]]


async def layout_faults(page: Page) -> list[str]:
    """What lies outside the viewport or over something else, and whether the page scrolls sideways."""
    await _prepare(page)
    found: list[str] = await evaluate_past_policy(page, "looks.faults()")
    return found


async def looks_of(page: Page, name: str, *, landmarks: str = LANDMARKS) -> list[str]:
    """A screenshot `build/screenshots/<name>.png`, and what is wrong with the layout: its faults, and what has moved.

    Args:
        page: as it is now.
        name: of the screenshot and of the recorded layout, one a page and state.
        landmarks: selector of what is compared with the record.
    """
    await screenshot(page, name)
    return [*await layout_faults(page), *await _moved(page, name, landmarks)]


async def screenshot(page: Page, name: str) -> None:
    """The whole page, as an artefact."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, animations="disabled")


async def announcements(page: Page) -> list[list[str | None]]:
    """Starts to write down in `announced` what live regions say; their roles and politeness."""
    await _prepare(page)
    regions: list[list[str | None]] = await evaluate_past_policy(page, "looks.listen()")
    return regions


async def announced(page: Page) -> list[dict[str, str]]:
    """What they have said: {text, role} each."""
    said: list[dict[str, str]] = await evaluate_past_policy(page, "announced")
    return said


async def _prepare(page: Page) -> None:
    await evaluate_past_policy(page, f"globalThis.looks ?? ({LOOKS.read_text(encoding='utf-8').strip().removesuffix(';')}, 0), 0")


async def _moved(page: Page, name: str, landmarks: str) -> list[str]:
    seen: dict[str, list[int]] = await evaluate_past_policy(page, f"looks.geometry({json.dumps(landmarks)})")
    width = await page.evaluate("document.documentElement.clientWidth")
    recorded: dict[str, Any] = json.loads(LAYOUTS.read_text(encoding="utf-8")) if LAYOUTS.exists() else {}
    if os.environ.get("UPDATE_LAYOUTS"):
        recorded[name] = {"width": width, "boxes": seen}
        LAYOUTS.write_text(_as_json(recorded), encoding="utf-8")
    assert name in recorded, f"no layout of {name} is recorded: look at build/screenshots/{name}.png, then run with UPDATE_LAYOUTS=1"
    return differences(recorded[name]["boxes"], seen, width)


def differences(recorded: dict[str, list[int]], seen: dict[str, list[int]], width: int) -> list[str]:
    """How a layout differs from the recorded one by more than another font would make it."""
    changed = [f"{gone} is gone" for gone in recorded.keys() - seen.keys()] + [f"{new} is new" for new in seen.keys() - recorded.keys()]
    for box in recorded.keys() & seen.keys():
        for side, was, now in zip(("left", "top", "width", "height"), recorded[box], seen[box], strict=True):
            down = side in {"top", "height"}
            leeway = max(DOWN_PX, DOWN_SHARE * max(was, now)) if down else SIDEWAYS_SHARE * width
            if abs(was - now) > leeway:
                changed.append(f"{side} of {box} was {was} px and is {now} px")
    return sorted(changed)


def _as_json(recorded: dict[str, Any]) -> str:
    """One line a box, so that a change reads well in a diff."""
    layouts = []
    for name, layout in sorted(recorded.items()):
        boxes = ",\n".join(f"      {json.dumps(box)}: {json.dumps(sides)}" for box, sides in sorted(layout["boxes"].items()))
        layouts.append(f'  {json.dumps(name)}: {{\n    "width": {layout["width"]},\n    "boxes": {{\n{boxes}\n    }}\n  }}')
    return "{\n" + ",\n".join(layouts) + "\n}\n"
