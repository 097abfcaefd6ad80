"""`python -m loadtest.checker`: its exit codes and what it prints."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loadtest.checker.__main__ import EXIT_BROKEN, EXIT_KEPT, EXIT_UNABLE, main
from loadtest.checker.state import write_state
from loadtest.history import write_history
from tests.checker.simulator import Flaw, Simulation, Size


def files(folder: Path, flaw: Flaw | None = None) -> tuple[Path, Path]:
    events, state = Simulation(3, Size(40, 10), flaw).run()
    history, final = folder / "history.jsonl", folder / "state.json"
    write_history(history, events)
    write_state(final, state)
    return history, final


def test_kept_promises_end_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history, final = files(tmp_path)
    assert main([str(history), "--state", str(final)]) == EXIT_KEPT
    said = msgspec.json.decode(capsys.readouterr().out)
    assert (said["violations"], said["examples"]) == ({}, [])
    assert said["events"] > said["operations"] > said["unknown"] > 0


def test_broken_ones_end_with_1_and_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history, final = files(tmp_path, Flaw.STOCK_IGNORED)
    assert main([str(history), "--state", str(final)]) == EXIT_BROKEN
    said = msgspec.json.decode(capsys.readouterr().out)
    assert said["violations"]["oversold"] >= 1
    [example, *_] = [example for example in said["examples"] if example["name"] == "oversold"]
    assert "too many were held" in example["sentence"]
    assert example["operations"]


@pytest.mark.parametrize("content", ["nonsense\n", '{"step":"ok","op":1,"at_ns":1,"at_ms":1}\n'])
def test_what_cannot_be_checked_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    history, final = files(tmp_path)
    history.write_text(content)
    assert main([str(history), "--state", str(final)]) == EXIT_UNABLE
    assert "could not be checked" in capsys.readouterr().err


def test_a_missing_or_foreign_state_ends_with_2(tmp_path: Path) -> None:
    history, _ = files(tmp_path)
    assert main([str(history), "--state", str(tmp_path / "nothing")]) == EXIT_UNABLE
    assert main([str(history), "--state", str(history)]) == EXIT_UNABLE


@pytest.mark.parametrize("window", ["1", "2:1", "a:b"])
def test_a_window_is_two_times_in_order(tmp_path: Path, window: str) -> None:
    history, final = files(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([str(history), "--state", str(final), "--fault", window])
    assert ended.value.code == 2
