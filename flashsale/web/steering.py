"""A merchant's hand on a drop that is on: its pace, its message, and one place that has to go."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from admission.inlet import LiveDrop
from flashsale.access import Scope
from flashsale.drop_files import CAPACITY_MAX, RATE_PER_MIN_MAX
from flashsale.model import TICKET_ID_RE, DropState, SteerOutcome
from flashsale.steering import MESSAGE_LENGTH_MAX, SIGNAL_TTL_MAX_S, WHY_LENGTH_MAX, checked_message, checked_why, permille_of
from flashsale.web.answers import personal
from flashsale.web.merchant import OwnDrops
from flashsale.web.problems import Code, ProblemError, of_leave, problem
from flashsale.web.requests import read_json
from flashsale.web.services import Services


class RateBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST rate."""

    rate_per_min: Annotated[int, Meta(ge=1, le=RATE_PER_MIN_MAX)]


class CapacityBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST capacity."""

    capacity: Annotated[int, Meta(ge=1, le=CAPACITY_MAX)]


class MessageBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST message."""

    message: Annotated[str, Meta(max_length=MESSAGE_LENGTH_MAX)]
    """empty: there is none any more"""


class JoiningBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST joining."""

    open: bool


class SignalBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST signal."""

    factor: Annotated[float, Meta(ge=0, le=1)]
    """of the drop's rate: 1 is all of it, 0 is nobody"""
    ttl_s: Annotated[int, Meta(ge=1, le=SIGNAL_TTL_MAX_S)]
    """after which the drop goes at its own rate again"""


class RemoveBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST remove."""

    why: Annotated[str, Meta(min_length=1, max_length=WHY_LENGTH_MAX)]
    """for the admission log, which everybody may read"""


class SteeredView(Struct, frozen=True):
    """What telling a drop something came to."""

    drop: str
    outcome: str
    """done or unchanged"""
    state: str


class PlaceGoneView(Struct, frozen=True):
    """A place that was given up or taken away."""

    ticket_id: str
    drop: str
    state: str
    """left or removed"""


_rate_body = msgspec.json.Decoder(RateBody)
_capacity_body = msgspec.json.Decoder(CapacityBody)
_message_body = msgspec.json.Decoder(MessageBody)
_joining_body = msgspec.json.Decoder(JoiningBody)
_signal_body = msgspec.json.Decoder(SignalBody)
_remove_body = msgspec.json.Decoder(RemoveBody)


class Steering:
    """Handlers of the routes that steer. Each says how a thing is to be, so repeating it is harmless."""

    def __init__(self, services: Services, own: OwnDrops) -> None:
        self._drops = services.drop_store
        self._room = services.waiting_room
        self._own = own
        self._body_timeout_s = services.settings.http.body_timeout_ms / 1000

    async def pause(self, request: web.Request) -> web.Response:
        """POST pause: nobody is called, admitted or reserves any more."""
        return await self._tell(await self._own.find(request), "pause")

    async def resume(self, request: web.Request) -> web.Response:
        """POST resume."""
        return await self._tell(await self._own.find(request), "resume")

    async def rate(self, request: web.Request) -> web.Response:
        """POST rate: how many are admitted a minute."""
        live = await self._own.find(request)
        body = await read_json(request, _rate_body, self._body_timeout_s)
        return await self._tell(live, "rate_per_min", body.rate_per_min)

    async def capacity(self, request: web.Request) -> web.Response:
        """POST capacity: how many are inside at once, at most."""
        live = await self._own.find(request)
        body = await read_json(request, _capacity_body, self._body_timeout_s)
        return await self._tell(live, "capacity", body.capacity)

    async def message(self, request: web.Request) -> web.Response:
        """POST message: what the waiting are told."""
        live = await self._own.find(request)
        body = await read_json(request, _message_body, self._body_timeout_s)
        return await self._tell(live, "notice", checked_message(body.message))

    async def joining(self, request: web.Request) -> web.Response:
        """POST joining: whether anybody may still join."""
        live = await self._own.find(request)
        body = await read_json(request, _joining_body, self._body_timeout_s)
        return await self._tell(live, "joining", "open" if body.open else "closed")

    async def signal(self, request: web.Request) -> web.Response:
        """POST signal: what the storefront can take of the rate, for a while."""
        live = await self._own.find(request, Scope.MERCHANT, Scope.STOREFRONT)
        body = await read_json(request, _signal_body, self._body_timeout_s)
        snapshot = live.snapshot
        await self._drops.signal(snapshot.drop_id, permille_of(body.factor), body.ttl_s * 1000)
        return personal(SteeredView(snapshot.drop_id, SteerOutcome.DONE.value, snapshot.state.value))

    async def remove(self, request: web.Request) -> web.Response:
        """POST remove: takes one place away. What its shopper holds can still be paid."""
        live = await self._own.find(request)
        body = await read_json(request, _remove_body, self._body_timeout_s)
        drop_id, ticket_id = live.definition.drop_id, request.match_info["ticket_id"]
        match = TICKET_ID_RE.fullmatch(ticket_id)
        if match is None or match[1] != drop_id:
            raise ProblemError(problem(Code.TICKET_NOT_FOUND))
        refusal = of_leave(await self._room.remove(drop_id, ticket_id, checked_why(body.why), live.draws))
        return refusal or personal(PlaceGoneView(ticket_id, drop_id, "removed"))

    async def _tell(self, live: LiveDrop, word: str, value: int | str = 0) -> web.Response:
        drop_id = live.definition.drop_id
        outcome, state = await self._drops.steer(drop_id, word, value)
        if outcome is SteerOutcome.REFUSED:
            if state is DropState.CLOSED:
                return problem(Code.CLOSED)
            return problem(Code.NOT_OPEN, members={"opens_at_ms": live.snapshot.opens_at_ms})
        return personal(SteeredView(drop_id, outcome.value, state.value))
