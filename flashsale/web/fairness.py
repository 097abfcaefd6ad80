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
    from flashsale.model import Snapshot
    from flashsale.web.services import Services

DROPS_KEPT = 8
"""Drops whose entries a worker keeps for proofs: 32 bytes an entry."""
FRESH_FOR_S = 1.0
LOST_AGAIN_S = 5.0
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
    record: tuple[str, bytes, dict[str, Any]] | None = None
    """the secret and the beacon, once they are final"""
    proofs: Proofs | None = None
    look_again_at_s: float = 0.0
    """when entries that do not fit the draw may be read again"""


class FairnessRoutes:
    """Routes that need no key and no secret."""

    def __init__(self, services: Services, directory: DropDirectory) -> None:
        self._services = services
        self._directory = directory
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def document(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/drops/{drop}/fairness: commitment, roots, and after the draw everything it was made from."""
        live = await self._directory.find(request.match_info["drop"])
        kept = self._keep(live.snapshot.drop_id)
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
        snapshot = live.snapshot
        if snapshot.order != "draw":
            return problem(Code.NOT_FOUND, "This drop goes by arrival: nothing is drawn, so there is nothing to prove.")
        if not snapshot.lines[0].root:
            return problem(Code.NOT_OPEN, "The draw has not been made yet.", {"opens_at_ms": snapshot.opens_at_ms})
        proofs = await self._proofs(snapshot)
        if proofs is None:
            return problem(Code.NOT_FOUND, "The entries were lost with the store. Their proofs return when everybody's receipts do.")
        found = proofs.proof(request.query.get("group", ""), int(number))
        if found is None:
            return problem(Code.NOT_FOUND, "Nobody in that line has this entry number in the draw.")
        headers = CACHED_FOR_GOOD if snapshot.key else CACHED_SHORTLY
        return web.Response(body=msgspec.json.encode(found), content_type="application/json", headers=headers)

    async def _proofs(self, snapshot: Snapshot) -> Proofs | None:
        """The drop's, read once; when the store has lost some entries, now and then anew."""
        kept, clock = self._keep(snapshot.drop_id), asyncio.get_running_loop().time
        async with kept.lock:
            fits = kept.proofs is not None and kept.proofs.fit(snapshot)
            if not fits and clock() >= kept.look_again_at_s:
                kept.proofs = await Proofs.read(self._services.drop_store, snapshot)
                fits = kept.proofs is not None
                kept.look_again_at_s = clock() + LOST_AGAIN_S
        return kept.proofs if fits else None

    def _keep(self, drop_id: str) -> _Kept:
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
        # A store that went back in time may have drawn otherwise meanwhile; what was recorded first counts in the end.
        if kept.record is not None and kept.record[0] == live.snapshot.key:
            return kept.record[1:]
        secret, beacon = await self._services.drop_store.draw_record(live.snapshot.drop_id)
        record = bytes.fromhex(secret), beacon
        if beacon:
            kept.record = (live.snapshot.key, *record)
        return record


def _beacon(told: dict[str, Any]) -> BeaconValue:
    return BeaconValue(told["kind"], bytes.fromhex(told["value"]), told.get("round"), told.get("chain"), told.get("why"))
