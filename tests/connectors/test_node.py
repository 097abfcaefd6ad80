"""The npm module, run by Node: every vector in Express, on node:http, with fetch and in a worker's runtime, its types, and its files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flashsale.verify import Code
from tests.connectors.make_entrance import FILE as ENTRANCE
from tests.connectors.make_entrance import main as make_entrance
from tests.connectors.make_entrance import module
from tests.connectors.vector_file import MIN_EPOCH, NOW_S, VECTORS
from tests.node import NODE, needs_node
from tests.vectors.make_admission_tokens import FILE, RECEIPTS, STRANGER, Maker

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "connectors" / "node"
needs_modules = pytest.mark.skipif(
    not all((ROOT / "node_modules" / name).is_dir() for name in ("jose", "express", "@edge-runtime")),
    reason="node_modules is not set up: make setup",
)
WAYS = ("core", "express", "node", "fetch", "worker")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Each check's name, and what was wrong."""
    made = tmp_path_factory.mktemp("node") / "made.json"
    make = Maker(NOW_S)
    others = [STRANGER.jwk("receipt"), RECEIPTS.jwk("admission") | {"kty": "EC"}]
    made.write_text(
        json.dumps({"stranger": make.token(STRANGER), "next_epoch": make.token(epoch=MIN_EPOCH + 1), "other_keys": others}),
        encoding="utf-8",
    )
    assert NODE is not None
    done = subprocess.run(
        [NODE, Path(__file__).with_name("run_node.mjs"), FILE, made], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout))


@needs_node
@needs_modules
@pytest.mark.parametrize("way", WAYS)
def test_every_vector(results: dict[str, str | None], way: str) -> None:
    wrong = {vector.name: results[f"{way}: {vector.name}"] for vector in VECTORS}
    assert {name: trouble for name, trouble in wrong.items() if trouble is not None} == {}


@needs_node
@needs_modules
def test_what_a_door_does_besides(results: dict[str, str | None]) -> None:
    names = {f"{way}: {vector.name}" for way in WAYS for vector in VECTORS}
    besides = {name: trouble for name, trouble in results.items() if name not in names}
    assert len(besides) > 12
    assert {name: trouble for name, trouble in besides.items() if trouble is not None} == {}


@needs_node
@needs_modules
def test_the_types_are_those_of_the_module(tmp_path: Path) -> None:
    compiler = ROOT / "node_modules" / "typescript" / "bin" / "tsc"
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom", "--types", ""]
    assert NODE is not None
    done = subprocess.run(
        [NODE, compiler, *options, Path(__file__).with_name("uses_types.ts")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_module_carries_the_entrance() -> None:
    assert ENTRANCE.read_text(encoding="utf-8") == module(), f"Run: python -m {make_entrance.__module__}"


def test_what_is_published_is_there_and_depends_on_one_package() -> None:
    package = json.loads((MODULE / "package.json").read_text(encoding="utf-8"))
    assert all((MODULE / name).is_file() for name in package["files"])
    assert set(package["files"]) == {path.name for path in MODULE.iterdir() if path.is_file() and path.name != "package.json"}
    assert set(package["dependencies"]) == {"jose"}


@pytest.mark.parametrize("name", ["index.js", "index.d.ts"])
def test_the_codes_are_the_same_everywhere(name: str) -> None:
    text = (MODULE / name).read_text(encoding="utf-8")
    assert all(code.value in text for code in Code)
