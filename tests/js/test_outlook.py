"""The browser says what the service says, of every place in every kind of document."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.node import NODE, needs_node

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "web" / "outlook.js"
RUNNER = Path(__file__).with_name("run_outlook.mjs")
VECTORS = json.loads((ROOT / "tests" / "vectors" / "outlook.json").read_text(encoding="utf-8"))
CASES = VECTORS["cases"]
POLL = {"floor_ms": 2_000, "ceiling_ms": 30_000, "divisor": 20}
POLLS = [
    {"poll": POLL, "wait_ms": wait_ms, "random": random, "expected": middle_ms * (0.7 + 0.6 * random)}
    for random in (0.0, 0.5, 0.999)
    for wait_ms, middle_ms in ((0, 2_000), (39_999, 2_000), (200_000, 10_000), (10_000_000, 30_000))
]

pytestmark = needs_node


@cache
def said() -> dict[str, list[Any]]:
    """What the module answers to all of it."""
    asked = json.dumps({"module": str(MODULE), **VECTORS, "polls": POLLS})
    argv = [str(NODE), "--no-warnings", str(RUNNER)]
    done = subprocess.run(argv, input=asked, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


def test_there_are_enough_cases_of_every_kind() -> None:
    assert len(CASES) >= 60
    assert {case["eta_ms"] is None for case in CASES} == {True, False}
    assert {0.0, 1.0} <= {case["chance"] for case in CASES}


def test_it_says_what_the_service_says() -> None:
    for case, told in zip(CASES, said()["told"], strict=True):
        assert told["position"] == case["position"], case
        assert (told["eta_ms"] is None) == (case["eta_ms"] is None), case
        assert told["eta_ms"] is None or told["eta_ms"] == pytest.approx(case["eta_ms"], abs=1), case
        assert told["chance"] == (None if case["chance"] is None else pytest.approx(case["chance"], abs=1e-9)), case


def test_the_next_look_is_within_its_bounds_and_spread() -> None:
    for poll, answered in zip(POLLS, said()["polled"], strict=True):
        assert answered == pytest.approx(poll["expected"]), poll
