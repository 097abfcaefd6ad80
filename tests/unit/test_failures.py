"""What the command line says of errors that no command caught."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from flashsale.cli import main
from flashsale.cli.exits import AlreadyRunning
from flashsale.errors import DatabaseUnavailable, StoreUnavailable


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Exception], tuple[int, str]]:
    """Runs a command that fails with an error: its exit code, and what it says."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FLASHSALE_DEBUG", "")

    def run(error: Exception) -> tuple[int, str]:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(main, "app", fail)
        code = main.run(["version"])
        return code, capsys.readouterr().err

    return run


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("unhandled errors in a TaskGroup", errors)


def test_all_that_failed_together_is_told_once(failing: Callable[[Exception], tuple[int, str]]) -> None:
    away = DatabaseUnavailable(what="Postgres does not answer.", todo="Start it.")
    code, said = failing(group(group(away, StoreUnavailable(what="The store does not answer.")), away))
    assert code == 3
    assert said.count("Postgres does not answer.") == 1
    assert "The store does not answer." in said
    assert "should not be able" not in said


def test_what_nobody_has_words_for_is_named_beside_the_rest(failing: Callable[[Exception], tuple[int, str]]) -> None:
    taken = AlreadyRunning(what="The port is in use.")
    assert failing(taken)[0] == 5
    code, said = failing(group(taken, KeyError("secret"), group(RuntimeError("secret"), KeyError("again"))))
    assert code == 70
    assert "The port is in use." in said
    assert "KeyError, RuntimeError." in said
    assert "Group" not in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/lock"), "/data/lock: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device."),
    ],
)
def test_a_folder_that_cannot_be_used_is_no_defect(failing: Callable[[Exception], tuple[int, str]], error: OSError, words: str) -> None:
    code, said = failing(group(error, error))
    assert (code, said.count(words)) == (2, 1)


def test_a_connection_that_broke_is_not_a_matter_of_files(failing: Callable[[Exception], tuple[int, str]]) -> None:
    code, said = failing(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
    assert code == 70
    assert "ConnectionResetError." in said
