"""The browser's check says what the command's check says, step for step, and draws the same numbers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.node import NODE, needs_node
from tests.unit.fairness_stage import cases

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "web" / "verify-draw.js"
RUNNER = Path(__file__).with_name("run_verify_draw.mjs")
FRAME = Path(__file__).with_name("page_frame.mjs")
VECTORS = json.loads((ROOT / "tests" / "vectors" / "draw.json").read_text(encoding="utf-8"))

pytestmark = needs_node


def run(**request: Any) -> Any:
    """What the module answers to all of it."""
    argv = [str(NODE), "--no-warnings", str(RUNNER)]
    asked = json.dumps({"module": str(MODULE), **request})
    done = subprocess.run(argv, input=asked, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_it_says_what_the_command_says() -> None:
    every = list(cases())
    said = run(cases=[case.as_json() for case in every])["verdicts"]
    for case, verdict in zip(every, said, strict=True):
        expected = case.verdict()
        assert verdict == {**json.loads(msgspec.json.encode(expected)), "passed": expected.passed}, case.name


def test_it_draws_the_same_numbers() -> None:
    asked, expected = [], []
    for vector in VECTORS:
        for entry, place in vector["pairs"][:: 1 if vector["entries"] <= 10 else 40]:
            asked.append((entry, vector["entries"], vector["key"]))
            expected.append(place)
    assert run(numbers=asked)["numbers"] == expected


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ((10, 10, "00" * 32), "RangeError: There is no number 10"),
        ((-1, 10, "00" * 32), "RangeError"),
        ((0, 0, "00" * 32), "RangeError"),
        ((0, 1, "x"), "64 hex"),
    ],
)
def test_a_number_outside_the_draw_is_refused(number: tuple[int, int, str], words: str) -> None:
    assert words in run(numbers=[number])["numbers"][0]["error"]


def test_a_browser_without_ed25519_says_so_and_checks_the_rest() -> None:
    every = [case for case in cases() if case.name in {"fair", "key", "late joiner"}]
    fair, late, key = run(cases=[case.as_json() for case in every], withoutEd25519=True)["verdicts"]
    assert fair["steps"][0] | {"sentence": ""} == {"name": "receipt", "passed": None, "sentence": ""}
    assert "cannot check Ed25519" in fair["steps"][0]["sentence"]
    assert (fair["passed"], fair["queue_number"]) == (False, every[0].verdict().queue_number)
    assert (late["queue_number"], key["queue_number"], key["steps"][-1]["name"]) == (1_507, None, "key")


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("fairness", None),
        ("fairness", {}),
        ("fairness", {"drop": "trial", "order": "draw", "lines": []}),
        ("proof", {"path": "x"}),
        ("jwks", []),
        ("jwks", {"keys": [None]}),
        ("commitment", "abc"),
    ],
)
def test_what_is_none_of_the_documents_is_told_so(part: str, wrong: Any) -> None:
    [answer] = run(cases=[{**next(cases()).as_json(), part: wrong}])["verdicts"]
    assert answer["error"].startswith("TypeError: The")


def test_it_knows_a_file_by_what_is_in_it() -> None:
    case = next(cases())
    parts = case.as_json()
    texts = {
        "receipt": case.receipt + "\n",
        "fairness": json.dumps(parts["fairness"]),
        "proof": json.dumps(parts["proof"]),
        "jwks": json.dumps(parts["jwks"]),
    }
    assert run(texts=list(texts.values()))["recognised"] == [{"part": part, "value": parts[part]} for part in texts]
    joined = json.dumps({"ticket_id": "trial.t1", "receipt": case.receipt})
    others = ["", "x", "null", "[]", '{"drop": "trial"}', "two.parts", "\u0000"]
    assert run(texts=[joined, *others])["recognised"] == [{"part": "receipt", "value": case.receipt}, *[None] * len(others)]


@pytest.fixture
def show(tmp_path: Path) -> Callable[..., Any]:
    """What the page shows for some files."""
    html = MODULE.with_suffix(".html").read_text(encoding="utf-8")
    [script] = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    page = tmp_path / "page.mjs"
    page.write_text(script.replace("./verify-draw.js", MODULE.as_uri()), encoding="utf-8")

    def shown(*files: str, commitment: str = "") -> Any:
        argv = [str(NODE), "--no-warnings", str(FRAME), page.as_uri(), json.dumps({"files": files, "commitment": commitment})]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return shown


def test_the_page_shows_every_step(show: Callable[..., Any]) -> None:
    fair = next(cases())
    files = [fair.receipt, *(json.dumps(fair.as_json()[part]) for part in ("fairness", "proof", "jwks"))]
    seen = show(*files)
    assert seen == {"said": "Everything was checked and holds.", "steps": [["ok", step.sentence] for step in fair.verdict().steps]}
    assert show(*files, commitment="00" * 32)["steps"][-1][0] == "failed"
    assert show(*files, commitment="x")["said"] == "The commitment is 64 hex digits."
    assert show(files[0])["said"] == "Still needed: the fairness document, the keys."
    assert show("something else")["said"] == "file 0 is none of the files this page understands."
