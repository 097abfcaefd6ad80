"""A TCP proxy that breaks what goes through it: slow, cut, silent, or held at one chosen message.

The words are those of Toxiproxy's toxics (https://github.com/Shopify/toxiproxy#toxics) where it has one: latency, bandwidth,
limit_data (`cut_after_bytes`), reset_peer (`cut`), timeout (`stall`). A `Hold` is what it has not: it stops the traffic at a
message, tells the test, and lets go when told to. With it a process can be killed between any two steps it takes on the wire,
without a line of test code in that process.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self, TypeAlias

from chaos.wire import Bytes, Dialogue, Message, NotUnderstood, Pattern, Side

CHUNK_BYTES = 65_536
CONNECTIONS_MAX = 2_048
CONNECT_TIMEOUT_S = 2.0
REACHED_WITHIN_S = 30.0
BOTH = (Side.REQUESTS, Side.REPLIES)

Address: TypeAlias = tuple[str, int]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Fate(Enum):
    """What becomes of a message."""

    PASS = auto()
    DROP = auto()
    """it is thrown away and its connection reset"""


class _Cut(Exception):
    """The connection is to be reset."""


@dataclass(slots=True)
class Flow:
    """How one direction of all connections of a proxy fares."""

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    """up to so much more, evenly spread"""
    bandwidth_bytes_per_s: float = 0.0
    """0 for no limit"""
    cut_after_bytes: int | None = None
    """a connection is reset once so much has gone this way on it"""
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._flowing.set()

    def stall(self) -> None:
        """Nothing goes this way any more; what arrives waits, and what waits is bounded by the sockets' buffers."""
        self._flowing.clear()

    def heal(self) -> None:
        """Everything goes this way at once."""
        self.latency_ms = self.jitter_ms = self.bandwidth_bytes_per_s = 0.0
        self.cut_after_bytes = None
        self._flowing.set()

    async def delay(self, size: int, luck: random.Random) -> None:
        """Return when `size` bytes may go on."""
        seconds = (self.latency_ms + self.jitter_ms * luck.random()) / 1000
        if self.bandwidth_bytes_per_s:
            seconds += size / self.bandwidth_bytes_per_s
        if seconds:
            await asyncio.sleep(seconds)
        await self._flowing.wait()


class Trigger:
    """Something that happens at messages that match."""

    def __init__(self, side: Side, pattern: Pattern, *, times: int = 1, skip: int = 0) -> None:
        """Describe it; `Proxy.arm` puts it in place.

        Args:
            side: the direction looked at.
            pattern: the messages meant.
            times: how many of them.
            skip: how many pass before.
        """
        self.side = side
        self.left = times
        self._pattern = pattern
        self._skip = skip

    def wants(self, message: Message) -> bool:
        """Whether `message` is one of those meant; counts it if so."""
        if not self.left or not self._pattern(message):
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.left -= 1
        return True

    async def meet(self, proxy: Proxy, message: Message) -> Fate:
        """What becomes of a message that `wants` chose."""
        raise NotImplementedError


class Swallow(Trigger):
    """Throws matching messages away and resets their connections: with `reply_to`, answers that get lost."""

    async def meet(self, proxy: Proxy, message: Message) -> Fate:  # noqa: ARG002 - whatever it is
        """Drops it."""
        return Fate.DROP


@dataclass(frozen=True, slots=True)
class Held:
    """What a hold has caught."""

    proxy: Proxy
    message: Message


class Hold(Trigger):
    """Stops a connection at the first matching message, before it goes on, until `release` or `drop`."""

    def __init__(self, side: Side, pattern: Pattern, *, skip: int = 0) -> None:
        super().__init__(side, pattern, skip=skip)
        loop = asyncio.get_running_loop()
        self._held: asyncio.Future[Held] = loop.create_future()
        self._fate: asyncio.Future[Fate] = loop.create_future()

    async def meet(self, proxy: Proxy, message: Message) -> Fate:
        """Tells whoever waits in `reached`, and waits for the decision."""
        self._held.set_result(Held(proxy, message))
        return await asyncio.shield(self._fate)

    async def reached(self, within_s: float = REACHED_WITHIN_S) -> Held:
        """Return when a message is being held.

        Raises:
            TimeoutError: none came; the message says what was waited for.
        """
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.shield(self._held)
        except TimeoutError:
            raise TimeoutError(f"no message to hold came by within {within_s:g} s") from None

    def release(self) -> None:
        """Let the message go on."""
        self._decide(Fate.PASS)

    def drop(self) -> None:
        """Throw the message away and reset its connection. Nothing is caught any more."""
        self._decide(Fate.DROP)

    def _decide(self, fate: Fate) -> None:
        self.left = 0
        if not self._fate.done():
            self._fate.set_result(fate)


class Connection:
    """One connection through a proxy: two streams and what is known of the dialogue."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter, dialogue: Dialogue) -> None:
        self.proxy = proxy
        self._writers = {Side.REQUESTS: server, Side.REPLIES: client}
        self._dialogue = dialogue
        self._sent = dict.fromkeys(Side, 0)

    async def carry(self, side: Side, reader: asyncio.StreamReader) -> None:
        """Move what comes, until the sender closes.

        Raises:
            _Cut: a fault wants the connection reset.
            NotUnderstood, OSError: it cannot go on.
        """
        while data := await reader.read(CHUNK_BYTES):
            ready = bytearray()
            for message in self._dialogue.read(side, data):
                for trigger in self.proxy.triggers(side):
                    if trigger.wants(message):
                        await self._send(side, ready)
                        ready.clear()
                        if await trigger.meet(self.proxy, message) is Fate.DROP:
                            raise _Cut
                ready += message.raw
            await self._send(side, ready)

    async def _send(self, side: Side, data: bytearray) -> None:
        if not data:
            return
        flow, writer = self.proxy.flows[side], self._writers[side]
        await flow.delay(len(data), self.proxy.luck)
        allowed = len(data) if flow.cut_after_bytes is None else max(0, flow.cut_after_bytes - self._sent[side])
        self._sent[side] += len(data)
        if writer.transport.is_closing():  # uvloop takes a write after that for a defect
            raise _Cut
        writer.write(bytes(data[:allowed]))
        await writer.drain()
        if allowed < len(data):
            raise _Cut

    def reset(self) -> None:
        """End both streams with a RST, as a crashed machine's network would."""
        for writer in self._writers.values():
            _reset(writer)

    def close(self) -> None:
        """End both streams in order."""
        for writer in self._writers.values():
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    if (connection := writer.get_extra_info("socket")) is not None:  # None, or an error, when it is closed already
        with suppress(OSError, ValueError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


class Proxy:
    """Listens on a free loopback port and passes connections on, as its faults let it.

    async with Proxy("worker-1 to valkey", [("127.0.0.1", 6379)], Resp) as proxy:
        proxy.stall(Side.REPLIES)
        …
        proxy.heal()
    """

    def __init__(self, name: str, upstreams: Sequence[Address], dialogue: Callable[[], Dialogue] = Bytes, *, seed: int = 0) -> None:
        """Describe it.

        Args:
            name: for reports.
            upstreams: where connections go, each to the next in turn that accepts it.
            dialogue: how to read what goes by.
            seed: of the jitter.
        """
        self.name = name
        self.flows = {side: Flow() for side in Side}
        self.luck = random.Random(seed)  # noqa: S311 - jitter
        self.port = 0
        self._upstreams = list(upstreams)
        self._dialogue = dialogue
        self._triggers: list[Trigger] = []
        self._connections: dict[asyncio.Task[None], Connection | None] = {}
        self._server: asyncio.Server | None = None
        self._refusing = False

    async def start(self) -> None:
        """Listen; again on the same port when it was closed."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more and reset what is there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.heal()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    # ---- faults

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def stall(self, *sides: Side) -> None:
        """Accept and keep silent, in both directions when none is named."""
        for side in sides or BOTH:
            self.flows[side].stall()

    def refuse(self) -> None:
        """Reset every connection, and every new one at once."""
        self._refusing = True
        self.cut()

    def cut(self) -> None:
        """Reset every connection there is; new ones are welcome."""
        for task, connection in self._connections.items():
            if connection is not None:
                connection.reset()
            task.cancel()

    def arm(self, trigger: Trigger) -> None:
        """Put a trigger in place. One trigger may be armed on several proxies: it strikes wherever it matches first."""
        self._triggers.append(trigger)

    def disarm(self, trigger: Trigger) -> None:
        """Take a trigger away; does nothing when it is not there."""
        if trigger in self._triggers:
            self._triggers.remove(trigger)

    def heal(self) -> None:
        """End every fault: what is stalled flows, what is held is dropped, no trigger is left."""
        self._refusing = False
        for flow in self.flows.values():
            flow.heal()
        for trigger in self._triggers:
            if isinstance(trigger, Hold):
                trigger.drop()
        self._triggers.clear()

    def triggers(self, side: Side) -> list[Trigger]:
        """Those that look at this direction."""
        return [trigger for trigger in self._triggers if trigger.side is side]

    # ---- connections

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._refusing or len(self._connections) >= CONNECTIONS_MAX:
            _reset(writer)
            return
        self._connections[task] = None
        try:
            await self._connect_and_run(task, reader, writer)
        except asyncio.CancelledError:
            _reset(writer)
        finally:
            del self._connections[task]

    async def _connect_and_run(self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await self._connect()
        if upstream is None:
            _reset(writer)
            return
        server_reader, server_writer = upstream
        connection = self._connections[task] = Connection(self, writer, server_writer, self._dialogue())
        await _run(connection, reader, server_reader)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._upstreams:
            address = self._upstreams.pop(0)
            self._upstreams.append(address)
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await asyncio.open_connection(*address)
        return None


async def _run(connection: Connection, client: asyncio.StreamReader, server: asyncio.StreamReader) -> None:
    """Carry in both directions until one of them ends."""
    carriers = [
        asyncio.create_task(connection.carry(Side.REQUESTS, client)),
        asyncio.create_task(connection.carry(Side.REPLIES, server)),
    ]
    try:
        done, _ = await asyncio.wait(carriers, return_when=asyncio.FIRST_COMPLETED)
        if any(carrier.exception() for carrier in done):
            connection.reset()
    finally:
        for carrier in carriers:
            carrier.cancel()
        results = await asyncio.gather(*carriers, return_exceptions=True)
        connection.close()
        _raise_defects(results)


def _raise_defects(results: Sequence[BaseException | None]) -> None:
    """A connection may end in many ways; anything else that went wrong is a defect of the proxy and must be seen."""
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, _Cut | NotUnderstood | OSError):
            raise result


@contextmanager
def holding(proxies: Sequence[Proxy], side: Side, pattern: Pattern, *, skip: int = 0) -> Iterator[Hold]:
    """A hold on several wires: the first of them to carry such a message is stopped. What is still held at the end is dropped."""
    hold = Hold(side, pattern, skip=skip)
    with armed(proxies, hold):
        try:
            yield hold
        finally:
            hold.drop()


@contextmanager
def armed(proxies: Sequence[Proxy], trigger: Trigger) -> Iterator[None]:
    """A trigger in place on these wires for as long as the block lasts."""
    for proxy in proxies:
        proxy.arm(trigger)
    try:
        yield
    finally:
        for proxy in proxies:
            proxy.disarm(trigger)
