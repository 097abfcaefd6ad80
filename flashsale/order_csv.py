"""Orders as CSV (RFC 4180), one to a line. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flashsale.orders import Order

COLUMNS = (
    "order_id", "state", "items", "amount_minor", "currency", "payment_reference", "reason", "reserved_at", "expires_at",
    "paid_at", "finished_at", "ticket_id", "request_id",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_header() -> bytes:
    """The first line."""
    return _lines([COLUMNS])


def csv_lines(orders: Iterable[Order]) -> bytes:
    """A line for each order. Times are UTC (ISO 8601); items are `black-42 x 2; white-42 x 1`; what is not known is empty."""
    return _lines(_line(order) for order in orders)


async def csv_pages(page: Callable[[str], Awaitable[Sequence[Order]]]) -> AsyncIterator[bytes]:
    """The whole table, page by page.

    Args:
        page: the orders after the order with that id, in order; from the first for an empty one, and none at the end.

    Raises: as `page` does; where it fails at once, before anything was yielded.
    """
    orders = await page("")
    yield csv_header()
    while orders:
        yield csv_lines(orders)
        orders = await page(orders[-1].order_id)


def _line(order: Order) -> tuple[str | int, ...]:
    return (
        order.order_id,
        order.state.value,
        "; ".join(f"{sku} x {quantity}" for sku, quantity in order.items),
        order.amount_minor,
        order.currency,
        _text(order.payment_reference or ""),
        _text(order.reason),
        _moment(order.reserved_at_ms),
        _moment(order.expires_at_ms),
        _moment(order.paid_at_ms),
        _moment(order.finished_at_ms),
        order.ticket_id,
        _text(order.request_id),
    )


def _text(text: str) -> str:
    """A spreadsheet takes what begins like this for a formula, and some of these texts come from outside."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _moment(at_ms: int | None) -> str:
    return "" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lines(rows: Iterable[Iterable[str | int]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
