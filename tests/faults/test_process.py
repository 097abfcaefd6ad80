"""A process of the laboratory is heard whatever it says, and is known to have ended."""

from __future__ import annotations

import sys

import pytest

from chaos.process import LINE_BYTES_MAX, LabProcess, ProcessFailed
from chaos.proxy import Proxy
from flashsale.supervisor import Process

STARTED = """print('{"event": "reconciler_started"}', file=sys.stderr)"""


def process(code: str) -> LabProcess:
    link = Proxy("unused", [])
    return LabProcess(Process("reconciler-1", [sys.executable, "-c", f"import sys\n{code}"]), link, link)


async def test_a_line_longer_than_is_kept_does_not_deafen() -> None:
    long = process(f"print('x' * {2 * LINE_BYTES_MAX}, file=sys.stderr)\n{STARTED}")
    await long.start()
    assert await long.ended() == 0
    assert long.lines[-1] == {"event": "reconciler_started"}


async def test_what_is_no_json_is_kept_as_text() -> None:
    plain = process(f"print('Traceback', file=sys.stderr)\n{STARTED}")
    await plain.start()
    await plain.ended()
    assert plain.lines[0] == {"event": "", "text": "Traceback"}


async def test_one_that_ends_before_it_is_ready_says_why() -> None:
    with pytest.raises(ProcessFailed, match="no such setting"):
        await process("sys.exit('no such setting')").start()


async def test_a_process_can_be_stopped_killed_and_started_again() -> None:
    waiting = process(f"import signal\n{STARTED}\nsignal.pause()")
    await waiting.start()
    with pytest.raises(ProcessFailed, match="running already"):
        await waiting.start()
    assert await waiting.stop() == -15
    assert not waiting.running
    with pytest.raises(ProcessFailed, match="not running"):
        await waiting.kill()
    await waiting.start()
    await waiting.kill()
    assert await waiting.ended() == -9
    await waiting.close()
