"""What an honest client makes of its entry number once the draw is public. Pure.

The service draws with `compute_shuffled_index` of the Ethereum consensus specifications (phase0, SHUFFLE_ROUND_COUNT = 90).
This is written from their text and shares no code with the service, so that a crowd finds out when the service and the
text part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

SHUFFLE_ROUND_COUNT = 90


def shuffled_index(index: int, index_count: int, seed: bytes) -> int:
    """Where the draw with `seed` (32 bytes) puts one of `index_count` entries.

    Raises:
        ValueError: there is no such entry.
    """
    if not 0 <= index < index_count:
        raise ValueError(f"there is no entry {index} of {index_count}")
    for current_round in range(SHUFFLE_ROUND_COUNT):
        of_round = seed + bytes([current_round])
        pivot = int.from_bytes(hashlib.sha256(of_round).digest()[:8], "little") % index_count
        flip = (pivot + index_count - index) % index_count
        position = max(index, flip)
        source = hashlib.sha256(of_round + (position // 256).to_bytes(4, "little")).digest()
        if (source[position % 256 // 8] >> position % 8) % 2:
            index = flip
    return index


class Lot:
    """A place in the line, from joining until its queue number is known."""

    def __init__(self, ticket: Mapping[str, Any], *, draws: bool) -> None:
        """`ticket` is the answer to joining; `draws` says whether the drop's line is drawn by lot."""
        self.entry_number: int | None = ticket.get("entry_number")
        self.told: int | None = ticket.get("queue_number")
        """the queue number that the service named itself"""
        self.queue_number = self.told if draws or self.told is not None else self.entry_number
        self._draws = draws
        self._key: str | None = None

    def drawn_by(self, document: Mapping[str, Any]) -> int | None:
        """The queue number as a serving document has it follow; None until the draw is made."""
        entry, key = self.entry_number, document["key"]
        if self._draws and entry is not None and key and key != self._key:
            self._key, entries = key, int(document["entries"])
            # A place given back after a loss may lie behind those that were drawn; its number stays what it is.
            self.queue_number = shuffled_index(entry, entries, bytes.fromhex(key)) if entry < entries else entry
        return self.queue_number
