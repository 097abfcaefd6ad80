"""What happened at a drop, from its admission log and its samples. Pure; docs/report.md says what the numbers mean."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from admission.calibration import LineEnd, Oracle, score_chance, score_eta, take_looks
from admission.log import Event, Left, Removed
from admission.places import Draws, queue_place
from admission.ranking import Ranking, histogram, quantiles, ranking
from admission.report_shapes import CutPlaces, DropReport, LineReport, LogSummary, Moment, Ranked, RateBin, Section, Stock, Totals
from admission.serving import ServingDocument
from admission.tally import LineTally, Tally, tally
from flashsale.model import Drop, DropState, number_of, place_of

MOMENTS_MAX = 240
RATE_BINS_MAX = 60
WAIT_BINS_MAX = 24


def report(
    events: Iterable[Event],
    samples: Sequence[ServingDocument],
    drop: Drop,
    totals: Totals,
    oracle: Oracle | None = None,
    sections: tuple[Section, ...] = (),
    draws: Draws = (),
) -> DropReport:
    """The report on a drop.

    Args:
        events: of the admission log, in its order.
        samples: serving documents as they were, oldest first.
        drop: its definition.
        totals: where it stands now.
        oracle: what a document says to a place, for scoring it.
        sections: what else is to be told.
        draws: of its lines.
    """
    total = tally(_in_the_queue(events, draws))
    ends = _line_ends(total, samples, totals)
    waits = [_waits(end, totals.opens_at_ms) for end in ends]
    admitted = totals.admitted if not any(end.tally.claims for end in ends) else None
    lines = [_line(end, group.group, wait, totals.opens_at_ms) for end, group, wait in zip(ends, totals.lines, waits, strict=True)]
    whole = _together(lines, ends, sum(waits, Counter()), admitted)
    final = totals.state is DropState.CLOSED or totals.available + totals.reserved == 0
    looks = take_looks(samples, ends, oracle) if oracle else []
    stock = _stock(samples, totals)
    return DropReport(
        drop=drop.drop_id,
        name=drop.name,
        state=totals.state.value,
        final=final,
        made_at_ms=totals.at_ms,
        opens_at_ms=totals.opens_at_ms,
        whole=whole,
        lines=tuple(lines) if len(lines) > 1 else (),
        stock=stock,
        rate=_rate([end.tally for end in ends], totals.opens_at_ms),
        waits=histogram(sum(waits, Counter()).items(), WAIT_BINS_MAX),
        moments=_moments(total, samples, totals),
        eta=score_eta(looks),
        chance=score_chance(looks) if final else None,
        log=LogSummary(total.entries, admitted is None, len(samples), dict(total.unknown)),
        sections=sections,
    )


def _in_the_queue(events: Iterable[Event], draws: Draws) -> Iterator[Event]:
    """The events with every place as it is in the queue: who gave up before the draw is written down as an entry."""
    for event in events:
        if isinstance(event, Left | Removed) and event.undrawn:
            for draw in draws:
                if draw is not None and not draw.prepared:
                    deque(draw.prepare(), maxlen=0)
            yield replace(event, places=tuple(queue_place(place, draws) for place in event.places))
        else:
            yield event


# ------------------------------------------------------------------------------------------------------------------- lines


def _line_ends(total: Tally, samples: Sequence[ServingDocument], totals: Totals) -> list[LineEnd]:
    return [
        LineEnd(
            tally=total.lines.get(line, LineTally()),
            first=place_of(line, 0),
            joined=one.joined,
            entries=one.joined if one.entries is None else one.entries,
            joined_at_ms=_joined_at_ms(samples, line),
        )
        for line, one in enumerate(totals.lines)
    ]


def _joined_at_ms(samples: Sequence[ServingDocument], line: int) -> Callable[[int], int | None]:
    """When a place of a line was given: by the first sample that counts it."""
    joined = list(accumulate((_joined(document, line) for document in samples), max))

    def at_ms(place: int) -> int | None:
        found = bisect_right(joined, number_of(place))
        return samples[found].now_ms if found < len(samples) else None

    return at_ms


def _joined(document: ServingDocument, line: int) -> int:
    groups = document.groups
    return document.joined if not groups else groups[line].joined if line < len(groups) else 0


def _waits(end: LineEnd, opens_at_ms: int) -> Counter[int]:
    """How many places waited how long until they were called."""
    waits: Counter[int] = Counter()
    gone = sorted(end.tally.gone_waiting)
    for start, stop, at_ms in end.tally.runs:
        early = min(stop, end.first + end.entries)
        if start < early:
            waits[max(0, at_ms - opens_at_ms)] += early - start - (bisect_left(gone, early) - bisect_left(gone, start))
        for place in range(max(start, early), stop):
            joined_at_ms = end.joined_at_ms(place)
            if joined_at_ms is not None and place not in end.tally.gone_waiting:
                waits[max(0, at_ms - max(joined_at_ms, opens_at_ms))] += 1
    return +waits


def _line(end: LineEnd, group: str, waits: Mapping[int, int], opens_at_ms: int) -> LineReport:
    line = end.tally
    calls = ranking([run.start for run in line.runs], [run.stop - run.start for run in line.runs])
    return LineReport(
        group=group,
        joined=end.joined,
        called=line.called,
        called_again=line.called_again,
        claimed=len(line.claims),
        never_came=line.never_came,
        left=line.left,
        removed=dict(+line.removed),
        cut=_cut(end, opens_at_ms),
        calls=_ranked(line.passed, calls),
        claims=_ranked(len(line.claims), ranking(line.claims)),
        wait_to_call=quantiles(waits.items()),
        wait_to_claim=quantiles(Counter(line.claim_waits_ms).items()),
    )


def _ranked(places: int, found: Ranking) -> Ranked:
    return Ranked(places, found.inversions, found.kendall_tau)


def _cut(end: LineEnd, opens_at_ms: int) -> CutPlaces | None:
    cut = end.tally.cut
    if cut is None:
        return None
    number = number_of(cut.places[0])
    return CutPlaces(number, max(0, end.joined - number), cut.at_ms - opens_at_ms, cut.why)


def _together(lines: Sequence[LineReport], ends: Sequence[LineEnd], waits: Mapping[int, int], admitted: int | None) -> LineReport:
    """All lines; `admitted` when the log does not tell who came."""
    called = sum(line.called for line in lines)
    cuts = [line.cut for line in lines if line.cut is not None]
    return LineReport(
        group="",
        joined=sum(line.joined for line in lines),
        called=called,
        called_again=sum(line.called_again for line in lines),
        claimed=sum(line.claimed for line in lines) if admitted is None else admitted,
        never_came=sum(line.never_came for line in lines) if admitted is None else max(0, called - admitted),
        left=sum(line.left for line in lines),
        removed=dict(sum((Counter(line.removed) for line in lines), Counter[str]())),
        cut=CutPlaces(cuts[0].number, sum(cut.places for cut in cuts), cuts[0].since_opening_ms, cuts[0].why) if cuts else None,
        calls=_added(line.calls for line in lines),
        claims=_added(line.claims for line in lines),
        wait_to_call=quantiles(waits.items()),
        wait_to_claim=quantiles(sum((Counter(end.tally.claim_waits_ms) for end in ends), Counter[int]()).items()),
    )


def _added(orders: Iterable[Ranked]) -> Ranked:
    """Orders of several lines together; places of different lines are not compared."""
    places, total = 0, Ranking(0, 0)
    for order in orders:
        places += order.places
        total += Ranking(order.places * (order.places - 1) // 2, order.inversions)
    return _ranked(places, total)


# -------------------------------------------------------------------------------------------------------------------- time


def _rate(lines: Sequence[LineTally], opens_at_ms: int) -> tuple[RateBin, ...]:
    """Admissions over time; of calls when nobody's coming is in the log."""
    counts = Counter(at_ms for line in lines for at_ms in line.claimed_at_ms)
    if not counts:
        for line in lines:
            for start, stop, at_ms in line.runs:
                counts[at_ms] += stop - start
    since = Counter[int]()
    for at_ms, count in counts.items():
        since[max(0, at_ms - opens_at_ms)] += count
    return tuple(
        RateBin(one.from_ms, one.to_ms, one.count, one.count * 60_000 / (one.to_ms - one.from_ms))
        for one in histogram(since.items(), RATE_BINS_MAX)
    )


def _stock(samples: Sequence[ServingDocument], totals: Totals) -> Stock:
    def first(happened: Callable[[int, int], bool]) -> int | None:
        found = (document.now_ms for document in samples if happened(*_units(document, totals.allotment)[:2]))
        at_ms = next(found, None)
        return None if at_ms is None else max(0, at_ms - totals.opens_at_ms)

    return Stock(
        allotment=totals.allotment,
        available=totals.available,
        reserved=totals.reserved,
        sold=totals.sold,
        half_sold_ms=first(lambda _, sold: 2 * sold >= totals.allotment),
        all_sold_ms=first(lambda _, sold: sold >= totals.allotment),
        all_taken_ms=first(lambda available, _: available == 0),
    )


def _units(document: ServingDocument, allotment: int) -> tuple[int, int, int]:
    """(available, sold, reserved), of the allotment as it is now: documents do not say what it was."""
    available, reserved = sum(document.available.values()), sum(document.reserved.values())
    return available, max(0, allotment - available - reserved), reserved


def _moments(total: Tally, samples: Sequence[ServingDocument], totals: Totals) -> tuple[Moment, ...]:
    """From a while before the opening until nothing happened any more."""
    end_ms = max(total.last_at_ms, _stock_moved_at_ms(samples)) - totals.opens_at_ms
    if end_ms <= 0:
        return ()
    before_ms = min(end_ms // 4, max(0, totals.opens_at_ms - samples[0].now_ms)) if samples else 0
    step = max(1, -(-(end_ms + before_ms) // (MOMENTS_MAX - 1)))
    called, claimed = _called_by(total), sorted(at_ms for line in total.lines.values() for at_ms in line.claimed_at_ms)
    sampled_at_ms = [document.now_ms for document in samples]
    moments = []
    for at_ms in range(-before_ms, end_ms + step, step):
        now_ms = totals.opens_at_ms + min(at_ms, end_ms)
        latest = bisect_right(sampled_at_ms, now_ms) - 1
        document = samples[latest] if latest >= 0 else None
        available, sold, reserved = _units(document, totals.allotment) if document else (None, None, None)
        moments.append(
            Moment(
                since_opening_ms=min(at_ms, end_ms),
                called=called(now_ms),
                claimed=bisect_right(claimed, now_ms),
                joined=document.joined if document else None,
                available=available,
                reserved=reserved,
                sold=sold,
            )
        )
    return tuple(moments)


def _stock_moved_at_ms(samples: Sequence[ServingDocument]) -> int:
    """When units were last seen to go from one state to another; 0 when never."""
    moved = (
        later.now_ms for earlier, later in pairwise(samples) if (earlier.available, earlier.reserved) != (later.available, later.reserved)
    )
    return max(moved, default=0)


def _called_by(total: Tally) -> Callable[[int], int]:
    """How many places had been passed by a time."""
    runs = sorted((run.at_ms, run.stop - run.start) for line in total.lines.values() for run in line.runs)
    times = [at_ms for at_ms, _ in runs]
    sums = list(accumulate((count for _, count in runs), initial=0))
    return lambda now_ms: sums[bisect_right(times, now_ms)]
