"""Journal entries as the scripts write them, read strictly and without input or output.

Entry of transitions: `v`=`1`, `epoch`, `e`=msgpack array of transitions. Entry of a drop event: `v`=`1`, `d`=msgpack
`[state, at_ms]`. Entry of a draw: `v`=`1`, `w`=msgpack `[at_ms, lines, beacon]`. Anything else is unreadable here. An entry
of a later version waits for a reconciler of that release, as during a rolling upgrade; what nobody will ever read is for the
dead-letter stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from flashsale.model import QUANTITY_MAX, DropState, Transition

VERSION = b"1"
VERSION_DIGITS_MAX = 4
INTEGER_MAX = 2**53
"""Past it Lua's numbers lose bits, so no honest entry holds a larger one."""
TEXT_LENGTH_MAX = 128
ITEMS_MAX = 50

_Text = Annotated[str, Meta(max_length=TEXT_LENGTH_MAX)]
_Natural = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
_Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]


class ReservationTransition(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One transition of one reservation, self-contained: an order can be made from any of them alone.

    Decoding straight into this checks every type and range in C and is faster than decoding into lists.
    """

    kind: Transition
    reservation_id: _Text
    at_ms: _Natural
    request_id: _Text
    ticket_id: _Text
    queue_number: _Natural
    items: Annotated[tuple[tuple[_Text, _Quantity], ...], Meta(min_length=1, max_length=ITEMS_MAX)]
    """(SKU, quantity), each SKU once"""
    amount_minor: _Natural
    reserved_at_ms: _Natural
    expires_at_ms: _Natural
    payment_reference: _Text
    """empty when none"""
    reason: _Text
    """empty when none"""


class StockChange(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The allotment of a SKU changed."""

    change_id: _Text
    """the merchant's adjustment, or `drain:…` for units withdrawn when a reservation ended; counts once"""
    sku: _Text
    delta: Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
    allotment: _Natural
    """the store's, after the change"""
    at_ms: _Natural
    reason: _Text
    """added, withdrawn or drained"""


class DropEvent(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A drop changed its state."""

    state: DropState
    at_ms: _Natural


class DrawnLine(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What one line of a drop drew."""

    group: _Text
    entries: _Natural
    root: _Text
    key: _Text


class Drawn(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The draw of a drop was made."""

    at_ms: _Natural
    lines: Annotated[tuple[DrawnLine, ...], Meta(min_length=1, max_length=8)]
    beacon: dict[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry, understood."""

    entry_id: str
    sequence: int = 0
    """the drop's count of changes when this one was made"""
    epoch: int = 0
    """the drop's epoch then; 0 when it is not told, as of a state"""
    transitions: tuple[ReservationTransition, ...] = ()
    stock_changes: tuple[StockChange, ...] = ()
    event: DropEvent | None = None
    drawn: Drawn | None = None


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """One journal entry this version does not understand."""

    entry_id: str
    why: str
    later_version: bool = False
    """another release can read it"""


_TRANSITIONS = msgspec.msgpack.Decoder(tuple[ReservationTransition, ...])
_STOCK_CHANGES = msgspec.msgpack.Decoder(tuple[StockChange, ...])
_EVENT = msgspec.msgpack.Decoder(DropEvent)
_DRAWN = msgspec.msgpack.Decoder(Drawn)
_KINDS = (b"e", b"a", b"d", b"w")


def read_entry(entry_id: str, fields: Mapping[bytes, bytes]) -> Entry | UnreadableEntry:
    """What the entry says, or why it cannot be read."""
    version = fields.get(b"v")
    if version != VERSION:
        return UnreadableEntry(entry_id, f"version {version!r} is not known", later_version=_is_later(version))
    if not any(kind in fields for kind in _KINDS):
        return UnreadableEntry(entry_id, "neither transitions nor stock changes nor an event nor a draw")
    try:
        return Entry(
            entry_id,
            sequence=_natural(fields.get(b"s", b"0")),
            epoch=_natural(fields.get(b"epoch", b"0")),
            transitions=_TRANSITIONS.decode(fields[b"e"]) if b"e" in fields else (),
            stock_changes=_STOCK_CHANGES.decode(fields[b"a"]) if b"a" in fields else (),
            event=_EVENT.decode(fields[b"d"]) if b"d" in fields else None,
            drawn=_DRAWN.decode(fields[b"w"]) if b"w" in fields else None,
        )
    except (msgspec.DecodeError, ValueError) as error:
        return UnreadableEntry(entry_id, str(error))


def _is_later(version: bytes | None) -> bool:
    return version is not None and version.isdigit() and len(version) <= VERSION_DIGITS_MAX and int(version) > int(VERSION)


def sequence_of(fields: Mapping[bytes, bytes]) -> int:
    """The entry's sequence; 0 when it has none, or none that can be read."""
    try:
        return _natural(fields.get(b"s", b"0"))
    except ValueError:
        return 0


def _natural(text: bytes) -> int:
    number = int(text)
    if not 0 <= number <= INTEGER_MAX:
        raise ValueError(f"the number {number} is out of range")
    return number
