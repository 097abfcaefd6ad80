"""What the running auditor last found, as it left it in Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from flashsale.connections.database import Database


class DriftFound(msgspec.Struct, frozen=True):
    """One thing that does not add up."""

    kind: str
    """a word of `reconciler.laws.DriftKind`"""
    sku: str
    """empty for the whole drop"""
    law: str
    """what should hold"""
    units: int
    """by how much it does not"""
    ids: tuple[str, ...]
    """reservations concerned, the first twenty"""
    ids_total: int


class LastAudit(msgspec.Struct, frozen=True):
    """The last audit of a drop."""

    result: str
    """clean, drift or unfinished"""
    audited_at_ms: int
    paused_at_ms: int | None
    """when the auditor paused the drop for drift that is still there"""
    drifts: list[DriftFound]


class Audits:
    """The last audit of each drop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last(self, drop_id: str) -> LastAudit | None:
        """A drop's last audit; None before the first one.

        Raises:
            DatabaseUnavailable: Postgres cannot be asked.
        """
        row = await self._database.fetchrow("audit_last", drop_id)
        if row is None:
            return None
        drifts = msgspec.json.decode(row["findings"], type=list[DriftFound])
        return LastAudit(row["result"], row["audited_at_ms"], row["paused_at_ms"], drifts)
