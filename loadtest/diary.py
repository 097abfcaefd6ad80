"""What a crowd saw: every answer counted, everything acknowledged written down. Nothing here is estimated."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

BUCKETS_PER_E = 20
"""Answer times are counted in buckets 5 % wide, so a crowd of any size needs little memory."""
EXAMPLES_MAX = 20
LOTS_MAX = 2000

RETRY_LATER = ("busy", "unknown", "recovering", "store_unavailable")
"""503s that honestly ask for a repetition"""


def asks_to_repeat(operation: str, code: str) -> bool:
    """Whether a 503 is an honest one.

    Shoppers never hear of Postgres. Their shop does when it pays or asks for an order, from a worker that began while Postgres was away and
    knows no keys yet.
    """
    return code in RETRY_LATER or (operation in ("confirm", "order") and code == "database_unavailable")


class Times:
    """Answer times of one kind of request."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._longest_ms = 0.0

    def add(self, took_ms: float) -> None:
        """Counts one."""
        self._buckets[math.ceil(math.log(max(took_ms, 0.01)) * BUCKETS_PER_E)] += 1
        self._longest_ms = max(self._longest_ms, took_ms)

    def percentile(self, share: float) -> float:
        """The time, in ms and at most 5 % too high, within which `share` of the answers came; 0 when there were none."""
        rank, seen = math.ceil(self._buckets.total() * share), 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return round(min(math.exp(bucket / BUCKETS_PER_E), self._longest_ms), 2)
        return 0.0

    def summary(self) -> dict[str, float]:
        """Percentiles and the longest, in ms."""
        return {"p50": self.percentile(0.5), "p95": self.percentile(0.95), "p99": self.percentile(0.99), "max": round(self._longest_ms, 2)}


@dataclass(slots=True)
class Diary:
    """The records of one crowd."""

    answers: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """operation to "status code" to count"""
    times: defaultdict[str, Times] = field(default_factory=lambda: defaultdict(Times))
    http_5xx: int = 0
    retry_later: Counter[str] = field(default_factory=Counter)
    """of the 5xx, those that asked for a repetition"""
    lost: Counter[str] = field(default_factory=Counter)
    """requests without an answer, by operation: they may or may not have taken effect"""
    not_sent: Counter[str] = field(default_factory=Counter)
    joined: dict[int, str] = field(default_factory=dict)
    """shopper to ticket"""
    admitted: set[int] = field(default_factory=set)
    commitment: str = ""
    """to the draw's secret, as the drop's description showed it; empty without a draw"""
    lots: dict[str, tuple[int, int]] = field(default_factory=dict)
    """ticket to the entry number it was given and the queue number its shopper drew, of the first who were served"""
    reservations: dict[str, int] = field(default_factory=dict)
    """acknowledged reservations: id to units"""
    confirmed: dict[str, int] = field(default_factory=dict)
    """acknowledged payments: reservation id to the status, 200 or 202"""
    payments_refused: Counter[str] = field(default_factory=Counter)
    restored: Counter[str] = field(default_factory=Counter)
    """receipts of places shown, and reservations they gave back, after a loss"""
    released: set[str] = field(default_factory=set)
    empty_handed: list[dict[str, Any]] = field(default_factory=list)
    """shoppers who left because everything was sold or reserved: what they wanted and when they left"""
    endings: Counter[str] = field(default_factory=Counter)
    """how each visit ended"""
    broken_promises: list[str] = field(default_factory=list)
    """what the service must never do, with the first examples"""
    broken: int = 0

    def answered(self, operation: str, status: int, code: str, took_ms: float) -> None:
        """Notes an answer."""
        self.answers[operation][f"{status} {code}".rstrip()] += 1
        self.times[operation].add(took_ms)
        if status >= 500:
            self.http_5xx += 1
            if asks_to_repeat(operation, code):
                self.retry_later[code] += 1

    def drew(self, ticket_id: str, entry_number: int, queue_number: int) -> None:
        """Notes which queue number a shopper was served by."""
        if ticket_id in self.lots or len(self.lots) < LOTS_MAX:
            self.lots[ticket_id] = (entry_number, queue_number)

    def promise_broken(self, what: str) -> None:
        """Notes something the service must never do."""
        self.broken += 1
        if len(self.broken_promises) < EXAMPLES_MAX:
            self.broken_promises.append(what)

    def left_empty_handed(self, wanted: Sequence[tuple[str, int]], at_ms: int) -> None:
        """Notes that a shopper left at `at_ms` (ms since the epoch) with nothing, told that nothing is left."""
        self.empty_handed.append({"wanted": [list(item) for item in wanted], "left_at_ms": at_ms})

    def result(self) -> dict[str, Any]:
        """Everything, as it goes into the result file."""
        return {
            "joined": len(self.joined),
            "admitted": len(self.admitted),
            "commitment": self.commitment,
            "lots": self.lots,
            "http_5xx": self.http_5xx,
            "retry_later": dict(self.retry_later),
            "lost_answers": dict(self.lost),
            "not_sent": dict(self.not_sent),
            "answers": {operation: dict(sorted(counts.items())) for operation, counts in sorted(self.answers.items())},
            "times_ms": {operation: times.summary() for operation, times in sorted(self.times.items())},
            "endings": dict(self.endings),
            "reservations": self.reservations,
            "confirmed": self.confirmed,
            "payments_refused": dict(self.payments_refused),
            "restored": dict(self.restored),
            "released": sorted(self.released),
            "empty_handed": self.empty_handed,
            "broken_promises": self.broken,
            "broken_promises_examples": self.broken_promises,
        }
