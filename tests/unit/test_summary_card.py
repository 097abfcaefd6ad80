"""The card at the end of the demo: nothing is cut on a terminal of eighty columns, and plain lines go into files."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from flashsale.cli.summary_card import show_card

REPORT: dict[str, Any] = {
    "shoppers": 20_000,
    "units": 3_000,
    "seed": 7,
    "seconds": 29.2,
    "drop": "demo-cf27de",
    "joined": 20_000,
    "admitted": 5_500,
    "no_shows": 75,
    "reserved_units": 3_430,
    "expired_units": 290,
    "sold_units": 3_000,
    "orders_in_postgres": {"paid": 2_280},
    "oversold_units": 0,
    "undersold_units": 0,
    "lost_orders": 0,
    "duplicate_orders": 0,
    "overtakes": 0,
    "draw_faults": 0,
    "entries_drawn": 14_000,
    "lots_checked": 2_000,
    "http_5xx": 0,
    "wait_ms": {"p50": 6_048, "p95": 15_560, "p99": 18_187},
    "answer_ms": {"reserve": {"p50": 2.1, "p99": 11.0}},
    "audit": "clean",
}


def _shown(report: dict[str, Any], faults: list[str], *, terminal: bool, width: int = 80) -> str:
    out = io.StringIO()
    show_card(Console(file=out, force_terminal=terminal, width=width, color_system=None, highlight=False), report, faults)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_every_promise_stands_on_a_line_of_its_own(width: int) -> None:
    shown = _shown(REPORT, [], terminal=True, width=width)
    assert max(map(len, shown.splitlines())) <= width
    assert "Everything adds up" in shown
    assert "Sold 3,000 of 3,000 units in 2,280 orders" in shown
    for words in (
        "0 units oversold",
        "0 units undersold",
        "0 orders lost",
        "0 orders twice",
        "0 overtakes",
        "0 draw faults",
        "14,000 entries drawn",
        "0 server errors",
        "audit clean",
    ):
        assert sum(words in line for line in shown.splitlines()) == 1, words
    assert "half within 6.0 s, 95 % within 15.6 s, 99 % within 18.2 s" in shown
    assert "flashsale up" in shown


def test_what_is_wrong_is_marked_and_named_and_nobody_is_sent_on() -> None:
    shown = _shown({**REPORT, "lost_orders": 1_234, "audit": "drift"}, ["lost_orders is 1234", "the audit is drift"], terminal=True)
    assert "It does not add up" in shown
    assert "✘ 1,234 orders lost" in shown
    assert "✘ lost_orders is 1234" in shown
    assert "flashsale up" not in shown


def test_plain_lines_have_no_frame() -> None:
    shown = _shown({**REPORT, "overtakes": 2}, ["overtakes is 2"], terminal=False, width=10_000)
    assert "sold 3000 of 3000 units in 2280 orders, 20000 shoppers joined" in shown
    assert "2 overtakes" in shown
    assert "NOT OK: overtakes is 2" in shown
    assert not set("│╭✔█") & set(shown)
