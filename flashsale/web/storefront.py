"""What storefronts and payment providers ask for: confirming reservations, and orders."""

from __future__ import annotations

import msgspec
from aiohttp import web
from msgspec import Struct

from admission.inlet import LiveDrop
from flashsale.access import Principal, Scope
from flashsale.errors import BadInput, Busy, DatabaseUnavailable
from flashsale.model import ConfirmOutcome, OrderState, ReservationState
from flashsale.orders import PAGE_MAX, PAID_STATES, Order, reason_words
from flashsale.payments.provider import Ignored, PaymentEvent, RefundEvent
from flashsale.refunds import HoldReason
from flashsale.reservations import Settlement
from flashsale.web.answers import personal
from flashsale.web.authority import Authority
from flashsale.web.clients import Clients
from flashsale.web.directory import DropDirectory
from flashsale.web.observer import REQUEST_ID
from flashsale.web.problems import Code, ProblemError, of_confirm, problem
from flashsale.web.requests import ConfirmBody, RefundBody, idempotency_key, limit_of, query_of, read_body, read_json
from flashsale.web.services import Services
from flashsale.web.shopper import ItemView

RETRY_AFTER_S = 1
PAGE_DEFAULT = 50
STOREFRONT = "storefront"
SURPLUS, HELD = "surplus", "held"

_confirm_body = msgspec.json.Decoder(ConfirmBody)
_refund_body = msgspec.json.Decoder(RefundBody)


class OrderView(Struct, frozen=True):
    """An order, as recorded."""

    order_id: str
    drop: str
    state: str
    items: list[ItemView]
    amount_minor: int
    currency: str
    payment_reference: str | None
    reason: str | None
    reserved_at_ms: int
    expires_at_ms: int
    paid_at_ms: int | None
    finished_at_ms: int | None
    request_id: str


class RecordingView(Struct, frozen=True):
    """An order that is certain and not in Postgres yet."""

    order_id: str
    drop: str
    state: str
    """of the reservation in the store"""
    status_url: str


class OrdersView(Struct, frozen=True):
    """A page of orders."""

    orders: list[OrderView]
    next: str | None
    """pass as `after` for the next page; null on the last one"""


class WebhookView(Struct, frozen=True):
    """A payment event that was taken."""

    reservation_id: str
    state: str
    """of the reservation; or `surplus`, when the payment pays for nothing and goes back, or `held`, when a person decides"""


class Storefront:
    """Handlers of the storefront's and the providers' routes."""

    def __init__(self, services: Services, directory: DropDirectory, clients: Clients) -> None:
        self._services = services
        self._directory = directory
        self._authority = Authority(services.access, clients)
        self._body_timeout_s = services.settings.http.body_timeout_ms / 1000
        self._deadline_ms = services.settings.confirm.deadline_ms

    async def confirm(self, request: web.Request) -> web.Response:
        """POST /v1/reservations/{id}/confirm: sold; answered when the order is committed."""
        principal = await self._authority.of(request, Scope.STOREFRONT)
        reservation_id = request.match_info["id"]
        live = await self._directory.of_reservation(reservation_id)
        _must_own(principal, live, Code.RESERVATION_NOT_FOUND)
        key = idempotency_key(request)
        body = await read_json(request, _confirm_body, self._body_timeout_s)
        settlement = await self._services.reservations.confirm(
            reservation_id, body.payment_reference, body.amount_minor, request[REQUEST_ID], key
        )
        refusal = of_confirm(settlement)
        if refusal is not None:
            return refusal
        return await self._confirmed(settlement, live)

    async def _confirmed(self, settlement: Settlement, live: LiveDrop) -> web.Response:
        """The order once it is committed. The payment is taken, so whatever keeps us from seeing that is no refusal."""
        try:
            state = await self._services.orders.wait_recorded(settlement.reservation_id, self._deadline_ms)
        except Busy:
            state = None
        if state is not None:
            order = await self._recorded(settlement.reservation_id)
            if order is not None and order.state in PAID_STATES:
                return personal(_order_view(order))
        return _recording(settlement.reservation_id, live, settlement.state)

    async def webhook(self, request: web.Request) -> web.Response:
        """POST /v1/payments/webhook/{provider}: a provider tells of money; taken as soon as it cannot be lost any more."""
        name = request.match_info["provider"]
        provider = self._services.payments.provider(name)
        body = await read_body(request, self._body_timeout_s)
        try:
            event = provider.verify_webhook({name.lower(): value for name, value in request.headers.items()}, body)
        except Exception:
            self._authority.charge(request)
            raise
        match event:
            case PaymentEvent():
                return await self._paid(request, name, event)
            case RefundEvent():
                await self._services.refunds.hear(event)
            case Ignored():
                pass
        return web.Response(status=204)

    async def _paid(self, request: web.Request, provider: str, payment: PaymentEvent) -> web.Response:
        live = await self._find_drop(payment.reservation_id)
        if live is None:
            return await self._unmatched(provider, payment)
        if payment.currency not in {"", live.definition.currency}:
            await self._services.refunds.hold(provider, payment, HoldReason.CURRENCY_MISMATCH)
            return _taken(payment, HELD)
        settlement = await self._services.reservations.confirm(
            payment.reservation_id, payment.payment_reference, payment.amount_minor, request[REQUEST_ID]
        )
        if settlement.outcome is ConfirmOutcome.NOT_FOUND:
            return await self._unmatched(provider, payment)
        if settlement.outcome in {ConfirmOutcome.PAYMENT_CONFLICT, ConfirmOutcome.AMOUNT_MISMATCH}:
            return _taken(payment, SURPLUS)
        refusal = of_confirm(settlement)
        if refusal is not None and settlement.outcome is not ConfirmOutcome.REFUND_DUE:
            return refusal
        assert settlement.state is not None
        # Money that must go back is recorded too: the provider has done its part and must not send the event again.
        return _taken(payment, settlement.state.name.lower())

    async def _find_drop(self, reservation_id: str) -> LiveDrop | None:
        try:
            return await self._directory.of_reservation(reservation_id)
        except ProblemError as error:
            if error.problem.code is Code.RESERVATION_NOT_FOUND:
                return None
            raise

    async def _unmatched(self, provider: str, payment: PaymentEvent) -> web.Response:
        """Kept for a person, and refused: sent again later, it may match, for instance once the drop has been recovered."""
        await self._services.refunds.hold(provider, payment, HoldReason.UNMATCHED)
        return problem(Code.RESERVATION_NOT_FOUND)

    async def orders(self, request: web.Request) -> web.Response:
        """GET /v1/orders?drop=…&after=…&limit=…: a drop's orders, page by page."""
        principal = await self._authority.of(request, Scope.STOREFRONT)
        drop_id, after, limit = _page_of(request)
        live = await self._directory.find(drop_id)
        _must_own(principal, live, Code.DROP_NOT_FOUND)
        orders = await self._services.orders.page(drop_id, after, limit)
        following = orders[-1].order_id if len(orders) == limit else None
        return personal(OrdersView([_order_view(order) for order in orders], following))

    async def order(self, request: web.Request) -> web.Response:
        """GET /v1/orders/{id}: the order; 202 while only the store knows it."""
        principal = await self._authority.of(request, Scope.STOREFRONT)
        order_id = request.match_info["id"]
        live = await self._directory.of_reservation(order_id, Code.ORDER_NOT_FOUND)
        _must_own(principal, live, Code.ORDER_NOT_FOUND)
        order = await self._recorded(order_id)
        if order is not None:
            return personal(_order_view(order))
        inspection = await self._services.drop_store.inspect(live.definition.drop_id, reservations=(order_id,))
        found = inspection.reservations[0]
        if found is None:
            return problem(Code.ORDER_NOT_FOUND)
        return _recording(order_id, live, found.state)

    async def refund(self, request: web.Request) -> web.Response:
        """POST /v1/orders/{id}/refunds: takes a paid order back; its units are on sale again and its money goes back."""
        principal = await self._authority.of(request, Scope.STOREFRONT)
        order_id = request.match_info["id"]
        live = await self._directory.of_reservation(order_id, Code.ORDER_NOT_FOUND)
        _must_own(principal, live, Code.ORDER_NOT_FOUND)
        idempotency_key(request)
        body = await read_json(request, _refund_body, self._body_timeout_s)
        inspection = await self._services.drop_store.inspect(live.definition.drop_id, reservations=(order_id,))
        found = inspection.reservations[0]
        if found is None:
            return problem(Code.ORDER_NOT_FOUND)
        if found.state not in _PAID_ONCE:
            return problem(Code.NOT_PAID)
        reason = reason_words(STOREFRONT, body.reason)
        settlement = await self._services.reservations.release(order_id, request[REQUEST_ID], reason, paid_too=True)
        order = await self._recorded(order_id)
        if order is not None and order.state in {OrderState.REFUND_DUE, OrderState.REFUNDED}:
            return personal(_order_view(order))
        return _recording(order_id, live, settlement.state)

    async def _recorded(self, order_id: str) -> Order | None:
        """The order, or None while it is not in Postgres as far as can be told."""
        try:
            return await self._services.orders.get(order_id)
        except DatabaseUnavailable:
            return None


_PAID_ONCE = frozenset({ReservationState.CONFIRMED, ReservationState.REFUND_DUE, ReservationState.CANCELLED})


def _taken(payment: PaymentEvent, state: str) -> web.Response:
    return personal(WebhookView(payment.reservation_id, state))


def _must_own(principal: Principal, live: LiveDrop, missing: Code) -> None:
    """Another tenant's drop is as if it did not exist."""
    if live.definition.tenant != principal.tenant:
        raise ProblemError(problem(missing))


def _page_of(request: web.Request) -> tuple[str, str, int]:
    """(drop, after, limit) of the query. Raises BadInput."""
    query = query_of(request, "drop", "after", "limit")
    drop_id, after, limit = query.get("drop", ""), query.get("after", ""), limit_of(query, PAGE_DEFAULT, PAGE_MAX)
    if not drop_id:
        raise BadInput(what="Say of which drop.", field="drop")
    if len(after) > 128 or not after.isascii() or not after.isprintable():
        raise BadInput(what="This is not the id of an order.", field="after")
    return drop_id, after, limit


def _recording(order_id: str, live: LiveDrop, state: ReservationState | None) -> web.Response:
    url = f"/v1/orders/{order_id}"
    view = RecordingView(order_id, live.definition.drop_id, "" if state is None else state.name.lower(), url)
    return personal(view, 202, {"Location": url, "Retry-After": str(RETRY_AFTER_S)})


def _order_view(order: Order) -> OrderView:
    return OrderView(
        order_id=order.order_id,
        drop=order.drop_id,
        state=order.state.value,
        items=[ItemView(sku, quantity) for sku, quantity in order.items],
        amount_minor=order.amount_minor,
        currency=order.currency,
        payment_reference=order.payment_reference,
        reason=order.reason or None,
        reserved_at_ms=order.reserved_at_ms,
        expires_at_ms=order.expires_at_ms,
        paid_at_ms=order.paid_at_ms,
        finished_at_ms=order.finished_at_ms,
        request_id=order.request_id,
    )
