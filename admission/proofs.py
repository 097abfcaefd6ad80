"""Proofs of entries: that a place is under the root the draw was made from. Pure but for reading the entries once."""

from __future__ import annotations

from collections import OrderedDict

from admission.draw import CHUNK_LEAVES
from admission.drawing import DrawStore, Entries, read_entries
from admission.fairness import EntryProof
from admission.merkle import audit_path, leaf_hash, merkle_levels
from admission.tokens import b64encode
from flashsale.model import Snapshot

CHUNKS_KEPT = 64
"""Chunks of 1024 entries whose tree is kept: 130 KB each."""


class Proofs:
    """The proofs of one drop. About 20 µs each once a chunk's tree is there, 2 ms to make one."""

    def __init__(self, snapshot: Snapshot, entries: Entries) -> None:
        """Of a drop whose entries are closed; `index` has to run before the first proof."""
        self._drop_id = snapshot.drop_id
        self._groups = [line.group for line in snapshot.lines]
        self._entries = entries
        self._tops: list[list[list[bytes]]] = []
        self._roots: list[str] = []
        self._chunks: OrderedDict[tuple[int, int], list[list[bytes]]] = OrderedDict()

    @classmethod
    async def read(cls, drops: DrawStore, snapshot: Snapshot) -> Proofs | None:
        """Of a drop whose entries are closed; None when the store does not hold them (all) any more.

        Entries that people gave back after the entries were fixed count only where a loss has swallowed what was drawn from;
        where the loss came before, the draw was made without them.

        Raises:
            StoreUnavailable, StoreUnknown: see `Scripts.call`.
        """
        for again in (False, True):
            proofs = cls(snapshot, await read_entries(drops, snapshot, again=again))
            await proofs.index()
            if proofs.fit(snapshot):
                return proofs
        return None

    async def index(self) -> None:
        """Makes the trees above the chunks; leaves the event loop free meanwhile."""
        for line in range(len(self._groups)):
            tree = await self._entries.tree(line)
            self._tops.append(merkle_levels(tree.chunk_roots))
            self._roots.append(tree.root().hex())

    def fit(self, snapshot: Snapshot) -> bool:
        """Whether these are the entries the drop's roots stand on."""
        return self._roots == [line.root for line in snapshot.lines]

    def proof(self, group: str, entry_number: int) -> EntryProof | None:
        """The proof of an entry; None when there is no such entry."""
        if group not in self._groups:
            return None
        line = self._groups.index(group)
        entries = self._entries.count(line)
        if not 0 <= entry_number < entries:
            return None
        chunk, within = divmod(entry_number, CHUNK_LEAVES)
        path = audit_path(self._levels(line, chunk), within) + audit_path(self._tops[line], chunk)
        [secret_hash] = self._entries.hashes(line, range(entry_number, entry_number + 1))
        return EntryProof(self._drop_id, group, entry_number, entries, b64encode(secret_hash), tuple(node.hex() for node in path))

    def _levels(self, line: int, chunk: int) -> list[list[bytes]]:
        """The tree under a chunk's root."""
        levels = self._chunks.get((line, chunk))
        if levels is None:
            first = chunk * CHUNK_LEAVES
            numbers = range(first, min(first + CHUNK_LEAVES, self._entries.count(line)))
            levels = self._chunks[line, chunk] = merkle_levels([leaf_hash(one) for one in self._entries.hashes(line, numbers)])
            if len(self._chunks) > CHUNKS_KEPT:
                self._chunks.popitem(last=False)
        return levels
