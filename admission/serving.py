"""The serving document: one per drop, the same bytes for everybody. Pure."""

from __future__ import annotations

import msgspec

from flashsale.model import Snapshot
from flashsale.settings import WaitingRoomSettings

RECOVERING_NOTICE = "We are putting things back in order. Your place is kept; this page goes on by itself."


class PollAdvice(msgspec.Struct, frozen=True):
    """How often to look again: clamp(floor, ceiling, wait / divisor), give or take 30 %."""

    floor_ms: int
    ceiling_ms: int
    divisor: int


class ServingDocument(msgspec.Struct, frozen=True):
    """What a browser computes its position, waiting time and next poll from."""

    drop: str
    epoch: int
    state: str
    now_ms: int
    opens_at_ms: int
    closes_at_ms: int
    joined: int
    entries: int
    key: str | None
    serving_number: int
    rate_per_min: int
    available: dict[str, int]
    reserved: dict[str, int]
    sold_out: bool
    cut_line: int | None
    poll: PollAdvice
    notice: str | None


def serving_document(snapshot: Snapshot, room: WaitingRoomSettings, *, recovering: bool = False) -> ServingDocument:
    """The document for a snapshot. `entries` counts on until the opening fixes it; a drop that recovers is not sold out."""
    return ServingDocument(
        drop=snapshot.drop_id,
        epoch=snapshot.epoch,
        state="recovering" if recovering else snapshot.state.value,
        now_ms=snapshot.now_ms,
        opens_at_ms=snapshot.opens_at_ms,
        closes_at_ms=snapshot.closes_at_ms,
        joined=snapshot.joined,
        entries=snapshot.joined if snapshot.entries is None else snapshot.entries,
        key=snapshot.key or None,
        serving_number=snapshot.serving_number,
        rate_per_min=snapshot.rate_per_min,
        available={sku: stock.available for sku, stock in snapshot.skus.items()},
        reserved={sku: stock.reserved for sku, stock in snapshot.skus.items()},
        sold_out=snapshot.sold_out and not recovering,
        cut_line=None,
        poll=PollAdvice(room.poll_floor_ms, room.poll_ceiling_ms, room.poll_divisor),
        notice=snapshot.notice or (RECOVERING_NOTICE if recovering else None),
    )


def encode_document(document: ServingDocument) -> bytes:
    """The bytes everybody gets."""
    return msgspec.json.encode(document)
