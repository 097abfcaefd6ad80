"""A drop as its merchant sees it, every second: server-sent events, from one look a second for all who watch.

The look is one `inspect` of the store, four counts of a sorted set, and what this worker knows anyway. Postgres is asked
less often and beside it: while it is away, everything else goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from msgspec import Struct, json

from flashsale.access import Scope
from flashsale.errors import DatabaseUnavailable, FlashsaleError
from flashsale.model import DropState
from flashsale.web.live_view import (
    LiveErrors,
    LiveJournal,
    LiveReservations,
    LiveSku,
    LiveTrouble,
    LiveView,
    age_bands,
    age_bounds_s,
    lines_of,
)
from flashsale.web.problems import Code, ProblemError, of_error, problem
from flashsale.web.streamed import Streamed
from flashsale.web.worker_errors import WorkerErrors

if TYPE_CHECKING:
    from flashsale.access import Principal
    from flashsale.model import Inspection
    from flashsale.orders import OrderCounts
    from flashsale.web.merchant import OwnDrops
    from flashsale.web.services import Services

BEAT_S = 1.0
ORDERS_EVERY_S = 2.0
ORDERS_TIMEOUT_S = 0.5
ORDERS_PAUSE_S = 5.0
"""after a failure Postgres is left alone this long"""
HEARTBEAT_S = 10.0
UNREAD_MAX_S = 5.0
RETRY_MS = 2000
STREAMS_MAX = 50
STREAMS_PER_KEY_MAX = 10
EVENT_STREAM = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
"""nginx, and what learned it from nginx, passes events on at once with the last one"""


class Sampler:
    """Looks at one drop every second for as long as it runs."""

    def __init__(self, services: Services, errors: WorkerErrors, drop_id: str) -> None:
        self._services = services
        self._errors = errors
        self._drop_id = drop_id
        self._orders: OrderCounts | None = None
        self._next = asyncio.Event()
        self._piece = b""
        self._number = 0
        self.is_over = False
        """the drop is closed, or this has stopped: nothing more comes"""

    async def run(self) -> None:
        """Until the drop is closed, or cancelled; whoever started it tells it of its end."""
        self._orders = await self._count_orders()
        orders = asyncio.create_task(self._follow_orders(), name=f"live-orders:{self._drop_id}")
        try:
            while not self.is_over:
                await self._beat()
                await asyncio.sleep(BEAT_S)
        finally:
            orders.cancel()
            with suppress(asyncio.CancelledError):
                await orders

    def end(self) -> None:
        """Nothing more comes."""
        self.is_over = True
        self._wake()

    async def after(self, number: int) -> tuple[int, bytes]:
        """The latest events that come after the event `number`, once there are any; none (`b""`) when this has stopped."""
        while self._number == number and not self.is_over:
            await self._next.wait()
        return (self._number, self._piece) if self._number != number else (number, b"")

    def _wake(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def _beat(self) -> None:
        try:
            view = await self._look()
        except FlashsaleError as error:
            answer = of_error(error)
            self._piece = _event("trouble", LiveTrouble(answer.code.value, error.what))
        else:
            self._piece = _event("live", view)
            if view.state == DropState.CLOSED:
                self._piece += b"event: ended\ndata: {}\n\n"
                self.is_over = True
        self._number += 1
        self._wake()

    async def _look(self) -> LiveView:
        services = self._services
        inspection = await services.drop_store.inspect(self._drop_id)
        reservations = await self._reservations(inspection)
        snapshot = inspection.snapshot
        lines = lines_of(snapshot)
        return LiveView(
            now_ms=snapshot.now_ms,
            state=snapshot.state.value,
            notice=snapshot.notice,
            joining="closed" if snapshot.joining_closed else "open",
            rate_per_min=snapshot.rate_per_min,
            capacity=snapshot.capacity,
            joined=sum(line.joined for line in lines),
            waiting=sum(line.waiting for line in lines),
            serving_number=snapshot.serving_number,
            admitted_total=snapshot.admitted,
            admitted_last_min=services.admitted.last_min(snapshot),
            inside=snapshot.active,
            standby=snapshot.flow.standby,
            skus=[
                LiveSku(sku, stock.allotment, stock.available, stock.reserved, stock.sold, stock.draining)
                for sku, stock in snapshot.skus.items()
            ],
            reservations=reservations,
            orders=self._orders,
            postgres="away" if self._orders is None else "up",
            journal=LiveJournal(snapshot.flow.journal_age_ms, inspection.journal_length),
            errors=LiveErrors(self._errors.last_min(), "worker"),
            lines=lines if len(lines) > 1 else [],
        )

    async def _reservations(self, inspection: Inspection) -> LiveReservations:
        now_ms, ttl_ms = inspection.now_ms, inspection.definition.reservation_ttl_ms
        bounds_s = age_bounds_s(ttl_ms)
        # Whatever expires after this moment was reserved less than the bound ago.
        expire_after_ms = [now_ms + ttl_ms - bound_s * 1000 for bound_s in bounds_s[:-1]]
        younger = await self._services.reservations.expiring_from(self._drop_id, expire_after_ms)
        return LiveReservations(inspection.reservations_live, age_bands(bounds_s, younger, inspection.reservations_live))

    async def _follow_orders(self) -> None:
        while True:
            await asyncio.sleep(ORDERS_PAUSE_S if self._orders is None else ORDERS_EVERY_S)
            self._orders = await self._count_orders()

    async def _count_orders(self) -> OrderCounts | None:
        try:
            async with asyncio.timeout(ORDERS_TIMEOUT_S):
                return await self._services.orders.counts(self._drop_id)
        except (DatabaseUnavailable, TimeoutError):
            return None


def _event(name: str, data: Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.encode(data))


class LiveStreams:
    """All streams of this worker: how many there are, and the samplers they share."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._errors = WorkerErrors(services.metrics)
        self._samplers: dict[str, tuple[Sampler, asyncio.Task[None]]] = {}
        self._watching: Counter[str] = Counter()
        """streams by drop"""
        self._of_key: Counter[str] = Counter()
        """streams by API key"""
        self._stopping = False
        self._log = structlog.get_logger("live")

    async def run(self) -> None:
        """Keeps the errors of the last minute, until cancelled."""
        await self._errors.run()

    async def stop(self) -> None:
        """Ends every stream, so that the worker can go."""
        self._stopping = True
        tasks = [task for _, task in self._samplers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def pieces(self, drop_id: str, principal: Principal, ends_at_ms: int | None) -> AsyncGenerator[bytes, None]:
        """What one stream sends.

        Args:
            drop_id: the drop that is watched.
            principal: who watches; the stream ends when that key does.
            ends_at_ms: when the session ends, or None.

        Raises:
            ProblemError: there are too many streams; before anything is sent.
        """
        with self._counted(drop_id, principal.key_id) as sampler:
            yield b"retry: %d\n\n" % RETRY_MS
            number = 0
            while not self._stopping and self._may_go_on(principal, ends_at_ms):
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        number, piece = await sampler.after(number)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if not piece:
                    return
                yield piece

    def _may_go_on(self, principal: Principal, ends_at_ms: int | None) -> bool:
        if ends_at_ms is not None and self._services.clock.now_ms() >= ends_at_ms:
            return False
        return self._services.access.active(principal.key_id) is not None

    @contextmanager
    def _counted(self, drop_id: str, key_id: str) -> Iterator[Sampler]:
        if self._stopping or self._of_key.total() >= STREAMS_MAX:
            raise ProblemError(problem(Code.BUSY, f"This worker sends {STREAMS_MAX} live streams already."))
        if self._of_key[key_id] >= STREAMS_PER_KEY_MAX:
            raise ProblemError(problem(Code.RATE_LIMITED, f"{STREAMS_PER_KEY_MAX} live streams of this key are open here already."))
        self._of_key[key_id] += 1
        self._watching[drop_id] += 1
        try:
            yield self._sampler(drop_id)
        finally:
            self._uncount(self._of_key, key_id)
            self._uncount(self._watching, drop_id)
            if drop_id not in self._watching and drop_id in self._samplers:
                self._samplers.pop(drop_id)[1].cancel()

    def _sampler(self, drop_id: str) -> Sampler:
        found = self._samplers.get(drop_id)
        if found is None or found[0].is_over:
            sampler = Sampler(self._services, self._errors, drop_id)
            task = asyncio.create_task(sampler.run(), name=f"live:{drop_id}")
            task.add_done_callback(partial(self._ended, sampler))
            found = self._samplers[drop_id] = (sampler, task)
        return found[0]

    def _ended(self, sampler: Sampler, task: asyncio.Task[None]) -> None:
        sampler.end()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("sampler_failed", error=repr(error), exc_info=error)

    @staticmethod
    def _uncount(counts: Counter[str], name: str) -> None:
        counts[name] -= 1
        if not counts[name]:
            del counts[name]


LIVE = web.AppKey("live", LiveStreams)


async def live_streams(app: web.Application, services: Services) -> AsyncGenerator[None, None]:
    """The streams in `app[LIVE]` for as long as the application runs."""
    app[LIVE] = LiveStreams(services)
    keeping = asyncio.create_task(app[LIVE].run(), name="live:errors")
    yield
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


async def end_live_streams(app: web.Application) -> None:
    """A stream never ends by itself, so the server must not wait for them."""
    await app[LIVE].stop()


class LiveRoute:
    """Handler of the live stream."""

    def __init__(self, own: OwnDrops) -> None:
        self._own = own

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/merchant/drops/{drop}/live: the drop every second, until it is closed or the session ends."""
        live, principal, ends_at_ms = await self._own.find_until(request, Scope.MERCHANT)
        pieces = request.app[LIVE].pieces(live.definition.drop_id, principal, ends_at_ms)
        return await Streamed.begun(pieces, EVENT_STREAM, unread_max_s=UNREAD_MAX_S)
