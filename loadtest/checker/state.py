"""What the stores hold in the end: the other half of the evidence."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

FIRST_EPOCH = 1
"""A store of a later epoch was made anew from Postgres and has no records of what was over by then."""

Items = tuple[tuple[str, int], ...]


class SkuState(Struct, frozen=True):
    """One SKU, in the store and in Postgres."""

    sku: str
    price_minor: int
    limit_per_shopper: int
    allotment_first: int
    """units it was defined with"""
    allotment: int
    available: int
    reserved: int
    sold: int
    database_allotment: int
    database_sold: int


class ReservationRecord(Struct, frozen=True, gc=False):
    """A reservation as the store has it."""

    reservation_id: str
    ticket_id: str
    state: str
    items: Items
    amount_minor: int
    reserved_at_ms: int
    expires_at_ms: int
    payment_reference: str = ""


class OrderRow(Struct, frozen=True, gc=False):
    """An order as Postgres has it."""

    reservation_id: str
    ticket_id: str
    state: str
    items: Items
    amount_minor: int
    payment_reference: str = ""
    finished_at_ms: int = 0
    """when it stopped being pending, by the store's clock; 0 while it has not"""


class Refund(Struct, frozen=True, gc=False):
    """A payment that goes back."""

    reservation_id: str
    payment_reference: str
    amount_minor: int


class JournalStep(Struct, frozen=True, gc=False):
    """One transition of the journal."""

    kind: str
    reservation_id: str
    at_ms: int
    items: Items


class FinalState(Struct, frozen=True):
    """One drop after everything has come to rest."""

    drop_id: str
    now_ms: int
    """the store's time of the reading"""
    epoch: int
    limit_per_shopper: int
    skus: tuple[SkuState, ...]
    reservations: tuple[ReservationRecord, ...]
    orders: tuple[OrderRow, ...]
    refunds: tuple[Refund, ...]
    journal: tuple[JournalStep, ...] = ()
    """in its order; entries that were finished long ago are gone"""
    places: dict[str, int] = {}
    """ticket to place in line, of those who were admitted"""
    reservations_per_shopper_max: int = 20
    """who has made so many, whatever came of them, is refused for the limit"""

    def sku(self, name: str) -> SkuState | None:
        """The SKU called `name`."""
        return next((sku for sku in self.skus if sku.sku == name), None)


_decode = msgspec.json.Decoder(FinalState).decode


class StateBroken(ValueError):
    """The file is not a final state."""


def read_state(path: Path) -> FinalState:
    """The state in a file of `write_state`.

    Raises:
        StateBroken: it holds something else.
        OSError: the file cannot be read.
    """
    try:
        return _decode(path.read_bytes())
    except msgspec.MsgspecError as error:
        raise StateBroken(f"{path} does not hold the final state of a drop: {error}") from error


def write_state(path: Path, state: FinalState) -> None:
    """Keeps a state for later. Raises OSError."""
    path.write_bytes(msgspec.json.encode(state))
