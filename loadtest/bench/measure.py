"""Interleaved comparison of two measurements, and the table they end in."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

Measurement = Callable[[], Awaitable[float]]
"""One run; answers a rate in units a second."""


class BenchRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the result."""

    name: str
    value: float
    """median of the runs"""
    unit: str
    baseline: str
    baseline_value: float
    """median of the baseline's runs, interleaved with ours"""
    ratio: float
    """median over the runs of ours divided by the baseline beside it"""
    goal_ratio: float | None
    runs: list[tuple[float, float]]
    """(ours, baseline) of each run, in order"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What to measure against what."""

    name: str
    unit: str
    ours: Measurement
    baseline: str
    other: Measurement
    goal_ratio: float | None


async def compare(comparison: Comparison, runs: int, progress: Callable[[str], None]) -> BenchRow:
    """Runs both sides `runs` times, each going first in turn, so that a drifting machine treats them alike."""
    pairs: list[tuple[float, float]] = []
    for number in range(runs):
        if number % 2:
            other = await comparison.other()
            ours = await comparison.ours()
        else:
            ours = await comparison.ours()
            other = await comparison.other()
        pairs.append((ours, other))
        progress(f"{comparison.name}: run {number + 1} of {runs}: {ours:,.0f} against {other:,.0f} {comparison.unit}")
    return BenchRow(
        name=comparison.name,
        value=round(statistics.median(ours for ours, _ in pairs), 1),
        unit=comparison.unit,
        baseline=comparison.baseline,
        baseline_value=round(statistics.median(other for _, other in pairs), 1),
        ratio=round(statistics.median(ours / other for ours, other in pairs), 3),
        goal_ratio=comparison.goal_ratio,
        runs=pairs,
    )


def show(rows: list[BenchRow], console: Console) -> None:
    """Prints the table."""
    table = Table(title="flashsale bench: medians of interleaved runs", title_justify="left")
    table.add_column("what")
    table.add_column("ours", justify="right")
    table.add_column("unit")
    table.add_column("baseline")
    table.add_column("its value", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("goal", justify="right")
    for row in rows:
        reached = row.goal_ratio is None or row.ratio >= row.goal_ratio
        goal = "" if row.goal_ratio is None else f"≥ {row.goal_ratio:g}"
        style = "green" if reached else "yellow"
        table.add_row(
            row.name,
            f"{row.value:,.0f}",
            row.unit,
            row.baseline,
            f"{row.baseline_value:,.0f}",
            f"[{style}]{row.ratio:.2f}[/]",
            goal,
        )
    console.print(table)


def write(rows: list[BenchRow], machine: dict[str, Any], path: Path) -> None:
    """Writes the rows and what they were measured on as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows}), indent=2) + b"\n")
