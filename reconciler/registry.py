"""The registry: which drops are to be worked on, the most urgent first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from flashsale.errors import DatabaseUnavailable, StoreUnavailable
from reconciler.journal import has_outstanding, live_drop_ids

if TYPE_CHECKING:
    from flashsale.connections.database import Database
    from reconciler.journal import Store

PAST_LOOKED_AT_MAX = 10
"""Past drops looked at each time, once a second: each takes half a dozen short calls to the store, one after the other."""


class Registry:
    """Tells live drops from past ones.

    The store keeps every drop it was ever given, for receipts and reports. Those that Postgres knows to be over for two days are
    past: they are left alone unless something is outstanding, which a few of them are asked for at every look, in turns. So a
    payment for a past drop is recorded too, only later.
    """

    def __init__(self, database: Database, store: Store) -> None:
        """Nothing is known yet."""
        self._database = database
        self._store = store
        self._live: list[str] = []
        self._held: set[str] = set()
        self._past: deque[str] = deque()
        """in the order in which they are looked at"""
        self._outstanding: set[str] = set()

    async def look(self) -> list[str]:
        """Ids of the drops to work on, the most urgent first: live ones by how near their opening is, past ones with something
        outstanding, and those of the store that Postgres does not know.

        If either store is away the last knowledge stands: forgetting a drop because of a fault would leave its orders waiting.
        """
        live, held = await self._ask_postgres(), await self._ask_store()
        if live is None or held is None:
            live = [*(live or ()), *(drop_id for drop_id in self._live if drop_id not in (live or ()))]
            held = self._held | (held or set())
        self._live, self._held = live, held
        await self._part_past()
        await self._look_at_past()
        return list(dict.fromkeys([*live, *sorted(self._outstanding), *sorted(held - set(self._past))]))

    async def _ask_postgres(self) -> list[str] | None:
        try:
            return [row["drop_id"] for row in await self._database.fetch("drops_live")]
        except DatabaseUnavailable:
            return None

    async def _ask_store(self) -> set[str] | None:
        try:
            return await live_drop_ids(self._store)
        except StoreUnavailable:
            return None

    async def _part_past(self) -> None:
        """Those newly over are looked at first, the latest of them before the others."""
        past = (self._held & set(self._past)) - set(self._live)
        self._past = deque(drop_id for drop_id in self._past if drop_id in past)
        self._outstanding &= past
        unsure = self._held - past - set(self._live)
        if not unsure:
            return
        try:
            rows = await self._database.fetch("drops_past", sorted(unsure))
        except DatabaseUnavailable:
            return
        self._past.extendleft(row["drop_id"] for row in reversed(rows))

    async def _look_at_past(self) -> None:
        for _ in range(min(len(self._past), PAST_LOOKED_AT_MAX)):
            drop_id = self._past.popleft()
            self._past.append(drop_id)
            try:
                outstanding = await has_outstanding(self._store, drop_id)
            except StoreUnavailable:  # each would cost the wait; the next look goes on with the others
                return
            (self._outstanding.add if outstanding else self._outstanding.discard)(drop_id)
