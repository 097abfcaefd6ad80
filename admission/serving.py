"""The serving document: one per drop, the same bytes for everybody. Pure."""

from __future__ import annotations

import msgspec

from admission.forecast import cut_line, rates, reach, slowed
from admission.outlook import LineView, PaceRange, Reach
from admission.pace import Pace, Signals, plan
from flashsale.model import DropState, Snapshot
from flashsale.settings import WaitingRoomSettings

RECOVERING_NOTICE = "We are putting things back in order. Your place is kept; this page goes on by itself."
PAUSED_NOTICE = "Paused. Your place is kept; this page goes on by itself."
SLOWED_NOTICE = "Admissions are slower just now."


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
    """the merchant's words, or why it takes longer just now"""
    groups: tuple[LineView, ...] | None = None
    """everybody's line first; None when there is no other"""
    pace: PaceRange | None = None
    """None when it is not known how the line will move"""
    reach: Reach | None = None
    """None while nothing is known of the stock"""


def serving_document(
    snapshot: Snapshot, room: WaitingRoomSettings, *, pace: Pace | None = None, recovering: bool = False
) -> ServingDocument:
    """The document for a snapshot. `entries` counts on until the opening fixes it; a drop that recovers is not sold out.

    `pace` is the plan the worker beats with; without one it is that of a worker to which the store answers at once.
    """
    pace = pace or plan(snapshot, Signals(snapshot.flow.journal_age_ms, storefront_factor=snapshot.signal_permille / 1000))
    groups = _groups(snapshot)
    known = None if recovering or snapshot.state is DropState.CLOSED else reach(snapshot)
    moving = None if known is None or snapshot.state is DropState.PAUSED else rates(snapshot, pace)
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
        cut_line=None if known is None else cut_line(snapshot, known, groups),
        poll=PollAdvice(room.poll_floor_ms, room.poll_ceiling_ms, room.poll_divisor),
        notice=snapshot.notice or _why(snapshot, pace, recovering=recovering),
        groups=groups,
        pace=moving,
        reach=known,
    )


def _why(snapshot: Snapshot, pace: Pace, *, recovering: bool) -> str | None:
    """Why a waiting time may have risen."""
    if recovering:
        return RECOVERING_NOTICE
    if snapshot.state is DropState.PAUSED:
        return PAUSED_NOTICE
    return SLOWED_NOTICE if slowed(snapshot, pace) else None


def _groups(snapshot: Snapshot) -> tuple[LineView, ...] | None:
    if len(snapshot.lines) < 2:
        return None
    others = sum(line.share_permille for line in snapshot.lines[1:])
    return tuple(
        LineView(
            group=line.group,
            joined=line.joined,
            entries=line.joined if line.entries is None else line.entries,
            key=line.key or None,
            serving_number=line.serving_number,
            share_permille=line.share_permille if index else max(1, 1000 - others),
        )
        for index, line in enumerate(snapshot.lines)
    )


def encode_document(document: ServingDocument) -> bytes:
    """The bytes everybody gets."""
    return msgspec.json.encode(document)
