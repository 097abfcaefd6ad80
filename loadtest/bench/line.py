"""A line played in virtual time: people who behave, and the arithmetic of the beat as `lua/advance` applies it.

It stands in for behaviour only, so that `admission.pace` and `admission.outlook` can be tuned over thousands of drops in seconds;
what the scripts really do is measured with the real scripts in a rehearsal.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from admission.pace import AGES, PARTS, Pace, Signals, plan
from flashsale.model import CALL_AGES_MS, PART_AGES, DropState, Flow, SkuStock, Snapshot

BEAT_MS = 200
BEAT_CALLS_MAX = 1000
CREDIT_SPAN_MS = 2000
PROGRESS_EVERY_MS = 5000
PROGRESS_MAX = 13
OPENS_AT_MS = 1_800_000_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The drop and its crowd."""

    people: int
    capacity: int
    rate_per_min: int
    units: int = 1_000_000
    arrive_within_ms: int = 0
    """people join evenly in this time from the opening; 0: all are there before it"""
    no_show: float = 0.0
    absent_first: int = 0
    """the first so many places have closed their tabs, besides the others"""
    session_ms: Callable[[random.Random], float] = lambda _: 60_000
    buy: float = 0.0
    """part of those who come that reserve"""
    units_per_buyer: tuple[int, ...] = (1,)
    abandon: float = 0.0
    """part of the reservations nobody pays"""
    reservation_ttl_ms: int = 120_000
    claim_window_ms: int = 120_000
    """longer than sessions are: slots do not lapse here"""
    poll_ms: int = 2_000


class Line:
    """One drop as it goes on; `play` yields a snapshot after each beat. `signals` and `rules` may be changed in between."""

    def __init__(self, rules: Rules, seed: int = 1) -> None:
        self.rules = rules
        self.signals = Signals()
        self.paused = False
        self.now_ms = 0.0
        self.called_at: dict[int, float] = {}
        self.entered_at: dict[int, float] = {}
        self.random = random.Random(seed)
        self.arrives = [rules.arrive_within_ms * place / rules.people for place in range(rules.people)]
        self.comes = [place >= rules.absent_first and self.random.random() >= rules.no_show for place in range(rules.people)]
        self._absent = self.comes.count(False)
        self.available, self.reserved, self.sold = rules.units, 0, 0
        self.slots: set[int] = set()
        self.returning: list[int] = []
        self.standby: list[int] = []
        self._called: deque[int] = deque()
        self._claimed: set[int] = set()
        self._holding = 0
        self._serving = self._joined = 0
        self._credit = 0.0
        self._claims = [0] * AGES
        self._chose, self._left, self._paid = [0] * PARTS, [0] * PARTS, [0] * PARTS
        self._undecided: dict[int, float] = {}
        self._unpaid: dict[int, float] = {}
        """since when, by place"""
        self._totals = {"ended": 0, "reservations": 0, "reserved": 0, "confirmed": 0, "expired": 0}
        self._progress: deque[tuple[int, int]] = deque(maxlen=PROGRESS_MAX)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._pace = plan(self.snapshot(), self.signals)

    @property
    def over(self) -> bool:
        """Nobody is waiting any more, or nothing is left that could be sold."""
        all_in = self._serving == self.rules.people and not self.returning and len(self._claimed) + self._absent == self.rules.people
        return all_in or self.available + self.reserved == 0

    def play(self, until_ms: float = 3_600_000) -> Iterator[Snapshot]:
        """Beats until the line is over; a snapshot after each."""
        while not self.over and self.now_ms < until_ms:
            beat_at_ms = self.now_ms + BEAT_MS
            while self._events and self._events[0][0] <= beat_at_ms:
                self.now_ms, _, act = heapq.heappop(self._events)
                act()
            self.now_ms = beat_at_ms
            self._beat()
            snapshot = self.snapshot()
            self._pace = plan(snapshot, self.signals)
            yield snapshot

    def snapshot(self) -> Snapshot:
        """The picture, as the store gives it."""
        now_ms, rules, totals = self.now_ms, self.rules, self._totals
        flow = Flow(
            called_by_age=tuple(self._called_by_age()),
            claims_by_delay=tuple(self._claims),
            called=self._serving,
            sessions_ended=totals["ended"],
            entered=len(self.entered_at),
            reservations=totals["reservations"],
            standby=len(self.standby),
            wanted=(len(self.standby),),
            units_reserved=totals["reserved"],
            units_confirmed=totals["confirmed"],
            units_expired=totals["expired"],
            units_released=0,
            progress=tuple(self._progress),
            undecided_by_age=self._by_part(self._undecided.values(), rules.claim_window_ms),
            chose_by_age=tuple(self._chose),
            left_by_age=tuple(self._left),
            live_by_age=self._by_part(self._unpaid.values(), rules.reservation_ttl_ms),
            paid_by_age=tuple(self._paid),
        )
        return Snapshot(
            drop_id="d", now_ms=OPENS_AT_MS + round(now_ms), state=self._state, epoch=1, joins_at_ms=OPENS_AT_MS - 60_000,
            opens_at_ms=OPENS_AT_MS, closes_at_ms=OPENS_AT_MS + 86_400_000, rate_per_min=rules.rate_per_min,
            capacity=rules.capacity, joined=self._joined, entries=0, key="00", serving_number=self._serving,
            admitted=len(self._claimed) - len(self.returning), active=len(self.slots), returning=len(self.returning),
            reservations_live=self._holding, overdue=0, notice="", digest="x",
            skus={"s": SkuStock(rules.units, self.available, self.reserved, self.sold)}, flow=flow, lines=(),
        )  # fmt: skip

    @property
    def _state(self) -> DropState:
        return DropState.PAUSED if self.paused else DropState.OPEN

    def _called_by_age(self) -> list[int]:
        ages = [0] * AGES
        for place in self._called:
            if place not in self._claimed:
                ages[bisect_right(CALL_AGES_MS, self.now_ms - self.called_at[place])] += 1
        return ages

    def _part(self, since_ms: float, whole_ms: float) -> int:
        """In which part of `whole_ms` is now what began then."""
        return bisect_right(PART_AGES, (self.now_ms - since_ms) * PART_AGES[-1] / whole_ms)

    def _by_part(self, since_ms: Iterable[float], whole_ms: float) -> tuple[int, ...]:
        counts = Counter(self._part(one_ms, whole_ms) for one_ms in since_ms)
        return tuple(counts[part] for part in range(PARTS))

    def _beat(self) -> None:
        self._joined = bisect_right(self.arrives, self.now_ms)
        while self._called and (
            self._called[0] in self._claimed or self.now_ms - self.called_at[self._called[0]] > self.rules.claim_window_ms
        ):
            self._called.popleft()
        if not self._progress or self.now_ms - self._progress[-1][0] + OPENS_AT_MS >= PROGRESS_EVERY_MS:
            self._progress.append((OPENS_AT_MS + round(self.now_ms), self._serving))
        if self.paused:
            return
        for place in range(self._serving, self._serving + self._may_call(self._pace)):
            self._call(place)

    def _may_call(self, pace: Pace) -> int:
        """The script's formula; what comes back from here is what `lua/advance` calls."""
        per_ms = pace.rate_per_min / 60_000
        self._credit = min(self._credit + per_ms * BEAT_MS, max(1, per_ms * CREDIT_SPAN_MS))
        expected = sum(weight * called for weight, called in zip(pace.weights_permille, self._called_by_age(), strict=True)) / 1000
        comers: float = self.rules.capacity + pace.door - len(self.slots)
        if self.available:
            stays = (*pace.stays_permille, 0)
            inside = self._by_part(self._undecided.values(), self.rules.claim_window_ms)
            undecided = sum(stay * people for stay, people in zip(stays, inside, strict=True)) / 1000
            undecided += len(self.standby)
            comers = min(comers, max(1, self.available * 1000 / pace.units_per_claim_permille) - undecided)
        else:
            comers = 0
        may = int((comers - expected - len(self.returning)) * 1000 / pace.weights_permille[0])
        calls = max(0, min(may, int(self._credit), self._joined - self._serving, BEAT_CALLS_MAX))
        self._credit -= calls
        return calls

    def _at(self, ms: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (ms, self.random.getrandbits(40), act))

    def _poll_ms(self) -> float:
        return self.rules.poll_ms * self.random.uniform(0.7, 1.3)

    def _call(self, place: int) -> None:
        self._serving = place + 1
        self.called_at[place] = self.now_ms
        self._called.append(place)
        if self.comes[place]:
            arrived_ms = self.arrives[place]
            # Somewhere within the interval the shopper happens to be in; who has just joined looks from then on.
            next_poll_ms = max(self.now_ms + self.random.random() * self._poll_ms(), arrived_ms)
            self._at(next_poll_ms, lambda: self._come(place))

    def _come(self, place: int) -> None:
        if place not in self._claimed:
            self._claims[bisect_right(CALL_AGES_MS, self.now_ms - self.called_at[place])] += 1
            self._claimed.add(place)
        before = bisect_right(self.returning, place - 1)
        if self.rules.capacity - len(self.slots) > before:
            self._enter(place)
            return
        if place not in self.returning:
            self.returning.insert(before, place)
        self._at(self.now_ms + self._poll_ms(), lambda: self._come(place))

    def _enter(self, place: int) -> None:
        if place in self.returning:
            self.returning.remove(place)
        self.entered_at[place] = self.now_ms
        self.slots.add(place)
        self._undecided[place] = self.now_ms
        session_ms = self.rules.session_ms(self.random)
        if self.random.random() < self.rules.buy:
            wait_ms = session_ms * self.random.uniform(0.1, 0.9)
            units = self.random.choice(self.rules.units_per_buyer)
            self._at(self.now_ms + wait_ms, lambda: self._reserve(place, units, session_ms - wait_ms))
        else:
            self._at(self.now_ms + session_ms, lambda: self._leave(place))

    def _decide(self, place: int, counts: list[int]) -> None:
        since_ms = self._undecided.pop(place, None)
        if since_ms is not None:
            counts[self._part(since_ms, self.rules.claim_window_ms)] += 1

    def _leave(self, place: int) -> None:
        self._decide(place, self._left)
        self.slots.discard(place)
        self._totals["ended"] += 1

    def _reserve(self, place: int, units: int, rest_ms: float) -> None:
        if self.available == 0:
            self._undecided.pop(place, None)
            self._leave(place)
            if self.reserved:
                heapq.heappush(self.standby, place)
            return
        taken = min(units, self.available)
        self._decide(place, self._chose)
        self._unpaid[place] = self.now_ms
        self._totals["reservations"] += 1
        self.available, self.reserved = self.available - taken, self.reserved + taken
        self._totals["reserved"] += taken
        self._holding += 1
        if self.random.random() < self.rules.abandon:
            self._at(self.now_ms + self.rules.reservation_ttl_ms, lambda: self._end(place, taken, confirmed=False))
        else:
            self._at(self.now_ms + rest_ms, lambda: self._end(place, taken, confirmed=True))

    def _end(self, place: int, units: int, *, confirmed: bool) -> None:
        self._holding -= 1
        self.slots.discard(place)
        self.reserved -= units
        self._totals["confirmed" if confirmed else "expired"] += units
        since_ms = self._unpaid.pop(place)
        if confirmed:
            self._paid[self._part(since_ms, self.rules.reservation_ttl_ms)] += 1
        if confirmed:
            self.sold += units
            return
        self.available += units
        while self.standby and self.available:
            next_place = heapq.heappop(self.standby)
            self._totals["ended"] -= 1
            self.slots.add(next_place)
            self._reserve(next_place, 1, 20_000)


def ideal_entries_ms(line: Line) -> dict[int, float]:
    """When each person who comes would enter if it were known who does: having arrived, once a slot is free."""
    free: list[float] = [0.0] * line.rules.capacity
    entries = {}
    for place, comes in enumerate(line.comes):
        if comes:
            entries[place] = max(line.arrives[place], heapq.heappop(free))
            heapq.heappush(free, entries[place] + line.rules.session_ms(line.random))
    return entries
