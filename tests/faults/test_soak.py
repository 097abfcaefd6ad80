"""The random fault run as an engineer starts it: its verdict, its exit code and its report."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from asyncio import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from chaos.faults import FAULTS, Blow, strike
from chaos.lab import CAUGHT_UP_WITHIN_S, MOVES_WITHIN_S, PATIENCE_S, Recovery
from chaos.process import ProcessFailed
from chaos.release import changed_release
from chaos.schedule import Planned, Round, Schedule
from chaos.soak import Aftermath, Outcome, Played, Run, Soak, Struck
from flashsale.cli.exits import Exit
from flashsale.cli.main import run
from flashsale.cli.rehearsal import Pace, Scenario
from loadtest.checker.model import Window
from tests.faults.stage import RowRecord, probe_for
from tests.faults.test_process import STARTED, process

if TYPE_CHECKING:
    from chaos.lab import Lab
    from flashsale.model import Drop

CHECKOUT = Path(__file__).parents[2]
TOO_STRICT = ("if quantity > stock.available then short = true end", "if quantity >= stock.available then short = true end")
"""the last unit of a SKU is refused to everybody"""


@pytest.fixture
def folder(stores_folder: Path) -> Path:
    """Short and open, as stores need it."""
    path = Path(tempfile.mkdtemp(prefix="soak-", dir=stores_folder))
    path.chmod(0o711)
    return path


async def small_soak(folder: Path, *words: str, release: Path = CHECKOUT) -> tuple[int, str]:
    """(exit code, what it said) of a small run against the service in `release`."""
    path = os.pathsep.join(str(place) for place in dict.fromkeys((release, CHECKOUT)))
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.small_soak", *words, "--report", str(folder / "soak.json"), "--data", str(folder / "data")),
        cwd=folder, env={**os.environ, "PYTHONPATH": path, "COLUMNS": "250"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await command.communicate()
    assert command.returncode is not None
    return command.returncode, printed.decode()


def reported(folder: Path) -> Any:
    return msgspec.json.decode((folder / "soak.json").read_bytes())


async def test_a_round_in_which_nothing_is_wrong_has_no_findings(lab: Lab) -> None:
    scenario = Scenario(24, 12, seed=5, opens_in_s=1.0, deadline_s=45.0, pace=Pace(reservation_ttl_ms=2_500, claim_window_ms=1_500))
    strikes = (Planned("flush_scripts", 0.2, 0.2, luck=1), Planned("deploy_reconciler", 0.5, 0.2, luck=2))
    told: list[Played] = []
    [played] = await Soak(lab, Schedule(5, (Round(1, scenario, strikes),), ("flush_scripts",)), told.append).run()
    assert told == [played]
    assert (played.wrong, played.violations) == ((), {})
    assert played.sold == 12
    assert [(one.fault, one.cut_short_by, one.found) for one in played.strikes] == [
        ("flush_scripts", "", ""),
        ("deploy_reconciler", "", ""),
    ]
    assert not (lab.folder / f"{played.drop}.history.jsonl").exists(), "nothing to look at"


@pytest.mark.faults
async def test_a_run_of_several_seeds_says_a_line_each_and_one_verdict(folder: Path) -> None:
    code, said = await small_soak(folder, "--seeds", "11-12", "--minutes", "0.1")
    assert code == Exit.OK, said
    assert "1/2  seed 11: 1 drops, 2 faults, 12 units sold" in said
    assert "2/2  seed 12: 1 drops, 2 faults, 12 units sold" in said
    assert "No promise was broken. 2 seeds." in said
    report = reported(folder)
    assert [outcome["seed"] for outcome in report["seeds"]] == [11, 12]
    assert report["violations"] == 0
    [played] = report["seeds"][0]["rounds"]
    assert len(played["strikes"]) == 2
    assert played["caught_up_s"] <= CAUGHT_UP_WITHIN_S or played["late"]


async def test_a_broken_promise_is_told_and_ends_the_command_with_1(folder: Path) -> None:
    release = await asyncio.to_thread(changed_release, folder / "release", {"lua/reserve.lua": TOO_STRICT})
    code, said = await small_soak(folder, "--seed", "11", "--minutes", "0.2", "--round", "2", release=release)
    assert code == Exit.FINDING, said
    assert "flashsale soak --seed 11 --minutes 0.2 --round 2" in said
    [outcome] = reported(folder)["seeds"]
    [played] = outcome["rounds"]
    assert played["number"] == 2, "only this round"
    assert played["violations"]["false_sold_out"] > 0
    kept = {path.name for path in (folder / "data").iterdir()}
    assert {f"{played['drop']}.history.jsonl", f"{played['drop']}.worker-1.log"} <= kept, "for whoever looks why"


def played_round(**changes: Any) -> Played:
    """A round in which all went well, but for `changes`."""
    well: dict[str, Any] = {"moved_s": 0.1, "caught_up_s": 0.1, "late": (), "wrong": (), "violations": {}}
    return Played(number=1, drop="d", shoppers=9, units=3, sold=3, strikes=(), **(well | changes))


def test_what_comes_too_late_is_a_broken_promise() -> None:
    assert Recovery(MOVES_WITHIN_S, CAUGHT_UP_WITHIN_S).late == ()
    [slow] = Recovery(0.1, CAUGHT_UP_WITHIN_S + 0.5).late
    [stuck] = Recovery(MOVES_WITHIN_S + 0.5, 0.1).late
    assert "10.5 s" in slow
    assert "2.5 s" in stuck
    well, late = (Outcome(seed, (), (played_round(late=words),), 1.0) for seed, words in ((1, ()), (2, (slow, stuck))))
    assert Run.of(2.0, (well, late)).violations == 2


async def test_a_recovery_lasts_until_nothing_from_before_is_unfinished(lab: Lab) -> None:
    for reconciler in lab.reconcilers:
        await reconciler.kill()
    probe = await probe_for(lab, RowRecord(0))
    await probe.release(lab.workers[0], (await probe.reserve(lab.workers[0])).json())
    unfinished_s = 0.3
    lab.recoveries.clear()
    assert (await lab.recovery(probe.drop, unfinished_s)).caught_up_s == unfinished_s
    await lab.reconcilers[0].start()
    healed = await lab.recovery(probe.drop)
    assert 0 <= healed.caught_up_s < PATIENCE_S
    assert 0 <= healed.moved_s < PATIENCE_S
    assert len(lab.recoveries) == 2
    await lab.retire(probe.drop)


ENDS_BADLY = f"import signal\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n{STARTED}\nsignal.pause()"


async def test_a_process_that_ends_badly_when_it_is_deployed_is_a_finding() -> None:
    deployed = process(ENDS_BADLY)
    await deployed.start()
    blow = Blow(cast("Lab", SimpleNamespace(reconcilers=[deployed])), cast("Drop", None), random.Random(1), 0.0)
    try:
        with pytest.raises(ProcessFailed, match="reconciler-1 ended with exit code 3 after SIGTERM"):
            await strike(FAULTS["deploy_reconciler"], blow)
        assert deployed.running
    finally:
        await deployed.close()


def test_a_fault_puts_off_expiries_only_while_it_lasts() -> None:
    crash = Struck("crash_valkey", 1.0, 2.0, 1_000, 3_000, "")
    cut_short = Struck("freeze_valkey", 1.0, 2.0, 4_000, 5_000, "StoreUnavailable")
    harmless = Struck("kill_worker", 1.0, 2.0, 6_000, 7_000, "")
    aftermath = Aftermath((crash, cut_short, harmless), (), 9_000, Recovery(0.0, 0.0))
    assert aftermath.delays == (Window(1_000, 3_000), Window(4_000, 9_000))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--seeds", "9-7"), "is not a range of seeds"),
        (("--seeds", "7"), "is not a range of seeds"),
        (("--seeds", "1-100000"), "more than 1000 seeds"),
        (("--seeds", "1-2", "--seed", "1"), "both given"),
        (("--seeds", "1-2", "--round", "1"), "one round of one seed"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["soak", *words]) == Exit.USAGE
    assert told in " ".join(capsys.readouterr().err.split())
