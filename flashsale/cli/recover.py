"""`flashsale recover`: puts drops together again that the store has lost, from Postgres."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.exits import Exit, exit_code_of
from flashsale.cli.output import message_console, moment, print_error, print_json, program, say, span
from flashsale.errors import BadInput, FlashsaleError

if TYPE_CHECKING:
    from flashsale.cli.recover_shapes import DropRecovered
    from flashsale.cli.target import Parts
    from reconciler.recovery import Finding, Plan, Progress, Recovered, Recovery

DRAIN_BLOCK_MS = 20
CLAIM_AT_ONCE_MS = 1


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(
        app,
        "recover",
        "flashsale recover trial --dry-run",
        "flashsale recover trial",
        "flashsale recover --all --yes --json",
        "flashsale recover trial --keep-paused",
        "flashsale recover trial --force",
    )(recover)


def recover(  # noqa: PLR0917 - the options of a command
    drop_id: Annotated[str | None, typer.Argument(metavar="[DROP]", help="The drop to recover.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every drop that needs it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is the matter and what would be done; change nothing.")] = False,
    keep_paused: Annotated[bool, typer.Option("--keep-paused", help="Leave the drop paused afterwards.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Rebuild a sound drop, too: for drift that repair cannot mend.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Rebuild a drop that the store has lost, or of which it has forgotten a part, from Postgres.

    Says first what it found, what comes back and what may be lost. The drop is closed to everybody until every unit is
    accounted for; then it goes on in the state it had. Interrupting it is safe, and so is running it again: an unfinished
    drop stays closed. A drop that is sound is left alone, unless --force. The runbook is docs/recovery.md.
    """
    if (drop_id is None) != every:
        raise BadInput(what="Name one drop, or use --all.", todo="'flashsale doctor' says which drops need it.")
    if force and every:
        raise BadInput(what="--force is for one drop at a time.", todo="Name the drop.")
    how = _How(dry_run=dry_run, keep_paused=keep_paused, force=force, ask=not yes and not dry_run)
    recovered = run(_recover(drop_id, config, data, how))
    if as_json:
        print_json(recovered)
    codes = [drop.exit_code for drop in recovered if drop.result == "failed"]
    finish(codes[0] if codes else Exit.FINDING if dry_run and any(drop.result == "needed" for drop in recovered) else Exit.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """What was asked for."""

    dry_run: bool
    keep_paused: bool
    force: bool
    ask: bool


async def _recover(drop_id: str | None, config: Path | None, data: Path | None, how: _How) -> list[DropRecovered]:
    from flashsale.cli.target import find_target, opened
    from flashsale.recorded import recorded_drops

    async with opened(find_target(config, data).settings) as parts:
        if drop_id is not None:
            return [await _one(parts, options.checked_drop_id(drop_id), how)]
        recovered = []
        for one in sorted(await recorded_drops(parts.database)):
            try:
                recovered.append(await _one(parts, one, how))
            except FlashsaleError as error:  # the other drops want to go on
                print_error(error)
                recovered.append(_nothing(one, "failed", exit_code_of(error)))
        return recovered


async def _one(parts: Parts, drop_id: str, how: _How) -> DropRecovered:
    from reconciler.recovery import Condition

    recovery = recovery_of(parts)
    if (await recovery.find(drop_id)).condition is Condition.SOUND and not how.force:
        say(f"[bold]{drop_id}[/]: the store holds it as Postgres remembers it; there is nothing to recover.")
        return _nothing(drop_id, "sound")
    plan = await recovery.plan(drop_id)
    _tell(drop_id, plan)
    if how.dry_run:
        say(f"[dim]Nothing was changed. Next: {program()} recover {drop_id}[/]")
        return _told(plan, "needed")
    if how.ask:
        _ask(drop_id)
    with _progress() as told:
        recovered = await recovery.recover(drop_id, told, keep_paused=how.keep_paused, although_sound=how.force)
    if recovered is None:
        say(f"[bold]{drop_id}[/]: somebody else has recovered it meanwhile.")
        return _nothing(drop_id, "sound")
    _tell_done(drop_id, recovered)
    return _told(recovered.plan, "recovered", recovered)


def recovery_of(parts: Parts) -> Recovery:
    """Recovery of an opened installation's drops."""
    import msgspec
    from prometheus_client import CollectorRegistry

    from reconciler.consumer import JournalConsumer
    from reconciler.journal import Journal
    from reconciler.metrics import ReconcilerMetrics
    from reconciler.orders import OrderRecorder
    from reconciler.recovery import Recovery
    from reconciler.stock import StockRecorder

    settings = msgspec.structs.replace(parts.settings.reconciler, block_ms=DRAIN_BLOCK_MS, claim_idle_ms=CLAIM_AT_ONCE_MS)
    metrics = ReconcilerMetrics(CollectorRegistry())

    def follow(drop_id: str) -> tuple[Journal, JournalConsumer]:
        journal = Journal(parts.store, drop_id, "recovery")
        recorder, stock = OrderRecorder(parts.database), StockRecorder(parts.database)
        return journal, JournalConsumer(drop_id, journal, recorder, stock, metrics, settings)

    return Recovery(parts.database, parts.store, parts.scripts, parts.drops, follow)


def _ask(drop_id: str) -> None:
    if not sys.stdin.isatty():
        raise BadInput(what="Nobody is there to be asked.", todo="Look at --dry-run first, then add --yes.")
    if not typer.confirm(f"Recover {drop_id} now?", err=True):
        raise typer.Exit(int(Exit.OK))


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(TextColumn("orders back"), BarColumn(), MofNCompleteColumn(), console=message_console(), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, everything: bar.update(task, completed=done, total=everything)


def condition_in_words(finding: Finding) -> str:
    """What is the matter with a drop, to go after its name and a colon."""
    from reconciler.recovery import Condition

    match finding.condition:
        case Condition.MISSING:
            return "the store does not have it"
        case Condition.BEHIND if finding.held_epoch < finding.recorded.epoch:
            return f"the store has it as it was in epoch {finding.held_epoch}; it had come to {finding.recorded.epoch}"
        case Condition.BEHIND:
            return f"the store has gone back in time by {finding.changes_behind:,} changes at least"
        case Condition.FENCED:
            return f"it was closed: {finding.fenced}"
        case Condition.DAMAGED:
            return "a part of it is missing in the store, or cannot be read"
        case _:
            return "it is sound"


def _tell(drop_id: str, plan: Plan) -> None:
    finding, picture = plan.finding, plan.finding.recorded.picture
    say(f"[bold]{drop_id}[/]: {condition_in_words(finding)}.")
    for sku in plan.skus:
        say(
            f"  {sku.sku}: {sku.allotment:,} units, {sku.sold:,} sold, {sku.reserved:,} reserved, {max(0, sku.available):,} to be had again"
        )
    overdue = f", {plan.overdue:,} of them have run out and end at once" if plan.overdue else ""
    say(f"  {plan.orders:,} orders come back; {plan.live:,} are live reservations{overdue}.")
    if plan.refused:
        say(f"  [yellow]{len(plan.refused):,} live reservations cannot be kept: their units were sold twice. They are released.[/]")
    if finding.rolled_back:
        seen = f" Postgres last saw the line at {moment(picture.now_ms)}." if picture else ""
        say(f"  What the store had not told Postgres is lost, unless shoppers show their receipts.{seen}")
    say(f"  It goes on as [bold]{plan.state_now.value}[/]. Admission tokens end; people exchange their tickets again.")


def _tell_done(drop_id: str, recovered: Recovered) -> None:
    say(
        f"[green]Recovered[/] [bold]{drop_id}[/] in {span(recovered.ready_ms)}: "
        f"{recovered.plan.orders:,} orders, epoch {recovered.epoch}, {recovered.state.value}."
    )
    say(f"[dim]Next: {program()} audit {drop_id}[/]")


def _told(plan: Plan, result: str, recovered: Recovered | None = None) -> DropRecovered:
    from flashsale.cli.recover_shapes import DropRecovered, SkuRecovered

    finding = plan.finding
    return DropRecovered(
        drop_id=finding.recorded.drop.drop_id,
        result=result,
        condition=finding.condition.value,
        changes_behind=finding.changes_behind,
        orders=plan.orders,
        live=plan.live,
        overdue=plan.overdue,
        released=len(plan.refused),
        skus=tuple(SkuRecovered(sku.sku, sku.allotment, max(0, sku.available), sku.reserved, sku.sold) for sku in plan.skus),
        state=recovered.state.value if recovered else plan.state_now.value,
        epoch=recovered.epoch if recovered else finding.recorded.epoch,
        ready_ms=recovered.ready_ms if recovered else None,
    )


def _nothing(drop_id: str, result: str, exit_code: int = Exit.OK) -> DropRecovered:
    from flashsale.cli.recover_shapes import DropRecovered

    return DropRecovered(drop_id, result, exit_code=int(exit_code))
