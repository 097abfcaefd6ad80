"""What goes over a wire, message by message, so that a fault can strike at one of them.

A dialogue follows one connection in both directions. It cuts the bytes into messages without changing any, and knows of each
reply which request it answers. Formats: https://redis.io/docs/latest/develop/reference/protocol-spec/ and
https://www.postgresql.org/docs/current/protocol-message-formats.html.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

MESSAGE_BYTES_MAX = 64_000_000
"""One message is held in memory while it is incomplete; a longer one ends the connection."""
OPEN_REQUESTS_MAX = 100_000

_CRLF = b"\r\n"


class Side(StrEnum):
    """A direction of a connection."""

    REQUESTS = "requests"
    """from our process to the server"""
    REPLIES = "replies"


class NotUnderstood(Exception):
    """The bytes are not what this dialogue reads, or more than it keeps."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message on a wire."""

    raw: bytes
    kind: str = ""
    """a RESP command's name in capitals, or the name of the Postgres message; empty for a RESP reply"""
    words: tuple[bytes, ...] = ()
    """all words of a RESP command"""
    text: str = ""
    """Postgres: the statement it belongs to; for CommandComplete the server's word, for example `UPDATE 3`"""
    belongs_to: Message | None = None
    """of a reply, the request; of the parts of a Postgres request, the one that named the statement"""


Pattern: TypeAlias = Callable[[Message], bool]
"""Whether a message is one that is looked for."""


def command(name: str, *words: str) -> Pattern:
    """A RESP command that has all these words, for example `command("XACK", keys.journal)`."""
    wanted = {word.encode() for word in words}
    return lambda message: message.kind == name and wanted <= set(message.words)


def script(sha: str, *words: str) -> Pattern:
    """A call of the Lua script with this SHA-1, by EVALSHA or by EVAL, with all these words (keys, mostly)."""
    wanted = {word.encode() for word in words}

    def matches(message: Message) -> bool:
        if message.kind not in {"EVALSHA", "EVAL"} or not wanted <= set(message.words):
            return False
        called = message.words[1]
        return sha == (called.decode() if message.kind == "EVALSHA" else hashlib.sha1(called).hexdigest())  # noqa: S324 - the store's name for it

    return matches


def statement(fragment: str, kind: str = "Bind", *words: str) -> Pattern:
    """A Postgres message of this kind for a statement that contains `fragment`, with all these words among its arguments.

    `Bind` and `Query` start a statement. `Sync` ends it and, outside a transaction, commits: held back, the statement has
    been executed and is not committed.
    """
    wanted = [word.encode() for word in words]

    def matches(message: Message) -> bool:
        if message.kind != kind or fragment not in message.text:
            return False
        arguments = (message.belongs_to or message).raw
        return all(word in arguments for word in wanted)

    return matches


def reply_to(request: Pattern, kind: str = "", bytes_min: int = 0) -> Pattern:
    """The reply to such a request. NOSCRIPT is none: the script has not run, and the request comes again with its text.

    Args:
        request: what was asked.
        kind: of a Postgres reply: `CommandComplete` (`PortalSuspended` when only some rows were asked for) comes before the
            commit of a lone statement, `ReadyForQuery` after it.
        bytes_min: only a reply this long, to leave out empty ones.
    """

    def matches(message: Message) -> bool:
        if message.belongs_to is None or kind not in {"", message.kind} or len(message.raw) < bytes_min:
            return False
        return request(message.belongs_to) and not message.raw.startswith(b"-NOSCRIPT")

    return matches


class Dialogue(ABC):
    """One connection, both directions."""

    def __init__(self) -> None:
        self._buffers = {side: bytearray() for side in Side}

    def read(self, side: Side, data: bytes) -> list[Message]:
        """The messages that `data` completes.

        Raises:
            NotUnderstood: the connection cannot be followed any further.
        """
        buffer = self._buffers[side]
        buffer += data
        found = list(self._requests(buffer) if side is Side.REQUESTS else self._replies(buffer))
        if len(buffer) > MESSAGE_BYTES_MAX:
            raise NotUnderstood(f"a message of more than {MESSAGE_BYTES_MAX} bytes")
        return found

    @abstractmethod
    def _requests(self, buffer: bytearray) -> Iterator[Message]:
        """Takes whole messages off the front of `buffer`."""

    @abstractmethod
    def _replies(self, buffer: bytearray) -> Iterator[Message]:
        """Takes whole messages off the front of `buffer`."""


class Bytes(Dialogue):
    """A connection nobody looks into, for example HTTP."""

    def _requests(self, buffer: bytearray) -> Iterator[Message]:
        yield Message(_take(buffer, len(buffer)))

    _replies = _requests


def _take(buffer: bytearray, size: int) -> bytes:
    raw = bytes(buffer[:size])
    del buffer[:size]
    return raw


# ------------------------------------------------------------------------------------------------------------------ RESP


class Resp(Dialogue):
    """A connection to Valkey, RESP2 or RESP3."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: deque[Message] = deque()
        self._subscribed = False

    def _requests(self, buffer: bytearray) -> Iterator[Message]:
        while buffer:
            found = _words(buffer)
            if found is None:
                return
            words, end = found
            message = Message(_take(buffer, end), words[0].decode("latin-1").upper(), words)
            # From then on messages come unasked, and none is counted against a request.
            self._subscribed = self._subscribed or "SUBSCRIBE" in message.kind
            self._asked.append(message)
            if len(self._asked) > OPEN_REQUESTS_MAX:
                raise NotUnderstood(f"more than {OPEN_REQUESTS_MAX} commands without a reply")
            yield message

    def _replies(self, buffer: bytearray) -> Iterator[Message]:
        while buffer:
            if self._subscribed:
                yield Message(_take(buffer, len(buffer)))
                return
            end = _reply_end(buffer)
            if end is None:
                return
            unasked = buffer[:1] == b">" or not self._asked
            raw = _take(buffer, end)
            yield Message(raw, belongs_to=None if unasked else self._asked.popleft())


def _words(buffer: bytearray) -> tuple[tuple[bytes, ...], int] | None:
    """(the words of the command at the front, where it ends), or None while it is incomplete."""
    end = buffer.find(_CRLF)
    if end < 0:
        return None
    if buffer[:1] != b"*":
        raise NotUnderstood("a command that is not an array")
    count, position, words = int(buffer[1:end]), end + 2, []
    for _ in range(count):
        end = buffer.find(_CRLF, position)
        if end < 0:
            return None
        start = end + 2
        position = start + int(buffer[position + 1 : end]) + 2
        if position > len(buffer):
            return None
        words.append(bytes(buffer[start : position - 2]))
    return tuple(words), position


def _reply_end(buffer: bytearray) -> int | None:
    """Where the reply at the front ends, or None while it is incomplete."""
    position, missing = 0, 1
    while missing:
        end = buffer.find(_CRLF, position)
        if end < 0:
            return None
        kind = buffer[position : position + 1]
        size = int(buffer[position + 1 : end]) if kind in b"$=!*~>%|" else 0
        position, missing = end + 2, missing - 1
        if kind in b"$=!" and size >= 0:
            position += size + 2
        elif kind in b"*~>":
            missing += max(0, size)
        elif kind in b"%|":
            missing += 2 * size + (kind == b"|")  # attributes come before the reply they describe
        if position > len(buffer):
            return None
    return position


# -------------------------------------------------------------------------------------------------------------- Postgres

_FRONTEND = {
    b"B": "Bind", b"C": "Close", b"D": "Describe", b"E": "Execute", b"H": "Flush", b"P": "Parse", b"Q": "Query", b"S": "Sync",
    b"X": "Terminate", b"p": "Password", b"d": "CopyData", b"c": "CopyDone", b"f": "CopyFail",
}  # fmt: skip
_BACKEND = {b"C": "CommandComplete", b"Z": "ReadyForQuery", b"E": "ErrorResponse", b"D": "DataRow", b"s": "PortalSuspended"}
_SSL_REQUEST = (80877103).to_bytes(4, "big")
_HEADER_BYTES = 5


class Postgres(Dialogue):
    """A connection to Postgres, protocol 3, not encrypted."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._tls_asked = False
        self._statements: dict[bytes, str] = {}
        self._current = Message(b"")
        """the latest request that named a statement"""
        self._asked: deque[Message] = deque()
        """what each ReadyForQuery to come belongs to"""

    def _requests(self, buffer: bytearray) -> Iterator[Message]:
        if not self._started:
            yield from self._start(buffer)
        if self._started:
            for kind, raw in _typed(buffer):
                yield self._request(_FRONTEND.get(kind, kind.decode("latin-1")), raw)

    def _start(self, buffer: bytearray) -> Iterator[Message]:
        """The first messages have no type byte."""
        while not self._started and len(buffer) >= 8:
            size = int.from_bytes(buffer[:4], "big")
            if len(buffer) < size:
                return
            raw = _take(buffer, size)
            self._tls_asked = raw[4:8] == _SSL_REQUEST
            self._started = not self._tls_asked
            yield Message(raw, "SSLRequest" if self._tls_asked else "Startup")

    def _request(self, kind: str, raw: bytes) -> Message:
        body = raw[_HEADER_BYTES:]
        match kind:
            case "Parse":
                name, sql, _ = body.split(b"\0", 2)
                if len(self._statements) >= OPEN_REQUESTS_MAX:
                    raise NotUnderstood("too many prepared statements")
                self._statements[name] = sql.decode()
                self._current = Message(raw, kind, text=self._statements[name])
            case "Bind":
                self._current = Message(raw, kind, text=self._statements.get(body.split(b"\0", 2)[1], ""))
            case "Query":
                self._current = Message(raw, kind, text=body.rstrip(b"\0").decode())
                self._asked.append(self._current)
            case "Sync":
                self._asked.append(self._current)
            case _:
                pass
        return self._current if self._current.raw is raw else Message(raw, kind, text=self._current.text, belongs_to=self._current)

    def _replies(self, buffer: bytearray) -> Iterator[Message]:
        if self._tls_asked and buffer:
            self._tls_asked = False
            if buffer[:1] == b"S":
                raise NotUnderstood("the connection is encrypted")
            yield Message(_take(buffer, 1))
        for kind, raw in _typed(buffer):
            yield self._reply(_BACKEND.get(kind, kind.decode("latin-1")), raw)

    def _reply(self, kind: str, raw: bytes) -> Message:
        asked = self._asked[0] if self._asked else self._current
        if kind == "ReadyForQuery" and self._asked:
            self._asked.popleft()
        text = raw[_HEADER_BYTES:].rstrip(b"\0").decode() if kind == "CommandComplete" else asked.text
        return Message(raw, kind, text=text, belongs_to=asked)


def _typed(buffer: bytearray) -> Iterator[tuple[bytes, bytes]]:
    """(type byte, whole message) of each whole message at the front."""
    while len(buffer) >= _HEADER_BYTES:
        size = 1 + int.from_bytes(buffer[1:_HEADER_BYTES], "big")
        if len(buffer) < size:
            return
        raw = _take(buffer, size)
        yield raw[:1], raw
