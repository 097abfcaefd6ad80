"""The demo as people run it, in the size the product promises: 2,000 shoppers, 300 units, within a minute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_headless_demo_adds_up(tmp_path: Path) -> None:
    report_file = tmp_path / "demo.json"
    arguments = ["demo", "--headless", "--shoppers", "2000", "--units", "300", "--seed", "7", "--report", str(report_file)]
    ended = subprocess.run([sys.executable, "-m", "flashsale", *arguments], capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    report = json.loads(report_file.read_text(encoding="utf-8"))
    assert {name: report[name] for name in ("shoppers", "units", "seed")} == {"shoppers": 2000, "units": 300, "seed": 7}
    zeros = ("oversold_units", "undersold_units", "lost_orders", "duplicate_orders", "overtakes", "http_5xx", "broken_promises")
    assert {name: report[name] for name in zeros} == dict.fromkeys(zeros, 0)
    assert report["audit"] == "clean"
    assert report["sold_units"] == 300
    assert report["orders_in_postgres"]["pending"] == 0
    # The crowd did what makes a drop hard, so the zeros mean something.
    assert report["joined"] > 1800
    assert report["admitted"] < report["joined"]
    assert report["reserved_units"] > 300
    assert report["expired_units"] > 0
    assert report["orders_in_postgres"]["paid"] > 0
    assert report["orders_in_postgres"]["expired"] > 0
    assert report["refused"]["sold_out"] > 0
    assert report["refused"]["limit_reached"] > 0
    assert report["no_shows"] > 0
    assert 0 < report["wait_ms"]["p50"] <= report["wait_ms"]["p95"] <= report["wait_ms"]["p99"]
    assert "sold 300 of 300 units" in ended.stdout


def test_a_report_in_a_folder_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "flashsale", "demo", "--headless", "--report", str(tmp_path / "missing" / "demo.json")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "does not exist" in ended.stderr
