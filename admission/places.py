"""Where in the queue a place is served: what the draw makes of a place given before the opening. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from admission.draw import Draw
from flashsale.model import line_of, number_of, place_of

Draws = Sequence[Draw | None]
"""Of each line of a drop; None for one that is not drawn yet, or goes by arrival."""


def queue_place(place: int, draws: Draws) -> int:
    """Where in the queue a place is served; itself for a late joiner and for a line that goes by arrival."""
    at = line_of(place)
    draw = draws[at] if at < len(draws) else None
    number = number_of(place)
    if draw is None or number >= draw.entries:
        return place
    return place_of(at, draw.queue_number(number))
