"""What a browser without JavaScript keeps between pages of the line: two cookies that no script can read and no other page sends."""

from __future__ import annotations

import re
import secrets

from aiohttp import web
from msgspec import Struct

PLACE, RECEIPT = "flashsale-place", "flashsale-receipt"
RECEIPT_KEPT_MAX = 3_500
"""characters; a browser keeps about four thousand in a cookie, and a place is kept without its receipt as well"""
KEPT_AFTER_CLOSE_S = 86_400

_PLACE = re.compile(r"([A-Za-z0-9_-]{16,128})\.([A-Za-z0-9_-]{8,64})")
_RECEIPT = re.compile(r"[A-Za-z0-9_.-]+")


class Kept(Struct, frozen=True):
    """The shopper's own."""

    secret: str = ""
    """whose hash joined; the ticket's id follows from it. Empty: no place yet"""
    key: str = ""
    """Idempotency-Key of the reservation that is being made, or was made last"""
    receipt: str = ""


def make_key() -> str:
    """A key for one attempt to reserve."""
    return secrets.token_urlsafe(12)


def make_kept(secret: str = "") -> Kept:
    """What a new place needs."""
    return Kept(secret or secrets.token_urlsafe(24), make_key())


def kept_by(request: web.Request) -> Kept:
    """What the browser has kept; nothing where that is not what was given to it."""
    place = _PLACE.fullmatch(request.cookies.get(PLACE, ""))
    if place is None:
        return Kept()
    receipt = request.cookies.get(RECEIPT, "")
    return Kept(place[1], place[2], receipt if _RECEIPT.fullmatch(receipt) else "")


def keep(request: web.Request, answer: web.Response, kept: Kept, *, path: str, max_age_s: int, secure: bool) -> None:
    """Lets the browser that sent `request` keep it, for pages under `path`, and nothing of before."""
    values = {PLACE: f"{kept.secret}.{kept.key}", RECEIPT: kept.receipt if len(kept.receipt) <= RECEIPT_KEPT_MAX else ""}
    # Lax, so that a shopper who comes by a link from the shop is known; what changes something is told apart by its origin.
    for name, value in values.items():
        if value:
            answer.set_cookie(name, value, path=path, max_age=max_age_s, secure=secure, httponly=True, samesite="Lax")
        elif name in request.cookies:
            answer.del_cookie(name, path=path, secure=secure, httponly=True, samesite="Lax")
