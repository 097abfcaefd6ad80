"""Clocks that are wrong, in a process that believes them: libfaketime between it and the system's time.

    clock = WrongClock(library, folder / "worker-1.clock")
    async with believing(worker, clock):
        clock.step(3_600)

Only the wall clock is wrong; the monotonic one, which timers run by, is not.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.release import deployed

if TYPE_CHECKING:
    from chaos.process import LabProcess

PACKAGE = "libfaketime"
"""Debian's"""
READ_EVERY_S = 1


def find_library() -> str | None:
    """Where Debian keeps the library that threads may use; None when it is not installed."""
    return next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


@dataclass(frozen=True, slots=True)
class WrongClock:
    """How far a process's clock is ahead: a file, so that it can step while the process runs."""

    library: str
    file: Path

    def step(self, ahead_s: int) -> None:
        """From now on, within `READ_EVERY_S`, the clock is so far ahead; negative is behind."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{ahead_s:+d}\n", encoding="ascii")
        fresh.chmod(0o644)
        fresh.replace(self.file)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process believe it."""
        return {
            "LD_PRELOAD": self.library,
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": str(READ_EVERY_S),
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@asynccontextmanager
async def believing(process: LabProcess, clock: WrongClock) -> AsyncIterator[None]:
    """A process of ours runs by this clock inside the block, right at first, and by the system's afterwards."""
    before = process.description
    clock.step(0)
    try:
        await deployed(process, replace(before, env={**(before.env or {}), **clock.environment}))
        yield
    finally:
        await deployed(process, before)


def program_believing(program: Path, clock: WrongClock) -> Path:
    """A program that is `program` and runs by this clock, right at first; it lies beside the clock's file."""
    clock.step(0)
    script = clock.file.with_suffix(".sh")
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in clock.environment.items())
    script.write_text(f'#!/bin/sh\n{variables} exec {shlex.quote(str(program))} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return script
