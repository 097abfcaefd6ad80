"""What a page without JavaScript says: waits, chances and times in words. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from flashsale.web.html import Markup, element
from flashsale.web.places import EtaView

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
_UNITS = ((DAY_MS, "day"), (HOUR_MS, "hour"), (MINUTE_MS, "minute"), (SECOND_MS, "second"))
_RANGE_IN_HOURS_MS = 2 * HOUR_MS
_SAME_DAY_MS = 12 * HOUR_MS
_SURE, _HOPELESS = 0.95, 0.05


def counted(number: int, noun: str) -> str:
    """`1 minute`, `2 minutes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def length_of(ms: int) -> str:
    """A length of time by its two largest units: `4 minutes and 20 seconds`."""
    left_ms = max(0, math.ceil(ms / SECOND_MS)) * SECOND_MS
    for at, (unit_ms, noun) in enumerate(_UNITS):
        if left_ms >= unit_ms or unit_ms == SECOND_MS:
            first, rest = counted(left_ms // unit_ms, noun), left_ms % unit_ms
            smaller_ms, smaller = _UNITS[min(at + 1, len(_UNITS) - 1)]
            return f"{first} and {counted(rest // smaller_ms, smaller)}" if rest >= smaller_ms else first
    raise AssertionError("the last unit is always reached")


def time_of(at_ms: int, now_ms: int) -> Markup:
    """A moment, with its day unless that is clear; it is not known where the reader is, so the clock is that of the whole world."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    words = at.strftime("%H:%M:%S UTC") if abs(at_ms - now_ms) < _SAME_DAY_MS else at.strftime("%H:%M UTC on %d %B %Y")
    return element("time", words, datetime=at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def wait_words(eta: EtaView | None) -> str:
    """How long it takes; empty when nobody can say."""
    if eta is None:
        return ""
    if eta.longest_ms < MINUTE_MS:
        return "It is your turn in less than a minute."
    unit_ms, noun = (HOUR_MS, "hour") if eta.longest_ms >= _RANGE_IN_HOURS_MS else (MINUTE_MS, "minute")
    low, high = eta.shortest_ms // unit_ms, math.ceil(eta.longest_ms / unit_ms)
    if low == high:
        return f"It is your turn in about {counted(high, noun)}."
    return f"It is your turn in about {low:,} to {counted(high, noun)}." if low else f"It is your turn within {counted(high, noun)}."


def chance_words(chance: float | None) -> str:
    """How likely the stock reaches a place; empty when it is not known."""
    if chance is None:
        return ""
    if chance >= _SURE:
        return "The stock will very likely reach you."
    if chance < _HOPELESS:
        return "The stock will very likely not reach you."
    return f"The chance that the stock reaches you is about {round(10 * chance) * 10} %."


def ahead_words(position: int) -> str:
    """How many are before one."""
    if position == 0:
        return "You are next."
    return "1 person is ahead of you." if position == 1 else f"{position:,} people are ahead of you."
