"""What a person is told to type works where they are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flashsale.cli.output import program


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the program in its virtual environment; the person is in it."""
    path = tmp_path / ".venv" / "bin" / "flashsale"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "up"])
    monkeypatch.setenv("PATH", "/nowhere")
    return path.parent


def test_by_its_path_where_the_shell_would_not_find_it(folder: Path) -> None:
    assert folder.is_dir()
    assert program() == ".venv/bin/flashsale"


def test_by_its_name_where_the_shell_finds_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert program() == "flashsale"


def test_by_its_whole_path_from_elsewhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert program() == str(folder / "flashsale")


def test_by_its_name_when_run_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/flashsale/__main__.py"])
    assert program() == "flashsale"
