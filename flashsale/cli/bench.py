"""`flashsale bench`: the numbers this service claims, each beside a baseline, on this machine."""

from __future__ import annotations

import logging
import os
import platform
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvloop
from rich.console import Console

RUNS_MIN = 1


class Suite(StrEnum):
    """What can be measured."""

    SERVICE = "service"
    DURABILITY = "durability"


def bench(
    suite: Annotated[
        Suite, typer.Argument(help="service: reservations, orders and HTTP; durability: what second, disk and replica cost.")
    ] = Suite.SERVICE,
    runs: Annotated[int, typer.Option(min=RUNS_MIN, help="Runs of each measurement, interleaved with its baseline.")] = 5,
    report: Annotated[Path, typer.Option(help="Where the rows are written as JSON.")] = Path("bench.json"),
    only: Annotated[str, typer.Option(help="Measure only rows whose name contains this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON instead of a table.")] = False,
) -> None:
    """Measure reservations, orders and HTTP against their baselines, on embedded stores with full durability.

    Nothing is asserted: the table shows the ratio beside the goal. Takes a few minutes.

    Examples:
        flashsale bench

        flashsale bench --only serving --runs 9 --report serving.json

        flashsale bench durability
    """
    messages = Console(stderr=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="flashsale-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the Postgres account must get in when we are root
        measured = _measure_durability if suite is Suite.DURABILITY else _measure
        rows = uvloop.run(measured(folder, runs, only, messages))
    from loadtest.bench.measure import show, write

    write(rows, _machine(), report)
    if as_json:
        sys.stdout.write(report.read_text(encoding="utf-8"))
    else:
        show(rows, Console())
    messages.print(f"Written to {report}.")


async def _measure(folder: Path, runs: int, only: str, messages: Console) -> list[Any]:
    from loadtest.bench import http, orders, reservations
    from loadtest.bench.measure import compare
    from loadtest.bench.stage import running_stage

    async with running_stage(folder / "stores") as stage:
        chosen = [row for row in (*reservations.comparisons(stage), *orders.comparisons(stage)) if only in row.name]
        rows = [await compare(row, runs, messages.print) for row in chosen]
        if any(only in name for name in http.NAMES):
            async with http.running_servers(stage, folder) as servers:
                chosen = [row for row in http.comparisons(stage, servers) if only in row.name]
                rows += [await compare(row, runs, messages.print) for row in chosen]
    return rows


async def _measure_durability(folder: Path, runs: int, only: str, messages: Console) -> list[Any]:
    from loadtest.bench import durability
    from loadtest.bench.measure import compare
    from loadtest.bench.stage import running_stage

    async with running_stage(folder / "stores") as stage, durability.running_stages(stage, folder / "durability") as stages:
        return [await compare(row, runs, messages.print) for row in durability.comparisons(stages) if only in row.name]


def _machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
