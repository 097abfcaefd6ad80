"""What a command shows: data on stdout, messages on stderr, colour only where somebody looks."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.markup import escape

from flashsale.errors import FlashsaleError

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "flashsale"
_PIPE_WIDTH = 10_000
"""Columns of output that goes to a file or a program: nothing is cut there."""


def data_console() -> Console:
    """Where data goes. Made anew each time, so that it follows NO_COLOR and the present stdout."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def message_console() -> Console:
    """Where messages go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def program() -> str:
    """What to type for this program here: its name where the shell finds it, else the path it was started by."""
    started = Path(sys.argv[0])
    found = shutil.which(PROGRAM)
    if started.name != PROGRAM or not started.is_file() or (found is not None and started.samefile(found)):
        return PROGRAM
    started = started.absolute()
    return str(started.relative_to(Path.cwd()) if started.is_relative_to(Path.cwd()) else started)


def say(text: str) -> None:
    """One message on stderr; `text` may hold rich's markup."""
    message_console().print(text)


def warn(text: str) -> None:
    """One warning on stderr, without markup."""
    message_console().print(f"[yellow]warning:[/] {escape(text)}")


def print_json(data: Any) -> None:
    """`data` as indented JSON on stdout, for `--json`."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


def print_json_line(data: Any) -> None:
    """`data` as one line of JSON on stdout, at once, for streams."""
    sys.stdout.write(msgspec.json.encode(data).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout. A column whose name ends in `>` is set to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        right = column.endswith(">")
        table.add_column(column.rstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    data_console().print(table)


def print_error(error: FlashsaleError) -> None:
    """The three parts of an error: what, why, what to do."""
    console = message_console()
    console.print(f"[bold red]error:[/] {escape(error.what)}")
    if error.why:
        console.print("  " + escape(error.why).replace("\n", "\n  ").rstrip())
    if error.todo:
        console.print(f"[bold]→[/] {escape(error.todo)}")


def moment(at_ms: int) -> str:
    """A time for people, in UTC to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def counted(number: int, noun: str) -> str:
    """`1 unit`, `2 units`, `1,000 units`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(milliseconds: int) -> str:
    """A length of time for people: `0.4 s`, `12 s`, `4:05`, `1:58:03`, `3 d 4:00:00`."""
    if milliseconds < 10_000:
        return f"{milliseconds / 1000:.1f} s"
    seconds = milliseconds // 1000
    if seconds < 60:
        return f"{seconds} s"
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    clock = f"{hours}:{minutes:02}:{seconds:02}" if hours or days else f"{minutes}:{seconds:02}"
    return f"{days} d {clock}" if days else clock
