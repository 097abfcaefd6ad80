"""The command `flashsale`: all groups together, and what happens to an error that no command caught."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from flashsale import __version__
from flashsale.cli import (
    audit,
    doctor,
    drop,
    drop_invites,
    drop_line,
    drop_orders,
    drop_report,
    drop_stock,
    key,
    migrate,
    order,
    reconcile,
    recover,
    refunds,
    rehearse,
    repair,
    serve,
    signing_key,
    up,
    verify_draw,
    watch,
)
from flashsale.cli.commands import CONTEXT_SETTINGS, command, help_of
from flashsale.cli.exits import Exit, exit_code_of
from flashsale.cli.output import message_console, print_error, say
from flashsale.errors import ConfigurationError, FlashsaleError

_ANYWHERE = {"--debug": "FLASHSALE_DEBUG", "--no-color": "NO_COLOR"}
"""Flags that may stand anywhere on the line, and the variable each sets."""

_UNDEFINED_TABLE = "42P01"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

_DOCSTRING = """A waiting room, reservations and orders for drops that never oversell.

Exit codes: 0 ok; 1 a check found something; 2 wrong usage, settings or drop file; 3 a store cannot be reached; 4 refused
by the rules; 5 already running; 70 a defect; 130 interrupted.

Messages go to stderr, data to stdout. Settings come from options, then FLASHSALE_<SECTION>_<NAME> in the environment,
then --config FILE, then the defaults in config/flashsale.toml.
"""

app = typer.Typer(
    help=help_of(
        _DOCSTRING, ("flashsale up", "flashsale drop create config/drops/trial.toml", "flashsale drop watch trial", "flashsale demo")
    ),
    no_args_is_help=True,
    context_settings=CONTEXT_SETTINGS,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours; so does NO_COLOR. May stand anywhere.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from. May stand anywhere.")] = False,
) -> None:
    pass


@command(app, "version", "flashsale version")
def version() -> None:
    """Print the version."""
    print(__version__)


up.register(app)
serve.register(app)
reconcile.register(app)
migrate.register(app)
drop.register(app)
watch.register(drop.drops)
drop_stock.register(drop.drops)
drop_line.register(drop.drops)
drop_invites.register(drop.drops)
drop_report.register(drop.drops)
drop_orders.register(drop.drops)
key.register(app)
order.register(app)
refunds.register(app)
signing_key.register(app)
audit.register(app)
repair.register(app)
doctor.register(app)
recover.register(app)
verify_draw.register(app)
rehearse.register(app)


def _register_optional(name: str, *examples: str) -> None:
    """Adds a command that lives in a module of its own name, if this installation has it."""
    if importlib.util.find_spec(f"flashsale.cli.{name}") is not None:
        module = importlib.import_module(f"flashsale.cli.{name}")
        command(app, name, *examples)(getattr(module, name))


_register_optional("demo", "flashsale demo", "flashsale demo --headless --shoppers 2000 --units 300 --seed 7 --report demo.json")
_register_optional(
    "soak",
    "flashsale soak --seed 7 --minutes 2",
    "flashsale soak --seed 7 --minutes 2 --round 3",
    "flashsale soak --seed 7 --plan",
    "flashsale soak --seeds 201-230 --minutes 2",
)
_register_optional(
    "bench", "flashsale bench", "flashsale bench durability", "flashsale bench --only serving --runs 9 --report serving.json"
)


def main() -> None:
    """Entry point of the `flashsale` command."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has gone; without this the interpreter would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code. Messages are on stderr by then."""
    arguments = _take_flags(arguments)
    try:
        app(list(arguments), prog_name="flashsale")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(Exit.OK if ended.code is None else Exit.DEFECT)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        return int(Exit.OK)
    except Exception as error:  # noqa: BLE001 - the one place that turns every error into words
        return _failed(error)
    return int(Exit.OK)


def _take_flags(arguments: Sequence[str]) -> list[str]:
    """The arguments without the flags that may stand anywhere, which take effect here."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    for flag, variable in _ANYWHERE.items():
        if flag in arguments[:end]:
            os.environ[variable] = "1"
    return [*(word for word in arguments[:end] if word not in _ANYWHERE), *arguments[end:]]


def _failed(error: Exception) -> int:
    if os.environ.get("FLASHSALE_DEBUG"):
        message_console().print_exception()
    leaves = list(_leaves(error))
    known = {str(found): found for found in map(_known, leaves) if found is not None}
    unknown = [leaf for leaf in leaves if _known(leaf) is None]
    for found in known.values():
        print_error(found)
    if unknown:
        print_error(
            FlashsaleError(
                what="Something failed that should not be able to:",
                why=f"{', '.join(dict.fromkeys(type(leaf).__name__ for leaf in unknown))}.",
                todo="Run it again with --debug and report what it shows.",
            )
        )
    code = Exit.DEFECT if unknown else exit_code_of(next(iter(known.values())))
    if code is Exit.UNREACHABLE:
        say("[dim]'flashsale doctor' looks at everything at once.[/]")
    return int(code)


def _leaves(error: Exception) -> Iterator[Exception]:
    """What failed together, one by one."""
    if isinstance(error, ExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _known(error: Exception) -> FlashsaleError | None:
    """The error in our own words, if we have any for it."""
    if isinstance(error, FlashsaleError):
        return error
    if getattr(error, "sqlstate", None) == _UNDEFINED_TABLE:
        from flashsale.cli.exits import Refused

        return Refused(what="The database has not been migrated.", todo="Run 'flashsale migrate'.")
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _NO_ROOM):
        return ConfigurationError(
            what="The file system does not let it:",
            why=": ".join(str(part) for part in (error.filename, error.strerror) if part) + ".",
            todo="Choose another place, or make room and give the account you start as the right to it.",
        )
    return None
