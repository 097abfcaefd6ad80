"""What the reconciler counts. The only label is the drop, and a drop that is gone takes its series along."""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from reconciler.laws import DriftKind

BATCH_SECONDS_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15)


class ReconcilerMetrics:
    """The metrics of one reconciler process, in the registry it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        drop = ("drop",)
        self.orders_recorded = Counter(
            "flashsale_orders_recorded", "Orders that were new in Postgres or changed their state.", drop, registry=registry
        )
        self.orders_paid = Counter("flashsale_orders_paid", "Orders that became paid.", drop, registry=registry)
        self.refunds_due = Counter(
            "flashsale_allotment_refusals", "Payments the allotment in Postgres had no units for.", drop, registry=registry
        )
        self.batch_seconds = Histogram(
            "flashsale_batch_seconds",
            "From a batch being read to its commit, waiting for Postgres included.",
            drop,
            buckets=BATCH_SECONDS_BUCKETS,
            registry=registry,
        )
        self.journal_oldest_age = Gauge(
            "flashsale_journal_oldest_age_seconds",
            "Age of the oldest journal entry that is not in Postgres yet; 0 when all are.",
            drop,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.dead_letters = Counter("flashsale_dead_letters", "Journal entries moved to the dead-letter stream.", drop, registry=registry)
        self.overtaken_entries = Counter(
            "flashsale_journal_overtaken",
            "Journal entries of an epoch that the drop had left when they were to be recorded; payments among them wait for a person.",
            drop,
            registry=registry,
        )
        self.vanished_entries = Counter(
            "flashsale_journal_vanished", "Journal entries somebody deleted before they were recorded.", drop, registry=registry
        )
        self.expired = Counter("flashsale_expired", "Reservations ended because they were overdue.", drop, registry=registry)
        self.drift_units = Gauge(
            "flashsale_drift_units",
            "Units the last audit could not account for, by what does not add up; anything but 0 is a defect.",
            ("drop", "kind"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.outbox_waiting = Gauge(
            "flashsale_outbox_waiting",
            "Events written for webhooks to merchants, which are not built yet, counted up to a bound; no alarm.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.drops_not_followed = Gauge(
            "flashsale_drops_not_followed",
            "Live drops beyond what one reconciler works on; nobody records their orders.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.refunds_done = Counter("flashsale_refunds_done", "Payments that went back.", registry=registry)
        self.refunds_refused = Counter("flashsale_refunds_refused", "Refunds a provider refused for good.", registry=registry)
        self.refund_oldest_age = Gauge(
            "flashsale_refund_oldest_age_seconds",
            "Age of the oldest payment that is due to go back and has not; 0 when there is none.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.refunds_for_people = Gauge(
            "flashsale_refunds_for_people",
            "Payments a person has to decide about: held or refused ones, counted up to a bound.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.recovering = Gauge(
            "flashsale_drop_recovering",
            "1 while the store does not hold the drop as Postgres remembers it: nothing is sold until somebody recovers it.",
            drop,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.store_clock_step = Gauge(
            "flashsale_store_clock_step_seconds",
            "How far the store's clock stepped between two looks; above 60 reservations are not ended any more.",
            drop,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._of_drop = (
            self.recovering,
            self.store_clock_step,
            self.orders_recorded,
            self.orders_paid,
            self.refunds_due,
            self.batch_seconds,
            self.journal_oldest_age,
            self.dead_letters,
            self.overtaken_entries,
            self.vanished_entries,
            self.expired,
        )

    def clock_stepped(self, drop_id: str, step_ms: int) -> None:
        """Note a look at the store's clock."""
        self.store_clock_step.labels(drop_id).set(step_ms / 1000)

    def forget(self, drop_id: str) -> None:
        """Drop the series of a drop that is no longer worked on here."""
        for metric in self._of_drop:
            with suppress(KeyError):
                metric.remove(drop_id)
        for kind in DriftKind:
            with suppress(KeyError):
                self.drift_units.remove(drop_id, kind.value)
