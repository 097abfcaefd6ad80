"""The auditor: proves that no unit is lost or sold twice, in the store, in Postgres, and between the two. It repairs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import structlog

from flashsale.errors import FlashsaleError
from reconciler.agents import repeat

if TYPE_CHECKING:
    from flashsale.connections.database import Database
    from flashsale.settings import ReconcilerSettings
    from reconciler.journal import Journal, JournalMark
    from reconciler.metrics import ReconcilerMetrics

_log = structlog.get_logger("reconciler")


class SkuStock(Protocol):
    """Where a SKU's units are in the store."""

    @property
    def allotment(self) -> int:
        """Units given to the SKU."""
        ...

    @property
    def available(self) -> int:
        """Units nobody holds."""
        ...

    @property
    def reserved(self) -> int:
        """Units in live reservations."""
        ...

    @property
    def sold(self) -> int:
        """Units of confirmed reservations."""
        ...


class Inspection(Protocol):
    """One consistent look at a drop in the store (`inspect.lua`)."""

    @property
    def skus(self) -> Mapping[str, SkuStock]:
        """By SKU."""
        ...

    @property
    def reservations_live(self) -> int:
        """Members of the set of expiries."""
        ...


class Inspect(Protocol):
    """Looks at a drop in the store."""

    async def __call__(self, drop_id: str) -> Inspection:
        """The drop as it is now."""
        ...


class AuditWord(StrEnum):
    """What an audit came to."""

    CLEAN = "clean"
    DRIFT = "drift"
    UNFINISHED = "unfinished"
    """nothing is wrong, but the journal was moving, so store and Postgres could not be held against each other"""


@dataclass(frozen=True, slots=True)
class SkuTotals:
    """Where a SKU's units are in Postgres (one row of the query `drop_totals`)."""

    allotment: int
    sold: int
    counted_units: int
    """of orders that count as sold"""
    paid_units: int
    pending_units: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """Where the journal stood before and after the two were read."""

    before: JournalMark
    after: JournalMark

    @property
    def quiet(self) -> bool:
        """Everything that had happened was recorded, and nothing happened meanwhile."""
        return (
            self.before.oldest_unfinished_ms is None
            and self.after.oldest_unfinished_ms is None
            and self.before.last_id == self.after.last_id
        )


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing that does not add up."""

    sku: str
    """empty for the whole drop"""
    law: str
    """what should hold, in words"""
    units: int
    """by how much it does not"""


@dataclass(frozen=True, slots=True)
class SkuDifference:
    """How far Postgres is behind the store."""

    sold: int
    reserved: int


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of one audit of one drop."""

    word: AuditWord
    drifts: tuple[Drift, ...]
    behind: Mapping[str, SkuDifference]
    """by SKU, units in the store not yet in Postgres; all zero when clean"""

    @property
    def drift_units(self) -> int:
        """All drifts together."""
        return sum(abs(drift.units) for drift in self.drifts)


def audit(inspection: Inspection, totals: Mapping[str, SkuTotals], backlog: Backlog) -> AuditReport:
    """Hold the store and Postgres to their laws.

    Args:
        inspection: read after `totals`, so that Postgres can never rightly be ahead.
        totals: by SKU.
        backlog: marked before `totals` and after `inspection`.
    """
    skus = sorted({*inspection.skus, *totals})
    drifts = [drift for sku in skus for drift in _drifts_of(sku, inspection.skus.get(sku), totals.get(sku), quiet=backlog.quiet)]
    reserved = sum(stock.reserved for stock in inspection.skus.values())
    if inspection.reservations_live > reserved or (reserved > 0 and inspection.reservations_live == 0):
        drifts.append(
            Drift("", "every live reservation holds units and every reserved unit has one", reserved - inspection.reservations_live)
        )
    behind = {
        sku: SkuDifference(inspection.skus[sku].sold - totals[sku].sold, inspection.skus[sku].reserved - totals[sku].pending_units)
        for sku in skus
        if sku in inspection.skus and sku in totals
    }
    if drifts:
        return AuditReport(AuditWord.DRIFT, tuple(drifts), behind)
    return AuditReport(AuditWord.CLEAN if backlog.quiet else AuditWord.UNFINISHED, (), behind)


def _drifts_of(sku: str, stock: SkuStock | None, totals: SkuTotals | None, *, quiet: bool) -> list[Drift]:
    laws: list[tuple[str, int]] = []
    if stock is not None:
        laws += [
            ("store: allotment = available + reserved + sold", stock.available + stock.reserved + stock.sold - stock.allotment),
            ("store: no negative units", min(0, stock.available, stock.reserved, stock.sold)),
        ]
    if totals is not None:
        laws += [
            ("Postgres: sold = units of orders counted", totals.sold - totals.counted_units),
            ("Postgres: sold <= allotment", max(0, totals.sold - totals.allotment)),
        ]
    if stock is None or totals is None:
        whole = stock.allotment if stock is not None else totals.allotment if totals is not None else 0
        laws.append(("the store and Postgres know the same SKUs", whole))
    else:
        laws += [
            ("both: the same allotment", stock.allotment - totals.allotment),
            ("both: Postgres has sold no unit the store has not", min(0, stock.sold - totals.sold)),
        ]
        if quiet:
            laws += [
                ("both: the same units sold", max(0, stock.sold - totals.sold)),
                ("both: the units reserved are those of pending orders", stock.reserved - totals.pending_units),
            ]
    return [Drift(sku, law, units) for law, units in laws if units]


class Auditor:
    """Audits every live drop every `audit_interval_ms`, and tells how far the journal is behind."""

    name = "auditor"

    def __init__(
        self,
        inspect: Inspect,
        database: Database,
        journals: Callable[[], Mapping[str, Journal]],
        metrics: ReconcilerMetrics,
        settings: ReconcilerSettings,
    ) -> None:
        self._inspect = inspect
        self._database = database
        self._journals = journals
        self._metrics = metrics
        self._settings = settings
        self._last: dict[str, AuditReport] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Audit until stopping."""
        await repeat(self.name, self._settings.audit_interval_ms, self.audit_all, stop)

    async def audit_all(self) -> None:
        """Audit every live drop once. One that cannot be read now is skipped and said."""
        journals = self._journals()
        self._last = {drop_id: report for drop_id, report in self._last.items() if drop_id in journals}
        for drop_id, journal in journals.items():
            try:
                self._tell(drop_id, await self.audit_drop(drop_id, journal))
            except FlashsaleError as error:
                _log.warning("audit_skipped", drop=drop_id, code=error.code, error=str(error))

    async def audit_drop(self, drop_id: str, journal: Journal) -> AuditReport:
        """Audit one drop now.

        Raises:
            FlashsaleError: the store or Postgres cannot be read.
        """
        before = await journal.mark()
        rows = await self._database.fetch("drop_totals", drop_id)
        inspection = await self._inspect(drop_id)
        after = await journal.mark()
        totals = {
            row["sku"]: SkuTotals(row["allotment"], row["sold"], row["counted_units"], row["paid_units"], row["pending_units"])
            for row in rows
        }
        return audit(inspection, totals, Backlog(before, after))

    def _tell(self, drop_id: str, report: AuditReport) -> None:
        self._metrics.audit_drift_units.labels(drop_id).set(report.drift_units)
        changed = drop_id not in self._last or self._last[drop_id].drifts != report.drifts
        self._last[drop_id] = report
        if report.word is AuditWord.DRIFT:
            _log.error("audit_drift", drop=drop_id, units=report.drift_units, drifts=[_words(drift) for drift in report.drifts])
        elif changed:
            _log.info("audit", drop=drop_id, word=report.word)


def _words(drift: Drift) -> str:
    return f"{drift.sku or 'drop'}: {drift.law}: {drift.units:+d}"
