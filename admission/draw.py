"""The draw: which queue number belongs to which entry number, fixed by a key nobody can choose. Pure.

`key = SHA-256(secret ‖ root ‖ N ‖ beacon)`: the secret was committed to before anybody joined, the root stands for everybody who
did, and the beacon was not known to anybody while the root could still change (docs/fairness.md). The key drives the
swap-or-not shuffle of Hoang, Morris and Rogaway (2012), bit for bit as `compute_shuffled_index` of the Ethereum
consensus specifications (phase0), so that independent implementations exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from admission.merkle import leaf_hash, merkle_levels
from flashsale.model import LINE_STRIDE

ROUNDS = 90
"""SHUFFLE_ROUND_COUNT of the consensus specifications"""
ENTRIES_MAX = LINE_STRIDE
"""numbers of a line; the specification itself ends at 2^40"""
PREPARED_ENTRIES_MAX = 4_000_000
"""a prepared draw keeps 90 bits an entry: 11 MB for a million"""
CHUNK_LEAVES = 1024
SECRET_BYTES = HASH_BYTES = 32
_POSITIONS_PER_HASH = 8 * HASH_BYTES
_HASHES_PER_SLICE = 1024


def commitment_of(secret: bytes) -> str:
    """What is published of the secret before anybody joins: hex SHA-256."""
    return hashlib.sha256(secret).hexdigest()


def draw_key(secret: bytes, root: bytes, entries: int, beacon: bytes) -> bytes:
    """The key of one line's draw, 32 bytes. `beacon` is empty for none."""
    return hashlib.sha256(secret + root + entries.to_bytes(8, "big") + beacon).digest()


# ---------------------------------------------------------------------------------------------------------- the entries


class EntriesTree:
    """The Merkle tree (RFC 9162) over a line's entries, built as they are read.

    Of full chunks of 1024 entries only the root is kept, so a million entries cost 31 KB; `admission.proofs` makes the paths.
    """

    def __init__(self) -> None:
        self._full: list[bytes] = []
        self._leaves: list[bytes] = []

    def __len__(self) -> int:
        """Entries so far."""
        return len(self._full) * CHUNK_LEAVES + len(self._leaves)

    def add(self, secret_hashes: Iterable[bytes]) -> None:
        """Appends entries: their secret hashes, 32 raw bytes each, in order of joining. About 1 µs each.

        Raises:
            ValueError: one has another length.
        """
        for secret_hash in secret_hashes:
            self._leaves.append(_leaf_of(secret_hash))
            if len(self._leaves) == CHUNK_LEAVES:
                self._full.append(merkle_levels(self._leaves)[-1][0])
                self._leaves = []

    @property
    def chunk_roots(self) -> list[bytes]:
        """Roots of the chunks, the last one of which may not be full."""
        return [*self._full, merkle_levels(self._leaves)[-1][0]] if self._leaves else list(self._full)

    def root(self) -> bytes:
        """The root; that of no entries is SHA-256 of nothing (RFC 9162, section 2.1.1)."""
        roots = self.chunk_roots
        return merkle_levels(roots)[-1][0] if roots else hashlib.sha256(b"").digest()


def _leaf_of(secret_hash: bytes) -> bytes:
    if len(secret_hash) != HASH_BYTES:
        raise ValueError(f"an entry is a hash of {HASH_BYTES} bytes, not of {len(secret_hash)}")
    return leaf_hash(secret_hash)


# ---------------------------------------------------------------------------------------------------------- the shuffle


class Draw:
    """One line's draw: a permutation of 0..entries-1, both ways.

    Works at once, hashing 180 times a call (some 0.15 ms); after `prepare` a call is a walk through tables (some 15 µs).
    """

    def __init__(self, key: bytes, entries: int) -> None:
        """Raises ValueError when the key is not 32 bytes or there are too many entries."""
        if len(key) != HASH_BYTES:
            raise ValueError(f"the key of a draw has {HASH_BYTES} bytes, not {len(key)}")
        if not 0 <= entries <= ENTRIES_MAX:
            raise ValueError(f"a draw is of 0 to {ENTRIES_MAX} entries, not of {entries}")
        self.key = key
        self.entries = entries
        self.mark = key[:8].hex()
        """what tells this draw from any other: the first digits of its key"""
        self._seeds = [key + bytes([number]) for number in range(ROUNDS)]
        self._pivots = [_pivot(seed, entries) for seed in self._seeds] if entries else []
        self._rounds: list[tuple[int, bytes]] = []
        """(pivot, one bit for every position) of every round; empty until prepared"""
        self._backwards: list[tuple[int, bytes]] = []

    @property
    def prepared(self) -> bool:
        """Whether calls are fast."""
        return bool(self._rounds) or not self.entries

    def prepare(self) -> Iterator[None]:
        """Makes calls fast, in slices of about a millisecond: yields between them, so that an event loop stays free.

        0.3 s in all for a million entries. Stopping early leaves the draw as it was; so does preparing a draw of more than
        PREPARED_ENTRIES_MAX entries.
        """
        if self.entries > PREPARED_ENTRIES_MAX:
            return
        tables = []
        for seed in self._seeds:
            parts: list[bytes] = []
            for hashes in _slices(-(-self.entries // _POSITIONS_PER_HASH)):
                parts.extend(_source(seed, at) for at in hashes)
                yield
            tables.append(b"".join(parts))
        self._rounds = list(zip(self._pivots, tables, strict=False))
        self._backwards = self._rounds[::-1]

    def queue_number(self, entry_number: int) -> int:
        """The place in line of who joined as `entry_number`.

        Raises:
            ValueError: there is no such entry.
        """
        self._require(entry_number)
        if self._rounds:
            return _walk(entry_number, self.entries, self._rounds)
        return _hashed_walk(entry_number, self.entries, zip(self._pivots, self._seeds, strict=True))

    def entry_number(self, queue_number: int) -> int:
        """Who has a place in line: the inverse of `queue_number`, because every round is its own.

        Raises:
            ValueError: no entry has this place.
        """
        self._require(queue_number)
        if self._rounds:
            return _walk(queue_number, self.entries, self._backwards)
        return _hashed_walk(queue_number, self.entries, zip(reversed(self._pivots), reversed(self._seeds), strict=True))

    def _require(self, number: int) -> None:
        if not 0 <= number < self.entries:
            raise ValueError(f"there is no number {number} in a draw of {self.entries}")


def _pivot(seed: bytes, entries: int) -> int:
    return int.from_bytes(hashlib.sha256(seed).digest()[:8], "little") % entries


def _source(seed: bytes, at: int) -> bytes:
    """The bits of positions 256 * at to 256 * at + 255."""
    return hashlib.sha256(seed + at.to_bytes(4, "little")).digest()


def _slices(hashes: int) -> Iterator[range]:
    return (range(first, min(first + _HASHES_PER_SLICE, hashes)) for first in range(0, hashes, _HASHES_PER_SLICE))


def _walk(number: int, entries: int, rounds: Sequence[tuple[int, bytes]]) -> int:
    for pivot, bits in rounds:
        flip = pivot - number
        if flip < 0:
            flip += entries
        # The position is the larger of the two; written out, because this loop is what a queue number costs.
        if flip > number:
            if bits[flip >> 3] >> (flip & 7) & 1:
                number = flip
        elif bits[number >> 3] >> (number & 7) & 1:
            number = flip
    return number


def _hashed_walk(number: int, entries: int, rounds: Iterable[tuple[int, bytes]]) -> int:
    for pivot, seed in rounds:
        flip = (pivot - number) % entries
        position = max(number, flip)
        at = position % _POSITIONS_PER_HASH
        if _source(seed, position // _POSITIONS_PER_HASH)[at >> 3] >> (at & 7) & 1:
            number = flip
    return number
