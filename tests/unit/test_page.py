"""The page goes on asking, and shows nothing it was not told, while the service comes and goes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import flashsale.web
from tests.node import NODE, needs_node

PAGE = Path(flashsale.web.__file__).parent / "pages" / "page.js"
BROWSER = Path(__file__).with_name("page_in_a_browser.js")

pytestmark = needs_node


def seen(*statuses: int) -> dict[str, list[Any]]:
    """What a page does when its requests are answered so, one after the other."""
    argv = [str(NODE), str(BROWSER), str(PAGE), *map(str, statuses)]
    found: dict[str, list[Any]] = json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=30).stdout)
    return found


@pytest.mark.parametrize("statuses", [(503, 200, 200), (200, 503, 200), (404, 200, 500, 200)])
def test_it_recovers_from_a_service_that_was_away(statuses: tuple[int, ...]) -> None:
    found = seen(*statuses)
    assert "does not answer" in found["troubles"][0]
    assert found["headlines"][0] == "", "nothing is known yet"
    assert (found["troubles"][-1], found["headlines"][-1]) == ("", "Your turn.")


def test_what_it_knew_stands_while_nobody_answers() -> None:
    found = seen(200, 200, 503, 503, 200)
    assert set(found["headlines"]) == {"Your turn."}
    assert ["does not answer" in trouble for trouble in found["troubles"]] == [False, True, True, False]


def test_pages_that_lost_the_service_together_do_not_come_back_together() -> None:
    assert len(set(seen(*[503] * 10)["polls_ms"])) == 10
