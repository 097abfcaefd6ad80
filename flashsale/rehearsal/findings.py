"""What a rehearsal found, in numbers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from admission.ranking import Quantiles, quantiles
from flashsale.model import Drop, Snapshot
from flashsale.rehearsal.engine import End, Played, Visitor


class Loads(msgspec.Struct, frozen=True):
    """Requests: in all, and in the busiest second."""

    polls: int
    polls_per_s: int
    joins_per_s: int
    admissions_per_s: int
    reservations_per_s: int


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to the crowd. Times are from the opening."""

    shoppers: int
    joined: int
    admitted: int
    bought: int
    """people"""
    bought_nothing: int
    """came in, and took nothing or did not pay"""
    empty_handed: int
    """waited or came in, and there was nothing left"""
    gone: int
    """did not come when their turn came, or had left before"""
    no_room: int
    units: int
    units_sold: int
    taken_ms: int | None
    """when first nothing was available; None when that never was"""
    nearly_taken_ms: int | None
    """when 95 % of the units were taken for the first time"""
    sold_out_ms: int | None
    """when everything was paid; None when something was left"""
    ended_ms: int
    """when the last one had gone"""
    wait: Quantiles | None
    """of those let in: from the opening, or from joining after it, until they were in"""
    empty_handed_wait: Quantiles | None
    told_no_chance: int
    """people told a chance below 5 % at least once"""
    told_no_chance_ms: Quantiles | None
    """when first"""
    loads: Loads
    slot_ms: int
    """how long one person let in keeps a slot, on average"""
    slots_used: float
    """share of the slots in use while somebody waited and something was to be had, from the first filling on"""


def find(played: Played, snapshot: Snapshot, drop: Drop) -> Findings:
    """The findings of a rehearsal that is over; `snapshot` is its last."""
    visitors = played.visitors
    ends = Counter(visitor.end for visitor in visitors)
    inside = [visitor for visitor in visitors if visitor.admitted_ms is not None]
    empty = [visitor for visitor in visitors if visitor.end is End.EMPTY_HANDED and visitor.plan.comes]
    nothing = ends[End.BOUGHT_NOTHING] + ends[End.ABANDONED] + ends[End.PAYMENT_FAILED]
    units = sum(sku.allotment for sku in drop.skus)
    slots = played.slots
    return Findings(
        shoppers=len(visitors),
        joined=sum(visitor.place >= 0 for visitor in visitors),
        admitted=len(inside),
        bought=ends[End.BOUGHT],
        bought_nothing=nothing,
        empty_handed=len(empty),
        gone=len(visitors) - ends[End.BOUGHT] - nothing - len(empty) - ends[End.NO_ROOM],
        no_room=ends[End.NO_ROOM],
        units=units,
        units_sold=sum(stock.sold for stock in snapshot.skus.values()),
        taken_ms=played.taken_ms,
        nearly_taken_ms=played.nearly_taken_ms,
        sold_out_ms=played.sold_out_ms,
        ended_ms=played.ended_ms,
        wait=_waits(inside, (visitor.admitted_ms or 0 for visitor in inside)),
        empty_handed_wait=_waits(empty, (visitor.ended_ms for visitor in empty)),
        told_no_chance=sum(visitor.hopeless_ms is not None for visitor in visitors),
        told_no_chance_ms=_quantiles(visitor.hopeless_ms for visitor in visitors if visitor.hopeless_ms is not None),
        loads=_loads(played),
        slot_ms=round(slots.used_ms / max(1, len(inside))),
        slots_used=1 - slots.free_ms / max(1, slots.all_ms),
    )


def _loads(played: Played) -> Loads:
    def peak(seconds: Counter[int]) -> int:
        return max(seconds.values(), default=0)

    loads = played.loads
    return Loads(loads.polls.total(), peak(loads.polls), peak(loads.joins), peak(loads.admissions), peak(loads.reservations))


def _waits(visitors: Sequence[Visitor], until_ms: Iterable[int]) -> Quantiles | None:
    return _quantiles(max(0, end_ms - visitor.waited_from_ms) for visitor, end_ms in zip(visitors, until_ms, strict=True))


def _quantiles(values: Iterable[int]) -> Quantiles | None:
    return quantiles(Counter(values).items())
