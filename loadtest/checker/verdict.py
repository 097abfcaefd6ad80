"""All checks together, and what they came to."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec import Struct

from loadtest.checker.bounds import check_bounds
from loadtest.checker.exact import check_exact
from loadtest.checker.ledger import check_ledger
from loadtest.checker.model import Rules, understand
from loadtest.checker.sets import check_sets
from loadtest.checker.state import FinalState
from loadtest.checker.violations import Name, Violation
from loadtest.history import Event, read_history

EXAMPLES_MAX = 20
"""violations of each name that are told; all are counted"""


class Verdict(Struct, frozen=True):
    """What a history proves."""

    drop: str
    events: int
    operations: int
    unknown: int
    """operations nobody can tell the effect of"""
    reservations: int
    exact: dict[str, int]
    """partitions searched exhaustively: decided, passed over, given up"""
    violations: dict[Name, int]
    """how often each promise was broken; empty when all were kept"""
    examples: list[dict[str, Any]]

    @property
    def kept(self) -> bool:
        """Whether every promise was kept, as far as the history can tell."""
        return not self.violations

    @property
    def names(self) -> set[Name]:
        """The promises that were broken."""
        return set(self.violations)


def check(events: Iterable[Event], state: FinalState, rules: Rules | None = None) -> Verdict:
    """Holds a history against the final state.

    Args:
        events: of all processes, in ascending order of `at_ns`.
        state: of the drop, read after everything had come to rest.
        rules: what the service promises, and what was done to it.

    Raises:
        HistoryBroken: the events are no history.
    """
    rules = rules or Rules()
    history = understand(events, state, rules)
    exact, searched = check_exact(history, state, rules)
    counts: Counter[Name] = Counter()
    examples: list[dict[str, Any]] = []
    found: Iterable[Violation] = chain(
        check_bounds(history, state, rules), exact, check_sets(history, state, rules), check_ledger(history, state, rules)
    )
    for violation in found:
        counts[violation.name] += 1
        if counts[violation.name] <= EXAMPLES_MAX:
            examples.append({"name": violation.name, "sentence": violation.sentence, "operations": list(violation.operations)})
    return Verdict(
        drop=state.drop_id,
        events=history.events,
        operations=history.operations,
        unknown=history.unknown,
        reservations=len(state.reservations),
        exact=searched,
        violations=dict(counts),
        examples=examples,
    )


def read_histories(paths: Sequence[Path]) -> Iterable[Event]:
    """The events of all files as one history, in order of time. Raises as `read_history` does."""
    return heapq.merge(*(read_history(path) for path in paths), key=lambda event: event.at_ns)
