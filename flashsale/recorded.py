"""Drops as Postgres remembers them, for processes that meet a store which has forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from flashsale.drops import decode_drop
from flashsale.model import Drop, DropState, Snapshot

if TYPE_CHECKING:
    from flashsale.connections.database import Database


@dataclass(frozen=True, slots=True)
class RecordedDrop:
    """A drop that the store has been given, and how far it had come."""

    drop: Drop
    state: DropState
    """the last one the journal told of"""
    state_at_ms: int
    epoch: int
    sequence: int
    """changes that had been made when Postgres last heard of any; a store with fewer has gone back in time"""
    picture: Snapshot | None
    """as the reconciler last saw it, at most a few seconds before the store was lost; None when it never did"""


async def recorded_drops(database: Database) -> dict[str, RecordedDrop]:
    """The drops the store should hold now, by id; those that were over two days ago are left out.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    return {row["drop_id"]: _recorded(row) for row in await database.fetch("drops_recorded")}


async def recorded_drop(database: Database, drop_id: str) -> RecordedDrop | None:
    """One drop, however old; None when the store has never been given it. Raises as `recorded_drops` does."""
    row = await database.fetchrow("drop_recorded", drop_id)
    return None if row is None else _recorded(row)


def _recorded(row: Any) -> RecordedDrop:
    return RecordedDrop(
        drop=decode_drop(row["definition"]),
        state=DropState(row["state"]),
        state_at_ms=row["state_at_ms"],
        epoch=row["epoch"],
        sequence=row["sequence"],
        picture=_picture(row["picture"]),
    )


def _picture(text: str | None) -> Snapshot | None:
    """None too for one that another release wrote differently: recovery works without."""
    try:
        return None if text is None else msgspec.json.decode(text, type=Snapshot)
    except msgspec.MsgspecError:
        return None


def encode_picture(snapshot: Snapshot) -> str:
    """The picture as JSON."""
    return msgspec.json.encode(snapshot).decode()
