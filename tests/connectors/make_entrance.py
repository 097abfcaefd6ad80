"""Writes connectors/node/entrance.js, which carries the entrance's two files: `python -m tests.connectors.make_entrance`.

An edge worker has no file system to read them from.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "flashsale" / "verify" / "pages"
FILE = ROOT / "connectors" / "node" / "entrance.js"


def module() -> str:
    """The file's text."""
    page, script = (json.dumps((PAGES / name).read_text(encoding="utf-8"), ensure_ascii=False) for name in ("enter.html", "enter.js"))
    return (
        "// Written by python -m tests.connectors.make_entrance, from flashsale/verify/pages/.\n"
        f"export const PAGE =\n  {page};\n"
        f"export const SCRIPT =\n  {script};\n"
    )


def main() -> None:
    """Writes the file."""
    FILE.write_text(module(), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")


if __name__ == "__main__":
    main()
