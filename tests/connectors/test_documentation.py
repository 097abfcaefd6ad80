"""docs/verifying.md says what is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from flashsale.verify import Code
from flashsale.verify.tokens import CLOCKS_APART_S, LIFE_MAX_S, TOKEN_LENGTH_MAX, TOKEN_TYPE
from tests.connectors.vector_file import VECTORS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "verifying.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_uses_what_there_is(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            exec(ast.unparse(node))


def test_the_verifier_and_the_door_of_the_example_can_be_made() -> None:
    made: dict[str, object] = {}
    exec(compile(BLOCKS[0], "docs/verifying.md", "exec"), made)
    assert {"verifier", "door"} <= made.keys()


def test_every_code_is_explained() -> None:
    assert all(f"`{code.value}`" in TEXT for code in Code)


def test_numbers_are_those_of_the_code() -> None:
    assert TOKEN_TYPE in TEXT
    assert f"longer than {TOKEN_LENGTH_MAX} characters" in TEXT
    assert f"at most {LIFE_MAX_S} after" in TEXT
    assert f"with {CLOCKS_APART_S} seconds" in TEXT
    assert 65 <= len(VECTORS) <= 75, "some seventy"


@pytest.mark.parametrize("path", re.findall(r"`((?:connectors|docs)/[\w./-]+)`", TEXT))
def test_files_it_names_are_there(path: str) -> None:
    assert (ROOT / path).exists()
