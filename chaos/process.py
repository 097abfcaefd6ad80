"""One process of ours in the laboratory: started, killed, frozen, stopped, and heard."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chaos.proxy import Proxy
from flashsale.child import child_argv
from flashsale.errors import FlashsaleError
from flashsale.supervisor import Process
from loadtest.client import AnswerLost, NotSent, Pool

LINES_MAX = 5_000
LINE_BYTES_MAX = 1_000_000
READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 15.0
SAYS_WITHIN_S = 30.0
_LOOK_S = 0.02

Line = dict[str, Any]
"""One log line: its event and its key-values"""


class ProcessFailed(FlashsaleError):
    """A process of the laboratory did not do what it was told."""

    code = "process_failed"


@dataclass(slots=True)
class LabProcess:
    """A worker or a reconciler.

    Unlike under the supervisor a killed process stays dead until `start`, so that a test decides what happens meanwhile.
    """

    description: Process
    store: Proxy
    """its way to Valkey"""
    database: Proxy
    """its way to Postgres"""
    url: str = ""
    """of a worker: its own address, past the front"""
    _child: asyncio.subprocess.Process | None = None
    _lines: deque[Line] = field(default_factory=lambda: deque(maxlen=LINES_MAX))
    _heard: asyncio.Event = field(default_factory=asyncio.Event)
    _listener: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """`worker-1`, `reconciler-2`."""
        return self.description.name

    @property
    def links(self) -> tuple[Proxy, Proxy]:
        """Both its ways out."""
        return self.store, self.database

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._child is not None and self._child.returncode is None

    # ---- its life

    async def start(self) -> None:
        """Start it, and return when it is ready: a worker answers, a reconciler has said that it has started.

        Raises:
            ProcessFailed: it is running already, ended at once, or was not ready in time.
        """
        if self.running:
            raise ProcessFailed(what=f"{self.name} is running already.")
        self._lines.clear()
        self._child = await asyncio.create_subprocess_exec(
            *child_argv(self.description.argv, death_signal=signal.SIGTERM),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            env=dict(self.description.env or {}),
            start_new_session=True,
        )
        self._listener = asyncio.create_task(self._listen(self._child), name=f"log of {self.name}")
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await self._ready()
        except TimeoutError:
            raise self._failed(f"was not ready within {READY_WITHIN_S:g} s") from None

    async def _ready(self) -> None:
        if self.description.ready is None:
            await self.says("reconciler_started")
            return
        while not await self.description.ready():
            if not self.running:
                raise self._failed("ended at once")
            await asyncio.sleep(_LOOK_S)

    async def answers(self, path: str, *wanted: int, headers: Mapping[str, str] | None = None) -> bool:
        """Whether a worker answers a GET of `path`, on a fresh connection past the front, with one of these statuses."""
        pool = Pool(self.url)
        try:
            return (await pool.request("GET", path, headers=headers)).status in wanted
        except (AnswerLost, NotSent):
            return False
        finally:
            pool.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT thaws it.

        Raises:
            ProcessFailed: it is not running.
        """
        if self._child is None or not self.running:
            raise ProcessFailed(what=f"{self.name} is not running.")
        self._child.send_signal(number)

    async def kill(self) -> None:
        """`kill -9`; returns when it is gone."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM, as a deployment does; returns its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self, within_s: float = STOPPED_WITHIN_S) -> int:
        """Return its exit code once it has ended; a negative number is the signal that ended it.

        Raises:
            ProcessFailed: it was never started, or is still there.
        """
        if self._child is None:
            raise ProcessFailed(what=f"{self.name} has not been started.")
        try:
            async with asyncio.timeout(within_s):
                code = await self._child.wait()
        except TimeoutError:
            raise self._failed(f"had not ended within {within_s:g} s") from None
        if self._listener is not None:
            await self._listener
        return code

    async def close(self) -> None:
        """End it, whatever state it is in."""
        if self.running:
            for number in (signal.SIGCONT, signal.SIGTERM):
                self.signal(number)
            with suppress(ProcessFailed):
                await self.ended()
        if self.running:
            await self.kill()

    # ---- its voice

    @property
    def lines(self) -> list[Line]:
        """What it has logged since its start, the last `LINES_MAX` of it."""
        return list(self._lines)

    async def says(self, event: str, within_s: float = SAYS_WITHIN_S, **fields: Any) -> Line:
        """The first line since its start with this event and these values, now or as soon as it comes.

        Raises:
            ProcessFailed: it ended, or did not say so in time.
        """
        try:
            async with asyncio.timeout(within_s):
                while True:
                    heard = self._heard
                    for line in self._lines:
                        if line.get("event") == event and _has(line, fields):
                            return line
                    if self._listener is None or self._listener.done():
                        raise self._failed(f"ended without saying {event}")
                    await heard.wait()
        except TimeoutError:
            raise self._failed(f"did not say {event} within {within_s:g} s") from None

    async def _listen(self, child: asyncio.subprocess.Process) -> None:
        assert child.stderr is not None
        while text := await _read_line(child.stderr):
            self._lines.append(_line(text))
            self._tell()
        self._tell()

    def _tell(self) -> None:
        heard, self._heard = self._heard, asyncio.Event()
        heard.set()

    def _failed(self, why: str) -> ProcessFailed:
        said = "\n".join(f"  {line}" for line in list(self._lines)[-8:])
        return ProcessFailed(what=f"{self.name} {why}.", why=f"Its last lines:\n{said}")


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """The next line; what is longer than `LINE_BYTES_MAX` is not kept, but read, or its writer would wait for ever."""
    while True:
        try:
            return await stream.readline()
        except ValueError:
            continue


def _has(line: Line, fields: Mapping[str, Any]) -> bool:
    return all(line.get(name) == value for name, value in fields.items())


def _line(text: bytes) -> Line:
    try:
        line = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"event": "", "text": text.decode(errors="replace").rstrip()}
    return line
