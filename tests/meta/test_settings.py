"""Settings and commands say what they are for, and what documents say of them is true."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from flashsale.cli.exits import Exit
from flashsale.cli.main import app
from flashsale.settings import Settings, load_settings
from flashsale.toml_lines import line_index

ROOT = Path(__file__).parents[2]
SETTINGS_FILE = ROOT / "config" / "flashsale.toml"
TEXT = SETTINGS_FILE.read_text(encoding="utf-8")
TREE = tomllib.loads(TEXT)

DOCUMENTS = sorted(
    path
    for pattern in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/**/*.md",
        "config/**/*.toml",
        "config/*.conf",
        "flashsale/**/*.py",
        "reconciler/**/*.py",
    )
    for path in ROOT.glob(pattern)
)
_QUOTED = re.compile(r"`(?:\$ )?flashsale ([^`\n]+)`|'flashsale ([^'\n{]+)'")
_IN_BLOCK = re.compile(r"^(?:#? *)?(?:\$ )?flashsale (\S[^\n]*)$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"[A-Z][A-Z-]*|…")
PLANNED = {"recover", "verify-draw"}
"""Commands that the design names and a later version has."""


# --------------------------------------------------------------------------------------------------------------- settings


def sections() -> dict[str, type[Any]]:
    return {field.name: field.type for field in msgspec.structs.fields(Settings)}


def test_the_file_has_every_section_and_field_and_no_other() -> None:
    wanted = {section: {field.name for field in msgspec.structs.fields(kind)} for section, kind in sections().items()}
    assert {section: set(values) for section, values in TREE.items()} == wanted


def test_the_defaults_are_valid() -> None:
    assert msgspec.to_builtins(load_settings(environment={})) == TREE


@pytest.mark.parametrize("setting", [f"{section}.{name}" for section, values in TREE.items() for name in values])
def test_every_setting_says_why(setting: str) -> None:
    """A comment stands above it, or above the settings it directly follows."""
    lines = TEXT.splitlines()
    above = lines[: line_index(TEXT)[tuple(setting.split("."))] - 1]
    while above and above[-1].strip() and not above[-1].startswith(("#", "[")):
        above.pop()
    comment = ""
    while above and above[-1].startswith("# "):
        comment = f"{above.pop()} {comment}"
    assert len(comment.split()) > 4


def test_no_default_is_a_secret() -> None:
    for section, values in TREE.items():
        assert not [f"{section}.{name}" for name, value in values.items() if value and re.search(r"secret|password|signing_keys", name)]


# --------------------------------------------------------------------------------------------------------------- commands


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that is not hidden, with its words."""
    group = typer.main.get_command(app) if group is None else group
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        elif not command.hidden:
            yield (*path, name), command


COMMANDS = dict(commands())


def parse(words: list[str]) -> None:
    """Parse a command line as `flashsale` would, without running it.

    Raises:
        Exception: it would be refused.
    """
    context = typer.main.get_command(app).make_context("flashsale", list(words), resilient_parsing=False)
    command, rest = context.command, list(words)
    while hasattr(command, "commands"):
        assert rest, "a group alone is not a command"
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    command.make_context("flashsale", rest, parent=context)


def examples(command: Any) -> list[str]:
    return re.findall(r"^  (.*flashsale .*)$", command.help.replace("\\[", "["), re.MULTILINE)


def words_of(line: str) -> list[str]:
    """The arguments of a line of shell, without variables before it, a pipe or a redirection behind it, and a comment."""
    words = shlex.split(line, comments=True)
    while words and words[0] != "flashsale":
        words.pop(0)
    end = next((at for at, word in enumerate(words) if word in {">", "|", "&&", "&", ";"}), len(words))
    return words[1:end]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples_that_parse(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    found = examples(command)
    assert found
    assert command.help.index("Examples") > command.help.index("\n\n") > 10
    for line in found:
        words = words_of(line)
        assert tuple(words[: len(path)]) == path
        parse(words)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_does(path: tuple[str, ...]) -> None:
    for parameter in COMMANDS[path].params:
        assert getattr(parameter, "help", None), parameter.name


READING = {
    ("drop", "list"),
    ("drop", "show"),
    ("drop", "watch"),
    ("key", "list"),
    ("signing-key", "list"),
    ("audit",),
    ("doctor",),
    ("migrate",),
    ("bench",),
}


@pytest.mark.parametrize("path", sorted(READING), ids=" ".join)
def test_every_reading_command_speaks_json(path: tuple[str, ...]) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[path].params)


def test_no_option_takes_a_secret() -> None:
    names = {option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts}
    assert not [name for name in names if re.search(r"password|secret|token|url", name)]


def test_exit_codes_are_in_the_help() -> None:
    text = typer.main.get_command(app).help or ""
    assert all(re.search(rf"\b{code.value}\b", text) for code in Exit)


# -------------------------------------------------------------------------------------------------------------- documents


def mentioned(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    found = [one or other for one, other in _QUOTED.findall(text)]
    if path.suffix in {".md", ".toml"}:
        found += _IN_BLOCK.findall(text)
    return found


MENTIONED = sorted({(str(path.relative_to(ROOT)), line) for path in DOCUMENTS for line in mentioned(path)})


@pytest.mark.parametrize(("path", "line"), MENTIONED, ids=[f"{path}: {line}" for path, line in MENTIONED])
def test_every_command_that_is_mentioned_exists(path: str, line: str) -> None:
    words = words_of(f"flashsale {line}")
    if words[0] in PLANNED:
        return
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not _PLACEHOLDER.fullmatch(words[0]) and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{path} names a command that does not exist: flashsale {line}"
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
    used = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
    assert used <= known, f"{path} names options that do not exist: flashsale {line}"
