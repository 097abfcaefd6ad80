"""A store that is silent, frozen, slow or gone: every caller is answered, and with what is true."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as StoreTimeoutError

from chaos.proxy import Proxy
from chaos.topologies import Node, free_ports
from chaos.wire import Side
from flashsale.connections import calls as calls_module
from flashsale.connections.calls import StoreCalls
from flashsale.connections.durability import together
from flashsale.connections.pools import NotSent
from flashsale.connections.store import open_store
from flashsale.errors import StoreUnavailable, StoreUnknown
from flashsale.metrics import Metrics
from flashsale.scripts import Scripts
from flashsale.settings import StoreSettings
from tests.lua import world as w
from tests.lua.world import LIBRARY, World, reserving, settings_of_tests

TIMEOUT_MS, DEADLINE_MS = 120, 200
HANGS_S = 30.0
"""Nothing here takes so long but what would never end."""


def store_at(port: int, *, timeout_ms: int = TIMEOUT_MS, deadline_ms: int = DEADLINE_MS) -> StoreSettings:
    return StoreSettings(url=f"redis://127.0.0.1:{port}/0", timeout_ms=timeout_ms, deadline_ms=deadline_ms, connections_max=4)


@pytest.fixture
async def server(stores_folder: Path) -> AsyncIterator[Node]:
    """A Valkey of this test's own, to be frozen or killed."""
    folder = Path(tempfile.mkdtemp(prefix="own-", dir=stores_folder))
    folder.chmod(0o711)
    node = Node(folder, free_ports(1)[0], {})
    await node.start()
    yield node
    if node.pid:
        node.thaw()
    await node.stop()


@pytest.fixture
async def proxy(server: Node) -> AsyncIterator[Proxy]:
    async with Proxy("worker to store", [("127.0.0.1", server.port)]) as running:
        yield running


class Worker:
    """What one worker has: scripts on a store, and metrics. It does not wait long."""

    def __init__(self, port: int) -> None:
        settings = settings_of_tests()
        self.store = store_at(port)
        self.metrics = Metrics()
        self.client = open_store(self.store)
        self.world = World(self.client, msgspec.structs.replace(settings, store=self.store))
        self.world.scripts = Scripts(self.client, LIBRARY, self.store, settings.batch, self.metrics.store_circuit_changed)

    @property
    def open_circuits(self) -> float | None:
        return self.metrics.registry.get_sample_value("flashsale_store_circuit_open")

    async def reserve(self, name: str, reservation: str) -> str:
        async with asyncio.timeout(HANGS_S):
            word: str = (await self.world.reserve(reserving(name, reservation, s1=1)))[0][0]
        return word

    async def reserve_when_possible(self, name: str, reservation: str) -> str:
        async with asyncio.timeout(HANGS_S):
            while True:
                try:
                    return await self.reserve(name, reservation)
                except (StoreUnavailable, StoreUnknown):
                    await asyncio.sleep(0.01)


@pytest.fixture
async def patient(server: Node) -> AsyncIterator[World]:
    """The truth: a world straight on the store, where ann and bob are admitted."""
    client = open_store(store_at(server.port, timeout_ms=10_000, deadline_ms=20_000))
    world = World(client)
    await w.admitted(world)
    world.at(1_000)
    yield world
    await client.aclose()


@pytest.fixture
async def worker(patient: World, proxy: Proxy) -> AsyncIterator[Worker]:
    made = Worker(proxy.port)
    made.world.at(1_000)
    assert await made.reserve_when_possible("ann", "first") == "reserved"
    yield made
    await made.client.aclose()


async def available(world: World) -> int:
    return int((await world.state())["stock"]["available:s1"])


# --------------------------------------------------------------------------------------------------------- a silent store


@pytest.mark.parametrize("sides", [(Side.REQUESTS, Side.REPLIES), (Side.REPLIES,)], ids=["both_ways", "replies_only"])
async def test_a_partition_is_unknown_once_and_then_refused_without_sending(
    worker: Worker, proxy: Proxy, patient: World, sides: tuple[Side, ...]
) -> None:
    proxy.stall(*sides)
    with pytest.raises(StoreUnknown):
        await worker.reserve("ann", "r1")
    assert worker.open_circuits == 1
    connections = proxy.connections
    with pytest.raises(StoreUnavailable, match="Nothing was sent"):
        await worker.reserve("bob", "r2")
    assert proxy.connections == connections
    proxy.heal()
    assert await worker.reserve_when_possible("ann", "r1") in {"reserved", "replayed"}
    assert worker.open_circuits == 0
    assert await available(patient) == 3, "two for ann, each once, and none for bob"


async def test_a_frozen_store_runs_what_it_was_sent_later_and_once(worker: Worker, server: Node, patient: World) -> None:
    server.freeze()
    with pytest.raises(StoreUnknown):
        await worker.reserve("ann", "r1")
    refused = await asyncio.gather(*(worker.reserve("bob", f"b{number}") for number in range(50)), return_exceptions=True)
    assert {type(error) for error in refused} == {StoreUnavailable}
    server.thaw()
    assert await worker.reserve_when_possible("ann", "r1") == "replayed"
    assert await available(patient) == 3


async def test_a_store_that_is_gone_is_unavailable_because_nothing_was_sent(worker: Worker, server: Node, proxy: Proxy) -> None:
    await worker.client.connection_pool.disconnect()
    await proxy.close()
    await server.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await worker.reserve("ann", "r1")
    assert worker.open_circuits == 1
    await server.start()
    await proxy.start()
    assert await worker.reserve_when_possible("ann", "r1") == "reserved"


async def test_a_cut_connection_is_made_anew_within_the_call(worker: Worker, proxy: Proxy, patient: World) -> None:
    for number in range(2):
        proxy.cut()
        assert await worker.reserve("bob", f"r{number}") == "reserved"
    assert worker.open_circuits == 0
    assert await available(patient) == 2


async def test_requests_that_wait_behind_a_silent_call_are_refused_with_it(worker: Worker, proxy: Proxy) -> None:
    """Nothing piles up: the line is as long as one call, and then everybody hears it."""
    proxy.stall()
    group = worker.world.scripts.batcher("reserve", "d", lambda _requests, results, _now_ms: results)
    waiting = [group.submit(reserving("bob", f"r{number}", s1=1)) for number in range(2_000)]
    async with asyncio.timeout(HANGS_S):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    kinds = [type(result) for result in results]
    assert set(kinds) == {StoreUnknown, StoreUnavailable}
    assert kinds.count(StoreUnknown) <= 2 * 256, "of the calls that were in flight"


# ----------------------------------------------------------------------------------------------------- what is certain


class Attempts:
    """Sends nothing: each attempt ends as it is told."""

    def __init__(self, *ends: Exception | str) -> None:
        self._ends = iter(ends)
        self._last = ends[-1]

    async def send(self) -> str:
        end = next(self._ends, self._last)
        if isinstance(end, Exception):
            raise end
        return end


LOST, SILENT = StoreConnectionError("Connection reset by peer"), StoreTimeoutError("Timeout reading")
UNREACHED, READONLY, BADARG = (
    NotSent("Connection refused"),
    ReadOnlyError("You can't write", status_code="READONLY"),
    ResponseError("BADARG no"),
)


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        ((LOST, "reply"), "reply"),
        ((UNREACHED, READONLY, ResponseError("TRYAGAIN later"), ResponseError("CLUSTERDOWN"), "reply"), "reply"),
        ((UNREACHED,), StoreUnavailable),
        ((READONLY,), StoreUnavailable),
        ((UNREACHED, READONLY), StoreUnavailable),
        ((SILENT,), StoreUnknown),
        ((LOST, UNREACHED), StoreUnknown),
        ((LOST, READONLY), StoreUnknown),
        ((LOST, BADARG), StoreUnknown),
        ((LOST, StoreUnavailable(what="The store does not keep it.")), StoreUnknown),
        ((READONLY, BADARG), ResponseError),
        ((StoreUnavailable(what="The store does not keep it."),), StoreUnavailable),
    ],
)
async def test_what_a_call_with_such_attempts_is_told_as(ends: tuple[Exception | str, ...], outcome: str | type[Exception]) -> None:
    attempts = Attempts(*ends)
    if isinstance(outcome, str):
        assert await StoreCalls(None, store_at(1, deadline_ms=60_000)).call("key", attempts.send) == outcome
    else:
        with pytest.raises(outcome):
            await StoreCalls(None, store_at(1)).call("key", attempts.send)


@pytest.mark.parametrize(("ends", "opens"), [((SILENT,), True), ((UNREACHED,), True), ((READONLY,), False), ((BADARG,), False)])
async def test_only_a_store_that_answers_nothing_opens_the_circuit(ends: tuple[Exception], *, opens: bool) -> None:
    told: list[bool] = []
    calls = StoreCalls(None, store_at(1), told.append)
    with pytest.raises((StoreUnavailable, StoreUnknown, ResponseError)):
        await calls.call("key", Attempts(*ends).send)
    assert told == [True] * opens


async def test_a_cluster_has_a_circuit_for_each_key_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of drops come from outside, so what is remembered of them has a limit."""
    monkeypatch.setattr(calls_module, "CIRCUITS_MAX", 3)
    told: list[bool] = []
    store = msgspec.structs.replace(store_at(1, deadline_ms=TIMEOUT_MS), url="redis+cluster://127.0.0.1:1")
    client = open_store(store)
    calls = StoreCalls(client, store, told.append)
    for number in range(5):
        with pytest.raises(StoreUnavailable):
            await calls.call(f"gone-{number}", Attempts(UNREACHED).send)
        assert await calls.call(f"fine-{number}", Attempts("reply").send) == "reply"
    assert len(calls._circuits) == 3
    assert told.count(True) - told.count(False) == sum(circuit.is_open for circuit in calls._circuits.values())
    await client.aclose()


# ------------------------------------------------------------------------------------------- nobody gets another's answer


async def test_a_thousand_cancelled_or_late_and_nobody_gets_anothers_answer(server: Node, proxy: Proxy) -> None:
    """Replies take up to twice the time limit, so that many are given up; half the callers go away at random moments besides."""
    store = store_at(proxy.port, timeout_ms=30, deadline_ms=60)
    client = open_store(store)
    dice = random.Random(11)
    wrong: list[Any] = []
    right = 0

    def asking(words: list[bytes]) -> Callable[[], Awaitable[Any]]:
        if len(words) == 1:
            return lambda: client.execute_command("ECHO", words[0])  # type: ignore[no-untyped-call]
        return lambda: together(client, [("ECHO", word) for word in words])

    async def ask(number: int) -> None:
        nonlocal right
        words = [b"%d-%d" % (number, part) for part in range(1 + number % 3)]
        # A circuit of its own: a refused call would prove nothing.
        answer = await StoreCalls(client, store).call("key", asking(words))
        if answer != (words[0] if len(words) == 1 else words):
            wrong.append((words, answer))
        right += 1

    async with asyncio.timeout(2 * HANGS_S):
        for start in range(0, 1_000, 20):
            proxy.flows[Side.REPLIES].jitter_ms = dice.choice([0, 10, 60])
            tasks = [asyncio.create_task(ask(number)) for number in range(start, start + 20)]
            for task in dice.sample(tasks, 10):
                asyncio.get_running_loop().call_later(dice.random() * 0.03, task.cancel)
            await asyncio.gather(*tasks, return_exceptions=True)
        proxy.flows[Side.REPLIES].jitter_ms = 0
        answered = right
        while right == answered:
            await asyncio.gather(*(ask(number) for number in range(4)), return_exceptions=True)
    assert wrong == []
    await client.aclose()
