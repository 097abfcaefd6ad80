"""Writes tests/vectors/draw.json: `python tests/vectors/make_draw.py`, half a minute.

Made without the service's code and by another way: whole lists are shuffled round by round, as `shuffle_list` does it in
the consensus specifications' discussion of the algorithm, and only hashlib is used.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

ROUNDS = 90
KEYS = [hashlib.sha256(b"flashsale draw %d" % number).digest() for number in range(3)]
WHOLE = (1, 2, 3, 10, 255, 256, 257, 1000)
MILLION = 1_000_000
SAMPLED = sorted({0, 1, 255, 256, MILLION // 2, MILLION - 1, *(number * 7_907 % MILLION for number in range(1, 200))})


def bit(seed: bytes, position: int, known: dict[int, bytes]) -> int:
    block = position // 256
    if block not in known:
        known[block] = hashlib.sha256(seed + block.to_bytes(4, "little")).digest()
    return known[block][position % 256 // 8] >> (position % 8) & 1


def shuffled(count: int, key: bytes) -> list[int]:
    """Element i is the place of entry i. Every round swaps the pairs that mirror each other around its pivot, in a list of places."""
    entry_at = list(range(count))
    for number in range(ROUNDS):
        seed = key + bytes([number])
        pivot = int.from_bytes(hashlib.sha256(seed).digest()[:8], "little") % count
        known: dict[int, bytes] = {}
        # Left of the pivot (both ends included) and right of it are mirrored each on its own.
        for first, last in ((0, pivot), (pivot + 1, count - 1)):
            for step in range((last - first + 1) // 2):
                low, high = first + step, last - step
                if bit(seed, high, known):
                    entry_at[low], entry_at[high] = entry_at[high], entry_at[low]
    place_of = [0] * count
    for place, entry in enumerate(entry_at):
        place_of[entry] = place
    return place_of


def vectors() -> list[dict[str, object]]:
    """Keys, numbers of entries, and [entry number, queue number] pairs."""
    made: list[dict[str, object]] = []
    for count in WHOLE:
        made += [{"key": key.hex(), "entries": count, "pairs": list(enumerate(shuffled(count, key)))} for key in KEYS]
    places = shuffled(MILLION, KEYS[0])
    made.append({"key": KEYS[0].hex(), "entries": MILLION, "pairs": [(number, places[number]) for number in SAMPLED]})
    return made


def main() -> None:
    """Writes the file."""
    rows = ",\n".join(json.dumps(one, separators=(",", ":")) for one in vectors())
    Path(__file__).with_name("draw.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    sys.stdout.write("written\n")


if __name__ == "__main__":
    main()
