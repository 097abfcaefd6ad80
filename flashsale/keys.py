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
    identities: str
    """hash: digest of a shopper's identity to the ticket that has its place"""
    codes: str
    """hash: invite code's id to how often it was used"""
    entries: str
    """stream: secret hashes of those who joined before the opening, in order: what the draw's root stands on"""
    leaving: str
    """sorted set: places given up before the draw, by entry number; nobody knows yet when their turn would be"""
    gone: str
    """sorted set: places given up, by queue number; they are not called"""
    called: str
    """sorted set: places called whose shopper has not come yet, by the time (ms) of the call"""
    slots: str
    """sorted set: places that count as active, by the time (ms) their slot lapses"""
    returning: str
    """sorted set: places that were called and found no slot free, by place; they go before anyone new"""
    standby: str
    """sorted set: places of admitted shoppers who found everything reserved, by place"""
    wants: str
    """hash: place in `standby` to the packed items it waits for"""
    offers: str
    """sorted set: places in `standby` whose turn it is, by the time (ms) it ends"""
    served: str
    """stream: the admission log, one entry per event"""
    samples: str
    """stream: the serving document every two seconds, for the report afterwards"""
    flow: str
    """hash: how the line has moved, which the pace is made of"""
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
