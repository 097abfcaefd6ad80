"""`flashsale audit`: proves, now, that no unit is lost or sold twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.exits import Exit
from flashsale.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from flashsale.cli.shapes import DropAudited
    from flashsale.cli.target import Parts
    from reconciler.auditor import AuditReport

QUIET_WITHIN_S = 5.0
"""How long an audit waits for a moment in which the journal does not move."""
LOOK_AGAIN_S = 0.2


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "audit", "flashsale audit", "flashsale audit trial", "flashsale audit --json")(audit)


def audit(
    drop_id: Annotated[str | None, typer.Argument(metavar="[DROP]", help="Only this drop; all drops in the store otherwise.")] = None,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Prove that every unit is available, reserved or sold, in the store and in Postgres. Repairs nothing.

    Exit code 1 when something does not add up. 'unfinished' means that nothing is wrong, but orders kept arriving, so
    the two stores could not be held against each other in full. With --json: an array of drop_id, result and drifts.
    """
    audited = run(_audit(drop_id, config, data))
    if as_json:
        print_json(audited)
    elif audited:
        _print(audited)
    else:
        say("There are no drops to audit.")
    finish(Exit.FINDING if any(drop.result == "drift" for drop in audited) else Exit.OK)


async def _audit(drop_id: str | None, config: Path | None, data: Path | None) -> list[DropAudited]:
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        ids = sorted(await parts.drops.ids()) if drop_id is None else [options.checked_drop_id(drop_id)]
        return [await audit_drop(parts, one) for one in ids]


async def audit_drop(parts: Parts, drop_id: str) -> DropAudited:
    """One drop's audit, repeated for a few seconds while its journal is moving. Raises as `looking.of_drop` does."""
    from flashsale.cli.looking import of_drop
    from flashsale.cli.shapes import DriftFound, DropAudited

    loop = asyncio.get_running_loop()
    deadline = loop.time() + QUIET_WITHIN_S
    report = await of_drop(parts, drop_id, _audit_once(parts, drop_id))
    while report.word == "unfinished" and loop.time() < deadline:
        await asyncio.sleep(LOOK_AGAIN_S)
        report = await of_drop(parts, drop_id, _audit_once(parts, drop_id))
    return DropAudited(drop_id, report.word.value, [DriftFound(drift.sku, drift.law, drift.units) for drift in report.drifts])


async def _audit_once(parts: Parts, drop_id: str) -> AuditReport:
    from prometheus_client import CollectorRegistry

    from reconciler.auditor import Auditor
    from reconciler.journal import Journal
    from reconciler.metrics import ReconcilerMetrics

    journal = Journal(parts.store, drop_id, "audit")
    auditor = Auditor(parts.drops.inspect, parts.database, dict, ReconcilerMetrics(CollectorRegistry()), parts.settings.reconciler)
    return await auditor.audit_drop(drop_id, journal)


def _print(audited: list[DropAudited]) -> None:
    print_table(("drop", "result"), [(drop.drop_id, drop.result) for drop in audited])
    drifts = [(drop.drop_id, drift.sku, f"{drift.units:+,}", drift.law) for drop in audited for drift in drop.drifts]
    if drifts:
        print_table(("drop", "SKU", "units>", "what should hold"), drifts)
        say("[red]Something does not add up.[/] Pause the drop, and keep both stores as they are until it is understood.")
