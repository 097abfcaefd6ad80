"""Places in the line as they are shown: the numbers they have, and what can be told of them. Pure."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import UNSET, Struct, UnsetType

from admission.inlet import LiveDrop
from admission.outlook import outlook
from admission.places import turn_of
from admission.serving import serving_document
from flashsale.model import Drop, DropState, Place, Snapshot, Ticket, line_of, number_of, place_of
from flashsale.settings import WaitingRoomSettings

_WAITING = frozenset({"waiting", "admitted"})
"""States of a ticket in which there is something to come for it."""


class TicketView(Struct, frozen=True):
    """A place given by a join."""

    ticket_id: str
    drop: str
    state: str
    joined_at_ms: int
    receipt: str
    serving_number: int
    opens_at_ms: int
    group: str | UnsetType = UNSET
    """only where there are groups; empty for everybody's line"""
    entry_number: int | UnsetType = UNSET
    queue_number: int | UnsetType = UNSET


class EtaView(Struct, frozen=True):
    """From the shortest to a cautious longest wait."""

    shortest_ms: int
    longest_ms: int


class PlaceView(Struct, frozen=True):
    """A place, looked up."""

    ticket_id: str
    drop: str
    state: str
    position: int
    serving_number: int
    opens_at_ms: int
    eta: EtaView | None
    chance: float | None
    group: str | UnsetType = UNSET
    """only where there are groups; empty for everybody's line"""
    entry_number: int | UnsetType = UNSET
    queue_number: int | UnsetType = UNSET


class _Numbers(NamedTuple):
    entry: int | UnsetType
    """order of joining before the opening"""
    queue: int | UnsetType
    """place in line, as far as it is known"""


def ticket_view(live: LiveDrop, place: Place) -> TicketView:
    """What a join is answered."""
    numbers = _numbers(live, place.number, late=place.late)
    return TicketView(
        ticket_id=place.ticket_id,
        drop=live.definition.drop_id,
        state="waiting",
        joined_at_ms=place.joined_at_ms,
        receipt=place.receipt,
        serving_number=_serving_number(live.snapshot, place.number),
        opens_at_ms=live.snapshot.opens_at_ms,
        group=_group(live.definition, place.number),
        entry_number=numbers.entry,
        queue_number=numbers.queue,
    )


def place_view(live: LiveDrop, snapshot: Snapshot, ticket: Ticket, ticket_id: str, room: WaitingRoomSettings) -> PlaceView:
    """What can be told of a place.

    Args:
        snapshot: the drop as it was when the ticket was looked up.
        ticket_id: the one that was asked for, which may have handed the place on.
    """
    numbers = _numbers(live, ticket.number, late=ticket.late)
    turn = ticket.number if numbers.queue is UNSET else place_of(line_of(ticket.number), numbers.queue)
    undrawn = snapshot.order == "draw" and numbers.queue is UNSET
    told = outlook(serving_document(snapshot, room), None if undrawn else turn, line=line_of(turn))
    state = _ticket_state(ticket, ticket_id, snapshot.state, snapshot.now_ms)
    waits = state in _WAITING
    return PlaceView(
        ticket_id=ticket_id,
        drop=snapshot.drop_id,
        state=state,
        position=max(0, number_of(turn) - _serving_number(snapshot, turn)),
        serving_number=_serving_number(snapshot, turn),
        opens_at_ms=snapshot.opens_at_ms,
        eta=EtaView(*told.eta_ms) if told.eta_ms is not None and waits else None,
        chance=told.chance if waits else None,
        group=_group(live.definition, turn),
        entry_number=numbers.entry,
        queue_number=numbers.queue,
    )


def _numbers(live: LiveDrop, place: int, *, late: bool) -> _Numbers:
    """The numbers of a place in its line."""
    number = number_of(place)
    if late:
        return _Numbers(UNSET, number)
    turn = turn_of(place, live.draws).queue_place
    return _Numbers(number, UNSET if turn < 0 else number_of(turn))


def _serving_number(snapshot: Snapshot, place: int) -> int:
    at = line_of(place)
    return snapshot.lines[at].serving_number if at < len(snapshot.lines) else snapshot.serving_number


def _group(drop: Drop, place: int) -> str | UnsetType:
    """The group whose line a place is in; unset where there are none."""
    if not drop.groups:
        return UNSET
    at = line_of(place)
    return drop.groups[at - 1].group_id if 1 <= at <= len(drop.groups) else ""


def _ticket_state(ticket: Ticket, ticket_id: str, state: DropState, now_ms: int) -> str:
    if ticket.gone:
        return ticket.gone
    if ticket.holder not in {"", ticket_id}:
        return "moved"
    if state is DropState.CLOSED:
        return "expired"
    return "admitted" if now_ms < ticket.token_expires_at_ms else "waiting"
