"""A drop as a report sees it, played by the plainest rules: places are called evenly, some come, those who come buy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from admission.log import Called, Claimed, Cut, Event, Left, Removed, Returned
from admission.report_shapes import LineTotals, Totals
from admission.serving import ServingDocument
from flashsale.model import Drop, DropState, Sku

OPENS_AT_MS = 1_800_000_000_000
DROP = Drop(
    drop_id="trial",
    name="A <trial>",
    currency="EUR",
    skus=(Sku("poster", "Poster", 300, 1900, 1),),
    joins_at_ms=OPENS_AT_MS - 600_000,
    opens_at_ms=OPENS_AT_MS,
    closes_at_ms=OPENS_AT_MS + 3_600_000,
    rate_per_min=300,
    capacity=100,
    claim_window_ms=30_000,
    reservation_ttl_ms=300_000,
    limit_per_shopper=1,
)


def document(at_ms: int, **fields: Any) -> ServingDocument:
    """A serving document `at_ms` after the opening."""
    known: dict[str, Any] = {
        "drop": DROP.drop_id,
        "epoch": 1,
        "state": "open" if at_ms >= 0 else "waiting",
        "now_ms": OPENS_AT_MS + at_ms,
        "opens_at_ms": OPENS_AT_MS,
        "closes_at_ms": DROP.closes_at_ms,
        "joined": 0,
        "entries": 0,
        "key": None,
        "serving_number": 0,
        "rate_per_min": DROP.rate_per_min,
        "available": {"poster": 300},
        "reserved": {"poster": 0},
        "sold_out": False,
        "cut_line": None,
        "poll": {"floor_ms": 1000, "ceiling_ms": 30_000, "divisor": 20},
        "notice": None,
    }
    return msgspec.convert(known | fields, ServingDocument)


def totals(joined: int, entries: int, state: DropState = DropState.CLOSED, **fields: Any) -> Totals:
    """Where the drop stands, with one line."""
    known: dict[str, Any] = {
        "at_ms": OPENS_AT_MS + 3_600_000,
        "state": state,
        "opens_at_ms": OPENS_AT_MS,
        "admitted": 0,
        "allotment": 300,
        "available": 300,
        "reserved": 0,
        "sold": 0,
        "lines": (LineTotals("", joined, entries),),
    }
    return Totals(**known | fields)


@dataclass(frozen=True, slots=True)
class Told:
    """What a place was told."""

    eta_ms: tuple[int, int] | None
    chance: float | None


def tell(shown: ServingDocument, place: int) -> Told:
    """An oracle that knows the rate, and how many places the stock reaches, roughly."""
    wait_ms = max(0, place - shown.serving_number) * 60_000 // shown.rate_per_min
    return Told((wait_ms * 8 // 10, wait_ms * 12 // 10 + 1_000), max(0.0, min(1.0, (520 - place) / 200)))


class PlayedDrop:
    """600 join before the opening and 150 after it; 300 posters; three in ten never come. The same seed, the same drop."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.joined, self.entries = 750, 600
        self.samples = [document(at_ms, joined=min(600, 660 + at_ms // 500), entries=0) for at_ms in range(-300_000, 0, 2_000)]
        self.sold = 0
        self.events = list(self._play())
        self.totals = totals(self.joined, self.entries, available=0, sold=self.sold, admitted=self.sold)

    def _play(self) -> Iterator[Event]:
        serving, at_ms, coming = 0, 0, list[tuple[int, int, int]]()
        while self.sold < 300:
            at_ms += 200
            if serving < self.joined:
                yield Called(OPENS_AT_MS + at_ms, serving, serving + 1)
                if self._random.random() >= 0.3:
                    wait_ms = int(self._random.expovariate(1 / 3_000))
                    coming.append((at_ms + wait_ms, serving, wait_ms))
                serving += 1
            for one in sorted(one for one in coming if one[0] <= at_ms):
                coming.remove(one)
                if self.sold < 300:
                    self.sold += 1
                    yield Claimed(OPENS_AT_MS + at_ms, (one[1],), (one[2],))
            if not at_ms % 2_000:
                self.samples.append(self._sample(at_ms, serving))
        yield Returned(OPENS_AT_MS + at_ms, (3,))
        yield Left(OPENS_AT_MS + at_ms, (700,))
        yield Removed(OPENS_AT_MS + at_ms, (701, 702), "a bot")
        yield Cut(OPENS_AT_MS + at_ms, (serving,), "sold_out")
        self.samples.append(self._sample(at_ms + 1_000, serving))

    def _sample(self, at_ms: int, serving: int) -> ServingDocument:
        joined = min(self.joined, self.entries + at_ms // 400)
        reserved = min(20, 300 - self.sold)
        left = {"available": {"poster": 300 - self.sold - reserved}, "reserved": {"poster": reserved}}
        return document(at_ms, joined=joined, entries=self.entries, serving_number=serving, **left)
