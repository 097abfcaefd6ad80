"""The port for metrics alone."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Gauge

from flashsale.errors import ConfigurationError
from flashsale.metrics import render
from flashsale.web import metrics_listener
from flashsale.web.metrics_listener import CONNECTIONS_MAX, HEAD_BYTES_MAX, serving_metrics

HOST = "127.0.0.1"


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_metrics_are_answered_and_nothing_else() -> None:
    registry = CollectorRegistry()
    Gauge("ours", "Of ours.", registry=registry).set(7)
    async with serving_metrics(HOST, 0, lambda: render(registry)) as port:
        answer = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=")
        assert b"ours 7.0" in answer
        for request in (b"GET / HTTP/1.1\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n", b"\r\n\r\n"):
            assert (await ask(port, request)).startswith(b"HTTP/1.1 404 ")
        assert await ask(port, b"GET /" + b"x" * 2 * HEAD_BYTES_MAX + b"\r\n\r\n") == b""


async def test_connections_that_ask_nothing_are_few_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_metrics(HOST, 0, lambda: b"") as port:
        silent = [await asyncio.open_connection(HOST, port) for _ in range(CONNECTIONS_MAX)]
        assert await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
        monkeypatch.setattr(metrics_listener, "ANSWER_TIMEOUT_S", 0.01)
        silent[0][1].write(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert (await silent[0][0].read()).startswith(b"HTTP/1.1 200 OK")
        silent.append(await asyncio.open_connection(HOST, port))
        assert await silent[-1][0].read() == b""
    for reader, writer in silent:
        assert await reader.read() == b""
        writer.close()


async def test_a_port_in_use_is_told() -> None:
    async with serving_metrics(HOST, 0, lambda: b"") as port:
        with pytest.raises(ConfigurationError, match=f"cannot be served on {HOST}, port {port}: Address already in use"):
            async with serving_metrics(HOST, port, lambda: b""):
                pass
