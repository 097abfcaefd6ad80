"""Invite codes that need no table. Pure: no input or output.

A code carries what it permits and a MAC, so a million of them cost nothing to keep: the store only counts how often each
was used. 125 bits, as 25 characters of Crockford's base 32 in five groups:

    48 bits   id, random
     3 bits   line: 0, or the priority group whose line it leads to
    10 bits   uses, less one
    64 bits   HMAC-SHA256 over "drop id ‖ 0x00 ‖ the 61 bits above", truncated

The key of the MAC is derived (HKDF, RFC 5869) from a receipt key, so codes outlive a rotation as receipts do, and a code
of one drop is none of another's.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from admission.tokens import SigningKey, SigningKeySet, b64decode, b64encode

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no I, L, O or U"""
SYMBOLS = 25
GROUP_SYMBOLS = 5
CODE_LENGTH_MAX = 64
"""characters looked at, with whatever stands between the symbols"""
USES_MAX = 1_000
LINES_MAX = 8
CODES_MAX = 100_000
"""made in one call"""

_ID_BYTES, _MAC_BYTES, _BITS_BEFORE_MAC = 6, 8, 61
_KEY_CONTEXT = b"flashsale-invite-codes/1"
_VALUES = {symbol: value for value, symbol in enumerate(ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_BETWEEN = str.maketrans("", "", " -\t\n\r\u00a0\u2010\u2011\u2012\u2013")
"""What people and their programs put between the symbols."""


class InviteClaim(NamedTuple):
    """What a genuine code permits; how often it was used is for the store to say."""

    code_id: str
    """48 random bits, 8 base64url characters: the store counts by it"""
    uses_max: int
    line: int
    """0, or the number of a priority group's line"""


class InviteCodes:
    """Makes codes, and tells ours from others."""

    def __init__(self, keys: SigningKeySet) -> None:
        """Put it together.

        Raises:
            ValueError: there is no active receipt key.
        """
        self._making = _mac_key(keys.active("receipt"))
        self._reading = [_mac_key(key) for key in keys.keys if key.purpose == "receipt"]

    def make_codes(self, drop_id: str, count: int, *, uses_max: int = 1, line: int = 0) -> list[str]:
        """`count` fresh codes for a drop, all different.

        Raises:
            ValueError: more than CODES_MAX are asked for, uses are not 1 to USES_MAX, or there is no such line.
        """
        if not 1 <= count <= CODES_MAX or not 1 <= uses_max <= USES_MAX or not 0 <= line < LINES_MAX:
            raise ValueError(f"1 to {CODES_MAX} codes of 1 to {USES_MAX} uses, for a line below {LINES_MAX}")
        ids: set[bytes] = set()
        while len(ids) < count:
            ids.add(secrets.token_bytes(_ID_BYTES))
        return [self._code(drop_id, int.from_bytes(one, "big"), uses_max, line) for one in ids]

    def read_code(self, drop_id: str, code: str) -> InviteClaim | None:
        """What a code permits in a drop, or None when it is none of this service's for this drop.

        Capitals make no difference, nor do hyphens and spaces; O is read as 0, I and L as 1.
        """
        number = _number(code)
        if number is None:
            return None
        claims, mac = number >> 64, (number & 2**64 - 1).to_bytes(_MAC_BYTES, "big")
        # Every key is tried, so the time taken does not tell which one a code was made with.
        if not any([hmac.compare_digest(mac, _mac(key, drop_id, claims)) for key in self._reading]):  # noqa: C419
            return None
        uses_max = (claims & 0x3FF) + 1
        if uses_max > USES_MAX:
            return None
        return InviteClaim(b64encode((claims >> 13).to_bytes(_ID_BYTES, "big")), uses_max, claims >> 10 & 7)

    def _code(self, drop_id: str, code_id: int, uses_max: int, line: int) -> str:
        claims = code_id << 13 | line << 10 | uses_max - 1
        number = claims << 64 | int.from_bytes(_mac(self._making, drop_id, claims), "big")
        return _grouped(ALPHABET[number >> 5 * place & 31] for place in reversed(range(SYMBOLS)))


def _mac_key(key: SigningKey) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=_KEY_CONTEXT).derive(b64decode(key.d))


def _mac(key: bytes, drop_id: str, claims: int) -> bytes:
    covered = drop_id.encode() + b"\x00" + claims.to_bytes((_BITS_BEFORE_MAC + 7) // 8, "big")
    return hmac.digest(key, covered, hashlib.sha256)[:_MAC_BYTES]


def _number(code: str) -> int | None:
    """The 125 bits of a code as somebody wrote it."""
    if len(code) > CODE_LENGTH_MAX:
        return None
    symbols = code.translate(_BETWEEN).upper()
    if len(symbols) != SYMBOLS or not symbols.isascii():
        return None
    number = 0
    for symbol in symbols:
        value = _VALUES.get(symbol)
        if value is None:
            return None
        number = number << 5 | value
    return number


def _grouped(symbols: Iterable[str]) -> str:
    text = "".join(symbols)
    return "-".join(text[start : start + GROUP_SYMBOLS] for start in range(0, SYMBOLS, GROUP_SYMBOLS))
