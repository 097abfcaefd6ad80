"""The proxy breaks what it should, where it should, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import NoScriptError

from chaos.lab import address_of, through, until
from chaos.proxy import Proxy, Swallow, armed, holding
from chaos.wire import Bytes, Dialogue, Message, NotUnderstood, Postgres, Resp, Side, command, reply_to, script, statement
from flashsale.connections.store import open_store
from flashsale.embedded.stores import EmbeddedStores
from tests.stores import settings_for

Store = Any
"""redis.asyncio.Redis; its annotations mix str and bytes"""


class Echo:
    """A server that sends everything back and remembers what it got."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.address = ("127.0.0.1", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            while data := await reader.read(65_536):
                self.got += data
                writer.write(data)
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    served = Echo()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.address = server.sockets[0].getsockname()[:2]
    yield served
    server.close()


@pytest.fixture
async def wire(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy("test", [echo.address]) as proxy:
        yield proxy


Connect: TypeAlias = Callable[[Proxy], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    writers: list[asyncio.StreamWriter] = []

    async def connected(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writers.append(writer)
        return reader, writer

    yield connected
    for writer in writers:
        writer.close()


async def test_what_is_whole_passes_unchanged_however_much_it_is(wire: Proxy, echo: Echo, connect: Connect) -> None:
    sent = bytes(range(256)) * 8_000
    reader, writer = await connect(wire)
    writer.write(sent)
    assert await reader.readexactly(len(sent)) == sent
    assert echo.got == sent
    writer.close()
    assert await reader.read() == b""


async def test_a_connection_is_reset_after_so_many_bytes(wire: Proxy, echo: Echo, connect: Connect) -> None:
    wire.flows[Side.REQUESTS].cut_after_bytes = 5
    reader, writer = await connect(wire)
    writer.write(b"123456789")
    await until(lambda: _true(echo.got == b"12345"))
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(6)


async def test_a_stalled_direction_keeps_silent_until_it_is_healed(wire: Proxy, echo: Echo, connect: Connect) -> None:
    wire.stall(Side.REPLIES)
    reader, writer = await connect(wire)
    writer.write(b"ping")
    await until(lambda: _true(echo.got == b"ping"))
    answer = asyncio.create_task(reader.readexactly(4))
    done, _ = await asyncio.wait({answer}, timeout=0.05)
    assert not done
    wire.heal()
    assert await answer == b"ping"


async def test_one_that_refuses_resets_everybody_and_welcomes_them_again_when_healed(wire: Proxy, connect: Connect) -> None:
    reader, _ = await connect(wire)
    wire.refuse()
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    with pytest.raises(ConnectionResetError):
        await (await connect(wire))[0].readexactly(1)
    wire.heal()
    reader, writer = await connect(wire)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"


async def test_latency_and_bandwidth_hold_back(wire: Proxy, connect: Connect) -> None:
    loop = asyncio.get_running_loop()
    wire.flows[Side.REQUESTS].latency_ms = 30
    wire.flows[Side.REPLIES].bandwidth_bytes_per_s = 100_000
    reader, writer = await connect(wire)
    began = loop.time()
    writer.write(b"x" * 5_000)
    await reader.readexactly(5_000)
    assert loop.time() - began >= 0.03 + 0.05 - 0.005


async def test_the_next_upstream_is_taken_when_one_is_gone(echo: Echo, connect: Connect) -> None:
    gone = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    address = gone.sockets[0].getsockname()[:2]
    gone.close()
    async with Proxy("test", [address, echo.address]) as proxy:
        for _ in range(2):
            reader, writer = await connect(proxy)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"


# ------------------------------------------------------------------------------------------------------------ holding


@pytest.fixture(scope="module")
async def own_stores() -> AsyncIterator[EmbeddedStores]:
    """Stores with a port, which the session's have not."""
    with tempfile.TemporaryDirectory(prefix="flashsale-proxy-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        async with EmbeddedStores(name, valkey_port=0, postgres_port=0) as stores:
            yield stores


@pytest.fixture
async def valkey(own_stores: EmbeddedStores) -> AsyncIterator[tuple[Proxy, Store]]:
    """A client that comes through a proxy, and one that does not, on an empty store."""
    async with Proxy("valkey", [address_of(own_stores.valkey.tcp_url)], Resp) as proxy:
        client = open_store(settings_for(through(own_stores.valkey.tcp_url, proxy), "postgresql://unused/").store)
        await client.flushall()
        yield proxy, client
        proxy.heal()
        await client.aclose()


@pytest.fixture
async def postgres(own_stores: EmbeddedStores) -> AsyncIterator[tuple[Proxy, asyncpg.Connection[asyncpg.Record]]]:
    async with Proxy("postgres", [address_of(own_stores.postgres.tcp_url)], Postgres) as proxy:
        connection = await asyncpg.connect(through(own_stores.postgres.tcp_url, proxy))
        await connection.execute("CREATE TABLE IF NOT EXISTS noted (n int)")
        await connection.execute("TRUNCATE noted")
        yield proxy, connection
        proxy.heal()
        connection.terminate()


async def rows_noted(stores: EmbeddedStores) -> int:
    connection = await asyncpg.connect(stores.postgres.url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM noted"))
    finally:
        await connection.close()


async def test_a_command_is_held_before_the_store_has_it(valkey: tuple[Proxy, Store], own_stores: EmbeddedStores) -> None:
    proxy, client = valkey
    other = open_store(settings_for(own_stores.valkey.url, "postgresql://unused/").store)
    with holding([proxy], Side.REQUESTS, command("INCRBY", "units")) as hold:
        await client.incr("other")
        answer = asyncio.ensure_future(client.incr("units"))
        held = await hold.reached()
        assert held.message.words == (b"INCRBY", b"units", b"1")
        assert await other.get("units") is None
        hold.release()
        assert await answer == 1
        assert await client.incr("units") == 2, "a hold catches once"
    await other.aclose()


async def test_an_answer_is_held_after_the_store_has_done_it(valkey: tuple[Proxy, Store], own_stores: EmbeddedStores) -> None:
    proxy, client = valkey
    other = open_store(settings_for(own_stores.valkey.url, "postgresql://unused/").store)
    with holding([proxy], Side.REPLIES, reply_to(command("INCRBY", "units"))) as hold:
        answer = asyncio.ensure_future(client.incr("units"))
        await hold.reached()
        assert await other.get("units") == b"1"
        hold.drop()
        with pytest.raises(StoreConnectionError):
            await answer
    assert await client.get("units") == b"1"
    await other.aclose()


async def test_so_many_answers_are_swallowed_and_no_more(valkey: tuple[Proxy, Store]) -> None:
    proxy, client = valkey
    with armed([proxy], Swallow(Side.REPLIES, reply_to(command("INCRBY")), times=2)):
        for _ in range(2):
            with pytest.raises(StoreConnectionError):
                await client.incr("units")
        assert await client.incr("units") == 3


async def test_an_answer_that_a_script_is_unknown_is_not_its_answer(valkey: tuple[Proxy, Store]) -> None:
    proxy, client = valkey
    body = "return redis.call('INCR', KEYS[1])"
    sha = hashlib.sha1(body.encode()).hexdigest()
    await client.script_flush()
    with armed([proxy], Swallow(Side.REPLIES, reply_to(script(sha, "units")), times=1)):
        with pytest.raises(NoScriptError):
            await client.evalsha(sha, 1, "units")
        with pytest.raises(StoreConnectionError):
            await client.eval(body, 1, "units")
        assert await client.evalsha(sha, 1, "units") == 2


async def test_replies_are_matched_to_commands_whatever_their_shape(valkey: tuple[Proxy, Store]) -> None:
    proxy, client = valkey
    with armed([proxy], Swallow(Side.REPLIES, reply_to(command("GET", "last")), times=1)):
        async with client.pipeline(transaction=True) as together:
            together.set("text", b"a\r\n*3\r\n")
            together.get("text")
            together.get("missing")
            together.hset("hash", mapping={"one": 1, "two": 2})
            together.hgetall("hash")
            together.rpush("list", *range(500))
            together.lrange("list", 0, -1)
            assert len(await together.execute()) == 7
        assert await client.execute_command("TIME")
        with pytest.raises(StoreConnectionError):
            await client.get("last")


async def test_a_statement_is_held_between_its_execution_and_its_commit(
    postgres: tuple[Proxy, asyncpg.Connection[asyncpg.Record]], own_stores: EmbeddedStores
) -> None:
    proxy, connection = postgres
    with holding([proxy], Side.REQUESTS, statement("INSERT INTO noted", "Sync")) as hold:
        inserted = asyncio.ensure_future(connection.execute("INSERT INTO noted VALUES ($1)", 1))
        await hold.reached()
        await until(lambda: _inserting(own_stores))
        hold.drop()
        with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
            await inserted
    assert await rows_noted(own_stores) == 0


async def test_an_answer_is_held_after_the_commit(
    postgres: tuple[Proxy, asyncpg.Connection[asyncpg.Record]], own_stores: EmbeddedStores
) -> None:
    proxy, connection = postgres
    with holding([proxy], Side.REPLIES, reply_to(statement("INSERT INTO noted"), "ReadyForQuery")) as hold:
        inserted = asyncio.ensure_future(connection.execute("INSERT INTO noted VALUES ($1)", 1))
        await hold.reached()
        assert await rows_noted(own_stores) == 1
        hold.release()
        assert await inserted == "INSERT 0 1"


async def _inserting(stores: EmbeddedStores) -> bool:
    """Whether a transaction that has written is open."""
    connection = await asyncpg.connect(stores.postgres.url)
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"))
    finally:
        await connection.close()


async def _true(answer: bool) -> bool:  # noqa: FBT001 - it is the answer
    return answer


# --------------------------------------------------------------------------------------------------------------- wires


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_a_message_is_found_however_it_is_cut(size: int) -> None:
    requests = b"*2\r\n$4\r\nincr\r\n$1\r\na\r\n*1\r\n$4\r\nTIME\r\n"
    replies = b":1\r\n*2\r\n$1\r\n5\r\n$-1\r\n"
    dialogue = Resp()
    asked = _fed(dialogue, Side.REQUESTS, requests, size)
    assert [message.kind for message in asked] == ["INCR", "TIME"]
    answered = _fed(dialogue, Side.REPLIES, replies, size)
    assert [message.belongs_to for message in answered] == asked
    assert b"".join(message.raw for message in answered) == replies


def _fed(dialogue: Dialogue, side: Side, data: bytes, size: int) -> list[Message]:
    return [message for start in range(0, len(data), size) for message in dialogue.read(side, data[start : start + size])]


def test_resp3_is_followed_too() -> None:
    dialogue = Resp()
    (asked,) = dialogue.read(Side.REQUESTS, b"*1\r\n$4\r\nINFO\r\n")
    pushed, answered = dialogue.read(Side.REPLIES, b">2\r\n+invalidate\r\n_\r\n|1\r\n+ttl\r\n:3\r\n%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n")
    assert pushed.belongs_to is None
    assert answered.belongs_to is asked


def test_what_is_no_command_ends_the_connection() -> None:
    with pytest.raises(NotUnderstood):
        Resp().read(Side.REQUESTS, b"GET / HTTP/1.1\r\n")
    assert Bytes().read(Side.REQUESTS, b"GET /") == [Message(b"GET /")]
