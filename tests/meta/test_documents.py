"""What the documents count, and where they point, is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.rows import ROWS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *(ROOT / room / "README.md" for room in ("lua", "widget", "connectors/node"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_that_is_there(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "Makefile"])
def test_as_many_ways_to_break_it_are_tested_as_are_told(name: str) -> None:
    tested = sum(not row.untested for row in ROWS)
    assert f"{tested} ways" in (ROOT / name).read_text(encoding="utf-8")
    assert len(ROWS) == 50, "a table of fifty"
