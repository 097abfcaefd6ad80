"""Answers that are written piece by piece: what is observed of a request ends where the stream begins."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from flashsale.errors import FlashsaleError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from aiohttp.abc import AbstractStreamWriter


class Streamed(web.StreamResponse):
    """An answer whose body is what a generator yields.

    The pieces are written when the handler has returned and the common headers are on it, so that metrics and the log have
    the time to the first byte and not that of a stream of hours. Nothing is kept for a reader who does not read but what the
    kernel's buffers hold: when they have been full for `unread_max_s`, or the other side has acknowledged nothing for so long
    (RFC 5482; where the system can), the connection is cut. It is cut, too, when the generator fails, so that half an answer
    never looks like a whole one.
    """

    def __init__(self, first: bytes, pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str], *, unread_max_s: float) -> None:
        super().__init__(headers=headers)
        self._first = first
        self._pieces = pieces
        self._unread_max_s = unread_max_s
        self._transport: asyncio.Transport | None = None
        self._writer: AbstractStreamWriter | None = None
        self._is_head = False

    @classmethod
    async def begun(cls, pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str], *, unread_max_s: float) -> Streamed:
        """The answer, once there is a first piece: what fails before it is answered as a problem.

        Args:
            pieces: has at least one; it is closed with the answer, or soon after the answer is forgotten.
            headers: of the answer.
            unread_max_s: how long a reader may take nothing.

        Raises: what the generator raises before its first piece.
        """
        return cls(await anext(pieces), pieces, headers, unread_max_s=unread_max_s)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Sends the head."""
        self._transport = request.transport
        self._is_head = request.method == "HEAD"
        if self._transport is not None:
            self._transport.set_write_buffer_limits(0)
            _give_up_after(self._transport, self._unread_max_s)
        self._writer = await super().prepare(request)
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Sends everything else."""
        try:
            if not self._is_head:
                await self._write_pieces()
        finally:
            await self._pieces.aclose()
        await super().write_eof(data)

    async def _write_pieces(self) -> None:
        try:
            await self._write(self._first)
            async for piece in self._pieces:
                await self._write(piece)
        except (TimeoutError, FlashsaleError) as error:
            structlog.get_logger("http").warning("stream_cut", error=str(error) or "the reader does not read")
            if self._transport is not None:
                self._transport.abort()
            raise ConnectionResetError("The stream was cut.") from error

    async def _write(self, piece: bytes) -> None:
        assert self._writer is not None
        async with asyncio.timeout(self._unread_max_s):
            await self.write(piece)
            await self._writer.drain()


def _give_up_after(transport: asyncio.Transport, seconds: float) -> None:
    """Has the kernel cut a connection whose other side has gone without a word; by itself it would wait a quarter of an hour."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
