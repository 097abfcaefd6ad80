"""A fault puts an expiry off until two seconds after it has healed, and excuses nothing else."""

from __future__ import annotations

import pytest

from loadtest.checker.model import Rules, Window

EXPIRES_MS = 10_000
GRACE_MS = Rules().expiry_grace_ms


@pytest.mark.parametrize(
    ("faults", "due_ms"),
    [
        ([], EXPIRES_MS + GRACE_MS),
        ([(5_000, 9_000)], EXPIRES_MS + GRACE_MS),
        ([(5_000, 15_000)], 15_000 + GRACE_MS),
        ([(11_000, 15_000)], 15_000 + GRACE_MS),
        ([(12_001, 15_000)], EXPIRES_MS + GRACE_MS),  # it was late before that
        ([(16_500, 18_000), (9_000, 15_000)], 18_000 + GRACE_MS),
        ([(9_000, 15_000), (17_001, 18_000)], 15_000 + GRACE_MS),
        ([(0, 30_000), (5_000, 9_000)], 30_000 + GRACE_MS),
    ],
)
def test_an_expiry_is_put_off_by_the_faults_that_strike_before_it_is_due(faults: list[tuple[int, int]], due_ms: int) -> None:
    rules = Rules(faults=tuple(Window(*span) for span in faults))
    assert not rules.is_late(EXPIRES_MS, due_ms)
    assert rules.is_late(EXPIRES_MS, due_ms + 1)
