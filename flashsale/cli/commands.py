"""How commands are declared: help that begins with examples, and one place where a command's coroutine runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import typer

from flashsale.cli.exits import Exit

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])

_SECTIONS = ("Args:", "Examples:", "Raises:", "Returns:")

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def group(summary: str) -> typer.Typer:
    """An empty group of commands that shows its help when nothing is asked of it."""
    return typer.Typer(
        help=summary, no_args_is_help=True, context_settings=CONTEXT_SETTINGS, rich_markup_mode="rich", pretty_exceptions_enable=False
    )


def command(to: typer.Typer, name: str, *examples: str, hidden: bool = False) -> Callable[[Command], Command]:
    """Adds a function to a group as the command `name`.

    The first paragraph of its docstring is the summary, then come `examples`, then the other paragraphs up to the
    first section of arguments or errors.
    """

    def register(function: Command) -> Command:
        help_text = help_of(function.__doc__ or "", examples)
        to.command(name, help=help_text, hidden=hidden, context_settings=CONTEXT_SETTINGS)(function)
        return function

    return register


def help_of(docstring: str, examples: tuple[str, ...]) -> str:
    """Help in the order people read it."""
    summary, *rest = [" ".join(part.split()) for part in docstring.strip().split("\n\n")]
    rest = rest[: next((at for at, part in enumerate(rest) if part.startswith(_SECTIONS)), len(rest))]
    if examples:
        lines = "\n".join(f"  {line}".replace("[", "\\[") for line in examples)
        rest.insert(0, f"\b\n[bold]Examples[/]\n{lines}")
    return "\n\n".join([summary, *rest])


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command's coroutine on uvloop, as the service does."""
    import uvloop

    return uvloop.run(coroutine)


def finish(code: int) -> None:
    """Ends the command with `code` when that is not success."""
    if code != Exit.OK:
        raise typer.Exit(int(code))
