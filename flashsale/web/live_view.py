"""What the live view of a drop tells, and what is worked out for it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from flashsale.orders import OrderCounts

if TYPE_CHECKING:
    from flashsale.model import Snapshot

AGE_BANDS = 5


class LiveSku(Struct, frozen=True):
    """Where the units of one SKU are."""

    sku: str
    allotment: int
    available: int
    reserved: int
    sold: int
    draining: int


class LiveLine(Struct, frozen=True):
    """One line of a drop with groups."""

    group: str
    """empty for everybody's"""
    joined: int
    waiting: int
    serving_number: int


class AgeBand(Struct, frozen=True):
    """Reservations older than the band before, up to this age."""

    up_to_s: int
    count: int


class LiveReservations(Struct, frozen=True):
    """Reservations that are neither paid nor ended."""

    open: int
    by_age: list[AgeBand]
    """the last band also holds what is overdue; one that was extended counts as that much younger"""


class LiveJournal(Struct, frozen=True):
    """What has happened in the store and is not in Postgres yet."""

    oldest_ms: int
    """age of the oldest such entry; 0 when there is none"""
    length: int
    """entries kept, recorded or not"""


class LiveErrors(Struct, frozen=True):
    """Refusals and failures answered in the last minute."""

    last_min_by_code: dict[str, int]
    of: str
    """worker: only of the one that sends this"""


class LiveView(Struct, frozen=True, omit_defaults=True):
    """A drop at one moment."""

    now_ms: int
    """by the store's clock"""
    state: str
    notice: str
    joining: str
    """open or closed"""
    rate_per_min: int
    capacity: int
    joined: int
    waiting: int
    """places the line has not come to"""
    serving_number: int
    admitted_total: int
    admitted_last_min: int | None
    """null while this worker has not watched the drop for a minute"""
    inside: int
    standby: int
    skus: list[LiveSku]
    reservations: LiveReservations
    orders: OrderCounts | None
    """null while Postgres does not answer"""
    postgres: str
    """up or away"""
    journal: LiveJournal
    errors: LiveErrors
    lines: list[LiveLine] = []
    """of a drop with groups"""


class LiveTrouble(Struct, frozen=True):
    """Why there is no picture this second."""

    code: str
    detail: str


def lines_of(snapshot: Snapshot) -> list[LiveLine]:
    """Each line of a drop, everybody's first."""
    return [LiveLine(line.group, line.joined, max(0, line.joined - line.serving_number), line.serving_number) for line in snapshot.lines]


def age_bounds_s(reservation_ttl_ms: int) -> list[int]:
    """Ages at which bands end: equal parts of a reservation's life, in whole seconds."""
    return [-(-reservation_ttl_ms * part // (1000 * AGE_BANDS)) for part in range(1, AGE_BANDS + 1)]


def age_bands(bounds_s: list[int], younger: list[int], together: int) -> list[AgeBand]:
    """Bands that make up `together`.

    Args:
        bounds_s: where they end.
        younger: how many are no older than each bound but the last.
        together: all there are.
    """
    up_to = [min(count, together) for count in younger] + [together]
    return [AgeBand(bound, max(0, to - before)) for bound, before, to in zip(bounds_s, [0, *up_to], up_to, strict=False)]
