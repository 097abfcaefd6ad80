"""The words of the domain as types. No input or output here."""

from __future__ import annotations

import base64
import hashlib
import re
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
    NOT_OPEN = "not_open"
    CLOSED = "closed"
    SOLD_OUT = "sold_out"
    ROOM_FULL = "room_full"
    TICKET_INVALID = "ticket_invalid"
    RECOVERING = "recovering"


class AdmitOutcome(StrEnum):
    """Answers of `admit.lua`."""

    ADMITTED = "admitted"
    REPLAYED = "replayed"
    NOT_YET = "not_yet"
    NOT_OPEN = "not_open"
    PAUSED = "paused"
    CLOSED = "closed"
    SOLD_OUT = "sold_out"
    TICKET_INVALID = "ticket_invalid"
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


@dataclass(frozen=True, slots=True)
class SkuStock:
    """Where the units of one SKU are. They always sum to the allotment."""

    allotment: int
    available: int
    reserved: int
    sold: int
    draining: int = 0
    """units of the allotment that are withdrawn as reservations end unpaid"""


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

    @property
    def sold_out(self) -> bool:
        """True when no unit is available or could come back."""
        return all(stock.available + stock.reserved == 0 for stock in self.skus.values())

    @classmethod
    def from_wire(cls, drop_id: str, now_ms: int, wire: list[Any]) -> Snapshot:
        """The snapshot in the order `lua/include/snapshot.lua` packs it."""
        (state, epoch, joins, opens, closes, rate, capacity, joined, entries, key, serving, admitted, *rest) = wire
        active, returning, live, overdue, notice, definition_digest, skus = rest
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
            skus={sku: SkuStock(*units) for sku, *units in skus},
        )


@dataclass(frozen=True, slots=True)
class Ticket:
    """A shopper's record in one drop (`lua/include/ledger.lua`)."""

    ticket_id: str
    number: int
    late: bool
    secret_hash: str
    joined_at_ms: int
    token_id: str
    token_issued_at_ms: int
    token_expires_at_ms: int
    admitted_at_ms: int
    """first admission; 0 when never admitted"""
    reservations: int
    live: int
    units: int

    @classmethod
    def from_wire(cls, ticket_id: str, wire: list[Any]) -> Ticket:
        """The record in the order `lua/include/ledger.lua` packs it."""
        number, late, *rest = wire[:11]
        return cls(ticket_id, number, bool(late), *rest)


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
    """order of joining, from 0"""
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
