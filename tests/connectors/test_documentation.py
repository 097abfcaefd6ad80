"""docs/verifying.md says what is so."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from flashsale.verify import Code
from flashsale.verify.tokens import CLOCKS_APART_S, LIFE_MAX_S, TOKEN_LENGTH_MAX, TOKEN_TYPE
from tests.connectors.vector_file import VECTORS
from tests.node import NODE, needs_node

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "verifying.md").read_text(encoding="utf-8")
NODE_TEXT = (ROOT / "connectors" / "node" / "README.md").read_text(encoding="utf-8")
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


@needs_node
@pytest.mark.parametrize("text", [TEXT, NODE_TEXT], ids=["verifying.md", "the npm module"])
def test_the_shop_s_own_page_keeps_the_token_of_a_shopper_whose_clock_is_fast(text: str) -> None:
    (keeps,) = re.findall(r"```js\n(addEventListener\(\"flash-sale-admitted\".*?)```", text, re.DOTALL)
    stage = """
        const shown = {};
        const document = {set cookie(value) { shown.cookie = value; }};
        const addEventListener = (_, heard) => heard({detail: {token: "a.b.c", expiresAtMs: Date.now() - 3_600_000}});
    """
    assert NODE is not None
    done = subprocess.run(
        [NODE, "--eval", f"{stage}{keeps}process.stdout.write(shown.cookie);"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("flashsale_admission=a.b.c; ")
    assert f"Max-Age={LIFE_MAX_S};" in done.stdout


def test_caddy_takes_away_what_a_caller_says_before_it_fetches_what_the_service_says() -> None:
    # Outside of route { } Caddy puts request_header after forward_auth.
    steps = [TEXT.index(step) for step in (" route {", " request_header -X-Flashsale-*", " forward_auth 127", " reverse_proxy 127")]
    assert steps == sorted(steps)


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
