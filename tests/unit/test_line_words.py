"""Waits, chances and times in words: honest, and in proper English."""

from __future__ import annotations

import pytest

from flashsale.web.line_words import ahead_words, chance_words, length_of, time_of, wait_words
from flashsale.web.places import EtaView


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-5, "0 seconds"),
        (1, "1 second"),
        (1_000, "1 second"),
        (59_001, "1 minute"),
        (260_000, "4 minutes and 20 seconds"),
        (301_000, "5 minutes and 1 second"),
        (3_600_000, "1 hour"),
        (3_659_000, "1 hour"),
        (7_260_000, "2 hours and 1 minute"),
        (86_400_000 * 2 + 3_600_000 * 3, "2 days and 3 hours"),
    ],
)
def test_lengths(ms: int, words: str) -> None:
    assert length_of(ms) == words


@pytest.mark.parametrize(
    ("shortest_ms", "longest_ms", "words"),
    [
        (0, 20_000, "It is your turn in less than a minute."),
        (10_000, 100_000, "It is your turn within 2 minutes."),
        (180_000, 299_000, "It is your turn in about 3 to 5 minutes."),
        (300_000, 300_000, "It is your turn in about 5 minutes."),
        (3_600_000, 7_300_000, "It is your turn in about 1 to 3 hours."),
        (600_000, 7_300_000, "It is your turn within 3 hours."),
    ],
)
def test_waits(shortest_ms: int, longest_ms: int, words: str) -> None:
    assert wait_words(EtaView(shortest_ms, longest_ms)) == words


def test_what_is_not_known_is_not_said() -> None:
    assert (wait_words(None), chance_words(None)) == ("", "")


def test_chances() -> None:
    assert "very likely reach" in chance_words(0.97)
    assert "very likely not" in chance_words(0.04)
    assert "about 40 %" in chance_words(0.42)


def test_people_ahead() -> None:
    assert [ahead_words(position) for position in (0, 1, 1_234)] == [
        "You are next.",
        "1 person is ahead of you.",
        "1,234 people are ahead of you.",
    ]


def test_a_moment_says_its_zone_and_is_readable_by_machines() -> None:
    at_ms = 1_795_000_000_000
    assert time_of(at_ms, at_ms - 60_000) == '<time datetime="2026-11-18T11:06:40Z">11:06:40 UTC</time>'
    assert time_of(at_ms, at_ms - 86_400_000) == '<time datetime="2026-11-18T11:06:40Z">11:06 UTC on 18 November 2026</time>'
