"""HTTP rows: one worker on one core against an empty aiohttp handler on the same core, for the same requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from admission.tokens import make_signing_keys
from flashsale.model import secret_hash_of, ticket_id_of
from loadtest.bench.measure import Comparison, Measurement
from loadtest.bench.stage import SKU, Shopper, Stage
from loadtest.bench.wire import drive, flood

HOST = "127.0.0.1"
CONNECTIONS = 256
REQUESTS = 12_000
POLL_CONNECTIONS = 32
POLL_DEPTH = 16
POLL_REQUESTS = 128_000
START_TIMEOUT_S = 20.0
NAMES = (
    "join over HTTP, one worker",
    "admission over HTTP, one worker",
    "reserve over HTTP, one worker",
    "serving document, one worker, pipelined",
    "serving document, one worker, one at a time",
)


@dataclass(frozen=True, slots=True)
class Servers:
    """Ports of the running servers."""

    service: int
    empty: int


def comparisons(stage: Stage, servers: Servers) -> list[Comparison]:
    """The HTTP rows."""
    bench = HttpBench(stage, servers)
    empty = "an empty aiohttp handler, same requests, same core"
    measured: tuple[tuple[Measurement, Measurement, float | None], ...] = (
        (bench.join, bench.empty_join, 0.4),
        (bench.admission, bench.empty_admission, 0.2),
        (bench.reserve, bench.empty_reserve, 0.4),
        (bench.serving, bench.empty_serving, 5.0),
        # Here the load generator and the kernel weigh as much as the server; no goal, but it should be known.
        (bench.serving_singly, bench.empty_serving_singly, None),
    )
    return [Comparison(name, "requests/s", ours, empty, other, goal) for name, (ours, other, goal) in zip(NAMES, measured, strict=True)]


class HttpBench:
    """Each measurement makes a fresh drop; the baseline gets requests of exactly the same form."""

    def __init__(self, stage: Stage, servers: Servers) -> None:
        self._stage = stage
        self._servers = servers

    async def join(self) -> float:
        """Joins a second."""
        drop_id = await self._drop()
        return await self._service(drop_id, _join_requests(f"/v1/drops/{drop_id}/tickets", _newcomers(drop_id)))

    async def empty_join(self) -> float:
        """Its baseline."""
        return await self._empty(_join_requests("/empty", _newcomers("bench")))

    async def admission(self) -> float:
        """Admissions a second: each answer is a freshly signed token."""
        drop_id = await self._drop()
        shoppers = await self._stage.join_shoppers(drop_id, REQUESTS)
        return await self._service(drop_id, _admission_requests(f"/v1/drops/{drop_id}/admissions", shoppers))

    async def empty_admission(self) -> float:
        """Its baseline."""
        return await self._empty(_admission_requests("/empty", _newcomers("bench")))

    async def reserve(self) -> float:
        """Reservations a second, with tokens this worker has issued."""
        drop_id = await self._drop()
        shoppers = await self._stage.join_shoppers(drop_id, REQUESTS)
        requests = _admission_requests(f"/v1/drops/{drop_id}/admissions", shoppers)
        _, bodies = await drive(HOST, self._servers.service, requests, connections=CONNECTIONS, keep=True)
        tokens = [msgspec.json.decode(body)["admission_token"] for body in bodies]
        return await self._service(drop_id, _reserve_requests(f"/v1/drops/{drop_id}/reservations", tokens))

    async def empty_reserve(self) -> float:
        """Its baseline."""
        return await self._empty(_reserve_requests("/empty", ["x" * 420] * REQUESTS))

    async def serving(self) -> float:
        """Serving documents a second."""
        drop_id = await self._drop()
        return await self._polls(self._servers.service, f"/v1/drops/{drop_id}/serving", POLL_DEPTH)

    async def empty_serving(self) -> float:
        """Its baseline."""
        return await self._polls(self._servers.empty, "/empty", POLL_DEPTH)

    async def serving_singly(self) -> float:
        """Serving documents a second when a connection asks again only after an answer."""
        drop_id = await self._drop()
        return await self._polls(self._servers.service, f"/v1/drops/{drop_id}/serving", 1)

    async def empty_serving_singly(self) -> float:
        """Its baseline."""
        return await self._polls(self._servers.empty, "/empty", 1)

    async def _drop(self) -> str:
        drop_id = await self._stage.make_drop(REQUESTS)
        await _answers(self._servers.service, f"/v1/drops/{drop_id}/serving")
        return drop_id

    async def _service(self, drop_id: str, requests: list[bytes]) -> float:
        rate, _ = await drive(HOST, self._servers.service, requests, connections=CONNECTIONS)
        await self._stage.drops.close(drop_id)  # or the worker would beat for it through all later runs
        return rate

    async def _empty(self, requests: list[bytes]) -> float:
        rate, _ = await drive(HOST, self._servers.empty, requests, connections=CONNECTIONS)
        return rate

    async def _polls(self, port: int, path: str, depth: int) -> float:
        request, rounds = _request("GET", path, {}), POLL_REQUESTS // (POLL_CONNECTIONS * depth)
        return await flood(HOST, port, request, connections=POLL_CONNECTIONS, depth=depth, rounds=rounds)


def _newcomers(drop_id: str) -> list[Shopper]:
    secrets_made = (secrets.token_urlsafe(16) for _ in range(REQUESTS))
    return [Shopper(ticket_id_of(drop_id, secret_hash_of(secret)), secret) for secret in secrets_made]


def _join_requests(path: str, shoppers: list[Shopper]) -> list[bytes]:
    return [_request("POST", path, {}, {"secret_hash": secret_hash_of(shopper.secret)}) for shopper in shoppers]


def _admission_requests(path: str, shoppers: list[Shopper]) -> list[bytes]:
    return [_request("POST", path, {"Authorization": f"Ticket {shopper.ticket_id}.{shopper.secret}"}) for shopper in shoppers]


def _reserve_requests(path: str, tokens: list[str]) -> list[bytes]:
    body = {"items": [{"sku": SKU, "quantity": 1}]}
    return [_request("POST", path, {"Authorization": f"Bearer {token}", "Idempotency-Key": secrets.token_hex(8)}, body) for token in tokens]


def _request(method: str, path: str, headers: dict[str, str], body: object = None) -> bytes:
    payload = b"" if body is None else msgspec.json.encode(body)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", *(f"{name}: {value}" for name, value in headers.items())]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + payload


@asynccontextmanager
async def running_servers(stage: Stage, folder: Path) -> AsyncIterator[Servers]:
    """Both servers on one core; this process and the stores on the other, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    keys_file = folder / "signing-keys.json"
    keys_file.touch(mode=0o600)
    keys_file.write_bytes(msgspec.json.encode(make_signing_keys(await stage.now_ms())))
    servers = Servers(_free_port(), _free_port())
    environment = {
        **os.environ,
        "FLASHSALE_STORE_URL": stage.settings.store.url,
        "FLASHSALE_POSTGRES_URL": stage.settings.postgres.url,
        "FLASHSALE_HTTP_PORT": str(servers.service),
        "FLASHSALE_TOKENS_SIGNING_KEYS_FILE": str(keys_file),
        "FLASHSALE_LOG_LEVEL": "warning",
    }
    if len(cores) > 1:
        environment["BENCH_CORE"] = str(cores[0])
        os.sched_setaffinity(0, set(cores[1:]))
        for server in stage.stores.servers:
            os.sched_setaffinity(server.pid, set(cores[1:]))
    processes = [await _start(["service"], environment), await _start(["empty", str(servers.empty)], environment)]
    try:
        await _answers(servers.service, "/healthz")
        await _answers(servers.empty, "/empty")
        yield servers
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(process.wait() for process in processes))
        os.sched_setaffinity(0, set(cores))
        for server in stage.stores.servers:
            os.sched_setaffinity(server.pid, set(cores))


async def _start(arguments: list[str], environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "loadtest.bench.server", *arguments, env=environment)


async def _answers(port: int, path: str) -> None:
    """Returns when a GET of `path` is answered with 200."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(_request("GET", path, {"Connection": "close"}))
                status = await reader.readline()
                writer.close()
                if status.startswith(b"HTTP/1.1 200"):
                    return
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
