"""Reading requests: bodies, headers and ids, each with a limit; what is malformed is refused with the field's name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from admission.handoff import HANDOFF_LENGTH_MAX
from admission.invites import CODE_LENGTH_MAX
from admission.receipts import RECEIPT_LENGTH_MAX
from flashsale.errors import BadInput
from flashsale.identity import IDENTITY_LENGTH_MAX
from flashsale.model import (
    IDEMPOTENCY_KEY_LENGTH_MAX,
    ITEMS_PER_RESERVATION_MAX,
    PAYMENT_REFERENCE_LENGTH_MAX,
    QUANTITY_MAX,
    SKU_PATTERN,
    TICKET_ID_RE,
)
from flashsale.orders import CancelReason
from flashsale.payments.test import Behaviour
from flashsale.web.problems import Code, ProblemError, problem

Body = TypeVar("Body")

# 43 base64url characters are 258 bits; the last one of a canonical spelling of 256 has its two low bits zero.
DIGEST_PATTERN = r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\Z"
AMOUNT_MINOR_MAX = 2**53

SECRET_RE = re.compile(r"[A-Za-z0-9_-]{16,128}")
_VISIBLE = re.compile(rf"[\x21-\x7e]{{1,{IDEMPOTENCY_KEY_LENGTH_MAX}}}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MESSAGE_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")
_MESSAGE_FIELD = re.compile(r"(?:unknown|missing required) field `(?P<field>[^`]*)`")


class JoinBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST tickets."""

    secret_hash: Annotated[str, Meta(pattern=DIGEST_PATTERN)]
    """base64url SHA-256 of a secret the browser keeps"""
    identity: Annotated[str, Meta(min_length=1, max_length=IDENTITY_LENGTH_MAX)] | UnsetType = UNSET
    """a JWT of the storefront for this shopper"""
    code: Annotated[str, Meta(min_length=1, max_length=CODE_LENGTH_MAX)] | UnsetType = UNSET
    """an invite code"""
    challenge: Any = UNSET
    handoff: Annotated[str, Meta(min_length=1, max_length=HANDOFF_LENGTH_MAX)] | UnsetType = UNSET
    """of the shopper's other device, whose place this one takes over"""
    receipt: Annotated[str, Meta(min_length=1, max_length=RECEIPT_LENGTH_MAX)] | UnsetType = UNSET
    """of the place this secret had; after a loss it is given back"""


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """Units of one SKU."""

    sku: Annotated[str, Meta(pattern=rf"^(?:{SKU_PATTERN})\Z")]
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]


class ReserveBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST reservations."""

    items: Annotated[list[Item], Meta(min_length=1, max_length=ITEMS_PER_RESERVATION_MAX)]

    def sorted_items(self) -> tuple[tuple[str, int], ...]:
        """(SKU, quantity) in ascending order of SKU.

        Raises:
            BadInput: a SKU is named twice.
        """
        items = tuple(sorted([(item.sku, item.quantity) for item in self.items]))
        if len(items) > 1 and len({sku for sku, _ in items}) < len(items):
            raise BadInput(what="Each SKU may be named once.", field="items")
        return items


class RestoreBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST restore."""

    receipt: Annotated[str, Meta(min_length=1, max_length=RECEIPT_LENGTH_MAX)]


class ConfirmBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST confirm."""

    payment_reference: Annotated[str, Meta(pattern=rf"^[\x21-\x7e]{{1,{PAYMENT_REFERENCE_LENGTH_MAX}}}\Z")]
    amount_minor: Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]


class RefundBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST refunds of an order."""

    reason: CancelReason = CancelReason.REQUESTED


class TestPaymentBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST test-provider payments."""

    reservation_id: Annotated[str, Meta(min_length=1, max_length=128)]
    behaviour: Behaviour = Behaviour()


async def read_body(request: web.Request, timeout_s: float) -> bytes:
    """The request's whole body.

    Raises:
        ProblemError: it is too large (unread when its length is declared) or comes too slowly.
    """
    if request.content.is_eof():
        # All of it is here already, as nearly always; this is a third of the work of request.read().
        body = request.content.read_nowait()
        if len(body) > request.client_max_size:
            raise ProblemError(problem(Code.BODY_TOO_LARGE))
        return body
    if (request.content_length or 0) > request.client_max_size:
        raise ProblemError(_closing(Code.BODY_TOO_LARGE))
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        raise ProblemError(_closing(Code.BODY_TIMEOUT)) from None


def _closing(code: Code) -> Any:
    answer = problem(code)
    answer.force_close()  # the rest of the body must not be taken for a request
    return answer


async def read_json(request: web.Request, decoder: msgspec.json.Decoder[Body], timeout_s: float) -> Body:
    """The request's JSON body.

    Raises:
        ProblemError: as `read_body`, or it is not sent as JSON.
        BadInput: it is not what `decoder` takes; names the field.
    """
    if not request.headers.get("Content-Type", "").lower().startswith("application/json"):
        raise ProblemError(problem(Code.UNSUPPORTED_MEDIA_TYPE))
    body = await read_body(request, timeout_s)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _not_valid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadInput(what="The body is not valid JSON.", field="body") from None


def _not_valid(error: msgspec.ValidationError) -> BadInput:
    text = str(error)
    path = match["path"] if (match := _MESSAGE_PATH.search(text)) else ""
    field = match["field"] if (match := _MESSAGE_FIELD.search(text)) else ""
    if "regex" in text:
        text = "The value does not have the form it must have."
    name = ".".join(part for part in (path, field) if part)[:100] or "body"
    return BadInput(what=f"{_MESSAGE_PATH.sub('', text)[:200].rstrip('.')}.", field=name)


def query_of(request: web.Request, *names: str) -> Mapping[str, str]:
    """The query's parameters. Raises BadInput for one that is not among `names`."""
    unknown = next((name for name in request.query if name not in names), None)
    if unknown is not None:
        raise BadInput(what="The query has an unknown parameter.", field=unknown[:100])
    return request.query


def limit_of(query: Mapping[str, str], default: int, most: int) -> int:
    """How many a page is to have, `most` of three digits. Raises BadInput."""
    limit = query.get("limit", str(default))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= most):
        raise BadInput(what=f"The limit is a whole number from 1 to {most}.", field="limit")
    return int(limit)


def idempotency_key(request: web.Request) -> str:
    """The Idempotency-Key header.

    Raises:
        ProblemError: it is missing or malformed.
    """
    key = request.headers.get("Idempotency-Key", "")
    if _VISIBLE.fullmatch(key) is None:
        raise ProblemError(problem(Code.IDEMPOTENCY_KEY_MISSING))
    return key


def bearer(request: web.Request) -> str:
    """The credential of `Authorization: Bearer …`, or an empty text."""
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    return credential if scheme.lower() == "bearer" else ""


def ticket_with_secret(request: web.Request, drop_id: str) -> tuple[str, str]:
    """(ticket id, secret) of `Authorization: Ticket <ticket>.<secret>`.

    Raises:
        ProblemError: missing, malformed, or of another drop.
    """
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    ticket_id, _, secret = credential.rpartition(".")
    match = TICKET_ID_RE.fullmatch(ticket_id)
    if scheme.lower() != "ticket" or match is None or match[1] != drop_id or SECRET_RE.fullmatch(secret) is None:
        raise ProblemError(problem(Code.TICKET_INVALID))
    return ticket_id, secret


def callers_request_id(request: web.Request) -> str | None:
    """The X-Request-Id the caller chose, when it has the form of one."""
    given = request.headers.get("X-Request-Id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else None


def etag_matches(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match header covers `etag` (RFC 9110, 13.1.2: weak comparison)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags
