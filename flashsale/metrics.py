"""Prometheus metrics with a small fixed label set.

Workers of one machine share the folder `PROMETHEUS_MULTIPROC_DIR` when it is set, so that scraping any of them shows all.
"""

from __future__ import annotations

import os

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROC_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Every metric of an API worker; the reconciler has its own in `reconciler.metrics`. Made where the process is put together."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self.requests = Counter(
            "flashsale_requests_total",
            "Requests answered, by route, status class and outcome (a problem's code, or ok).",
            ("route", "status", "outcome"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "flashsale_request_seconds",
            "Time from a request's head to its answer.",
            ("route",),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self.short_answers = Counter(
            "flashsale_short_answers_total", "Serving documents answered in front of the router.", registry=self.registry
        )
        self.store_circuit_open = Gauge(
            "flashsale_store_circuit_open",
            "Circuits to the store that are open: it does not answer, and calls are refused at once.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.connections = Gauge("flashsale_connections", "Open connections.", registry=self.registry, multiprocess_mode="livesum")
        self.connections_refused = Counter(
            "flashsale_connections_refused_total", "Connections closed at once because there were too many.", registry=self.registry
        )

    def store_circuit_changed(self, is_open: bool) -> None:  # noqa: FBT001 - the state
        """A circuit has opened or closed."""
        self.store_circuit_open.inc(1 if is_open else -1)

    def render(self) -> bytes:
        """As the function."""
        return render(self.registry)


def render(registry: CollectorRegistry) -> bytes:
    """Everything in the text format of Prometheus; of all processes that share the folder, when one is set."""
    if os.environ.get(MULTIPROC_VARIABLE):
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
    return generate_latest(registry)
