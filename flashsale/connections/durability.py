"""Which durability a drop was promised, whether the store keeps it, and waiting for it.

`second` and `disk` are the store's own: with `appendfsync always` a reply leaves only after everything before it is on disk.
`replica` is asked for behind each call, over the same connection (`WAITAOF`, https://valkey.io/commands/waitaof/).

Three facts of the servers (Valkey 9.1, measured) shape this:

- A server waits for the last *write* of the connection. A repeated request writes nothing, so a mark is written first.
- A replica tells what it has on disk before it has written what came with the question. Asked by WAITAOF alone it is heard of a
  second later; asked by WAIT first, it has written when WAITAOF asks.
- With `appendfsync everysec`, WAITAOF answers before anything was forced to disk. So `everysec` keeps `second`, and only that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from flashsale.connections.calls import StoreCalls
from flashsale.errors import ScriptError, StoreUnavailable, UnsafeStore
from flashsale.keys import DropKeys, drop_keys
from flashsale.model import Durability

REPLICAS = 1
"""that must have a call on disk before it is answered"""
KNOWN_FOR_S = 5.0
"""After this long it is looked at again, whether the store still keeps what it kept."""

_MARK = '#!lua flags=allow-oom\nreturn redis.call("HINCRBY", KEYS[1], "awaited", 1)'
"""A full store can still be waited for: whoever gives units back has to be answered."""

Command = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why a store does not keep a durability."""

    what: str
    todo: str


@dataclass(frozen=True, slots=True)
class Persistence:
    """What a server says of itself; None where it does not let itself be asked."""

    appendonly: str | None
    appendfsync: str | None
    replicas: int | None
    """connected and up to date enough to be sent what is written"""


def shortfall(durability: Durability, store: Persistence) -> Shortfall | None:
    """Why `store` does not keep `durability`; None when it does, as far as it can be known."""
    if store.appendonly == "no":
        return Shortfall("The store forgets everything when it restarts (appendonly is no).", "Set appendonly yes and appendfsync always.")
    if store.appendfsync == "no":
        return Shortfall("The store never forces its log to disk (appendfsync is no).", "Set appendfsync always.")
    if durability is Durability.SECOND:
        return None
    if store.appendfsync == "everysec":
        return Shortfall(
            f"The store forces its log to disk only once a second (appendfsync is everysec), and the drop needs durability '{durability}'.",
            "Set appendfsync always on the store, or give the drop durability 'second'.",
        )
    if durability is Durability.REPLICA and store.replicas is not None and store.replicas < REPLICAS:
        return Shortfall(
            "The store has no connected replica, and the drop needs durability 'replica'.",
            "Connect one, with appendfsync always as well, or give the drop durability 'disk'.",
        )
    return None


def waiting_for_replicas(keys: DropKeys, timeout_ms: int) -> tuple[Command, ...]:
    """What follows a call on its connection; together it takes up to `timeout_ms`. `on_replicas` reads the replies."""
    half_ms = max(1, timeout_ms // 2)
    return (("EVAL", _MARK, 1, keys.stats), ("WAIT", REPLICAS, half_ms), ("WAITAOF", 1, REPLICAS, half_ms))


def on_replicas(replies: Sequence[Any]) -> bool:
    """Whether everything before is on disk here and on enough replicas, by the replies to `waiting_for_replicas`."""
    mark, _, counts = replies[-3:]
    return isinstance(mark, int) and isinstance(counts, list) and counts[0] >= 1 and counts[1] >= REPLICAS


async def together(client: Any, commands: Sequence[Command]) -> list[Any]:
    """The replies to commands on one drop's keys, sent together over one connection; errors of the server stand among them."""
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


class _Promise(msgspec.Struct):
    """Of a drop's definition, what is read here."""

    durability: Durability = Durability.DISK


@dataclass(frozen=True, slots=True)
class _Known:
    durability: Durability
    until_s: float
    troubles: int
    """`StoreCalls.troubles` at that time: after another one it may be another server"""


class Durabilities:
    """The durability of each drop, read from the store itself before the first call that needs it."""

    def __init__(self, calls: StoreCalls, timeout_ms: int) -> None:
        """`timeout_ms` is how long a look may wait for the replicas."""
        self._calls = calls
        self._timeout_ms = timeout_ms
        self._known: dict[str, _Known] = {}

    async def of(self, drop_id: str) -> Durability | None:
        """The drop's durability, which the store keeps; None when the store does not hold the drop.

        Raises:
            StoreUnavailable: the store does not keep it; says what to change.
            ScriptError: what the store holds cannot be read.
            RedisError, OSError: the store does not answer, or refuses to.
        """
        known = self._known.get(drop_id)
        now_s = asyncio.get_running_loop().time()
        if known is not None and now_s < known.until_s and known.troubles == self._calls.troubles:
            return known.durability
        troubles = self._calls.troubles
        durability = await self._look(drop_id)
        if durability is not None:
            self._known[drop_id] = _Known(durability, now_s + KNOWN_FOR_S, troubles)
        return durability

    def forget(self, drop_id: str) -> None:
        """The drop was made anew, or its durability was not kept just now: the next call looks again."""
        self._known.pop(drop_id, None)

    async def require(self, drop_id: str, durability: Durability) -> None:
        """Returns when the store that would hold the drop keeps `durability`.

        Raises:
            UnsafeStore: it does not; says what to change.
            StoreUnavailable: it does not answer.
        """
        key = drop_keys(drop_id).drop
        replies = await self._calls.call(key, lambda: together(self._calls.client, _looking(key)))
        found = shortfall(durability, _persistence(replies[1], replies[2]))
        if found is not None:
            raise UnsafeStore(what=found.what, todo=found.todo)

    async def _look(self, drop_id: str) -> Durability | None:
        keys = drop_keys(drop_id)
        definition, settings, replication = await together(self._calls.client, _looking(keys.drop))
        durability = _promised(drop_id, definition)
        if durability is None:
            return None
        found = shortfall(durability, _persistence(settings, replication))
        if found is None and durability is Durability.REPLICA:
            anchor: Command = ("EXISTS", keys.drop)
            if not on_replicas(await together(self._calls.client, (anchor, *waiting_for_replicas(keys, self._timeout_ms)))):
                found = Shortfall(
                    "No replica has the drop on its disk in time.", "Look at the replica; it needs appendfsync always, as the store does."
                )
        if found is not None:
            raise StoreUnavailable(what=found.what, why="Nothing has changed.", todo=found.todo)
        return durability


def _looking(key: str) -> tuple[Command, ...]:
    """The first one says which server of a Cluster is meant."""
    return (("HGET", key, "definition"), ("CONFIG GET", "appendonly", "appendfsync"), ("INFO", "replication"))


def _promised(drop_id: str, definition: Any) -> Durability | None:
    if definition is None:
        return None
    if isinstance(definition, Exception):
        raise definition
    try:
        return msgspec.json.decode(definition, type=_Promise).durability
    except msgspec.MsgspecError as error:
        raise ScriptError(what=f"The definition of the drop {drop_id} in the store cannot be read:", why=f"{error}.") from None


def _persistence(settings: Any, replication: Any) -> Persistence:
    known = {} if isinstance(settings, Exception) else {_text(name): _text(value) for name, value in settings.items()}
    return Persistence(known.get("appendonly"), known.get("appendfsync"), _replicas(replication))


def _replicas(replication: Mapping[str, Any] | Exception) -> int | None:
    if isinstance(replication, Exception):
        return None
    names = [f"slave{number}" for number in range(int(replication.get("connected_slaves", 0)))]
    return len([name for name in names if replication.get(name, {}).get("state") == "online"])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
