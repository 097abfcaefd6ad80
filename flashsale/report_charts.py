"""The charts of a drop's report. Pure."""

from __future__ import annotations

from collections.abc import Callable

from admission.calibration import LOOKS_TO_JUDGE, ChanceScore, EtaScore
from admission.report_shapes import DropReport, Moment
from flashsale.charts import Axis, Chart, Series, shown
from flashsale.report_words import percent

_TIME = Axis("time since the opening", "time")


def charts_of(report: DropReport) -> list[Chart]:
    """The charts there is something to draw for."""
    charts = [_line(report), _admissions(report), _waits(report), _stock(report)]
    if report.eta is not None:
        charts.append(_eta(report.eta))
    if report.chance is not None:
        charts.append(_chance(report.chance))
    return [chart for chart in charts if chart.series]


def _line(report: DropReport) -> Chart:
    whole, moments = report.whole, report.moments
    curves = [
        _curve("joined", moments, lambda moment: moment.joined),
        _curve("called", moments, lambda moment: moment.called),
        *([_curve("came", moments, lambda moment: moment.claimed)] if report.log.claims else []),
        _curve("units sold", moments, lambda moment: moment.sold),
    ]
    came = f"{whole.joined:,} people joined, {whole.called:,} were called, {whole.claimed:,} came"
    words = f"{came}; {report.stock.sold:,} units were sold."
    return Chart("line-over-time", "The line over time", words, _TIME, Axis("people, units", low=0), _drawn(*curves))


def _admissions(report: DropReport) -> Chart:
    name = "let in" if report.log.claims else "called"
    peak = max((one.per_min for one in report.rate), default=0)
    length = shown(report.rate[0].to_ms - report.rate[0].from_ms, "time") if report.rate else "0 s"
    bars = Series(f"people {name} per minute", "bars", tuple((one.from_ms, one.to_ms, one.per_min) for one in report.rate))
    words = f"At most {peak:,.0f} people a minute were {name}; each bar is {length}."
    return Chart("admissions", f"People {name} per minute", words, _TIME, Axis("a minute", low=0), _drawn(bars))


def _waits(report: DropReport) -> Chart:
    waits = report.whole.wait_to_call
    words = f"Half were called within {shown(waits.p50_ms, 'time')}, 90 % within {shown(waits.p90_ms, 'time')}." if waits else ""
    bars = Series("people", "bars", tuple((one.from_ms, one.to_ms, one.count) for one in report.waits))
    return Chart("waits", "How long people waited", words, Axis("wait until called", "time", low=0), Axis("people", low=0), _drawn(bars))


def _stock(report: DropReport) -> Chart:
    stock, moments = report.stock, report.moments
    curves = (
        _curve("available", moments, lambda moment: moment.available),
        _curve("reserved", moments, lambda moment: moment.reserved),
        _curve("sold", moments, lambda moment: moment.sold),
    )
    words = f"Of {stock.allotment:,} units {stock.sold:,} are sold, {stock.reserved:,} reserved, {stock.available:,} left."
    return Chart("stock-over-time", "Stock over time", words, _TIME, Axis("units", low=0), _drawn(*curves))


def _eta(eta: EtaScore) -> Chart:
    held = f"The range told held the true wait in {percent(eta.share_within)} of {eta.looks:,} looks."
    return Chart(
        "eta",
        "Waits told, and true waits",
        f"{held} The dashed line should run inside the coloured range.",
        Axis("true wait", "time", low=0),
        Axis("wait told", "time", low=0),
        _drawn(
            Series("range told, on average", "band", tuple((one.waited_ms, one.low_ms, one.high_ms) for one in eta.by_wait)),
            Series("its ends", "dots", tuple((one.waited_ms, end) for one in eta.by_wait for end in (one.low_ms, one.high_ms))),
        ),
        diagonal="exactly right",
    )


def _chance(chance: ChanceScore) -> Chart:
    few = f"fewer than {LOOKS_TO_JUDGE} looks: says little"
    return Chart(
        "chance",
        "Chances told, and what happened",
        f"{chance.looks:,} looks in tenths by the chance told, and the share of them that the stock reached. The dashed line is perfect.",
        Axis("chance told", "share", low=0, high=1),
        Axis("reached", "share", low=0, high=1),
        _drawn(
            Series("a tenth", "dots", tuple((one.said, one.happened) for one in chance.deciles if one.looks >= LOOKS_TO_JUDGE)),
            Series(few, "dots", tuple((one.said, one.happened) for one in chance.deciles if one.looks < LOOKS_TO_JUDGE)),
        ),
        diagonal="exactly right",
    )


def _drawn(*series: Series) -> tuple[Series, ...]:
    return tuple(one for one in series if one.points)


def _curve(name: str, moments: tuple[Moment, ...], value_of: Callable[[Moment], int | None]) -> Series:
    """A step where the value changes, and both ends: the drawing is the same, and the page small."""
    known = [(float(moment.since_opening_ms), float(value)) for moment in moments if (value := value_of(moment)) is not None]
    kept = [point for at, point in enumerate(known) if at in (0, len(known) - 1) or point[1] != known[at - 1][1]]
    return Series(name, "step", tuple(kept))
