"""Stores of several servers, as child processes: a primary and its replica under Sentinel, and a Cluster.

    async with SentinelStores(folder) as stores:
        ... stores.url ... await stores.primary.kill() ... await stores.next_primary()

    async with ClusterStores(folder) as stores:
        ... stores.url ... await stores.migrate_slot(slot, stores.nodes[1])

Every server is the embedded Valkey with its full durability (AOF always), on loopback ports of its own and without a
password. However the block is left, all of them are gone afterwards.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from flashsale.connections.store import ping_store
from flashsale.embedded.configuration import configuration, quoted
from flashsale.embedded.folders import make_folder
from flashsale.embedded.programs import valkey_program
from flashsale.embedded.server import PING_TIMEOUT_MS, EmbeddedServer

MASTER_NAME = "drops"
SLOTS = 16_384
SENTINEL_DOWN_AFTER_MS = 1_000
CLUSTER_NODE_TIMEOUT_MS = 1_000
PATIENCE_S = 30.0
"""How long servers may take to agree; on an overloaded machine an election takes more than one attempt."""
_LOOK_S = 0.02
_ANSWERS_WITHIN_S = 1.0
_MIGRATE_TIMEOUT_MS = 5_000
_PAUSE_MS = 60_000

_REPLICATED: Mapping[str, object] = {"repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1, "repl-backlog-size": "16mb"}


class Node(EmbeddedServer):
    """One server of a topology, reachable over TCP. Its settings are kept over a restart, as the servers rewrite them."""

    name = "valkey"
    _stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, port: int, options: Mapping[str, object], *, sentinel: bool = False) -> None:
        """Describe the server.

        Args:
            folder: where its files live.
            port: on loopback.
            options: its settings over those of `config/valkey.conf`.
            sentinel: run it as a Sentinel, with `options` only.
        """
        super().__init__(folder, port=port)
        self.port = port
        self._options = options
        self._sentinel = sentinel

    def __repr__(self) -> str:
        return f"<{'Sentinel' if self._sentinel else 'Node'} {self.port}>"

    @property
    def url(self) -> str:
        """`redis://…` on loopback."""
        return f"redis://127.0.0.1:{self.port}/0"

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does; connections stay open and nobody answers on them."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had happened."""
        os.kill(self.pid, signal.SIGCONT)

    async def command(self, *words: str | bytes | float) -> Any:
        """Any command, over a connection of its own.

        Raises:
            RedisError: the server refused it, or does not answer.
        """
        async with Redis(port=self.port, protocol=2, socket_timeout=PATIENCE_S) as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def info(self, section: str) -> dict[str, Any]:
        """What INFO says about itself in one section."""
        found: dict[str, Any] = await self.command("INFO", section)
        return found

    @property
    def _socket_name(self) -> str:
        return "valkey.sock"

    def _paths_needed(self) -> Sequence[Path]:
        return [valkey_program()]

    async def _prepare(self) -> None:
        make_folder(self.folder / "data", 0o700, self._account)
        if self._configuration_file.exists():
            return
        own: dict[str, object] = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": quoted(self.folder / "data"),
            "logfile": '""',
            "daemonize": "no",
            **self._options,
        }
        lines = "".join(f"{name} {value}\n" for name, value in own.items())
        self._write(self._configuration_file, lines if self._sentinel else configuration("valkey.conf", own, between=" "))

    @property
    def _configuration_file(self) -> Path:
        return self.folder / "server.conf"

    def _argv(self) -> list[str]:
        return [str(valkey_program()), str(self._configuration_file), *(["--sentinel"] if self._sentinel else [])]

    async def _ping(self) -> None:
        await ping_store(self.url, timeout_ms=PING_TIMEOUT_MS)


class _Topology:
    """Servers that are started and ended together."""

    def __init__(self, servers: Sequence[Node]) -> None:
        self._servers = servers

    async def start(self) -> None:
        """Start all servers; return when they have agreed who is what."""
        try:
            await self._form()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all servers by force, also frozen ones."""
        await asyncio.gather(*(server.kill() for server in self._servers))

    async def _form(self) -> None:
        """Start them and make them know each other."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()


async def _start(servers: Sequence[Node]) -> None:
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.start())


class SentinelStores(_Topology):
    """A primary with one replica, watched by Sentinels which promote the replica when the primary is gone."""

    def __init__(self, folder: Path, *, sentinels: int = 1, min_replicas_to_write: int = 0) -> None:
        """Describe them; the ports are taken now, so that a relay can be put between two of them.

        Args:
            folder: where their files live.
            sentinels: how many; a majority of them has to agree that the primary is gone.
            min_replicas_to_write: the servers' setting of that name.
        """
        ports = free_ports(2 + sentinels)
        self.link_port = ports[0]
        """where the replica looks for its primary; set it before the start to lead the link through a relay"""
        self._folder = folder
        self._sentinels_wanted = sentinels
        data = {**_REPLICATED, "min-replicas-to-write": min_replicas_to_write, "min-replicas-max-lag": 2}
        self.data_nodes = [Node(folder / f"data-{port}", port, data) for port in ports[:2]]
        self.sentinels = [
            Node(folder / f"sentinel-{port}", port, _sentinel_options(ports[0], sentinels // 2 + 1), sentinel=True) for port in ports[2:]
        ]
        super().__init__([*self.data_nodes, *self.sentinels])

    @property
    def primary(self) -> Node:
        """The server that is the primary at first."""
        return self.data_nodes[0]

    @property
    def replica(self) -> Node:
        """The other one."""
        return self.data_nodes[1]

    @property
    def url(self) -> str:
        """For `store.url`."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{server.port}' for server in self.sentinels)}/{MASTER_NAME}/0"

    async def _form(self) -> None:
        await _start(self.data_nodes)
        await self.replica.command("REPLICAOF", "127.0.0.1", self.link_port)
        await self.replica.command("CONFIG", "REWRITE")
        await until(self.in_step)
        # A Sentinel asks a primary for its replicas at once and then every ten seconds.
        await _start(self.sentinels)
        for server in self.sentinels:
            await until(lambda server=server: self._knows_everybody(server))  # type: ignore[misc]

    async def in_step(self) -> bool:
        """Whether the replica has everything the primary has."""
        return await _in_step(self.primary, self.replica)

    async def hand_over(self) -> Node:
        """Kill the primary at a moment when the replica has everything; returns the next primary once it is one."""
        await self.kill_in_step()
        return await self.next_primary()

    async def kill_in_step(self) -> None:
        """Kill the primary at a moment when the replica has everything."""
        await _kill_in_step(self.primary, self.replica)

    async def _knows_everybody(self, server: Node) -> bool:
        words = [word.decode() for word in await server.command("SENTINEL", "MASTER", MASTER_NAME)]
        found = dict(zip(words[::2], words[1::2], strict=True))
        return (
            int(found["num-slaves"]) == len(self.data_nodes) - 1
            and int(found["num-other-sentinels"]) == len(self.sentinels) - 1
            and found["flags"] == "master"
        )

    async def primary_port(self) -> int:
        """Of the primary, as the first Sentinel that answers sees it."""
        for server in self.sentinels:
            try:
                async with asyncio.timeout(_ANSWERS_WITHIN_S):
                    _, port = await server.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
            except (RedisError, OSError):
                continue
            return int(port)
        raise AssertionError("no Sentinel answers")

    async def next_primary(self) -> Node:
        """Returns when the Sentinels have promoted the replica, and says which server is the primary now."""

        async def promoted() -> bool:
            return await self.primary_port() == self.replica.port and (await self.replica.info("replication"))["role"] == "master"

        await until(promoted)
        return self.replica


def _sentinel_options(primary_port: int, quorum: int) -> dict[str, object]:
    watched = f"sentinel monitor {MASTER_NAME} 127.0.0.1 {primary_port} {quorum}"
    return {
        watched: "",
        f"sentinel down-after-milliseconds {MASTER_NAME}": SENTINEL_DOWN_AFTER_MS,
        # Also how long a Sentinel leaves a replica alone that follows through a relay.
        f"sentinel failover-timeout {MASTER_NAME}": 60_000,
    }


class ClusterStores(_Topology):
    """A Cluster whose slots are spread evenly over its first nodes."""

    def __init__(self, folder: Path, *, primaries: int = 3, replicas: int = 0) -> None:
        """Describe it.

        Args:
            folder: where the nodes' files live.
            primaries: how many nodes share the slots.
            replicas: how many replicas each of them has.
        """
        count = primaries * (1 + replicas)
        ports = free_ports(2 * count)
        self.nodes = [
            Node(folder / f"node-{port}", port, _cluster_options(bus)) for port, bus in zip(ports[:count], ports[count:], strict=True)
        ]
        self._bus_ports = dict(zip(self.nodes, ports[count:], strict=True))
        self.primaries = self.nodes[:primaries]
        self.replicas = {primary: self.nodes[primaries + i :: primaries] for i, primary in enumerate(self.primaries)}
        super().__init__(self.nodes)

    @property
    def url(self) -> str:
        """For `store.url`: every node, so that any may be away."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    async def _form(self) -> None:
        await _start(self.nodes)
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            await node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(self.primaries):
            start, end = number * SLOTS // len(self.primaries), (number + 1) * SLOTS // len(self.primaries) - 1
            await node.command("CLUSTER", "ADDSLOTSRANGE", start, end)
        for node in self.nodes[1:]:
            await first.command("CLUSTER", "MEET", "127.0.0.1", node.port, self._bus_ports[node])
        for node in self.nodes:
            await until(lambda node=node: self._knows_everybody(node))  # type: ignore[misc]
        for primary, replicas in self.replicas.items():
            for replica in replicas:
                await replica.command("CLUSTER", "REPLICATE", await self.id_of(primary))
        for node in self.nodes:
            await until(lambda node=node: self.is_ok(node))  # type: ignore[misc]
        for primary, replicas in self.replicas.items():
            for replica in replicas:
                await until(lambda primary=primary, replica=replica: _in_step(primary, replica))  # type: ignore[misc]

    async def _knows_everybody(self, node: Node) -> bool:
        lines = (await node.command("CLUSTER", "NODES")).splitlines()
        return len(lines) == len(self.nodes) and not any(b"handshake" in line for line in lines)

    async def is_ok(self, node: Node) -> bool:
        """Whether the node thinks that every slot is served."""
        return b"cluster_state:ok" in await node.command("CLUSTER", "INFO")

    async def id_of(self, node: Node) -> str:
        """The node's own name in the Cluster."""
        name: bytes = await node.command("CLUSTER", "MYID")
        return name.decode()

    async def owner(self, slot: int) -> Node:
        """The node that serves a slot, as the first node that answers sees it."""
        for asked in self.nodes:
            try:
                async with asyncio.timeout(_ANSWERS_WITHIN_S):
                    ranges = await asked.command("CLUSTER", "SLOTS")
            except (RedisError, OSError):
                continue
            for start, end, (_, port, *_), *_ in ranges:
                if start <= slot <= end:
                    return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    async def migrate_slot(self, slot: int, to: Node) -> None:
        """Move a slot as a whole, as Valkey 9 does; returns when every node knows."""
        source = await self.owner(slot)
        await source.command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", await self.id_of(to))
        await self._everybody_sees(slot, to)

    async def migrate_keys(self, slot: int, to: Node, *, pause_s: float = 0.0) -> None:
        """Move a slot key by key, as every version can; returns when every node knows.

        Args:
            slot: which.
            to: its new owner.
            pause_s: between two keys, so that callers meet the slot half moved.
        """
        source = await self.owner(slot)
        source_id, target_id = await self.id_of(source), await self.id_of(to)
        await to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := await source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            await source.command("MIGRATE", "127.0.0.1", to.port, "", 0, _MIGRATE_TIMEOUT_MS, "KEYS", *keys)
            await asyncio.sleep(pause_s)
        for node in (to, source, *(node for node in self.primaries if node not in (to, source))):
            await node.command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        await self._everybody_sees(slot, to)

    async def _everybody_sees(self, slot: int, owner: Node) -> None:
        for node in self.nodes:

            async def sees(node: Node = node) -> bool:
                ranges = await node.command("CLUSTER", "SLOTS")
                return any(start <= slot <= end and port == owner.port for start, end, (_, port, *_), *_ in ranges)

            await until(sees)

    async def hand_over(self, primary: Node) -> Node:
        """Kill a primary at a moment when its replica has everything; returns the next primary once it is one."""
        await _kill_in_step(primary, self.replicas[primary][0])
        return await self.next_primary(primary)

    async def next_primary(self, of: Node) -> Node:
        """Returns when a replica of a primary that is gone serves its slots, and says which."""
        candidates = self.replicas[of]

        async def promoted() -> bool:
            return any([(await node.info("replication"))["role"] == "master" and await self.is_ok(node) for node in candidates])

        await until(promoted)
        for node in candidates:
            if (await node.info("replication"))["role"] == "master":
                return node
        raise AssertionError("it was a primary a moment ago")


def _cluster_options(bus_port: int) -> dict[str, object]:
    return {
        **_REPLICATED,
        "cluster-enabled": "yes",
        "cluster-port": bus_port,
        "cluster-node-timeout": CLUSTER_NODE_TIMEOUT_MS,
        # A drop lives in one slot: the others need not stop when its node does.
        "cluster-require-full-coverage": "no",
        "cluster-replica-validity-factor": 0,
        "cluster-allow-replica-migration": "no",
    }


async def _in_step(primary: Node, replica: Node) -> bool:
    theirs = await replica.info("replication")
    return bool(
        theirs.get("master_link_status") == "up"
        and theirs["slave_repl_offset"] == (await primary.info("replication"))["master_repl_offset"]
    )


async def _kill_in_step(primary: Node, replica: Node) -> None:
    await primary.command("CLIENT", "PAUSE", _PAUSE_MS, "WRITE")
    await until(lambda: _in_step(primary, replica))
    await primary.kill()


async def until(question: Callable[[], Awaitable[bool]], patience_s: float = PATIENCE_S) -> None:
    """Asks until the answer is yes; a server that does not answer just now counts as no.

    Raises:
        TimeoutError: it was no for `patience_s`.
    """
    async with asyncio.timeout(patience_s):
        while True:
            try:
                if await question():
                    return
            except (RedisError, OSError):
                pass
            await asyncio.sleep(_LOOK_S)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, all different."""
    probes: list[socket.socket] = []
    try:
        for _ in range(count):
            probe = socket.socket()
            probes.append(probe)
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
