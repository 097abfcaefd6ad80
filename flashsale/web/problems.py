"""The only place that turns outcomes and exceptions into HTTP: problem documents (RFC 9457) with a stable `code`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import msgspec
from aiohttp import web

from flashsale.errors import (
    BadInput,
    Busy,
    DatabaseUnavailable,
    DropNotFound,
    FlashsaleError,
    Recovering,
    StoreUnavailable,
    StoreUnknown,
    UnsafeStore,
)
from flashsale.model import (
    AdmitOutcome,
    ConfirmOutcome,
    ExtendOutcome,
    JoinOutcome,
    LeaveOutcome,
    Refused,
    ReleaseOutcome,
    ReservationState,
    ReserveOutcome,
    RestoreOutcome,
)
from flashsale.payments.provider import ProviderUnknown, WebhookRefused
from flashsale.reservations import Settlement
from flashsale.verify.answers import DETAILS
from flashsale.verify.answers import Code as Fault

MEDIA_TYPE = "application/problem+json"


class Code(StrEnum):
    """Every code a caller may see."""

    BAD_REQUEST = "bad_request"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    UNAUTHORIZED = "unauthorized"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a code
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a code
    TOKEN_MISSING = "token_missing"  # noqa: S105 - a code
    TOKEN_EARLY = "token_early"  # noqa: S105 - a code
    WRONG_ISSUER = "wrong_issuer"
    OLD_EPOCH = "old_epoch"
    TICKET_INVALID = "ticket_invalid"
    IDENTITY_INVALID = "identity_invalid"
    FORBIDDEN = "forbidden"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_DROP = "wrong_drop"
    CODE_REQUIRED = "code_required"
    CODE_INVALID = "code_invalid"
    IDENTITY_REQUIRED = "identity_required"
    HANDOFF_INVALID = "handoff_invalid"
    REMOVED = "removed"
    NOT_FOUND = "not_found"
    DROP_NOT_FOUND = "drop_not_found"
    TICKET_NOT_FOUND = "ticket_not_found"
    RESERVATION_NOT_FOUND = "reservation_not_found"
    ORDER_NOT_FOUND = "order_not_found"
    SKU_NOT_FOUND = "sku_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TIMEOUT = "body_timeout"
    NOT_OPEN = "not_open"
    PAUSED = "paused"
    CLOSED = "closed"
    SOLD_OUT = "sold_out"
    JOINING_CLOSED = "joining_closed"
    CODE_USED = "code_used"
    MOVED = "moved"
    HANDOFF_USED = "handoff_used"
    LEFT = "left"
    UNITS_HELD = "units_held"
    DROP_EXISTS = "drop_exists"
    LIMIT_REACHED = "limit_reached"
    NOT_YET = "not_yet"
    ALREADY_PAID = "already_paid"
    NOT_PAID = "not_paid"
    EXTENSION_NOT_ALLOWED = "extension_not_allowed"
    ALREADY_EXTENDED = "already_extended"
    PAYMENT_CONFLICT = "payment_conflict"
    TOO_FEW_UNITS = "too_few_units"
    TOO_MANY_UNITS = "too_many_units"
    RESERVATION_EXPIRED = "reservation_expired"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    EXPECTATION_FAILED = "expectation_failed"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    AMOUNT_MISMATCH = "amount_mismatch"
    RECEIPT_INVALID = "receipt_invalid"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"
    BUSY = "busy"
    STORE_UNAVAILABLE = "store_unavailable"
    UNKNOWN = "unknown"
    RECOVERING = "recovering"
    DATABASE_UNAVAILABLE = "database_unavailable"
    UNSAFE_STORE = "unsafe_store"


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    title: str
    detail: str
    """what is said when nothing more is known"""
    retry: bool = False
    """answers carry Retry-After"""


_KINDS: Mapping[Code, _Kind] = {
    Code.BAD_REQUEST: _Kind(400, "Bad request", "The request is malformed."),
    Code.IDEMPOTENCY_KEY_MISSING: _Kind(
        400,
        "Idempotency key missing",
        "Send an Idempotency-Key header of 1 to 128 visible ASCII characters; repeat it when you repeat the request.",
    ),
    Code.UNAUTHORIZED: _Kind(401, "Unauthorized", "The credential is missing, unknown, expired or revoked."),
    Code.TOKEN_INVALID: _Kind(
        401, "Admission token invalid", "The admission token is missing, not genuine, not in force, or of another drop or shopper."
    ),
    Code.TOKEN_EXPIRED: _Kind(401, "Admission token expired", "The admission token has expired; exchange the ticket again for a new one."),
    Code.TOKEN_MISSING: _Kind(401, "Admission token missing", DETAILS[Fault.TOKEN_MISSING]),
    Code.TOKEN_EARLY: _Kind(401, "Admission token too early", DETAILS[Fault.TOKEN_EARLY]),
    Code.WRONG_ISSUER: _Kind(401, "Admission token of another issuer", DETAILS[Fault.WRONG_ISSUER]),
    Code.OLD_EPOCH: _Kind(401, "Admission token of an earlier epoch", DETAILS[Fault.OLD_EPOCH]),
    Code.TICKET_INVALID: _Kind(401, "Ticket invalid", "The ticket is missing, unknown, of another drop, or its secret is wrong."),
    Code.IDENTITY_INVALID: _Kind(401, "Identity invalid", "The identity is not genuine, not in force, or not for this drop."),
    Code.FORBIDDEN: _Kind(403, "Forbidden", "The key does not have the scope this needs."),
    Code.WRONG_AUDIENCE: _Kind(403, "Admission token for another audience", DETAILS[Fault.WRONG_AUDIENCE]),
    Code.WRONG_DROP: _Kind(403, "Admission token for another drop", DETAILS[Fault.WRONG_DROP]),
    Code.CODE_REQUIRED: _Kind(403, "Invite code required", "Joining this drop takes an invite code."),
    Code.CODE_INVALID: _Kind(403, "Invite code invalid", "This is not an invite code of this drop. Is it typed as it was sent?"),
    Code.IDENTITY_REQUIRED: _Kind(403, "Identity required", "This drop is joined from the shop, by people who are signed in there."),
    Code.HANDOFF_INVALID: _Kind(403, "Handoff code invalid", "The handoff code is not genuine, has expired, or its place is not there."),
    Code.REMOVED: _Kind(403, "Removed", "The merchant has taken this place away."),
    Code.NOT_FOUND: _Kind(404, "Not found", "There is nothing at this address."),
    Code.DROP_NOT_FOUND: _Kind(404, "Drop not found", "There is no drop of that name."),
    Code.TICKET_NOT_FOUND: _Kind(404, "Ticket not found", "There is no such ticket."),
    Code.RESERVATION_NOT_FOUND: _Kind(404, "Reservation not found", "There is no such reservation."),
    Code.ORDER_NOT_FOUND: _Kind(404, "Order not found", "There is no such order."),
    Code.SKU_NOT_FOUND: _Kind(404, "SKU not found", "The drop has no such SKU."),
    Code.METHOD_NOT_ALLOWED: _Kind(405, "Method not allowed", "This address does not answer that method."),
    Code.BODY_TIMEOUT: _Kind(408, "Body too slow", "The request's body did not arrive in time."),
    Code.NOT_OPEN: _Kind(409, "Not open", "The drop is not open yet."),
    Code.PAUSED: _Kind(409, "Paused", "The drop is paused; your place is kept."),
    Code.CLOSED: _Kind(409, "Closed", "The drop has ended."),
    Code.SOLD_OUT: _Kind(409, "Sold out", "Not enough units are available."),
    Code.JOINING_CLOSED: _Kind(409, "Joining closed", "Nobody else can join this drop. Whoever has a place keeps it."),
    Code.CODE_USED: _Kind(409, "Invite code used", "The invite code has been used as often as it may be."),
    Code.MOVED: _Kind(409, "Moved", "The place was handed to another device."),
    Code.HANDOFF_USED: _Kind(409, "Handed over", "The place was handed over before; that is possible once."),
    Code.LEFT: _Kind(409, "Left", "The place was given up and cannot be taken again with this secret."),
    Code.UNITS_HELD: _Kind(409, "Units held", "There are reservations that are not paid yet. Give them back first."),
    Code.DROP_EXISTS: _Kind(409, "Drop exists", "There is another drop of that id."),
    Code.LIMIT_REACHED: _Kind(409, "Limit reached", "This is more than one shopper may buy in this drop."),
    Code.NOT_YET: _Kind(409, "Not yet", "It is not this ticket's turn yet."),
    Code.ALREADY_PAID: _Kind(409, "Already paid", "The reservation is paid and cannot be given back here."),
    Code.NOT_PAID: _Kind(409, "Not paid", "The order is not paid, so there is nothing to give back."),
    Code.EXTENSION_NOT_ALLOWED: _Kind(409, "Extension not allowed", "Reservations of this drop cannot be extended."),
    Code.ALREADY_EXTENDED: _Kind(409, "Already extended", "The reservation was extended before; that is possible once."),
    Code.PAYMENT_CONFLICT: _Kind(409, "Payment conflict", "This is not the payment the reservation was settled with; it goes back."),
    Code.TOO_FEW_UNITS: _Kind(409, "Too few units", "So many cannot be withdrawn. What is sold stays sold; what is reserved can drain."),
    Code.TOO_MANY_UNITS: _Kind(409, "Too many units", "The SKU would have too many units, or the drop has had too many changes."),
    Code.RESERVATION_EXPIRED: _Kind(410, "Reservation expired", "The reservation has ended and its units are no longer held."),
    Code.BODY_TOO_LARGE: _Kind(413, "Body too large", "The request's body is larger than allowed."),
    Code.UNSUPPORTED_MEDIA_TYPE: _Kind(415, "Unsupported media type", "Send the body as application/json."),
    Code.EXPECTATION_FAILED: _Kind(417, "Expectation failed", "The only expectation met is 100-continue."),
    Code.IDEMPOTENCY_KEY_REUSED: _Kind(422, "Idempotency key reused", "This Idempotency-Key was used with another body."),
    Code.AMOUNT_MISMATCH: _Kind(422, "Amount mismatch", "The amount is not the reservation's."),
    Code.RECEIPT_INVALID: _Kind(422, "Receipt invalid", "The receipt is not genuine, or not of this drop, secret or reservation."),
    Code.RATE_LIMITED: _Kind(429, "Too many requests", "Too many requests came from this address.", retry=True),
    Code.INTERNAL: _Kind(500, "Internal error", "Something failed here. The request id finds it in the log."),
    Code.BUSY: _Kind(503, "Busy", "The service cannot take this right now; nothing has changed.", retry=True),
    Code.STORE_UNAVAILABLE: _Kind(503, "Store unavailable", "The store does not answer right now; nothing has changed.", retry=True),
    Code.UNKNOWN: _Kind(
        503, "Outcome unknown", "The store gave no answer in time. Repeat with the same key to get the one true outcome.", retry=True
    ),
    Code.RECOVERING: _Kind(503, "Recovering", "The drop is being recovered.", retry=True),
    Code.DATABASE_UNAVAILABLE: _Kind(
        503, "Database unavailable", "Postgres does not answer right now; repeat the request, with the same key.", retry=True
    ),
    Code.UNSAFE_STORE: _Kind(
        503, "Unsafe store", "The store is set up so that what it acknowledges could be lost; nothing has changed.", retry=True
    ),
}

_BY_STATUS = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED, 413: Code.BODY_TOO_LARGE, 415: Code.UNSUPPORTED_MEDIA_TYPE}


class Problem(web.Response):
    """A problem document as an answer."""

    code: Code


class ProblemError(Exception):
    """Ends the handling of a request with `problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


def problem(code: Code, detail: str = "", members: Mapping[str, object] | None = None, *, retry_after_s: int = 0) -> Problem:
    """The answer for `code`; `members` are added to the document."""
    kind = _KINDS[code]
    document = {
        "type": f"urn:flashsale:problem:{code.value}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail or kind.detail,
        "code": code.value,
        **(members or {}),
    }
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
    if kind.retry:
        # Spread out, so that a crowd told to come back does not come back together.
        headers["Retry-After"] = str(retry_after_s or random.randint(1, 3))  # noqa: S311 - no secret
    if kind.status == 401:
        headers["WWW-Authenticate"] = "Ticket" if code is Code.TICKET_INVALID else "Bearer"
    answer = Problem(status=kind.status, body=msgspec.json.encode(document), headers=headers)
    answer.code = code
    return answer


def of_refusal(refused: Refused) -> Problem:
    """The answer for an expected refusal of a join, an admission or a reservation."""
    outcome = refused.outcome
    match outcome:
        case ReserveOutcome.UNKNOWN_SKU:
            return problem(Code.BAD_REQUEST, "An item names a SKU that is not in this drop.", {"field": "items"})
        case ReserveOutcome():
            code = _reserve_code(outcome)
        case AdmitOutcome():
            code = _admit_code(outcome)
        case JoinOutcome.DEVICES_FULL:
            return problem(Code.LIMIT_REACHED, "This place is known on 20 other devices already. Go on with one of them.")
        case JoinOutcome():
            code = _join_code(outcome)
        case _:
            raise AssertionError(f"{outcome!r} is not a refusal of a shopper's request")
    return problem(code, members=refused.detail)


def _reserve_code(outcome: ReserveOutcome) -> Code:
    match outcome:
        case ReserveOutcome.RESERVED | ReserveOutcome.REPLAYED:
            raise AssertionError("a reservation is not a problem")
        case ReserveOutcome.KEY_REUSED:
            return Code.IDEMPOTENCY_KEY_REUSED
        case ReserveOutcome.UNKNOWN_SKU:
            return Code.BAD_REQUEST
        case ReserveOutcome.NOT_OPEN | ReserveOutcome.PAUSED | ReserveOutcome.CLOSED | ReserveOutcome.RECOVERING:
            return Code(outcome.value)
        case ReserveOutcome.TOKEN_INVALID | ReserveOutcome.TOKEN_EXPIRED | ReserveOutcome.LIMIT_REACHED | ReserveOutcome.SOLD_OUT:
            return Code(outcome.value)
        case _:
            assert_never(outcome)


def _admit_code(outcome: AdmitOutcome) -> Code:
    match outcome:
        case AdmitOutcome.ADMITTED | AdmitOutcome.REPLAYED | AdmitOutcome.PLACE:
            raise AssertionError("an admission is not a problem, and a place to work out never gets here")
        case AdmitOutcome.NOT_OPEN | AdmitOutcome.PAUSED | AdmitOutcome.CLOSED | AdmitOutcome.RECOVERING:
            return Code(outcome.value)
        case AdmitOutcome.NOT_YET | AdmitOutcome.SOLD_OUT | AdmitOutcome.TICKET_INVALID:
            return Code(outcome.value)
        case AdmitOutcome.MOVED | AdmitOutcome.LEFT | AdmitOutcome.REMOVED:
            return Code(outcome.value)
        case _:
            assert_never(outcome)


def _join_code(outcome: JoinOutcome) -> Code:
    match outcome:
        case JoinOutcome.JOINED | JoinOutcome.REPLAYED | JoinOutcome.RESTORED | JoinOutcome.TAKEN_OVER:
            raise AssertionError("a place in the line is not a problem")
        case JoinOutcome.DEVICES_FULL:
            return Code.LIMIT_REACHED
        case JoinOutcome.ROOM_FULL:
            return Code.BUSY
        case JoinOutcome.NOT_FOUND:
            return Code.HANDOFF_INVALID
        case JoinOutcome.NOT_OPEN | JoinOutcome.CLOSED | JoinOutcome.SOLD_OUT | JoinOutcome.JOINING_CLOSED | JoinOutcome.RECOVERING:
            return Code(outcome.value)
        case JoinOutcome.CODE_USED | JoinOutcome.MOVED | JoinOutcome.LEFT | JoinOutcome.REMOVED | JoinOutcome.HANDOFF_USED:
            return Code(outcome.value)
        case _:
            assert_never(outcome)


def of_leave(outcome: LeaveOutcome) -> Problem | None:
    """The answer for a place that was not given up, or None when it was, now or before."""
    match outcome:
        case LeaveOutcome.LEFT | LeaveOutcome.REMOVED | LeaveOutcome.REPLAYED:
            return None
        case LeaveOutcome.NOT_FOUND:
            return problem(Code.TICKET_NOT_FOUND)
        case LeaveOutcome.MOVED:
            return problem(Code.MOVED)
        case LeaveOutcome.RESERVED:
            return problem(Code.UNITS_HELD)
        case LeaveOutcome.PLACE:
            return problem(Code.BUSY, "The draw was made a moment ago. Try again.")
        case LeaveOutcome.RECOVERING:
            return problem(Code.RECOVERING)
        case _:
            assert_never(outcome)


def of_confirm(settlement: Settlement) -> Problem | None:
    """The answer for a confirm that did not sell the units, or None when it did."""
    outcome = settlement.outcome
    assert isinstance(outcome, ConfirmOutcome)
    match outcome:
        case ConfirmOutcome.CONFIRMED | ConfirmOutcome.REPLAYED:
            return None
        case ConfirmOutcome.AMOUNT_MISMATCH:
            return problem(Code.AMOUNT_MISMATCH, members={"amount_minor": settlement.amount_minor})
        case ConfirmOutcome.REFUND_DUE:
            return problem(Code.RESERVATION_EXPIRED, _why_refund_due(settlement.state), {"refund_due": True})
        case ConfirmOutcome.KEY_REUSED:
            code = Code.IDEMPOTENCY_KEY_REUSED
        case ConfirmOutcome.PAYMENT_CONFLICT:
            code = Code.PAYMENT_CONFLICT
        case ConfirmOutcome.NOT_FOUND:
            code = Code.RESERVATION_NOT_FOUND
        case ConfirmOutcome.RECOVERING:
            code = Code.RECOVERING
        case _:
            assert_never(outcome)
    return problem(code)


def _why_refund_due(state: ReservationState | None) -> str:
    if state is ReservationState.CANCELLED:
        return "The order was paid and has been taken back since; its payment goes back."
    return "The payment came after the reservation had ended and its units were gone; it goes back."


def of_release(settlement: Settlement) -> Problem | None:
    """The answer for a release that gave nothing back, or None when the reservation is released."""
    outcome = settlement.outcome
    assert isinstance(outcome, ReleaseOutcome)
    match outcome:
        case ReleaseOutcome.RELEASED | ReleaseOutcome.CANCELLED | ReleaseOutcome.REPLAYED:
            return None
        case ReleaseOutcome.EXPIRED:
            return problem(Code.RESERVATION_EXPIRED)
        case ReleaseOutcome.CONFIRMED:
            return problem(Code.ALREADY_PAID)
        case ReleaseOutcome.NOT_FOUND:
            return problem(Code.RESERVATION_NOT_FOUND)
        case ReleaseOutcome.RECOVERING:
            return problem(Code.RECOVERING)
        case _:
            assert_never(outcome)


def of_extend(settlement: Settlement) -> Problem | None:
    """The answer for an extension that gave no time, or None when it did."""
    outcome = settlement.outcome
    assert isinstance(outcome, ExtendOutcome)
    match outcome:
        case ExtendOutcome.EXTENDED | ExtendOutcome.REPLAYED:
            return None
        case ExtendOutcome.ALREADY_EXTENDED:
            return problem(Code.ALREADY_EXTENDED)
        case ExtendOutcome.ENDED:
            return problem(Code.ALREADY_PAID if settlement.state is ReservationState.CONFIRMED else Code.RESERVATION_EXPIRED)
        case ExtendOutcome.NOT_FOUND:
            return problem(Code.RESERVATION_NOT_FOUND)
        case ExtendOutcome.RECOVERING:
            return problem(Code.RECOVERING)
        case _:
            assert_never(outcome)


def of_restore(refused: Refused) -> Problem:
    """The answer for a receipt that brought nothing back."""
    outcome = refused.outcome
    assert isinstance(outcome, RestoreOutcome)
    match outcome:
        case RestoreOutcome.RESTORED | RestoreOutcome.REPLAYED:
            raise AssertionError("a reservation is not a problem")
        case RestoreOutcome.NOT_FOUND:
            return problem(Code.RESERVATION_NOT_FOUND)
        case RestoreOutcome.EXPIRED:
            return problem(Code.RESERVATION_EXPIRED)
        case RestoreOutcome.SOLD_OUT | RestoreOutcome.LIMIT_REACHED | RestoreOutcome.RECOVERING:
            return problem(Code(outcome.value))
        case _:
            assert_never(outcome)


# Expected situations and their codes; the exception's own words are shown only where they are about the caller's input.
_ERROR_CODES: tuple[tuple[type[FlashsaleError], Code], ...] = (
    (DropNotFound, Code.DROP_NOT_FOUND),
    (StoreUnknown, Code.UNKNOWN),
    (Busy, Code.BUSY),
    (StoreUnavailable, Code.STORE_UNAVAILABLE),
    (Recovering, Code.RECOVERING),
    (DatabaseUnavailable, Code.DATABASE_UNAVAILABLE),
    (UnsafeStore, Code.UNSAFE_STORE),
)


def of_error(error: FlashsaleError) -> Problem:
    """The answer for an exception of ours; what is unexpected becomes `internal` and tells nothing."""
    match error:
        case BadInput():
            return problem(Code.BAD_REQUEST, str(error), {"field": error.field} if error.field else None)
        case WebhookRefused():
            return problem(Code.UNAUTHORIZED, str(error))
        case ProviderUnknown():
            return problem(Code.NOT_FOUND, str(error))
        case _:
            return problem(next((code for kind, code in _ERROR_CODES if isinstance(error, kind)), Code.INTERNAL))


def of_http(error: web.HTTPException) -> Problem:
    """The answer for an error of the framework's own."""
    code = _BY_STATUS.get(error.status) or (Code.BAD_REQUEST if error.status < 500 else Code.INTERNAL)
    answer = problem(code)
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    if code is Code.BODY_TOO_LARGE:
        answer.force_close()
    return answer
