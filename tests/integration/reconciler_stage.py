"""A drop in Postgres and entries in its journal, as the scripts would write them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import msgpack
from prometheus_client import CollectorRegistry

from flashsale.connections.database import Database
from flashsale.keys import drop_keys
from flashsale.model import digest
from flashsale.settings import ReconcilerSettings, Settings, load_settings
from reconciler.consumer import JournalConsumer
from reconciler.entries import Entry, ReservationTransition, read_entry
from reconciler.journal import Journal
from reconciler.metrics import ReconcilerMetrics
from reconciler.orders import OrderRecorder
from reconciler.stock import StockRecorder

DROP = "spring"
NOW_MS = 1_800_000_000_000
LAST = 2_000_000_000_000

_REASONS = {"refund_due": "late", "cancelled": "merchant:other", "surplus": "paid_twice"}

Packed = list[Any]
Store = Any
"""redis.asyncio.Redis; its annotations mix str and bytes, and replies here are always bytes"""


def reservation_id(number: int, drop_id: str = DROP) -> str:
    return f"{drop_id}.r{digest('reservation', str(number))}"


def transition(
    kind: str,
    number: int,
    *,
    drop_id: str = DROP,
    items: Iterable[tuple[str, int]] = (("shirt", 1),),
    at_ms: int = NOW_MS,
    payment: str | None = None,
    reason: str = "",
    expires_in_ms: int = 60_000,
) -> Packed:
    """One transition as the scripts pack it."""
    paid = kind in {"confirmed", "refund_due", "cancelled", "surplus"}
    return [
        kind,
        reservation_id(number, drop_id),
        at_ms,
        f"request-{number}",
        f"{drop_id}.t{digest('ticket', str(number))}",
        number,
        [list(item) for item in items],
        1500 * sum(quantity for _, quantity in items),
        NOW_MS,
        NOW_MS + expires_in_ms,
        (payment or f"pay-{number}") if paid else "",
        reason or _REASONS.get(kind, ""),
    ]


def entry_fields(transitions: list[Packed]) -> dict[bytes, bytes]:
    return {b"v": b"1", b"e": msgpack.packb(transitions)}


def typed(*transitions: Packed) -> tuple[ReservationTransition, ...]:
    """As the reconciler sees them."""
    entry = read_entry("1-0", entry_fields(list(transitions)))
    assert isinstance(entry, Entry), entry
    return entry.transitions


async def write(store: Store, *transitions: Packed, drop_id: str = DROP) -> str:
    """One entry; returns its id."""
    entry_id = await store.xadd(drop_keys(drop_id).journal, entry_fields(list(transitions)))
    assert isinstance(entry_id, bytes)
    return entry_id.decode()


async def make_drop(database: Database, drop_id: str = DROP, *, shirts: int = 1000, caps: int = 1000) -> None:
    await database.fetch("drop_insert", drop_id, "shop", "Spring", json.dumps({"currency": "EUR"}), 1000, 2000, LAST)
    await database.fetch("drop_skus_insert", drop_id, ["shirt", "cap"], ["Shirt", "Cap"], [shirts, caps], [1500, 900], [4, 4])


def reconciler_settings(**changes: int) -> ReconcilerSettings:
    """The defaults, with short waits."""
    quick = {"block_ms": 20, "claim_idle_ms": 40, "refresh_ms": 20, "audit_interval_ms": 50}
    return load_settings(environment={}, overrides={"reconciler": {**quick, **changes}}).reconciler


_names = (f"consumer-{number}" for number in itertools.count())


def make_consumer(store: Store, database: Database, drop_id: str = DROP, **changes: int) -> JournalConsumer:
    return JournalConsumer(
        drop_id,
        Journal(store, drop_id, next(_names)),
        OrderRecorder(database),
        StockRecorder(database),
        ReconcilerMetrics(CollectorRegistry()),
        reconciler_settings(**changes),
    )


async def states(database: Database, drop_id: str = DROP) -> dict[str, int]:
    return {row["state"]: row["orders"] for row in await database.fetch("order_counts", drop_id)}


async def sold(database: Database, drop_id: str = DROP) -> dict[str, int]:
    """Units sold by SKU; asserts what must always hold."""
    rows = await database.fetch("drop_totals", drop_id)
    assert all(row["sold"] == row["counted_units"] <= row["allotment"] for row in rows), [dict(row) for row in rows]
    return {row["sku"]: row["sold"] for row in rows}


async def query(database: Database, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
    """A statement the product has no name for."""
    async with database.acquire() as session:
        return [tuple(row) for row in await session.connection.fetch(statement, *arguments)]


def settings_with(settings: Settings, **changes: int) -> Settings:
    """`settings` with short waits in the reconciler, and patience with the store, as an overloaded machine needs."""
    return load_settings(
        environment={},
        overrides={
            "store": {"url": settings.store.url, "timeout_ms": 15_000},
            "postgres": {"url": settings.postgres.url},
            "reconciler": {"block_ms": 20, "claim_idle_ms": 40, "refresh_ms": 20, "audit_interval_ms": 50, **changes},
        },
    )
