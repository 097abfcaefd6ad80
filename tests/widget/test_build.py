"""The built widget: what is committed is what the source gives, small enough, clean enough for strict pages, with types that hold."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from pathlib import Path

import pytest

from flashsale.model import JoinOutcome, Refused
from flashsale.web.problems import of_refusal
from tests.node import NODE, needs_node

ROOT = Path(__file__).parents[2]
DIST = ROOT / "widget" / "dist"
GZIP_BYTES_MAX = 8192
SCRIPT = (DIST / "flash-sale-room.js").read_text(encoding="utf-8")
PLACE = (DIST / "place.js").read_text(encoding="utf-8")

pytestmark = needs_node


def node(*argv: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(NODE), *argv], capture_output=True, text=True, timeout=120, check=False, cwd=cwd)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_committed_is_what_the_source_gives(tmp_path: Path) -> None:
    done = node("widget/build.mjs", "--into", str(tmp_path / "dist"))
    assert done.returncode == 0, done.stderr[-2000:]
    differing = {name for name, _ in contents(tmp_path / "dist").items() ^ contents(DIST).items()}
    assert not differing, f"build the widget again (npm run build --workspace widget) and commit widget/dist: {sorted(differing)}"


def test_it_is_small() -> None:
    assert len(gzip.compress(SCRIPT.encode(), 9, mtime=0)) <= GZIP_BYTES_MAX


FORBIDDEN = (
    *(r"\binnerHTML\b", r"\bouterHTML\b", r"\binsertAdjacentHTML\b", r"\bdocument\.write\b", r"\beval\b", r"\bFunction\("),
    *(r"\.cookie\b", r"\bstyle=", r"cssText", r"\bconsole\.", r"https?://"),
)


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_it_runs_on_pages_with_the_strictest_policy(forbidden: str) -> None:
    assert re.search(forbidden, SCRIPT) is None


def test_it_asks_without_cookies() -> None:
    assert SCRIPT.count("fetch(") == SCRIPT.count('credentials:"omit"') == 1


def test_it_is_one_file_that_loads_only_its_languages_what_a_place_is_told_and_the_verifier() -> None:
    for script in (SCRIPT, PLACE):
        assert re.search(r"\bimport\s*[\"{*]|\bfrom\s*\"", script) is None
    assert set(re.findall(r"[\w-]{3,}\.js\b", SCRIPT)) == {"place.js", "verify-draw.js"}
    assert not re.search(r"\.js\b|\bimport\(|\bfetch\(", PLACE)
    assert len(re.findall(r"\bimport\(", SCRIPT)) == 1
    assert contents(DIST).keys() >= {
        "place.js",
        "verify-draw.js",
        *(f"languages/{name}.json" for name in ("ar", "de", "en", "es", "fr", "ja")),
    }


def test_the_default_colours_are_colours_in_browsers_without_light_dark() -> None:
    """Safari before 17.5 and Chrome before 123: there, a property with an unknown function is none, and the button not to be seen."""
    [supporting] = re.findall(r"@supports \(color:light-dark\(\w+,\w+\)\)\{[^{}]*\{[^{}]*\}\}", SCRIPT)
    assert "light-dark(" in supporting
    assert "light-dark(" not in SCRIPT.replace(supporting, "")
    assert re.search(r"--blue:#\w+;--red:#\w+;", SCRIPT)


def test_roles_are_written_as_attributes() -> None:
    """Firefox before 119 has no `role` and no `aria…` that write them."""
    assert re.search(r"\.(role|aria[A-Z]\w+)=", SCRIPT) is None


def test_shortened_names_are_nobody_elses() -> None:
    build = (ROOT / "widget" / "build.mjs").read_text(encoding="utf-8")
    [listed] = re.findall(r"INTERNAL = \[(.*?)\];", build, re.DOTALL)
    internal = set(re.findall(r'"(\w+)"', listed))
    described = (ROOT / "flashsale" / "web" / "openapi.yaml").read_text(encoding="utf-8")
    typed = (DIST / "flash-sale-room.d.ts").read_text(encoding="utf-8")
    fields = {
        *re.findall(r"^\s*(\w+):", described, re.MULTILINE),
        *re.findall(r"[{,]\s*(\w+):", described),
        *re.findall(r"^\s*(?:readonly )?(\w+)\??[:(]", typed, re.MULTILINE),
    }
    placeholders = set(re.findall(r"\{(\w+)\}", (DIST / "languages" / "en.json").read_text(encoding="utf-8")))
    assert internal
    assert not internal & (fields | placeholders)
    place = (ROOT / "widget" / "src" / "place.js").read_text(encoding="utf-8")
    assert not internal & set(re.findall(r"\w+", re.sub(r"(?m)//.*|(?s:/\*.*?\*/)", "", place))), (
        "an open page may load it from a later version"
    )


# What a join comes to without words of a refusal: a place, a state of the card, another try, or what the next document tells.
UNSPOKEN = frozenset(
    {
        *(JoinOutcome.JOINED, JoinOutcome.REPLAYED, JoinOutcome.RESTORED, JoinOutcome.TAKEN_OVER),
        *(JoinOutcome.MOVED, JoinOutcome.REMOVED),
        *(JoinOutcome.ROOM_FULL, JoinOutcome.RECOVERING, JoinOutcome.LEFT),
        *(JoinOutcome.NOT_OPEN, JoinOutcome.CLOSED, JoinOutcome.SOLD_OUT),
    }
)


@pytest.mark.parametrize("outcome", sorted(set(JoinOutcome) - UNSPOKEN))
def test_every_refusal_of_a_join_that_the_shopper_is_told_has_words(outcome: JoinOutcome) -> None:
    words = json.loads((DIST / "languages" / "en.json").read_text(encoding="utf-8"))
    assert of_refusal(Refused(outcome)).code in words


def test_the_package_holds_together() -> None:
    package = json.loads((ROOT / "widget" / "package.json").read_text(encoding="utf-8"))
    assert not package.keys() & {"dependencies", "peerDependencies"}
    for named in (package["main"], package["types"]):
        assert (ROOT / "widget" / named).is_file()


def test_its_types_hold() -> None:
    compiler = ROOT / "node_modules" / "typescript" / "bin" / "tsc"
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2023,dom,dom.iterable", "--types", ""]
    done = node(str(compiler), *options, "tests/widget/usage.ts")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
