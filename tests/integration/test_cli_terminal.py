"""What somebody sees who sits at a terminal of eighty columns: through a pseudo-terminal, as they would."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest
from redis.asyncio import Redis

from flashsale.cli.environment import environment_of
from flashsale.connections.database import Database
from flashsale.settings import Settings
from tests.integration.command_line import flashsale

COLUMNS, LINES = 80, 24
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flashsale", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def read_until(self, words: str) -> str:
        """Everything shown up to `words`, without colours."""
        while words not in self.text:
            self._read()
        return self.text

    def read_to_end(self) -> str:
        while True:
            try:
                self._read()
            except EOFError:
                return self.text

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self.seen)

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def _read(self) -> None:
        try:
            read = os.read(self._ours, 65_536)
        except OSError:  # EIO: the other side is closed
            read = b""
        if not read:
            raise EOFError(self.seen)
        self.seen += read.decode(errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
async def environment(
    settings: Settings, store: Redis, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    variables = environment_of(settings)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "trial.toml"
    path.write_text(
        'id = "trial"\nname = "A trial with a name that reaches the end of the line"\ncurrency = "EUR"\nopens_at = "in 0s"\n'
        + "".join(f'[[sku]]\nid = "poster-of-a-long-name-{number}"\nallotment = 10_000_000\nprice_minor = 1\n' for number in range(1))
    )
    assert (await flashsale("drop", "create", str(path))).code == 0
    plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}}
    return plain | variables | {"TERM": "xterm-256color"}


@contextmanager
def terminal(*arguments: str, environment: dict[str, str]) -> Iterator[Terminal]:
    opened = Terminal(*arguments, environment=environment)
    try:
        yield opened
    finally:
        opened.close()


async def test_the_live_view_fits_and_ends_with_a_summary(environment: dict[str, str]) -> None:
    with terminal("drop", "watch", "trial", "--interval", "0.2", environment=environment) as watching:
        first = await asyncio.to_thread(watching.read_until, "orders")
        assert "closes in 1:59:5" in first
        assert "10,000,000" in first
        assert (await flashsale("drop", "close", "trial", "--yes")).code == 0
        everything = await asyncio.to_thread(watching.read_to_end)
        assert watching.process.wait() == 0
    assert "trial is closed: 0 of 10,000,000 units sold." in everything
    assert "\x1b[32m" in watching.seen or "\x1b[1;32m" in watching.seen
    assert max(len(line) for line in everything.replace("\r", "\n").split("\n")) <= COLUMNS


async def test_no_color_is_heard(environment: dict[str, str]) -> None:
    for more, variables in ((("--no-color",), {}), ((), {"NO_COLOR": "1"})):
        with terminal("drop", "watch", "trial", "--once", *more, environment=environment | variables) as watching:
            assert "serving number" in await asyncio.to_thread(watching.read_to_end)
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", watching.seen)


async def test_closing_asks_for_the_id(environment: dict[str, str]) -> None:
    for typed, code, state in (("yes", 4, "open"), ("trial", 0, "closed")):
        with terminal("drop", "close", "trial", environment=environment) as closing:
            await asyncio.to_thread(closing.read_until, "Type its id")
            closing.type(typed)
            await asyncio.to_thread(closing.read_to_end)
            assert closing.process.wait() == code
        assert (await flashsale("drop", "show", "trial", "--json")).json["state"] == state


async def test_ctrl_c_ends_a_watch_at_once(environment: dict[str, str]) -> None:
    with terminal("drop", "watch", "trial", "--interval", "60", environment=environment) as watching:
        await asyncio.to_thread(watching.read_until, "orders")
        os.killpg(watching.process.pid, 2)
        assert await asyncio.to_thread(watching.process.wait, 5) == 130
        assert "Traceback" not in await asyncio.to_thread(watching.read_to_end)
