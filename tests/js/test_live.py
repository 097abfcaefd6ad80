"""The console's live view, run by Node: what it does when it gets no stream."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.node import NODE, needs_node

pytestmark = needs_node


def test_a_live_view_without_a_stream() -> None:
    argv = [str(NODE), "--no-warnings", "--test", "--test-reporter=spec", str(Path(__file__).with_name("live.test.mjs"))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "tests 0\n" not in done.stdout
