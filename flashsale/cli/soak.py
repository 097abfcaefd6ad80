"""`flashsale soak`: drops under load while the service is broken at random, and the verdict."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from flashsale.cli.commands import finish, run
from flashsale.cli.exits import Exit
from flashsale.cli.output import say
from flashsale.errors import ConfigurationError

if TYPE_CHECKING:
    from chaos.schedule import Round, Schedule
    from chaos.soak import Outcome

MINUTES = 2.0
MINUTES_MAX = 7 * 24 * 60.0
REPORT = Path("soak.json")
SEED_MAX = 2**31 - 1


def soak(
    seed: Annotated[int | None, typer.Option(min=0, max=SEED_MAX, help="The same seed, the same schedule. Without it, a new one.")] = None,
    minutes: Annotated[
        float, typer.Option(min=0.1, max=MINUTES_MAX, help="About how long it may take; a round is never cut short.")
    ] = MINUTES,
    only: Annotated[int | None, typer.Option("--round", min=1, metavar="N", help="Play only this round of the schedule.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the schedule and play nothing.")] = False,
    report: Annotated[Path, typer.Option(metavar="FILE", help="Where the rounds are written as JSON.")] = REPORT,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Keep stores and histories there. Without it, they go when all is well.")
    ] = None,
) -> None:
    """Break the service at random while shoppers buy, and prove that exactly the units there were have been sold.

    Starts real stores, workers and reconcilers with a fault proxy on every wire. Round after round a crowd comes to a
    drop while processes are killed and frozen, stores crash, answers get lost and journals are spoilt, as the seed
    says. After each round everything is healed, and what the shoppers saw is held against what the stores hold: no
    oversell at any moment, no false "sold out", nothing acknowledged lost, no second order, no limit broken.
    """
    from chaos.schedule import make_schedule

    if not report.resolve().parent.is_dir():
        raise ConfigurationError(what=f"The folder of {report} does not exist.", todo="Make it, or name another file.")
    seed = random.SystemRandom().randint(0, SEED_MAX) if seed is None else seed
    schedule = make_schedule(seed, minutes)
    if only is not None and only > len(schedule.rounds):
        raise ConfigurationError(
            what=f"The schedule has {len(schedule.rounds)} rounds, so there is no round {only}.", todo="Give it more --minutes."
        )
    say(f"seed {seed}: {len(schedule.rounds)} rounds, with {', '.join(schedule.faults)}")
    if plan:
        for planned in schedule.rounds:
            print(_planned(planned))
        return
    with _folder(data) as folder:
        finish(run(_soak(schedule, minutes, only, report, folder)))


def _planned(planned: Round) -> str:
    scenario = planned.scenario
    strikes = "".join(f"\n     {strike.at_s:5.2f} s  {strike.fault} for {strike.span_s:g} s" for strike in planned.strikes)
    return f"{planned.number:3}  {scenario.shoppers} shoppers, {scenario.units} units, seed {scenario.seed}{strikes}"


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    """The folder asked for, or one that is gone afterwards; it stays when something was found, for whoever looks why."""
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        yield data
        return
    name = tempfile.mkdtemp(prefix="flashsale-soak-")
    Path(name).chmod(0o711)  # when we are root the stores run as nobody, and have to get as far as their own folders
    try:
        yield Path(name)
    finally:
        histories = list(Path(name).glob("*.history.jsonl"))
        if histories:
            say(f"What happened is kept in {name}")
        else:
            _remove(Path(name))


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


async def _soak(schedule: Schedule, minutes: float, only: int | None, report: Path, folder: Path) -> int:
    from chaos.lab import running_lab
    from chaos.soak import Outcome, Soak
    from flashsale.cli.rehearsal import SETTINGS
    from flashsale.log import configure_logging
    from flashsale.settings import load_settings

    configure_logging(load_settings(overrides=SETTINGS).log)
    began = time.monotonic()
    async with running_lab(folder, seed=schedule.seed) as lab:
        played = await Soak(lab, schedule, say).run(only)
    outcome = Outcome(schedule.seed, minutes, schedule.faults, played, round(time.monotonic() - began, 1))
    text = msgspec.json.format(msgspec.json.encode(outcome), indent=2) + b"\n"
    await asyncio.to_thread(report.write_bytes, text)
    _conclude(outcome, report)
    return Exit.FINDING if outcome.violations else Exit.OK


def _conclude(outcome: Outcome, report: Path) -> None:
    slowest = max((played.caught_up_s for played in outcome.rounds), default=0.0)
    strikes = sum(len(played.strikes) for played in outcome.rounds)
    sold = sum(played.sold for played in outcome.rounds)
    say(f"{len(outcome.rounds)} drops, {strikes} faults, {sold} units sold, caught up within {slowest:.1f} s of the last fault.")
    say(f"Written to {report}.")
    if outcome.violations:
        numbers = ", ".join(str(played.number) for played in outcome.rounds if played.wrong or played.violations)
        say(f"[red]{outcome.violations} broken promises, in round {numbers}.[/] Again: flashsale soak --seed {outcome.seed} --round N")
    else:
        say(f"[green]No promise was broken.[/] Seed {outcome.seed}.")
