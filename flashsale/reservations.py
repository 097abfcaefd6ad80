"""Reservations: taking units, giving them back, turning them into sales. Decided in Lua, told here in the domain's words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec.structs import replace

from flashsale.model import (
    RESERVATION_ID_RE,
    ConfirmOutcome,
    ExtendOutcome,
    Refused,
    ReleaseOutcome,
    Reservation,
    ReservationState,
    ReserveOutcome,
    RestoreOutcome,
    reservation_id_of,
)
from flashsale.scripts import Batcher, Scripts

BATCHERS_MAX = 1024

Items = tuple[tuple[str, int], ...]
Sign = Callable[[int, Sequence[Reservation]], list[str]]
"""Makes a receipt of an epoch for each reservation of a call."""

_REFUSED_AT = {"not_open": "opens_at_ms", "closed": "closed_at_ms", "paused": "at_ms", "token_expired": "expired_at_ms"}


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a confirm, release or extension came to."""

    outcome: ConfirmOutcome | ReleaseOutcome | ExtendOutcome
    reservation_id: str
    state: ReservationState | None
    """None when there is no such reservation"""
    amount_minor: int = 0
    reserved_at_ms: int = 0
    expires_at_ms: int = 0


class Reservations:
    """The reservations of all drops."""

    def __init__(self, scripts: Scripts, sign: Sign | None = None) -> None:
        """Over `scripts`; `sign` makes receipts, without it there are none."""
        self._scripts = scripts
        self._sign = sign
        self._batchers: dict[tuple[str, str], Batcher[Any, Any]] = {}

    async def reserve(
        self, drop_id: str, ticket_id: str, token_id: str, idempotency_key: str, items: Items, request_id: str
    ) -> Reservation | Refused:
        """Units for an admitted shopper, all of `items` or none. The same key and items give the same reservation.

        Args:
            items: (SKU, quantity) in ascending order of SKU, each SKU once.

        Raises:
            Recovering, StoreUnavailable, StoreUnknown, Busy: see `Scripts.call`. After StoreUnknown the same key tells.
        """
        reservation_id = reservation_id_of(ticket_id, idempotency_key)
        request = (reservation_id, ticket_id, token_id, request_id, items)
        result: Reservation | Refused = await self._batcher("reserve", drop_id).submit(request)
        return result

    def _decode_reserved(self, drop_id: str, requests: list[Any], results: list[Any], _now_ms: int) -> list[Any]:
        """Reservations and refusals, with one signature for all receipts of the call."""
        sold_out: dict[tuple[object, ...], Refused] = {}
        decoded = [_reserved(drop_id, request, result, sold_out) for request, result in zip(requests, results, strict=True)]
        made = [one for one in decoded if isinstance(one, Reservation)]
        if not made or self._sign is None:
            return decoded
        epoch, _ = self._scripts.seen(drop_id)
        receipts = iter(self._sign(epoch, made))
        return [replace(one, receipt=next(receipts)) if isinstance(one, Reservation) else one for one in decoded]

    async def restore(self, lost: Reservation, epoch: int, request_id: str) -> Reservation | Refused:
        """Brings a reservation back that a loss has swallowed, as its genuine receipt of `epoch` tells it.

        One that is there is given as it is, whatever its state. Raises as `reserve` does.
        """
        times = (lost.reserved_at_ms, lost.expires_at_ms)
        request = (lost.reservation_id, lost.ticket_id, request_id, epoch, lost.number, lost.items, lost.amount_minor, *times)
        word, *rest = await self._batcher("restore", lost.drop_id).submit(request)
        if word not in ("restored", "replayed"):
            return Refused(RestoreOutcome(word))
        state, amount_minor, reserved_at_ms, expires_at_ms, number = rest
        return replace(
            lost,
            state=ReservationState(state),
            amount_minor=amount_minor,
            reserved_at_ms=reserved_at_ms,
            expires_at_ms=expires_at_ms,
            number=number,
            replayed=word == "replayed",
        )

    async def confirm(
        self, reservation_id: str, payment_reference: str, amount_minor: int, request_id: str, idempotency_key: str = ""
    ) -> Settlement:
        """Sells a reservation's units for a payment. Asked again with the same payment, the same answer.

        Args:
            idempotency_key: with it, the same key and another payment is told apart from a second payment.

        Raises: as `reserve` does.
        """
        batcher = self._batcher("confirm", drop_of(reservation_id))
        result = await batcher.submit((reservation_id, payment_reference, amount_minor, request_id, idempotency_key))
        return _settlement(ConfirmOutcome(result[0]), reservation_id, result)

    async def release(self, reservation_id: str, request_id: str, reason: str, *, paid_too: bool = False) -> Settlement:
        """Gives a reservation's units back. Releasing twice is harmless.

        Args:
            reason: who or what ended it; kept with the order.
            paid_too: a paid order is cancelled: its units are on sale again and its payment is due for refund. Without it
                a paid one stays as it is.

        Raises: as `reserve` does.
        """
        batcher = self._batcher("release", drop_of(reservation_id))
        result = await batcher.submit((reservation_id, request_id, reason, int(paid_too)))
        return _settlement(ReleaseOutcome(result[0]), reservation_id, result)

    async def extend(self, reservation_id: str, extension_ms: int, idempotency_key: str, request_id: str) -> Settlement:
        """Gives a live reservation `extension_ms` more, once. The same key gives the same answer. Raises as `reserve` does."""
        batcher = self._batcher("extend", drop_of(reservation_id))
        result = await batcher.submit((reservation_id, idempotency_key, request_id, extension_ms))
        return _settlement(ExtendOutcome(result[0]), reservation_id, result)

    async def expiring_from(self, drop_id: str, moments_ms: Sequence[int]) -> list[int]:
        """For each moment (the store's time in ms), how many live reservations expire after it.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        counts = (self._scripts.read(drop_id, "ZCOUNT", "expiries", f"({at_ms}", "+inf") for at_ms in moments_ms)
        return [int(count) for count in await asyncio.gather(*counts)]

    async def expire(self, drop_id: str, batch_size_max: int) -> int:
        """Ends overdue reservations, at most `batch_size_max`; how many it ended. Raises as `reserve` does."""
        _, results = await self._scripts.call("expire", drop_id, batch_size_max)
        return int(results[1])

    def _batcher(self, name: str, drop_id: str) -> Batcher[Any, Any]:
        batcher = self._batchers.get((name, drop_id))
        if batcher is None:
            if len(self._batchers) >= BATCHERS_MAX:
                # The oldest goes on until it is idle; a new one of its drop may run beside it.
                self._batchers.pop(next(iter(self._batchers)))
            decode = partial(self._decode_reserved, drop_id) if name == "reserve" else _as_they_are
            batcher = self._batchers[name, drop_id] = self._scripts.batcher(name, drop_id, decode)
        return batcher


def _reserved(drop_id: str, request: Any, result: list[Any], sold_out: dict[tuple[object, ...], Refused]) -> Reservation | Refused:
    """One request's outcome. `sold_out` has those of this call by what is left: when a drop ends, everybody hears the same."""
    if result[0] == "sold_out":
        left = (*result[1], result[2])
        same = sold_out.get(left)
        if same is None:
            same = sold_out[left] = _refused(result)
        return same
    if result[0] not in ("reserved", "replayed"):
        return _refused(result)
    word, state, amount_minor, reserved_at_ms, expires_at_ms, number = result
    return Reservation(
        reservation_id=request[0],
        drop_id=drop_id,
        ticket_id=request[1],
        state=ReservationState(state),
        items=request[4],
        amount_minor=amount_minor,
        reserved_at_ms=reserved_at_ms,
        expires_at_ms=expires_at_ms,
        replayed=word == "replayed",
        number=number,
    )


def _as_they_are(_requests: list[Any], results: list[Any], _now_ms: int) -> list[Any]:
    return results


def drop_of(reservation_id: str) -> str:
    """The drop a reservation belongs to; its id begins with it."""
    match = RESERVATION_ID_RE.fullmatch(reservation_id)
    if match is None:
        raise ValueError("not a reservation id")
    return match[1]


def _pairs(flat: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _refused(result: list[Any]) -> Refused:
    outcome = ReserveOutcome(result[0])
    if outcome is ReserveOutcome.SOLD_OUT:
        return Refused(outcome, {"available": _pairs(result[1]), "place_kept": result[2] == 1})
    if outcome is ReserveOutcome.LIMIT_REACHED:
        return Refused(outcome, {"limit": result[1], "held": result[2]})
    name = _REFUSED_AT.get(result[0])
    return Refused(outcome, {name: result[1]} if name else {})


def _settlement(outcome: ConfirmOutcome | ReleaseOutcome | ExtendOutcome, reservation_id: str, result: list[Any]) -> Settlement:
    if outcome.value == "not_found":
        return Settlement(outcome, reservation_id, None)
    _, state, amount_minor, reserved_at_ms, expires_at_ms, *_ = result
    return Settlement(outcome, reservation_id, ReservationState(state), amount_minor, reserved_at_ms, expires_at_ms)
