"""What the routes work with: one value, put together by `flashsale.cli.compose`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from admission.inlet import Inlet
from admission.receipts import ReceiptVerifier
from admission.tokens import TokenSigner
from admission.waiting_room import WaitingRoom
from flashsale.access import AccessKeys
from flashsale.audits import Audits
from flashsale.clock import Clock
from flashsale.drops import DropStore
from flashsale.metrics import Metrics
from flashsale.orders import Orders
from flashsale.payments.registry import Payments
from flashsale.refunds import Refunds
from flashsale.reservations import Reservations
from flashsale.settings import Settings
from flashsale.stock import StockLedger
from flashsale.web.serving import ServingDocuments

Check = Callable[[], Awaitable[None]]
"""Returns when a part works, raises what is wrong when it does not."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a worker answers with."""

    settings: Settings
    clock: Clock
    inlet: Inlet
    documents: ServingDocuments
    """must be the inlet's `on_change`"""
    waiting_room: WaitingRoom
    reservations: Reservations
    drop_store: DropStore
    stock: StockLedger
    audits: Audits
    orders: Orders
    access: AccessKeys
    payments: Payments
    refunds: Refunds
    tokens: TokenSigner
    receipts: ReceiptVerifier
    """of receipts that shoppers show after a loss"""
    jwks: bytes
    metrics: Metrics
    checks: Mapping[str, Check]
    """parts /readyz looks at, by name: store, scripts, postgres"""
