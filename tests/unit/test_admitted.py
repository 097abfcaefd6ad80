"""Counting those admitted in the last minute."""

from __future__ import annotations

import pytest

from admission.admitted import WINDOW_MS, AdmittedLately
from tests.unit.snapshots import snapshot


def see(lately: AdmittedLately, at_ms: int, admitted: int, *, epoch: int = 1) -> int | None:
    picture = snapshot(now_ms=at_ms, admitted=admitted, epoch=epoch)
    lately.see(picture)
    return lately.last_min(picture)


def test_nobody_knows_before_a_minute_was_watched() -> None:
    lately = AdmittedLately()
    assert see(lately, 0, 500) is None
    assert see(lately, WINDOW_MS - 1, 700) is None


def test_a_drop_watched_from_its_beginning_is_known_at_once() -> None:
    lately = AdmittedLately()
    assert see(lately, 0, 0) == 0
    assert see(lately, 5_000, 30) == 30


@pytest.mark.parametrize("every_ms", [200, 1_000, 2_500, 7_000])
def test_it_counts_the_last_minute_however_often_it_looks(every_ms: int) -> None:
    lately, told = AdmittedLately(), set()
    for at_ms in range(0, 300_000, every_ms):
        told.add(see(lately, at_ms, 1_000 + at_ms // 100))
    told.discard(None)
    assert {round((count or 0) / 10) for count in told} == {WINDOW_MS // 1_000}


def test_a_recovered_drop_begins_anew() -> None:
    lately = AdmittedLately()
    see(lately, 0, 500)
    assert see(lately, WINDOW_MS, 600) == 100
    assert see(lately, WINDOW_MS + 1, 400, epoch=2) is None


def test_an_unknown_drop_has_no_number() -> None:
    assert AdmittedLately().last_min(snapshot()) is None
