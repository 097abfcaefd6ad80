"""The console tells people what to type: each of its commands has to be one, with the options it is told with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

import flashsale.web
from flashsale.cli.main import app

CONSOLE = Path(flashsale.web.__file__).parent / "console"
SCRIPTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted(CONSOLE.glob("*.js")))
WHOLE = re.findall(r"[\"`“](flashsale (?!drop\")[^\"`”]+)[\"`”]", SCRIPTS)
OF_A_DROP = re.findall(r"dropCommand\(\"([a-z-]+)\"", SCRIPTS)
OPTIONS = {"message": ["--clear"], "stock": ["--add", "--withdraw", "--drain"], "report": ["--html"]}


def found(words: list[str]) -> Any:
    """The command that these words begin with."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            return command
        assert word in command.commands, f"there is no such command: {' '.join(words)}"
        command = command.commands[word]
    return command


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize("text", sorted(set(WHOLE)))
def test_a_command_that_is_told_exists(text: str) -> None:
    words = text.removeprefix("flashsale ").split()
    command = found([word for word in words if re.fullmatch("[a-z-]+", word) and not word.startswith("-")])
    assert {word for word in words if word.startswith("--")} <= options_of(command)


@pytest.mark.parametrize("word", sorted(set(OF_A_DROP)))
def test_a_command_about_a_drop_that_is_told_exists(word: str) -> None:
    assert set(OPTIONS.get(word, ())) <= options_of(found(["drop", word]))


def test_there_are_such_commands() -> None:
    assert {"flashsale doctor", "flashsale drop list"} <= set(WHOLE)
    assert {"pause", "resume", "rate", "capacity", "message", "joining", "stock", "close", "report", "orders", "watch"} <= set(
        OF_A_DROP
    ) | set(re.findall(r"word: \"(rate|capacity)\"", SCRIPTS))
