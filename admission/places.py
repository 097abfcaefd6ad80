"""Where in the queue a place is served: what the draw makes of a place given before the opening. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from admission.draw import Draw
from flashsale.model import line_of, number_of, place_of

Draws = Sequence[Draw | None]
"""Of each line of a drop; None for one that is not drawn yet, or goes by arrival."""


def draw_of(place: int, draws: Draws) -> Draw | None:
    """The draw of a place's line, as far as `draws` tell; None for a place that is not known (-1), too."""
    at = line_of(place)
    return draws[at] if 0 <= at < len(draws) else None


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
    draw = draw_of(place, draws)
    return Turn(place) if draw is None else Turn(place, queue_place(place, draws), draw.mark)


def queue_place(place: int, draws: Draws) -> int:
    """Where in the queue a place is served; itself for a late joiner and for a line that goes by arrival."""
    draw = draw_of(place, draws)
    number = number_of(place)
    if draw is None or number >= draw.entries:
        return place
    return place_of(line_of(place), draw.queue_number(number))
