"""Calls to the store that end: each has a deadline, is repeated while that can help, and says what is certain.

Everything that is sent here may be sent twice, so it carries ids that make it harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, NoReturn, TypeVar

from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from flashsale.connections.circuit import Circuit, Permit
from flashsale.connections.cluster import ClusterStore
from flashsale.connections.pools import NotSent
from flashsale.connections.wording import reason_of
from flashsale.errors import StoreUnavailable, StoreUnknown
from flashsale.settings import StoreSettings

Reply = TypeVar("Reply")

REPEAT_PAUSE_S = 0.02
REPEAT_PAUSE_MAX_S = 0.2
PROBE_TIMEOUT_S = 0.3
CIRCUITS_MAX = 2_048
"""More than drops that are watched; keys of drops that do not exist come and go."""

_LOST: Final = (StoreConnectionError, StoreTimeoutError, OSError)
_PASSING: Final = frozenset({"READONLY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING", "UNBLOCKED"})
"""The server did not run it, and in a moment it or another one will: a failover, or a slot on the move."""
_AWAY: Final = frozenset({"CLUSTERDOWN", "MASTERDOWN", "LOADING"})
"""Of these, those with which the server answers every question."""


def code_of(error: ResponseError) -> str:
    """The word a server's error begins with; the library cuts it off the text of the errors it has a class for."""
    return error.status_code or str(error).split(" ", 1)[0]


class StoreCalls:
    """The calls of one process to one store, with a circuit that opens when it does not answer.

    In a Cluster each key has a circuit of its own: a node that is away concerns its own drops only.
    """

    def __init__(self, client: Any, settings: StoreSettings, on_circuit: Callable[[bool], None] = lambda _: None) -> None:
        """Describe the calls; nothing connects before the first.

        Args:
            client: of `open_store`; its command methods are hardly annotated.
            settings: its deadline.
            on_circuit: told True whenever a circuit opens and False when it closes.
        """
        self.client = client
        self.deadline_s = settings.deadline_ms / 1000
        self.last_start_s = self.deadline_s - settings.timeout_ms / 2000
        """after this much of a call, too little is left to get a connection and an answer"""
        self._on_circuit = on_circuit
        self._circuits: dict[str, Circuit] = {}
        self._circuit_per_key = isinstance(client, ClusterStore)
        self.troubles = 0
        """how often the store was not as expected: away, moving, or another one"""

    async def call(self, key: str, send: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply of `send`, which is repeated until the deadline while the store is away or moving.

        Args:
            key: of the command; says where it goes in a Cluster.
            send: sends the command once; harmless to repeat.

        Raises:
            StoreUnavailable: it has not run: it was not sent, or the store refused to start it.
            StoreUnknown: it may have run.
            ResponseError: the store's answer, when repeating would not change it.
        """
        circuit = self._circuits.get(key if self._circuit_per_key else "") or self._circuit(key)
        if circuit.is_open:
            await self._find_out(circuit, key)
        return await _Call(self, circuit, send).run()

    async def command(self, *words: Any) -> Any:
        """One command with its key in second place, repeated as `call` does. Raises as `call` does."""
        return await self.call(words[1], lambda: self.client.execute_command(*words))

    def _circuit(self, key: str) -> Circuit:
        place = key if self._circuit_per_key else ""
        if len(self._circuits) >= CIRCUITS_MAX:
            self._forget_one()
        circuit = self._circuits[place] = Circuit(asyncio.get_running_loop().time, self._on_circuit)
        return circuit

    def _forget_one(self) -> None:
        """The oldest closed one, or the oldest; its key is asked for anew."""
        oldest = next(iter(self._circuits))
        found = next((place for place, circuit in self._circuits.items() if not circuit.is_open), oldest)
        self._circuits.pop(found).heard()

    async def _find_out(self, circuit: Circuit, key: str) -> None:
        """Returns when the store answers again. Raises StoreUnavailable."""
        match circuit.permit():
            case Permit.CALL:
                return
            case Permit.PROBE:
                try:
                    async with asyncio.timeout(PROBE_TIMEOUT_S):
                        await self.client.execute_command("EXISTS", key)
                except (RedisError, OSError):
                    circuit.missed()
                except BaseException:
                    circuit.missed()
                    raise
                else:
                    circuit.heard()
                    return
            case Permit.REFUSED:
                pass
        raise StoreUnavailable(what="The store does not answer.", why="Nothing was sent to it.", todo="Try again in a moment.")


class _Call(Generic[Reply]):
    """One call with its repetitions, and what is known of them."""

    def __init__(self, calls: StoreCalls, circuit: Circuit, send: Callable[[], Awaitable[Reply]]) -> None:
        self._calls = calls
        self._circuit = circuit
        self._send = send
        self._clock = asyncio.get_running_loop().time
        self._begun = self._clock()
        self._may_have_run = False

    async def run(self) -> Reply:
        """The reply. Raises as `StoreCalls.call` does."""
        pause_s = REPEAT_PAUSE_S
        while True:
            try:
                async with asyncio.timeout_at(self._begun + self._calls.deadline_s):
                    reply = await self._send()
            except _LOST as error:
                self._may_have_run |= not isinstance(error, NotSent | BusyLoadingError)
                self._failed(error, pause_s, away=True)
            except ResponseError as error:
                code = code_of(error)
                if code not in _PASSING:
                    self._answered_with(error)
                self._failed(error, pause_s, away=code in _AWAY)
            except StoreUnavailable as error:
                self._answered_with(error)
            else:
                self._circuit.heard()
                return reply
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, REPEAT_PAUSE_MAX_S)

    def _answered_with(self, error: Exception) -> NoReturn:
        """The store has answered this attempt; of an earlier one that was lost it says nothing."""
        self._circuit.heard()
        if self._may_have_run:
            raise _unknown() from error
        raise error

    def _failed(self, error: Exception, pause_s: float, *, away: bool) -> None:
        """Returns when the call is to be repeated after `pause_s`."""
        self._calls.troubles += 1
        if self._clock() + pause_s <= self._begun + self._calls.last_start_s:
            return
        if away:
            self._circuit.silent(self._begun)
        if self._may_have_run:
            raise _unknown() from error
        raise StoreUnavailable(
            what="The store cannot be reached:", why=f"{reason_of(error)}. Nothing has changed.", todo="Try again in a moment."
        ) from error


def _unknown() -> StoreUnknown:
    return StoreUnknown(
        what="The store gave no answer in time; the request may or may not have taken effect.",
        todo="Repeat it with the same key to get the one true outcome.",
    )
