"""The line: joining it, and exchanging a served ticket for an admission token."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from admission.receipts import ReceiptPayload, ReceiptSigner
from admission.tokens import Admission, TokenSigner, make_token_id
from flashsale.model import AdmitOutcome, JoinOutcome, Place, Refused, secret_hash_of, ticket_id_of
from flashsale.scripts import Batcher, Scripts

BATCHERS_MAX = 1024
POLL_AGAIN_MS = 1000

_PLACED = frozenset({"joined", "replayed", "restored"})
_REFUSED_AT = {"not_open": "opens_at_ms", "closed": "closed_at_ms", "sold_out": "at_ms", "paused": "at_ms", "room_full": "at_ms"}


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admission token for a shopper."""

    token: str
    expires_at_ms: int
    queue_number: int
    replayed: bool


class WaitingRoom:
    """Joins and admissions of all drops, over one group-commit batcher each."""

    def __init__(self, scripts: Scripts, tokens: TokenSigner, receipts: ReceiptSigner) -> None:
        self._scripts = scripts
        self._tokens = tokens
        self._receipts = receipts
        self._joins: OrderedDict[str, Batcher[Any, Any]] = OrderedDict()
        self._admissions: OrderedDict[str, Batcher[Any, Any]] = OrderedDict()

    async def join(self, drop_id: str, secret_hash: str, before: ReceiptPayload | None = None) -> Place | Refused:
        """The shopper's place, new or, for a secret hash seen before, the one it already has.

        Args:
            before: of the shopper's genuine receipt; a place that a loss has swallowed is given back, when nobody has it.

        Raises:
            Recovering, StoreUnavailable, StoreUnknown, Busy: see `Scripts.call`.
        """
        batcher = self._joins.get(drop_id)
        if batcher is None:
            batcher = _keep(self._joins, drop_id, self._scripts.batcher("join", drop_id, self._decode_joins))
        result: Place | Refused = await batcher.submit((ticket_id_of(drop_id, secret_hash), secret_hash, *_claim(before)))
        return result

    def _decode_joins(self, requests: list[Any], results: list[Any], _now_ms: int) -> list[Any]:
        """Turns raw results into places, with one signature for all receipts of the call."""
        decoded: list[Place | Refused | None] = [None] * len(results)
        placed: list[int] = []
        payloads: list[ReceiptPayload] = []
        for i, (request, result) in enumerate(zip(requests, results, strict=True)):
            if result[0] in _PLACED:
                drop_id = request[0].rpartition(".")[0]
                epoch, _ = self._scripts.seen(drop_id)
                placed.append(i)
                payloads.append(ReceiptPayload(drop_id, result[1], request[1], result[3], bool(result[2]), epoch))
            else:
                decoded[i] = _refused(JoinOutcome(result[0]), result)
        if placed:
            for i, payload, receipt in zip(placed, payloads, self._receipts.sign(payloads), strict=True):
                decoded[i] = Place(
                    ticket_id=requests[i][0],
                    number=payload.entry_number,
                    late=payload.late,
                    joined_at_ms=payload.at_ms,
                    replayed=results[i][0] != "joined",
                    receipt=receipt,
                )
        return decoded

    async def admit(self, drop_id: str, epoch: int, ticket_id: str, secret: str) -> Admitted | Refused:
        """The admission token of a served shopper who knows the ticket's secret; asked again, the same token.

        Raises:
            Recovering, StoreUnavailable, StoreUnknown, Busy: see `Scripts.call`.
        """
        secret_hash = secret_hash_of(secret)
        # A ticket made anew after a loss has no hash in the store, so this is what proves its owner.
        if ticket_id != ticket_id_of(drop_id, secret_hash):
            return Refused(AdmitOutcome.TICKET_INVALID)
        batcher = self._admissions.get(drop_id)
        if batcher is None:
            batcher = _keep(self._admissions, drop_id, self._scripts.batcher("admit", drop_id, _raw))
        result = await batcher.submit((ticket_id, secret_hash, make_token_id()))
        word = result[0]
        if word in ("admitted", "replayed"):
            _, token_id, issued_at_ms, expires_at_ms, number = result
            token = self._tokens.sign(Admission(drop_id, epoch, ticket_id, token_id, issued_at_ms, expires_at_ms))
            return Admitted(token, expires_at_ms, number, word == "replayed")
        if word == "not_yet":
            detail = {"serving_number": result[1], "queue_number": result[2], "poll_after_ms": POLL_AGAIN_MS}
            return Refused(AdmitOutcome.NOT_YET, detail)
        return _refused(AdmitOutcome(word), result)


def _claim(before: ReceiptPayload | None) -> tuple[tuple[int, int, int, int], ...]:
    return () if before is None else ((before.entry_number, int(before.late), before.at_ms, before.epoch),)


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
