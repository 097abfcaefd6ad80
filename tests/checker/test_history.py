"""Recording a history and reading it again, whatever happened to whoever wrote it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.checker.model import Rules, understand
from loadtest.checker.verdict import read_histories
from loadtest.history import Call, Ending, Event, HistoryBroken, Kind, Recorder, Step, read_history, write_history
from tests.checker.simulator import Simulation, Size

RESERVE = Call(Kind.RESERVE, shopper="1", drop="spring", key="k", items=(("shirt", 2),), ticket_id="spring.t1")
RESERVED = Ending(Step.OK, "reserved", state="reserved", reservation_id="spring.r1", amount_minor=300, expires_at_ms=9)


def test_what_was_noted_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with Recorder(path, wall_ms=lambda: 7) as recorder:
        recorder.end(recorder.invoke(RESERVE), RESERVED)
    invoked, ended = read_history(path)
    assert (invoked.step, invoked.kind, invoked.items, invoked.key, invoked.at_ms) == (Step.INVOKE, Kind.RESERVE, (("shirt", 2),), "k", 7)
    assert (ended.step, ended.op, ended.outcome, ended.reservation_id, ended.amount_minor) == (Step.OK, 1, "reserved", "spring.r1", 300)
    assert invoked.at_ns <= ended.at_ns


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    Recorder(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_lines_are_written_in_large_pieces(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with Recorder(path) as recorder:
        recorder.invoke(RESERVE)
        assert path.stat().st_size == 0
        recorder.flush()
        assert path.stat().st_size > 0
        for _ in range(2_000):
            recorder.invoke(RESERVE)
        assert path.stat().st_size > 100_000


def test_a_line_cut_short_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with Recorder(path) as recorder:
        recorder.invoke(RESERVE)
        recorder.invoke(RESERVE)
    path.write_bytes(path.read_bytes()[:-5])
    assert [event.op for event in read_history(path)] == [1]


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"step":"invoke","op":1,"at_ns":1,"at_ms":1}\nnonsense\n')
    with pytest.raises(HistoryBroken, match="line 2"):
        list(read_history(path))


def test_a_stopped_recorder_leaves_what_it_had_flushed(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    program = (
        "import sys, pathlib, os, signal\n"
        "from loadtest.history import *\n"
        "recorder = Recorder(pathlib.Path(sys.argv[1]))\n"
        "recorder.invoke(Call(Kind.JOIN)); recorder.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=False, cwd=Path(__file__).parents[2], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    assert [event.kind for event in read_history(path)] == [Kind.JOIN]


def test_several_processes_make_one_history(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.jsonl" for name in ("a", "b")]
    recorders = [Recorder(path, path.stem) for path in paths]
    for recorder in (*recorders, *recorders):
        recorder.end(recorder.invoke(RESERVE), RESERVED)
    for recorder in recorders:
        recorder.close()
    _, state = Simulation(0, Size(1, 1)).run()
    history = understand(read_histories(paths), state, Rules())
    assert sorted(operation.name for operation in history.reserves) == ["a:1", "a:2", "b:1", "b:2"]


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([Event(Step.OK, 1, 1, 1, outcome="reserved")], "without having been invoked"),
        ([Event(Step.INVOKE, 1, 1, 1, kind=Kind.JOIN), Event(Step.INVOKE, 1, 2, 1, kind=Kind.JOIN)], "invoked twice"),
        ([Event(Step.INVOKE, 1, 1, 1)], "says not what it is"),
        ([Event(Step.INVOKE, 1, 2, 1, kind=Kind.JOIN), Event(Step.INVOKE, 2, 1, 1, kind=Kind.JOIN)], "goes back in time"),
    ],
)
def test_what_is_no_history_is_refused(tmp_path: Path, events: list[Event], why: str) -> None:
    _, state = Simulation(0, Size(1, 1)).run()
    path = tmp_path / "history.jsonl"
    write_history(path, events)
    with pytest.raises(HistoryBroken, match=why):
        understand(read_history(path), state, Rules())


def test_a_call_without_an_end_is_unknown_and_never_left_out() -> None:
    _, state = Simulation(0, Size(1, 1)).run()
    history = understand([Event(Step.INVOKE, 1, 1, 1, kind=Kind.RESERVE, reservation_id="spring.r1")], state, Rules())
    [operation] = history.reserves
    assert (operation.step, operation.possible, history.unknown) == (Step.UNKNOWN, True, 1)
