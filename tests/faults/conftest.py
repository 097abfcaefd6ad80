"""One laboratory for all rows, mended after each; and the report of what was seen.

Rows with the marker `faults` run only with `--every-fault` (`make faults`).
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from msgspec.structs import asdict

from chaos.lab import Lab, Recovery, now_ms, running_lab
from chaos.report import BROKEN, HELD, KNOWN, LATE, NOT_RUN, Finding, write_report
from chaos.rows import BY_NUMBER
from flashsale.model import Drop
from loadtest.checker.model import Window
from tests.faults.stage import RowRecord, require_sound, selling_from

SELLING = 5
"""units that a crowd has reserved when the block begins"""
_ROW = re.compile(r"test_row_(\d\d)_")
_FINDINGS = pytest.StashKey[list[Finding]]()


@pytest.fixture
def row(request: pytest.FixtureRequest) -> RowRecord:
    found = _ROW.match(request.node.name)
    assert found, "a test of a row is called test_row_NN_…"
    record = RowRecord(int(found[1]))
    request.node.stash[_RECORD] = record
    return record


_RECORD = pytest.StashKey[RowRecord]()


@pytest.fixture(scope="session")
async def _lab() -> AsyncIterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="flashsale-lab-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        async with running_lab(folder) as lab:
            yield lab


@pytest.fixture
async def lab(_lab: Lab) -> AsyncIterator[Lab]:
    """The laboratory; afterwards every fault is ended and everything runs again."""
    _lab.recoveries.clear()
    yield _lab
    await _lab.heal()


Bustle: TypeAlias = Callable[..., AbstractAsyncContextManager[None]]


@pytest.fixture
def bustle(lab: Lab, row: RowRecord, request: pytest.FixtureRequest) -> Bustle:
    """A crowd at a drop of its own for as long as a block lasts, which finds every invariant kept.

    Only with `--every-fault`: in `make test` the rows that need no crowd go without. Where the block makes the store lose data,
    `recover` puts that drop together again after it; `changes` are made to the drop.
    """

    @asynccontextmanager
    async def crowded(recover: Callable[[Lab, Drop], Awaitable[object]] | None = None, **changes: Any) -> AsyncIterator[None]:
        if not request.config.getoption("--every-fault", default=False):
            yield
            return
        began, over, losses = asyncio.Event(), asyncio.Event(), list[Window]()

        async def beside(drop: Drop) -> None:
            await selling_from(lab, drop, SELLING)
            began_ms = now_ms()
            began.set()
            await over.wait()
            if recover is not None:
                await recover(lab, drop)
                losses.append(Window(began_ms, now_ms()))

        playing = asyncio.create_task(lab.rehearse(row.scenario(shoppers=150, units=40), beside, losses=losses, **changes))
        try:
            await asyncio.wait((playing, asyncio.ensure_future(began.wait())), return_when=asyncio.FIRST_COMPLETED)
            yield
            over.set()
            played = await playing
        finally:
            playing.cancel()
        await lab.retire(played.drop)
        require_sound(played)
        row.beside = f"Beside it {played.report['joined']} shoppers bought {played.report['sold_units']} units."

    return crowded


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-fault", action="store_true", help="also run the rows of the fault table that take their time")
    parser.addoption("--fault-report", type=Path, help="folder for faults.json and faults.html")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--every-fault", default=False):
        return
    slow = [item for item in items if item.get_closest_marker("faults")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    record = item.stash.get(_RECORD, None)
    if record is not None and report.when == "call":
        known, recoveries = BY_NUMBER[record.number], _recoveries(item)
        late = [sentence for recovery in recoveries for sentence in recovery.late] if report.passed else []
        if late and item.config.getoption("--every-fault", default=False):  # elsewhere no test fails on a clock
            report.outcome, report.longrepr = "failed", "\n".join(late)
        item.config.stash.setdefault(_FINDINGS, []).append(
            Finding(
                row=record.number,
                fault=known.fault,
                expected=known.expected,
                seen=" ".join([*record.seen, record.beside, *(late or _reasons(report))]).strip(),
                seed=record.seed,
                verdict=LATE if late else _verdict(report),
                seconds=call.duration,
                moved_s=max((recovery.moved_s for recovery in recoveries), default=None),
                caught_up_s=max((recovery.caught_up_s for recovery in recoveries), default=None),
            )
        )
    return report


def _recoveries(item: pytest.Item) -> list[Recovery]:
    """How soon the row's drops recovered; nothing where a row measures that itself."""
    lab: Lab | None = getattr(item, "funcargs", {}).get("lab")
    return lab.recoveries if lab is not None else []


def _verdict(report: Any) -> str:
    if report.skipped:
        return KNOWN if hasattr(report, "wasxfail") else NOT_RUN
    return HELD if report.passed else BROKEN


def _reasons(report: Any) -> list[str]:
    """Why it fails as is known, why it could not be run here, or the last line of why it failed."""
    if reason := getattr(report, "wasxfail", ""):
        return [str(reason).removeprefix("reason: ")]
    if report.skipped:
        return [report.longrepr[2].removeprefix("Skipped: ")]
    return [str(report.longrepr).strip().splitlines()[-1]] if report.failed else []


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    folder, found = config.getoption("--fault-report", default=None), config.stash.setdefault(_FINDINGS, [])
    if (output := getattr(config, "workeroutput", None)) is not None:  # one of several processes, which write no report of their own
        output["findings"] = [asdict(finding) for finding in found]
    elif folder is not None:
        write_report(folder, found)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes what a process found when rows run side by side."""
    told = getattr(node, "workeroutput", {}).get("findings", [])
    node.config.stash.setdefault(_FINDINGS, []).extend(Finding(**finding) for finding in told)
