"""Several processes of ours as one: started together, restarted when one dies, stopped together.

For `flashsale up` and `flashsale serve --workers N`. The processes log for themselves; the supervisor logs only what it
does to them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog

from flashsale.child import child_argv

STOP_TIMEOUT_S = 10.0
RESTART_PAUSE_MIN_S = 0.2
RESTART_PAUSE_MAX_S = 10.0
STEADY_AFTER_S = 30.0
"""A process that ran this long is healthy: its next restart is quick again."""
FAILURES_MAX = 8
"""Deaths in a row, each within `STEADY_AFTER_S` of its start, after which the supervisor gives up; some 20 s in all."""

EXIT_OK = 0
EXIT_GAVE_UP = 70  # EX_SOFTWARE of sysexits.h

_READY_POLL_S = 0.05

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Process:
    """One program to keep running."""

    name: str
    """for logs: `worker-1`, `reconciler`"""
    argv: Sequence[str]
    """the program, as a path, and its arguments"""
    env: Mapping[str, str] | None = None
    """its whole environment; ours when None"""
    ready: Callable[[], Awaitable[bool]] | None = None
    """asked until it says yes, for `Supervisor.on_ready`; a process without it is ready once started"""


@dataclass(slots=True)
class Supervisor:
    """Keeps processes running until told to stop.

    Run it in the main thread: the kernel ties a child's end to the thread that started it, and signals come there.
    """

    processes: Sequence[Process]
    on_ready: Callable[[], None] | None = None
    """called once, when every process has been ready for the first time"""
    stop_timeout_s: float = STOP_TIMEOUT_S
    """how long processes may take to finish after SIGTERM before they are killed"""
    _pids: dict[str, int] = field(default_factory=dict, init=False)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def pids(self) -> Mapping[str, int]:
        """The process id of each process that is running, by name."""
        return self._pids

    def stop(self) -> None:
        """Ask for the end; `run` returns when all have ended."""
        self._stopping.set()

    async def run(self) -> int:
        """Start all, keep them running, and return the exit code once all have ended.

        SIGTERM and SIGINT stop it, and the handlers that were there before are put back afterwards.

        Returns:
            `EXIT_OK` after a stop, `EXIT_GAVE_UP` when a process would not stay up.
        """
        with self._signals_stop():
            async with asyncio.TaskGroup() as group:
                announcer = group.create_task(self._announce())
                # Cancelling a keeper ends its process first, so whatever ends this block, no process stays.
                async with asyncio.TaskGroup() as inner:
                    keepers = [inner.create_task(self._keep(process), name=process.name) for process in self.processes]
                announcer.cancel()
        return EXIT_OK if all(keeper.result() for keeper in keepers) else EXIT_GAVE_UP

    @contextmanager
    def _signals_stop(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.getsignal(number) for number in wanted}
        for number in wanted:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in wanted:
                loop.remove_signal_handler(number)
                if before[number] is not None:
                    signal.signal(number, before[number])

    async def _keep(self, process: Process) -> bool:
        """Run `process` again and again until the stop; False when it would not stay up, which stops the others too."""
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            exit_status = await self._run_once(process)
            if self._stopping.is_set():
                break
            failures = 1 if time.monotonic() - started > STEADY_AFTER_S else failures + 1
            if failures >= FAILURES_MAX:
                _log.error("process_gave_up", process=process.name, exit_status=exit_status, failures=failures)
                self.stop()
                return False
            pause_s = min(RESTART_PAUSE_MIN_S * 2 ** (failures - 1), RESTART_PAUSE_MAX_S)
            _log.warning("process_restarting", process=process.name, exit_status=exit_status, failures=failures, pause_s=pause_s)
            await self._pause(pause_s)
        return True

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not past the stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _run_once(self, process: Process) -> int:
        """Run `process` until it ends, or the stop ends it. Returns its exit status."""
        argv = child_argv(process.argv, death_signal=signal.SIGTERM)
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            env=dict(os.environ if process.env is None else process.env),
            start_new_session=True,  # a Ctrl-C reaches the supervisor only, which then stops all in order
        )
        self._pids[process.name] = child.pid
        _log.info("process_started", process=process.name, pid=child.pid)
        ended = asyncio.create_task(child.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not ended.done():
                await self._end(process, child, ended)
            del self._pids[process.name]
        return ended.result()

    async def _end(self, process: Process, child: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        """SIGTERM, and SIGKILL when that was not enough."""
        with suppress(ProcessLookupError):
            child.terminate()
        done, _ = await asyncio.wait((ended,), timeout=self.stop_timeout_s)
        if not done:
            _log.warning("process_killed", process=process.name, pid=child.pid, after_s=self.stop_timeout_s)
            with suppress(ProcessLookupError):
                child.kill()
            await ended

    async def _announce(self) -> None:
        """Call `on_ready` when all are ready."""
        if self.on_ready is None:
            return
        while not await self._all_ready():  # noqa: ASYNC110 - the answer comes from another process
            await asyncio.sleep(_READY_POLL_S)
        self.on_ready()

    async def _all_ready(self) -> bool:
        if len(self._pids) < len(self.processes):
            return False
        for process in self.processes:
            if process.ready is not None and not await process.ready():
                return False
        return True
