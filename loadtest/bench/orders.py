"""The reconciler: from a full journal to Postgres, beside the least that Postgres can be asked to do and the usual ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import asyncpg
import msgpack
from prometheus_client import CollectorRegistry

from flashsale.model import reservation_id_of
from loadtest.bench.measure import Comparison
from loadtest.bench.stage import PRICE_MINOR, SKU, TOKEN_ID, Stage
from reconciler.consumer import JournalConsumer
from reconciler.journal import Journal
from reconciler.metrics import ReconcilerMetrics
from reconciler.orders import OrderRecorder
from reconciler.stock import StockRecorder

if TYPE_CHECKING:
    from asyncpg import Connection, Record

ORDERS = 40_000
SCRIPT_BATCH = 256
BARE_BATCH = 4_000
HOT_ROW_ORDERS = 3_000
HOT_ROW_CONNECTIONS = 16


def comparisons(stage: Stage) -> list[Comparison]:
    """The reconciler's rows."""
    bench = OrderBench(stage)
    return [
        Comparison(
            "orders persisted",
            "orders/s",
            bench.reconciled,
            "bare batched INSERT … SELECT FROM unnest of the same rows (orders, items, outbox)",
            bench.bare,
            0.5,
        ),
        Comparison("orders persisted (2)", "orders/s", bench.reconciled, "a transaction per order on a hot row", bench.hot_row, 10.0),
    ]


class OrderBench:
    """Each measurement fills and empties its own drop; tables are vacuumed between, so that none pays for another."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def reconciled(self) -> float:
        """Orders a second from a journal that holds `ORDERS` paid reservations to the last commit."""
        stage = self._stage
        drop_id = await self._filled_journal()
        consumer = JournalConsumer(
            drop_id,
            Journal(stage.store, drop_id, "bench"),
            OrderRecorder(stage.database),
            StockRecorder(stage.database),
            ReconcilerMetrics(CollectorRegistry()),
            stage.settings.reconciler,
        )
        started = time.perf_counter()
        await consumer.drain()
        seconds = time.perf_counter() - started
        connection = await asyncpg.connect(stage.settings.postgres.url)
        recorded = await connection.fetchval("SELECT count(*) FROM orders WHERE drop_id = $1 AND state = 'paid'", drop_id)
        if recorded != ORDERS:
            raise RuntimeError(f"{recorded} of {ORDERS} orders were recorded")
        await connection.execute("TRUNCATE orders, order_items, outbox, refunds")
        await connection.close()
        await stage.forget(drop_id)
        return ORDERS / seconds

    async def _filled_journal(self) -> str:
        """A drop whose journal tells of `ORDERS` reservations and, batch by batch, of their payments."""
        stage = self._stage
        drop_id = await stage.make_drop(ORDERS, recorded=True)
        shoppers = await stage.admit_shoppers(drop_id, ORDERS)
        for at in range(0, ORDERS, SCRIPT_BATCH):
            part = [(reservation_id_of(shopper.ticket_id, "key"), shopper.ticket_id) for shopper in shoppers[at : at + SCRIPT_BATCH]]
            reserve = [(reservation, ticket, TOKEN_ID, "bench", [(SKU, 1)]) for reservation, ticket in part]
            await stage.scripts.call("reserve", drop_id, msgpack.packb(reserve))
            confirm = [(reservation, f"payment-{reservation[-22:]}", PRICE_MINOR, "bench", "") for reservation, _ in part]
            await stage.scripts.call("confirm", drop_id, msgpack.packb(confirm))
        return drop_id

    async def bare(self) -> float:
        """Orders a second with their item and outbox rows, as batched inserts into tables of the same form, and nothing else."""
        connection = await asyncpg.connect(self._stage.settings.postgres.url)
        await connection.execute(_BARE_TABLES)
        batches = [_bare_rows(at) for at in range(0, ORDERS, BARE_BATCH)]
        insert = await connection.prepare(_BARE_INSERT)
        started = time.perf_counter()
        for batch in batches:
            await insert.fetch(*batch)
        seconds = time.perf_counter() - started
        await connection.execute("DROP TABLE bench_orders, bench_order_items, bench_outbox")
        await connection.close()
        return ORDERS / seconds

    async def hot_row(self) -> float:
        """Orders a second when each is a transaction that locks the SKU's row, over 16 connections."""
        url = self._stage.settings.postgres.url
        connections = [await asyncpg.connect(url) for _ in range(HOT_ROW_CONNECTIONS)]
        await connections[0].execute(_BARE_TABLES)
        await connections[0].execute(_HOT_ROW)
        share = iter(range(HOT_ROW_ORDERS))
        started = time.perf_counter()
        await asyncio.gather(*(_sell_one_by_one(connection, share) for connection in connections))
        seconds = time.perf_counter() - started
        await connections[0].execute("DROP TABLE bench_orders, bench_order_items, bench_outbox, bench_stock")
        for connection in connections:
            await connection.close()
        return HOT_ROW_ORDERS / seconds


async def _sell_one_by_one(connection: Connection[Record], share: Iterator[int]) -> None:
    insert = await connection.prepare(_BARE_INSERT)
    for number in share:
        async with connection.transaction():
            left = await connection.fetchval("SELECT allotment - sold FROM bench_stock WHERE sku = $1 FOR UPDATE", SKU)
            if left < 1:
                raise RuntimeError("sold out")
            await insert.fetch(*_bare_rows(number, 1))
            await connection.execute("UPDATE bench_stock SET sold = sold + 1 WHERE sku = $1", SKU)


def _bare_rows(first: int, count: int = BARE_BATCH) -> tuple[list[Any], ...]:
    numbers = range(first, min(first + count, ORDERS))
    ids = [f"bench-000000000000.r{number:022d}" for number in numbers]
    times = [1_700_000_000_000] * len(ids)
    return (
        ids,
        [f"bench-000000000000.t{number:022d}" for number in numbers],
        list(numbers),
        [PRICE_MINOR] * len(ids),
        [f"payment-{number:022d}" for number in numbers],
        times,
        [SKU] * len(ids),
    )


_BARE_TABLES = """
DROP TABLE IF EXISTS bench_orders, bench_order_items, bench_outbox;
CREATE TABLE bench_orders (LIKE orders INCLUDING ALL);
CREATE TABLE bench_order_items (LIKE order_items INCLUDING ALL);
CREATE TABLE bench_outbox (LIKE outbox INCLUDING ALL);
"""

_BARE_INSERT = """
WITH incoming AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::text[])
        AS t (reservation_id, ticket_id, queue_number, amount_minor, payment_reference, at_ms, sku)
), orders AS (
    INSERT INTO bench_orders (reservation_id, drop_id, ticket_id, queue_number, state, units_counted, amount_minor, currency,
        payment_reference, reserved_at, expires_at, paid_at, finished_at, request_id)
    SELECT reservation_id, 'bench-000000000000', ticket_id, queue_number, 'paid', true, amount_minor, 'EUR', payment_reference,
        to_timestamp(at_ms::float8 / 1000), to_timestamp(at_ms::float8 / 1000), to_timestamp(at_ms::float8 / 1000),
        to_timestamp(at_ms::float8 / 1000), 'bench'
    FROM incoming
), outbox AS (
    INSERT INTO bench_outbox (drop_id, reservation_id, event, payload)
    SELECT 'bench-000000000000', reservation_id, 'order.paid',
        jsonb_build_object('state', 'paid', 'amount_minor', amount_minor, 'currency', 'EUR')
    FROM incoming
)
INSERT INTO bench_order_items (reservation_id, drop_id, sku, quantity)
SELECT reservation_id, 'bench-000000000000', sku, 1 FROM incoming
"""

_HOT_ROW = """
DROP TABLE IF EXISTS bench_stock;
CREATE TABLE bench_stock (sku text PRIMARY KEY, allotment integer, sold integer CHECK (sold <= allotment));
INSERT INTO bench_stock VALUES ('unit', 1000000, 0);
"""
