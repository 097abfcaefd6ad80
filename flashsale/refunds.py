"""Refunds as people, storefronts and providers deal with them; the reconciler drives them (`reconciler.refunds`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flashsale.connections.database import Database
from flashsale.model import RESERVATION_ID_RE
from flashsale.payments.provider import PaymentEvent, RefundEvent

OPEN_MAX = 1000
"""refunds listed at once"""


class RefundProgress(StrEnum):
    """How far a refund is. `held | due → requested → done`; or `failed`, from where a person sends it on."""

    HELD = "held"
    """a person decides whether it goes back at all"""
    DUE = "due"
    REQUESTED = "requested"
    """the provider was asked; the outcome is not known yet"""
    SETTLED = "settled"
    """given back by hand, or so the provider says; its order follows in a moment"""
    FAILED = "failed"
    """the provider refused; a person decides"""
    DONE = "done"


class Release(StrEnum):
    """What became of a person's decision that a payment goes back."""

    SENT = "sent"
    PAYS = "pays"
    """it pays for an order that is paid, so it stays until that order is taken back"""
    NOTHING = "nothing"
    """no such refund, or it has gone back"""


class HoldReason(StrEnum):
    """Why a payment is kept for a person."""

    UNMATCHED = "unmatched"
    """for a reservation nobody knows"""
    CURRENCY_MISMATCH = "currency_mismatch"
    OVERTAKEN = "overtaken"
    """the store that had it was lost, and it was told of after the drop had been recovered"""


@dataclass(frozen=True, slots=True)
class Refund:
    """A payment that goes back, or may have to. Times are ms since the epoch."""

    refund_id: str
    reservation_id: str
    """as reported; not necessarily one of ours when the payment is held"""
    drop_id: str
    amount_minor: int
    currency: str
    payment_reference: str
    reason: str
    state: RefundProgress
    provider: str
    provider_refund_id: str
    attempts: int
    last_error: str
    created_at_ms: int
    finished_at_ms: int | None


class Refunds:
    """Reads and steers refunds. Every method raises DatabaseUnavailable while Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(self, provider: str, payment: PaymentEvent, reason: HoldReason) -> None:
        """Keeps a payment that pays for nothing we know, until a person decides. The same one again is kept once."""
        match = RESERVATION_ID_RE.fullmatch(payment.reservation_id)
        await self._database.execute(
            "refund_hold",
            payment.reservation_id,
            match[1] if match else "",
            payment.amount_minor,
            payment.currency,
            payment.payment_reference,
            reason,
            provider,
        )

    async def hear(self, event: RefundEvent) -> bool:
        """A provider says that money went back; True when that settles a refund.

        With our id it settles that refund. Without, the payment's only open refund, when all of it went back: a part of a
        payment settles nothing.
        """
        if event.refund_id:
            settled = await self._database.fetchval("refund_settle", event.refund_id, event.provider_refund_id)
            return settled is not None
        rows = await self._database.fetch("refunds_of_payment", event.payment_reference)
        if len(rows) != 1 or event.amount_minor < rows[0]["amount_minor"]:
            return False
        return await self.settle(rows[0]["refund_id"], event.provider_refund_id)

    async def settle(self, refund_id: str, provider_refund_id: str = "") -> bool:
        """Notes that the money went back; False when there is no such refund, or it is done already."""
        return await self._database.fetchval("refund_settle", refund_id, provider_refund_id) is not None

    async def release(self, refund_id: str) -> Release:
        """Sends a held or failed refund on its way, and tries a waiting one now."""
        pays = await self._database.fetchval("refund_release", refund_id)
        if pays is None:
            return Release.NOTHING
        return Release.PAYS if pays else Release.SENT

    async def get(self, refund_id: str) -> Refund | None:
        """The refund, or None."""
        row = await self._database.fetchrow("refund_by_id", refund_id)
        return None if row is None else _refund(row)

    async def unfinished(self, drop_id: str | None = None) -> list[Refund]:
        """Refunds that are not done, of one drop or of all, the oldest first; at most `OPEN_MAX`."""
        return [_refund(row) for row in await self._database.fetch("refunds_open", drop_id, OPEN_MAX)]

    async def of_order(self, order_id: str) -> list[Refund]:
        """Every refund of an order's payments."""
        return [_refund(row) for row in await self._database.fetch("refunds_of_order", order_id)]


def _refund(row: Any) -> Refund:
    return Refund(**{**dict(row), "state": RefundProgress(row["state"])})
