"""The report's page and its charts: well-formed, self-contained, escaped, and what they draw is where it belongs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.report import report
from admission.report_shapes import Figure, Section
from flashsale.charts import HEIGHT, TABLE_ROWS_MAX, WIDTH, Axis, Chart, Kind, Series, Unit, figure, shown, svg
from flashsale.report_charts import charts_of
from flashsale.report_page import report_page
from flashsale.report_words import sections_of, summary
from tests.report_stage import DROP, PlayedDrop, tell, totals

PLAYED = PlayedDrop()
REPORT = report(PLAYED.events, PLAYED.samples, DROP, PLAYED.totals, tell)
NASTY = '<img src="http://evil/x" onerror=1>&'
VOID = {"meta", "link"}


class Page(HTMLParser):
    """Checks that every tag is closed, and collects ids and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = {name: value or "" for name, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        self.references += values.get("aria-labelledby", "").split()
        assert values.get("href", "data:,") == "data:,"
        assert "src" not in values
        assert "style" not in values
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    text = report_page(REPORT)
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert not page.tags & {"script", "img", "iframe", "object", "base"}
    assert not re.search(r"https?:|@import|url\(", text)
    assert {"line-over-time", "admissions", "waits", "stock-over-time", "eta", "chance"} <= set(page.ids)
    assert len(text) < 100_000


def test_every_number_of_the_report_is_on_the_page() -> None:
    text = report_page(REPORT)
    for section in sections_of(REPORT):
        assert f">{section.title}</h2>" in text
        for one in section.figures:
            assert f"<dt>{one.label}</dt><dd>{one.shown}</dd>".replace("'", "&#x27;") in text


def test_nothing_a_merchant_or_a_log_says_becomes_markup() -> None:
    more = Section(NASTY, NASTY, (Figure(NASTY, NASTY, 1, NASTY, NASTY),), NASTY)
    nasty = msgspec.structs.replace(
        REPORT, name=NASTY, sections=(more,), whole=msgspec.structs.replace(REPORT.whole, removed={NASTY: 2}), lines=(REPORT.whole,)
    )
    axis = Axis(NASTY)
    chart = Chart(NASTY, NASTY, NASTY, axis, axis, (Series(NASTY, "line", ((0, 1), (2, 3))),), NASTY)
    text = report_page(nasty, [chart])
    assert "<img" not in text
    assert "img" not in Page(text).tags


def test_a_report_of_nothing_has_a_page() -> None:
    nothing = report([], [], DROP, totals(0, 0))
    assert Page(report_page(nothing)).open == []
    assert charts_of(nothing) == []
    assert [one.shown for one in summary(nothing)] == ["0", "0 of 300", "—", "—"]


# ------------------------------------------------------------------------------------------------------------------ charts

NUMBERS = st.floats(-1e12, 1e12) | st.integers(-5, 5)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8).map(tuple)
TRIPLES = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS).map(sorted).map(tuple), max_size=8).map(tuple)
SERIES = st.one_of(
    st.builds(Series, st.just("one"), st.sampled_from(["line", "step", "dots"]), PAIRS),
    st.builds(Series, st.just("two"), st.sampled_from(["bars", "band"]), TRIPLES),
)
AXES = st.builds(Axis, st.just("axis"), st.sampled_from(["number", "time", "share"]))


@given(
    st.builds(
        Chart, st.just("c"), st.just("t"), st.just("d"), AXES, AXES, st.lists(SERIES, max_size=3).map(tuple), st.sampled_from(["", "="])
    )
)
def test_whatever_is_drawn_is_well_formed_and_within_the_drawing(chart: Chart) -> None:
    root = ET.fromstring(svg(chart))
    assert [child.tag for child in root][:2] == ["title", "desc"]
    for element in root.iter():
        for name in ("x", "y", "cx", "cy"):
            if name in element.attrib:
                assert -1 <= float(element.attrib[name]) <= max(WIDTH, HEIGHT) + 1
    assert len(root.findall("text")) < 30
    assert "nan" not in svg(chart)


def test_values_that_hardly_differ_have_few_ticks() -> None:
    for low, high in ((0, 1e-300), (1e12, 1e12 + 1e-3), (0.1, 0.1 + 1e-12)):
        assert svg(one_series("line", (low, low), (high, high))).count("<text") < 30


def test_a_diagonal_runs_where_both_axes_have_the_value_and_squeezes_neither() -> None:
    line = Series("s", "line", ((0, 0), (10, 1_000)))
    root = ET.fromstring(svg(Chart("c", "t", "d", Axis("x", low=0), Axis("y", low=0), (line,), "equal")))
    drawn = {path.attrib["class"]: re.findall(r"[\d.]+", path.attrib["d"]) for path in root.iter("path")}
    start, end = drawn["line c0"][:2], drawn["line c0"][2:]
    assert drawn["diagonal"][:2] == start
    assert drawn["diagonal"][2] == end[0]
    assert float(drawn["diagonal"][3]) == pytest.approx(float(start[1]), abs=3)


def one_series(kind: Kind, *points: tuple[float, ...], unit: Unit = "number") -> Chart:
    return Chart("c", "t", "d", Axis("x", unit), Axis("y", low=0), (Series("s", kind, points),))


def test_bars_stand_on_the_axis_and_are_as_high_as_their_values() -> None:
    root = ET.fromstring(svg(one_series("bars", (0, 1, 5), (1, 2, 10))))
    low, high = ({name: float(bar.attrib[name]) for name in ("y", "height")} for bar in root.iter("rect"))
    assert low["y"] + low["height"] == pytest.approx(high["y"] + high["height"])
    assert high["height"] == pytest.approx(2 * low["height"], abs=0.2)


def test_a_step_goes_across_before_it_goes_up() -> None:
    [path] = [
        path.attrib["d"] for path in ET.fromstring(svg(one_series("step", (0, 0), (10, 5)))).iter("path") if "step" in path.attrib["class"]
    ]
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+V[\d.]+", path)


def test_the_numbers_of_a_long_series_are_thinned_in_the_table() -> None:
    text = figure(one_series("line", *((at, at) for at in range(1_000))))
    assert text.count("<tr>") <= TABLE_ROWS_MAX + 1


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0, "time", "0 s"),
        (40, "time", "40 ms"),
        (2_500, "time", "2.5 s"),
        (44_321, "time", "44 s"),
        (59_900, "time", "1:00"),
        (61_000, "time", "1:01"),
        (3_661_000, "time", "1:01:01"),
        (-30_000, "time", "\N{MINUS SIGN}30 s"),
        (1_234_567, "number", "1,234,567"),
        (0.256, "share", "26 %"),
    ],
)
def test_values_are_written_for_people(value: float, unit: Unit, words: str) -> None:
    assert shown(value, unit) == words
