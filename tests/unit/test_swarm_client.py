"""The crowd's HTTP client and its patience, against a server that answers byte by byte what a test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest.asking import Asker, TimeUp
from loadtest.client import AnswerLost, NotSent, Pool
from loadtest.diary import Diary

Script = list[bytes | None]
"""Answers in order; None closes the connection instead. The last one is repeated."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b'HTTP/1.1 503 Busy\r\nContent-Length: 15\r\n\r\n{"code":"busy"}'


class Server:
    """Answers from a script, one answer per request."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await _read_request(reader):
                answer = self.script[min(len(self.requests), len(self.script) - 1)]
                self.requests.append(head)
                if answer is None:
                    break
                writer.write(answer)
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            head += await reader.readexactly(int(line.partition(b":")[2]))
    return head


@asynccontextmanager
async def serving(*script: bytes | None) -> AsyncIterator[Server]:
    server = Server(list(script))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server


async def test_one_connection_serves_one_request_after_another() -> None:
    async with serving(OK) as server:
        pool = Pool(server.url)
        for _ in range(3):
            assert (await pool.request("GET", "/x")).status == 200
        assert server.connections == 1
        pool.close()


async def test_the_pool_never_opens_more_connections_than_allowed() -> None:
    async with serving(OK) as server:
        pool = Pool(server.url, connections_max=3)
        answers = await asyncio.gather(*(pool.request("GET", "/x") for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        assert server.connections <= 3
        pool.close()


async def test_headers_and_a_json_body_are_sent() -> None:
    async with serving(OK) as server:
        pool = Pool(server.url)
        await pool.request("POST", "/x", headers={"Idempotency-Key": "k"}, body={"a": 1})
        assert server.requests[0].startswith(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"\r\nIdempotency-Key: k\r\n" in server.requests[0]
        assert server.requests[0].endswith(b'\r\n\r\n{"a":1}')
        pool.close()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_no_readable_answer_means_it_is_unknown_what_happened(answer: bytes | None) -> None:
    async with serving(answer) as server:
        with pytest.raises(AnswerLost):
            await Pool(server.url).request("GET", "/x")


async def test_an_answer_that_does_not_come_in_time_is_lost() -> None:
    async with serving(b"") as server:
        with pytest.raises(AnswerLost):
            await Pool(server.url).request("GET", "/x", timeout_s=0.05)


async def test_an_answer_can_be_lost_on_purpose_after_the_request_was_sent() -> None:
    async with serving(OK) as server:
        pool = Pool(server.url)
        with pytest.raises(AnswerLost):
            await pool.request("GET", "/x", lose_after_s=0.05)
        assert len(server.requests) == 1
        assert (await pool.request("GET", "/x")).status == 200
        assert server.connections == 2
        pool.close()


async def test_nobody_there_means_nothing_was_sent() -> None:
    async with serving(OK) as server:
        url = server.url
    with pytest.raises(NotSent):
        await Pool(url).request("GET", "/x")


@pytest.mark.parametrize("url", ["http://192.0.2.1:8080", "https://127.0.0.1", "http://example.invalid"])
def test_load_is_only_ever_sent_to_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Pool(url)


def _asker(server: Server, within_s: float = 5.0) -> tuple[Asker, Diary]:
    diary = Diary()
    return Asker(Pool(server.url), diary, time.monotonic() + within_s), diary


async def test_asking_goes_on_until_there_is_an_answer() -> None:
    async with serving(None, BUSY, OK) as server:
        asker, diary = _asker(server)
        assert (await asker.ask("join", "POST", "/x", body={"a": 1})).status == 200
        assert len({request.partition(b"\r\n\r\n")[2] for request in server.requests}) == 1
        assert (diary.lost["join"], diary.retry_later["busy"], diary.answers["join"]["200"]) == (1, 1, 1)


async def test_asking_ends_at_the_deadline() -> None:
    async with serving(BUSY) as server:
        asker, _ = _asker(server, within_s=0.2)
        with pytest.raises(TimeUp):
            await asker.ask("join", "POST", "/x")


async def test_a_refusal_is_an_answer() -> None:
    refusal = b'HTTP/1.1 409 Conflict\r\nContent-Length: 19\r\n\r\n{"code":"sold_out"}'
    async with serving(refusal) as server:
        asker, diary = _asker(server)
        assert (await asker.ask("reserve", "POST", "/x")).status == 409
        assert diary.answers["reserve"] == {"409 sold_out": 1}
