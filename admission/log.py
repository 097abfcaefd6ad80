"""The admission log: every event of a line in one append-only stream, chained by hashes, its head signed. Pure.

Nobody can take an entry out, change one or put one in between without the head changing: h_0 = SHA-256(drop id),
h_i = SHA-256(h_{i-1} ‖ canonical bytes of entry i). The canonical bytes are JSON without spaces,

    [id, [field, value], [field, value], …]

in the order of the stream. Text of printable ASCII stands as it is; any other value is {"b64": its base64url}.

The head is signed with the receipt key: Ed25519 over `"flashsale-admission-log" ‖ 0x00 ‖ JSON of [drop, entries, head, at_ms,
kid]`, where head is lower-case hex.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from admission.tokens import SigningKeySet, b64decode, b64encode

LOG_CONTEXT = b"flashsale-admission-log\x00"
AT_MS_MAX = 2**53
PLACE_MAX = 2**53
UNKNOWN_WAIT_MS = -1
WHY_LENGTH_MAX = 128


class Entry(NamedTuple):
    """An entry of the stream `served`."""

    entry_id: str
    fields: tuple[tuple[bytes, bytes], ...]


class LogHead(NamedTuple):
    """How far the log goes, and the hash that stands for all of it."""

    entries: int
    head: bytes
    """32 bytes"""
    last_id: str
    """id of the last entry in the stream; `0-0` before the first"""


def first_head(drop_id: str) -> LogHead:
    """The head of a drop's log before its first entry."""
    return LogHead(0, hashlib.sha256(drop_id.encode()).digest(), "0-0")


def canonical(entry: Entry) -> bytes:
    """The bytes of an entry that go into the chain."""
    return msgspec.json.encode([entry.entry_id, *([_spelled(name), _spelled(value)] for name, value in entry.fields)])


def _spelled(value: bytes) -> str | dict[str, str]:
    text = value.decode("latin-1")
    return text if text.isascii() and text.isprintable() else {"b64": b64encode(value)}


def extend(head: LogHead, entries: Iterable[Entry]) -> LogHead:
    """The head after further entries."""
    count, digest, last_id = head
    for entry in entries:
        digest = hashlib.sha256(digest + canonical(entry)).digest()
        count, last_id = count + 1, entry.entry_id
    return LogHead(count, digest, last_id)


# ----------------------------------------------------------------------------------------------------------------- signing


class SignedHead(msgspec.Struct, frozen=True):
    """The member `log` of a fairness document."""

    entries: int
    head: str
    """hex of the hash after that many entries"""
    at_ms: int
    """when it was signed, by the store's clock"""
    kid: str
    """the receipt key that signed it, by its name in `/.well-known/jwks.json`"""
    signature: str
    """base64url"""


class HeadSigner:
    """Signs heads with the receipt key."""

    def __init__(self, keys: SigningKeySet) -> None:
        key = keys.active("receipt")
        self._private = key.private()
        self._kid = key.kid

    def sign(self, drop_id: str, head: LogHead, at_ms: int) -> SignedHead:
        """The head as anybody can check it."""
        digest = head.head.hex()
        statement = _statement(drop_id, head.entries, digest, at_ms, self._kid)
        return SignedHead(head.entries, digest, at_ms, self._kid, b64encode(self._private.sign(statement)))


def verify_head(drop_id: str, signed: SignedHead, public_keys: Mapping[str, Ed25519PublicKey]) -> None:
    """Returns when the service has signed this head of this drop's log.

    Args:
        drop_id: whose log.
        signed: the head.
        public_keys: receipt keys by `kid`, as in `admission.receipts.ReceiptVerifier`.

    Raises:
        ValueError: it has not; says what is wrong.
    """
    public = public_keys.get(signed.kid)
    if public is None:
        raise ValueError("the log's head names a key that is not one of the service's receipt keys")
    try:
        public.verify(b64decode(signed.signature), _statement(drop_id, signed.entries, signed.head, signed.at_ms, signed.kid))
    except (ValueError, InvalidSignature):
        raise ValueError("the signature of the log's head does not match: it was changed or is not from this service") from None


def _statement(drop_id: str, entries: int, head: str, at_ms: int, kid: str) -> bytes:
    return LOG_CONTEXT + msgspec.json.encode([drop_id, entries, head, at_ms, kid])


# ------------------------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Called:
    """The serving number of a line passed these places."""

    at_ms: int
    start: int
    """the first place"""
    stop: int
    """the place after the last one"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Called shoppers fetched their admission tokens."""

    at_ms: int
    places: tuple[int, ...]
    waits_ms: tuple[int, ...]
    """of each place, from the call; -1 of who came before, found no slot, and is let in now"""


@dataclass(frozen=True, slots=True)
class Returned:
    """Called shoppers who had found no slot were called again, from the head of the line."""

    at_ms: int
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """Shoppers gave up their places."""

    at_ms: int
    places: tuple[int, ...]
    undrawn: bool = False
    """before the draw: the places are entries, whose turns it made later"""


@dataclass(frozen=True, slots=True)
class Removed:
    """The merchant took places away."""

    at_ms: int
    places: tuple[int, ...]
    why: str
    undrawn: bool = False
    """as of `Left`"""


@dataclass(frozen=True, slots=True)
class Cut:
    """From these places on, one for each line concerned, there was nothing left."""

    at_ms: int
    places: tuple[int, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """An entry this release cannot read. It is in the chain all the same."""

    kind: str


Event: TypeAlias = Called | Claimed | Returned | Left | Removed | Cut | Unknown

_decode_numbers = msgspec.msgpack.Decoder(tuple[int, ...]).decode


def event_of(entry: Entry) -> Event:
    """What an entry says; `Unknown` when it cannot be read."""
    fields = dict(entry.fields)
    kind = _text(fields.get(b"k", b""))
    try:
        return _called(fields) if not kind else _event(kind, fields)
    except (KeyError, ValueError, msgspec.MsgspecError):
        return Unknown(kind or "?")


def _called(fields: Mapping[bytes, bytes]) -> Called:
    start, stop = _whole(fields[b"from"], PLACE_MAX), _whole(fields[b"to"], PLACE_MAX)
    if start >= stop:
        raise ValueError("nobody was called")
    return Called(_at_ms(fields), start, stop)


def _event(kind: str, fields: Mapping[bytes, bytes]) -> Event:
    at_ms, places = _at_ms(fields), _numbers(fields[b"p"])
    match kind:
        case "claimed":
            waits_ms = _numbers(fields[b"w"], low=UNKNOWN_WAIT_MS)
            if len(waits_ms) != len(places):
                raise ValueError("each claim has its wait")
            return Claimed(at_ms, places, waits_ms)
        case "returned":
            return Returned(at_ms, places)
        case "left":
            return Left(at_ms, places, _undrawn(fields))
        case "removed":
            return Removed(at_ms, places, _text(fields.get(b"why", b"")), _undrawn(fields))
        case "cut":
            return Cut(at_ms, places, _text(fields.get(b"why", b"")))
        case _:
            return Unknown(kind)


def _undrawn(fields: Mapping[bytes, bytes]) -> bool:
    return fields.get(b"entry") == b"1"


def _at_ms(fields: Mapping[bytes, bytes]) -> int:
    return _whole(fields[b"at_ms"], AT_MS_MAX)


def _whole(value: bytes, most: int) -> int:
    number = int(value)
    if not 0 <= number <= most:
        raise ValueError("out of range")
    return number


def _numbers(packed: bytes, low: int = 0) -> tuple[int, ...]:
    numbers = _decode_numbers(packed)
    if numbers and not low <= min(numbers) <= max(numbers) <= PLACE_MAX:
        raise ValueError("out of range")
    return numbers


def _text(value: bytes) -> str:
    return value[:WHY_LENGTH_MAX].decode("utf-8", "replace")
