"""The page goes on asking, and shows nothing it was not told, while the service comes and goes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import flashsale.web
from admission.draw import Draw
from admission.tokens import b64encode
from flashsale.resources import resource_dir
from tests.node import NODE, needs_node

PAGES = Path(flashsale.web.__file__).parent / "pages"
BROWSER = Path(__file__).with_name("page_in_a_browser.mjs")
KEY = hashlib.sha256(b"a key").digest()

pytestmark = needs_node


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's script beside the modules it imports, as the service serves them."""
    folder = tmp_path_factory.mktemp("assets")
    for source in (PAGES, resource_dir("web")):
        for file in source.glob("*.js"):
            shutil.copy(file, folder)
    (folder / "package.json").write_text('{"type": "module"}', encoding="ascii")
    return folder / "page.js"


def seen(page: Path, *statuses: int, **beside: dict[str, Any]) -> dict[str, Any]:
    """What a page does when its requests are answered so, one after the other. `beside` are the harness's KEPT, DROP, SERVING, PLACE."""
    argv = [str(NODE), str(BROWSER), str(page), *map(str, statuses)]
    environment = {**os.environ, **{name.upper(): json.dumps(values) for name, values in beside.items()}}
    ended = subprocess.run(argv, capture_output=True, check=False, timeout=30, env=environment)
    assert ended.returncode == 0, ended.stderr.decode()
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize("statuses", [(503, 200, 200), (200, 503, 200), (404, 200, 500, 200)])
def test_it_recovers_from_a_service_that_was_away(page: Path, statuses: tuple[int, ...]) -> None:
    found = seen(page, *statuses)
    assert "does not answer" in found["troubles"][0]
    assert found["headlines"][0] == "", "nothing is known yet"
    assert (found["troubles"][-1], found["headlines"][-1]) == ("", "Your turn.")


def test_what_it_knew_stands_while_nobody_answers(page: Path) -> None:
    found = seen(page, 200, 200, 503, 503, 200)
    assert set(found["headlines"]) == {"Your turn."}
    assert ["does not answer" in trouble for trouble in found["troubles"]] == [False, True, True, False]


def test_pages_that_lost_the_service_together_do_not_come_back_together(page: Path) -> None:
    assert len(set(seen(page, *[503] * 10)["polls_ms"])) == 10


class TestTheDraw:
    """What an early shopper sees of it."""

    WAITS: dict[str, Any] = {"token": None, "entry": 3, "number": None}  # noqa: RUF012 - never changed

    def test_before_the_opening_it_says_that_the_order_will_be_drawn(self, page: Path) -> None:
        found = seen(
            page, 200, 200, kept=self.WAITS, drop={"order": "draw"}, serving={"state": "waiting", "opens_at_ms": 2**42, "serving_number": 0}
        )
        assert found["headlines"] == ["You are in. The drop opens in"]
        assert "entry number 3" in found["more"][0]
        assert "by lot" in found["more"][0]

    def test_until_the_key_is_there_nobody_is_told_a_place(self, page: Path) -> None:
        found = seen(page, 200, 200, kept=self.WAITS, drop={"order": "draw"}, serving={"serving_number": 0})
        assert found["headlines"] == ["The order is being drawn …"]
        assert found["asked"] == ["/v1/drops/d", "/v1/drops/d/serving"], "nobody is asked for what follows from the key"

    def test_the_queue_number_follows_from_the_key(self, page: Path) -> None:
        drawn = {"serving_number": 0, "entries": 300, "joined": 310, "key": KEY.hex()}
        found = seen(page, 200, 200, kept=self.WAITS, drop={"order": "draw"}, serving=drawn)
        number = Draw(KEY, 300).queue_number(3)
        assert found["kept"]["number"] == number
        assert found["headlines"] == ["You are in line. You can reload; your place is kept."]
        assert f"{number} ahead of you" in found["more"][0]

    def test_who_came_late_keeps_the_number_it_was_given(self, page: Path) -> None:
        drawn = {"serving_number": 0, "entries": 300, "joined": 310, "key": KEY.hex()}
        found = seen(page, 200, 200, kept={**self.WAITS, "entry": None, "number": 305}, drop={"order": "draw"}, serving=drawn)
        assert "305 ahead of you" in found["more"][0]

    def test_where_nothing_is_drawn_the_order_of_arrival_is_the_queue(self, page: Path) -> None:
        found = seen(page, 200, 200, kept={**self.WAITS, "number": 3}, serving={"serving_number": 1})
        assert "2 ahead of you" in found["more"][0]


class TestALoss:
    """The serving document is of a later epoch than the receipt: the line that is served may end before the number."""

    @staticmethod
    def receipt(epoch: int) -> str:
        return f"header.{b64encode(json.dumps({'epoch': epoch, 'more': '?>?>'}).encode())}.proof"

    def seen(self, page: Path, *statuses: int, epoch: int) -> dict[str, Any]:
        place = {"ticket_id": "t", "queue_number": 7, "receipt": self.receipt(epoch)}
        return seen(page, *statuses, kept={"secret": "s", "receipt": self.receipt(1)}, serving={"epoch": epoch}, place=place)

    def test_a_place_is_taken_up_again_with_its_receipt(self, page: Path) -> None:
        assert self.seen(page, 200, 200, 200, epoch=1)["joins"] == []
        found = self.seen(page, 200, 200, 201, 200, 200, epoch=2)
        [join] = found["joins"]
        assert join.keys() == {"secret_hash", "receipt"}
        assert join["receipt"] == self.receipt(1)
        assert (found["kept"]["number"], found["kept"]["receipt"]) == (7, self.receipt(2))

    def test_a_receipt_that_is_not_taken_is_not_shown_again(self, page: Path) -> None:
        first, second = self.seen(page, 200, 200, 422, 201, 200, epoch=2)["joins"]
        assert "receipt" in first
        assert second.keys() == {"secret_hash"}
