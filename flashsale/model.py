"""The words of the domain as types. No input or output here."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

import msgspec

DROP_ID_PATTERN = r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?"
SKU_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
DIGEST_PATTERN = r"[A-Za-z0-9_-]{22}"
DROP_ID_RE = re.compile(DROP_ID_PATTERN)
SKU_RE = re.compile(SKU_PATTERN)
TICKET_ID_RE = re.compile(rf"({DROP_ID_PATTERN})\.t({DIGEST_PATTERN})")
RESERVATION_ID_RE = re.compile(rf"({DROP_ID_PATTERN})\.r({DIGEST_PATTERN})")

SKUS_PER_DROP_MAX = 50
ITEMS_PER_RESERVATION_MAX = 10
QUANTITY_MAX = 1_000
ALLOTMENT_MAX = 10_000_000
IDEMPOTENCY_KEY_LENGTH_MAX = 128
PAYMENT_REFERENCE_LENGTH_MAX = 128
LINE_STRIDE = 1_000_000_000
"""Places of a line follow one another; those of the next line begin this much further on."""


def place_of(line: int, number: int) -> int:
    """The place of a queue number in a line; in the first line they are the same."""
    return line * LINE_STRIDE + number


def line_of(place: int) -> int:
    """The line a place is in, from 0."""
    return place // LINE_STRIDE


def number_of(place: int) -> int:
    """The queue number of a place in its line."""
    return place % LINE_STRIDE


class DropState(StrEnum):
    """`scheduled → waiting → open ⇄ paused → closed`; waiting means people may join before the opening."""

    SCHEDULED = "scheduled"
    WAITING = "waiting"
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class Durability(StrEnum):
    """What an acknowledged reservation of a drop survives; see docs/durability.md."""

    SECOND = "second"
    """a crash of the store; a power loss may take the last second or two"""
    DISK = "disk"
    """a power loss of the store's machine"""
    REPLICA = "replica"
    """the loss of the store's machine: a replica has it on disk, too"""


class ReservationState(IntEnum):
    """As packed in the store. `reserved → confirmed | released | expired`; an expired or released one may end `refund_due`,
    a confirmed one `cancelled`, with its units on sale again and its money on the way back.
    """

    RESERVED = 1
    CONFIRMED = 2
    RELEASED = 3
    EXPIRED = 4
    REFUND_DUE = 5
    CANCELLED = 6


class OrderState(StrEnum):
    """`pending → paid | cancelled | expired | refund_due → refunded`."""

    PENDING = "pending"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PAID = "paid"
    REFUND_DUE = "refund_due"
    REFUNDED = "refunded"


class Transition(StrEnum):
    """Kinds of journal transition: what the scripts write and the reconciler reads."""

    RESERVED = "reserved"
    CONFIRMED = "confirmed"
    EXTENDED = "extended"
    RELEASED = "released"
    EXPIRED = "expired"
    REFUND_DUE = "refund_due"
    CANCELLED = "cancelled"
    """a paid order was taken back: its units are on sale again, its money is due"""
    SURPLUS = "surplus"
    """a payment nothing is to be paid with: a second one, or one of another amount; it changes no order, its money is due"""


class OpenDropOutcome(StrEnum):
    """Answers of `open_drop.lua`."""

    OPENED = "opened"
    REPLAYED = "replayed"
    EXISTS = "exists"


class JoinOutcome(StrEnum):
    """Answers of `join.lua`."""

    JOINED = "joined"
    REPLAYED = "replayed"
    RESTORED = "restored"
    """a place from before a loss, given back"""
    TAKEN_OVER = "taken_over"
    """a place that another device had handed over"""
    NOT_OPEN = "not_open"
    CLOSED = "closed"
    SOLD_OUT = "sold_out"
    ROOM_FULL = "room_full"
    JOINING_CLOSED = "joining_closed"
    CODE_USED = "code_used"
    MOVED = "moved"
    """the place was handed to another device"""
    LEFT = "left"
    REMOVED = "removed"
    HANDOFF_USED = "handoff_used"
    DEVICES_FULL = "devices_full"
    """as many other devices know the place as may"""
    NOT_FOUND = "not_found"
    """the place that was to be handed over is not there"""
    RECOVERING = "recovering"


class LeaveOutcome(StrEnum):
    """Answers of `leave.lua`."""

    LEFT = "left"
    REMOVED = "removed"
    REPLAYED = "replayed"
    NOT_FOUND = "not_found"
    MOVED = "moved"
    PLACE = "place"
    """to be asked again with its place in the draw's order"""
    RESERVED = "reserved"
    """the shopper holds units: they have to be given back or paid first"""
    RECOVERING = "recovering"


class DrawOutcome(StrEnum):
    """Answers of `draw.lua`."""

    CLOSED = "closed"
    REVEALED = "revealed"
    GONE = "gone"
    REPLAYED = "replayed"
    REFUSED = "refused"
    RECOVERING = "recovering"


class AdmitOutcome(StrEnum):
    """Answers of `admit.lua`."""

    ADMITTED = "admitted"
    REPLAYED = "replayed"
    NOT_YET = "not_yet"
    PLACE = "place"
    """to be asked again with its place in the draw's order"""
    NOT_OPEN = "not_open"
    PAUSED = "paused"
    CLOSED = "closed"
    SOLD_OUT = "sold_out"
    TICKET_INVALID = "ticket_invalid"
    MOVED = "moved"
    LEFT = "left"
    REMOVED = "removed"
    RECOVERING = "recovering"


class AdvanceOutcome(StrEnum):
    """Answers of `advance.lua`."""

    ADVANCED = "advanced"
    HELD = "held"
    RECOVERING = "recovering"


class ReserveOutcome(StrEnum):
    """Answers of `reserve.lua`."""

    RESERVED = "reserved"
    REPLAYED = "replayed"
    KEY_REUSED = "key_reused"
    NOT_OPEN = "not_open"
    PAUSED = "paused"
    CLOSED = "closed"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - an outcome word
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - an outcome word
    UNKNOWN_SKU = "unknown_sku"
    LIMIT_REACHED = "limit_reached"
    SOLD_OUT = "sold_out"
    RECOVERING = "recovering"


class ConfirmOutcome(StrEnum):
    """Answers of `confirm.lua`."""

    CONFIRMED = "confirmed"
    REPLAYED = "replayed"
    KEY_REUSED = "key_reused"
    PAYMENT_CONFLICT = "payment_conflict"
    AMOUNT_MISMATCH = "amount_mismatch"
    REFUND_DUE = "refund_due"
    NOT_FOUND = "not_found"
    RECOVERING = "recovering"


class ReleaseOutcome(StrEnum):
    """Answers of `release.lua`."""

    RELEASED = "released"
    CANCELLED = "cancelled"
    REPLAYED = "replayed"
    EXPIRED = "expired"
    CONFIRMED = "confirmed"
    NOT_FOUND = "not_found"
    RECOVERING = "recovering"


class ExtendOutcome(StrEnum):
    """Answers of `extend.lua`."""

    EXTENDED = "extended"
    REPLAYED = "replayed"
    ALREADY_EXTENDED = "already_extended"
    ENDED = "ended"
    NOT_FOUND = "not_found"
    RECOVERING = "recovering"


class AdjustStockOutcome(StrEnum):
    """Answers of `adjust_stock.lua`."""

    ADJUSTED = "adjusted"
    DRAINING = "draining"
    REPLAYED = "replayed"
    KEY_REUSED = "key_reused"
    TOO_FEW = "too_few"
    TOO_MANY = "too_many"
    CLOSED = "closed"
    UNKNOWN_SKU = "unknown_sku"
    RECOVERING = "recovering"


class RepairOutcome(StrEnum):
    """Answers of `repair.lua`."""

    REPAIRED = "repaired"
    REPLAYED = "replayed"
    REFUSED = "refused"
    RECOVERING = "recovering"


class FenceOutcome(StrEnum):
    """Answers of `fence.lua`."""

    FENCED = "fenced"
    REPLAYED = "replayed"
    REFUSED = "refused"
    MISSING = "missing"


class RebuildOutcome(StrEnum):
    """Answers of `rebuild.lua`."""

    BEGUN = "begun"
    KEPT = "kept"
    LOADED = "loaded"
    FINISHED = "finished"
    REPLAYED = "replayed"
    SUPERSEDED = "superseded"
    """another attempt has begun since, or the drop needs no rebuilding any more"""
    UNBALANCED = "unbalanced"


class RestoreOutcome(StrEnum):
    """Answers of `restore.lua`."""

    RESTORED = "restored"
    REPLAYED = "replayed"
    NOT_FOUND = "not_found"
    """unknown, and the receipt is of this very epoch, in which nothing was lost"""
    EXPIRED = "expired"
    SOLD_OUT = "sold_out"
    LIMIT_REACHED = "limit_reached"
    RECOVERING = "recovering"


class ExpireOutcome(StrEnum):
    """Answers of `expire.lua`."""

    EXPIRED = "expired"
    RECOVERING = "recovering"


class SteerOutcome(StrEnum):
    """Answers of `steer_drop.lua`."""

    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    RECOVERING = "recovering"


class CloseDropOutcome(StrEnum):
    """Answers of `close_drop.lua`."""

    CLOSED = "closed"
    REPLAYED = "replayed"
    RECOVERING = "recovering"


class InspectOutcome(StrEnum):
    """Answers of `inspect.lua`."""

    FOUND = "found"
    RECOVERING = "recovering"


@dataclass(frozen=True, slots=True)
class Sku:
    """One sellable thing in a drop."""

    sku: str
    name: str
    allotment: int
    """units given to it for this drop"""
    price_minor: int
    """price of a unit in the smallest unit of the drop's currency"""
    limit_per_shopper: int
    """units one shopper may hold and own; never above the drop's"""
    media: str = ""
    """address of a picture, or empty"""


@dataclass(frozen=True, slots=True)
class Group:
    """Shoppers with a line of their own and a share of the rate."""

    group_id: str
    name: str
    share_permille: int
    """of the admissions, while anybody of the group waits"""


@dataclass(frozen=True, slots=True)
class Drop:
    """One scheduled sale, as the merchant defined it."""

    drop_id: str
    name: str
    currency: str
    """ISO 4217 code"""
    skus: tuple[Sku, ...]
    joins_at_ms: int
    """from when people may join; at or before the opening"""
    opens_at_ms: int
    closes_at_ms: int
    rate_per_min: int
    """shoppers admitted a minute"""
    capacity: int
    """shoppers admitted and not finished, at most"""
    claim_window_ms: int
    """how long a served shopper may take to fetch the admission token before the slot goes on"""
    reservation_ttl_ms: int
    limit_per_shopper: int
    """units of all SKUs together one shopper may hold and own"""
    durability: str = "disk"
    extension_ms: int = 0
    """how much longer a reservation may be made to last, once; 0 when it may not"""
    tenant: str = "default"
    description: str = ""
    order: str = "arrival"
    """how those who join before the opening come to their places: by `draw`, or by `arrival`"""
    beacon: str = "none"
    """public randomness in the draw: `none`, `drand` or `file`"""
    groups: tuple[Group, ...] = ()
    """of line 1, 2, …; line 0 is everybody else's"""
    invites: str = "none"
    """whether joining takes an invite code: `none`, `accepted` or `required`"""
    identity: str = "none"
    """whether the storefront says who a shopper is: `none`, `accepted` or `required`"""
    origins: tuple[str, ...] = ()
    """of pages that may call the API for this drop, as browsers write them; empty: those of the setting `http.cors_origins`"""
    return_urls: tuple[str, ...] = ()
    """of the storefront: the waiting page sends shoppers there, or below"""


@dataclass(frozen=True, slots=True)
class SkuStock:
    """Where the units of one SKU are. They always sum to the allotment."""

    allotment: int
    available: int
    reserved: int
    sold: int
    draining: int = 0
    """units of the allotment that are withdrawn as reservations end unpaid"""


CALL_AGES_MS = (500, 1_000, 1_500, 2_000, 3_000, 4_500, 7_000, 10_000)
"""Ages of a call at which the next bucket of `Flow` begins; `include/flow.lua` has the same."""
PART_AGES = (1, 2, 3, 4, 6, 8, 12, 16)
"""The same in sixteenths: of the claim window, after which a slot lapses that nobody used, and of the time for which units stay
reserved."""


@dataclass(frozen=True, slots=True)
class LinePicture:
    """One line of a drop at one instant."""

    group: str
    """empty for everybody's"""
    share_permille: int
    joined: int
    entries: int | None
    """people in the draw; None before the opening"""
    serving_number: int
    key: str
    """hex key of the draw once drawn, else empty"""
    root: str
    """hex root of the entries once they are closed, else empty"""


@dataclass(frozen=True, slots=True)
class EntriesRun:
    """Entries of a draw that follow one another."""

    run_id: str
    line: int
    first: int
    """entry number of the first"""
    secret_hashes: bytes
    """32 bytes for each"""
    again: bool = False
    """given back after the entries were fixed, so these have no part in what is drawn; they only tell what was lost"""


@dataclass(frozen=True, slots=True)
class Flow:
    """How the line has moved so far (`lua/include/flow.lua`)."""

    called_by_age: tuple[int, ...] = (0,) * 9
    """places called whose shopper has not come, by the age of the call"""
    claims_by_delay: tuple[int, ...] = (0,) * 9
    """shoppers who came, ever, by how long after the call"""
    called: int = 0
    """places called, ever"""
    sessions_ended: int = 0
    """slots that lapsed or were left, ever"""
    entered: int = 0
    """shoppers who fetched an admission token, ever"""
    reservations: int = 0
    """ever"""
    standby: int = 0
    """admitted shoppers who wait for units to come back"""
    wanted: tuple[int, ...] = ()
    """units of each SKU that they wait for, in the order of the drop's SKUs; empty when nobody ever waited"""
    units_reserved: int = 0
    """ever"""
    units_confirmed: int = 0
    units_expired: int = 0
    units_released: int = 0
    progress: tuple[tuple[int, int], ...] = ()
    """(time in ms, places called by then), every five seconds, oldest first"""
    journal_age_ms: int = 0
    """of the oldest reservation that is not in Postgres yet"""
    undecided_by_age: tuple[int, ...] = (0,) * 9
    """shoppers inside who have reserved nothing, by how long they have been inside"""
    chose_by_age: tuple[int, ...] = (0,) * 9
    """shoppers who reserved, ever, by how long they had been inside when they first did"""
    left_by_age: tuple[int, ...] = (0,) * 9
    """shoppers who left without having reserved, ever, by how long they had been inside; those whose slot lapsed are not in it"""
    live_by_age: tuple[int, ...] = (0,) * 9
    """reservations neither paid nor ended, by how long ago they were made"""
    paid_by_age: tuple[int, ...] = (0,) * 9
    """reservations paid, ever, by how long ago they had been made"""
    freed_by_age: tuple[int, ...] = (0,) * 9
    """reservations given back, ever, by how long ago they had been made; those that expired are not in it"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A drop at one instant, as the store answers it (`lua/include/snapshot.lua`)."""

    drop_id: str
    now_ms: int
    """the store's time of the picture"""
    state: DropState
    epoch: int
    joins_at_ms: int
    opens_at_ms: int
    closes_at_ms: int
    rate_per_min: int
    capacity: int
    joined: int
    """places given so far"""
    entries: int | None
    """people who had joined at the opening; None before it"""
    key: str
    """hex key of the draw once drawn, else empty"""
    serving_number: int
    admitted: int
    """shoppers who have fetched an admission token"""
    active: int
    """slots in use"""
    returning: int
    """served shoppers who wait for a slot again"""
    reservations_live: int
    overdue: int
    """live reservations past their expiry, for the reaper"""
    notice: str
    digest: str
    """of the definition; it changes when the definition does"""
    skus: dict[str, SkuStock]
    lines: tuple[LinePicture, ...] = ()
    flow: Flow = Flow()
    order: str = "arrival"
    drawn_at_ms: int = 0
    """0 before the draw"""
    leaving: int = 0
    """places given up before the draw whose turn has not been worked out yet"""
    joining_closed: bool = False
    signal_permille: int = 1000
    """what the storefront says it can take of the rate"""

    @property
    def undrawn(self) -> bool:
        """Whether the opening has fixed the entries and the draw is still to be made."""
        return self.order == "draw" and self.entries is not None and not self.key

    @property
    def sold_out(self) -> bool:
        """True when no unit is available or could come back."""
        return all(stock.available + stock.reserved == 0 for stock in self.skus.values())

    @classmethod
    def from_wire(cls, drop_id: str, now_ms: int, wire: list[Any]) -> Snapshot:
        """The snapshot in the order `lua/include/snapshot.lua` packs it."""
        (state, epoch, joins, opens, closes, rate, capacity, joined, entries, key, serving, admitted, *rest) = wire
        active, returning, live, overdue, notice, definition_digest, sku_wires, line_wires, flow, order, drawn_at_ms, *last = rest
        leaving, joining, signal = last
        skus = {sku: SkuStock(*units) for sku, *units in sku_wires}
        return cls(
            drop_id=drop_id,
            now_ms=now_ms,
            state=DropState(state),
            epoch=epoch,
            joins_at_ms=joins,
            opens_at_ms=opens,
            closes_at_ms=closes,
            rate_per_min=rate,
            capacity=capacity,
            joined=joined,
            entries=int(entries) if entries else None,
            key=key,
            serving_number=serving,
            admitted=admitted,
            active=active,
            returning=returning,
            reservations_live=live,
            overdue=overdue,
            notice=notice,
            digest=definition_digest,
            skus=skus,
            lines=tuple(
                LinePicture(group, share, there, None if fixed < 0 else fixed, number, line_key, root)
                for group, share, there, fixed, number, line_key, root in line_wires
            ),
            flow=_flow(flow, skus),
            order=order,
            drawn_at_ms=drawn_at_ms,
            leaving=leaving,
            joining_closed=joining == "closed",
            signal_permille=signal,
        )


def _flow(wire: list[Any], skus: dict[str, SkuStock]) -> Flow:
    by_age, by_delay, called, ended, entered, reservations, standby, reserved, expired, progress, journal_age_ms, parts, wanted = wire
    undecided, live, chose, left, paid, freed = map(tuple, parts)
    sold, held = sum(stock.sold for stock in skus.values()), sum(stock.reserved for stock in skus.values())
    return Flow(
        called_by_age=tuple(by_age),
        claims_by_delay=tuple(by_delay),
        called=called,
        sessions_ended=ended,
        entered=entered,
        reservations=reservations,
        standby=standby,
        wanted=tuple(wanted),
        units_reserved=reserved,
        units_confirmed=sold,
        units_expired=expired,
        units_released=max(0, reserved - expired - sold - held),
        progress=tuple((at_ms, by_then) for at_ms, by_then in progress),
        journal_age_ms=journal_age_ms,
        undecided_by_age=undecided,
        chose_by_age=chose,
        left_by_age=left,
        live_by_age=live,
        paid_by_age=paid,
        freed_by_age=freed,
    )


@dataclass(frozen=True, slots=True)
class BeatPlan:
    """What a beat is told (`lua/advance.lua`)."""

    rate_per_min: int = -1
    """places called a minute; negative for the drop's own"""
    weights_permille: tuple[int, ...] = ()
    """for each age of a call (`CALL_AGES_MS`), how many of a thousand will still come"""
    units_per_claim_permille: int = 0
    """units that a thousand who come take; 0 when nobody knows"""
    door: int = 0
    """people to call beyond the free slots"""
    sample: bytes = b""
    """the serving document, for the report"""
    stays_permille: tuple[int, ...] = ()
    """for each age of a stay (`PART_AGES`), how many of a thousand newcomers as many people inside who have not chosen stand for"""


_TICKET_LATER: tuple[Any, ...] = (0, 0, 0, "", 0, 0, 0, 0, 0, 0, {}, -1, "", "", "", 0)
"""what a ticket's record leaves out until there is something to say (`lua/include/ledger.lua`)"""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A shopper's record in one drop (`lua/include/ledger.lua`)."""

    ticket_id: str
    """the one whose place it is; a second device of the shopper has a ticket of its own"""
    number: int
    """the place given: order of joining in its line; with `late` it is the place in the queue"""
    late: bool
    joined_at_ms: int
    """0 when a loss has swallowed it"""
    token_id: str
    token_issued_at_ms: int
    token_expires_at_ms: int
    admitted_at_ms: int
    """first admission; 0 when never admitted"""
    reservations: int
    live: int
    units: int
    turn: int = -1
    """place in the queue by the draw, once the shopper was admitted by it; -1 otherwise"""
    gone: str = ""
    """why the place is not called any more: `left` or `removed`"""
    holder: str = ""
    """the ticket the place was handed to"""

    @classmethod
    def from_record(cls, ticket_id: str, record: Sequence[Any]) -> Ticket | None:
        """The ticket as the tickets hash holds it: as short as it can be read again. None for a second device's, which only
        names the ticket it belongs to.
        """
        if isinstance(record[0], str):
            return None
        return cls.from_wire((ticket_id, [*record, *_TICKET_LATER[len(record) :]]))

    @classmethod
    def from_wire(cls, wire: tuple[str, list[Any]]) -> Ticket:
        """The ticket as `inspect.lua` answers it."""
        ticket_id, (place, late, joined_at_ms, token_id, issued_at_ms, expires_at_ms, admitted_at_ms, *counters) = wire
        reservations, live, units, _held, turn, gone, holder, _identity, _shared = counters
        times = (joined_at_ms, token_id, issued_at_ms, expires_at_ms, admitted_at_ms)
        return cls(ticket_id, place, bool(late), *times, reservations, live, units, turn, gone, holder)


@dataclass(frozen=True, slots=True)
class Inspection:
    """One consistent look at a drop in the store."""

    snapshot: Snapshot
    definition: Drop
    stats: dict[str, int]
    """totals: reserved_units, expired_units, slots_lapsed, refused:<reason>, …"""
    journal_length: int
    tickets: tuple[Ticket | None, ...] = ()
    reservations: tuple[Reservation | None, ...] = ()

    @property
    def skus(self) -> dict[str, SkuStock]:
        """Units of each SKU."""
        return self.snapshot.skus

    @property
    def reservations_live(self) -> int:
        """Reservations not yet confirmed, released or expired."""
        return self.snapshot.reservations_live

    @property
    def now_ms(self) -> int:
        """The store's time."""
        return self.snapshot.now_ms

    @property
    def epoch(self) -> int:
        """The drop's epoch."""
        return self.snapshot.epoch

    @property
    def state(self) -> DropState:
        """The drop's state at that time."""
        return self.snapshot.state


class Place(msgspec.Struct, frozen=True):
    """A shopper's ticket: a place in the line of one drop."""

    ticket_id: str
    number: int
    """the place: order of joining in its line, from 0 (`line_of`, `number_of`)"""
    late: bool
    """joined after the opening: `number` is the queue number; otherwise it is the entry number"""
    joined_at_ms: int
    replayed: bool
    receipt: str
    """signed proof of the place, see `admission.receipts`"""


class Reservation(msgspec.Struct, frozen=True):
    """A shopper's temporary claim on units."""

    reservation_id: str
    drop_id: str
    ticket_id: str
    state: ReservationState
    items: tuple[tuple[str, int], ...]
    amount_minor: int
    reserved_at_ms: int
    expires_at_ms: int
    payment_reference: str = ""
    replayed: bool = False
    number: int = 0
    """queue number of the ticket"""
    receipt: str = ""
    """signed proof of the reservation, see `admission.receipts`; only with the answer to reserving"""

    @classmethod
    def from_wire(cls, reservation_id: str, wire: list[Any]) -> Reservation:
        """The record in the order `lua/include/ledger.lua` packs it."""
        state, ticket_id, number, items, amount_minor, reserved_at_ms, expires_at_ms, payment_reference, *_ = wire
        return cls(
            reservation_id=reservation_id,
            drop_id=reservation_id.rpartition(".")[0],
            ticket_id=ticket_id,
            state=ReservationState(state),
            items=tuple((sku, quantity) for sku, quantity in items),
            amount_minor=amount_minor,
            reserved_at_ms=reserved_at_ms,
            expires_at_ms=expires_at_ms,
            payment_reference=payment_reference,
            number=number,
        )


class Refused(msgspec.Struct, frozen=True):
    """An expected refusal. `outcome` is the word the script answered; `detail` is safe to show, and shared: nobody changes it."""

    outcome: StrEnum
    detail: dict[str, object] = {}


def digest(*parts: str) -> str:
    """22 base64url characters (128 bits) of SHA-256 over the length-prefixed `parts`."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode()
        hasher.update(b"%d:" % len(data))
        hasher.update(data)
    return base64.urlsafe_b64encode(hasher.digest()[:16]).decode().rstrip("=")


def ticket_id_of(drop_id: str, secret_hash: str) -> str:
    """The ticket a secret hash joins with: the same secret always has the same place."""
    return f"{drop_id}.t{digest('ticket', drop_id, secret_hash)}"


def reservation_id_of(ticket_id: str, idempotency_key: str) -> str:
    """The reservation a shopper's key stands for, so that a repeated request finds the first one's result."""
    drop_id = ticket_id.rpartition(".")[0]
    return f"{drop_id}.r{digest('reservation', ticket_id, idempotency_key)}"


def secret_hash_of(secret: str) -> str:
    """base64url SHA-256 (43 characters, no padding) of a shopper's secret, taken as the text that is sent."""
    return base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).decode().rstrip("=")
