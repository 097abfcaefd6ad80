"""What shoppers' browsers ask for: drops, a place in the line, admission, reservations."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from admission.draw import commitment_of
from admission.handoff import HANDOFF_TTL_MS
from admission.inlet import LiveDrop
from admission.receipts import ReservationReceipt
from flashsale.errors import Busy, DatabaseUnavailable
from flashsale.model import (
    Drop,
    Refused,
    Reservation,
    ReservationState,
    secret_hash_of,
    ticket_id_of,
)
from flashsale.web.answers import JsonAnswer
from flashsale.web.clients import Clients
from flashsale.web.directory import DropDirectory
from flashsale.web.observer import REQUEST_ID
from flashsale.web.places import place_view, ticket_view
from flashsale.web.problems import Code, Problem, ProblemError, of_extend, of_leave, of_refusal, of_release, of_restore, problem
from flashsale.web.requests import (
    JoinBody,
    ReserveBody,
    RestoreBody,
    bearer,
    etag_matches,
    idempotency_key,
    read_json,
    ticket_with_secret,
)
from flashsale.web.services import Services
from flashsale.web.serving import etag_of, serving_response
from flashsale.web.steering import PlaceGoneView
from flashsale.web.steps import Steps

ORDER_TIMEOUT_S = 0.3
"""how long a reservation's answer waits for Postgres to tell the order's state"""

COMMITMENTS_MAX = 1000

_join_body = msgspec.json.Decoder(JoinBody)
_reserve_body = msgspec.json.Decoder(ReserveBody)
_restore_body = msgspec.json.Decoder(RestoreBody)
_HELD = frozenset({ReservationState.RESERVED, ReservationState.CONFIRMED})
_encode = msgspec.json.Encoder().encode


class SkuView(Struct, frozen=True):
    """One sellable thing, as shown."""

    sku: str
    name: str
    price_minor: int
    allotment: int
    limit_per_shopper: int
    media: str | None


class GroupView(Struct, frozen=True):
    """A priority group, as shown."""

    group: str
    name: str
    share: float
    """of the admissions while anybody of it waits"""


class DropView(Struct, frozen=True):
    """A drop, as shown."""

    drop: str
    name: str
    description: str
    currency: str
    state: str
    joins_at_ms: int
    opens_at_ms: int
    closes_at_ms: int
    rate_per_min: int
    claim_window_ms: int
    reservation_ttl_ms: int
    extension_ms: int
    limit_per_shopper: int
    durability: str
    order: str
    """draw or arrival"""
    commitment: str | None
    """hex SHA-256 of the draw's secret; None without a draw"""
    groups: list[GroupView]
    invites: str
    """none, accepted or required"""
    identity: str
    """none, accepted or required"""
    skus: list[SkuView]


class HandoffView(Struct, frozen=True):
    """What the shopper's other device joins with."""

    handoff: str
    expires_at_ms: int


class AdmissionView(Struct, frozen=True):
    """Permission to reserve."""

    admission_token: str
    expires_at_ms: int


class ItemView(Struct, frozen=True):
    """Units of one SKU."""

    sku: str
    quantity: int


class OrderStateView(Struct, frozen=True):
    """The order of a reservation, as far as it is known."""

    state: str | None
    recorded: bool
    """False: not in Postgres yet, or Postgres does not answer just now"""


class ReservationView(Struct, frozen=True):
    """A reservation, as shown."""

    id: str
    """the same as `reservation_id`, the name every other answer has for it"""
    reservation_id: str
    drop: str
    state: str
    items: list[ItemView]
    amount_minor: int
    currency: str
    reserved_at_ms: int
    expires_at_ms: int
    durability: str
    order: OrderStateView | UnsetType = UNSET
    receipt: str | UnsetType = UNSET
    """signed proof, with the answer to reserving: after a loss it brings the reservation back"""


class Shopper:
    """Handlers of the shopper's routes."""

    def __init__(self, services: Services, directory: DropDirectory, clients: Clients) -> None:
        self._services = services
        self._inlet = services.inlet
        self._room = services.waiting_room
        self._reservations = services.reservations
        self._steps = Steps(services)
        self._tokens = services.tokens
        self._directory = directory
        self._clients = clients
        self._body_timeout_s = services.settings.http.body_timeout_ms / 1000
        self._commitments: OrderedDict[str, str] = OrderedDict()

    async def drop(self, request: web.Request) -> web.Response:
        """GET /v1/drops/{drop}: what is on sale."""
        live = await self._directory.find(request.match_info["drop"])
        body = _encode(_drop_view(live, await self._commitment(live.definition)))
        etag = etag_of(body)
        headers = {"ETag": etag, "Cache-Control": "public, max-age=5"}
        if_none_match = request.headers.get("If-None-Match")
        if if_none_match is not None and etag_matches(if_none_match, etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={"Content-Type": "application/json", **headers})

    async def serving(self, request: web.Request) -> web.Response:
        """GET /v1/drops/{drop}/serving: the serving document, when the short path did not answer."""
        drop_id = request.match_info["drop"]
        document = self._services.documents.get(drop_id)
        if document is None:
            await self._directory.find(drop_id)
            document = self._services.documents.get(drop_id)
            assert document is not None
        return serving_response(document, request.headers.get("If-None-Match"))

    async def join(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/drops/{drop}/tickets: a place in the line."""
        if limited := self._limited(request):
            return limited
        live = await self._live(request)
        place = await self._steps.join(live, await read_json(request, _join_body, self._body_timeout_s))
        if isinstance(place, Refused):
            return of_refusal(place)
        return JsonAnswer(_encode(ticket_view(live, place)), 200 if place.replayed else 201)

    async def ticket(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/tickets/{ticket_id}: the place, for clients that cannot compute it."""
        ticket_id = request.match_info["ticket_id"]
        live = await self._directory.of_ticket(ticket_id)
        inspection = await self._services.drop_store.inspect(live.definition.drop_id, tickets=(ticket_id,))
        ticket = inspection.tickets[0]
        if ticket is None:
            return problem(Code.TICKET_NOT_FOUND)
        room = self._services.settings.waiting_room
        return JsonAnswer(_encode(place_view(live, inspection.snapshot, ticket, ticket_id, room)))

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """DELETE /v1/tickets/{ticket_id}: gives the place up."""
        if limited := self._limited(request):
            return limited
        live, ticket_id, secret = await self._own_ticket(request)
        drop_id = live.definition.drop_id
        refusal = of_leave(await self._room.leave(drop_id, ticket_id, secret, live.draws))
        return refusal or JsonAnswer(_encode(PlaceGoneView(ticket_id, drop_id, "left")))

    async def hand_over(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/tickets/{ticket_id}/handoff: a code with which the shopper's other device takes the place over."""
        if limited := self._limited(request):
            return limited
        live, ticket_id, _ = await self._own_ticket(request)
        inspection = await self._services.drop_store.inspect(live.definition.drop_id, tickets=(ticket_id,))
        ticket = inspection.tickets[0]
        if ticket is None:
            return problem(Code.TICKET_NOT_FOUND)
        if ticket.gone:
            return problem(Code(ticket.gone))
        if ticket.holder:
            return problem(Code.HANDOFF_USED if ticket.holder == ticket_id else Code.MOVED)
        expires_at_ms = inspection.now_ms + HANDOFF_TTL_MS
        return JsonAnswer(_encode(HandoffView(self._services.handoffs.make(ticket.ticket_id, expires_at_ms), expires_at_ms)))

    async def admit(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/drops/{drop}/admissions: a served ticket becomes an admission token."""
        if limited := self._limited(request):
            return limited
        live = await self._live(request)
        drop_id = live.definition.drop_id
        ticket_id, secret = ticket_with_secret(request, drop_id)
        admitted = await self._room.admit(drop_id, live.snapshot.epoch, ticket_id, secret, live.draws)
        if isinstance(admitted, Refused):
            return of_refusal(admitted)
        return JsonAnswer(_encode(AdmissionView(admitted.token, admitted.expires_at_ms)))

    async def reserve(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/drops/{drop}/reservations: units for an admitted shopper."""
        if limited := self._limited(request):
            return limited
        live = await self._live(request)
        permission = self._steps.permission(live.definition, bearer(request))
        key = idempotency_key(request)
        items = (await read_json(request, _reserve_body, self._body_timeout_s)).sorted_items()
        reservation = await self._steps.reserve(live, permission, key, items, request[REQUEST_ID])
        return JsonAnswer(_encode(_reservation_view(reservation, live.definition)), 200 if reservation.replayed else 201)

    async def reservation(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/reservations/{id}: its state, and the order's once that is recorded."""
        reservation_id = request.match_info["id"]
        found, drop = await self._look_up(reservation_id)
        return self._shown(found, drop, await self._order_state(reservation_id))

    async def release(self, request: web.Request) -> web.StreamResponse:
        """DELETE /v1/reservations/{id}: gives the units back."""
        if limited := self._limited(request):
            return limited
        reservation_id = request.match_info["id"]
        found, drop = await self._look_up(reservation_id)
        self._check_shopper(request, found)
        settlement = await self._reservations.release(reservation_id, request[REQUEST_ID], "shopper")
        refusal = of_release(settlement)
        if refusal is not None:
            return refusal
        assert settlement.state is not None
        return self._shown(replace(found, state=settlement.state), drop)

    async def extend(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/reservations/{id}/extend: more time, once, where the drop allows it."""
        if limited := self._limited(request):
            return limited
        key = idempotency_key(request)
        reservation_id = request.match_info["id"]
        found, drop = await self._look_up(reservation_id)
        self._check_shopper(request, found)
        if not drop.extension_ms:
            return problem(Code.EXTENSION_NOT_ALLOWED)
        settlement = await self._reservations.extend(reservation_id, drop.extension_ms, key, request[REQUEST_ID])
        refusal = of_extend(settlement)
        if refusal is not None:
            return refusal
        assert settlement.state is not None
        return self._shown(replace(found, state=settlement.state, expires_at_ms=settlement.expires_at_ms), drop)

    async def restore(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/reservations/{id}/restore: a reservation that a loss has swallowed, brought back by its receipt."""
        if limited := self._limited(request):
            return limited
        reservation_id = request.match_info["id"]
        drop = (await self._directory.of_reservation(reservation_id)).definition
        body = await read_json(request, _restore_body, self._body_timeout_s)
        try:
            receipt = self._services.receipts.read_reservation(body.receipt)
        except ValueError:
            return problem(Code.RECEIPT_INVALID)
        if (receipt.reservation_id, receipt.drop) != (reservation_id, drop.drop_id):
            return problem(Code.RECEIPT_INVALID)
        found = await self._reservations.restore(_as_it_was(receipt), receipt.epoch, request[REQUEST_ID])
        if isinstance(found, Refused):
            return of_restore(found)
        if found.state not in _HELD:
            return problem(Code.RESERVATION_EXPIRED)
        return self._shown(found, drop)

    async def _commitment(self, drop: Drop) -> str | None:
        """What a drop's draw was committed to before anybody joined. It never changes, so the store is asked once."""
        known = self._commitments.get(drop.drop_id)
        if known is None and drop.order == "draw":
            secret, _ = await self._services.drop_store.draw_record(drop.drop_id)
            if not secret:
                return None
            known = self._commitments[drop.drop_id] = commitment_of(bytes.fromhex(secret))
            if len(self._commitments) > COMMITMENTS_MAX:
                self._commitments.popitem(last=False)
        return known

    async def _own_ticket(self, request: web.Request) -> tuple[LiveDrop, str, str]:
        """The drop of the ticket in the address, its id, and the secret that proves whose it is. Raises ProblemError without."""
        ticket_id = request.match_info["ticket_id"]
        live = await self._directory.of_ticket(ticket_id)
        shown, secret = ticket_with_secret(request, live.definition.drop_id)
        if shown != ticket_id or ticket_id != ticket_id_of(live.definition.drop_id, secret_hash_of(secret)):
            raise ProblemError(problem(Code.TICKET_INVALID))
        return live, ticket_id, secret

    def _check_shopper(self, request: web.Request, reservation: Reservation) -> None:
        """The id cannot be guessed and is permission enough; a token, when sent, must be of the same shopper. Raises ProblemError."""
        if "Authorization" in request.headers:
            permission = self._tokens.read(bearer(request))
            if permission is None or permission.ticket_id != reservation.ticket_id:
                raise ProblemError(problem(Code.TOKEN_INVALID))

    def _limited(self, request: web.Request) -> Problem | None:
        wait_s = self._clients.take(request)
        return problem(Code.RATE_LIMITED, retry_after_s=wait_s) if wait_s else None

    async def _live(self, request: web.Request) -> LiveDrop:
        drop_id = request.match_info["drop"]
        return self._inlet.get(drop_id) or await self._directory.find(drop_id)

    async def _look_up(self, reservation_id: str) -> tuple[Reservation, Drop]:
        """The reservation as the store has it now, and its drop. Raises ProblemError when there is none."""
        live = await self._directory.of_reservation(reservation_id)
        inspection = await self._services.drop_store.inspect(live.definition.drop_id, reservations=(reservation_id,))
        found = inspection.reservations[0]
        if found is None:
            raise ProblemError(problem(Code.RESERVATION_NOT_FOUND))
        return found, live.definition

    async def _order_state(self, reservation_id: str) -> OrderStateView:
        try:
            async with asyncio.timeout(ORDER_TIMEOUT_S):
                order = await self._services.orders.get(reservation_id)
        except (DatabaseUnavailable, Busy, TimeoutError):
            order = None
        return OrderStateView(None, recorded=False) if order is None else OrderStateView(order.state.value, recorded=True)

    @staticmethod
    def _shown(reservation: Reservation, drop: Drop, order: OrderStateView | UnsetType = UNSET) -> JsonAnswer:
        return JsonAnswer(_encode(_reservation_view(reservation, drop, order)))


def _as_it_was(receipt: ReservationReceipt) -> Reservation:
    return Reservation(
        reservation_id=receipt.reservation_id,
        drop_id=receipt.drop,
        ticket_id=receipt.ticket_id,
        state=ReservationState.RESERVED,
        items=receipt.items,
        amount_minor=receipt.amount_minor,
        reserved_at_ms=receipt.reserved_at_ms,
        expires_at_ms=receipt.expires_at_ms,
        number=receipt.number,
    )


def _state(live: LiveDrop) -> str:
    return "recovering" if live.recovering else live.snapshot.state.value


def _drop_view(live: LiveDrop, commitment: str | None) -> DropView:
    drop, snapshot = live.definition, live.snapshot
    return DropView(
        drop=drop.drop_id,
        name=drop.name,
        description=drop.description,
        currency=drop.currency,
        state=_state(live),
        joins_at_ms=snapshot.joins_at_ms,
        opens_at_ms=snapshot.opens_at_ms,
        closes_at_ms=snapshot.closes_at_ms,
        rate_per_min=snapshot.rate_per_min,
        claim_window_ms=drop.claim_window_ms,
        reservation_ttl_ms=drop.reservation_ttl_ms,
        extension_ms=drop.extension_ms,
        limit_per_shopper=drop.limit_per_shopper,
        durability=drop.durability,
        order=drop.order,
        commitment=commitment,
        groups=[GroupView(group.group_id, group.name, group.share_permille / 1000) for group in drop.groups],
        invites=drop.invites,
        identity=drop.identity,
        skus=[
            SkuView(sku.sku, sku.name, sku.price_minor, snapshot.skus[sku.sku].allotment, sku.limit_per_shopper, sku.media or None)
            for sku in drop.skus
        ],
    )


def _reservation_view(reservation: Reservation, drop: Drop, order: OrderStateView | UnsetType = UNSET) -> ReservationView:
    return ReservationView(
        reservation.reservation_id,
        reservation.reservation_id,
        drop.drop_id,
        reservation.state.name.lower(),
        [ItemView(sku, quantity) for sku, quantity in reservation.items],
        reservation.amount_minor,
        drop.currency,
        reservation.reserved_at_ms,
        reservation.expires_at_ms,
        drop.durability,
        order,
        reservation.receipt or UNSET,
    )
