"""Histories made by a model of the service, for tests of the checker: no store, no network, one seed one history.

The service of these histories is right unless it is given a flaw. Shoppers work side by side, lose requests and answers,
repeat, crash in the middle of a call; effects arrive after their callers gave up.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum

from loadtest.checker.state import FinalState, JournalStep, OrderRow, Refund, ReservationRecord, SkuState
from loadtest.history import Call, Ending, Event, Items, Kind, Step

DROP = "spring"
START_MS = 1_800_000_000_000
TTL_MS = 3_000
EXTENSION_MS = 2_000
LATE_MS = 2_000
TIMEOUT_MS = 400
TURN_MS = 600
REPEATS_MAX = 3

Effect = Callable[[], Ending]
Answer = Ending | None
Script = Generator["tuple[Call, Effect] | int", Answer, None]
"""yields a call with what it does, or a pause in ms; is sent the answer, None for no answer"""


class Flaw(StrEnum):
    """What may be wrong with the service."""

    STOCK_IGNORED = "stock_ignored"
    REFUSES_FALSELY = "refuses_falsely"
    UNITS_LEAK = "units_leak"
    REPLAYS_NOT = "replays_not"
    REPLAY_REFUSED = "replay_refused"
    RESERVATION_LOST = "reservation_lost"
    ORDER_LOST = "order_lost"
    ORDER_TWICE = "order_twice"
    ORDER_FROM_NOWHERE = "order_from_nowhere"
    EXPIRES_EARLY = "expires_early"
    EXPIRES_LATE = "expires_late"
    RELEASES_TWICE = "releases_twice"
    RELEASES_UNASKED = "releases_unasked"
    LIMIT_IGNORED = "limit_ignored"
    LIMIT_FOR_ALL = "limit_for_all"
    AMOUNT_IGNORED = "amount_ignored"
    REFUND_FORGOTTEN = "refund_forgotten"
    TAKES_ENDED_UNITS = "takes_ended_units"
    SECOND_PAYMENT_TAKEN = "second_payment_taken"
    ANSWERS_BEFORE_COMMIT = "answers_before_commit"
    ADJUSTMENT_FORGOTTEN = "adjustment_forgotten"


@dataclass(slots=True)
class Stock:
    """Units of one SKU."""

    first: int
    allotment: int
    available: int
    price_minor: int
    limit: int
    reserved: int = 0
    sold: int = 0


@dataclass(slots=True)
class Held:
    """A reservation."""

    ticket_id: str
    items: Items
    amount_minor: int
    reserved_at_ms: int
    expires_at_ms: int
    state: str = "reserved"
    payment_reference: str = ""
    ended_at_ms: int = 0
    extended: bool = False


@dataclass(slots=True)
class Standby:
    """Admitted shoppers who found everything reserved, and what each waits for."""

    places: dict[str, int]
    """ticket to place in line"""
    wants: dict[str, Items] = field(default_factory=dict)
    turn_over_at_ms: dict[str, int] = field(default_factory=dict)
    line: list[tuple[int, str]] = field(default_factory=list)
    """(place, ticket) of those who want something, in order"""

    def share(self, available: dict[str, int], place: float) -> tuple[dict[str, int], list[str]]:
        """What is left of each SKU for `place`, and for whom before it there is enough."""
        left, fitting = dict(available), []
        for before, ticket_id in self.line:
            if before >= place or not any(left.values()):
                break
            items = self.wants[ticket_id]
            if all(quantity <= left[sku] for sku, quantity in items):
                left.update({sku: left[sku] - quantity for sku, quantity in items})
                fitting.append(ticket_id)
        return left, fitting

    def wait(self, ticket_id: str, items: Items) -> None:
        """The shopper waits for this, and for nothing they waited for before."""
        if ticket_id not in self.wants:
            bisect.insort(self.line, (self.places[ticket_id], ticket_id))
        self.wants[ticket_id] = items

    def leave(self, ticket_id: str) -> None:
        """The shopper waits for nothing more."""
        if self.wants.pop(ticket_id, None) is not None:
            del self.line[bisect.bisect_left(self.line, (self.places[ticket_id], ticket_id))]
        self.turn_over_at_ms.pop(ticket_id, None)

    def beat(self, available: dict[str, int], now_ms: int) -> None:
        """Begins turns, and ends those whose time is up."""
        fitting = self.share(available, math.inf)[1]
        self.turn_over_at_ms = {ticket_id: self.turn_over_at_ms.get(ticket_id, now_ms + TURN_MS) for ticket_id in fitting}
        for ticket_id in [ticket_id for ticket_id in fitting if self.turn_over_at_ms[ticket_id] <= now_ms]:
            self.leave(ticket_id)


@dataclass(slots=True)
class Service:
    """The model: what each call does, at one instant."""

    stocks: dict[str, Stock]
    limit: int
    chance: random.Random
    standby: Standby
    flaw: Flaw | None = None
    now_ms: int = START_MS
    held: dict[str, Held] = field(default_factory=dict)
    of_ticket: dict[str, list[Held]] = field(default_factory=dict)
    refunds: list[Refund] = field(default_factory=list)
    journal: list[JournalStep] = field(default_factory=list)
    fired: int = 0
    """how often the flaw did something wrong"""
    fired_max: float = math.inf
    """then it is over"""

    def _wrong(self, flaw: Flaw, often: float = 1.0) -> bool:
        """Whether to do the wrong thing now."""
        if self.flaw is not flaw or self.fired >= self.fired_max or self.chance.random() > often:
            return False
        self.fired += 1
        return True

    def _note(self, kind: str, reservation_id: str) -> None:
        self.journal.append(JournalStep(kind, reservation_id, self.now_ms, self.held[reservation_id].items))

    def _move(self, items: Items, source: str, target: str) -> None:
        for sku, quantity in items:
            stock = self.stocks[sku]
            setattr(stock, source, getattr(stock, source) - quantity)
            setattr(stock, target, getattr(stock, target) + quantity)

    def _short(self, items: Items) -> bool:
        return any(self.stocks[sku].available < quantity for sku, quantity in items)

    def _available(self) -> dict[str, int]:
        return {sku: stock.available for sku, stock in self.stocks.items()}

    def _kept(self, ticket_id: str, items: Items) -> bool:
        """Whether too little is left when those before this shopper have what they wait for."""
        left, _ = self.standby.share(self._available(), self.standby.places[ticket_id])
        return any(left[sku] < quantity for sku, quantity in items)

    def _sold_out(self, ticket_id: str, items: Items) -> Ending:
        if all(quantity <= self.stocks[sku].available + self.stocks[sku].reserved for sku, quantity in items):
            self.standby.wait(ticket_id, items)
        return Ending(Step.FAIL, "sold_out")

    def _beyond(self, ticket_id: str, items: Items) -> bool:
        mine = [held.items for held in self.of_ticket.get(ticket_id, ()) if held.state in ("reserved", "confirmed")]
        units = [item for taken in (*mine, items) for item in taken]
        return sum(quantity for _, quantity in units) > self.limit or any(
            sum(quantity for other, quantity in units if other == sku) > self.stocks[sku].limit for sku, _ in items
        )

    def _told(self, step: Step, outcome: str, reservation_id: str) -> Ending:
        held = self.held[reservation_id]
        return Ending(
            step,
            outcome,
            state=held.state,
            reservation_id=reservation_id,
            amount_minor=held.amount_minor,
            reserved_at_ms=held.reserved_at_ms,
            expires_at_ms=held.expires_at_ms,
        )

    def reserve(self, reservation_id: str, ticket_id: str, items: Items) -> Ending:
        known = self.held.get(reservation_id)
        if known is not None and not self._wrong(Flaw.REPLAYS_NOT):
            if self._short(items) and self._wrong(Flaw.REPLAY_REFUSED):
                return Ending(Step.FAIL, "sold_out")
            return self._told(Step.OK, "replayed", reservation_id)
        self.standby.beat(self._available(), self.now_ms)
        short = self._short(items) or (self.flaw is not Flaw.STOCK_IGNORED and self._kept(ticket_id, items))
        beyond = self._beyond(ticket_id, items)
        if (beyond and (short or not self._wrong(Flaw.LIMIT_IGNORED))) or (not beyond and self._wrong(Flaw.LIMIT_FOR_ALL)):
            return Ending(Step.FAIL, "limit_reached")
        if (short and not self._wrong(Flaw.STOCK_IGNORED)) or (not short and self._wrong(Flaw.REFUSES_FALSELY, 0.3)):
            return self._sold_out(ticket_id, items)
        self.standby.leave(ticket_id)
        self._move(items, "available", "reserved")
        amount_minor = sum(self.stocks[sku].price_minor * quantity for sku, quantity in items)
        held = self.held[reservation_id] = Held(ticket_id, items, amount_minor, self.now_ms, self.now_ms + TTL_MS)
        if known is not None:
            self.of_ticket[ticket_id].remove(known)
        self.of_ticket.setdefault(ticket_id, []).append(held)
        self._note("reserved", reservation_id)
        answer = self._told(Step.OK, "reserved", reservation_id)
        if self._wrong(Flaw.RESERVATION_LOST, 0.3):
            self._move(items, "reserved", "available")
            self.of_ticket[ticket_id].remove(self.held.pop(reservation_id))
        elif self._wrong(Flaw.RELEASES_UNASKED, 0.3):
            self._end(reservation_id, "released")
        return answer

    def _end(self, reservation_id: str, state: str) -> None:
        held = self.held[reservation_id]
        if not self._wrong(Flaw.UNITS_LEAK, 0.5):
            self._move(held.items, "reserved", "available")
        held.state, held.ended_at_ms = state, self.now_ms
        self._note(state, reservation_id)

    def release(self, reservation_id: str) -> Ending:
        held = self.held.get(reservation_id)
        if held is None:
            return Ending(Step.FAIL, "not_found")
        if held.state == "reserved" or (held.state == "released" and self._wrong(Flaw.RELEASES_TWICE)):
            self._end(reservation_id, "released")
            return self._told(Step.OK, "released", reservation_id)
        if held.state == "released":
            return self._told(Step.OK, "replayed", reservation_id)
        return Ending(Step.FAIL, "confirmed" if held.state == "confirmed" else "expired")

    def extend(self, reservation_id: str) -> Ending:
        held = self.held.get(reservation_id)
        if held is None or held.state != "reserved" or self.now_ms >= held.expires_at_ms:
            return Ending(Step.FAIL, "ended")
        if not held.extended:
            held.extended = True
            held.expires_at_ms += EXTENSION_MS
        return self._told(Step.OK, "extended", reservation_id)

    def confirm(self, reservation_id: str, reference: str, amount_minor: int) -> Ending:
        held = self.held.get(reservation_id)
        if held is None:
            return Ending(Step.FAIL, "not_found")
        if held.state in ("confirmed", "refund_due", "cancelled"):
            return self._settled(reservation_id, held, reference)
        if amount_minor != held.amount_minor and not self._wrong(Flaw.AMOUNT_IGNORED):
            return Ending(Step.FAIL, "amount_mismatch")
        if held.state == "reserved" and self.now_ms >= held.expires_at_ms:
            self._end(reservation_id, "expired")
        if held.state != "reserved":
            cannot = self._short(held.items) or self._beyond(held.ticket_id, held.items)
            if cannot and not (self._short(held.items) and self._wrong(Flaw.TAKES_ENDED_UNITS)):
                held.state, held.payment_reference, held.ended_at_ms = "refund_due", reference, self.now_ms
                self._note("refund_due", reservation_id)
                return self._told(Step.FAIL, "refund_due", reservation_id)
            self._move(held.items, "available", "reserved")
        self._move(held.items, "reserved", "sold")
        held.state, held.payment_reference, held.ended_at_ms = "confirmed", reference, self.now_ms
        self._note("confirmed", reservation_id)
        return self._told(Step.OK, "confirmed", reservation_id)

    def _settled(self, reservation_id: str, held: Held, reference: str) -> Ending:
        if held.payment_reference != reference:
            if self._wrong(Flaw.SECOND_PAYMENT_TAKEN):
                return self._told(Step.OK, "replayed", reservation_id)
            if reference not in {refund.payment_reference for refund in self.refunds}:
                self.refunds.append(Refund(reservation_id, reference, held.amount_minor))
            return Ending(Step.FAIL, "payment_conflict")
        if held.state == "confirmed":
            return self._told(Step.OK, "replayed", reservation_id)
        return Ending(Step.FAIL, "refund_due")

    def cancel(self, reservation_id: str) -> Ending:
        held = self.held[reservation_id]
        if held.state == "confirmed":
            self._move(held.items, "sold", "available")
            held.state, held.ended_at_ms = "cancelled", self.now_ms
            self._note("cancelled", reservation_id)
        return Ending(Step.OK, "cancelled") if held.state == "cancelled" else Ending(Step.FAIL, "not_paid")

    def read_order(self, reservation_id: str) -> Ending:
        state = _ORDER_OF[self.held[reservation_id].state] if reservation_id in self.held else "missing"
        return Ending(Step.OK, "found", state="missing" if self._wrong(Flaw.ANSWERS_BEFORE_COMMIT) else state)

    def adjust(self, sku: str, delta: int) -> Ending:
        stock = self.stocks[sku]
        if stock.available + delta < 0:
            return Ending(Step.FAIL, "too_few")
        if not self._wrong(Flaw.ADJUSTMENT_FORGOTTEN):
            stock.allotment += delta
            stock.available += delta
        return Ending(Step.OK, "adjusted")

    def reap(self, reservation_id: str) -> None:
        held = self.held.get(reservation_id)
        if held is None or held.state != "reserved":
            return
        early, late = self.now_ms < held.expires_at_ms, self.now_ms > held.expires_at_ms + LATE_MS
        if not early or self.flaw is Flaw.EXPIRES_EARLY:
            self.fired += early or late
            self._end(reservation_id, "expired")

    def reap_at_ms(self, held: Held) -> int:
        """When the reaper comes for a reservation."""
        if self.flaw is Flaw.EXPIRES_EARLY:
            return held.reserved_at_ms + TTL_MS // 2
        return held.expires_at_ms + (2 * LATE_MS if self.flaw is Flaw.EXPIRES_LATE else self.chance.randrange(1_500))

    def final(self) -> FinalState:
        """What the stores hold."""
        orders = [_order_of(reservation_id, held) for reservation_id, held in self.held.items()]
        for order in orders:
            if order.state in ("refund_due", "cancelled") and order.payment_reference and not self._wrong(Flaw.REFUND_FORGOTTEN):
                self.refunds.append(Refund(order.reservation_id, order.payment_reference, order.amount_minor))
        orders = [order for order in orders if not (order.state == "paid" and self._wrong(Flaw.ORDER_LOST, 0.5))]
        if orders and self._wrong(Flaw.ORDER_TWICE):
            orders.append(orders[0])
        if self._wrong(Flaw.ORDER_FROM_NOWHERE):
            sku = next(iter(self.stocks))
            price = self.stocks[sku].price_minor
            orders.append(OrderRow(f"{DROP}.rnobody", f"{DROP}.tnobody", "expired", ((sku, 1),), price, "", self.now_ms))
        paid = [item for order in orders if order.state == "paid" for item in order.items]
        return FinalState(
            drop_id=DROP,
            now_ms=self.now_ms,
            epoch=1,
            limit_per_shopper=self.limit,
            skus=tuple(
                SkuState(
                    name,
                    stock.price_minor,
                    stock.limit,
                    stock.first,
                    stock.allotment,
                    stock.available,
                    stock.reserved,
                    stock.sold,
                    stock.allotment,
                    sum(quantity for sku, quantity in paid if sku == name),
                )
                for name, stock in self.stocks.items()
            ),
            reservations=tuple(_record_of(reservation_id, held) for reservation_id, held in self.held.items()),
            orders=tuple(orders),
            refunds=tuple(self.refunds),
            journal=tuple(self.journal),
            places=dict(self.standby.places),
        )


_ORDER_OF = {
    "reserved": "pending",
    "confirmed": "paid",
    "released": "cancelled",
    "expired": "expired",
    "refund_due": "refund_due",
    "cancelled": "cancelled",
}


def _record_of(reservation_id: str, held: Held) -> ReservationRecord:
    return ReservationRecord(
        reservation_id,
        held.ticket_id,
        held.state,
        held.items,
        held.amount_minor,
        held.reserved_at_ms,
        held.expires_at_ms,
        held.payment_reference,
    )


def _order_of(reservation_id: str, held: Held) -> OrderRow:
    state = _ORDER_OF[held.state]
    return OrderRow(reservation_id, held.ticket_id, state, held.items, held.amount_minor, held.payment_reference, held.ended_at_ms)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a history is."""

    shoppers: int
    units_max: int
    skus: int = 2
    span_ms: int = 3_000
    lost: float = 0.1
    """share of calls that get no answer"""


def _ticket_id(number: int) -> str:
    return f"{DROP}.t{number}"


class Simulation:
    """Plays shoppers against the service and writes down what they would have."""

    def __init__(self, seed: int, size: Size, flaw: Flaw | None = None) -> None:
        self._chance = random.Random(f"{seed}:{flaw}")
        stocks = {f"s{number}": self._stock(size) for number in range(size.skus)}
        places = dict(zip(map(_ticket_id, range(size.shoppers)), self._chance.sample(range(size.shoppers), size.shoppers), strict=True))
        self.service = Service(stocks, limit=3, chance=self._chance, standby=Standby(places), flaw=flaw)
        self._size = size
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ops = itertools.count(1)
        self._events: list[Event] = []

    def _stock(self, size: Size) -> Stock:
        units = self._chance.randint(1, size.units_max)
        return Stock(units, units, units, 100 * self._chance.randint(1, 9), 2)

    def run(self) -> tuple[list[Event], FinalState]:
        """The history and what the stores hold in the end."""
        for number in range(self._size.shoppers):
            self._at(self._chance.randrange(self._size.span_ms), self._starter(self._shopper(number)))
        self._at(self._chance.randrange(self._size.span_ms), self._starter(self._merchant()))
        while self._agenda:
            at_ms, _, act = heapq.heappop(self._agenda)
            self.service.now_ms = START_MS + at_ms
            act()
        return self._events, self.service.final()

    # ------------------------------------------------------------------------------------------------------- the stage

    def _at(self, at_ms: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at_ms, next(self._order), act))

    def _in(self, after_ms: int, act: Callable[[], None]) -> None:
        self._at(self.service.now_ms - START_MS + after_ms, act)

    def _starter(self, script: Script) -> Callable[[], None]:
        return lambda: self._go_on(script, None)

    def _go_on(self, script: Script, answer: Answer) -> None:
        try:
            wish = script.send(answer)
        except StopIteration:
            return
        if isinstance(wish, int):
            self._in(wish, lambda: self._go_on(script, None))
        else:
            self._call(script, *wish)

    def _note(self, op: int, ending: Ending) -> None:
        self._events.append(self._event(ending.step, op, **{name: getattr(ending, name) for name in ending.__struct_fields__[1:]}))

    def _event(self, step: Step, op: int, **fields: object) -> Event:
        at_ms = self.service.now_ms
        return Event(step, op, (at_ms - START_MS) * 1_000_000 + len(self._events), at_ms, **fields)  # type: ignore[arg-type]

    def _call(self, script: Script, call: Call, effect: Effect) -> None:
        op = next(self._ops)
        self._events.append(self._event(Step.INVOKE, op, **{name: getattr(call, name) for name in call.__struct_fields__}))
        there, back = self._chance.randrange(1, 120), self._chance.randrange(1, 120)
        fate = self._chance.random() / self._size.lost if self._size.lost else 1.0

        def answered() -> None:
            answer = effect()
            self._reap_later(call)
            self._in(back, lambda: heard(answer))

        def heard(answer: Ending) -> None:
            self._note(op, answer)
            self._go_on(script, answer)

        def without_answer() -> None:
            effect()
            self._reap_later(call)

        def given_up() -> None:
            self._note(op, Ending(Step.UNKNOWN, "lost"))
            self._go_on(script, None)

        if fate >= 1:
            self._in(there, answered)
        elif fate < 0.2:  # the request is lost
            self._in(TIMEOUT_MS, given_up)
        elif fate < 0.6:  # the answer is lost
            self._in(there, without_answer)
            self._in(TIMEOUT_MS, given_up)
        elif fate < 0.8:  # the request arrives after the caller gave up
            self._in(TIMEOUT_MS + there, without_answer)
            self._in(TIMEOUT_MS, given_up)
        else:  # the caller crashes
            self._in(there, without_answer)

    def _reap_later(self, call: Call) -> None:
        held = self.service.held.get(call.reservation_id)
        if held is not None and call.kind in (Kind.RESERVE, Kind.EXTEND):
            at_ms = max(self.service.reap_at_ms(held), self.service.now_ms) - START_MS
            self._at(at_ms, lambda: self.service.reap(call.reservation_id))

    # ------------------------------------------------------------------------------------------------------ the people

    def _repeated(self, call: Call, effect: Effect) -> Generator[tuple[Call, Effect], Answer, Answer]:
        for _ in range(REPEATS_MAX):
            answer = yield call, effect
            if answer is not None:
                return answer
        return None

    def _shopper(self, number: int) -> Script:
        service, chance, ticket_id = self.service, self._chance, _ticket_id(number)
        for attempt in range(chance.randint(1, 2)):
            key, items = f"k{number}-{attempt}", self._wish()
            rid = f"{DROP}.r{number}-{attempt}"
            about = {"shopper": str(number), "drop": DROP, "ticket_id": ticket_id, "reservation_id": rid}
            call = Call(Kind.RESERVE, key=key, items=items, **about)  # type: ignore[arg-type]
            answer = yield from self._repeated(call, lambda rid=rid, items=items: service.reserve(rid, ticket_id, items))  # type: ignore[misc]
            if answer is None or answer.step is not Step.OK:
                continue
            yield chance.randrange(50, 800)
            yield from self._finish(rid, answer, about)

    def _wish(self) -> Items:
        names = sorted(self.service.stocks)
        if len(names) > 1 and self._chance.random() < 0.15:
            return tuple((name, 1) for name in names[:2])
        return ((self._chance.choice(names), self._chance.choice((1, 1, 2))),)

    def _finish(self, rid: str, answer: Ending, about: dict[str, str]) -> Script:
        how = self._chance.random()
        if how < 0.15:
            return
        if how < 0.35:
            yield from self._give_back(rid, answer, about)
            return
        if how < 0.45:
            yield from self._ask(Kind.EXTEND, about, lambda: self.service.extend(rid))
        if how < 0.6:
            yield TTL_MS + self._chance.randrange(2_500)
        if how > 0.95:
            yield from self._pay(rid, about, f"pay-{rid}", (answer.amount_minor or 0) + 1)
        yield from self._buy(rid, answer, about)

    def _give_back(self, rid: str, answer: Ending, about: dict[str, str]) -> Script:
        yield from self._ask(Kind.RELEASE, about, lambda: self.service.release(rid))
        if self._chance.random() < 0.3:
            yield from self._ask(Kind.RELEASE, about, lambda: self.service.release(rid))
        if self._chance.random() < 0.3:
            yield from self._pay(rid, about, f"pay-{rid}", answer.amount_minor or 0)

    def _buy(self, rid: str, answer: Ending, about: dict[str, str]) -> Script:
        amount_minor = answer.amount_minor or 0
        paid = yield from self._pay(rid, about, f"pay-{rid}", amount_minor)
        if paid is None or paid.step is not Step.OK:
            return
        yield from self._ask(Kind.READ_ORDER, about, lambda: self.service.read_order(rid))
        if self._chance.random() < 0.15:
            yield from self._pay(rid, about, f"again-{rid}", amount_minor)
        if self._chance.random() < 0.15:
            yield from self._ask(Kind.CANCEL_ORDER, about, lambda: self.service.cancel(rid))

    def _ask(self, kind: Kind, about: dict[str, str], effect: Effect) -> Generator[tuple[Call, Effect], Answer, Answer]:
        return self._repeated(Call(kind, **about), effect)  # type: ignore[arg-type]

    def _pay(self, rid: str, about: dict[str, str], reference: str, amount_minor: int) -> Generator[tuple[Call, Effect], Answer, Answer]:
        key = f"{reference}-{amount_minor}"
        call = Call(Kind.CONFIRM, key=key, payment_reference=reference, amount_minor=amount_minor, **about)  # type: ignore[arg-type]
        return self._repeated(call, lambda: self.service.confirm(rid, reference, amount_minor))

    def _merchant(self) -> Script:
        for number in range(self._chance.randrange(3)):
            yield self._chance.randrange(2_000)
            sku, delta = self._chance.choice(sorted(self.service.stocks)), self._chance.choice((-1, 1, 2))
            call = Call(Kind.ADJUST_STOCK, drop=DROP, key=f"adjust-{number}", items=((sku, 1),), delta=delta)
            done: dict[int, Ending] = {}

            def effect(sku: str = sku, delta: int = delta, done: dict[int, Ending] = done) -> Ending:
                if 0 not in done or done[0].step is Step.FAIL:
                    done[0] = self.service.adjust(sku, delta)
                return done[0]

            yield from self._repeated(call, effect)
