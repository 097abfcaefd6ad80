"""A drop's report in words, for the terminal and for a page. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from admission.calibration import LOOKS_TO_JUDGE, ChanceScore, EtaScore
from admission.ranking import Quantiles
from admission.report_shapes import CutPlaces, DropReport, Figure, LineReport, Ranked, Section, Stock
from flashsale.charts import shown

_WHAT_COUNTS = (
    "Two places of a line are an overtake when the later one was called first. Who is called again from the head of the line, "
    "because no slot was free before, has had the turn already and overtakes nobody. Lines of priority groups are not compared."
)


def summary(report: DropReport) -> tuple[Figure, ...]:
    """The four numbers to look at first."""
    whole, stock = report.whole, report.stock
    sold_out = stock.all_taken_ms if stock.all_sold_ms is None else stock.all_sold_ms
    words = "everything sold after" if stock.all_sold_ms is not None else "everything taken after"
    return (
        _count("overtakes", "overtakes", whole.calls.inversions),
        Figure("sold", "units sold", stock.sold, f"{stock.sold:,} of {stock.allotment:,}"),
        _length("median_wait", "half were called within", None if whole.wait_to_call is None else whole.wait_to_call.p50_ms),
        _length("sold_out", words, sold_out),
    )


def subtitle(report: DropReport) -> str:
    """When it was, and what the report stands on."""
    opened, made = (
        datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ") for at_ms in (report.opens_at_ms, report.made_at_ms)
    )
    words = "" if report.final else " The drop is not over: this is how it stands."
    return f"{report.drop} opened {opened}, is {report.state}. Report of {made}.{words}"


def sections_of(report: DropReport) -> list[Section]:
    """Everything in the report, in the order people read it."""
    return [
        _order(report.whole),
        _line(report.whole, final=report.final),
        *(_line(line, final=report.final) for line in report.lines),
        _waits(report.whole),
        _stock(report.stock),
        _honesty(report),
        _log(report),
        *report.sections,
    ]


# ---------------------------------------------------------------------------------------------------------------- sections


def _order(whole: LineReport) -> Section:
    return Section(
        "order",
        "Order",
        (
            _count("inversions", "overtakes in calling", whole.calls.inversions),
            _tau("calls", "order of calling", whole.calls),
            _tau("claims", "order of coming", whole.claims),
        ),
        _WHAT_COUNTS,
    )


def _tau(name: str, label: str, order: Ranked) -> Figure:
    tau = order.kendall_tau
    words = "too few places" if tau is None else f"τ {tau:.4f}"
    return Figure(
        f"kendall_tau_{name}", label, tau, words, f"Kendall's τ against the line, over {order.places:,} places; 1 is the same order"
    )


def _line(line: LineReport, *, final: bool) -> Section:
    name, title = (f"line_{line.group}", f"Line: {line.group}") if line.group else ("line", "The line")
    removed = [_count(f"removed_{why}", f"removed: {why or 'no reason given'}", places) for why, places in sorted(line.removed.items())]
    figures = (
        _count("joined", "joined", line.joined),
        _count("called", "called", line.called, "had their turn"),
        _count("called_again", "called again", line.called_again, "from the head of the line, after they had found no slot"),
        _count("claimed", "came", line.claimed, _share(line.claimed, line.called)),
        _count("never_came", "never came" if final else "have not come", line.never_came, _share(line.never_came, line.called)),
        _count("left", "gave up their places", line.left),
        *removed,
        *([_cut(line.cut)] if line.cut else []),
    )
    return Section(name, title, figures)


def _cut(cut: CutPlaces) -> Figure:
    note = f"from number {cut.number:,} on, {shown(cut.since_opening_ms, 'time')} after the opening: {cut.why.replace('_', ' ')}"
    return Figure("cut", "nothing was left for", cut.places, f"{cut.places:,}", note)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} % of those called" if whole else ""


def _waits(whole: LineReport) -> Section:
    figures = [
        *_quantiles("call", "called within", whole.wait_to_call),
        *_quantiles("claim", "came within, once called", whole.wait_to_claim),
    ]
    note = "From the opening, or from joining after it, until called: the time of joining to the nearest sample (2 s)."
    return Section("waits", "Waits", tuple(figures), note)


def _quantiles(name: str, label: str, waits: Quantiles | None) -> Iterator[Figure]:
    if waits is None:
        yield Figure(f"wait_to_{name}", label, None, "unknown")
        return
    limits = (("10 %", waits.p10_ms), ("half", waits.p50_ms), ("90 %", waits.p90_ms), ("99 %", waits.p99_ms), ("all", waits.max_ms))
    for part, limit_ms in limits:
        yield Figure(f"wait_to_{name}_{part.removesuffix(' %')}_ms", f"{part} {label}", limit_ms, shown(limit_ms, "time"))


def _stock(stock: Stock) -> Section:
    return Section(
        "stock",
        "Stock",
        (
            _count("allotment", "units", stock.allotment),
            _count("sold_units", "sold", stock.sold),
            _count("reserved_units", "reserved", stock.reserved),
            _count("available_units", "left", stock.available),
            _length("half_sold", "half sold after", stock.half_sold_ms),
            _length("all_taken", "all reserved or sold after", stock.all_taken_ms),
            _length("all_sold", "all sold after", stock.all_sold_ms),
        ),
        "Times are from the opening, to the nearest sample (2 s).",
    )


def _honesty(report: DropReport) -> Section:
    figures = [*_eta_figures(report.eta), *_chance_figures(report.chance)]
    note = (
        "What places in line were told, held against what happened to them."
        if figures
        else "Nothing to score: no samples were kept, or nobody who was told something has been called yet."
    )
    return Section("honesty", "Were the numbers honest?", tuple(figures), note)


def _eta_figures(eta: EtaScore | None) -> Iterator[Figure]:
    if eta is not None:
        aim = f"aim 80 %; {percent(eta.share_early)} were called sooner, {percent(eta.share_late)} later; {eta.looks:,} looks"
        yield Figure("eta_within", "waits within the range told", eta.share_within, percent(eta.share_within), aim)
        yield Figure("eta_width", "width of the range", eta.median_width, f"{percent(eta.median_width)} of the wait", "median")


def _chance_figures(chance: ChanceScore | None) -> Iterator[Figure]:
    if chance is not None:
        gap = chance.worst_gap
        words = "too few looks" if gap is None else f"{100 * gap:.0f} points"
        yield Figure(
            "chance_gap", "chance off by at most", gap, words, f"in tenths with at least {LOOKS_TO_JUDGE} of {chance.looks:,} looks"
        )
        yield Figure("chance_brier", "Brier score", chance.brier, f"{chance.brier:.3f}", "0 is perfect, 0.25 a coin")


def percent(share: float) -> str:
    """A share from 0 to 1 for people."""
    return f"{100 * share:.0f} %"


def _log(report: DropReport) -> Section:
    log = report.log
    unknown = [_count(f"unknown_{kind}", f"of a kind unknown here: {kind}", entries) for kind, entries in sorted(log.unknown.items())]
    head = [Figure("head", "head of the chain", log.head, log.head)] if log.head else []
    notes = [
        "" if log.complete else "The log goes on; the report covers its beginning only.",
        "" if log.claims else "The log does not tell who came: 'came' is the drop's total of admissions.",
    ]
    figures = (_count("entries", "entries", log.entries), *unknown, *head, _count("samples", "samples", log.samples))
    return Section("log", "The admission log", figures, " ".join(filter(None, notes)))


def _count(name: str, label: str, value: int, note: str = "") -> Figure:
    return Figure(name, label, value, f"{value:,}", note)


def _length(name: str, label: str, value_ms: int | None) -> Figure:
    return Figure(f"{name}_ms", label, value_ms, "—" if value_ms is None else shown(value_ms, "time"))
