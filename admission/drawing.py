"""Making the draw of a drop: whoever sees the entries closed makes it, and the store keeps the first one.

Everybody who makes it comes to the same roots. The beacon is asked only after a root was written down, so the key is that of
whoever reveals it first; the others take it from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from admission.beacon import Beacon, BeaconValue, value_in_time
from admission.draw import HASH_BYTES, Draw, EntriesTree, draw_key
from flashsale.model import DrawOutcome, EntriesRun, Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from admission.places import Draws

PAGE_ENTRIES_MIN, PAGE_ENTRIES_MAX = 16, 1000
PAGE_HASHES = 8192
"""About as many hashes as a page holds: a quarter of a megabyte, for which the store needs less than a millisecond."""
SLICE_HASHES = 512


class DrawStore(Protocol):
    """What the draw needs of `flashsale.drops.DropStore`."""

    async def draw(self, drop_id: str, *step: Any) -> tuple[DrawOutcome, int, list[str], list[str]]: ...  # noqa: D102 - see DropStore
    async def draw_record(self, drop_id: str) -> tuple[str, dict[str, Any]]: ...  # noqa: D102 - see DropStore
    async def entries_page(self, drop_id: str, after: str, count: int) -> list[EntriesRun]: ...  # noqa: D102 - see DropStore


class Entries:
    """The entries of a drop's lines as the store holds them. A place that a loss has swallowed is 32 zero bytes."""

    def __init__(self, counts: Sequence[int]) -> None:
        self._hashes = [bytearray(count * HASH_BYTES) for count in counts]

    async def read(self, drops: DrawStore, drop_id: str, *, again: bool) -> None:
        """Reads the stream in pages. Raises as `DropStore.entries_page` does.

        Args:
            again: those too that were given back after the entries were fixed.
        """
        after, count = "", PAGE_ENTRIES_MIN
        while page := await drops.entries_page(drop_id, after, count):
            after, hashes = page[-1].run_id, 0
            for run in page:
                if again or not run.again:
                    self.put(run.line, run.first, run.secret_hashes)
                hashes += len(run.secret_hashes) // HASH_BYTES
            count = max(PAGE_ENTRIES_MIN, min(PAGE_HASHES * len(page) // max(1, hashes), PAGE_ENTRIES_MAX))

    def put(self, line: int, first: int, packed: bytes) -> None:
        """Takes the secret hashes, one after another, of the entries of a line from `first` on; leaves out what is not in the draw."""
        if line >= len(self._hashes):
            return
        held = self._hashes[line]
        at = first * HASH_BYTES
        room = max(0, len(held) - at)
        held[at : at + min(room, len(packed))] = packed[:room]

    def count(self, line: int) -> int:
        """Entries of a line."""
        return len(self._hashes[line]) // HASH_BYTES

    def hashes(self, line: int, numbers: range) -> list[bytes]:
        """The secret hashes of some entries of a line."""
        held = self._hashes[line]
        return [bytes(held[number * HASH_BYTES : (number + 1) * HASH_BYTES]) for number in numbers]

    async def tree(self, line: int) -> EntriesTree:
        """The tree over a line's entries; leaves the event loop free while it is made."""
        tree, count = EntriesTree(), self.count(line)
        for first in range(0, count, SLICE_HASHES):
            tree.add(self.hashes(line, range(first, min(first + SLICE_HASHES, count))))
            await asyncio.sleep(0)
        return tree


async def read_entries(drops: DrawStore, snapshot: Snapshot, *, again: bool = False) -> Entries:
    """The entries of all lines of a drop whose entries are fixed. Raises and takes as `Entries.read` does."""
    entries = Entries([line.entries or 0 for line in snapshot.lines])
    await entries.read(drops, snapshot.drop_id, again=again)
    return entries


async def make_draw(drops: DrawStore, snapshot: Snapshot, beacons: Mapping[str, Beacon], kind: str) -> bool:
    """Makes the draw of a drop whose entries are closed; True when this call revealed it.

    Args:
        beacons: the ones there are, by kind.
        kind: of the beacon the drop's definition names.

    Raises:
        Recovering, StoreUnavailable, StoreUnknown: see `Scripts.call`; make it again.
    """
    entries = await read_entries(drops, snapshot)
    roots = [(await entries.tree(line)).root().hex() for line in range(len(snapshot.lines))]
    outcome, closed_at_ms, roots, keys = await drops.draw(snapshot.drop_id, "close", roots)
    if outcome is DrawOutcome.REFUSED or all(keys):
        return False
    value = await _beacon_value(beacons.get(kind), kind, closed_at_ms)
    secret, _ = await drops.draw_record(snapshot.drop_id)
    keys = [
        draw_key(bytes.fromhex(secret), bytes.fromhex(root), line.entries or 0, value.value).hex()
        for root, line in zip(roots, snapshot.lines, strict=True)
    ]
    told = msgspec.to_builtins(value, builtin_types=(bytes,)) | {"value": value.value.hex()}
    outcome, _, _, _ = await drops.draw(snapshot.drop_id, "reveal", roots, keys, told)
    return outcome is DrawOutcome.REVEALED


async def _beacon_value(beacon: Beacon | None, kind: str, closed_at_ms: int) -> BeaconValue:
    if kind == "none":
        return BeaconValue("none")
    if beacon is None:
        return BeaconValue("none", why=f"No beacon of the kind {kind} is configured.")
    return await value_in_time(beacon, closed_at_ms)


def draws_of(snapshot: Snapshot, known: Draws = ()) -> Draws:
    """The draws of a drop's lines; None for a line that is not drawn or goes by arrival. Those of `known` are kept."""
    draws: list[Draw | None] = []
    for at, line in enumerate(snapshot.lines):
        before = known[at] if at < len(known) else None
        if not line.key or line.entries is None:
            draws.append(None)
        elif before is not None and before.key.hex() == line.key and before.entries == line.entries:
            draws.append(before)
        else:
            draws.append(Draw(bytes.fromhex(line.key), line.entries))
    return tuple(draws)


async def prepare(draws: Draws) -> None:
    """Makes queue numbers cheap to work out; leaves the event loop free meanwhile."""
    for draw in draws:
        if draw is not None and not draw.prepared:
            for _ in draw.prepare():
                await asyncio.sleep(0)
