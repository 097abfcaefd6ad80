"""`flashsale repair`: puts right what an audit found, as far as that is safe, and shows it first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.exits import Exit
from flashsale.cli.output import print_json, print_table, say, warn

if TYPE_CHECKING:
    from flashsale.cli.shapes import DropRepaired

IDS_PRINTED_MAX = 5


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "repair", "flashsale repair trial", "flashsale repair trial --yes")(repair)


def repair(
    drop_id: options.DropId,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without it the plan is shown and nothing is changed.")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Put right what an audit found, in the safe direction only. Shows what it would do; --yes does it.

    No unit goes on sale that Postgres does not prove to be free. The drop is paused first and stays paused: look, then
    'flashsale drop resume'. What cannot be repaired safely is named; 'flashsale recover' rebuilds a drop from Postgres.
    Exit code 1 while something does not add up. With --json: drop_id, outcome (clean, planned, repaired), measures,
    unsafe, and after --yes the new audit's result.
    """
    repaired = run(_repair(drop_id, config, data, yes=yes))
    if as_json:
        print_json(repaired)
    else:
        _tell(repaired)
    settled = repaired.outcome == "clean" or repaired.result == "clean"
    finish(Exit.OK if settled else Exit.FINDING)


async def _repair(drop_id: str, config: Path | None, data: Path | None, *, yes: bool) -> DropRepaired:
    from flashsale.cli.audit import settled_audit
    from flashsale.cli.looking import of_drop
    from flashsale.cli.shapes import DropRepaired, MeasureShown
    from flashsale.cli.target import find_target, opened
    from reconciler.evidence import Evidence
    from reconciler.repair import Repairer, plan_repair

    async with opened(find_target(config, data).settings) as parts:
        look = await of_drop(parts, drop_id, Evidence(drop_id, parts.database, parts.store).reservations())
        plan = plan_repair(drop_id, look)
        measures = [MeasureShown(measure.what, list(measure.ids)) for measure in plan.measures]
        if not measures or not yes:
            outcome = "planned" if measures or plan.unsafe else "clean"
            return DropRepaired(drop_id, outcome, measures, plan.unsafe, None)
        await of_drop(parts, drop_id, Repairer(parts.drops, parts.scripts, parts.database).carry_out(plan))
        audited = await settled_audit(parts, drop_id)
        return DropRepaired(drop_id, "repaired", measures, plan.unsafe, audited.result)


def _tell(repaired: DropRepaired) -> None:
    drop_id = repaired.drop_id
    if repaired.measures:
        print_table(("do", "reservations"), [(measure.what, _ids(measure.ids)) for measure in repaired.measures])
    for why in repaired.unsafe:
        warn(f"cannot be repaired safely: {why}.")
    if repaired.unsafe:
        say(f"'flashsale recover {drop_id} --force --dry-run' shows what rebuilding the drop from Postgres would do.")
    if repaired.outcome == "clean":
        say(f"{drop_id} adds up; there is nothing to repair.")
    elif repaired.outcome == "planned" and repaired.measures:
        say(f"Nothing was changed. 'flashsale repair {drop_id} --yes' pauses the drop and does this.")
    elif repaired.result == "clean":
        say(f"Done, and {drop_id} adds up. It is paused: 'flashsale drop resume {drop_id}' lets it go on.")
    elif repaired.outcome == "repaired":
        say(f"Done. The audit afterwards says {repaired.result}: look with 'flashsale audit {drop_id}'.")


def _ids(ids: list[str]) -> str:
    more = f" … and {len(ids) - IDS_PRINTED_MAX:,} more" if len(ids) > IDS_PRINTED_MAX else ""
    return ", ".join(ids[:IDS_PRINTED_MAX]) + more
