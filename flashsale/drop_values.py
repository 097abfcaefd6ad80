"""The kinds of values in a drop file: each check answers the value as the service has it, or what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from flashsale.model import DROP_ID_RE, SKU_RE, Durability
from flashsale.storefront_urls import ORIGINS_MAX, RETURN_URLS_MAX, Address, address_of

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000

MEDIA_LENGTH_MAX = 500
PRICE_MINOR_MAX = 100_000_000_000
"""Ten lines of a thousand units at this price still add up exactly in Lua (below 2^53)."""
EXAMPLE_TIME = "opens_at = 2026-12-01T10:00:00+01:00"

ORDERS = ("draw", "arrival")
BEACONS = ("none", "drand", "file")
ASKED_FOR = ("none", "accepted", "required")
"""how a drop asks for an invite code or an identity"""

_GROUP_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_DURATION = re.compile(r"(?:\d+ *(?:ms|s|m|h|d) *)+")
_DURATION_PART = re.compile(r"(\d+) *(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}


class Wrong(NamedTuple):
    """Why a value cannot be used."""

    what: str
    todo: str
    """with an example of right"""


def drop_id(value: Any) -> str | Wrong:
    """A drop's id."""
    if isinstance(value, str) and DROP_ID_RE.fullmatch(value):
        return value
    return Wrong("It has to be 1 to 48 lower-case letters, digits and hyphens.", 'For example: id = "sneaker-x"')


def sku_id(value: Any) -> str | Wrong:
    """A SKU's id."""
    if isinstance(value, str) and SKU_RE.fullmatch(value):
        return value
    return Wrong("It has to be 1 to 64 letters, digits, dots, hyphens and underscores.", 'For example: id = "sneaker-x-42"')


def text_of(length_max: int, example: str, *, empty: bool = False, lines: bool = False) -> Callable[[Any], str | Wrong]:
    """Text for people."""

    def check(value: Any) -> str | Wrong:
        if not isinstance(value, str) or not (value.strip() or empty) or len(value) > length_max:
            return Wrong(f"It has to be text of {0 if empty else 1} to {length_max} characters.", f"For example: {example}")
        if not all(char.isprintable() or (lines and char == "\n") for char in value):
            return Wrong("It has characters that cannot be shown.", "Type the text anew.")
        return value.strip()

    return check


def currency(value: Any) -> str | Wrong:
    """A currency's code."""
    if isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value):
        return value
    return Wrong("It has to be a currency code of three capitals (ISO 4217).", 'For example: currency = "EUR"')


def whole(low: int, high: int, example: str) -> Callable[[Any], int | Wrong]:
    """A whole number from `low` to `high`."""

    def check(value: Any) -> int | Wrong:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        return Wrong(f"It has to be a whole number from {low:,} to {high:,}, without quotes.", f"For example: {example}")

    return check


def price(value: Any) -> int | Wrong:
    """An amount in minor units."""
    example = "price_minor = 12900 is 129.00 in a currency with cents."
    if isinstance(value, float):
        return Wrong("It is in the smallest unit of the currency, so it has no decimals.", example)
    return whole(0, PRICE_MINOR_MAX, example)(value)


def media(value: Any) -> str | Wrong:
    """The address of a picture, or nothing."""
    if value == "" or (isinstance(value, str) and len(value) <= MEDIA_LENGTH_MAX and re.fullmatch(r"https?://[!-~]+", value)):
        return str(value)
    return Wrong("It has to be the address of a picture.", 'For example: media = "https://shop.example/sneaker.webp"')


def origins(value: Any) -> tuple[str, ...] | Wrong:
    """Origins of pages, as browsers write them."""
    example = 'For example: origins = ["https://shop.example"]'
    found = _addresses(value, ORIGINS_MAX, "origins", example)
    if isinstance(found, Wrong):
        return found
    for text, address in zip(value, found, strict=True):
        if text != address.origin:
            return Wrong(f'"{text}" is not an origin as browsers write it.', f'Do you mean "{address.origin}"?')
    return tuple(dict.fromkeys(address.origin for address in found))


def return_urls(value: Any) -> tuple[str, ...] | Wrong:
    """Addresses of pages that shoppers are sent back to, each with all that is below."""
    example = 'For example: return_urls = ["https://shop.example/launch"]'
    found = _addresses(value, RETURN_URLS_MAX, "addresses", example)
    if isinstance(found, Wrong):
        return found
    for text, address in zip(value, found, strict=True):
        if address.query:
            return Wrong(f'"{text}" has a query.', "Leave it out: an address covers itself with any query, and what is below it.")
    return tuple(dict.fromkeys(map(str, found)))


def _addresses(value: Any, most: int, what: str, example: str) -> list[Address] | Wrong:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return Wrong(f"It has to be a list of {what}.", example)
    if len(value) > most:
        return Wrong(f"There are {len(value)}.", f"There can be {most} {what}.")
    found = [address_of(text) for text in value]
    for text, address in zip(value, found, strict=True):
        if address is None:
            return Wrong(
                f'"{text[:100]}" is not an address that starts with https:// (http:// only on this machine), without user and fragment.',
                example,
            )
    return [address for address in found if address is not None]


def durability(value: Any) -> str | Wrong:
    """How safe a reservation is before it is answered."""
    if value in list(Durability):
        return str(value)
    return Wrong('It has to be "second", "disk" or "replica".', 'For example: durability = "disk" (a reservation answered is on disk)')


def one_of(words: tuple[str, ...], example: str) -> Callable[[Any], str | Wrong]:
    """One of a few words."""

    def check(value: Any) -> str | Wrong:
        if isinstance(value, str) and value in words:
            return value
        *most, last = (f'"{word}"' for word in words)
        return Wrong(f"It has to be {', '.join(most)} or {last}.", f"For example: {example}")

    return check


def group_id(value: Any) -> str | Wrong:
    """A priority group's id."""
    if isinstance(value, str) and _GROUP_ID.fullmatch(value):
        return value
    return Wrong("It has to be 1 to 32 lower-case letters, digits and hyphens.", 'For example: id = "vip"')


def share_permille(value: Any) -> int | Wrong:
    """A part of a whole, in thousandths."""
    permille = round(value * 1000) if isinstance(value, int | float) and 0 < value < 1 else 0
    if permille and abs(value * 1000 - permille) < 1e-6:
        return permille
    return Wrong("It has to be a part of 1 with at most three decimals, more than 0.", "For example: share = 0.2 (a fifth)")


def duration(low_ms: int, high_ms: int, example: str) -> Callable[[Any], int | Wrong]:
    """A length of time in ms."""

    def check(value: Any) -> int | Wrong:
        milliseconds = milliseconds_of(value) if isinstance(value, str) else None
        if milliseconds is None:
            what = "It needs a unit (ms, s, m, h or d) and quotes." if isinstance(value, int | float) else "It is not a duration."
            return Wrong(what, f'For example: "{example}" or "90s"')
        if not low_ms <= milliseconds <= high_ms:
            return Wrong(f"It has to be from {low_ms // 1000} s to {high_ms // MINUTE_MS} min.", f'For example: "{example}"')
        return milliseconds

    return check


def milliseconds_of(text: str) -> int | None:
    """The duration `text` says, for example `1h 30m`; None when it is none."""
    if not _DURATION.fullmatch(text.strip()):
        return None
    return sum(int(number) * _UNIT_MS[unit] for number, unit in _DURATION_PART.findall(text))


def moment(now_ms: int) -> Callable[[Any], int | Wrong]:
    """A time in ms since the epoch; text may count from `now_ms`."""

    def check(value: Any) -> int | Wrong:
        if isinstance(value, str) and value.startswith("in "):
            ahead_ms = milliseconds_of(value[3:])
            return Wrong("It is not a time from now.", 'For example: "in 30s" or "in 10m"') if ahead_ms is None else now_ms + ahead_ms
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                return Wrong("It is not a time.", f'For example: {EXAMPLE_TIME}, or "in 30s" to try things out')
        if not isinstance(value, datetime):
            return Wrong("It has to be a date and a time with a zone.", f"For example: {EXAMPLE_TIME}")
        if value.tzinfo is None:
            return Wrong("It has no zone, so nobody can tell when it is.", f"For example: {EXAMPLE_TIME}, or with Z at the end for UTC")
        return int(value.timestamp() * 1000)

    return check
