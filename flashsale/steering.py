"""What a merchant may tell a drop that is on, and how it has to look. No input or output."""

from __future__ import annotations

from flashsale.errors import BadInput

MESSAGE_LENGTH_MAX = 200
WHY_LENGTH_MAX = 80
SIGNAL_TTL_MAX_S = 3600
"""a storefront that has gone away must not hold a drop back for ever"""


def checked_message(text: str) -> str:
    """A message to the waiting; an empty one takes the last one back.

    Raises:
        BadInput: it is too long, or has characters that cannot be shown.
    """
    return _checked(text.strip(), MESSAGE_LENGTH_MAX, "message", "A message")


def checked_why(text: str) -> str:
    """Why a place is taken away; it stands in the admission log, so it names nobody.

    Raises:
        BadInput: it is empty or too long, or has characters that cannot be shown.
    """
    why = _checked(text.strip(), WHY_LENGTH_MAX, "why", "A reason")
    if not why:
        raise BadInput(what="A place is not taken away without a reason.", todo="Say why in a few words.", field="why")
    return why


def permille_of(factor: float) -> int:
    """A part of 1 in thousandths.

    Raises:
        BadInput: it is not from 0 to 1.
    """
    if not 0 <= factor <= 1:
        raise BadInput(what="The factor is a part of the drop's rate, from 0 to 1.", field="factor")
    return round(factor * 1000)


def _checked(text: str, length_max: int, field: str, what: str) -> str:
    if len(text) > length_max:
        raise BadInput(what=f"{what} has at most {length_max} characters.", field=field)
    if not text.isprintable():
        raise BadInput(what=f"{what} is one line of text that can be shown.", field=field)
    return text
