"""`flashsale soak`: drops under load while the service is broken at random, and the verdict."""

from __future__ import annotations

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
    from chaos.soak import Outcome, Played, Run

MINUTES = 2.0
MINUTES_MAX = 7 * 24 * 60.0
REPORT = Path("soak.json")
SEED_MAX = 2**31 - 1
SEEDS_MAX = 1_000


def soak(
    seed: Annotated[int | None, typer.Option(min=0, max=SEED_MAX, help="The same seed, the same schedule. Without it, a new one.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Every seed of a range, one after the other, each for --minutes.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.1, max=MINUTES_MAX, help="About how long a seed may take; a round is never cut short.")
    ] = MINUTES,
    only: Annotated[int | None, typer.Option("--round", min=1, metavar="N", help="Play only this round of the schedule.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the schedule and play nothing.")] = False,
    report: Annotated[Path, typer.Option(metavar="FILE", help="Where the rounds are written as JSON, after each seed.")] = REPORT,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Keep stores and histories there. Without it, they go when all is well.")
    ] = None,
) -> None:
    """Break the service at random while shoppers buy, and prove that exactly the units there were have been sold.

    Starts real stores, workers and reconcilers with a fault proxy on every wire. Round after round a crowd comes to a
    drop while processes are killed and frozen, stores crash, answers get lost and journals are spoilt, as the seed
    says. After each round everything is healed, and what the shoppers saw is held against what the stores hold: no
    oversell at any moment, no false "sold out", nothing acknowledged lost, no second order, no limit broken; and two
    seconds after the last fault the line has to move, ten seconds after it nothing may be unfinished.
    """
    from chaos.schedule import make_schedule

    if not report.resolve().parent.is_dir():
        raise ConfigurationError(what=f"The folder of {report} does not exist.", todo="Make it, or name another file.")
    schedules = [make_schedule(number, minutes) for number in _numbers(seed, seeds)]
    if only is not None:
        _require_round(schedules, only)
    for schedule in schedules if plan or len(schedules) == 1 else ():
        say(f"seed {schedule.seed}: {len(schedule.rounds)} rounds, with {', '.join(schedule.faults)}")
        for planned in schedule.rounds if plan else ():
            print(_planned(planned))
    if not plan:
        finish(_play_all(schedules, minutes, only, report, data))


def _numbers(seed: int | None, seeds: str | None) -> list[int]:
    """The seeds that were asked for; a new one when none was."""
    if seeds is None:
        return [random.SystemRandom().randint(0, SEED_MAX) if seed is None else seed]
    if seed is not None:
        raise ConfigurationError(what="--seed and --seeds were both given.", todo="Give one of them.")
    first, _, last = seeds.partition("-")
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= SEED_MAX):
        raise ConfigurationError(
            what=f"{seeds!r} is not a range of seeds.", todo="Write the first and the last, for example --seeds 201-230."
        )
    if int(last) - int(first) >= SEEDS_MAX:
        raise ConfigurationError(what=f"{seeds} are more than {SEEDS_MAX} seeds.", todo="Take a shorter range.")
    return list(range(int(first), int(last) + 1))


def _require_round(schedules: list[Schedule], only: int) -> None:
    if len(schedules) > 1:
        raise ConfigurationError(what="--round is one round of one seed.", todo="Give --seed instead of --seeds.")
    if only > len(schedules[0].rounds):
        raise ConfigurationError(
            what=f"The schedule has {len(schedules[0].rounds)} rounds, so there is no round {only}.", todo="Give it more --minutes."
        )


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


def _play_all(schedules: list[Schedule], minutes: float, only: int | None, report: Path, data: Path | None) -> int:
    """Plays one seed after the other, each on stores of its own; the exit code."""
    from chaos.soak import Run
    from flashsale.cli.rehearsal import SETTINGS
    from flashsale.log import configure_logging
    from flashsale.settings import load_settings

    configure_logging(load_settings(overrides=SETTINGS).log)
    several, played = len(schedules) > 1, Run.of(minutes, ())
    for number, schedule in enumerate(schedules, 1):
        with _folder(data / f"seed-{schedule.seed}" if data and several else data) as folder:
            outcome = run(_soak(schedule, only, folder, quiet=several))
        played = Run.of(minutes, (*played.seeds, outcome))
        report.write_bytes(msgspec.json.format(msgspec.json.encode(played), indent=2) + b"\n")
        say(f"{f'{number}/{len(schedules)}  ' if several else ''}seed {outcome.seed}: {_summary(outcome)}")
    _conclude(played, report)
    return Exit.FINDING if played.violations else Exit.OK


async def _soak(schedule: Schedule, only: int | None, folder: Path, *, quiet: bool) -> Outcome:
    from chaos.lab import running_lab
    from chaos.soak import Outcome, Soak, told

    def tell(played: Played) -> None:
        if played.findings or not quiet:
            say(told(played))

    began = time.monotonic()
    async with running_lab(folder, seed=schedule.seed) as lab:
        played = await Soak(lab, schedule, tell).run(only)
    return Outcome(schedule.seed, schedule.faults, played, round(time.monotonic() - began, 1))


def _summary(outcome: Outcome) -> str:
    slowest_s = max((played.caught_up_s for played in outcome.rounds), default=0.0)
    strikes = sum(len(played.strikes) for played in outcome.rounds)
    sold = sum(played.sold for played in outcome.rounds)
    broken = f"[red]{outcome.violations} broken promises[/]" if outcome.violations else "[green]no promise broken[/]"
    return f"{len(outcome.rounds)} drops, {strikes} faults, {sold} units sold, caught up within {slowest_s:.1f} s: {broken}"


def _conclude(played: Run, report: Path) -> None:
    say(f"Written to {report}.")
    if not played.violations:
        say(
            f"[green]No promise was broken.[/] {f'{len(played.seeds)} seeds' if len(played.seeds) > 1 else f'Seed {played.seeds[0].seed}'}."
        )
        return
    say(f"[red]{played.violations} broken promises.[/] Again:")
    for outcome in played.seeds:
        for found in outcome.rounds:
            if found.findings:
                say(f"  flashsale soak --seed {outcome.seed} --minutes {played.minutes:g} --round {found.number}")
