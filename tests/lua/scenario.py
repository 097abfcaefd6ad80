"""A scenario: where a script starts, what it is asked, what it must answer, and all that may be different afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.lua.dump import NEVER_ADMITTED, NOTHING_SPECIAL
from tests.lua.world import World, t

Start = Callable[[World], Awaitable[None]]
HOT = frozenset({"join", "admit", "reserve", "confirm", "release", "extend", "restore"})
"""Scripts that take an array of requests and answer with an array of results."""


@dataclass(frozen=True)
class Scenario:
    """One script, one outcome."""

    script: str
    outcome: str
    start: Start
    asked: tuple[Any, ...]
    """the arguments after the envelope"""
    answer: list[Any] | None
    """the result, or None where the test of the outcome word is enough"""
    after_ms: int | None = None
    """the time of the call, when it is not that of the start"""
    when: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    """as `tests.lua.dump.changed` takes them"""
    counted: dict[str, int] = field(default_factory=dict)
    """refusals that are counted every time, also when the same request comes again"""
    replay: str = ""
    """the outcome of the same call repeated; the same outcome when empty"""
    quiet: bool = False
    """the changes are none that anybody is told of, so the sequence stays as it is"""

    @property
    def name(self) -> str:
        """For the list of tests."""
        return " ".join(part for part in (self.script, self.outcome, self.when) if part)


def transition(kind: str, **fields: Any) -> dict[str, Any]:
    """A journal transition of ann's r1, the most common one, with other `fields`."""
    usual = {
        "kind": kind,
        "reservation_id": "r1",
        "at_ms": t(1_000),
        "request_id": "",
        "ticket_id": "ann",
        "number": 0,
        "items": [["s1", 1], ["s2", 1]],
        "amount_minor": 1_500,
        "reserved_at_ms": t(1_000),
        "expires_at_ms": t(61_000),
        "payment_reference": "",
        "reason": "",
    }
    assert fields.keys() <= usual.keys()
    return usual | fields


def entry(*transitions: dict[str, Any], stock_changes: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A journal entry; the test adds the number of its sequence."""
    return ({"transitions": list(transitions)} if transitions else {}) | ({"stock_changes": stock_changes} if stock_changes else {})


def stock_change(change_id: str, sku: str, delta: int, allotment: int, after_ms: int, reason: str) -> dict[str, Any]:
    """A change of a SKU's allotment as journalled."""
    return {"change_id": change_id, "sku": sku, "delta": delta, "allotment": allotment, "at_ms": t(after_ms), "reason": reason}


def reservation(**fields: Any) -> dict[str, Any]:
    """Ann's r1 as recorded, with other `fields`."""
    usual = {
        "state": 1,
        "ticket_id": "ann",
        "number": 0,
        "items": [["s1", 1], ["s2", 1]],
        "amount_minor": 1_500,
        "reserved_at_ms": t(1_000),
        "expires_at_ms": t(61_000),
        "payment_reference": "",
        "request_id": "q-r1",
        "confirm_key": "",
        "extend_key": "",
        "surplus": [],
    }
    assert fields.keys() <= usual.keys()
    return usual | fields


def ticket(place: int, **fields: Any) -> dict[str, Any]:
    """A fresh ticket as recorded, with other `fields`."""
    usual: dict[str, Any] = {"place": place, "late": 0, "joined_at_ms": t(-5_000), **NEVER_ADMITTED, **NOTHING_SPECIAL}
    assert fields.keys() <= usual.keys()
    return usual | fields
