"""Rows about clocks that step in the processes themselves, while they are at work."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chaos.clocks import PACKAGE, WrongClock, believing, find_library, program_believing
from chaos.lab import now_ms, running_lab, until
from flashsale.cli.rehearsal import crowd, make_drop, new_drop_id
from flashsale.embedded.programs import valkey_program
from flashsale.model import DropState
from loadtest.client import Pool
from tests.debian import provide
from tests.faults.stage import SLOW_PER_MIN, probe_for, require_sound, selling_from, units

if TYPE_CHECKING:
    from chaos.lab import Lab
    from chaos.process import LabProcess
    from flashsale.model import Drop
    from tests.faults.stage import RowRecord

pytestmark = pytest.mark.faults

HOUR_S = 3_600
TEN_MINUTES_S = 600
NEARLY_S = 60
"""a clock that is stepped by hours or minutes is told from one that is not"""


def library() -> str:
    """Where libfaketime is."""
    found = provide((PACKAGE,), find_library)
    if found is None:
        pytest.skip(f"No process can have a clock of its own without {PACKAGE}: apt-get install {PACKAGE}.")
    return found


async def is_ahead(worker: LabProcess, ahead_s: int) -> bool:
    """Whether a worker's own clock is that wrong, by the date of its answers."""
    pool = Pool(worker.url)
    try:
        answer = await pool.request("GET", "/readyz")
    finally:
        pool.close()
    found_s = (parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)).total_seconds()
    return abs(found_s - ahead_s) < NEARLY_S


async def test_row_39_workers_clocks_step(lab: Lab, row: RowRecord, tmp_path: Path) -> None:
    found = library()
    clocks = [WrongClock(found, tmp_path / f"{worker.name}.clock") for worker in lab.workers]

    async def step(*ahead_s: int) -> None:
        for worker, clock, seconds in zip(lab.workers, clocks, ahead_s, strict=True):
            clock.step(seconds)
            await until(partial(is_ahead, worker, seconds))

    async def disturb(drop: Drop) -> None:
        await selling_from(lab, drop, 10)
        await step(HOUR_S, -HOUR_S)
        await selling_from(lab, drop, 30)
        await step(-HOUR_S, HOUR_S)
        await selling_from(lab, drop, 50)
        await step(0, 0)

    async with AsyncExitStack() as held:
        for worker, clock in zip(lab.workers, clocks, strict=True):
            await held.enter_async_context(believing(worker, clock))
        played = await lab.rehearse(row.scenario(), disturb, rate_per_min=SLOW_PER_MIN)
    require_sound(played)
    assert played.seen.http_5xx == 0, played.seen.retry_later
    await lab.retire(played.drop)
    row.saw(
        f"One worker an hour ahead and one behind, then the other way round: {played.report['sold_units']} units were sold, no "
        "shopper saw an error, and every expiry was by the store's clock."
    )


async def state_of(lab: Lab, drop: Drop) -> DropState:
    return (await lab.inspect(drop)).state


async def accepted(lab: Lab, drop: Drop) -> bool:
    """Resumes a drop; whether every process goes by the new time, and what is overdue by it has been ended."""
    await lab.parts.drops.steer(drop.drop_id, "resume")
    steady = {process.name for process in lab.processes.values() if _says_steady(process, drop)}
    return steady == lab.processes.keys() and not (await lab.inspect(drop)).snapshot.overdue


def _says_steady(process: LabProcess, drop: Drop) -> bool:
    return any(line.get("event") == "store_clock_steady" and line["drop"] == drop.drop_id for line in process.lines)


async def test_row_40_valkeys_clock_jumps(row: RowRecord, stores_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new time stays, as when somebody has set a clock that was behind, and an engineer accepts it."""
    folder = Path(tempfile.mkdtemp(prefix="clock-", dir=stores_folder))
    folder.chmod(0o711)
    clock = WrongClock(library(), folder / "valkey.clock")
    program = program_believing(valkey_program(), clock)
    monkeypatch.setattr("flashsale.embedded.valkey.valkey_program", lambda: program)
    async with running_lab(folder) as lab:
        probe = await probe_for(lab, row)
        paid, _ = [(await probe.reserve(lab.workers[0], key=key)).json() for key in ("paid", "forgotten")]
        scenario = row.scenario()
        drop = await lab.open_drop(make_drop(new_drop_id(), scenario, now_ms()))
        async with crowd(lab.url, drop.drop_id, scenario, lab.storefront_key, lab.folder) as shoppers:
            await selling_from(lab, drop, 20)
            clock.step(TEN_MINUTES_S)
            for of in (drop, probe.drop):
                for process in (*lab.workers, *lab.reconcilers):
                    line = await process.says("store_clock_stepped", drop=of.drop_id)
                    assert abs(line["seconds"] - TEN_MINUTES_S) < NEARLY_S
                assert await state_of(lab, of) is DropState.PAUSED
            assert await units(lab, probe.drop) == (3, 2, 0), "what shoppers hold is theirs, ten minutes later"
            assert (await probe.confirm(lab.workers[0], paid)).status in {200, 202}
            for of in (drop, probe.drop):
                await until(partial(accepted, lab, of))
            assert await units(lab, probe.drop) == (4, 0, 1), "by the time that was accepted the other one is long over"
            seen = await shoppers.finished()
        played = await lab.judge(drop, seen)
        require_sound(played)
        judged = await lab.judge(probe.drop, probe.seen)
        assert judged.wrong == ()
    row.saw(
        f"Both drops were paused and nothing was ended, what was held could be paid; with the new time accepted the crowd went on, and "
        f"{played.report['sold_units']} units were sold."
    )
