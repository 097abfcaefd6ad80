"""What an HTTP answer says of the call it answers: it was done, it definitely was not, or nobody can tell."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from loadtest.client import Answer
from loadtest.history import Ending, Kind, Step

LOST = Ending(Step.UNKNOWN, "lost")
"""no answer: it may or may not have taken effect"""
GIVEN_UP = Ending(Step.UNKNOWN, "given_up")
"""the caller stopped waiting"""
NOT_SENT = Ending(Step.FAIL, "not_sent")
"""there was no connection to send it on"""

_DONE = {
    Kind.JOIN: {201: "joined", 200: "replayed"},
    Kind.ADMIT: {200: "admitted"},
    Kind.RESERVE: {201: "reserved", 200: "replayed"},
    Kind.RELEASE: {200: "given_back"},
    Kind.EXTEND: {200: "extended"},
    Kind.RESTORE: {200: "restored"},
    Kind.CANCEL_ORDER: {200: "cancelled"},
}
"""The service's word for each success. A release does not tell whether it was a repetition."""


class _Told(Struct):
    """The members of any answer that a history keeps. Tokens and receipts are not among them, so they are never read."""

    code: str = ""
    ticket_id: str = ""
    reservation_id: str = ""
    order_id: str = ""
    state: str = ""
    amount_minor: int | None = None
    payment_reference: str | None = None
    reserved_at_ms: int = 0
    expires_at_ms: int = 0
    refund_due: bool = False
    webhook_status: int = 0


_decode = msgspec.json.Decoder(_Told).decode


def ending_of(kind: Kind, answer: Answer) -> Ending:
    """How a call of this kind ended.

    A 5xx is unknown, whatever it says: it may come from something between us and the service. So is a 202, which promises
    an order that is not in Postgres yet.
    """
    told = _told_by(answer)
    if answer.status >= 500:
        return Ending(Step.UNKNOWN, told.code or str(answer.status))
    if answer.status >= 400:
        return Ending(Step.FAIL, _refusal(told, answer.status), amount_minor=told.amount_minor)
    if answer.status == 202:
        return Ending(Step.UNKNOWN, "recording", state=told.state)
    step, outcome = _webhook(told.webhook_status) if kind is Kind.WEBHOOK else (Step.OK, _word(kind, answer.status, told))
    return Ending(
        step,
        outcome,
        state=told.state,
        ticket_id=told.ticket_id,
        reservation_id=told.reservation_id or told.order_id,
        amount_minor=told.amount_minor,
        payment_reference=told.payment_reference or "",
        reserved_at_ms=told.reserved_at_ms,
        expires_at_ms=told.expires_at_ms,
    )


def _told_by(answer: Answer) -> _Told:
    try:
        return _decode(answer.body)
    except msgspec.MsgspecError:
        return _Told()


def _refusal(told: _Told, status: int) -> str:
    return "refund_due" if told.refund_due else told.code or str(status)


def _word(kind: Kind, status: int, told: _Told) -> str:
    """A confirmation is answered with the order, so its word is the order's state."""
    return told.state if kind is Kind.CONFIRM else _DONE.get(kind, {}).get(status, "done")


def _webhook(status: int) -> tuple[Step, str]:
    """What the service's answer to the provider says of the payment. 0: the provider did not hear it."""
    if status == 200:
        return Step.OK, "taken"
    unsure = status == 0 or status >= 500
    return (Step.UNKNOWN if unsure else Step.FAIL), f"webhook_{status}"
