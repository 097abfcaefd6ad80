"""What a waiting shopper can be told. Pure arithmetic over the serving document's numbers."""

from __future__ import annotations

from flashsale.model import DropState, Snapshot

SLOWEST_FACTOR = 2.0


def position(queue_number: int, serving_number: int) -> int:
    """People ahead: 0 means the shopper may enter."""
    return max(0, queue_number - serving_number)


def wait_range_ms(snapshot: Snapshot, queue_number: int) -> tuple[int, int] | None:
    """The shortest and a cautious longest wait for a queue number, or None when nothing honest can be said.

    The shortest is the line at the full rate. When every slot is taken the line moves as fast as shoppers finish, which
    is at worst once a claim window; the upper end doubles the shortest for that.
    """
    if snapshot.state not in (DropState.OPEN, DropState.WAITING, DropState.SCHEDULED) or snapshot.sold_out:
        return None
    if snapshot.rate_per_min <= 0:
        return None
    ahead = position(queue_number, snapshot.serving_number)
    until_opening_ms = max(0, snapshot.opens_at_ms - snapshot.now_ms)
    if ahead == 0 and queue_number < snapshot.serving_number:
        return (0, 0)
    shortest_ms = until_opening_ms + int((ahead + 1) * 60_000 / snapshot.rate_per_min)
    return shortest_ms, int(until_opening_ms + (shortest_ms - until_opening_ms) * SLOWEST_FACTOR)
