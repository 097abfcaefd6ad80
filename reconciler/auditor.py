"""The auditor: proves that no unit is lost or sold twice, in the store, in Postgres, and between the two.

It repairs nothing. A drop that does not add up is paused, so that nobody buys what may not exist; the others go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
import structlog

from flashsale.errors import FlashsaleError
from flashsale.log import Trouble
from reconciler.agents import repeat
from reconciler.evidence import NotComparable
from reconciler.laws import Drift, DriftKind, found, records_differ

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping

    from flashsale.connections.database import Database
    from flashsale.settings import ReconcilerSettings
    from reconciler.evidence import Counters, Evidence
    from reconciler.lost_commits import LostCommits
    from reconciler.metrics import ReconcilerMetrics

_log = structlog.get_logger("reconciler")


class AuditWord(StrEnum):
    """What an audit came to."""

    CLEAN = "clean"
    DRIFT = "drift"
    UNFINISHED = "unfinished"
    """nothing is known to be wrong, but the two stores could not be held against each other"""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of one audit of one drop."""

    word: AuditWord
    drifts: tuple[Drift, ...] = ()
    why: str = ""
    """why it is unfinished"""

    @property
    def drift_units(self) -> int:
        """All drifts together."""
        return sum(abs(drift.units) for drift in self.drifts)


async def audit(evidence: Evidence) -> AuditReport:
    """Audit one drop completely: every reservation held against its order.

    Raises:
        Recovering: the store does not hold the drop.
        StoreUnavailable, DatabaseUnavailable: one side cannot be read.
    """
    try:
        drifts = (await evidence.reservations()).drifts()
    except NotComparable as error:
        return AuditReport(AuditWord.UNFINISHED, why=str(error))
    return AuditReport(AuditWord.DRIFT if drifts else AuditWord.CLEAN, tuple(drifts))


class Auditor:
    """Audits every live drop every `audit_interval_ms`.

    Each round looks at the counters. Only when they differ, or when the number of reservations differs from that of orders
    by another number than before, the reservations are looked at one by one; what that look confirms is drift.
    """

    name = "auditor"

    def __init__(
        self,
        evidence: Callable[[], Mapping[str, Evidence]],
        pause: Callable[[str], Awaitable[bool]],
        database: Database,
        metrics: ReconcilerMetrics,
        settings: ReconcilerSettings,
        lost_commits: LostCommits,
    ) -> None:
        """Puts it together.

        Args:
            evidence: of the live drops.
            pause: pauses a drop; True when it was open until now.
            database: where reports are left.
            metrics: what is counted.
            settings: how often.
            lost_commits: asked before a drop is paused: what is to be read again from the journal is no drift.
        """
        self._evidence = evidence
        self._pause = pause
        self._database = database
        self._metrics = metrics
        self._settings = settings
        self._lost_commits = lost_commits
        self._last: dict[str, AuditReport] = {}
        self._difference: dict[str, int] = {}
        self._skipped: dict[str, Trouble] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Audit until stopping."""
        await repeat(self.name, self._settings.audit_interval_ms, self.audit_all, stop)

    async def audit_all(self) -> None:
        """Audit every live drop once. One that cannot be read now is skipped and said."""
        live = self._evidence()
        self._last = {drop_id: report for drop_id, report in self._last.items() if drop_id in live}
        self._difference = {drop_id: number for drop_id, number in self._difference.items() if drop_id in live}
        self._skipped = {drop_id: trouble for drop_id, trouble in self._skipped.items() if drop_id in live}
        for drop_id, evidence in live.items():
            skipped = self._skipped.setdefault(drop_id, Trouble(_log, "audit_skipped", "audit_resumed", drop=drop_id))
            try:
                report = await self._audit(drop_id, evidence)
                await self._act(drop_id, report)
                skipped.passed()
            except FlashsaleError as error:
                skipped.met(code=error.code, error=str(error))

    async def _audit(self, drop_id: str, evidence: Evidence) -> AuditReport:
        noticed = self._lost_commits.noticed
        try:
            counters = await evidence.counters()
        except NotComparable as error:
            return AuditReport(AuditWord.UNFINISHED, why=str(error))
        if not self._suspicious(drop_id, counters):
            return AuditReport(AuditWord.CLEAN)
        report = await audit(evidence)
        if report.word is AuditWord.DRIFT and await self._is_being_mended(noticed):
            return AuditReport(AuditWord.UNFINISHED, why="Postgres has lost commits; the kept journal is read again.")
        if report.word is AuditWord.CLEAN:
            # Nothing is wrong with this difference, as after a recovery that left out reservations which had ended.
            self._difference[drop_id] = records_differ(counters.store, counters.postgres, counters.window)
        return report

    async def _is_being_mended(self, noticed: int) -> bool:
        """Whether Postgres was found somewhere else since so many times were noticed: the look is not worth anything then."""
        await self._lost_commits.look()
        return self._lost_commits.noticed != noticed

    def _suspicious(self, drop_id: str, counters: Counters) -> bool:
        difference = records_differ(counters.store, counters.postgres, counters.window)
        return bool(counters.drifts()) or difference != self._difference.get(drop_id, 0)

    async def _act(self, drop_id: str, report: AuditReport) -> None:
        paused = report.word is AuditWord.DRIFT and await self._pause(drop_id)
        self._measure(drop_id, report)
        self._say(drop_id, report, paused=paused)
        findings = msgspec.json.encode(found(report.drifts)).decode()
        await self._database.execute("audit_record", drop_id, report.word, findings, paused)

    def _measure(self, drop_id: str, report: AuditReport) -> None:
        if report.word is AuditWord.UNFINISHED:
            return
        units = dict.fromkeys(DriftKind, 0)
        for drift in report.drifts:
            # A drift without units still has to be seen.
            units[drift.kind] += abs(drift.units) or 1
        for kind, total in units.items():
            self._metrics.drift_units.labels(drop_id, kind.value).set(total)

    def _say(self, drop_id: str, report: AuditReport, *, paused: bool) -> None:
        before = self._last.get(drop_id)
        self._last[drop_id] = report
        if before == report and not paused:
            return
        if report.word is AuditWord.DRIFT:
            _log.error(
                "audit_drift",
                drop=drop_id,
                units=report.drift_units,
                drifts=[str(drift) for drift in report.drifts],
                paused=paused,
                todo=f"flashsale audit {drop_id}; flashsale repair {drop_id}",
            )
        else:
            _log.info("audit", drop=drop_id, word=report.word, why=report.why)
