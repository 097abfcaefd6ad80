"""A drop played from beat to beat in virtual time: nothing sleeps, and the scripts decide everything they decide in a real drop.

What people do in the same tick travels in one call of each script, as it does in group commit. Polls need no store and are counted.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from admission.drawing import draws_of, make_draw, prepare
from admission.pace import Pace, Signals, plan
from admission.places import Draws, Turn, draw_of, queue_place
from admission.serving import encode_document, serving_document
from flashsale.errors import BadInput
from flashsale.model import LINE_STRIDE, Drop, DropState, Snapshot, place_of
from flashsale.rehearsal.behaviour import Ending, Shopper
from flashsale.rehearsal.stage import Stage
from flashsale.rehearsal.views import View

TICK_MS = 200
IDLE_TICK_MS = 1000
"""while nobody can be called"""
VIEW_EVERY_MS = 1000
SAMPLE_EVERY_MS = 2000
NEVER_MS = 10**12
POLL_AGAIN_MS = 1000
"""what a called shopper is told who finds no slot (`admission.waiting_room`)"""
NEARLY = 0.05
"""of the units are left when they are nearly all taken"""
EXPIRE_BATCH_MAX = 200
GONE_AT_ONCE = 500


class Doing(IntEnum):
    """Where somebody is."""

    AWAY = 0
    WAITING = 1
    CALLED = 2
    """the turn has come, and there was no slot yet"""
    INSIDE = 3
    STANDBY = 4
    """found everything reserved, and waits for what comes back"""
    GONE = 5


class End(IntEnum):
    """How a visit ended."""

    BOUGHT = 0
    BOUGHT_NOTHING = 1
    EMPTY_HANDED = 2
    SILENT = 3
    GAVE_UP = 4
    NO_ROOM = 5
    ABANDONED = 6
    PAYMENT_FAILED = 7


@dataclass(slots=True, eq=False)
class Visitor:
    """Somebody in the drop."""

    plan: Shopper
    ticket_id: str
    doing: Doing = Doing.AWAY
    joined_ms: int = 0
    """as all times here: from the opening"""
    place: int = -1
    turn: int = -1
    """where in the queue; -1 until drawn"""
    token_id: str = ""
    admitted_ms: int | None = None
    chosen: bool = False
    reservation_id: str = ""
    amount_minor: int = 0
    hopeless_ms: int | None = None
    """when first told that there is no chance"""
    end: End | None = None
    ended_ms: int = 0

    @property
    def waited_from_ms(self) -> int:
        """From when on the line could have moved for them."""
        return max(0, self.joined_ms)


@dataclass(slots=True)
class Loads:
    """Requests in each second, counted from the opening."""

    polls: Counter[int] = field(default_factory=Counter)
    joins: Counter[int] = field(default_factory=Counter)
    admissions: Counter[int] = field(default_factory=Counter)
    reservations: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Slots:
    """Time in slots, summed over them."""

    used_ms: int = 0
    """in the whole drop"""
    all_ms: int = 0
    """while there was somebody to call and something for them, once the slots had been filled for the first time"""
    free_ms: int = 0
    """not in use in that time"""


@dataclass(slots=True)
class Played:
    """What happened, besides what the store tells."""

    visitors: list[Visitor]
    loads: Loads = field(default_factory=Loads)
    slots: Slots = field(default_factory=Slots)
    taken_ms: int | None = None
    """when first nothing was available"""
    nearly_taken_ms: int | None = None
    """when first 95 % of the units were taken"""
    sold_out_ms: int | None = None
    ended_ms: int = 0
    calls: list[tuple[int, int]] = field(default_factory=list)
    """(time, places called so far) whenever that rose"""


Tell = Callable[[Snapshot], None]


class Engine:
    """Plays one drop."""

    def __init__(
        self, stage: Stage, drop: Drop, shoppers: Sequence[Shopper], seed: int, *, tell: Tell = lambda _: None, tick_ms: int = TICK_MS
    ) -> None:
        """Put it together.

        Args:
            drop: as `stage.rehearsed` gives it.
            shoppers: in order of arrival.
            seed: of everything people do by chance, and of the draw.
            tell: called after every beat.
            tick_ms: what people do within it is one step; a beat is a multiple of it.
        """
        self._tick_ms = tick_ms
        self._stage = stage
        self._drop = drop
        self._tell = tell
        self._room = stage.settings.waiting_room
        self._chance = random.Random(seed + 1)  # noqa: S311 - a rehearsal has to repeat
        self._secret = hashlib.sha256(b"rehearsal:%d" % seed).digest()
        self._visitors = [Visitor(shopper, f"{drop.drop_id}.t{number:022d}") for number, shopper in enumerate(shoppers)]
        self._played = Played(self._visitors)
        self._arrived = 0
        self._tick = 0
        self._now_ms = 0
        self._looks: defaultdict[int, list[Visitor]] = defaultdict(list)
        self._deeds: defaultdict[int, list[Visitor]] = defaultdict(list)
        self._tokens = self._reservations = 0
        self._draws: Draws = ()
        self._snapshot: Snapshot
        self._pace: Pace
        self._view: View
        self._viewed_ms = -NEVER_MS

    async def play(self) -> Played:
        """Plays the drop until nobody is left who wants anything, and closes it.

        Raises:
            BadInput: nobody could join.
            StoreUnavailable, StoreUnknown: the store does not answer.
        """
        await self._begin()
        while not self._is_over():
            await self._step()
        await self._stage.drops.close(self._drop.drop_id)
        self._snapshot = (await self._stage.drops.inspect(self._drop.drop_id)).snapshot
        self._played.ended_ms = self._now_ms
        return self._played

    @property
    def snapshot(self) -> Snapshot:
        """The drop as the last beat saw it."""
        return self._snapshot

    # ------------------------------------------------------------------------------------------------------- time

    async def _begin(self) -> None:
        drop = self._drop
        if not self._visitors:
            raise BadInput(what="A rehearsal needs somebody to come.", todo="Give --shoppers a number above 0.")
        self._now_ms = max(drop.joins_at_ms - drop.opens_at_ms, _down(self._visitors[0].plan.arrives_ms, IDLE_TICK_MS))
        self._now_ms = _down(self._now_ms, IDLE_TICK_MS) if self._now_ms < 0 else 0
        self._tick = self._now_ms // self._tick_ms
        await self._stage.set_up(drop, self._secret)
        self._set_clock()
        _, snapshot = await self._stage.drops.advance(drop.drop_id, self._room.beat_ms)
        self._see(snapshot)

    async def _step(self) -> None:
        far = self._now_ms < -2 * IDLE_TICK_MS or self._is_idle()
        self._now_ms = _down(self._now_ms, self._tick_ms) + (IDLE_TICK_MS if far else self._tick_ms)
        self._set_clock()
        looks, deeds = self._due(self._looks), self._due(self._deeds)
        self._tick = self._now_ms // self._tick_ms
        questions = [*self._act(deeds), *self._look(looks), *self._join()]
        results = await self._stage.ask(self._drop.drop_id, [(one.script, one.requests) for one in questions])
        for one, answers in zip(questions, results, strict=True):
            for visitor, answer in zip(one.visitors, answers, strict=True):
                one.hear(visitor, answer)
        if far or self._now_ms % self._room.beat_ms == 0:
            await self._beat()

    def _is_idle(self) -> bool:
        """Whether nobody can be called before something comes back, so that larger steps show the same."""
        snapshot = self._snapshot
        nothing = not any(stock.available for stock in snapshot.skus.values())
        return self._now_ms > 0 and nothing and not any(snapshot.flow.called_by_age)

    def _set_clock(self) -> None:
        self._stage.at(self._drop.opens_at_ms + self._now_ms)

    def _due(self, calendar: dict[int, list[Visitor]]) -> list[Visitor]:
        due: list[Visitor] = []
        for tick in range(self._tick + 1, self._now_ms // self._tick_ms + 1):
            due += calendar.pop(tick, ())
        return due

    def _at(self, calendar: dict[int, list[Visitor]], at_ms: float, visitor: Visitor) -> None:
        calendar[max(self._tick + 1, round(at_ms / self._tick_ms))].append(visitor)

    def _is_over(self) -> bool:
        idle = self._arrived == len(self._visitors) and not self._looks and not self._deeds
        return idle and (self._snapshot.reservations_live == 0 or self._snapshot.state is DropState.CLOSED)

    @property
    def _second(self) -> int:
        return self._now_ms // 1000

    # -------------------------------------------------------------------------------------------------------- the beat

    async def _beat(self) -> None:
        before, pace = self._snapshot, self._pace
        sample = encode_document(self._view.document) if self._now_ms % SAMPLE_EVERY_MS < self._room.beat_ms else b""
        _, snapshot = await self._stage.drops.advance(self._drop.drop_id, self._room.beat_ms, pace.told(sample))
        self._count(before, snapshot)
        self._see(snapshot)
        await self._draw(snapshot)
        if snapshot.overdue:
            await self._expire()
        self._tell(snapshot)

    def _see(self, snapshot: Snapshot) -> None:
        """Who is served and what is left is read from the newest document, waits from one of the last second."""
        self._snapshot, self._pace = snapshot, plan(snapshot, Signals())
        if self._now_ms - self._viewed_ms >= VIEW_EVERY_MS or snapshot.sold_out or snapshot.state is not self._view.state:
            self._view = View(serving_document(snapshot, self._room, pace=self._pace))
            self._viewed_ms = self._now_ms

    async def _expire(self) -> None:
        ended = EXPIRE_BATCH_MAX
        while ended == EXPIRE_BATCH_MAX:
            _, (_, ended) = await self._stage.scripts.call("expire", self._drop.drop_id, EXPIRE_BATCH_MAX)

    def _count(self, before: Snapshot, snapshot: Snapshot) -> None:
        if snapshot.state is not DropState.OPEN:
            return
        played, span_ms = self._played, snapshot.now_ms - before.now_ms
        if snapshot.flow.called > before.flow.called:
            played.calls.append((self._now_ms, snapshot.flow.called))
        slots, skus = played.slots, snapshot.skus.values()
        slots.used_ms += before.active * span_ms
        waiting = any(line.joined > line.serving_number for line in before.lines)
        enough = sum(stock.available for stock in before.skus.values()) > before.capacity
        if waiting and enough and before.admitted >= before.capacity:
            slots.all_ms += before.capacity * span_ms
            slots.free_ms += max(0, before.capacity - before.active) * span_ms
        available, allotment = sum(stock.available for stock in skus), sum(stock.allotment for stock in skus)
        if played.nearly_taken_ms is None and available <= NEARLY * allotment:
            played.nearly_taken_ms = self._now_ms
        if played.taken_ms is None and available == 0:
            played.taken_ms = self._now_ms
        if played.sold_out_ms is None and snapshot.sold_out:
            played.sold_out_ms = self._now_ms

    async def _draw(self, snapshot: Snapshot) -> None:
        drops, drop_id = self._stage.drops, self._drop.drop_id
        if snapshot.undrawn:
            await make_draw(drops, snapshot, {}, "none")
            return
        if any(line.key for line in snapshot.lines) and not self._draws:
            self._draws = draws_of(snapshot)
            await prepare(self._draws)
            for visitor in self._visitors[: self._arrived]:
                if visitor.place >= 0 and visitor.turn < 0:
                    visitor.turn = queue_place(visitor.place, self._draws)
        while snapshot.leaving and self._draws and (places := await drops.leaving(drop_id, GONE_AT_ONCE)):
            await drops.draw(drop_id, "gone", places, [queue_place(place, self._draws) for place in places])

    # --------------------------------------------------------------------------------------------------------- joining

    def _join(self) -> list[_Question]:
        first = self._arrived
        while self._arrived < len(self._visitors) and self._visitors[self._arrived].plan.arrives_ms <= self._now_ms:
            self._arrived += 1
        coming = self._visitors[first : self._arrived]
        for visitor in coming:
            self._played.loads.joins[visitor.plan.arrives_ms // 1000] += 1
        return [_Question("join", coming, [_joining(visitor) for visitor in coming], self._joined)]

    def _joined(self, visitor: Visitor, result: list[Any]) -> None:
        visitor.joined_ms = self._now_ms
        if result[0] != "joined":
            self._leave(visitor, End.NO_ROOM if result[0] == "room_full" else End.EMPTY_HANDED)
            return
        _, visitor.place, late, *_ = result
        visitor.doing = Doing.WAITING
        if late or self._drop.order != "draw":
            visitor.turn = visitor.place
        elif self._draws:
            visitor.turn = queue_place(visitor.place, self._draws)
        if visitor.plan.gives_up_ms is not None:
            self._at(self._deeds, visitor.plan.gives_up_ms, visitor)
        self._at(self._looks, self._now_ms, visitor)

    # --------------------------------------------------------------------------------------------------------- waiting

    def _look(self, visitors: list[Visitor]) -> list[_Question]:
        """Polls, and admissions of those who find that they have been called."""
        called: list[Visitor] = []
        taking: list[Visitor] = []
        snapshot, polls = self._snapshot, 0
        over = snapshot.sold_out or snapshot.state is DropState.CLOSED
        there_is = any(stock.available for stock in snapshot.skus.values())
        passed = [place_of(at, line.serving_number) for at, line in enumerate(snapshot.lines)]
        for visitor in visitors:
            doing, turn, silent_ms = visitor.doing, visitor.turn, visitor.plan.silent_ms
            if doing is Doing.GONE or doing is Doing.INSIDE:
                continue
            if silent_ms is not None and self._now_ms >= silent_ms:
                self._leave(visitor, End.SILENT)
                continue
            polls += 1
            if over:
                self._leave(visitor, End.EMPTY_HANDED)
            elif doing is Doing.STANDBY:
                if there_is:
                    taking.append(visitor)
                else:
                    self._look_soon(visitor)
            elif turn >= 0 and turn < passed[turn // LINE_STRIDE]:
                if visitor.plan.comes:
                    called.append(visitor)
                else:
                    self._leave(visitor, End.SILENT)
            elif turn >= 0:
                self._look_again(visitor)
            else:
                self._look_at_the_opening(visitor)
        self._played.loads.polls[self._second] += polls
        return [self._admit(called), self._reserve(taking)]

    def _look_again(self, visitor: Visitor) -> None:
        if visitor.hopeless_ms is None and self._view.is_hopeless(visitor.turn):
            visitor.hopeless_ms = self._now_ms
        self._at(self._looks, self._now_ms + self._view.poll_after_ms(visitor.turn, self._chance.random()), visitor)

    def _look_at_the_opening(self, visitor: Visitor) -> None:
        """Before the draw: at the opening, or soon after it, at the latest."""
        until_ms = max(0, -self._now_ms)
        after_ms = self._view.poll_early_ms(until_ms, self._chance.random())
        if until_ms:
            after_ms = min(after_ms, until_ms + self._room.poll_floor_ms * self._chance.random())
        self._at(self._looks, self._now_ms + after_ms, visitor)

    def _look_soon(self, visitor: Visitor) -> None:
        self._at(self._looks, self._now_ms + self._view.poll_early_ms(0, self._chance.random()), visitor)

    def _admit(self, called: list[Visitor]) -> _Question:
        self._played.loads.admissions[self._second] += len(called)
        requests = [(visitor.ticket_id, self._fresh_token(), *self._turn(visitor)) for visitor in called]
        return _Question("admit", called, requests, self._admitted)

    def _turn(self, visitor: Visitor) -> Turn:
        draw = draw_of(visitor.place, self._draws)
        return Turn(visitor.place, visitor.turn, draw.mark if draw else "")

    def _give_up(self, visitor: Visitor) -> _Question:
        return _Question("leave", [visitor], (visitor.ticket_id, "left", "", *self._turn(visitor)), lambda *_: None)

    def _admitted(self, visitor: Visitor, result: list[Any]) -> None:
        word = result[0]
        if word in ("admitted", "replayed"):
            visitor.doing, visitor.token_id = Doing.INSIDE, result[1]
            if visitor.admitted_ms is None:
                visitor.admitted_ms = self._now_ms
            self._at(self._deeds, self._now_ms + (0 if visitor.chosen else visitor.plan.choosing_ms), visitor)
        elif word in ("not_yet", "paused"):
            visitor.doing = Doing.CALLED
            self._at(self._looks, self._now_ms + POLL_AGAIN_MS * (0.7 + 0.6 * self._chance.random()), visitor)
        else:
            self._leave(visitor, End.EMPTY_HANDED)

    def _fresh_token(self) -> str:
        self._tokens += 1
        return f"token-{self._tokens}"

    # ---------------------------------------------------------------------------------------------------------- inside

    def _act(self, visitors: list[Visitor]) -> list[_Question]:
        """What people do besides looking: pay, give back, leave, choose."""
        paying: list[Visitor] = []
        returning: list[Visitor] = []
        leaving: list[Visitor] = []
        choosing: list[Visitor] = []
        for visitor in visitors:
            if visitor.reservation_id:
                (paying if visitor.plan.ending is Ending.PAID else returning).append(visitor)
            elif visitor.doing is Doing.INSIDE and visitor.plan.items:
                choosing.append(visitor)
            elif visitor.doing is Doing.INSIDE:
                if visitor.plan.says_goodbye:
                    leaving.append(visitor)
                self._leave(visitor, End.BOUGHT_NOTHING)
            elif visitor.doing in (Doing.WAITING, Doing.CALLED) and not self._is_silent(visitor):
                leaving.append(visitor)
                self._leave(visitor, End.GAVE_UP)
        return [self._pay(paying), self._give_back(returning), *map(self._give_up, leaving), self._reserve(choosing)]

    def _is_silent(self, visitor: Visitor) -> bool:
        return visitor.plan.silent_ms is not None and self._now_ms >= visitor.plan.silent_ms

    def _reserve(self, visitors: list[Visitor]) -> _Question:
        self._played.loads.reservations[self._second] += len(visitors)
        requests = []
        for visitor in visitors:
            self._reservations += 1
            reservation_id = f"{self._drop.drop_id}.r{self._reservations:022d}"
            requests.append((reservation_id, visitor.ticket_id, visitor.token_id, f"q{self._reservations}", self._wanted(visitor)))
        ids = {visitor.ticket_id: request[0] for visitor, request in zip(visitors, requests, strict=True)}
        return _Question("reserve", visitors, requests, lambda visitor, result: self._reserved(visitor, ids[visitor.ticket_id], result))

    def _wanted(self, visitor: Visitor) -> tuple[tuple[str, int], ...]:
        """The wish, or what is left of it, or one unit of what is left; the wish again when nothing is."""
        available = {sku: stock.available for sku, stock in self._snapshot.skus.items()}
        [(sku, quantity)] = visitor.plan.items
        if available[sku] > 0:
            return ((sku, min(quantity, available[sku])),)
        other = next((name for name in sorted(available) if available[name] > 0), None)
        return ((other, 1),) if other else ((sku, 1),)

    def _reserved(self, visitor: Visitor, reservation_id: str, result: list[Any]) -> None:
        visitor.chosen = True
        match result[0]:
            case "reserved":
                visitor.doing, visitor.reservation_id, visitor.amount_minor = Doing.INSIDE, reservation_id, result[2]
                if visitor.plan.ending is Ending.ABANDONED:
                    self._leave(visitor, End.ABANDONED)
                else:
                    self._at(self._deeds, self._now_ms + visitor.plan.paying_ms, visitor)
            case "sold_out":
                visitor.doing = Doing.STANDBY
                self._look_soon(visitor)
            case "token_expired" | "token_invalid":
                visitor.doing = Doing.CALLED
                self._at(self._looks, self._now_ms, visitor)
            case _:
                self._leave(visitor, End.EMPTY_HANDED)

    def _pay(self, visitors: list[Visitor]) -> _Question:
        requests = [(visitor.reservation_id, f"pay-{visitor.ticket_id}", visitor.amount_minor, "q-pay", "") for visitor in visitors]
        return _Question("confirm", visitors, requests, self._paid)

    def _paid(self, visitor: Visitor, result: list[Any]) -> None:
        self._leave(visitor, End.BOUGHT if result[0] == "confirmed" else End.EMPTY_HANDED)

    def _give_back(self, visitors: list[Visitor]) -> _Question:
        requests = [(visitor.reservation_id, "q-back", "payment_failed", 0) for visitor in visitors]
        return _Question("release", visitors, requests, lambda visitor, _: self._leave(visitor, End.PAYMENT_FAILED))

    def _leave(self, visitor: Visitor, end: End) -> None:
        visitor.doing, visitor.end, visitor.ended_ms = Doing.GONE, end, self._now_ms


@dataclass(frozen=True, slots=True)
class _Question:
    """Requests of visitors for one script, and what becomes of each answer."""

    script: str
    visitors: Sequence[Visitor]
    requests: Sequence[Any]
    hear: Callable[[Visitor, list[Any]], None]


def _joining(visitor: Visitor) -> tuple[object, ...]:
    secret_hash = hashlib.sha256(visitor.ticket_id.encode()).digest()
    line = visitor.plan.line
    return (visitor.ticket_id, secret_hash, {"line": line}) if line else (visitor.ticket_id, secret_hash)


def _down(value_ms: int, step_ms: int) -> int:
    return value_ms // step_ms * step_ms
