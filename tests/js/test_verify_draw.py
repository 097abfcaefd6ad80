"""The browser's check says what the command's check says, step for step, and draws the same numbers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.node import NODE, needs_node
from tests.unit.fairness_stage import Case, cases

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


ORIGIN = "https://queue.shop.example"


Answers = dict[str, tuple[int, Any]]
"""of a service, by path: status and document"""


def served(case: Case) -> Answers:
    """What a service answers about a case, by path."""
    parts = case.as_json()
    answers = {"/v1/drops/trial/fairness": (200, parts["fairness"]), "/.well-known/jwks.json": (200, parts["jwks"])}
    if case.proof is not None:
        group = f"?group={case.proof.group}" if case.proof.group else ""
        answers[f"/v1/drops/trial/fairness/proofs/{case.proof.entry_number}{group}"] = 200, parts["proof"]
    return answers


def verify_place(case: Case, changed: Answers | None = None, *, hangs: Sequence[str] = ()) -> tuple[Any, list[list[str]]]:
    """What the module says to a receipt when it asks a service for the rest, and what it asks for; `hangs` is never answered."""
    answers = {**served(case), **(changed or {})}
    place = {"origin": ORIGIN, "drop": "trial", "receipt": case.receipt, "commitment": case.commitment, "answers": answers, "hangs": hangs}
    said = run(places=[place])
    return said["verdicts"][0], said["asked"][0]


@pytest.mark.parametrize(
    "name",
    ["fair", "second device in a priority line", "late joiner", "secret", "missing proof", "secret and commitment, remembered"],
)
def test_it_asks_a_service_for_everything_but_the_receipt(name: str) -> None:
    case = next((case for case in cases() if case.name == name), None) or replace(next(cases()), proof=None)
    verdict, asked = verify_place(case)
    assert [step["sentence"] for step in verdict["steps"]] == [step.sentence for step in case.verdict().steps]
    assert {credentials for _, credentials in asked} == {"omit"}
    assert {address.removeprefix(ORIGIN) for address, _ in asked} >= served(case).keys()
    assert case.receipt not in str(asked)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/drops/trial/fairness", (503, {"code": "busy"})),
        ("/v1/drops/trial/fairness", (404, {"code": "drop_not_found"})),
        ("/.well-known/jwks.json", (429, {"code": "rate_limited"})),
        ("/.well-known/jwks.json", (200, {})),
    ],
)
def test_documents_that_cannot_be_had_are_no_verdict(path: str, answer: tuple[int, Any]) -> None:
    verdict, _ = verify_place(next(cases()), {path: answer})
    assert "Error: " in verdict["error"]


@pytest.mark.parametrize("path", ["/v1/drops/trial/fairness", "/.well-known/jwks.json", "/v1/drops/trial/fairness/proofs/1234"])
def test_no_answer_is_waited_for_without_end(path: str) -> None:
    verdict, _ = verify_place(next(cases()), hangs=[path])
    assert verdict["error"] == "TimeoutError: No answer in time."


def test_only_a_remembered_commitment_finds_an_exchanged_pair() -> None:
    """Whoever exchanges the secret exchanges its hash as well: everything fits, but for who has written down the first."""
    by_name = {case.name: case for case in cases()}
    unnoticed, _ = verify_place(by_name["secret and commitment"])
    assert unnoticed["passed"]
    assert "only one written down before" in next(step["sentence"] for step in unnoticed["steps"] if step["name"] == "commitment")
    noticed, _ = verify_place(by_name["secret and commitment, remembered"])
    assert [noticed["passed"], noticed["steps"][-1]["name"]] == [False, "commitment"]


def test_a_draw_that_was_not_made_yet_is_no_verdict() -> None:
    verdict, _ = verify_place(next(case for case in cases() if case.name == "not drawn yet"))
    assert "has not been made yet" in verdict["error"]


@pytest.fixture
def show(tmp_path: Path) -> Callable[..., Any]:
    """What the page shows for some files."""
    html = MODULE.with_suffix(".html").read_text(encoding="utf-8")
    [script] = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    page = tmp_path / "page.mjs"
    page.write_text(script.replace("./verify-draw.js", MODULE.as_uri()), encoding="utf-8")

    def shown(*files: str, commitment: str = "", **around: Any) -> Any:
        argv = [str(NODE), "--no-warnings", str(FRAME), page.as_uri(), json.dumps({"files": files, "commitment": commitment, **around})]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return shown


def test_the_page_shows_every_step(show: Callable[..., Any]) -> None:
    fair = next(cases())
    files = [fair.receipt, *(json.dumps(fair.as_json()[part]) for part in ("fairness", "proof", "jwks"))]
    seen = show(*files)
    assert seen == {
        "asked": [],
        "said": f"Everything was checked and holds. Your queue number is {fair.verdict().queue_number}.",
        "steps": [["ok", step.sentence] for step in fair.verdict().steps],
    }
    assert show(*files, commitment="00" * 32)["steps"][-1][0] == "failed"
    assert show(*files, commitment="x")["said"] == "The commitment is 64 hex digits."
    assert show(files[0])["said"] == "Still needed: the fairness document, the service's keys."
    assert show("something else")["said"] == "file 0 is none of the documents this page understands."


@pytest.mark.parametrize("name", ["fair", "second device in a priority line", "late joiner", "not drawn yet", "secret"])
def test_the_page_asks_its_service_for_everything_but_the_receipt(show: Callable[..., Any], name: str) -> None:
    case = next(case for case in cases() if case.name == name)
    parts = case.as_json()
    documents = "/v1/drops/trial/fairness", "/.well-known/jwks.json"
    answers = dict(zip(documents, (json.dumps(parts["fairness"]), json.dumps(parts["jwks"])), strict=True))
    asked = list(documents)
    if case.proof is not None:
        group = f"?group={case.proof.group}" if case.proof.group else ""
        asked.append(f"{documents[0]}/proofs/{case.proof.entry_number}{group}")
        answers[asked[-1]] = json.dumps(parts["proof"])
    seen = show(answers=answers, location={"search": "?drop=trial", "hash": f"#receipt={case.receipt}"})
    assert seen["asked"] == asked, "and for nothing twice"
    assert [sentence for _, sentence in seen["steps"]] == [step.sentence for step in case.verdict().steps]
    expected = {"not drawn yet": "The draw has not been made yet.", "secret": "It does not hold."}
    assert seen["said"].startswith(expected.get(name, "Everything was checked and holds."))


def test_the_page_takes_the_commitment_that_a_place_was_given(show: Callable[..., Any]) -> None:
    """As the waiting room's element links to it."""
    case = next(case for case in cases() if case.name == "secret and commitment, remembered")
    parts = case.as_json()
    answers = {
        "/v1/drops/trial/fairness": json.dumps(parts["fairness"]),
        "/.well-known/jwks.json": json.dumps(parts["jwks"]),
        "/v1/drops/trial/fairness/proofs/1234": json.dumps(parts["proof"]),
    }

    def seen(fragment: str) -> str:
        said: str = show(answers=answers, commitment=None, location={"search": "?drop=trial", "hash": fragment})["said"]
        return said

    assert seen(f"#receipt={case.receipt}").startswith("Everything was checked and holds.")
    assert seen(f"#receipt={case.receipt}&commitment={case.commitment}") == "It does not hold. The last step says why."
    assert seen(f"#receipt={case.receipt}&commitment=x").startswith("Still needed: your receipt")


@pytest.mark.parametrize("search", ["?drop=../admin", "?drop=TRIAL", "?drop=trial&x=1", "?drop="])
def test_the_page_asks_for_no_other_address(show: Callable[..., Any], search: str) -> None:
    assert show(location={"search": search, "hash": "#receipt=<b>"})["asked"] == []
