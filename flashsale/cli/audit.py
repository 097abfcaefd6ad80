"""`flashsale audit`: proves, now, that no unit is lost or sold twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.exits import Exit, exit_code_of
from flashsale.cli.output import print_error, print_json, print_table, program, say
from flashsale.errors import DatabaseUnavailable, FlashsaleError

if TYPE_CHECKING:
    from flashsale.cli.shapes import DropAudited
    from flashsale.cli.target import Parts

QUIET_WITHIN_S = 5.0
"""How long an audit waits for a journal that is too far behind."""
LOOK_AGAIN_S = 0.2
IDS_PRINTED_MAX = 5


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "audit", "flashsale audit", "flashsale audit trial", "flashsale audit --json")(audit)


def audit(
    drop_id: Annotated[str | None, typer.Argument(metavar="[DROP]", help="Only this drop; all drops in the store otherwise.")] = None,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Prove that every unit is available, reserved or sold, in the store and in Postgres. Changes nothing.

    Every reservation is held against its order, also while the drop is on: orders on their way are left out on both
    sides. Exit code 1 when something does not add up. 'unfinished' means that nothing is known to be wrong, but the
    journal is too far behind to compare; 'failed' that the drop could not be looked at, which keeps no other from being
    audited. With --json: an array of drop_id, result, drifts (kind, sku, law, units, the first twenty ids and their
    total) and why.
    """
    audited, troubles = run(_audit(drop_id, config, data))
    for trouble in troubles:
        print_error(trouble)
    if as_json:
        print_json(audited)
    elif audited:
        _print(audited)
    else:
        say("There are no drops to audit.")
    drifts = any(drop.result == "drift" for drop in audited)
    finish(Exit.FINDING if drifts else exit_code_of(troubles[0]) if troubles else Exit.OK)


async def _audit(drop_id: str | None, config: Path | None, data: Path | None) -> tuple[list[DropAudited], list[FlashsaleError]]:
    """The audits, and what kept drops from being audited. Without Postgres there is none, so that is raised at the second."""
    from flashsale.cli.shapes import DropAudited
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        if drop_id is not None:
            return [await audit_drop(parts, options.checked_drop_id(drop_id))], []
        audited, troubles = [], []
        away = False
        for one in sorted(await parts.drops.ids()):
            try:
                audited.append(await audit_drop(parts, one))
                away = False
            except FlashsaleError as error:  # the other drops want to be audited
                if away and isinstance(error, DatabaseUnavailable):  # not only for the drop before
                    raise
                away = isinstance(error, DatabaseUnavailable)
                audited.append(DropAudited(one, "failed", [], f"{error.what} {error.why}".strip()))
                troubles.append(error)
        return audited, troubles


async def audit_drop(parts: Parts, drop_id: str) -> DropAudited:
    """One drop's audit, repeated for a few seconds while its journal is too far behind. Raises as `looking.of_drop` does."""
    from flashsale.cli.looking import of_drop
    from flashsale.cli.shapes import DropAudited
    from reconciler.auditor import audit
    from reconciler.evidence import Evidence
    from reconciler.laws import found

    evidence = Evidence(drop_id, parts.database, parts.store)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + QUIET_WITHIN_S
    report = await of_drop(parts, drop_id, audit(evidence))
    while report.word == "unfinished" and loop.time() < deadline:
        await asyncio.sleep(LOOK_AGAIN_S)
        report = await of_drop(parts, drop_id, audit(evidence))
    return DropAudited(drop_id, report.word.value, found(report.drifts), report.why)


async def settled_audit(parts: Parts, drop_id: str) -> DropAudited:
    """A drop's audit after a repair, for as long as a few seconds until the news told again has been recorded."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + QUIET_WITHIN_S
    audited = await audit_drop(parts, drop_id)
    while audited.result != "clean" and loop.time() < deadline:
        await asyncio.sleep(LOOK_AGAIN_S)
        audited = await audit_drop(parts, drop_id)
    return audited


def _print(audited: list[DropAudited]) -> None:
    print_table(("drop", "result", "why"), [(drop.drop_id, drop.result, drop.why) for drop in audited])
    drifting = [drop for drop in audited if drop.drifts]
    if not drifting:
        return
    print_drifts(drifting)
    for drop in drifting:
        say(f"[red]{drop.drop_id} does not add up.[/] 'flashsale repair {drop.drop_id}' shows what can be put right, and changes nothing.")
    say(f"[dim]What each law means: docs/audit.md. While it drifts, keep a drop paused: {program()} drop pause DROP[/]")


def print_drifts(audited: list[DropAudited]) -> None:
    """What does not add up, as a table."""
    rows = [
        (drop.drop_id, drift.sku, f"{drift.units:+,}", drift.kind, drift.law, _ids(drift.ids, drift.ids_total))
        for drop in audited
        for drift in drop.drifts
    ]
    print_table(("drop", "SKU", "units>", "kind", "what should hold", "reservations"), rows)


def _ids(ids: tuple[str, ...], total: int) -> str:
    shown = ids[:IDS_PRINTED_MAX]
    more = f" … and {total - len(shown):,} more" if total > len(shown) else ""
    return ", ".join(shown) + more
