"""A Valkey Cluster as one store: every command goes to the node that owns its key.

The library's own cluster client is not used because of what it does under faults (redis-py 8.1, `asyncio/cluster.py`): it
sends ASKING over whichever connection is free, so that under load a slot on the move answers MOVED until the attempts are
used up; a call to a node that is down makes the calls to all others wait for the new map, and CLUSTERDOWN from one closes the
connections to all; a pool that is used up is an error instead of a wait. Here a node in trouble concerns its own drops only.

Protocol: https://valkey.io/topics/cluster-spec/, sections "Redirection and resharding" and "Fault tolerance".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

from redis.asyncio import Redis
from redis.commands import AsyncCoreCommands
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as StoreConnectionError,
)
from redis.exceptions import (
    TimeoutError as StoreTimeoutError,
)

SLOTS = 16_384
REDIRECTS_MAX = 5
"""Of one call. A slot on the move takes two; more means that the nodes do not agree yet."""
MAP_TIMEOUT_S = 1.0
MAP_PAUSE_S = 0.2
"""Between two questions for the map, however many calls fail."""

_KEYLESS = frozenset(
    {"PING", "TIME", "INFO", "PUBLISH", "CONFIG GET", "SCRIPT", "SCRIPT FLUSH", "SCRIPT LOAD", "FLUSHALL", "DBSIZE", "DEBUG"}
)

Address: TypeAlias = tuple[str, int]
Command: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""arguments and options of one `execute_command`"""


@dataclass(slots=True, eq=False)
class Node:
    """One server of the Cluster."""

    address: Address
    client: Redis
    failed_at: float = 0.0
    """by the loop's clock; 0.0 while its last answer was a good one"""


class ClusterStore(AsyncCoreCommands):
    """A client of a whole Cluster, with the commands of `redis.asyncio.Redis`.

    A command without a key goes to any node that answers. A redirected one is sent again where it belongs, which is safe
    because the node that redirected it has not run it. Nothing else is repeated: `TRYAGAIN`, a lost connection and a node
    that is down are the caller's to handle, as with a single server; each makes the map be asked for anew, in the background.
    """

    _event_dispatcher: Any = None
    """the library's commands ask for one; ours are told nothing"""

    def __init__(self, seeds: Sequence[Address], connect: Callable[[Address], Redis]) -> None:
        """Describe the Cluster; nothing connects before the first command.

        Args:
            seeds: nodes that are asked for the others; one that answers is enough.
            connect: makes the client of one node.
        """
        self._connect = connect
        self._seeds = [Node(address, connect(address)) for address in seeds]
        self._nodes: dict[Address, Node] = {}
        self._retired: list[Node] = []
        self._owners: list[Node | None] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = float("-inf")

    # ---- commands

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        """Run one command on the node it belongs to, and answer its reply.

        Raises:
            RedisError: as a single server's client does.
        """

        async def send(node: Node, *, asking: bool) -> Any:
            if not asking:
                return await node.client.execute_command(*words, **options)  # type: ignore[no-untyped-call]
            _, reply = await _together(node, [(("ASKING",), {}), (words, options)], transaction=False)
            if isinstance(reply, Exception):
                raise reply
            return reply

        return await self._on_its_node(_key_of(words), send)

    def pipeline(self, transaction: bool = True) -> ClusterPipeline:  # noqa: FBT001, FBT002 - the library's signature
        """Commands on keys of one slot, sent together over one connection."""
        return ClusterPipeline(self, transaction=transaction)

    def pubsub(self, **options: Any) -> Any:
        """A subscription over any node that answers: a Cluster hands every message to all of its nodes."""
        return self._any_node().client.pubsub(**options)

    async def run_together(self, commands: Sequence[Command], *, transaction: bool) -> list[Any]:
        """The replies to commands on keys of one slot, sent over one connection; errors of the server stand among them.

        When the slot moves in the middle, all of them are sent again, so they have to be harmless to repeat.

        Raises:
            RedisError: nothing can be said of any of them; or, in a transaction, it was refused as a whole.
        """

        async def send(node: Node, *, asking: bool) -> list[Any]:
            if asking and transaction:
                # ASKING holds for one command, and the library puts MULTI in front of ours.
                raise StoreConnectionError("The slot is being moved.")
            steps = [step for command in commands for step in ([_ASKING, command] if asking else [command])]
            replies = await _together(node, steps, transaction=transaction)
            replies = replies[1::2] if asking else replies
            for reply in replies:
                if isinstance(reply, AskError):
                    raise reply
            return replies

        key = next((key for words, _ in commands if (key := _key_of(words)) is not None), None)
        found: list[Any] = await self._on_its_node(key, send)
        return found

    async def primaries(self) -> list[Redis]:
        """A client of each node that owns slots.

        Raises:
            RedisError: no node answers.
        """
        await self._refreshed()
        return [node.client for node in dict.fromkeys(node for node in self._owners if node is not None)]

    async def aclose(self) -> None:
        """Close all connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError, RedisError, OSError):
                await self._refreshing
        for node in {*self._seeds, *self._nodes.values(), *self._retired}:
            await node.client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    # ---- the way to a node

    async def _on_its_node(self, key: bytes | None, send: Callable[..., Any]) -> Any:
        node, asking = (self._any_node() if key is None else await self._owner(key_slot(key))), False
        for _ in range(1 + REDIRECTS_MAX):
            try:
                reply = await send(node, asking=asking)
            except AskError as error:  # MovedError is one, too
                moved = isinstance(error, MovedError)
                asking = not moved
                node = self._node_at((error.host or node.address[0], error.port))
                if moved:
                    self._owners[error.slot_id] = node
                    self._refresh_soon()
            except (StoreConnectionError, StoreTimeoutError, OSError, ClusterDownError):
                node.failed_at = asyncio.get_running_loop().time()
                self._refresh_soon()
                raise
            else:
                node.failed_at = 0.0
                return reply
        self._refresh_soon()
        raise StoreConnectionError("The nodes of the cluster do not agree who serves the key.")

    async def _owner(self, slot: int) -> Node:
        if not self._owners:
            await self._refreshed()
        node = self._owners[slot]
        if node is None:
            self._refresh_soon()
            raise ClusterDownError("Hash slot not served", status_code="CLUSTERDOWN")
        return node

    def _node_at(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(address, self._connect(address))
        return node

    def _any_node(self) -> Node:
        return self._by_trust()[0]

    def _by_trust(self) -> list[Node]:
        """All nodes, those that failed last at the end; equals in random order, so that they share the work."""
        known = [*self._nodes.values()] or self._seeds
        return sorted(random.sample(known, len(known)), key=lambda node: node.failed_at)

    # ---- the map

    def _refresh_soon(self) -> None:
        """Ask for the map in the background, unless that is going on or has just been done."""
        loop = asyncio.get_running_loop()
        if (self._refreshing is None or self._refreshing.done()) and loop.time() - self._refreshed_at >= MAP_PAUSE_S:
            self._refreshing = loop.create_task(self._refresh(), name="cluster:map")
            self._refreshing.add_done_callback(_heard)

    async def _refreshed(self) -> None:
        """Return when the map is there."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="cluster:map")
            self._refreshing.add_done_callback(_heard)
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        """Ask node after node for the map, until one tells it.

        Raises:
            RedisError: none does.
        """
        reason: Exception | None = None
        try:
            for node in [*self._by_trust(), *(self._seeds if self._nodes else ())]:
                try:
                    async with asyncio.timeout(MAP_TIMEOUT_S):
                        ranges = await node.client.execute_command("CLUSTER", "SLOTS")
                except (RedisError, OSError) as error:  # TimeoutError is an OSError
                    node.failed_at = asyncio.get_running_loop().time()
                    reason = error
                else:
                    await self._take(ranges, node.address[0])
                    return
        finally:
            self._refreshed_at = asyncio.get_running_loop().time()
        raise StoreConnectionError(f"No node of the cluster answers: {reason or 'it has none'}") from reason

    async def _take(self, ranges: Iterable[Sequence[Any]], asked_host: str) -> None:
        owners: list[Node | None] = [None] * SLOTS
        for start, end, (host, port, *_), *_ in ranges:
            # A node that does not know its own address says nothing: it is where we asked.
            node = self._node_at((host.decode() if host else asked_host, port))
            owners[start : end + 1] = [node] * (end + 1 - start)
        self._owners = owners
        gone, self._retired = self._retired, [node for node in self._nodes.values() if node not in set(owners)]
        self._nodes = {address: node for address, node in self._nodes.items() if node not in self._retired}
        for node in gone:  # calls that were under way on it had the time between two maps to finish
            await node.client.aclose()


class ClusterPipeline(AsyncCoreCommands):
    """Commands on keys of one slot, collected, and sent together by `execute`."""

    _event_dispatcher: Any = None

    def __init__(self, store: ClusterStore, *, transaction: bool) -> None:
        """Collect commands for `store`."""
        self._store = store
        self._transaction = transaction
        self._commands: list[Command] = []

    def execute_command(self, *words: Any, **options: Any) -> Self:
        """Add a command."""
        self._commands.append((words, options))
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - the library's signature
        """Send the commands; their replies, in order.

        Args:
            raise_on_error: raise the first error among the replies instead of returning it.

        Raises:
            RedisError: as a pipeline of a single server does.
        """
        commands, self._commands = self._commands, []
        replies: list[Any] = await self._store.run_together(commands, transaction=self._transaction) if commands else []
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._commands = []


_ASKING: Command = (("ASKING",), {})


async def _together(node: Node, commands: Iterable[Command], *, transaction: bool) -> list[Any]:
    async with node.client.pipeline(transaction=transaction) as pipeline:
        for words, options in commands:
            pipeline.execute_command(*words, **options)
        return await pipeline.execute(raise_on_error=False)


def _key_of(words: Sequence[Any]) -> bytes | None:
    """The key that says where a command belongs; None when any node will do."""
    name = words[0].upper()
    if name in _KEYLESS:
        return None
    if name in {"EVAL", "EVALSHA"}:
        position = 3
    elif name in {"XREAD", "XREADGROUP"}:
        position = next(i for i, word in enumerate(words) if word in {b"STREAMS", "STREAMS"}) + 1
    else:
        position = 1
    key = words[position]
    return key if isinstance(key, bytes) else str(key).encode()


def _heard(task: asyncio.Task[None]) -> None:
    """The error of a map that nobody waited for is known from the call that asked for it."""
    if not task.cancelled():
        task.exception()
