"""What the scripts should do, said again in Python and in another way.

Where the scripts keep counters and move units between them, the oracle keeps only tickets, reservations, slots and how
many units the merchant wants to sell, and counts units, allowances and live reservations from those each time. Where both
agree after every step, both are right or both are wrong in the same way, which is unlikely.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

RESERVED, CONFIRMED, RELEASED, EXPIRED, REFUND_DUE, CANCELLED = 1, 2, 3, 4, 5, 6
Items = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Rules:
    """The drop's definition."""

    allotment: dict[str, int]
    price: dict[str, int]
    limit: dict[str, int]
    joins_at_ms: int
    opens_at_ms: int
    closes_at_ms: int
    rate_per_min: int
    capacity: int
    claim_window_ms: int
    reservation_ttl_ms: int
    token_ttl_ms: int
    limit_per_shopper: int
    reservations_max: int
    tickets_max: int
    beat_ms: int
    credit_span_ms: int = 2_000
    turn_ms: int = 5_000


@dataclass
class Person:
    """A ticket."""

    number: int
    late: bool
    joined_at_ms: int
    gone: bool = False
    token: str = ""
    issued_at_ms: int = 0
    expires_at_ms: int = 0


@dataclass
class Claim:
    """A reservation."""

    owner: str
    items: Items
    amount_minor: int
    reserved_at_ms: int
    expires_at_ms: int
    state: int = RESERVED
    payment: str = ""
    confirm_key: str = ""
    extend_key: str = ""
    surplus: list[str] = field(default_factory=list)


@dataclass
class Oracle:
    """The drop as it should be."""

    rules: Rules
    now: int
    state: str = "scheduled"
    closed_at_ms: int | None = None
    entries: int | None = None
    people: dict[str, Person] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    called: dict[int, int] = field(default_factory=dict)
    """when those were called who have not come yet"""
    returning: set[int] = field(default_factory=set)
    standby: dict[int, Items] = field(default_factory=dict)
    """what those wait for who found everything reserved"""
    asked: dict[int, int] = field(default_factory=dict)
    """when those last asked for what was there, or began to wait"""
    turns: dict[int, int] = field(default_factory=dict)
    """when the turns of those end for whom there is something"""
    paused_at_ms: int = 0
    resumed_at_ms: int = 0
    stood_still_ms: int = 0
    """how long that pause was, with earlier ones from which something is still running"""
    came: int = 0
    sessions_ended: int = 0
    serving: int = 0
    beat: int = 0
    advanced_at_ms: int = 0
    credit: float = 0
    journal: list[tuple[Any, ...]] = field(default_factory=list)
    adjustments: dict[str, tuple[str, int, bool]] = field(default_factory=dict)
    wanted: dict[str, int] = field(init=False)
    """units of each SKU the merchant wants the drop to have"""
    allotment: dict[str, int] = field(init=False)
    """units of each SKU it has: more than wanted while reservations hold them"""
    sequence: int = 1
    _told: tuple[Any, ...] = (0, 0, ())

    def __post_init__(self) -> None:
        self.wanted, self.allotment = dict(self.rules.allotment), dict(self.rules.allotment)

    def settle(self) -> int:
        """The end of a call: what is not wanted any more and is free leaves the drop. The sequence."""
        taken, drained = self.units((RESERVED, CONFIRMED)), []
        for sku, before in self.allotment.items():
            after = max(self.wanted[sku], taken[sku])
            if after < before:
                self.allotment[sku] = after
                drained.append(("drained", sku, after - before, after))
        self.journal += sorted(drained)
        people = tuple((person.token, person.gone) for person in self.people.values())
        told = (len(self.journal), self.serving, people)
        self.sequence += told != self._told
        self._told = told
        return self.sequence

    # ---- what follows from it

    @property
    def effective(self) -> str:
        """The state at this time."""
        if self.state == "closed" or self.now >= self.rules.closes_at_ms:
            return "closed"
        if self.state in ("open", "paused"):
            return self.state
        return "open" if self.now >= self.rules.opens_at_ms else "waiting" if self.now >= self.rules.joins_at_ms else "scheduled"

    def units(self, states: Iterable[int], owner: str | None = None) -> Counter[str]:
        """Units in reservations of these states, of one shopper or of all."""
        wanted, total = set(states), Counter[str]()
        for claim in self.claims.values():
            if claim.state in wanted and owner in (None, claim.owner):
                total.update(dict(claim.items))
        return total

    def available(self) -> dict[str, int]:
        """Units nobody holds or owns."""
        taken = self.units((RESERVED, CONFIRMED))
        return {sku: units - taken[sku] for sku, units in self.allotment.items()}

    def live(self, owner: str) -> int:
        """Reservations of a shopper that are neither paid nor ended."""
        return sum(claim.owner == owner and claim.state == RESERVED for claim in self.claims.values())

    @property
    def all_sold(self) -> bool:
        """Nothing is left that could still be bought."""
        return self.units((CONFIRMED,)) == Counter(self.allotment)

    def limit_broken(self, owner: str, items: Items) -> bool:
        """Whether these items would be more than a shopper may have."""
        held = self.units((RESERVED, CONFIRMED), owner)
        held.update(dict(items))
        return held.total() > self.rules.limit_per_shopper or any(held[sku] > self.rules.limit[sku] for sku, _ in items)

    # ---- the line

    def join(self, name: str) -> str:
        """One request of join."""
        if name in self.people:
            return "left" if self.people[name].gone else "replayed"
        if self.effective in ("scheduled", "closed"):
            return {"scheduled": "not_open", "closed": "closed"}[self.effective]
        if self.all_sold:
            return "sold_out"
        if len(self.people) >= self.rules.tickets_max:
            return "room_full"
        started = self.effective in ("open", "paused")
        if started and self.entries is None:
            self.entries = len(self.people)
        self.people[name] = Person(len(self.people), started, self.now)
        return "joined"

    def admit(self, name: str, token: str) -> str:
        """One request of admit."""
        person = self.people.get(name)
        if person is None or person.gone:
            return "left" if person else "ticket_invalid"
        if person.token and self.now < person.expires_at_ms:
            return "replayed"
        if self.effective != "open" or self.all_sold:
            return {"closed": "closed", "paused": "paused", "open": "sold_out"}.get(self.effective, "not_open")
        if person.number >= self.serving:
            return "not_yet"
        return self._come_in(person, token)

    def _come_in(self, person: Person, token: str) -> str:
        self.came += self.called.pop(person.number, None) is not None
        before = sum(number < person.number for number in self.returning)
        if person.number not in self.slots and self.rules.capacity - len(self.slots) <= before:
            self.returning.add(person.number)
            return "not_yet"
        self.slots[person.number] = max(self.slots.get(person.number, 0), self.now + self.rules.claim_window_ms)
        self.returning.discard(person.number)
        person.token, person.issued_at_ms, person.expires_at_ms = token, self.now, self.now + self.rules.token_ttl_ms
        return "admitted"

    def leave(self, name: str) -> str:
        """A place given up."""
        person = self.people.get(name)
        if person is None:
            return "not_found"
        if person.gone:
            return "replayed"
        if self.live(name):
            return "reserved"
        person.gone = True
        if person.token:
            person.expires_at_ms = min(person.expires_at_ms, self.now)
        self.called.pop(person.number, None)
        self.returning.discard(person.number)
        self.sessions_ended += self.slots.pop(person.number, None) is not None
        self._stand_no_more(person.number)
        return "left"

    def _stand_no_more(self, number: int) -> None:
        self.standby.pop(number, None)
        self.asked.pop(number, None)
        self.turns.pop(number, None)

    def advance(self) -> str:
        """A beat."""
        beat, effective = self.now // self.rules.beat_ms, self.effective
        if beat <= self.beat:
            return "held"
        if self.entries is None and self.now >= self.rules.opens_at_ms:
            self.entries = len(self.people)
        if effective != self.state:
            self.state = effective
            self.journal.append(("drop", effective))
        if effective == "open":
            self._serve()
        self.beat, self.advanced_at_ms = beat, self.now
        return "advanced"

    def _serve(self) -> None:
        rules, per_ms = self.rules, self.rules.rate_per_min / 60_000
        since = self.now - max(self.advanced_at_ms, rules.opens_at_ms) if self.advanced_at_ms else 0
        self.credit = min(self.credit + per_ms * max(0, min(since, rules.credit_span_ms)), per_ms * rules.credit_span_ms)
        running_at = self.now - self._still(rules.claim_window_ms)
        held = {number: until for number, until in self.slots.items() if until > running_at}
        self.sessions_ended += len(self.slots) - len(held)
        self.slots = held
        self.called = {number: at_ms for number, at_ms in self.called.items() if at_ms + rules.claim_window_ms > running_at}
        if not self.all_sold:
            back = sorted(self.returning)[: max(0, rules.capacity - len(self.slots))]
            self.returning -= set(back)
            self.slots |= dict.fromkeys(back, self.now + rules.claim_window_ms)
            self._call(min(int(self.credit), rules.capacity - len(self.slots) - len(self.called) - len(self.returning)))
        self._take_turns()

    def _call(self, places: int) -> None:
        people = {person.number: person for person in self.people.values()}
        while places > 0 and self.serving in people:
            if not people[self.serving].gone:
                self.called[self.serving] = self.now
                self.credit -= 1
                places -= 1
            self.serving += 1

    def _first_of(self, before: float) -> tuple[list[int], dict[str, int]]:
        """Those in `standby` with a place below `before` for whom there is something, and what is left after them."""
        left, fitting = self.available(), []
        for number in sorted(number for number in self.standby if number < before):
            wanted = dict(self.standby[number])
            if all(left[sku] >= quantity for sku, quantity in wanted.items()):
                left = {sku: units - wanted.get(sku, 0) for sku, units in left.items()}
                fitting.append(number)
        return fitting, left

    def _take_turns(self) -> None:
        fitting, _ = self._first_of(float("inf"))
        self.turns = {number: self.turns.get(number, self.now + self.rules.turn_ms) for number in fitting}
        running_at = self.now - self._still(self.rules.turn_ms)
        over = [until for until in self.turns.values() if until <= running_at]
        absent_since = max(over, default=0) - self.rules.turn_ms
        running = {number for number, until in self.turns.items() if until > running_at}
        for number in list(self.standby):
            unheard = over and self.asked[number] < absent_since and self._is_available(self.standby[number])
            if (number not in running and (unheard or number in self.turns)) or not self._may_return(self.standby[number]):
                self._stand_no_more(number)

    def _may_return(self, items: Items) -> bool:
        sold = self.units((CONFIRMED,))
        return all(quantity <= min(self.wanted[sku], self.allotment[sku]) - sold[sku] for sku, quantity in items)

    def _is_available(self, items: Items) -> bool:
        available = self.available()
        return all(available[sku] >= quantity for sku, quantity in items)

    # ---- units

    def reserve(self, claim_id: str, name: str, token: str, items: Items) -> str:
        """One request of reserve."""
        before = self.claims.get(claim_id)
        if before is not None:
            return "replayed" if before.items == items else "key_reused"
        refusal = self._reserve_refusal(name, token, items)
        if refusal:
            return refusal
        amount = sum(self.rules.price[sku] * quantity for sku, quantity in items)
        claim = Claim(name, items, amount, self.now, self.now + self.rules.reservation_ttl_ms)
        self.claims[claim_id] = claim
        self._keep_slot(claim)
        self._stand_no_more(self.people[name].number)
        self.journal.append(("reserved", claim_id))
        return "reserved"

    def _keep_slot(self, claim: Claim) -> None:
        number = self.people[claim.owner].number
        self.slots[number] = max(self.slots.get(number, 0), claim.expires_at_ms)

    def _reserve_refusal(self, name: str, token: str, items: Items) -> str:
        person, effective = self.people.get(name), self.effective
        if effective != "open":
            return {"closed": "closed", "paused": "paused"}.get(effective, "not_open")
        if person is None or person.token != token:
            return "token_invalid"
        if self.now >= person.expires_at_ms:
            return "token_expired"
        if any(sku not in self.allotment for sku, _ in items):
            return "unknown_sku"
        made = sum(claim.owner == name for claim in self.claims.values())
        if made >= self.rules.reservations_max or self.limit_broken(name, items):
            return "limit_reached"
        return "" if self._is_there_for(person, items) else "sold_out"

    def _is_there_for(self, person: Person, items: Items) -> bool:
        """Whether the units are there, after those who wait for them; if not, and they may come back, the shopper waits too."""
        _, left = self._first_of(person.number)
        if all(left[sku] >= quantity for sku, quantity in items):
            return True
        if self._may_return(items):
            if self._is_available(items) or self.standby.get(person.number) != items:
                self.asked[person.number] = self.now
            self.standby[person.number] = items
        return False

    def _end(self, claim_id: str, state: int, kind: str) -> None:
        claim = self.claims[claim_id]
        claim.state = state
        self.journal.append((kind, claim_id))
        if not self.live(claim.owner):
            self.slots.pop(self.people[claim.owner].number, None)

    def _note_surplus(self, claim_id: str, payment: str, amount_minor: int, reason: str) -> None:
        surplus = self.claims[claim_id].surplus
        if payment not in surplus:
            surplus.append(payment)
            self.journal.append(("surplus", claim_id, payment, amount_minor, reason))

    def _settled_word(self, claim_id: str, payment: str, amount_minor: int, key: str) -> str:
        claim = self.claims[claim_id]
        if key and key == claim.confirm_key and (payment, amount_minor) != (claim.payment, claim.amount_minor):
            return "key_reused"
        if claim.payment != payment:
            self._note_surplus(claim_id, payment, amount_minor, "paid_twice")
            return "payment_conflict"
        return "replayed" if claim.state == CONFIRMED else "refund_due"

    def confirm(self, claim_id: str, payment: str, amount_minor: int, key: str) -> str:
        """One request of confirm."""
        claim = self.claims.get(claim_id)
        if claim is None:
            return "not_found"
        if claim.state in (CONFIRMED, REFUND_DUE, CANCELLED):
            return self._settled_word(claim_id, payment, amount_minor, key)
        if amount_minor != claim.amount_minor:
            if not key:
                self._note_surplus(claim_id, payment, amount_minor, "amount_mismatch")
            return "amount_mismatch"
        if payment in claim.surplus:
            return "payment_conflict"
        if claim.state == RESERVED and self.now >= claim.expires_at_ms:
            self._end(claim_id, EXPIRED, "expired")
        available, late = self.available(), claim.state != RESERVED
        gone = late and (any(available[sku] < quantity for sku, quantity in claim.items) or self.limit_broken(claim.owner, claim.items))
        claim.payment, claim.confirm_key = payment, key
        if gone:
            claim.state = REFUND_DUE
            self.journal.append(("refund_due", claim_id))
            return "refund_due"
        self._end(claim_id, CONFIRMED, "confirmed")
        return "confirmed"

    def release(self, claim_id: str, *, paid_too: bool) -> str:
        """One request of release."""
        claim = self.claims.get(claim_id)
        if claim is None:
            return "not_found"
        if claim.state == CONFIRMED and paid_too:
            claim.state = CANCELLED
            self.journal.append(("cancelled", claim_id))
            return "cancelled"
        if claim.state != RESERVED:
            return {CONFIRMED: "confirmed", RELEASED: "replayed", CANCELLED: "replayed"}.get(claim.state, "expired")
        self._end(claim_id, RELEASED, "released")
        return "released"

    def extend(self, claim_id: str, key: str, extension_ms: int) -> str:
        """One request of extend."""
        claim = self.claims.get(claim_id)
        if claim is None:
            return "not_found"
        if claim.extend_key == key:
            return "replayed"
        if claim.state != RESERVED or self.now >= claim.expires_at_ms:
            return "ended"
        if claim.extend_key:
            return "already_extended"
        claim.extend_key = key
        claim.expires_at_ms += extension_ms
        self._keep_slot(claim)
        self.journal.append(("extended", claim_id))
        return "extended"

    def expire(self, batch_size_max: int) -> int:
        """A look of the reaper: how many ended."""
        live = sorted((claim.expires_at_ms, claim_id) for claim_id, claim in self.claims.items() if claim.state == RESERVED)
        overdue = [claim_id for expires_at_ms, claim_id in live if expires_at_ms <= self.now][:batch_size_max]
        for claim_id in overdue:
            self._end(claim_id, EXPIRED, "expired")
        return len(overdue)

    # ---- the merchant

    def steer(self, word: str) -> str:
        """Pause or resume."""
        target, source = {"pause": ("paused", "open"), "resume": ("open", "paused")}[word]
        if self.effective == target:
            return "unchanged"
        if self.effective != source:
            return "refused"
        if target == "paused":
            self.stood_still_ms = self._still(self.rules.claim_window_ms)
            self.paused_at_ms = self.now
        else:
            self.stood_still_ms += self.now - self.paused_at_ms
            self.resumed_at_ms = self.now
        self.state = target
        self.journal.append(("drop", target))
        return "done"

    def _still(self, lasts_ms: int) -> int:
        """How long a pause has made wait what began before it and lasts so long."""
        return self.stood_still_ms if self.now < self.resumed_at_ms + lasts_ms else 0

    def adjust(self, adjustment_id: str, sku: str, delta: int, *, drain: bool) -> str:
        """More units, or fewer."""
        if sku not in self.wanted:
            return "unknown_sku"
        if adjustment_id in self.adjustments:
            return "replayed" if self.adjustments[adjustment_id] == (sku, delta, drain) else "key_reused"
        if self.effective == "closed":
            return "closed"
        free = self.available()[sku]
        drains = drain and free < -delta <= self.wanted[sku] - self.units((CONFIRMED,))[sku]
        if -delta > free and not drains:
            return "too_few"
        self.adjustments[adjustment_id] = (sku, delta, drain)
        self.wanted[sku] += delta
        moved = max(delta, -free)
        self.allotment[sku] += moved
        self.journal.append(("added" if delta > 0 else "withdrawn", sku, moved, self.allotment[sku]))
        return "draining" if drains else "adjusted"

    def close(self) -> str:
        """The end."""
        if self.state == "closed":
            return "replayed"
        self.state = "closed"
        if self.entries is None:
            self.entries = len(self.people)
        self.journal.append(("drop", "closed"))
        return "closed"

    def view(self) -> dict[str, Any]:
        """Everything that must be the same in the store."""
        reserved, sold, available = self.units((RESERVED,)), self.units((CONFIRMED,)), self.available()
        return {
            "state": self.state,
            "entries": "" if self.entries is None else str(self.entries),
            "joined": len(self.people),
            "serving": self.serving,
            "stock": {
                sku: (units, available[sku], reserved[sku], sold[sku], units - self.wanted[sku]) for sku, units in self.allotment.items()
            },
            "adjustments": self.adjustments,
            "sequence": self.sequence,
            "people": {name: self._person(name) for name in self.people},
            "claims": {
                claim_id: (
                    (c.owner, c.items, c.amount_minor, c.reserved_at_ms, c.expires_at_ms, c.state, c.payment),
                    (c.extend_key, c.surplus),
                )
                for claim_id, c in self.claims.items()
            },
            "expiries": {claim_id: c.expires_at_ms for claim_id, c in self.claims.items() if c.state == RESERVED},
            "slots": self.slots,
            "called": self.called,
            "returning": self.returning,
            "gone": {person.number for person in self.people.values() if person.gone and person.number >= self.serving},
            "standby": self.standby,
            "asked": self.asked,
            "turns": self.turns,
            "flow": (self.came, self.sessions_ended),
            "journal": self.journal,
        }

    def _person(self, name: str) -> tuple[Any, ...]:
        person, held = self.people[name], self.units((RESERVED, CONFIRMED), name)
        made = sum(claim.owner == name for claim in self.claims.values())
        token = (person.token, person.issued_at_ms, person.expires_at_ms)
        return person.number, person.late, person.joined_at_ms, person.gone, token, made, self.live(name), held.total(), dict(held)
