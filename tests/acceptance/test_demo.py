"""The demo as people run it, in the size the product promises: 2,000 shoppers, 300 units, within a minute."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import Request, urlopen

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


@pytest.mark.slow
def test_the_demo_opens_a_shop_that_stays_until_it_is_stopped(tmp_path: Path) -> None:
    options = ["--shoppers", "5", "--units", "20", "--opens-in", "1", "--port", "0", "--keep-open", "--report", str(tmp_path / "demo.json")]
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "flashsale", "demo", *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as demo:
        watchdog = threading.Timer(110, demo.kill)
        watchdog.start()
        try:
            assert demo.stderr is not None
            for line in demo.stderr:
                said.append(line)
                if "The shop stays open" in line:
                    break
            text = "".join(said)
            shop = re.search(r"Compete with them in the shop: (http://\S+/shop/)", text)
            console = re.search(r"What the merchant sees: +(http://\S+/console)#key=(fs_live_\S+)", text)
            assert shop is not None, text
            assert console is not None, text
            with urlopen(shop[1]) as page:
                assert "Halo, first firing" in page.read().decode()
            with urlopen(console[1]) as page:
                assert page.status == 200
            asked = Request(f"{shop[1].removesuffix('shop/')}v1/merchant/drops", headers={"Authorization": f"Bearer {console[2]}"})
            with urlopen(asked) as answer:
                assert [drop["name"] for drop in json.load(answer)["drops"]] == ["Halo, first firing"]
            demo.send_signal(signal.SIGINT)
            assert demo.wait(30) == 0
        finally:
            watchdog.cancel()
            demo.kill()
    assert json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))["audit"] == "clean"


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
