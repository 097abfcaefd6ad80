"""The line: joining it, leaving it, and exchanging a called ticket for an admission token."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from admission.places import Draws, Turn, turn_of
from admission.receipts import ReceiptPayload, ReceiptSigner
from admission.tokens import Admission, TokenSigner, b64decode, b64encode, make_token_id
from flashsale.model import (
    AdmitOutcome,
    JoinOutcome,
    LeaveOutcome,
    Place,
    Refused,
    line_of,
    number_of,
    place_of,
    secret_hash_of,
    ticket_id_of,
)
from flashsale.scripts import Batcher, Scripts

BATCHERS_MAX = 1024
POLL_AGAIN_MS = 1000
PLACES_KNOWN_MAX = 200_000
"""tickets of which this process remembers the place, so that an admission takes one call instead of two"""

_PLACED = frozenset({"joined", "replayed", "restored", "taken_over"})
_REFUSED_AT = {"not_open": "opens_at_ms", "closed": "closed_at_ms", "sold_out": "at_ms", "paused": "at_ms", "room_full": "at_ms"}


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admission token for a shopper."""

    token: str
    expires_at_ms: int
    queue_number: int
    """number in its line"""
    replayed: bool


class Invited(NamedTuple):
    """A genuine invite code: how often it was used is for the store to say."""

    code_id: str
    uses_max: int


class WaitingRoom:
    """Joins and admissions of all drops, over one group-commit batcher each."""

    def __init__(self, scripts: Scripts, tokens: TokenSigner, receipts: ReceiptSigner) -> None:
        self._scripts = scripts
        self._tokens = tokens
        self._receipts = receipts
        self._joins: OrderedDict[str, Batcher[Any, Any]] = OrderedDict()
        self._admissions: OrderedDict[str, Batcher[Any, Any]] = OrderedDict()
        self._places: OrderedDict[str, int] = OrderedDict()

    async def join(
        self,
        drop_id: str,
        secret_hash: str,
        before: ReceiptPayload | None = None,
        *,
        line: int = 0,
        identity: str = "",
        code: Invited | None = None,
        handoff: str = "",
    ) -> Place | Refused:
        """The shopper's place, new or, for a secret hash or an identity seen before, the one it already has.

        Args:
            before: of the shopper's genuine receipt; a place that a loss has swallowed is given back, when nobody has it.
            line: 0, or that of the shopper's priority group.
            identity: digest of who the storefront says the shopper is; empty when it does not.
            code: of a genuine invite code.
            handoff: id of the ticket whose place another device hands over to this one.

        Raises:
            Recovering, StoreUnavailable, StoreUnknown, Busy: see `Scripts.call`.
        """
        batcher = self._joins.get(drop_id)
        if batcher is None:
            batcher = _keep(self._joins, drop_id, self._scripts.batcher("join", drop_id, self._decode_joins))
        options = _options(before, line, identity, code, handoff)
        request = (ticket_id_of(drop_id, secret_hash), b64decode(secret_hash), *options)
        result: Place | Refused = await batcher.submit(request)
        return result

    def _decode_joins(self, requests: list[Any], results: list[Any], _now_ms: int) -> list[Any]:
        """Turns raw results into places, with one signature for all receipts of the call."""
        decoded: list[Place | Refused | None] = [None] * len(results)
        placed: list[int] = []
        payloads: list[ReceiptPayload] = []
        for i, (request, result) in enumerate(zip(requests, results, strict=True)):
            if result[0] in _PLACED:
                _, place, late, joined_at_ms, own = result
                drop_id = request[0].rpartition(".")[0]
                epoch, _ = self._scripts.seen(drop_id)
                placed.append(i)
                payloads.append(
                    ReceiptPayload(
                        drop_id,
                        number_of(place),
                        b64encode(request[1]),
                        joined_at_ms,
                        bool(late),
                        epoch,
                        line=line_of(place),
                        ticket="" if own == request[0] else own,
                    )
                )
                self._know(request[0], place)
            else:
                decoded[i] = _refused(JoinOutcome(result[0]), result)
        if placed:
            for i, payload, receipt in zip(placed, payloads, self._receipts.sign(payloads), strict=True):
                decoded[i] = Place(
                    ticket_id=requests[i][0],
                    number=results[i][1],
                    late=payload.late,
                    joined_at_ms=payload.at_ms,
                    replayed=results[i][0] != "joined",
                    receipt=receipt,
                )
        return decoded

    async def admit(self, drop_id: str, epoch: int, ticket_id: str, secret: str, draws: Draws = ()) -> Admitted | Refused:
        """The admission token of a called shopper who knows the ticket's secret; asked again, the same token.

        Args:
            draws: of the drop's lines, as far as this process knows them.

        Raises:
            Recovering, StoreUnavailable, StoreUnknown, Busy: see `Scripts.call`.
        """
        # The store keeps no secret: the ticket's id is made of its hash, and this is what proves the owner.
        if ticket_id != ticket_id_of(drop_id, secret_hash_of(secret)):
            return Refused(AdmitOutcome.TICKET_INVALID)
        batcher = self._admissions.get(drop_id)
        if batcher is None:
            batcher = _keep(self._admissions, drop_id, self._scripts.batcher("admit", drop_id, _raw))
        result = await batcher.submit((ticket_id, make_token_id(), *self._turn(ticket_id, draws)))
        if result[0] == "place":
            self._know(ticket_id, result[1])
            result = await batcher.submit((ticket_id, make_token_id(), *self._turn(ticket_id, draws)))
        return self._admitted(drop_id, epoch, ticket_id, result)

    def _admitted(self, drop_id: str, epoch: int, ticket_id: str, result: Any) -> Admitted | Refused:
        word = result[0]
        if word in ("admitted", "replayed"):
            _, token_id, issued_at_ms, expires_at_ms, place, own = result
            token = self._tokens.sign(Admission(drop_id, epoch, own, token_id, issued_at_ms, expires_at_ms))
            self._places.pop(ticket_id, None)
            return Admitted(token, expires_at_ms, number_of(place), word == "replayed")
        if word == "not_yet":
            detail = {"serving_number": result[1], "queue_number": result[2], "poll_after_ms": POLL_AGAIN_MS}
            return Refused(AdmitOutcome.NOT_YET, {name: value for name, value in detail.items() if value >= 0})
        if word == "place":  # drawn a moment ago, and this process has not seen it yet
            return Refused(AdmitOutcome.NOT_YET, {"poll_after_ms": POLL_AGAIN_MS})
        return _refused(AdmitOutcome(word), result)

    async def leave(self, drop_id: str, ticket_id: str, secret: str, draws: Draws = ()) -> LeaveOutcome:
        """Gives the shopper's own place up; its slot is free at once. Asked again, the same.

        Raises:
            Recovering, StoreUnavailable, StoreUnknown: see `Scripts.call`.
        """
        if ticket_id != ticket_id_of(drop_id, secret_hash_of(secret)):
            return LeaveOutcome.NOT_FOUND
        return await self._give_up(drop_id, ticket_id, "left", "", draws)

    async def remove(self, drop_id: str, ticket_id: str, why: str, draws: Draws = ()) -> LeaveOutcome:
        """Takes a place away, by the merchant's hand. Raises as `leave` does."""
        return await self._give_up(drop_id, ticket_id, "removed", why, draws)

    async def _give_up(self, drop_id: str, ticket_id: str, word: str, why: str, draws: Draws) -> LeaveOutcome:
        outcome = LeaveOutcome.PLACE
        for _ in range(2):
            request: bytes = msgpack.packb((ticket_id, word, why, *self._turn(ticket_id, draws)))
            _, (answer, place) = await self._scripts.call("leave", drop_id, request)
            outcome = LeaveOutcome(answer)
            if outcome is not LeaveOutcome.PLACE:
                break
            self._know(ticket_id, place)
        return outcome

    def _know(self, ticket_id: str, place: int) -> None:
        self._places[ticket_id] = place
        if len(self._places) > PLACES_KNOWN_MAX:
            self._places.popitem(last=False)

    def _turn(self, ticket_id: str, draws: Draws) -> Turn:
        return turn_of(self._places.get(ticket_id, -1), draws)


def _options(before: ReceiptPayload | None, line: int, identity: str, code: Invited | None, handoff: str) -> tuple[dict[str, Any], ...]:
    options: dict[str, Any] = {}
    if before is not None:
        claim = (place_of(before.line, before.entry_number), int(before.late), before.at_ms, before.epoch)
        options["claim"] = (*claim, before.ticket) if before.ticket else claim
    if line:
        options["line"] = line
    if identity:
        options["identity"] = identity
    if code is not None:
        options["code"] = tuple(code)
    if handoff:
        options["handoff"] = handoff
    return (options,) if options else ()


def _raw(_requests: list[Any], results: list[Any], _now_ms: int) -> list[Any]:
    return results


def _refused(outcome: JoinOutcome | AdmitOutcome, result: list[Any]) -> Refused:
    name = _REFUSED_AT.get(result[0])
    return Refused(outcome, {name: result[1]} if name else {})


def _keep(batchers: OrderedDict[str, Batcher[Any, Any]], drop_id: str, batcher: Batcher[Any, Any]) -> Batcher[Any, Any]:
    """Remembers a drop's batcher, forgetting the oldest beyond the limit (one in use goes on until it is idle)."""
    batchers[drop_id] = batcher
    if len(batchers) > BATCHERS_MAX:
        batchers.popitem(last=False)
    return batcher
