"""What a report on a drop stands on, and what it says. Pure.

Every member of `DropReport` is in the JSON of `flashsale drop report --json`; docs/report.md describes them. Times with `_at_ms`
are milliseconds since the Unix epoch, `_ms` are lengths of time, those of the stock and of the rate from the opening on.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from admission.calibration import ChanceScore, EtaScore
from admission.ranking import Bin, Quantiles
from flashsale.model import DropState, Snapshot


@dataclass(frozen=True, slots=True)
class LineTotals:
    """How many are in a line."""

    group: str
    """empty for the line of everybody"""
    joined: int
    entries: int | None
    """people who had joined at the opening; None before it"""


@dataclass(frozen=True, slots=True)
class Totals:
    """Where a drop stands now, which the log alone does not say."""

    at_ms: int
    state: DropState
    opens_at_ms: int
    admitted: int
    """shoppers who have fetched an admission token"""
    allotment: int
    """units of all SKUs, as all below"""
    available: int
    reserved: int
    sold: int
    lines: tuple[LineTotals, ...]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Totals:
        """Of a picture of the drop."""
        stocks = snapshot.skus.values()
        return cls(
            at_ms=snapshot.now_ms,
            state=snapshot.state,
            opens_at_ms=snapshot.opens_at_ms,
            admitted=snapshot.admitted,
            allotment=sum(stock.allotment for stock in stocks),
            available=sum(stock.available for stock in stocks),
            reserved=sum(stock.reserved for stock in stocks),
            sold=sum(stock.sold for stock in stocks),
            lines=tuple(LineTotals(line.group, line.joined, line.entries) for line in snapshot.lines)
            or (LineTotals("", snapshot.joined, snapshot.entries),),
        )


class Ranked(msgspec.Struct, frozen=True):
    """An order of places, held against the order of the line."""

    places: int
    inversions: int
    """pairs of places in which the later one came first"""
    kendall_tau: float | None
    """1: the order of the line; null when there are not two places"""


class CutPlaces(msgspec.Struct, frozen=True):
    """The end of a line for which there was nothing left."""

    number: int
    """queue number from which on"""
    places: int
    since_opening_ms: int
    why: str


class LineReport(msgspec.Struct, frozen=True):
    """One line, or all of them together."""

    group: str
    joined: int
    called: int
    """places called; whoever had left before is not counted"""
    called_again: int
    """calls from the head of the line, of people who had found no slot"""
    claimed: int
    """places whose shopper came and was let in"""
    never_came: int
    """called, and neither came nor gave up"""
    left: int
    removed: dict[str, int]
    """places the merchant took away, by reason"""
    cut: CutPlaces | None
    calls: Ranked
    claims: Ranked
    wait_to_call: Quantiles | None
    """from the opening, or from joining after it; of places called"""
    wait_to_claim: Quantiles | None
    """from the call until the shopper came"""


class RateBin(msgspec.Struct, frozen=True):
    """How many were let in during a stretch of time."""

    from_ms: int
    """from the opening"""
    to_ms: int
    count: int
    per_min: float


class Moment(msgspec.Struct, frozen=True):
    """Where the drop stood. `null` where no sample says."""

    since_opening_ms: int
    """below 0 before it"""
    called: int
    claimed: int
    joined: int | None
    available: int | None
    reserved: int | None
    sold: int | None


class Stock(msgspec.Struct, frozen=True):
    """What became of the units, of all SKUs together."""

    allotment: int
    available: int
    reserved: int
    sold: int
    half_sold_ms: int | None
    """from the opening; to the nearest sample; null when it did not happen, or no sample says"""
    all_sold_ms: int | None
    all_taken_ms: int | None
    """when first no unit was available: all were reserved or sold"""


class LogSummary(msgspec.Struct, frozen=True):
    """The log the report was made from."""

    entries: int
    claims: bool
    """whether the log tells who came; without it `claimed` is the drop's total"""
    samples: int
    unknown: dict[str, int]
    """entries this release cannot read, by kind; they count in the chain"""
    head: str = ""
    """hex; empty where there is no chain"""
    complete: bool = True
    """false when the log has more entries than a report reads"""


class Figure(msgspec.Struct, frozen=True):
    """One thing a section tells."""

    name: str
    """for programs"""
    label: str
    value: bool | int | float | str | None
    shown: str
    """the value for people, with its unit"""
    note: str = ""


class Section(msgspec.Struct, frozen=True):
    """What somebody else adds to a report: a rehearsal its recommendations."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    note: str = ""


class DropReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report after a drop."""

    drop: str
    name: str
    state: str
    final: bool
    """closed or sold out: nothing below changes any more, apart from units that come back"""
    made_at_ms: int
    opens_at_ms: int
    whole: LineReport
    """all lines together; pairs of places are compared within a line only"""
    lines: tuple[LineReport, ...]
    """each of them, where there is more than one"""
    stock: Stock
    rate: tuple[RateBin, ...]
    """admissions over time; of calls where the log does not tell who came"""
    waits: tuple[Bin, ...]
    """histogram of `wait_to_call`"""
    moments: tuple[Moment, ...]
    """at most 240, evenly over the drop"""
    eta: EtaScore | None
    """null without samples, or before anybody who was told something was called"""
    chance: ChanceScore | None
    """null without samples, and while it is open whom the stock reaches"""
    log: LogSummary
    sections: tuple[Section, ...] = ()
