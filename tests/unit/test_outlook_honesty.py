"""What was said, over drops of many kinds, against what came true. `python -m loadtest.bench.outlook` does more of them."""

from __future__ import annotations

from loadtest.bench.outlook import Look, run, score


def look(low_ms: int | None, high_ms: int | None, called_after_ms: float | None, chance: float | None = None) -> Look:
    return Look(0, 0, low_ms, high_ms, chance, called_after_ms)


def test_a_score_counts_what_came_true() -> None:
    found = score([look(0, 10, 5), look(0, 10, 11), look(6, 10, 5), look(6, 10, None), look(None, None, 3)])
    assert (found.looks, found.covered, found.too_early, found.too_late) == (5, 1 - 2 / 3, 1 / 3, 1 / 3)


def test_a_score_sets_chances_beside_what_was_reached() -> None:
    found = score([look(None, None, 1, 0.91), look(None, None, None, 0.99), look(None, None, 1, 1.0), look(None, None, None, 0.0)])
    assert found.deciles[0] == (1, 0.0, 0.0)
    assert found.deciles[9] == (3, (0.91 + 0.99 + 1.0) / 3, 2 / 3)


def test_ranges_and_chances_are_honest() -> None:
    found = run(drops=20, seed=1)
    assert 0.75 <= found.covered <= 0.95
    for looks, said, reached in found.deciles:
        assert looks < 100 or abs(said - reached) <= 0.15
    assert found.deciles[0][2] < 0.05
    assert found.deciles[9][2] > 0.95
