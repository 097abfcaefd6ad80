"""Reservations in process: the service layer and its group commit against one script call per request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgpack

from flashsale.connections.store import open_store
from flashsale.model import Refused, Reservation, reservation_id_of
from flashsale.reservations import Reservations
from loadtest.bench.measure import Comparison
from loadtest.bench.stage import SKU, TOKEN_ID, Shopper, Stage

CALLERS = 512
BASELINE_CONNECTIONS = 50
BASELINE_REQUESTS = 15_000
REQUESTS = 80_000
UNITS_IN_ROWS = 6_000
ROW_CONNECTIONS = 16
ITEMS = ((SKU, 1),)


class WrongAnswer(RuntimeError):
    """A measured call did not do what it was measured for."""


def comparisons(stage: Stage) -> list[Comparison]:
    """The in-process rows."""
    bench = ReservationBench(stage)
    return [
        Comparison(
            "reservations, in process",
            "reservations/s",
            bench.accepted,
            "the same script, one request a call, 50 connections",
            bench.one_per_call,
            4.0,
        ),
        Comparison("sold-out refusals, in process", "refusals/s", bench.refused, "acceptances in the same run", bench.accepted, 1.0),
        Comparison(
            "reservations, in process (2)",
            "reservations/s",
            bench.accepted,
            "all in Postgres: a row per unit, FOR UPDATE SKIP LOCKED",
            bench.row_per_unit,
            None,
        ),
    ]


class ReservationBench:
    """Each measurement makes a fresh drop, so that none profits from another's data."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def accepted(self) -> float:
        """Acceptances a second through `Reservations`, 512 callers."""
        drop_id = await self._stage.make_drop(REQUESTS)
        shoppers = await self._stage.admit_shoppers(drop_id, REQUESTS)
        rate = await self._drive(drop_id, shoppers, Reservation)
        await self._stage.forget(drop_id)
        return rate

    async def refused(self) -> float:
        """Refusals a second through `Reservations` when everything is reserved, 512 callers."""
        drop_id = await self._stage.make_drop(1)
        shoppers = await self._stage.admit_shoppers(drop_id, REQUESTS + 1)
        reservations = Reservations(self._stage.scripts)
        await reservations.reserve(drop_id, shoppers.pop().ticket_id, TOKEN_ID, "first", ITEMS, "bench")
        rate = await self._drive(drop_id, shoppers, Refused)
        await self._stage.forget(drop_id)
        return rate

    async def _drive(self, drop_id: str, shoppers: list[Shopper], expected: type) -> float:
        reservations = Reservations(self._stage.scripts)

        async def caller(share: Iterator[Shopper]) -> None:
            for shopper in share:
                result = await reservations.reserve(drop_id, shopper.ticket_id, TOKEN_ID, "key", ITEMS, "bench")
                if type(result) is not expected:
                    raise WrongAnswer(f"{result}")

        share = iter(shoppers)
        started = time.perf_counter()
        await asyncio.gather(*(caller(share) for _ in range(CALLERS)))
        return len(shoppers) / (time.perf_counter() - started)

    async def one_per_call(self) -> float:
        """Acceptances a second when each request is a script call of its own, over 50 connections."""
        stage = self._stage
        drop_id = await stage.make_drop(BASELINE_REQUESTS)
        share = iter(await stage.admit_shoppers(drop_id, BASELINE_REQUESTS))
        parameters = stage.scripts.parameters("reserve", drop_id, msgpack.packb((0, 0)))

        async def caller() -> None:
            client: Any = open_store(stage.settings.store).client()
            for shopper in share:
                request = (reservation_id_of(shopper.ticket_id, "key"), shopper.ticket_id, TOKEN_ID, "bench", ITEMS)
                reply = await client.execute_command("EVALSHA", *parameters, msgpack.packb([request]))
                if msgpack.unpackb(reply)[2][0][0] != "reserved":
                    raise WrongAnswer("not reserved")
            await client.aclose()

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(BASELINE_CONNECTIONS)))
        rate = BASELINE_REQUESTS / (time.perf_counter() - started)
        await stage.forget(drop_id)
        return rate

    async def row_per_unit(self) -> float:
        """Reservations a second with a row per unit and SKIP LOCKED, the best known design without a second store."""
        url = self._stage.settings.postgres.url
        connections = [await asyncpg.connect(url) for _ in range(ROW_CONNECTIONS)]
        first = connections[0]
        await first.execute(_UNIT_ROWS)
        await first.execute("INSERT INTO bench_units (unit) SELECT generate_series(1, $1)", UNITS_IN_ROWS)
        await first.execute("ANALYZE bench_units")
        share = iter(range(UNITS_IN_ROWS))

        async def caller(connection: asyncpg.Connection[asyncpg.Record]) -> None:
            take = await connection.prepare(_TAKE_UNIT)
            for number in share:
                if await take.fetchval(f"shopper-{number}") is None:
                    raise WrongAnswer("no unit left")

        started = time.perf_counter()
        await asyncio.gather(*(caller(connection) for connection in connections))
        rate = UNITS_IN_ROWS / (time.perf_counter() - started)
        await first.execute("DROP TABLE bench_units")
        for connection in connections:
            await connection.close()
        return rate


_UNIT_ROWS = """
DROP TABLE IF EXISTS bench_units;
CREATE TABLE bench_units (unit integer PRIMARY KEY, shopper text, expires_at timestamptz);
CREATE INDEX bench_units_free ON bench_units (unit) WHERE shopper IS NULL;
"""

_TAKE_UNIT = """
UPDATE bench_units SET shopper = $1, expires_at = now() + interval '5 minutes'
WHERE unit = (SELECT unit FROM bench_units WHERE shopper IS NULL LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING unit
"""
