"""A merchant's drops: the list of them, each one's rules and numbers, a new one, and the end of one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from flashsale.drop_files import DropFileError, drop_of, parse_drop
from flashsale.drops import DropExists
from flashsale.errors import BadInput
from flashsale.model import DROP_ID_RE, DropState
from flashsale.web.answers import personal
from flashsale.web.live_view import lines_of
from flashsale.web.problems import Code, Problem, problem
from flashsale.web.requests import limit_of, query_of, read_body, read_json
from flashsale.web.steering import SteeredView

if TYPE_CHECKING:
    from admission.inlet import LiveDrop
    from flashsale.drop_files import Problem as FileProblem
    from flashsale.model import Drop
    from flashsale.web.merchant import OwnDrops
    from flashsale.web.services import Services

PAGE_DEFAULT, PAGE_MAX = 50, 100
CURSOR_LENGTH_MAX = 80
PROBLEMS_MAX = 50
"""of a drop file that are told at once"""
RECOVERING = "recovering"
STATES = frozenset({*(state.value for state in DropState), RECOVERING})
TOML_TYPES = ("text/x-toml", "application/toml")


class DropEntry(Struct, frozen=True):
    """A drop in the list. Units are of all SKUs together."""

    drop: str
    name: str
    state: str
    """scheduled, waiting, open, paused, closed, or recovering: the store has lost it"""
    joins_at_ms: int
    opens_at_ms: int
    closes_at_ms: int
    joined: int | None
    """numbers are null of a drop that this worker has not seen in the store"""
    waiting: int | None
    allotment: int
    available: int | None
    reserved: int | None
    sold: int | None
    order: str
    """draw or arrival"""


class DropsView(Struct, frozen=True):
    """A page of the list, the latest opening first."""

    now_ms: int
    drops: list[DropEntry]
    next: str | None
    """give it as `after` for the page that follows; null when there is none"""


class SkuRow(Struct, frozen=True):
    """A SKU: what it is, and where its units are."""

    sku: str
    name: str
    price_minor: int
    limit_per_shopper: int
    allotment: int
    available: int
    reserved: int
    sold: int
    draining: int


class GroupRow(Struct, frozen=True):
    """A group with a line of its own."""

    group: str
    name: str
    share_permille: int
    joined: int
    waiting: int
    serving_number: int


class MerchantDropView(DropEntry, frozen=True, kw_only=True):
    """Everything about one drop."""

    now_ms: int
    """by the store's clock"""
    description: str
    currency: str
    rate_per_min: int
    capacity: int
    claim_window_ms: int
    reservation_ttl_ms: int
    extension_ms: int
    limit_per_shopper: int
    durability: str
    beacon: str
    invites: str
    identity: str
    epoch: int
    notice: str
    joining: str
    """open or closed"""
    serving_number: int
    admitted: int
    inside: int
    standby: int
    skus: list[SkuRow]
    groups: list[GroupRow]


class CreatedView(Struct, frozen=True):
    """What creating a drop came to."""

    drop: str
    outcome: str
    """created, or existed: exactly this drop was there already"""
    in_store: bool
    """false: it is recorded, and a reconciler gives it to the store when that answers"""


class CloseBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST close."""

    confirm: Annotated[str, Meta(max_length=64)]
    """the drop's id once more: there is no way back"""


_close_body = msgspec.json.Decoder(CloseBody)
_drop_body = msgspec.json.Decoder(dict[str, Any])


class MerchantDrops:
    """Handlers of these routes."""

    def __init__(self, services: Services, own: OwnDrops) -> None:
        self._services = services
        self._own = own
        self._body_timeout_s = services.settings.http.body_timeout_ms / 1000

    async def list(self, request: web.Request) -> web.Response:
        """GET /v1/merchant/drops?state=…&limit=…&after=…: the drops of the key's tenant, from memory."""
        principal, _ = await self._own.who(request)
        state, limit, after = _page_of(request)
        entries = [_entry(live) for live in self._services.inlet.all() if live.definition.tenant == principal.tenant]
        entries += [_lost(drop) for drop in self._services.inlet.absent() if drop.tenant == principal.tenant]
        wanted = sorted(
            (entry for entry in entries if (not state or entry.state == state) and (after is None or _position(entry) > after)),
            key=_position,
        )
        following = _cursor(wanted[limit - 1]) if len(wanted) > limit else None
        return personal(DropsView(self._services.clock.now_ms(), wanted[:limit], following))

    async def show(self, request: web.Request) -> web.Response:
        """GET /v1/merchant/drops/{drop}: its rules, its schedule and its numbers."""
        return personal(_drop_view(await self._own.find(request)))

    async def create(self, request: web.Request) -> web.Response:
        """POST /v1/merchant/drops: a new drop, as JSON or as the TOML of a drop file. The same one twice is one drop."""
        principal, _ = await self._own.who(request)
        try:
            drop = replace(await self._read_drop(request), tenant=principal.tenant)
        except DropFileError as error:
            return _not_a_drop(error, has_lines=request.content_type in TOML_TYPES)
        try:
            creation = await self._services.catalog.create(drop)
        except DropExists as error:
            return problem(Code.DROP_EXISTS, error.what)
        view = CreatedView(drop.drop_id, "created" if creation.is_new else "existed", creation.in_store)
        return personal(view, 201 if creation.is_new else 200, {"Location": f"/v1/merchant/drops/{drop.drop_id}"})

    async def _read_drop(self, request: web.Request) -> Drop:
        """The drop in the body. Raises DropFileError, BadInput, ProblemError."""
        now_ms = self._services.clock.now_ms()
        if request.content_type not in TOML_TYPES:
            return drop_of(await read_json(request, _drop_body, self._body_timeout_s), source="body", now_ms=now_ms)
        try:
            text = (await read_body(request, self._body_timeout_s)).decode()
        except UnicodeDecodeError:
            raise BadInput(what="The body is not text in UTF-8.", field="body") from None
        return parse_drop(text, source="body", now_ms=now_ms)

    async def close(self, request: web.Request) -> web.Response:
        """POST close: ends the drop for good. What is reserved can still be paid."""
        live = await self._own.find(request)
        drop_id = live.definition.drop_id
        body = await read_json(request, _close_body, self._body_timeout_s)
        if body.confirm != drop_id:
            raise BadInput(what="To close a drop for good, give its id in 'confirm'.", field="confirm")
        outcome = await self._services.drop_store.close(drop_id)
        return personal(SteeredView(drop_id, outcome.value, DropState.CLOSED.value))


def _not_a_drop(error: DropFileError, *, has_lines: bool) -> Problem:
    first, *others = error.problems
    todo = first.todo if first.todo.endswith((".", "?")) else f"{first.todo}."
    told = f"{first.key + ': ' if first.key else ''}{first.what} {todo}"
    more = "" if not others else " There is another problem." if len(others) == 1 else f" There are {len(others)} other problems."
    members = [_problem_of_file(one, has_lines=has_lines) for one in error.problems[:PROBLEMS_MAX]]
    return problem(Code.BAD_REQUEST, told + more, {"field": first.key or "body", "problems": members})


def _problem_of_file(one: FileProblem, *, has_lines: bool) -> dict[str, object]:
    line: dict[str, object] = {"line": one.line} if has_lines else {}
    return {**line, "key": one.key, "what": one.what, "todo": one.todo}


# ----------------------------------------------------------------------------------------------------------------- the list


def _page_of(request: web.Request) -> tuple[str, int, tuple[int, str] | None]:
    """(state or nothing, limit, position to go on from) of the query. Raises BadInput."""
    query = query_of(request, "state", "limit", "after")
    state = query.get("state", "")
    if state and state not in STATES:
        raise BadInput(what=f"A state is one of {', '.join(sorted(STATES))}.", field="state")
    return state, limit_of(query, PAGE_DEFAULT, PAGE_MAX), _position_of(query["after"]) if "after" in query else None


def _position(entry: DropEntry) -> tuple[int, str]:
    return -entry.opens_at_ms, entry.drop


def _cursor(entry: DropEntry) -> str:
    return f"{entry.opens_at_ms}.{entry.drop}"


def _position_of(cursor: str) -> tuple[int, str]:
    opens_at_ms, _, drop_id = cursor[:CURSOR_LENGTH_MAX].partition(".")
    if not (opens_at_ms.isascii() and opens_at_ms.isdigit() and DROP_ID_RE.fullmatch(drop_id)):
        raise BadInput(what="'after' is the 'next' of the page before.", field="after")
    return -int(opens_at_ms), drop_id


def _entry(live: LiveDrop) -> DropEntry:
    return DropEntry(**_entry_fields(live))


def _entry_fields(live: LiveDrop) -> dict[str, Any]:
    drop, snapshot = live.definition, live.snapshot
    lines, stocks = lines_of(snapshot), snapshot.skus.values()
    return {
        "drop": drop.drop_id,
        "name": drop.name,
        "state": RECOVERING if live.recovering else snapshot.state.value,
        "joins_at_ms": snapshot.joins_at_ms,
        "opens_at_ms": snapshot.opens_at_ms,
        "closes_at_ms": snapshot.closes_at_ms,
        "joined": sum(line.joined for line in lines),
        "waiting": sum(line.waiting for line in lines),
        "allotment": sum(stock.allotment for stock in stocks),
        "available": sum(stock.available for stock in stocks),
        "reserved": sum(stock.reserved for stock in stocks),
        "sold": sum(stock.sold for stock in stocks),
        "order": snapshot.order,
    }


def _lost(drop: Drop) -> DropEntry:
    """One that the store should hold and does not."""
    return DropEntry(
        drop=drop.drop_id,
        name=drop.name,
        state=RECOVERING,
        joins_at_ms=drop.joins_at_ms,
        opens_at_ms=drop.opens_at_ms,
        closes_at_ms=drop.closes_at_ms,
        joined=None,
        waiting=None,
        allotment=sum(sku.allotment for sku in drop.skus),
        available=None,
        reserved=None,
        sold=None,
        order=drop.order,
    )


# ------------------------------------------------------------------------------------------------------------------ the drop


def _drop_view(live: LiveDrop) -> MerchantDropView:
    drop, snapshot = live.definition, live.snapshot
    return MerchantDropView(
        **_entry_fields(live),
        now_ms=snapshot.now_ms,
        description=drop.description,
        currency=drop.currency,
        rate_per_min=snapshot.rate_per_min,
        capacity=snapshot.capacity,
        claim_window_ms=drop.claim_window_ms,
        reservation_ttl_ms=drop.reservation_ttl_ms,
        extension_ms=drop.extension_ms,
        limit_per_shopper=drop.limit_per_shopper,
        durability=drop.durability,
        beacon=drop.beacon,
        invites=drop.invites,
        identity=drop.identity,
        epoch=snapshot.epoch,
        notice=snapshot.notice,
        joining="closed" if snapshot.joining_closed else "open",
        serving_number=snapshot.serving_number,
        admitted=snapshot.admitted,
        inside=snapshot.active,
        standby=snapshot.flow.standby,
        skus=_sku_rows(live),
        groups=_group_rows(live),
    )


def _sku_rows(live: LiveDrop) -> list[SkuRow]:
    known = {sku.sku: sku for sku in live.definition.skus}
    return [
        SkuRow(
            sku=name,
            name=known[name].name,
            price_minor=known[name].price_minor,
            limit_per_shopper=known[name].limit_per_shopper,
            allotment=stock.allotment,
            available=stock.available,
            reserved=stock.reserved,
            sold=stock.sold,
            draining=stock.draining,
        )
        for name, stock in live.snapshot.skus.items()
    ]


def _group_rows(live: LiveDrop) -> list[GroupRow]:
    lines = {line.group: line for line in lines_of(live.snapshot) if line.group}
    return [
        GroupRow(group.group_id, group.name, group.share_permille, line.joined, line.waiting, line.serving_number)
        for group in live.definition.groups
        if (line := lines.get(group.group_id)) is not None
    ]
