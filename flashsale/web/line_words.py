"""What pages of ours say, in the shopper's language: sentences, numbers, waits, chances, times. A file for each in `languages/`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from flashsale.errors import BadInput
from flashsale.money import money
from flashsale.web.html import Markup, element, html_of
from flashsale.web.places import EtaView

FOLDER = Path(__file__).parent / "languages"
LANGUAGES = ("en", "de", "es", "fr", "ja", "ar")
"""those of the waiting room; English first, for everybody else"""
_FROM_RIGHT = frozenset({"ar"})

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
_UNITS = ((DAY_MS, "day"), (HOUR_MS, "hour"), (MINUTE_MS, "minute"), (SECOND_MS, "second"))
_RANGE_IN_HOURS_MS = 2 * HOUR_MS
_SAME_DAY_MS = 12 * HOUR_MS
_SURE, _HOPELESS = 0.95, 0.05

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_TAG = re.compile(r"([A-Za-z]{2})(?:-[A-Za-z0-9-]{1,20})?")
_ACCEPTED = re.compile(rf"\s*{_TAG.pattern}\s*(?:;\s*q=([01](?:\.\d{{0,3}})?))?\s*")
_ACCEPTED_LENGTH_MAX = 500


class Unfit(BadInput):
    """A form that its shopper can mend; `word` is the sentence that says how."""

    def __init__(self, word: str, **values: str) -> None:
        self.word, self.values = word, values
        super().__init__(what=word)


class Words:
    """The words of one language."""

    def __init__(self, language: str, told: Mapping[str, Any]) -> None:
        self.language = language
        self.direction = "rtl" if language in _FROM_RIGHT else "ltr"
        self._told = told

    def say(self, word: str, /, **values: str) -> Markup:
        """A sentence with `values` in their places. Raises KeyError when there is no such word, or a value is missing."""
        return _filled(self._told[word], values)

    def count(self, word: str, number: int, /, **values: str) -> Markup:
        """A sentence in the form that the language has for `number`."""
        forms = self._told[word]
        template = forms.get(plural_form(self.language, number)) or forms["other"]
        return _filled(template, {"n": self.number(number), **values})

    def refusal(self, code: str, detail: str) -> Markup:
        """Why a step was refused: the language's own sentence, or `detail`, which is English."""
        word = f"refused_{code}"
        return self.say(word) if word in self._told else element("span", detail, lang="en", dir="ltr")

    def number(self, number: int) -> str:
        """A whole number, its digits in groups."""
        return f"{number:,}".replace(",", self._told["group"])

    def money(self, amount_minor: int, currency: str) -> Markup:
        """An amount, with the decimals its currency has."""
        return element("bdi", money(amount_minor, currency).translate({ord(","): self._told["group"], ord("."): self._told["decimal"]}))

    def length(self, ms: float) -> Markup:
        """A length of time by its two largest units: `4 minutes and 20 seconds`."""
        left_ms = max(0, math.ceil(ms / SECOND_MS)) * SECOND_MS
        for at, (unit_ms, unit) in enumerate(_UNITS):
            if left_ms >= unit_ms or unit_ms == SECOND_MS:
                first, rest = self.count(unit, left_ms // unit_ms), left_ms % unit_ms
                smaller_ms, smaller = _UNITS[min(at + 1, len(_UNITS) - 1)]
                return self.say("and", first=first, second=self.count(smaller, rest // smaller_ms)) if rest >= smaller_ms else first
        raise AssertionError("the last unit is always reached")

    def time(self, at_ms: int, now_ms: int) -> Markup:
        """A moment, with its day unless that is clear; it is not known where the reader is, so the clock is that of the whole world."""
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        if abs(at_ms - now_ms) < _SAME_DAY_MS:
            told = self.say("clock", time=at.strftime("%H:%M:%S"))
        else:
            month = self._told["months"][at.month - 1]
            told = self.say("date", time=at.strftime("%H:%M"), day=str(at.day), month=month, year=str(at.year))
        return element("bdi", element("time", told, datetime=at.strftime("%Y-%m-%dT%H:%M:%SZ")))

    def wait(self, eta: EtaView | None) -> Markup:
        """How long it takes; empty when nobody can say."""
        if eta is None:
            return Markup("")
        if eta.longest_ms < MINUTE_MS:
            return self.say("turn_soon")
        unit_ms, unit = (HOUR_MS, "hour") if eta.longest_ms >= _RANGE_IN_HOURS_MS else (MINUTE_MS, "minute")
        low, high = eta.shortest_ms // unit_ms, math.ceil(eta.longest_ms / unit_ms)
        length = self.count(unit, high)
        if low == high:
            return self.say("turn_about", length=length)
        return self.say("turn_between", low=self.number(low), high=length) if low else self.say("turn_within", length=length)

    def chance(self, chance: float | None) -> Markup:
        """How likely the stock reaches a place; empty when it is not known."""
        if chance is None:
            return Markup("")
        if chance >= _SURE:
            return self.say("likely")
        return self.say("unlikely") if chance < _HOPELESS else self.say("chance", n=str(round(10 * chance) * 10))

    def ahead(self, position: int) -> Markup:
        """How many are before one."""
        return self.count("ahead_title", position) if position else self.say("next_title")


class Languages:
    """The words of every language, and whose they are."""

    def __init__(self) -> None:
        self._words = {language: read_words(language) for language in LANGUAGES}

    def of(self, request: web.Request) -> Words:
        """The language that ?lang= asks for, or the browser's."""
        return self._words[wanted_language(request) or language_of(request.headers.get("Accept-Language", ""))]


def read_words(language: str) -> Words:
    """The words in a file of `languages/`."""
    return Words(language, json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8")))


def wanted_language(request: web.Request) -> str:
    """What ?lang= says, when it is a language there is; else empty."""
    found = _TAG.fullmatch(request.query.get("lang", ""))
    language = found[1].lower() if found else ""
    return language if language in LANGUAGES else ""


def language_of(accepted: str) -> str:
    """The language for an Accept-Language header (RFC 9110, 12.5.4)."""
    found: dict[str, float] = {}
    for part in accepted[:_ACCEPTED_LENGTH_MAX].split(","):
        match = _ACCEPTED.fullmatch(part)
        if match is not None:
            found.setdefault(match[1].lower(), float(match[2] or 1))
    return max((language for language in LANGUAGES if found.get(language)), key=lambda language: found[language], default="en")


def plural_form(language: str, number: int) -> str:
    """The category of a whole number (Unicode CLDR, plural rules); millions, which have one of their own, are not told apart."""
    match language:
        case "ja":
            return "other"
        case "fr":
            return "one" if number <= 1 else "other"
        case "ar":
            return _arabic_form(number)
        case _:
            return "one" if number == 1 else "other"


def _arabic_form(number: int) -> str:
    if number <= 2:
        return ("zero", "one", "two")[number]
    ending = number % 100
    if 3 <= ending <= 10:
        return "few"
    return "many" if ending > 10 else "other"


def _filled(template: str, values: Mapping[str, str]) -> Markup:
    parts = _PLACEHOLDER.split(template)
    return Markup("".join(html_of(values[part] if at % 2 else part) for at, part in enumerate(parts)))
