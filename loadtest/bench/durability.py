"""What each durability costs: the same reservations on stores that keep `second`, `disk` and `replica`.

`second` is the baseline, on a store that forces its log every second. `disk` is on one that forces it before every answer.
`replica` has such a store as well, and a replica of the same kind whose disk every call waits for; all on this machine, so the
network between two machines is not in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
from redis.asyncio import Redis

from flashsale.connections.store import open_store
from flashsale.drops import DropStore
from flashsale.embedded.valkey import EmbeddedValkey
from flashsale.model import Durability, Reservation
from flashsale.reservations import Reservations
from flashsale.resources import resource_dir
from flashsale.scripts import Scripts, read_scripts
from loadtest.bench.measure import Comparison
from loadtest.bench.reservations import CALLERS, ITEMS, WrongAnswer
from loadtest.bench.stage import TOKEN_ID, Shopper, Stage

REQUESTS = 40_000
LONE_REQUESTS = 400
IN_STEP_TIMEOUT_MS = 20_000

Drive = Callable[[Reservations, str, list[Shopper]], Awaitable[None]]


@asynccontextmanager
async def running_stages(base: Stage, folder: Path) -> AsyncIterator[Mapping[Durability, Stage]]:
    """A stage for each durability, with servers of its own in `folder`."""
    async with AsyncExitStack() as running:
        servers = {name: EmbeddedValkey(folder / name, port=0) for name in ("second", "disk", "primary", "replica")}
        for server in servers.values():
            await server.start()
            running.push_async_callback(server.stop)
        stages = {
            durability: await running.enter_async_context(_stage_at(base, servers[name].url))
            for durability, name in ((Durability.SECOND, "second"), (Durability.DISK, "disk"), (Durability.REPLICA, "primary"))
        }
        await stages[Durability.SECOND].store.config_set("appendfsync", "everysec")
        await _follow(servers["replica"], servers["primary"])
        yield stages


@asynccontextmanager
async def _stage_at(base: Stage, url: str) -> AsyncIterator[Stage]:
    settings = msgspec.structs.replace(base.settings, store=msgspec.structs.replace(base.settings.store, url=url, timeout_ms=5000))
    store = open_store(settings.store)
    scripts = Scripts(store, read_scripts(resource_dir("lua")), settings.store, settings.batch)
    yield replace(base, settings=settings, store=store, scripts=scripts, drops=DropStore(scripts, settings))
    await store.aclose()


async def _follow(replica: EmbeddedValkey, primary: EmbeddedValkey) -> None:
    """Returns when `replica` has everything `primary` has."""
    address = urlsplit(primary.tcp_url)
    async with Redis.from_url(replica.url, protocol=2) as client:
        await client.config_set("masterauth", unquote(address.password or ""))
        await client.replicaof(address.hostname, address.port)
    async with Redis.from_url(primary.url, protocol=2, socket_timeout=None) as client:
        await client.set("bench", "in step")
        await client.wait(1, IN_STEP_TIMEOUT_MS)
        counts = await client.waitaof(1, 1, IN_STEP_TIMEOUT_MS)
    if counts[1] < 1:
        raise WrongAnswer("the replica has not caught up")


def comparisons(stages: Mapping[Durability, Stage]) -> list[Comparison]:
    """The rows: `disk` and `replica` against `second`, for a crowd and for one after another."""

    async def rate(durability: Durability, requests: int, drive: Drive) -> float:
        stage = stages[durability]
        drop_id = await stage.make_drop(requests, durability=durability)
        shoppers = await stage.admit_shoppers(drop_id, requests)
        started = time.perf_counter()
        await drive(Reservations(stage.scripts), drop_id, shoppers)
        seconds = time.perf_counter() - started
        await stage.forget(drop_id)
        return requests / seconds

    return [
        Comparison(
            f"{durability}: {name}",
            "reservations/s",
            partial(rate, durability, requests, drive),
            "second",
            partial(rate, Durability.SECOND, requests, drive),
            None,
        )
        for name, requests, drive in ((f"{CALLERS} callers", REQUESTS, _crowd), ("one after another", LONE_REQUESTS, _one_by_one))
        for durability in (Durability.DISK, Durability.REPLICA)
    ]


async def _crowd(reservations: Reservations, drop_id: str, shoppers: list[Shopper]) -> None:
    share = iter(shoppers)

    async def caller() -> None:
        for shopper in share:
            await _reserve(reservations, drop_id, shopper)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def _one_by_one(reservations: Reservations, drop_id: str, shoppers: list[Shopper]) -> None:
    for shopper in shoppers:
        await _reserve(reservations, drop_id, shopper)


async def _reserve(reservations: Reservations, drop_id: str, shopper: Shopper) -> None:
    result = await reservations.reserve(drop_id, shopper.ticket_id, TOKEN_ID, "key", ITEMS, "bench")
    if type(result) is not Reservation:
        raise WrongAnswer(f"{result}")
