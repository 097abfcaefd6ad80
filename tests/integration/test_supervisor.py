"""The supervisor, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict, WrappedLogger

from flashsale import supervisor as module
from flashsale.supervisor import EXIT_GAVE_UP, EXIT_OK, Process, Supervisor

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w').close(); time.sleep(60)"


def python(name: str, code: str, *arguments: str) -> Process:
    return Process(name, [sys.executable, "-c", code, *arguments])


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[asyncio.Task[int]]:
    ready = asyncio.Event()
    supervisor.on_ready = ready.set
    task = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(10):
            await ready.wait()
        yield task
    finally:
        supervisor.stop()
        await asyncio.wait_for(task, 15)


@asynccontextmanager
async def logged(event: str) -> AsyncIterator[list[EventDict]]:
    """What is logged inside, which ends when `event` has been."""
    seen = asyncio.Event()

    def look(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        if line["event"] == event:
            seen.set()
        return line

    with capture_logs([look]) as logs:
        yield logs
        await asyncio.wait_for(seen.wait(), 10)


@contextmanager
def end_of(pid: int) -> Iterator[asyncio.Event]:
    """Set when the process, which need not be a child of ours, has ended."""
    ended = asyncio.Event()
    handle = os.pidfd_open(pid)
    asyncio.get_running_loop().add_reader(handle, ended.set)
    try:
        yield ended
    finally:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)


async def test_all_run_until_the_stop_and_then_none_does() -> None:
    supervisor = Supervisor([python("one", SLEEP), python("two", SLEEP)])
    async with running(supervisor) as task:
        pids = list(supervisor.pids.values())
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        supervisor.stop()
        assert await task == EXIT_OK
    assert not any(alive(pid) for pid in pids)
    assert supervisor.pids == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_and_the_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    async with running(Supervisor([python("one", SLEEP)])) as task:
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(task, 10) == EXIT_OK
    assert signal.getsignal(number) == before


async def test_a_killed_process_is_started_again() -> None:
    supervisor = Supervisor([python("one", SLEEP), python("two", SLEEP)])
    async with running(supervisor):
        first, other = supervisor.pids["one"], supervisor.pids["two"]
        async with logged("process_started") as logs:
            os.kill(first, signal.SIGKILL)
        assert supervisor.pids["one"] != first
        assert supervisor.pids["two"] == other
        assert [(line["event"], line["process"]) for line in logs] == [("process_restarting", "one"), ("process_started", "one")]
        assert logs[0]["exit_status"] == -signal.SIGKILL


async def test_a_process_that_never_stays_up_ends_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAILURES_MAX", 3)
    monkeypatch.setattr(module, "RESTART_PAUSE_MIN_S", 0.01)
    supervisor = Supervisor([python("broken", "raise SystemExit(3)"), python("fine", SLEEP)])
    with capture_logs() as logs:
        assert await asyncio.wait_for(supervisor.run(), 20) == EXIT_GAVE_UP
    gave_up = [line for line in logs if line["event"] == "process_gave_up"]
    assert [(line["process"], line["exit_status"], line["failures"]) for line in gave_up] == [("broken", 3, 3)]
    assert supervisor.pids == {}


async def test_a_process_that_ignores_the_stop_is_killed(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"

    async def is_deaf() -> bool:
        return deaf.exists()

    process = Process("stubborn", [sys.executable, "-c", STUBBORN, str(deaf)], ready=is_deaf)
    supervisor = Supervisor([process], stop_timeout_s=0.3)
    async with running(supervisor) as task:
        pid = supervisor.pids["stubborn"]
        supervisor.stop()
        assert await asyncio.wait_for(task, 5) == EXIT_OK
    assert not alive(pid)


async def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from flashsale.supervisor import Process, Supervisor
supervisor = Supervisor([Process("one", [sys.executable, "-c", {SLEEP!r}])])
supervisor.on_ready = lambda: print(supervisor.pids["one"], flush=True)
asyncio.run(supervisor.run())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    async with asyncio.timeout(15):
        # structlog prints to the same place; the line we want is a bare number
        async for line in parent.stdout:
            if line.strip().isdigit():
                break
    pid = int(line)
    assert alive(pid)
    with end_of(pid) as ended:
        parent.kill()
        await parent.wait()
        await asyncio.wait_for(ended.wait(), 10)


async def test_environment_is_handed_over(tmp_path: Path) -> None:
    said = tmp_path / "said"

    async def has_said() -> bool:
        return said.exists() and said.read_text(encoding="utf-8") == "hello"

    code = f"import os, time; open({str(said)!r}, 'w').write(os.environ['WORD']); time.sleep(60)"
    process = Process("one", [sys.executable, "-c", code], env={"WORD": "hello"}, ready=has_said)
    async with running(Supervisor([process])):
        pass


async def test_a_failing_readiness_check_ends_everything() -> None:
    async def broken() -> bool:
        raise RuntimeError("cannot tell")

    supervisor = Supervisor([Process("one", [sys.executable, "-c", SLEEP], ready=broken)], on_ready=lambda: None)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(supervisor.run(), 10)
    assert caught.group_contains(RuntimeError, match="cannot tell")
    assert supervisor.pids == {}
