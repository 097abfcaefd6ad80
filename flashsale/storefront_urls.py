"""Addresses of storefronts: exact origins, and the pages shoppers may be sent back to. Pure.

An address is taken apart by one strict pattern and put together again. What browsers and servers read in different ways (a user's
name, a backslash, `..` in any spelling, an encoded slash) is refused rather than repaired.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

URL_LENGTH_MAX = 2_000
ORIGINS_MAX = 20
RETURN_URLS_MAX = 20

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = rf"(?:{_LABEL}\.)*{_LABEL}|\[[0-9a-f:.]{{2,45}}\]"
_CHARACTERS = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*"
_ADDRESS = re.compile(
    rf"(?P<scheme>(?i:https?))://(?P<host>(?i:{_HOST}))(?::(?P<port>[1-9][0-9]{{0,4}}))?"
    rf"(?P<path>/{_CHARACTERS})?(?P<query>\?(?:{_CHARACTERS}|\?)*)?",
    re.ASCII,  # else (?i:s) and (?i:k) are also the long s and the Kelvin sign
)
_DEFAULT_PORTS = {"https": "443", "http": "80"}
_HERE = re.compile(r"localhost|.*\.localhost|127\.0\.0\.1|\[::1\]")
_ENCODED_SLASHES = ("%2f", "%5c")


class Address(NamedTuple):
    """An address, taken apart."""

    origin: str
    """as browsers write it in the `Origin` header: no default port, small letters"""
    path: str
    """begins with a slash"""
    query: str
    """with its question mark, or empty"""

    def __str__(self) -> str:
        return self.origin + self.path + self.query


def address_of(text: str) -> Address | None:
    """The address `text` is, or None when it is none that a shopper may be sent to.

    It begins with https, or with http on the reader's own machine, where pages are tried out; and it has no fragment, for that
    is where the admission token goes.
    """
    found = _ADDRESS.fullmatch(text) if len(text) <= URL_LENGTH_MAX else None
    if found is None:
        return None
    scheme, host, port, path = found["scheme"].lower(), found["host"].lower(), found["port"], found["path"] or "/"
    if (scheme == "http" and not _HERE.fullmatch(host)) or not _is_plain(path):
        return None
    suffix = "" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}"
    return Address(f"{scheme}://{host}{suffix}", path, found["query"] or "")


def _is_plain(path: str) -> bool:
    """Whether everybody who reads the path ends up in the same folder."""
    folded = path.lower()
    names = (segment.replace("%2e", ".").partition(";")[0] for segment in folded.split("/"))
    return not any(slash in folded for slash in _ENCODED_SLASHES) and not any(name in {".", ".."} for name in names)


def return_address(text: str, return_urls: Iterable[str]) -> Address | None:
    """The page to send a shopper back to, when one of `return_urls` covers it: the same origin, and its path or one below."""
    address = address_of(text)
    if address is None:
        return None
    return address if any(_covers(allowed, address) for allowed in map(address_of, return_urls) if allowed is not None) else None


def _covers(allowed: Address, address: Address) -> bool:
    if address.origin != allowed.origin:
        return False
    return address.path == allowed.path or address.path.startswith(allowed.path.rstrip("/") + "/")
