"""The refund driver: payments that must go back are asked back of their provider until it says that they went.

A refund is a row. Whoever works on it holds it by time, not by a lock, so a driver that dies is followed by another, who
asks again with the same id; for the provider it is the same refund. An answer that never came is asked for again, with
growing pauses and without an end. Only a provider's definite refusal is left for a person.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from flashsale.errors import DatabaseUnavailable
from flashsale.payments.provider import ProviderUnreachable, RefundAnswer, RefundOrder, RefundState
from flashsale.refunds import RefundProgress
from reconciler.agents import JITTER, repeat

if TYPE_CHECKING:
    from flashsale.connections.database import Database
    from flashsale.payments.provider import RefundProvider
    from flashsale.payments.registry import RefundProviders
    from flashsale.settings import PaymentSettings
    from reconciler.metrics import ReconcilerMetrics

IN_HAND_MAX = 16
PER_PROVIDER_MAX = 4
"""A provider that does not answer holds up its own refunds and no others."""
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 3600.0
PENDING_S = 60.0
"""how long a provider is left alone that has taken a refund and not finished it"""
FULL_S = 2.0
UNSERVED_S = 300.0
"""how long a refund waits to be looked at again whose provider is not set up"""
GRACE_S = 5.0

_log = structlog.get_logger("reconciler")


class RefundDriver:
    """Drives refunds of all drops. Any number may run beside each other."""

    name = "refunds"

    def __init__(self, database: Database, providers: RefundProviders, metrics: ReconcilerMetrics, settings: PaymentSettings) -> None:
        self._database = database
        self._providers = providers
        self._metrics = metrics
        self._interval_ms = settings.refund_interval_ms
        # A provider may be asked twice in a row: what became of it, then for it.
        self._patience_s = 2 * settings.refund_timeout_ms / 1000 + GRACE_S
        self._in_hand: set[asyncio.Task[None]] = set()
        self._busy: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Look for work every `payments.refund_interval_ms` until stopping; what is in hand is finished first."""
        try:
            await repeat(self.name, self._interval_ms, self._step, stop)
        except asyncio.CancelledError:
            for work in self._in_hand:
                work.cancel()
            raise
        finally:
            await asyncio.gather(*self._in_hand, return_exceptions=True)

    async def drive(self) -> int:
        """Work on everything that is due now and return when that is done; how many refunds were worked on."""
        worked_on = 0
        while claimed := await self._start():
            worked_on += claimed
            await asyncio.gather(*self._in_hand)
        return worked_on

    async def _step(self) -> None:
        await self._start()
        row = await self._database.fetchrow("refunds_backlog")
        assert row is not None
        self._metrics.refund_oldest_age.set(row["oldest_s"])
        self._metrics.refunds_for_people.set(row["for_people"])

    async def _start(self) -> int:
        """Take as many refunds in hand as there is room for."""
        room = IN_HAND_MAX - len(self._in_hand)
        rows = await self._database.fetch("refunds_claim", room, self._patience_s + GRACE_S) if room else []
        for row in rows:
            work = asyncio.create_task(self._work(dict(row)))
            self._in_hand.add(work)
            work.add_done_callback(self._in_hand.discard)
        return len(rows)

    async def _work(self, row: dict[str, Any]) -> None:
        try:
            await self._settle(row)
        except (DatabaseUnavailable, asyncpg.PostgresError) as error:
            # It stays claimed for a while, and then it is asked for again.
            _log.warning("refund_held_up", refund=row["refund_id"], error=str(error))
        except Exception:  # noqa: BLE001 - whatever it was, the other refunds go on
            _log.exception("refund_broken", refund=row["refund_id"])

    async def _settle(self, row: dict[str, Any]) -> None:
        refund_id, reference = row["refund_id"], row["payment_reference"]
        if row["state"] == RefundProgress.SETTLED or row["amount_minor"] == 0:
            await self._done(row, "")
            return
        provider = self._providers.owner(reference)
        if provider is None:
            await self._later(refund_id, UNSERVED_S, "no provider is set up for this payment")
        elif self._busy[provider.name] >= PER_PROVIDER_MAX:
            await self._later(refund_id, FULL_S, row["last_error"])
        else:
            self._busy[provider.name] += 1
            try:
                await self._ask(provider, row)
            finally:
                self._busy[provider.name] -= 1

    async def _ask(self, provider: RefundProvider, row: dict[str, Any]) -> None:
        request = await self._database.fetchrow("refund_request", row["refund_id"], provider.name)
        if request is None:
            return  # settled by somebody meanwhile
        attempt = request["attempts"]
        try:
            answer = await self._answer(provider, _order(row, attempt, request["generation"]))
        except (ProviderUnreachable, TimeoutError) as error:
            why = str(error) or "The provider did not answer in time."
            _log.warning("refund_unknown", refund=row["refund_id"], provider=provider.name, attempt=attempt, error=why)
            await self._later(row["refund_id"], _backoff_s(attempt), why)
            return
        match answer.state:
            case RefundState.DONE:
                await self._done(row, answer.provider_refund_id)
            case RefundState.PENDING:
                await self._later(row["refund_id"], max(PENDING_S, _backoff_s(attempt)), "", answer.provider_refund_id)
            case RefundState.REFUSED:
                _log.error("refund_refused", refund=row["refund_id"], provider=provider.name, code=answer.code)
                await self._database.execute("refund_fail", row["refund_id"], answer.code or "refused")
                self._metrics.refunds_refused.inc()

    async def _answer(self, provider: RefundProvider, order: RefundOrder) -> RefundAnswer:
        async with asyncio.timeout(self._patience_s):
            found = await provider.find_refund(order) if order.attempt > 1 else None
            return found or await provider.refund(order)

    async def _done(self, row: dict[str, Any], provider_refund_id: str) -> None:
        if await self._database.fetchval("refund_done", row["refund_id"], provider_refund_id) is not None:
            self._metrics.refunds_done.inc()
            _log.info("refund_done", refund=row["refund_id"], order=row["reservation_id"], reason=row["reason"])

    async def _later(self, refund_id: str, seconds: float, why: str, provider_refund_id: str = "") -> None:
        await self._database.execute("refund_retry_later", refund_id, _varied(seconds), why[:200], provider_refund_id)


def _order(row: dict[str, Any], attempt: int, generation: int) -> RefundOrder:
    return RefundOrder(
        refund_id=row["refund_id"],
        reservation_id=row["reservation_id"],
        payment_reference=row["payment_reference"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        reason=row["reason"],
        attempt=attempt,
        generation=generation,
    )


def _backoff_s(attempt: int) -> float:
    return float(min(BACKOFF_MIN_S * 2 ** min(attempt - 1, 16), BACKOFF_MAX_S))


def _varied(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - not for secrets
