"""Every key in the store, built in one place.

All keys of a drop share the hash tag `{drop}`, so they live in one Cluster slot and one script may touch them all.
`lua/README.md` is the dictionary: type and meaning of each.
"""

from __future__ import annotations

from dataclasses import dataclass

DROPS = "fs:drops"
"""Set of the ids of all drops this store has been given."""
POSTGRES = "fs:postgres"
"""String: where Postgres was when a reconciler last looked (`reconciler.lost_commits`)."""


@dataclass(frozen=True, slots=True)
class DropKeys:
    """The keys of one drop. Attribute names are the names scripts use in their KEYS header."""

    drop: str
    """hash: definition, state, epoch, counters that decide admission"""
    stock: str
    """hash: allotment, available, reserved, sold, price and limit of each SKU"""
    tickets: str
    """hash: ticket id to the shopper's packed record (place, admission, units held)"""
    slots: str
    """sorted set: queue numbers that count as active, by the time (ms) their slot lapses"""
    returning: str
    """sorted set: served queue numbers that lost their slot and came back, by queue number"""
    served: str
    """stream: one entry per raise of the serving number"""
    reservations: str
    """hash: reservation id to its packed record"""
    expiries: str
    """sorted set: live reservation ids by the time (ms) they expire"""
    stats: str
    """hash: totals for people (joined, refused by reason, expired units, …); nothing decides by them"""
    restored: str
    """hash: queue number from before a loss to the ticket that has it back"""
    adjustments: str
    """hash: id of a stock adjustment to its packed record"""
    journal: str
    """stream: transitions the reconciler reads"""
    dead: str
    """stream: journal entries that could not be understood"""

    @property
    def recorded(self) -> str:
        """Publish/subscribe channel: reservation ids whose order state was committed in Postgres."""
        return self.journal + ":recorded"


def drop_keys(drop_id: str) -> DropKeys:
    """The keys of the drop `drop_id`."""
    prefix = f"fs:{{{drop_id}}}:"
    return DropKeys(**{name: prefix + name for name in DropKeys.__dataclass_fields__})
