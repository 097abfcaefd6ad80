"""Whether coming early helps in a draw, and what a draw costs: `python -m loadtest.bench.fairness`.

Deciles of arrival against deciles of place, over many draws with keys from a seed. Fair draws fill the table evenly; the
chi-square statistic of its 81 degrees of freedom stays below 113.5 in 99 of 100 runs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from admission.draw import Draw, EntriesTree

CHI_SQUARE_99 = 113.51
"""99 % bound for (10 - 1)² = 81 degrees of freedom"""
DECILES = 10
CALLS = 20_000


def decile_table(rng: random.Random, *, draws: int, entries: int) -> list[list[int]]:
    """How many of each decile of arrival (rows) got a place in each decile of the line (columns)."""
    table = [[0] * DECILES for _ in range(DECILES)]
    for _ in range(draws):
        draw = prepared(rng.randbytes(32), entries)
        for entry in range(entries):
            table[entry * DECILES // entries][draw.queue_number(entry) * DECILES // entries] += 1
    return table


def chi_square(table: Sequence[Sequence[int]]) -> float:
    """Pearson's statistic against an even table."""
    expected = sum(map(sum, table)) / DECILES**2
    return sum((seen - expected) ** 2 / expected for row in table for seen in row)


def prepared(key: bytes, entries: int) -> Draw:
    """A draw whose calls are fast."""
    draw = Draw(key, entries)
    for _ in draw.prepare():
        pass
    return draw


def costs(rng: random.Random, entries: int) -> dict[str, Any]:
    """What a draw of `entries` costs: to prepare, in one slice at most, and for one number."""
    draw = Draw(rng.randbytes(32), entries)
    slices_ms = []
    before = time.perf_counter()
    for _ in draw.prepare():
        slices_ms.append(1000 * (time.perf_counter() - before))
        before = time.perf_counter()
    numbers = [rng.randrange(entries) for _ in range(CALLS)]
    hashes = [rng.randbytes(32) for _ in range(1_000)]
    cold = Draw(draw.key, entries)
    return {
        "entries": entries,
        "prepare_ms": round(sum(slices_ms), 1),
        "longest_slice_ms": round(max(slices_ms), 2),
        "queue_number_us": round(_each_us(draw.queue_number, numbers), 1),
        "entry_number_us": round(_each_us(draw.entry_number, numbers), 1),
        "queue_number_unprepared_us": round(_each_us(cold.queue_number, numbers[:1_000]), 1),
        "tree_add_us": round(_each_us(lambda one: EntriesTree().add([one]), hashes), 2),
    }


def _each_us(call: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    start = time.perf_counter()
    for argument in arguments:
        call(argument)
    return 1e6 * (time.perf_counter() - start) / len(arguments)


def main() -> None:
    """Prints one line of JSON for each size, and one for the statistic; ends with 1 when it is out of bounds."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--draws", type=int, default=200)
    options.add_argument("--entries", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=7)
    chosen = options.parse_args()
    rng = random.Random(chosen.seed)
    for entries in (50_000, 1_000_000):
        sys.stdout.write(json.dumps(costs(rng, entries)) + "\n")
    found = chi_square(decile_table(rng, draws=chosen.draws, entries=chosen.entries))
    row = {"draws": chosen.draws, "entries": chosen.entries, "seed": chosen.seed, "chi_square": round(found, 1), "bound_99": CHI_SQUARE_99}
    sys.stdout.write(json.dumps(row) + "\n")
    sys.exit(int(found >= CHI_SQUARE_99))


if __name__ == "__main__":
    main()
