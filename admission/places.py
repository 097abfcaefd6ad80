"""Where in the queue a place is served: what the draw makes of a place given before the opening. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from admission.draw import Draw
from flashsale.model import line_of, number_of, place_of

Draws = Sequence[Draw | None]
"""Of each line of a drop; None for one that is not drawn yet, or goes by arrival."""


class Turn(NamedTuple):
    """What a process knows of where a ticket is served: for the store, which knows the draw but does not work it out."""

    place: int = -1
    """the ticket's; -1 when this process does not know it"""
    queue_place: int = -1
    """where in the queue; -1 when this process knows no draw of the line"""
    mark: str = ""
    """of the draw it follows from"""


def turn_of(place: int, draws: Draws) -> Turn:
    """Where a place is served, as far as `draws` tell.

    A line that is not drawn here says nothing: in the store it may be drawn already, and then an entry number is no queue number.
    """
    at = line_of(place)
    draw = draws[at] if place >= 0 and at < len(draws) else None
    return Turn(place) if draw is None else Turn(place, queue_place(place, draws), draw.mark)


def queue_place(place: int, draws: Draws) -> int:
    """Where in the queue a place is served; itself for a late joiner and for a line that goes by arrival."""
    at = line_of(place)
    draw = draws[at] if at < len(draws) else None
    number = number_of(place)
    if draw is None or number >= draw.entries:
        return place
    return place_of(at, draw.queue_number(number))
