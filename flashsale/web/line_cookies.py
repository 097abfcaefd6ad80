"""What a browser without JavaScript keeps between pages of the line: one cookie that no script can read and no other page sends."""

from __future__ import annotations

import re
import secrets

from aiohttp import web
from msgspec import Struct

COOKIE = "flashsale-line"
RECEIPT_LENGTH_MAX = 3_500
"""A browser keeps about four thousand characters in a cookie; a place is kept without its receipt as well."""
KEPT_AFTER_CLOSE_S = 86_400

_VALUE = re.compile(r"(?P<secret>[A-Za-z0-9_-]{16,128})\.(?P<key>[A-Za-z0-9_-]{8,64})\.(?P<receipt>[A-Za-z0-9_.-]*)")


class Kept(Struct, frozen=True):
    """The shopper's own."""

    secret: str = ""
    """whose hash joins; the ticket's id follows from it. Kept before the joining, so that a join repeated is the same place"""
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
    found = _VALUE.fullmatch(request.cookies.get(COOKIE, ""))
    return Kept() if found is None else Kept(**found.groupdict())


def keep(answer: web.Response, kept: Kept, *, path: str, max_age_s: int, secure: bool) -> None:
    """Lets the browser keep it, for pages under `path`."""
    receipt = kept.receipt if len(kept.receipt) <= RECEIPT_LENGTH_MAX else ""
    # Lax, so that a shopper who comes by a link from the shop is known; what changes something is told apart by its origin.
    answer.set_cookie(
        COOKIE,
        f"{kept.secret}.{kept.key}.{receipt}",
        path=path,
        max_age=max_age_s,
        secure=secure,
        httponly=True,
        samesite="Lax",
    )
