"""What the command line shows of a drop."""

from __future__ import annotations

from flashsale.cli.shapes import picture_of
from flashsale.model import Inspection, LinePicture
from tests.report_stage import DROP
from tests.unit.snapshots import snapshot


def test_everybody_counts_in_whichever_line() -> None:
    lines = (LinePicture("", 0, 100, 40, 20, "", ""), LinePicture("vip", 200, 7, None, 3, "", ""))
    seen = Inspection(snapshot(joined=100, serving_number=20, lines=lines), DROP, stats={}, journal_length=0)
    shown = picture_of(seen, None, None)
    assert (shown.joined, shown.waiting, shown.serving_number) == (107, 84, 20)
