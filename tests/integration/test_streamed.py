"""Answers that are written piece by piece: what happens to a reader who stops reading, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from flashsale.web.app import listen
from flashsale.web.streamed import Streamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import pytest

PATIENCE_S = 20
UNREAD_MAX_S = 0.05
PIECE = b"x" * 1024
SMALL = 4096
"""as a buffer of a connection; the kernel doubles it"""
KEPT_MAX_BYTES = 48 * 1024
"""what the kernel may hold for both ends of such a connection; a writer's own buffer would come on top, with 64 KiB"""


class Pieces:
    """A stream without an end, and what was asked of it."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = asyncio.Event()
        self.gives_up_after_ms = 0

    async def all(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                self.given += 1
                yield PIECE
        finally:
            self.closed.set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        streamed = await Streamed.begun(self.all(), {}, unread_max_s=UNREAD_MAX_S)
        await streamed.prepare(request)
        assert request.transport is not None
        sock = request.transport.get_extra_info("socket")
        self.gives_up_after_ms = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        return streamed


@asynccontextmanager
async def reader_of(pieces: Pieces) -> AsyncIterator[socket.socket]:
    """A connection over which the stream has been asked for."""
    listener = listen("127.0.0.1", 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    runner = web.ServerRunner(web.Server(pieces.answer))
    await runner.setup()
    await web.SockSite(runner, listener).start()
    loop = asyncio.get_running_loop()
    try:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            lazy.setblocking(False)
            await loop.sock_connect(lazy, listener.getsockname())
            await loop.sock_sendall(lazy, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            yield lazy
    finally:
        await runner.cleanup()


async def test_nothing_is_kept_for_a_reader_who_does_not_read_and_soon_the_stream_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    pieces = Pieces()
    async with reader_of(pieces) as lazy, asyncio.timeout(PATIENCE_S):
        await pieces.closed.wait()
        assert pieces.given * len(PIECE) < KEPT_MAX_BYTES
        assert not (await _rest(lazy)).endswith(b"0\r\n\r\n"), "half an answer does not look like a whole one"
    assert "stream_cut" in capsys.readouterr().out


async def test_a_reader_who_has_gone_without_a_word_is_given_up_by_the_kernel_as_soon() -> None:
    pieces = Pieces()
    async with reader_of(pieces), asyncio.timeout(PATIENCE_S):
        await pieces.closed.wait()
    assert pieces.gives_up_after_ms == UNREAD_MAX_S * 1000


async def _rest(lazy: socket.socket) -> bytes:
    read = b""
    while more := await asyncio.get_running_loop().sock_recv(lazy, 65536):
        read += more
    return read
