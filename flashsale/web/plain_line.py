"""The line without JavaScript: the same steps as through the API, by forms and by pages that are looked at again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web
from msgspec import UNSET
from msgspec.structs import replace

from admission.inlet import LiveDrop
from admission.invites import CODE_LENGTH_MAX
from admission.waiting_room import Admitted
from flashsale.errors import BadInput, FlashsaleError
from flashsale.model import (
    AdmitOutcome,
    DropState,
    Refused,
    Reservation,
    ReservationState,
    Snapshot,
    reservation_id_of,
    secret_hash_of,
    ticket_id_of,
)
from flashsale.settings import WaitingRoomSettings
from flashsale.storefront_urls import Address
from flashsale.web import line_scenes as scenes
from flashsale.web.clients import Clients
from flashsale.web.directory import DropDirectory
from flashsale.web.line_cookies import KEPT_AFTER_CLOSE_S, Kept, keep, kept_by, make_kept, make_key
from flashsale.web.line_forms import Form, asked_in, form_of, items_of
from flashsale.web.line_scenes import Scene, Setting
from flashsale.web.line_words import Unfit, Words
from flashsale.web.observer import REQUEST_ID
from flashsale.web.page_origin import is_from_elsewhere
from flashsale.web.places import PlaceView, place_view
from flashsale.web.plain_page import PlainPages, document_of, found_in, why
from flashsale.web.problems import Code, Problem, ProblemError, of_extend, of_leave, of_refusal, of_release, problem
from flashsale.web.requests import SECRET_RE, JoinBody, read_body
from flashsale.web.services import Services
from flashsale.web.steps import Steps
from flashsale.web.waiting_page import line_address, shop_address

REFRESH_MIN_MS = 3_000
"""A page that is made anew more often cannot be read."""


class Visit(NamedTuple):
    """One request for the line of a drop."""

    request: web.Request
    words: Words
    live: LiveDrop
    kept: Kept
    shop: Address | None
    asked: Mapping[str, int] = {}
    """units by SKU that the shopper waits for"""

    @property
    def drop_id(self) -> str:
        """The drop's id."""
        return self.live.definition.drop_id

    @property
    def line(self) -> str:
        """The address of the page."""
        return line_address(self.live.definition, self.request)

    @property
    def ticket_id(self) -> str:
        """The ticket the browser's secret stands for."""
        return ticket_id_of(self.drop_id, secret_hash_of(self.kept.secret))

    def setting(self, snapshot: Snapshot | None = None) -> Setting:
        """What a scene is made from; with a newer picture of the drop when there is one."""
        definition = self.live.definition
        asked = {sku.sku: self.asked[sku.sku] for sku in definition.skus if sku.sku in self.asked}
        return Setting(self.words, definition, snapshot or self.live.snapshot, self.line, self.shop, asked)


class Found(NamedTuple):
    """What the store has of a shopper."""

    snapshot: Snapshot
    place: PlaceView | None
    reservation: Reservation | None


class PlainLine:
    """Handlers of the line's address."""

    def __init__(self, services: Services, directory: DropDirectory, clients: Clients, plain: PlainPages) -> None:
        self._services = services
        self._directory = directory
        self._clients = clients
        self._plain = plain
        self._steps = Steps(services)
        self._room = services.waiting_room
        self._polls = services.settings.waiting_room
        self._body_timeout_s = services.settings.http.body_timeout_ms / 1000
        self._acts: Mapping[str, Callable[[Visit, Form], Awaitable[Kept]]] = {
            "join": self._join,
            "adopt": self._adopt,
            "reserve": self._reserve,
            "extend": self._extend,
            "release": self._release,
            "leave": self._leave,
        }

    async def show(self, request: web.Request) -> web.Response:
        """GET /drops/{drop}/line: where the shopper stands, and what there is to do."""
        return await self._answered(request, self._shown)

    async def act(self, request: web.Request) -> web.Response:
        """POST /drops/{drop}/line: one step, and then the page that shows what came of it."""
        return await self._answered(request, self._acted)

    # ---- around every request

    async def _answered(self, request: web.Request, answer: Callable[[Visit], Awaitable[web.Response]]) -> web.Response:
        """Whatever happens, the shopper gets a page with a way on."""
        try:
            return await answer(await self._visit(request))
        except (FlashsaleError, ProblemError) as error:
            return self._plain.failed(error, request)

    async def _visit(self, request: web.Request) -> Visit:
        live = await self._directory.find(request.match_info["drop"])
        return Visit(request, self._plain.languages.of(request), live, kept_by(request), shop_address(live.definition, request))

    async def _shown(self, visit: Visit) -> web.Response:
        visit = visit._replace(asked=asked_in(visit.request.query))
        scene, kept = await self._scene(visit)
        if not visit.kept.secret and "kept" in visit.request.query:
            scene = scene.beginning(visit.words.say("not_kept"))
        return self._page(visit._replace(kept=kept), scene)

    async def _acted(self, visit: Visit) -> web.Response:
        form = await self._form(visit.request)
        act = self._acts.get(form.get("step", ""))
        if act is None:
            raise Unfit("unknown_form")
        try:
            kept = await act(visit, form)
        except (ProblemError, BadInput) as error:
            # What the shopper can do something about is said above the scene; for the rest there is a page of its own.
            found = found_in(error)
            if found.status >= 500:
                raise
            if document_of(found).get("place_kept"):
                visit = visit._replace(asked=asked_in(form))
            scene, kept = await self._scene(visit)
            return self._page(visit._replace(kept=kept), scene.refusing(why(visit.words, error), found.status))
        # The page is another request, so that looking again never repeats a step.
        address = scenes.with_fields(visit.line, {"kept": "1"}) if form["step"] == "adopt" else visit.line
        answer = web.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
        return self._keep(visit._replace(kept=kept), answer)

    async def _form(self, request: web.Request) -> Form:
        """The form's fields, of a page of ours.

        Raises:
            ProblemError: another page sent it, or too many came from this client; or as `read_body`.
        """
        if is_from_elsewhere(request, secure=self._clients.is_secure(request)):
            raise ProblemError(problem(Code.FORBIDDEN))
        wait_s = self._clients.take(request)
        if wait_s:
            raise ProblemError(problem(Code.RATE_LIMITED, retry_after_s=wait_s))
        if request.content_type != "application/x-www-form-urlencoded":
            raise ProblemError(problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send the form as a browser does."))
        return form_of(await read_body(request, self._body_timeout_s))

    def _page(self, visit: Visit, scene: Scene) -> web.Response:
        name = visit.live.definition.name
        page = self._plain.page(
            visit.words,
            scene.headline,
            *scene.content,
            over=name,
            refresh_ms=scene.refresh_ms,
            to=scene.again or visit.line,
            status=scene.status,
        )
        return self._keep(visit, page)

    def _keep(self, visit: Visit, answer: web.Response) -> web.Response:
        if visit.kept.secret and visit.kept != kept_by(visit.request):
            snapshot, secure = visit.live.snapshot, self._clients.is_secure(visit.request)
            max_age_s = max(0, snapshot.closes_at_ms - snapshot.now_ms) // 1000 + KEPT_AFTER_CLOSE_S
            keep(answer, visit.kept, path=f"/drops/{visit.drop_id}", max_age_s=max_age_s, secure=secure)
        return answer

    # ---- what is shown

    async def _scene(self, visit: Visit) -> tuple[Scene, Kept]:
        """What there is to show, and what the browser is to keep from now on."""
        if visit.live.recovering:
            return scenes.recovering(visit.setting(), self._poll_ms(0)), visit.kept
        if not visit.kept.secret:
            scene = scenes.outside(visit.setting())
            return scene, make_kept() if scene.takes_joins else visit.kept
        visit = visit._replace(kept=await self._kept_after_loss(visit))
        found = await self._find(visit)
        setting, held = visit.setting(found.snapshot), found.reservation
        if held is not None and held.state is ReservationState.CONFIRMED:
            return scenes.paid(setting, held), visit.kept
        if held is not None and held.state is ReservationState.RESERVED:
            return scenes.reserved(setting, held, await self._token(visit)), visit.kept
        scene = await self._of_place(visit, setting, found.place)
        return scene if held is None else scenes.after(setting, scene, held.state), _kept_after(visit.kept, found)

    async def _of_place(self, visit: Visit, setting: Setting, place: PlaceView | None) -> Scene:
        if place is None:
            return scenes.outside(setting)
        if place.state == "left":
            return scenes.left(setting)
        if place.state in scenes.GONE:
            return scenes.gone(setting, place.state)
        if setting.snapshot.state is DropState.CLOSED:
            return scenes.over(setting)
        if place.state == "admitted" or _is_called(place):
            return await self._let_in(visit, setting, place)
        return self._waiting(setting, place)

    async def _let_in(self, visit: Visit, setting: Setting, place: PlaceView) -> Scene:
        admitted = await self._admit(visit)
        if not isinstance(admitted, Refused):
            return scenes.choosing(setting, admitted.token)
        if admitted.outcome.value in scenes.GONE:
            return scenes.gone(setting, admitted.outcome.value)
        if admitted.outcome is AdmitOutcome.RECOVERING:
            return scenes.recovering(setting, self._poll_ms(0))
        return self._waiting(setting, place)

    def _waiting(self, setting: Setting, place: PlaceView) -> Scene:
        if setting.snapshot.sold_out:
            return scenes.sold_out(setting)
        return scenes.waiting(setting, place, self._refresh_ms(setting, place))

    async def _find(self, visit: Visit) -> Found:
        ticket_id = visit.ticket_id
        reservation_id = reservation_id_of(ticket_id, visit.kept.key)
        inspect = self._services.drop_store.inspect
        found = await inspect(visit.drop_id, tickets=(ticket_id,), reservations=(reservation_id,))
        ticket = found.tickets[0]
        if ticket is None:
            return Found(found.snapshot, None, None)
        place = _in_line(place_view(visit.live, found.snapshot, ticket, ticket_id, self._polls), found.snapshot)
        if ticket.ticket_id != ticket_id:
            # The place was taken over from another device, and what is reserved is in its first ticket's name.
            own = reservation_id_of(ticket.ticket_id, visit.kept.key)
            found = await inspect(visit.drop_id, reservations=(own,))
        return Found(found.snapshot, place, found.reservations[0])

    async def _token(self, visit: Visit) -> str:
        """The admission token of a shopper who holds units; empty once it has run out."""
        admitted = await self._admit(visit)
        return "" if isinstance(admitted, Refused) else admitted.token

    async def _admit(self, visit: Visit) -> Admitted | Refused:
        live = visit.live
        return await self._room.admit(visit.drop_id, live.snapshot.epoch, visit.ticket_id, visit.kept.secret, live.draws)

    async def _kept_after_loss(self, visit: Visit) -> Kept:
        """What is kept, with the receipt of the place that was given back if a loss had swallowed it."""
        snapshot, kept = visit.live.snapshot, visit.kept
        if not kept.receipt or snapshot.sold_out or snapshot.state is DropState.CLOSED:
            return kept
        try:
            if self._services.receipts.read(kept.receipt).epoch >= snapshot.epoch:
                return kept
            place = await self._steps.join(visit.live, JoinBody(secret_hash_of(kept.secret), receipt=kept.receipt))
        except (ValueError, ProblemError):
            return replace(kept, receipt="")
        return kept if isinstance(place, Refused) else replace(kept, receipt=place.receipt)

    def _refresh_ms(self, setting: Setting, place: PlaceView) -> int:
        """As the serving document advises; just after the opening at the latest, and often enough to claim the place."""
        until_open_ms = max(0, setting.snapshot.opens_at_ms - setting.now_ms)
        ahead_ms = place.eta.shortest_ms if place.eta else place.position * 60_000 // max(1, setting.snapshot.rate_per_min)
        poll_ms = self._poll_ms(max(until_open_ms, ahead_ms))
        if until_open_ms:
            return min(poll_ms, until_open_ms + random.randint(0, self._polls.poll_floor_ms))  # noqa: S311 - no secret
        return min(poll_ms, max(REFRESH_MIN_MS, setting.drop.claim_window_ms // 2))

    def _poll_ms(self, wait_ms: int) -> int:
        return poll_ms(self._polls, wait_ms)

    # ---- the steps; each answers with what the browser is to keep

    async def _join(self, visit: Visit, form: Form) -> Kept:
        kept = visit.kept
        if not kept.secret:
            # A place that nothing is kept of would be lost with this answer, and an invite code with it.
            raise Unfit("not_kept")
        code = form.get("code", "").strip()
        if len(code) > CODE_LENGTH_MAX:
            raise ProblemError(problem(Code.CODE_INVALID))
        taken = code and visit.live.definition.invites != "none"
        body = JoinBody(secret_hash_of(kept.secret), code=code if taken else UNSET, receipt=kept.receipt or UNSET)
        return await self._placed(visit, kept, body)

    async def _placed(self, visit: Visit, kept: Kept, body: JoinBody) -> Kept:
        place = await self._steps.join(visit.live, body)
        if isinstance(place, Refused):
            raise ProblemError(of_refusal(place))
        return replace(kept, receipt=place.receipt)

    async def _adopt(self, visit: Visit, form: Form) -> Kept:
        """Goes on with the place that the waiting page's script has; adopted again, with what was reserved for it meanwhile.

        Where the script can keep nothing, it hands the place over to a new secret, as to another device.
        """
        secret, handoff = form.get("secret", ""), form.get("handoff", "")
        if SECRET_RE.fullmatch(secret) is None:
            raise ProblemError(problem(Code.TICKET_INVALID))
        kept = visit.kept if visit.kept.secret == secret else make_kept(secret)
        return await self._placed(visit, kept, JoinBody(secret_hash_of(secret), handoff=handoff)) if handoff else kept

    async def _reserve(self, visit: Visit, form: Form) -> Kept:
        kept = visit.kept
        admitted = await self._admit(visit)
        if isinstance(admitted, Refused):
            raise ProblemError(of_refusal(admitted))
        items = items_of(form)
        if not {sku for sku, _ in items} <= {sku.sku for sku in visit.live.definition.skus}:
            raise Unfit("not_in_drop")
        permission = self._steps.permission(visit.live.definition, admitted.token)
        await self._steps.reserve(visit.live, permission, kept.key, items, visit.request[REQUEST_ID])
        return kept

    async def _extend(self, visit: Visit, form: Form) -> Kept:  # noqa: ARG002 - each step has the same shape
        held, extension_ms = await self._held(visit), visit.live.definition.extension_ms
        if not extension_ms:
            raise ProblemError(problem(Code.EXTENSION_NOT_ALLOWED))
        settle = self._services.reservations.extend(held.reservation_id, extension_ms, visit.kept.key, visit.request[REQUEST_ID])
        _require_none(of_extend(await settle))
        return visit.kept

    async def _release(self, visit: Visit, form: Form) -> Kept:  # noqa: ARG002 - each step has the same shape
        held = await self._held(visit)
        settle = self._services.reservations.release(held.reservation_id, visit.request[REQUEST_ID], "shopper")
        _require_none(of_release(await settle))
        return visit.kept

    async def _leave(self, visit: Visit, form: Form) -> Kept:  # noqa: ARG002 - each step has the same shape
        _require_none(of_leave(await self._room.leave(visit.drop_id, visit.ticket_id, visit.kept.secret, visit.live.draws)))
        return make_kept()

    async def _held(self, visit: Visit) -> Reservation:
        """The reservation that was made last. Raises ProblemError when there is none."""
        held = (await self._find(visit)).reservation
        if held is None:
            raise ProblemError(problem(Code.RESERVATION_NOT_FOUND))
        return held


def _require_none(refusal: Problem | None) -> None:
    """Raises ProblemError with a step's refusal."""
    if refusal is not None:
        raise ProblemError(refusal)


def _kept_after(kept: Kept, found: Found) -> Kept:
    """What is kept from now on, when no reservation of the shopper's holds: for the next place, or for the next reservation."""
    if found.place is not None and found.place.state == "left":
        return make_kept()
    return kept if found.reservation is None else replace(kept, key=make_key())


def poll_ms(room: WaitingRoomSettings, wait_ms: int) -> int:
    """When a page without JavaScript looks again, as the serving document advises, give or take 30 %."""
    advised_ms = min(room.poll_ceiling_ms, max(room.poll_floor_ms, wait_ms // room.poll_divisor))
    return max(REFRESH_MIN_MS, round(advised_ms * random.uniform(0.7, 1.3)))  # noqa: S311 - spreads browsers, no secret


def _in_line(place: PlaceView, snapshot: Snapshot) -> PlaceView:
    """Where nothing is drawn, the entry number is the place in line."""
    if snapshot.order == "draw" or place.queue_number is not UNSET:
        return place
    return replace(place, queue_number=place.entry_number)


def _is_called(place: PlaceView) -> bool:
    return isinstance(place.queue_number, int) and place.queue_number < place.serving_number
