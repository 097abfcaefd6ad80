"""What pages say without JavaScript: every language says everything, and waits, chances and times are honest in proper English."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from flashsale.web import line_words
from flashsale.web.html import Markup
from flashsale.web.line_words import FOLDER, LANGUAGES, Words, language_of, plural_form, read_words
from flashsale.web.places import EtaView
from flashsale.web.problems import Code

FORMS = {"en": "one other", "de": "one other", "es": "one other", "fr": "one other", "ja": "other", "ar": "zero one two few many other"}
SOURCES = "".join(
    Path(line_words.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    for name in ("line_words", "line_forms", "line_scenes", "plain_line", "plain_page", "waiting_page")
)
MADE = {"left_title", "removed", "removed_title", "moved", "moved_title"}
"""words whose names the code puts together"""


@pytest.fixture
def words() -> Words:
    return read_words("en")


def told(language: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return found


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


# ----------------------------------------------------------------------------------------------------------- all languages


def test_there_is_a_file_for_each_language_and_no_other() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_word_with_the_same_placeholders(language: str) -> None:
    english, other = told("en"), told(language)
    assert list(other) == list(english), "the same words in the same order"
    for word, sentence in english.items():
        if isinstance(sentence, dict):
            forms = other[word]
            assert set(forms) <= set(FORMS[language].split()), word
            assert placeholders(forms["other"]) == placeholders(sentence["other"]), word
            for form, text in forms.items():
                # None, one and a pair may be words instead of a number.
                assert placeholders(text) | ({"n"} if form in {"zero", "one", "two"} else set()) == placeholders(sentence["other"]), (
                    word,
                    form,
                )
        elif isinstance(sentence, list):
            assert len(other[word]) == len(sentence) == 12
        else:
            assert placeholders(other[word]) == placeholders(sentence), word
            assert other[word].strip() or word == "group", word


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_nothing_is_left_in_english(language: str) -> None:
    english, other = told("en"), told(language)
    same = {word for word, text in english.items() if isinstance(text, str) and len(text) > 12 and other[word] == text}
    assert same == set()


def test_every_word_is_said_and_every_refusal_is_one_there_is() -> None:
    codes = {code.value for code in Code}
    for word in told("en"):
        if word.startswith("refused_"):
            assert word.removeprefix("refused_") in codes, word
        else:
            assert word in MADE or f'"{word}"' in SOURCES, word


@pytest.mark.parametrize(
    ("language", "number", "form"),
    [
        ("en", 0, "other"),
        ("de", 1, "one"),
        ("fr", 0, "one"),
        ("fr", 2, "other"),
        ("ja", 1, "other"),
        ("ar", 0, "zero"),
        ("ar", 1, "one"),
        ("ar", 2, "two"),
        ("ar", 3, "few"),
        ("ar", 10, "few"),
        ("ar", 11, "many"),
        ("ar", 99, "many"),
        ("ar", 100, "other"),
        ("ar", 102, "other"),
        ("ar", 103, "few"),
        ("ar", 1_011, "many"),
    ],
)
def test_the_form_a_number_takes(language: str, number: int, form: str) -> None:
    assert plural_form(language, number) == form


@pytest.mark.parametrize(
    ("language", "length", "ahead", "amount"),
    [
        ("en", "4 minutes and 1 second", "1,234 people are ahead of you", "1,234.50 EUR"),
        ("de", "4 Minuten und 1 Sekunde", "1.234 Personen sind vor Ihnen", "1.234,50 EUR"),
        ("es", "4 minutos y 1 segundo", "1.234 personas delante de usted", "1.234,50 EUR"),
        ("fr", "4 minutes et 1 seconde", "1\u202f234 personnes devant vous", "1\u202f234,50 EUR"),
        ("ja", "4分1秒", "1,234人が前に並んでいます", "1,234.50 EUR"),
        ("ar", "4 دقائق وثانية واحدة", "1,234 شخصًا أمامك", "1,234.50 EUR"),
    ],
)
def test_numbers_as_each_language_has_them(language: str, length: str, ahead: str, amount: str) -> None:
    words = read_words(language)
    assert words.length(241_000) == length
    assert words.ahead(1_234) == ahead
    assert words.money(123_450, "EUR") == f"<bdi>{amount}</bdi>"
    assert words.direction == ("rtl" if language == "ar" else "ltr")


@pytest.mark.parametrize("language", LANGUAGES)
def test_times_and_waits_can_be_said_in_each(language: str) -> None:
    words, at_ms = read_words(language), 1_795_000_000_000
    for now_ms in (at_ms, at_ms - 86_400_000):
        assert "11:06" in words.time(at_ms, now_ms)
    waits = {words.wait(EtaView(*eta)) for eta in ((0, 20_000), (10_000, 100_000), (180_000, 299_000), (300_000, 300_000))}
    chances = {words.chance(chance) for chance in (0.97, 0.42, 0.04)}
    assert (len(waits), len(chances)) == (4, 3)
    assert words.refusal("of_tomorrow", "What <is> this?") == '<span lang="en" dir="ltr">What &lt;is&gt; this?</span>'


def test_what_is_put_into_a_sentence_is_text_unless_it_is_markup(words: Words) -> None:
    assert words.say("reservation", id="<b>") == "Reservation &lt;b&gt;"
    assert words.say("reservation", id=Markup("<b></b>")) == "Reservation <b></b>"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("", "en"), ("de-CH, en;q=0.5", "de"), ("pt-BR,fr;q=0.7,en;q=0.3", "fr"), ("en;q=0,ar", "ar"), ("*", "en"), ("x" * 4000, "en")],
)
def test_the_browsers_language(accepted: str, language: str) -> None:
    assert language_of(accepted) == language


# ---------------------------------------------------------------------------------------------------------------- English


@pytest.mark.parametrize(
    ("ms", "length"),
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
def test_lengths(words: Words, ms: int, length: str) -> None:
    assert words.length(ms) == length


@pytest.mark.parametrize(
    ("shortest_ms", "longest_ms", "said"),
    [
        (0, 20_000, "It is your turn in less than a minute."),
        (10_000, 100_000, "It is your turn within 2 minutes."),
        (180_000, 299_000, "It is your turn in about 3 to 5 minutes."),
        (300_000, 300_000, "It is your turn in about 5 minutes."),
        (3_600_000, 7_300_000, "It is your turn in about 1 to 3 hours."),
        (600_000, 7_300_000, "It is your turn within 3 hours."),
    ],
)
def test_waits(words: Words, shortest_ms: int, longest_ms: int, said: str) -> None:
    assert words.wait(EtaView(shortest_ms, longest_ms)) == said


def test_what_is_not_known_is_not_said(words: Words) -> None:
    assert (words.wait(None), words.chance(None)) == ("", "")


def test_chances(words: Words) -> None:
    assert "very likely reach" in words.chance(0.97)
    assert "very likely not" in words.chance(0.04)
    assert "about 40 %" in words.chance(0.42)


def test_people_ahead(words: Words) -> None:
    assert [words.ahead(position) for position in (0, 1, 1_234)] == [
        "You are next",
        "1 person is ahead of you",
        "1,234 people are ahead of you",
    ]


def test_a_moment_says_its_zone_and_is_readable_by_machines(words: Words) -> None:
    at_ms = 1_795_000_000_000
    assert words.time(at_ms, at_ms - 60_000) == '<bdi><time datetime="2026-11-18T11:06:40Z">11:06:40 UTC</time></bdi>'
    assert "11:06 UTC on 18 November 2026" in unescape(words.time(at_ms, at_ms - 86_400_000))
