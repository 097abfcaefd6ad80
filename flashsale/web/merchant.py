"""What a merchant's systems ask for: changing a drop's stock, and its last audit."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from admission.inlet import LiveDrop
from flashsale.access import Principal, Scope
from flashsale.audits import DriftFound
from flashsale.drops import StockAdjustment
from flashsale.errors import BadInput
from flashsale.model import ALLOTMENT_MAX, SKU_PATTERN, AdjustStockOutcome, SkuStock, digest
from flashsale.stock import MADE
from flashsale.web.answers import personal
from flashsale.web.authority import Authority
from flashsale.web.clients import Clients
from flashsale.web.directory import DropDirectory
from flashsale.web.problems import Code, Problem, ProblemError, problem
from flashsale.web.requests import idempotency_key, read_json
from flashsale.web.services import Services


class StockBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST stock."""

    sku: Annotated[str, Meta(pattern=rf"^(?:{SKU_PATTERN})\Z")]
    delta: Annotated[int, Meta(ge=-ALLOTMENT_MAX, le=ALLOTMENT_MAX)]
    """units to add, less than 0 to withdraw"""
    drain: bool = False
    """withdraw what reservations hold, too, as they end unpaid"""


_stock_body = msgspec.json.Decoder(StockBody)


class StockView(Struct, frozen=True):
    """A change of stock that was made, and the units afterwards."""

    drop: str
    sku: str
    change_id: str
    outcome: str
    """adjusted, draining, or replayed"""
    allotment: int
    available: int
    reserved: int
    sold: int
    draining: int


class AuditView(Struct, frozen=True):
    """What the running auditor last found."""

    drop: str
    result: str | None
    """clean, drift or unfinished; null before the first audit"""
    audited_at_ms: int | None
    paused_at_ms: int | None
    """when the auditor paused the drop for drift that is still there"""
    drifts: list[DriftFound]


class OwnDrops:
    """Finds drops for those they belong to."""

    def __init__(self, services: Services, directory: DropDirectory, clients: Clients) -> None:
        self._directory = directory
        self._authority = Authority(services.access, clients, services.console_sessions)

    async def find(self, request: web.Request, *scopes: Scope) -> LiveDrop:
        """The drop asked about. Another tenant's is as if it did not exist.

        Args:
            scopes: one of which the key has to have; the merchant's when none is named.

        Raises:
            ProblemError: the key is not valid or has not the scope, or the drop is not its tenant's.
            DropNotFound, Recovering, StoreUnavailable: see `DropDirectory.find`.
        """
        live, _, _ = await self.find_until(request, *scopes)
        return live

    async def find_until(self, request: web.Request, *scopes: Scope) -> tuple[LiveDrop, Principal, int | None]:
        """As `find`, with who asks, and when their key or session ends in ms, None for never. Raises as `find` does."""
        principal, ends_at_ms = await self.who(request, *scopes)
        live = await self._directory.find(request.match_info["drop"])
        if live.definition.tenant != principal.tenant:
            raise ProblemError(problem(Code.DROP_NOT_FOUND))
        return live, principal, ends_at_ms

    async def who(self, request: web.Request, *scopes: Scope) -> tuple[Principal, int | None]:
        """Who asks, and when their key or session ends. Raises ProblemError as `find` does."""
        return await self._authority.until(request, *(scopes or (Scope.MERCHANT,)))


class Merchant:
    """Handlers of the merchant's routes."""

    def __init__(self, services: Services, own: OwnDrops) -> None:
        self._services = services
        self._own = own
        self._body_timeout_s = services.settings.http.body_timeout_ms / 1000

    async def stock(self, request: web.Request) -> web.Response:
        """POST /v1/merchant/drops/{drop}/stock: add or withdraw units; the same key counts once."""
        live = await self._own.find(request)
        key = idempotency_key(request)
        body = await read_json(request, _stock_body, self._body_timeout_s)
        if body.delta == 0:
            raise BadInput(what="A change of 0 units is none.", field="delta")
        if body.drain and body.delta > 0:
            raise BadInput(what="Only a withdrawal can drain.", field="drain")
        drop_id, change_id = live.definition.drop_id, f"api-{digest('stock', key)}"
        adjustment = await self._services.stock.change(drop_id, change_id, body.sku, body.delta, drain=body.drain)
        if adjustment.outcome not in MADE or adjustment.stock is None:
            return _refusal(adjustment)
        return personal(_stock_view(drop_id, body.sku, change_id, adjustment.outcome, adjustment.stock))

    async def audit(self, request: web.Request) -> web.Response:
        """GET /v1/merchant/drops/{drop}/audit: whether the drop adds up."""
        live = await self._own.find(request)
        drop_id = live.definition.drop_id
        last = await self._services.audits.last(drop_id)
        if last is None:
            return personal(AuditView(drop_id, None, None, None, []))
        return personal(AuditView(drop_id, last.result, last.audited_at_ms, last.paused_at_ms, last.drifts))


def _stock_view(drop_id: str, sku: str, change_id: str, outcome: AdjustStockOutcome, stock: SkuStock) -> StockView:
    return StockView(drop_id, sku, change_id, outcome.value, stock.allotment, stock.available, stock.reserved, stock.sold, stock.draining)


_CODE_OF = {
    AdjustStockOutcome.TOO_FEW: Code.TOO_FEW_UNITS,
    AdjustStockOutcome.TOO_MANY: Code.TOO_MANY_UNITS,
    AdjustStockOutcome.UNKNOWN_SKU: Code.SKU_NOT_FOUND,
    AdjustStockOutcome.KEY_REUSED: Code.IDEMPOTENCY_KEY_REUSED,
    AdjustStockOutcome.CLOSED: Code.CLOSED,
}


def _refusal(adjustment: StockAdjustment) -> Problem:
    members: dict[str, object] = {}
    if adjustment.outcome is AdjustStockOutcome.TOO_FEW and adjustment.stock is not None:
        members = {f"{name}_units": getattr(adjustment.stock, name) for name in ("available", "reserved", "draining")}
    return problem(_CODE_OF[adjustment.outcome], members=members)
