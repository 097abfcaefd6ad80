"""Orders as Postgres has them, and waiting until one is there.

The reconciler announces every commit on the drop's `recorded` channel. The announcement is only a shortcut: whoever still
waits is also looked up in Postgres a few times a second, many in one query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
import structlog

from flashsale.connections.database import Database
from flashsale.errors import Busy, DatabaseUnavailable
from flashsale.keys import drop_keys
from flashsale.model import OrderState

WAITING_MAX = 4096
POLL_S = 0.25
POLL_TIMEOUT_S = 2.0
POLL_IDS_MAX = 1000
SUBSCRIBE_AGAIN_S = 1.0
PAGE_MAX = 100

PAID_STATES = frozenset({OrderState.PAID, OrderState.REFUND_DUE, OrderState.REFUNDED})
"""Of orders somebody has paid for, whatever became of them. No other state is the last: a late payment ends each of them."""

_announced = msgspec.msgpack.Decoder(list[tuple[str, str]]).decode


class CancelReason(StrEnum):
    """Why a paid order is taken back."""

    REQUESTED = "requested"
    """the shopper asked for it"""
    DUPLICATE = "duplicate"
    FRAUDULENT = "fraudulent"
    UNAVAILABLE = "unavailable"
    """what was sold cannot be delivered"""
    OTHER = "other"


def reason_words(by: str, reason: CancelReason) -> str:
    """The reason as the order and its refund keep it: who, and why."""
    return f"{by}:{reason}"


@dataclass(frozen=True, slots=True)
class Order:
    """The durable row of one reservation. Times are ms since the epoch."""

    order_id: str
    drop_id: str
    ticket_id: str
    state: OrderState
    items: tuple[tuple[str, int], ...]
    amount_minor: int
    currency: str
    payment_reference: str | None
    reason: str
    request_id: str
    reserved_at_ms: int
    expires_at_ms: int
    paid_at_ms: int | None
    finished_at_ms: int | None


@dataclass(frozen=True, slots=True)
class OrderCounts:
    """Orders of a drop in Postgres, by state."""

    pending: int = 0
    paid: int = 0
    expired: int = 0
    cancelled: int = 0
    refund_due: int = 0
    refunded: int = 0
    recorded_last_min: int = 0
    """of all of them, first recorded in the last minute"""


class Orders:
    """Reads orders, and waits for them. `store` is a client of its own or a shared one; it is only subscribed with."""

    def __init__(self, database: Database, store: Any) -> None:
        self._database = database
        self._store = store
        self._waiting: dict[str, list[asyncio.Future[OrderState]]] = {}
        self._waiting_count = 0
        self._wanted = asyncio.Event()
        self._log = structlog.get_logger("orders")

    async def run(self) -> None:
        """Listens and looks, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="orders:listen")
            group.create_task(self._poll(), name="orders:poll")

    async def wait_recorded(self, order_id: str, deadline_ms: int) -> OrderState | None:
        """The order's state once its payment is in Postgres, or None when that takes longer than `deadline_ms`.

        Raises:
            Busy: too many are waiting already.
        """
        if self._waiting_count >= WAITING_MAX:
            raise Busy(what="Too many requests are waiting for their orders.", todo="Try again in a moment.")
        future: asyncio.Future[OrderState] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(order_id, []).append(future)
        self._waiting_count += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                return await future
        except TimeoutError:
            return None
        finally:
            self._forget(order_id, future)

    async def get(self, order_id: str) -> Order | None:
        """The order, or None while there is no row. Raises DatabaseUnavailable."""
        row = await self._database.fetchrow("order_by_id", order_id)
        return None if row is None else _order(row)

    async def page(self, drop_id: str, after: str, limit: int) -> list[Order]:
        """Orders of a drop in the order of their ids, those after the id `after`; at most `limit`. Raises DatabaseUnavailable."""
        return [_order(row) for row in await self._database.fetch("orders_page", drop_id, after, limit)]

    async def counts(self, drop_id: str) -> OrderCounts:
        """How many orders of a drop there are. Raises DatabaseUnavailable."""
        rows = await self._database.fetch("order_counts_lately", drop_id)
        return OrderCounts(**{row["state"]: row["orders"] for row in rows}, recorded_last_min=sum(row["lately"] for row in rows))

    def _forget(self, order_id: str, future: asyncio.Future[OrderState]) -> None:
        futures = self._waiting.get(order_id)
        if futures is not None and future in futures:
            futures.remove(future)
            self._waiting_count -= 1
            if not futures:
                del self._waiting[order_id]
        if not self._waiting:
            self._wanted.clear()

    def _tell(self, states: Iterable[tuple[str, str]]) -> None:
        for order_id, state in states:
            if state not in PAID_STATES:
                continue
            for future in self._waiting.get(order_id, ()):
                if not future.done():
                    future.set_result(OrderState(state))

    async def _poll(self) -> None:
        failing = False
        while True:
            await self._wanted.wait()
            try:
                ids = list(self._waiting)[:POLL_IDS_MAX]
                async with asyncio.timeout(POLL_TIMEOUT_S):
                    rows = await self._database.fetch("wait_for_orders", ids)
                self._tell((row["reservation_id"], row["state"]) for row in rows)
                failing = False
            except (DatabaseUnavailable, TimeoutError) as error:
                if not failing:
                    self._log.warning("orders_not_seen", error=str(error))
                failing = True
            await asyncio.sleep(POLL_S)

    async def _listen(self) -> None:
        failing = False
        while True:
            try:
                await self._subscription()
            except Exception as error:  # noqa: BLE001 - whatever broke it: polling goes on, and it is made anew
                if not failing:
                    self._log.warning("orders_not_heard", error=str(error))
                failing = True
            else:
                failing = False
            await asyncio.sleep(SUBSCRIBE_AGAIN_S)

    async def _subscription(self) -> None:
        async with self._store.pubsub() as channel:
            await channel.psubscribe(drop_keys("*").recorded)
            while True:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=5.0)
                if message is not None and self._waiting:
                    self._tell(_announced(message["data"]))


def _order(row: Any) -> Order:
    return Order(
        order_id=row["reservation_id"],
        drop_id=row["drop_id"],
        ticket_id=row["ticket_id"],
        state=OrderState(row["state"]),
        items=tuple(zip(row["skus"], row["quantities"], strict=True)),
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        payment_reference=row["payment_reference"],
        reason=row["reason"],
        request_id=row["request_id"],
        reserved_at_ms=row["reserved_at_ms"],
        expires_at_ms=row["expires_at_ms"],
        paid_at_ms=row["paid_at_ms"],
        finished_at_ms=row["finished_at_ms"],
    )
