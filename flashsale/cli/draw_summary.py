"""Whether a drop's draw is what it has to be: recomputed from the secret, the entries and the beacon, as anybody may.

What the simulated shoppers wrote down is used for what only they can know: the commitment they were shown before the opening,
and which queue number they took their entry number for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from admission.draw import commitment_of, draw_key
from admission.drawing import draws_of, prepare, read_entries
from admission.places import Draws
from admission.tokens import b64encode
from flashsale.drops import FIRST_EPOCH
from flashsale.model import ticket_id_of
from reconciler.lines import RecordedDraw, read_draw

if TYPE_CHECKING:
    from flashsale.connections.database import Database
    from flashsale.drops import DropStore
    from flashsale.model import LinePicture, Snapshot

FAULTS_NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class DrawRecords:
    """Everything kept about a draw."""

    snapshot: Snapshot
    draws: Draws
    """of the lines, as the store has their keys"""
    secret: bytes
    beacon: bytes
    """empty for none"""
    roots: tuple[bytes, ...]
    """of each line, made from the entries anew"""
    tickets: Mapping[int, str]
    """entry number in everybody's line to the ticket that its secret hash makes, for those the shoppers told of"""
    recorded: RecordedDraw | None
    """as Postgres has it"""


async def read_draw_records(
    drops: DropStore, database: Database, snapshot: Snapshot, lots: Mapping[str, tuple[int, int]]
) -> DrawRecords | None:
    """Everything kept about a drop's draw; None when its line goes by arrival, or is not drawn yet.

    Args:
        drops: the drops in the store.
        database: Postgres.
        snapshot: the drop as it is now.
        lots: what shoppers told: ticket to entry number and queue number.

    Raises:
        StoreUnavailable, StoreUnknown, DatabaseUnavailable: it cannot be read now.
    """
    if not snapshot.key:
        return None
    secret, beacon = await drops.draw_record(snapshot.drop_id)
    entries = await read_entries(drops, snapshot)
    drawn = snapshot.entries or 0
    wanted = {entry for entry, _ in lots.values() if entry < drawn}
    trees = [await entries.tree(line) for line in range(len(snapshot.lines))]
    draws = draws_of(snapshot)
    await prepare(draws)
    return DrawRecords(
        snapshot=snapshot,
        draws=draws,
        secret=bytes.fromhex(secret),
        beacon=bytes.fromhex(str(beacon.get("value", ""))),
        roots=tuple(tree.root() for tree in trees),
        tickets={
            entry: ticket_id_of(snapshot.drop_id, b64encode(entries.hashes(0, range(entry, entry + 1))[0])) for entry in sorted(wanted)
        },
        recorded=read_draw(await database.fetchrow("draw_get", snapshot.drop_id)),
    )


def draw_faults(records: DrawRecords, commitment: str, lots: Mapping[str, tuple[int, int]]) -> list[str]:
    """What does not follow, in words.

    After a loss the entries may have holes, so from then on only what the keys say is held against the shoppers.

    Args:
        commitment: hex, as the shoppers saw it before the opening; empty when they did not look.
        lots: what shoppers told: ticket to entry number and queue number.
    """
    whole = records.snapshot.epoch == FIRST_EPOCH
    found = [*_secret_faults(records, commitment), *_recorded_faults(records)]
    for line, root in zip(records.snapshot.lines, records.roots, strict=True):
        found += _line_faults(records, line, root, whole=whole)
    return found + _lot_faults(records, lots, whole=whole)


def _secret_faults(records: DrawRecords, commitment: str) -> list[str]:
    if commitment and commitment_of(records.secret) != commitment:
        return ["the secret is not the one committed to before the opening"]
    return []


def _line_faults(records: DrawRecords, line: LinePicture, root: bytes, *, whole: bool) -> list[str]:
    name = f"the line {line.group}" if line.group else "everybody's line"
    found = []
    if whole and root.hex() != line.root:
        found.append(f"the root of {name} is not that of its entries")
    if draw_key(records.secret, bytes.fromhex(line.root), line.entries or 0, records.beacon).hex() != line.key:
        found.append(f"the key of {name} does not follow from secret, root, entries and beacon")
    return found


def _recorded_faults(records: DrawRecords) -> list[str]:
    recorded = records.recorded
    if recorded is None or recorded.drawn is None:
        return ["Postgres does not know the draw"]
    held = [(line.group, line.entries, line.root, line.key) for line in records.snapshot.lines]
    told = [(line.group, line.entries, line.root, line.key) for line in recorded.drawn.lines]
    return [] if held == told and recorded.secret == records.secret else ["Postgres knows another draw than the store"]


def _lot_faults(records: DrawRecords, lots: Mapping[str, tuple[int, int]], *, whole: bool) -> list[str]:
    draw, found = records.draws[0], []
    for ticket_id, (entry, number) in sorted(lots.items()):
        if draw is None or entry >= draw.entries:
            continue
        if draw.queue_number(entry) != number:
            found.append(f"{ticket_id} was served as {number}, and its entry {entry} drew {draw.queue_number(entry)}")
        if whole and records.tickets[entry] != ticket_id:
            found.append(f"the entry {entry} of {ticket_id} is somebody else's")
    return found


def draw_summary(records: DrawRecords | None, commitment: str, lots: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """The report's numbers about the draw."""
    found = draw_faults(records, commitment, lots) if records else []
    return {
        "entries_drawn": sum(line.entries or 0 for line in records.snapshot.lines) if records else 0,
        "lots_checked": len(lots) if records else 0,
        "draw_faults": len(found),
        "draw_faults_examples": found[:FAULTS_NAMED_MAX],
    }
