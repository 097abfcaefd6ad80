"""What anybody needs to check a draw: the fairness document, and the proof of each entry."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from admission.beacon import BeaconValue
from admission.fairness import LineShown, Order, fairness_document
from admission.proofs import Proofs
from flashsale.admission_log import LogFollower
from flashsale.errors import BadInput
from flashsale.web.directory import DropDirectory
from flashsale.web.problems import Code, problem

if TYPE_CHECKING:
    from admission.inlet import LiveDrop
    from flashsale.web.services import Services

DROPS_KEPT = 8
"""Drops whose entries a worker keeps for proofs: 32 bytes an entry."""
FRESH_FOR_S = 1.0
LOG_PAGES_AT_ONCE = 20
ENTRY_DIGITS_MAX = 10
CACHED_SHORTLY = {"Cache-Control": "public, max-age=1"}
CACHED_FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}


@dataclass(slots=True)
class _Kept:
    """What a worker remembers of one drop."""

    follower: LogFollower
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    document: bytes = b""
    made_at_s: float = 0.0
    record: tuple[bytes, dict[str, Any]] | None = None
    """the secret and the beacon, once they are final"""
    proofs: Proofs | None = None


class FairnessRoutes:
    """Routes that need no key and no secret."""

    def __init__(self, services: Services, directory: DropDirectory) -> None:
        self._services = services
        self._directory = directory
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def document(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/drops/{drop}/fairness: commitment, roots, and after the draw everything it was made from."""
        live = await self._directory.find(request.match_info["drop"])
        kept = self._keep(live)
        clock = asyncio.get_running_loop().time
        async with kept.lock:
            if not kept.document or clock() - kept.made_at_s > FRESH_FOR_S:
                kept.document = await self._make(live, kept)
                kept.made_at_s = clock()
        return web.Response(body=kept.document, content_type="application/json", headers=CACHED_SHORTLY)

    async def proof(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/drops/{drop}/fairness/proofs/{entry_number}: the way from an entry to the root."""
        live = await self._directory.find(request.match_info["drop"])
        number = request.match_info["entry_number"]
        if not number.isascii() or not number.isdecimal() or len(number) > ENTRY_DIGITS_MAX:
            raise BadInput(what="The entry number has to be a whole number.", field="entry_number")
        if not live.snapshot.lines or not live.snapshot.lines[0].root:
            return problem(Code.NOT_OPEN, members={"opens_at_ms": live.snapshot.opens_at_ms})
        kept = self._keep(live)
        async with kept.lock:
            if kept.proofs is None or not kept.proofs.fit(live.snapshot):
                kept.proofs = await Proofs.read(self._services.drop_store, live.snapshot)
        found = kept.proofs.proof(request.query.get("group", ""), int(number))
        if found is None:
            return problem(Code.TICKET_NOT_FOUND)
        return web.Response(body=msgspec.json.encode(found), content_type="application/json", headers=CACHED_FOR_GOOD)

    def _keep(self, live: LiveDrop) -> _Kept:
        drop_id = live.snapshot.drop_id
        kept = self._kept.get(drop_id)
        if kept is None:
            kept = self._kept[drop_id] = _Kept(LogFollower(self._services.store_calls, drop_id))
            if len(self._kept) > DROPS_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(drop_id)
        return kept

    async def _make(self, live: LiveDrop, kept: _Kept) -> bytes:
        snapshot = live.snapshot
        await kept.follower.follow(LOG_PAGES_AT_ONCE)
        secret, beacon = await self._record(live, kept)
        drawn = bool(snapshot.key)
        order: Order = "draw" if snapshot.order == "draw" else "arrival"
        document = fairness_document(
            drop_id=snapshot.drop_id,
            epoch=snapshot.epoch,
            order=order,
            secret=secret or None,
            lines=[LineShown(line.group, line.entries, line.root or None, line.key or None) for line in snapshot.lines],
            beacon=_beacon(beacon) if drawn else None,
            drawn_at_ms=snapshot.drawn_at_ms if drawn else None,
            log=self._services.heads.sign(snapshot.drop_id, kept.follower.head, snapshot.now_ms),
        )
        return msgspec.json.encode(document)

    async def _record(self, live: LiveDrop, kept: _Kept) -> tuple[bytes, dict[str, Any]]:
        if kept.record is not None:
            return kept.record
        secret, beacon = await self._services.drop_store.draw_record(live.snapshot.drop_id)
        record = (bytes.fromhex(secret), beacon)
        if beacon:
            kept.record = record
        return record


def _beacon(told: dict[str, Any]) -> BeaconValue:
    return BeaconValue(told["kind"], bytes.fromhex(told["value"]), told.get("round"), told.get("chain"), told.get("why"))
