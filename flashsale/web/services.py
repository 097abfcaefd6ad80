"""What the routes work with: one value, put together by `flashsale.cli.compose`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from admission.admitted import AdmittedLately
from admission.handoff import Handoffs
from admission.inlet import Inlet
from admission.log import HeadSigner
from admission.receipts import ReceiptVerifier
from admission.tokens import TokenSigner
from admission.waiting_room import WaitingRoom
from flashsale.access import AccessKeys
from flashsale.audits import Audits
from flashsale.clock import Clock
from flashsale.drops import DropCatalog, DropStore
from flashsale.metrics import Metrics
from flashsale.orders import Orders
from flashsale.payments.registry import Payments
from flashsale.refunds import Refunds
from flashsale.reservations import Reservations
from flashsale.settings import Settings
from flashsale.stock import StockLedger
from flashsale.web.console_session import ConsoleSessions
from flashsale.web.entrance import Entrance
from flashsale.web.serving import ServingDocuments

if TYPE_CHECKING:
    from flashsale.connections.calls import StoreCalls

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
    catalog: DropCatalog
    store_calls: StoreCalls
    """for reading what no script is needed for"""
    stock: StockLedger
    audits: Audits
    orders: Orders
    access: AccessKeys
    console_sessions: ConsoleSessions
    payments: Payments
    refunds: Refunds
    tokens: TokenSigner
    heads: HeadSigner
    """signs the head of the admission log"""
    receipts: ReceiptVerifier
    """of receipts that shoppers show after a loss"""
    entrance: Entrance
    """who may have a place, and in which line"""
    handoffs: Handoffs
    admitted: AdmittedLately
    """sees what the inlet sees"""
    jwks: bytes
    metrics: Metrics
    checks: Mapping[str, Check]
    """parts /readyz looks at, by name: store, scripts, postgres"""
