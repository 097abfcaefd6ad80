"""The command line as a user has it: inside this process for what ends at once, as a process for what stays."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from flashsale.cli.environment import environment_of
from flashsale.cli.main import run
from flashsale.settings import Settings

READY_S = 60.0


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def find_by_environment(settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in `folder` and find the stores by their environment, and nothing else."""
    monkeypatch.chdir(folder)
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FLASHSALE_DEBUG"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("COLUMNS", "200")


async def flashsale(*arguments: str) -> Done:
    """Run a command on a thread of its own, because it starts an event loop of its own."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = await asyncio.to_thread(run, arguments)
    return Done(code, out.getvalue(), err.getvalue())


class Running:
    """A command that stays, as a process. `lines` of its stdout are read until it says it is ready."""

    def __init__(self, *arguments: str, environment: dict[str, str], folder: Path) -> None:
        self._log = (folder / "stderr.log").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flashsale", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("FLASHSALE_")} | environment,
        )

    def wait_for(self, words: str) -> str:
        """Everything on stdout up to the line with `words`."""
        assert self.process.stdout is not None
        seen = ""
        for line in self.process.stdout:
            seen += line
            if words in line:
                return seen
        raise AssertionError(f"ended with {self.process.wait()} before it said {words!r}: {seen}\n{self.errors}")

    @property
    def errors(self) -> str:
        return Path(self._log.name).read_text(encoding="utf-8")

    def children(self) -> dict[str, int]:
        """Process ids of its children, by the last word of their command."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {_command(int(pid)).rsplit(" ", 1)[-1]: int(pid) for pid in reversed(task.read_text().split())}

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(READY_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def command_lines_below(pid: int) -> list[str]:
    """The arguments of a process and of all its descendants, as every user of the machine can read them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [_command(pid), *(line for child in children for line in command_lines_below(int(child)))]
