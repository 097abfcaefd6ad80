"""The pictures of `drop watch`, without a store."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from flashsale.cli.output import span
from flashsale.cli.shapes import Orders, Picture
from flashsale.cli.watch import Until, is_over
from flashsale.cli.watch_view import BAR_CELLS, SKUS_SHOWN_MAX, History, bar, closing_words, countdown, plain_line, sparkline, view
from flashsale.model import SkuStock
from flashsale.money import money

PICTURE = Picture(
    drop_id="launch",
    at_ms=1_000_000,
    state="open",
    epoch=1,
    joins_at_ms=900_000,
    opens_at_ms=990_000,
    closes_at_ms=1_600_000,
    joined=987_654,
    waiting=900_000,
    serving_number=87_654,
    admitted=80_000,
    active=1_000_000,
    capacity=1_000_000,
    returning=3,
    rate_per_min=1_000_000,
    sold_out=False,
    skus={f"a-sku-with-quite-a-long-name-{number}": SkuStock(10_000_000, 5_000_000, 1_000_000, 4_000_000) for number in range(12)},
    reservations_live=1_234_567,
    expired_units=7_654_321,
    refused={"limit_reached": 1_234_567, "sold_out": 7_654_321},
    notice="",
    journal_length=10,
    journal_oldest_unfinished_ms=4_500,
    orders=Orders(pending=1_000_000, paid=4_000_000, expired=1_000_000, refund_due=3),
)


def rendered(picture: Picture, *notes: str, history: History | None = None) -> list[str]:
    console = Console(width=80, record=True, file=io.StringIO(), color_system=None)
    console.print(view(picture, "Runner One, first edition", history or History(), notes))
    return console.export_text().splitlines()


def test_the_largest_numbers_fit_into_eighty_columns() -> None:
    history = History()
    for second in range(60):
        history.add(msgspec.structs.replace(PICTURE, at_ms=second * 1000, admitted=second * 20_000))
    lines = rendered(PICTURE, "The store cannot be reached.", history=history)
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 24
    text = "\n".join(lines)
    for words in (
        "987,654 joined",
        "1,000,000 of 1,000,000 slots",
        "4,000,000 paid",
        "journal 4.5 s behind",
        "20,000/s",
        "! The store cannot",
    ):
        assert words in text
    assert f"and {12 - SKUS_SHOWN_MAX} more SKUs" in text
    assert all(number in text for number in ("5,000,000", "1,000,000", "4,000,000"))


def test_without_postgres_the_view_says_so() -> None:
    assert any("Postgres does not answer" in line for line in rendered(msgspec.structs.replace(PICTURE, orders=None)))
    assert "orders=? paid=?" in plain_line(msgspec.structs.replace(PICTURE, orders=None))


@pytest.mark.parametrize(
    ("stock", "cells"),
    [
        (SkuStock(100, 100, 0, 0), "░" * BAR_CELLS),
        (SkuStock(100, 0, 0, 100), "█" * BAR_CELLS),
        (SkuStock(20, 10, 5, 5), "█" * 5 + "▓" * 5 + "░" * 10),
        (SkuStock(1_000_000, 999_998, 1, 1), "█▓" + "░" * 18),
        (SkuStock(0, 0, 0, 0), "█" * BAR_CELLS),
    ],
)
def test_a_bar_shows_every_kind_that_has_a_unit(stock: SkuStock, cells: str) -> None:
    assert bar(stock).plain == cells


def test_a_sparkline_is_as_high_as_its_highest() -> None:
    assert sparkline([0, 1, 2, 4, 8]) == "▁▂▃▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


@pytest.mark.parametrize(
    ("state", "words"),
    [("scheduled", "people join in 0.0 s"), ("waiting", "opens in 0.0 s"), ("open", "closes in 10:00"), ("paused", "closes in 10:00")],
)
def test_what_comes_next(state: str, words: str) -> None:
    assert countdown(msgspec.structs.replace(PICTURE, state=state)) == words


def test_when_watching_is_over() -> None:
    closed = msgspec.structs.replace(PICTURE, state="closed")
    done = msgspec.structs.replace(closed, reservations_live=0, journal_oldest_unfinished_ms=None)
    assert [is_over(picture, Until.CLOSED) for picture in (PICTURE, closed, done)] == [False, True, True]
    assert [is_over(picture, Until.FINISHED) for picture in (PICTURE, closed, done)] == [False, False, True]
    assert not is_over(msgspec.structs.replace(done, orders=None), Until.FINISHED)
    assert not is_over(done, Until.NEVER)


def test_the_summary_names_what_is_left() -> None:
    console = Console(width=80, record=True, file=io.StringIO(), color_system=None)
    console.print(closing_words(msgspec.structs.replace(PICTURE, state="closed"), History()))
    text = console.export_text()
    assert "launch is closed: 48,000,000 of 120,000,000 units sold." in text
    assert "1,234,567 reservations are still being paid" in text


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(0, "0.0 s"), (9_999, "10.0 s"), (10_000, "10 s"), (61_000, "1:01"), (3_723_000, "1:02:03"), (2 * 86_400_000, "2 d 0:00:00")],
)
def test_lengths_of_time(milliseconds: int, words: str) -> None:
    assert span(milliseconds) == words


def test_money_has_the_decimals_of_its_currency() -> None:
    assert [money(1_234_500, currency) for currency in ("EUR", "JPY", "KWD")] == ["12,345.00 EUR", "1,234,500 JPY", "1,234.500 KWD"]
