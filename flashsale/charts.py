"""Charts as inline SVG: no script, no resource from outside, colours from the page's style. Pure.

A chart says what it shows in words as well: a title and a description for screen readers, and its numbers as a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Literal, TypeAlias

from msgspec import Struct

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 60, 24, 14, 40
TABLE_ROWS_MAX = 60
_TICKS_MAX = 6
_FINEST = 1e-6
"""Values that differ by less, in proportion, are drawn as one."""
_DOT_RADIUS = 4.5
_TIME_STEPS_MS = tuple(
    unit * step
    for unit, steps in ((1, (1, 2, 5, 10, 20, 50, 100, 200, 500)), (1_000, (1, 2, 5, 10, 15, 30)), (60_000, (1, 2, 5, 10, 15, 30)))
    for step in steps
)
_HOUR_MS = 3_600_000

Point: TypeAlias = tuple[float, ...]
Kind: TypeAlias = Literal["line", "step", "bars", "dots", "band"]
Unit: TypeAlias = Literal["number", "time", "share"]


class Axis(Struct, frozen=True):
    """One axis of a chart."""

    label: str
    unit: Unit = "number"
    """time: milliseconds; share: 0 to 1"""
    low: float | None = None
    """where the axis begins; by the data when None"""
    high: float | None = None


class Series(Struct, frozen=True):
    """One thing drawn, in the colour of its number."""

    name: str
    kind: Kind
    points: tuple[Point, ...]
    """line, step, dots: (x, y); bars: (from x, to x, y); band: (x, low y, high y)"""


class Chart(Struct, frozen=True):
    """A chart, as data."""

    name: str
    """unique on its page"""
    title: str
    description: str
    """what it shows, in a sentence or two"""
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    """at most five"""
    diagonal: str = ""
    """what a dashed line where x and y are equal means; none when empty"""


STYLE = """
.chart { margin: 0; break-inside: avoid; }
.chart svg { display: block; width: 100%; height: auto; font: 12.5px system-ui, sans-serif; }
@media (max-width: 30rem) { .chart svg { font-size: 16px; } }
.chart figcaption { font-weight: 600; margin-bottom: .25rem; }
.chart .words { color: var(--quiet); font-size: .9rem; margin: .25rem 0; }
.chart text { fill: var(--quiet); }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .axis { stroke: var(--quiet); stroke-width: 1; }
.chart .diagonal { stroke: var(--quiet); stroke-width: 1.5; stroke-dasharray: 5 4; }
.chart .line, .chart .step { fill: none; stroke-width: 2.25; stroke-linejoin: round; }
.chart .bars, .chart .dots { stroke: none; }
.chart .band { stroke: none; fill-opacity: .28; }
.chart .c0 { --own: var(--c0); } .chart .c1 { --own: var(--c1); } .chart .c2 { --own: var(--c2); }
.chart .c3 { --own: var(--c3); } .chart .c4 { --own: var(--c4); }
.chart .line, .chart .step { stroke: var(--own); }
.chart .bars, .chart .dots, .chart .band { fill: var(--own); }
.chart .key { list-style: none; display: flex; flex-wrap: wrap; gap: .15rem 1rem; padding: 0; margin: .35rem 0 0; font-size: .9rem; }
.chart .key li::before { content: ""; display: inline-block; width: .8em; height: .8em; border-radius: 2px; background: var(--own);
  margin-right: .4em; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.chart .key .dash::before { width: 1.5em; height: 0; background: none;
  border-top: 2px dashed var(--quiet); vertical-align: middle; border-radius: 0; }
"""
"""What charts need of a page's style sheet, which has to define --quiet, --line and --c0 to --c4."""


def figure(chart: Chart) -> str:
    """The chart as an HTML `figure`: caption, drawing, key, words, and its numbers in a table to unfold."""
    name = escape(chart.name, quote=True)
    return (
        f'<figure class="chart" id="{name}"><figcaption>{escape(chart.title)}</figcaption>'
        f"{svg(chart)}{_key(chart)}"
        f'<p class="words">{escape(chart.description)}</p>'
        f"<details><summary>The numbers</summary>{_table(chart)}</details></figure>"
    )


def svg(chart: Chart) -> str:
    """The drawing alone."""
    name = escape(chart.name, quote=True)
    plane = _Plane(chart)
    drawn = "".join(_draw(series, at, plane) for at, series in enumerate(chart.series))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(chart.title)}</title><desc id="{name}-desc">{escape(chart.description)}</desc>'
        f"{plane.frame()}{_diagonal(plane) if chart.diagonal else ''}{drawn}</svg>"
    )


def shown(value: float, unit: Unit, step: float = 0) -> str:
    """A value for people; `step` is the distance to the next one on an axis."""
    match unit:
        case "number":
            return f"{value:,.0f}" if not step or step >= 1 else f"{value:,.1f}" if step >= 0.1 else f"{value:,.2g}"
        case "share":
            return f"{100 * value:.0f} %"
        case "time":
            return _time(value, step)


def _time(value_ms: float, step_ms: float) -> str:
    sign, value_ms = ("\N{MINUS SIGN}", -value_ms) if value_ms < 0 else ("", value_ms)
    if value_ms < 59_500 and step_ms < 60_000:
        fine = bool(value_ms % 1_000) and (step_ms < 1_000 if step_ms else value_ms < 10_000)
        return f"{sign}{value_ms:.0f} ms" if 0 < value_ms < 100 else f"{sign}{value_ms / 1000:.{int(fine)}f} s"
    minutes, seconds = divmod(round(value_ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}:{minutes:02}:{seconds:02}" if hours else f"{sign}{minutes}:{seconds:02}"


# ----------------------------------------------------------------------------------------------------------------- drawing


class _Plane:
    """Where values are on the drawing."""

    def __init__(self, chart: Chart) -> None:
        self._axes = (chart.x, chart.y)
        xs, ys = _values(chart.series)
        self.x_ticks = _ticks(chart.x, xs)
        self.y_ticks = _ticks(chart.y, [*ys, *((0.0,) if chart.y.low is None else ())])
        self.x_low, self.x_high = _range(chart.x, xs, self.x_ticks, tight=not chart.diagonal)
        self.y_low, self.y_high = _range(chart.y, ys, self.y_ticks, tight=False)

    def x(self, value: float) -> float:
        """Distance from the left."""
        return round(LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Distance from the top."""
        return round(HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM), 1)

    def frame(self) -> str:
        """Grid, axes, ticks and labels."""
        x_axis, y_axis = self._axes
        right, ground = WIDTH - RIGHT, HEIGHT - BOTTOM
        x_step, y_step = _distance(self.x_ticks), _distance(self.y_ticks)
        parts = [
            f'<path class="grid" d="M{LEFT} {self.y(tick)}H{right}"/>'
            f'<text x="{LEFT - 6}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{shown(tick, y_axis.unit, y_step)}</text>'
            for tick in self.y_ticks
        ]
        parts += [
            f'<path class="axis" d="M{self.x(tick)} {ground}v4"/>'
            f'<text x="{self.x(tick)}" y="{ground + 17}" text-anchor="middle">{shown(tick, x_axis.unit, x_step)}</text>'
            for tick in self.x_ticks
            if self.x_low <= tick <= self.x_high
        ]
        parts.append(f'<path class="axis" d="M{LEFT} {ground}H{right}"/>')
        parts.append(f'<text x="{(LEFT + right) // 2}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_axis.label)}</text>')
        parts.append(
            f'<text transform="translate(11 {(TOP + ground) // 2}) rotate(-90)" text-anchor="middle">{escape(y_axis.label)}</text>'
            if y_axis.label
            else ""
        )
        return "".join(parts)


def _draw(series: Series, colour: int, plane: _Plane) -> str:
    if not series.points:
        return ""
    css = f'class="{series.kind} c{colour}"'
    x, y = plane.x, plane.y
    match series.kind:
        case "line":
            return f'<path {css} d="M{"L".join(f"{x(at)} {y(value)}" for at, value in series.points)}"/>'
        case "step":
            (first_x, first_y), *rest = series.points
            return f'<path {css} d="M{x(first_x)} {y(first_y)}{"".join(f"H{x(at)}V{y(value)}" for at, value in rest)}"/>'
        case "bars":
            return "".join(_bar(css, x(start), x(stop), y(value)) for start, stop, value in series.points)
        case "dots":
            return "".join(f'<circle {css} cx="{x(at)}" cy="{y(value)}" r="{_DOT_RADIUS}"/>' for at, value in series.points)
        case "band":
            there = [f"{x(at)} {y(high)}" for at, _, high in series.points]
            back = [f"{x(at)} {y(low)}" for at, low, _ in reversed(series.points)]
            return f'<path {css} d="M{"L".join(there + back)}Z"/>'


def _bar(css: str, left: float, right: float, top: float) -> str:
    return f'<rect {css} x="{left}" y="{top}" width="{max(0.5, right - left - 1):.1f}" height="{HEIGHT - BOTTOM - top:.1f}"/>'


def _diagonal(plane: _Plane) -> str:
    low, high = max(plane.x_low, plane.y_low), min(plane.x_high, plane.y_high)
    return f'<path class="diagonal" d="M{plane.x(low)} {plane.y(low)}L{plane.x(high)} {plane.y(high)}"/>'


# ------------------------------------------------------------------------------------------------------------------- axes


def _values(every: Iterable[Series]) -> tuple[list[float], list[float]]:
    xs: list[float] = []
    ys: list[float] = []
    for series in every:
        for point in series.points:
            cut = 2 if series.kind == "bars" else 1
            xs += point[:cut]
            ys += point[cut:]
    return xs, ys


def _range(axis: Axis, values: Sequence[float], ticks: Sequence[float], *, tight: bool) -> tuple[float, float]:
    """Both ends of an axis: as told, else around the data (tight) or the ticks around it."""
    around = [*values] if tight and values else [*values, *ticks]
    low = min(around) if axis.low is None else axis.low
    high = max(around) if axis.high is None else axis.high
    return low, high if high > low else low + 1


def _ticks(axis: Axis, values: Sequence[float]) -> list[float]:
    """Round values over the data; the last one at its end or beyond."""
    low = min(values, default=0.0) if axis.low is None else axis.low
    high = max(values, default=1.0) if axis.high is None else axis.high
    step = _step(axis.unit, max((high - low) / _TICKS_MAX, _FINEST * max(1.0, abs(low), abs(high))))
    return [at * step for at in range(floor(low / step), ceil(high / step) + 1)]


def _step(unit: Unit, least: float) -> float:
    """The smallest round step that is not below `least`."""
    if unit == "time":
        found = next((step for step in _TIME_STEPS_MS if step >= least), None)
        return found or _HOUR_MS * _step("number", least / _HOUR_MS)
    power = 10.0 ** floor(log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least)


def _distance(ticks: Sequence[float]) -> float:
    return ticks[1] - ticks[0] if len(ticks) > 1 else 0


# ------------------------------------------------------------------------------------------------------------------ words


def _key(chart: Chart) -> str:
    named = [f'<li class="c{at}">{escape(series.name)}</li>' for at, series in enumerate(chart.series)]
    if chart.diagonal:
        named.append(f'<li class="dash">{escape(chart.diagonal)}</li>')
    return f'<ul class="key">{"".join(named)}</ul>' if len(named) > 1 else ""


def _table(chart: Chart) -> str:
    """The numbers; of many, every so many-th."""
    parts = []
    for series in chart.series:
        every = -(-len(series.points) // TABLE_ROWS_MAX) or 1
        rows = "".join(f"<tr>{_cells(series, point, chart)}</tr>" for point in series.points[::every])
        parts.append(
            f"<table><caption>{escape(series.name)}</caption><thead><tr>{_head(series, chart)}</tr></thead><tbody>{rows}</tbody></table>"
        )
    return "".join(parts)


def _head(series: Series, chart: Chart) -> str:
    x, y = chart.x.label, chart.y.label or series.name
    labels = {"bars": (f"{x}, from", "to", y), "band": (x, f"{y}, from", "to")}.get(series.kind, (x, y))
    return "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)


def _cells(series: Series, point: Point, chart: Chart) -> str:
    xs = 2 if series.kind == "bars" else 1
    units = [chart.x.unit] * xs + [chart.y.unit] * (len(point) - xs)
    return "".join(f"<td>{shown(value, unit)}</td>" for value, unit in zip(point, units, strict=True))
