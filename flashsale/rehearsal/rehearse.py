"""One rehearsal from beginning to end: the crowd, the play, the report."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from admission.drawing import draws_of
from admission.outlook import outlook
from admission.ranking import Quantiles
from admission.report import report as report_on
from admission.report_shapes import DropReport, Figure, Section, Totals
from flashsale.admission_log import read_log, read_samples
from flashsale.charts import shown
from flashsale.connections.calls import StoreCalls
from flashsale.model import Drop, Snapshot
from flashsale.rehearsal.advice import Advice, advise
from flashsale.rehearsal.behaviour import Behaviour, crowd
from flashsale.rehearsal.engine import Engine
from flashsale.rehearsal.findings import Findings, Loads, find
from flashsale.rehearsal.stage import Stage, rehearsed


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """A rehearsal as it is printed. The same drop, behaviour and seed give the same."""

    drop: str
    seed: int
    behaviour: Behaviour
    findings: Findings
    advice: Advice
    report: DropReport
    """as `flashsale drop report` makes it of a real drop; docs/report.md"""


async def rehearse(
    stage: Stage, drop: Drop, behaviour: Behaviour, seed: int, tell: Callable[[Snapshot], None] = lambda _: None
) -> Rehearsal:
    """Plays `drop` on `stage` with a crowd that behaves so.

    Args:
        drop: as the merchant defined it.
        tell: called after every beat.

    Raises: as `Engine.play` does.
    """
    drop = rehearsed(drop)
    engine = Engine(stage, drop, crowd(behaviour, drop, seed), seed, tell=tell)
    played = await engine.play()
    findings = find(played, engine.snapshot, drop)
    advice = advise(findings, drop, behaviour, stage.settings)
    calls = StoreCalls(stage.client, stage.settings.store)
    events, _ = await read_log(calls, drop.drop_id)
    samples = await read_samples(calls, drop.drop_id)
    sections = (findings_section(findings), loads_section(findings.loads, advice), advice_section(advice, findings))
    made = report_on(events, samples, drop, Totals.of(engine.snapshot), outlook, sections, draws_of(engine.snapshot))
    return Rehearsal(drop=drop.drop_id, seed=seed, behaviour=behaviour, findings=findings, advice=advice, report=made)


def findings_section(found: Findings) -> Section:
    """How it went for people."""
    empty, told = found.empty_handed_wait, found.told_no_chance_ms
    figures = [
        _length("nearly_taken", "95 % of the units taken after", found.nearly_taken_ms),
        _length("taken", "everything taken after", found.taken_ms, "the first time; what is not paid comes back"),
        _length("sold_out", "sold out after", found.sold_out_ms, "everything paid"),
        _count("bought", "bought", found.bought),
        _count("empty_handed", "left empty-handed", found.empty_handed, "would have bought or looked, and came too late"),
        _length("empty_handed_p50", "half of those waited at most", _of(empty, "p50")),
        _length("empty_handed_p90", "90 % of those waited at most", _of(empty, "p90")),
        _count("told_no_chance", "told that there is no chance", found.told_no_chance, "a chance below 5 %"),
        _length("told_no_chance_p50", "half of those heard it by", _of(told, "p50"), "after the opening"),
        *(
            _length(f"wait_{name}", f"{part} of those let in waited at most", _of(found.wait, name))
            for name, part in (("p10", "10 %"), ("p50", "half"), ("p90", "90 %"), ("p99", "99 %"))
        ),
    ]
    return Section("people", "How it went for people", tuple(figures), "From the opening, or from joining after it, until inside.")


def loads_section(loads: Loads, advice: Advice) -> Section:
    """What the service had to do."""
    figures = (
        _count("polls_per_s", "polls in the busiest second", loads.polls_per_s, f"{loads.polls:,} in all"),
        _count("joins_per_s", "joins in the busiest second", loads.joins_per_s),
        _count("admissions_per_s", "admissions in the busiest second", loads.admissions_per_s),
        _count("reservations_per_s", "reservations in the busiest second", loads.reservations_per_s),
        Figure(
            "worker_load", "busy time of one worker then", advice.worker_load, f"{100 * advice.worker_load:.1f} %", "README, benchmarks"
        ),
        _count("workers", "workers recommended", advice.workers, "at least two, at most half busy"),
    )
    return Section("loads", "What the service had to do", figures)


def advice_section(advice: Advice, found: Findings) -> Section:
    """What to set."""
    figures = (
        Figure(
            "limited_by",
            "the line waited for",
            advice.limited_by,
            {"rate": "the rate", "capacity": "free slots"}.get(advice.limited_by, "nothing"),
        ),
        _length("slot", "a slot is kept for", found.slot_ms, "on average"),
        Figure("slots_used", "slots in use", found.slots_used, f"{100 * found.slots_used:.0f} %", "while there was much to sell"),
        _count("capacity", "capacity for this rate", advice.capacity, "the smallest that slows the line by at most 5 %"),
        _count(
            "rate_per_min",
            "rate for this capacity",
            advice.rate_per_min,
            "a minute; the smallest that leaves at most 5 % of the slots empty",
        ),
        *(Figure(f"warning_{warning.name}", "warning", warning.text, warning.text) for warning in advice.warnings),
    )
    note = "People inside = people let in a second times the seconds each keeps a slot (Little's law)."
    return Section("advice", "What to set", figures, note)


def _count(name: str, label: str, value: int, note: str = "") -> Figure:
    return Figure(name, label, value, f"{value:,}", note)


def _of(waits: Quantiles | None, name: str) -> int | None:
    return None if waits is None else msgspec.structs.asdict(waits)[f"{name}_ms"]


def _length(name: str, label: str, value_ms: int | None, note: str = "") -> Figure:
    return Figure(f"{name}_ms", label, value_ms, "—" if value_ms is None else shown(value_ms, "time"), note)
