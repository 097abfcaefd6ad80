"""Bands of reservations by age, and the errors of a worker's last minute."""

from __future__ import annotations

from flashsale.metrics import Metrics
from flashsale.web.live_view import AGE_BANDS, AgeBand, age_bands, age_bounds_s
from flashsale.web.worker_errors import POINTS_MAX, WorkerErrors


def test_bands_divide_a_reservations_life() -> None:
    assert age_bounds_s(120_000) == [24, 48, 72, 96, 120]
    assert age_bounds_s(10_000) == [2, 4, 6, 8, 10]
    assert age_bounds_s(11_000)[-1] == 11
    assert len(age_bounds_s(61_001)) == AGE_BANDS


def test_bands_make_up_all_there_are() -> None:
    bounds = age_bounds_s(120_000)
    assert [band.count for band in age_bands(bounds, [3, 3, 7, 9], 12)] == [3, 0, 4, 2, 3]
    assert age_bands(bounds, [0, 0, 0, 0], 0)[0] == AgeBand(24, 0)
    torn = age_bands(bounds, [3, 5, 9, 9], 8)
    assert sum(band.count for band in torn) == 8, "the counts were taken a moment after the total"
    assert min(band.count for band in torn) >= 0


def test_errors_are_counted_by_code_for_a_minute() -> None:
    metrics = Metrics()
    metrics.requests.labels("join", "4xx", "sold_out").inc(5)
    errors = WorkerErrors(metrics)
    assert errors.last_min() == {}, "from before it began to look"
    metrics.requests.labels("join", "2xx", "ok").inc(100)
    metrics.requests.labels("join", "4xx", "sold_out").inc(2)
    metrics.requests.labels("reserve", "4xx", "sold_out").inc(1)
    metrics.requests.labels("reserve", "5xx", "unknown").inc(1)
    assert list(errors.last_min().items()) == [("sold_out", 3), ("unknown", 1)]
    for _ in range(POINTS_MAX):
        errors.note()
    assert errors.last_min() == {}, "a minute has gone by"
