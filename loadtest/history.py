"""The history of a run: every call that can change something, noted before it is sent and again when it has ended.

A call ends in one of three ways: `ok`; `fail`, a definite refusal, so it had no effect; or `unknown`, when no answer says
which. A call whose end is missing, because the recorder itself was stopped, is as unknown as one whose answer was lost. The
distinction, and the rule that an unknown call is never dropped, are Jepsen's (Kingsbury, "Jepsen: histories").

The file is JSON Lines, one event a line. It holds ids, amounts and times; never a token, a secret or a key of the service.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

BUFFER_BYTES = 1 << 16
"""written in one piece: at 50,000 shoppers one system call for some 300 events"""
LINE_BYTES_MAX = 1 << 20
READ_BYTES = 1 << 20

Items = tuple[tuple[str, int], ...]
"""(SKU, quantity)"""


class Kind(StrEnum):
    """What was asked of the service."""

    JOIN = "join"
    ADMIT = "admit"
    RESERVE = "reserve"
    RELEASE = "release"
    EXTEND = "extend"
    RESTORE = "restore"
    """a reservation that a loss has swallowed is brought back by its receipt"""
    CONFIRM = "confirm"
    WEBHOOK = "webhook"
    """a payment told by its provider"""
    CANCEL_ORDER = "cancel_order"
    """a paid order is undone: its units go back on sale, its money back to the shopper"""
    ADJUST_STOCK = "adjust_stock"
    """the merchant adds units of one SKU, or withdraws them"""
    READ_RESERVATION = "read_reservation"
    READ_ORDER = "read_order"


class Step(StrEnum):
    """What an event tells of its call."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Event(Struct, omit_defaults=True, gc=False):
    """One line of a history. Of an invocation, what was asked; of its end, what was answered."""

    step: Step
    op: int
    """the call's number, unique within its process"""
    at_ns: int
    """on the monotonic clock, which all processes of a machine share"""
    at_ms: int
    """wall clock, ms since the epoch"""
    process: str = ""
    kind: Kind | None = None
    """of an invocation"""
    shopper: str = ""
    drop: str = ""
    key: str = ""
    """Idempotency-Key"""
    items: Items = ()
    delta: int = 0
    """of adjust_stock: units added, or withdrawn when negative; `items` names the SKU"""
    ticket_id: str = ""
    reservation_id: str = ""
    amount_minor: int | None = None
    payment_reference: str = ""
    outcome: str = ""
    """the service's word, or the client's for what kept it from having one"""
    state: str = ""
    """of the reservation or order, as answered"""
    reserved_at_ms: int = 0
    expires_at_ms: int = 0


class Call(Struct, omit_defaults=True, gc=False):
    """What is asked. Fields as in `Event`."""

    kind: Kind
    shopper: str = ""
    drop: str = ""
    key: str = ""
    items: Items = ()
    delta: int = 0
    ticket_id: str = ""
    reservation_id: str = ""
    amount_minor: int | None = None
    payment_reference: str = ""


class Ending(Struct, omit_defaults=True, gc=False):
    """How a call ended. Fields as in `Event`."""

    step: Step
    outcome: str
    state: str = ""
    ticket_id: str = ""
    reservation_id: str = ""
    amount_minor: int | None = None
    payment_reference: str = ""
    reserved_at_ms: int = 0
    expires_at_ms: int = 0


class HistoryBroken(ValueError):
    """The file is not a history."""


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Recorder:
    """Writes a history. What is noted is in the file at the latest when the recorder is closed.

    Lines are gathered in memory and written when there are enough of them, so noting an event costs about a microsecond.
    Whatever happens to the service, its stores or its machine's other processes, the history of this process is whole.
    """

    def __init__(self, path: Path, process: str = "", wall_ms: Callable[[], int] = _wall_ms) -> None:
        """Opens the file for appending, readable by its owner only.

        Args:
            path: of the file.
            process: names this process in a history several write.
            wall_ms: the wall clock; a test that holds the store's clock in its hand gives that one.

        Raises:
            OSError: the file cannot be written.
        """
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._process = process
        self._wall_ms = wall_ms
        self._encode = msgspec.json.Encoder().encode_into
        self._line = bytearray()
        self._lines = bytearray()
        self._op = 0

    def invoke(self, call: Call) -> int:
        """Notes a call that is about to be sent; its number, for `end`."""
        self._op += 1
        self._add(
            Event(
                Step.INVOKE,
                self._op,
                time.monotonic_ns(),
                self._wall_ms(),
                self._process,
                call.kind,
                call.shopper,
                call.drop,
                call.key,
                call.items,
                call.delta,
                call.ticket_id,
                call.reservation_id,
                call.amount_minor,
                call.payment_reference,
            )
        )
        return self._op

    def end(self, op: int, ending: Ending) -> None:
        """Notes how the call `op` ended. Each call ends once."""
        self._add(
            Event(
                ending.step,
                op,
                time.monotonic_ns(),
                self._wall_ms(),
                self._process,
                outcome=ending.outcome,
                state=ending.state,
                ticket_id=ending.ticket_id,
                reservation_id=ending.reservation_id,
                amount_minor=ending.amount_minor,
                payment_reference=ending.payment_reference,
                reserved_at_ms=ending.reserved_at_ms,
                expires_at_ms=ending.expires_at_ms,
            )
        )

    def flush(self) -> None:
        """Hands all lines to the operating system. Raises OSError."""
        while self._lines:
            written = os.write(self._file, self._lines)
            del self._lines[:written]

    def close(self) -> None:
        """Writes what is left and closes the file. Raises OSError."""
        try:
            self.flush()
        finally:
            os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _add(self, event: Event) -> None:
        self._encode(event, self._line)
        self._lines += self._line
        self._lines += b"\n"
        if len(self._lines) >= BUFFER_BYTES:
            self.flush()


_decode = msgspec.json.Decoder(Event).decode


def read_history(path: Path) -> Iterator[Event]:
    """The events of a file, in the order written, without holding the file in memory.

    A last line without an end is what a stopped recorder leaves; it is passed over.

    Raises:
        HistoryBroken: a line is not an event.
        OSError: the file cannot be read.
    """
    for number, line in enumerate(_lines_of(path), start=1):
        try:
            yield _decode(line)
        except msgspec.MsgspecError as error:
            raise HistoryBroken(f"{path}, line {number} is not an event of a history: {error}") from error


def _lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb", READ_BYTES) as file:
        while line := file.readline(LINE_BYTES_MAX):
            if line.endswith(b"\n"):
                yield line
            elif len(line) == LINE_BYTES_MAX:
                raise HistoryBroken(f"{path} has a line of more than {LINE_BYTES_MAX} bytes: this is no history")


def write_history(path: Path, events: Iterable[Event]) -> None:
    """A history made elsewhere, as a file. Raises OSError."""
    with path.open("wb") as file:
        for event in events:
            file.write(msgspec.json.encode(event) + b"\n")
