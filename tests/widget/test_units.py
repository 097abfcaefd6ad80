"""The widget's parts, run by Node without a browser: states, visits, announcements, words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.node import NODE, needs_node

UNITS = sorted((Path(__file__).parent / "units").glob("*.test.mjs"))

pytestmark = needs_node


@pytest.mark.parametrize("file", UNITS, ids=lambda path: path.name.removesuffix(".test.mjs"))
def test_part(file: Path) -> None:
    argv = [str(NODE), "--no-warnings", "--test", "--test-reporter=spec", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "tests 0\n" not in done.stdout
