"""A drop's picture for tests of what is worked out from it."""

from __future__ import annotations

from typing import Any

from flashsale.model import DropState, Flow, SkuStock, Snapshot

NOW_MS = 1_800_000_000_000


def snapshot(**changes: Any) -> Snapshot:
    """A drop that has been open for a second, with `changes`."""
    usual: dict[str, Any] = {
        "drop_id": "d", "now_ms": NOW_MS, "state": DropState.OPEN, "epoch": 2, "joins_at_ms": NOW_MS - 9_000, "opens_at_ms": NOW_MS - 1_000,
        "closes_at_ms": NOW_MS + 600_000, "rate_per_min": 600, "capacity": 10, "joined": 100, "entries": 40, "key": "",
        "serving_number": 20, "admitted": 10, "active": 5, "returning": 0, "reservations_live": 3, "overdue": 0, "notice": "",
        "digest": "x", "skus": {"s1": SkuStock(10, 4, 3, 3), "s2": SkuStock(5, 0, 0, 5)}, "flow": Flow(),
    }  # fmt: skip
    return Snapshot(**(usual | changes))
