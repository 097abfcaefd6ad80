"""The fault table and its tests are of one mind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chaos.report import BROKEN, HELD, LATE, NOT_RUN, Finding, one_each, write_report
from chaos.rows import BY_NUMBER, ROWS

FOLDER = Path(__file__).parent


def rows_with_a_test() -> set[int]:
    """Numbers of the rows that have a test in this folder."""
    return {
        int(number)
        for path in FOLDER.glob("test_*.py")
        for number in re.findall(r"^async def test_row_(\d\d)_", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_the_table_has_fifty_rows_in_order() -> None:
    assert [row.number for row in ROWS] == list(range(1, 51))
    assert all(row.fault and row.expected for row in ROWS)


@pytest.mark.parametrize("number", range(1, 51))
def test_a_row_has_a_test_or_a_reason(number: int) -> None:
    row, tested = BY_NUMBER[number], number in rows_with_a_test()
    assert tested != bool(row.untested), f"row {number} has {'both' if tested else 'neither'} a test and a reason why there is none"


def test_the_report_has_every_row_once_and_takes_the_worst_of_its_tests(tmp_path: Path) -> None:
    held = Finding(3, "fault", "expected", "once <b>", 1003, HELD, 1.0, 0.2, 4.0)
    late = Finding(4, "fault", "expected", "", 1004, LATE, 1.0, 0.2, 11.0)
    write_report(tmp_path, [held, late, Finding(3, "fault", "expected", "twice", 1003, BROKEN, 2.0)])
    rows = json.loads((tmp_path / "faults.json").read_bytes())
    assert [row["row"] for row in rows] == list(range(1, 51))
    assert rows[2] | {"fault": "", "expected": ""} == {
        "row": 3, "fault": "", "expected": "", "seen": "once <b> twice", "seed": 1003, "verdict": BROKEN, "seconds": 3.0,
        "moved_s": 0.2, "caught_up_s": 4.0,
    }  # fmt: skip
    assert (rows[3]["verdict"], rows[3]["caught_up_s"]) == (LATE, 11.0)
    assert rows[0]["verdict"] == NOT_RUN
    page = (tmp_path / "faults.html").read_text(encoding="utf-8")
    assert "once &lt;b&gt; twice" in page
    assert not re.search(r"(src|href)=|url\(|@import|<script", page), "the page stands alone"


def test_one_finding_stands_for_itself() -> None:
    finding = Finding(7, BY_NUMBER[7].fault, BY_NUMBER[7].expected, "seen", 1007, HELD, 1.5)
    assert one_each([finding])[6] == finding
