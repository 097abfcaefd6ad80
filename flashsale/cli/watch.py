"""`flashsale drop watch`: a drop, live in the terminal, as lines, or as JSON lines."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, run
from flashsale.cli.output import data_console, print_json_line
from flashsale.errors import Recovering, StoreUnavailable, StoreUnknown

if TYPE_CHECKING:
    from flashsale.cli.shapes import Picture
    from flashsale.cli.target import Parts

INTERVAL_S = 1.0


class Until(StrEnum):
    """When watching ends by itself."""

    CLOSED = "closed"
    FINISHED = "finished"
    NEVER = "never"


class Show(Protocol):
    """Somewhere pictures are shown."""

    def show(self, picture: Picture, name: str) -> None:
        """The next picture of the drop called `name`."""
        ...

    def trouble(self, words: str) -> None:
        """No picture could be taken."""
        ...

    def end(self) -> None:
        """There will be no more pictures."""
        ...


def register(drops: typer.Typer) -> None:
    """Adds the command."""
    command(
        drops,
        "watch",
        "flashsale drop watch trial",
        "flashsale drop watch trial --once --json",
        "flashsale drop watch trial --json --until finished > trial.jsonl",
    )(watch)


def watch(
    drop_id: options.DropId,
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
    until: Annotated[
        Until, typer.Option("--until", help="When to end: closed; finished (closed, and every order in Postgres); never.")
    ] = Until.CLOSED,
    interval: Annotated[float, typer.Option("--interval", min=0.1, max=60, metavar="SECONDS", help="Between two looks.")] = INTERVAL_S,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Watch a drop: line, admissions, stock, reservations and orders, every second. Ends with a summary.

    On a terminal it is a live picture, otherwise a line a second. With --json each line is a picture: drop_id, at_ms,
    state, joined, waiting, serving_number, admitted, active, capacity, skus, refused, orders, and more.
    """
    run(_watch(drop_id, until, interval, config, data, once=once, as_json=as_json))


async def _watch(
    drop_id: str, until: Until, interval_s: float, config: Path | None, data: Path | None, *, once: bool, as_json: bool
) -> None:
    from flashsale.cli.looking import Looker
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        if once:
            inspection, picture = await Looker(parts, drop_id).look()
            _show_once(picture, inspection.definition.name, as_json=as_json)
            return
        with ExitStack() as held:
            show = _chosen(held, as_json=as_json)
            await follow(parts, drop_id, show, lambda picture: is_over(picture, until), interval_s)
            show.end()


def _show_once(picture: Picture, name: str, *, as_json: bool) -> None:
    from flashsale.cli.watch_view import History, view

    if sys.stdout.isatty() and not as_json:
        data_console().print(view(picture, name, History()))
    else:
        (JsonLines() if as_json else PlainLines()).show(picture, name)


def _chosen(held: ExitStack, *, as_json: bool) -> Show:
    if as_json:
        return JsonLines()
    return held.enter_context(LiveView()) if sys.stdout.isatty() else PlainLines()


def is_over(picture: Picture, until: Until) -> bool:
    """Whether watching ends with this picture."""
    match until:
        case Until.CLOSED:
            return picture.state == "closed"
        case Until.FINISHED:
            recorded = picture.journal_oldest_unfinished_ms is None and picture.orders is not None
            return picture.state == "closed" and picture.reservations_live == 0 and recorded
        case Until.NEVER:
            return False


async def follow(parts: Parts, drop_id: str, show: Show, is_last: Callable[[Picture], bool], interval_s: float = INTERVAL_S) -> None:
    """Takes pictures and shows them until `is_last` says so. A store that does not answer, or has lost the drop, is said, and asked again.

    Raises:
        DropNotFound, Refused, Recovering: see `looking.of_drop`; only for the first picture.
    """
    from flashsale.cli.looking import Looker

    looker = Looker(parts, drop_id)
    loop = asyncio.get_running_loop()
    next_at, seen = loop.time(), False
    while True:
        try:
            inspection, picture = await looker.look()
        except (StoreUnavailable, StoreUnknown, Recovering) as error:
            if not seen:
                raise
            show.trouble(error.what)
        else:
            seen = True
            show.show(picture, inspection.definition.name)
            if is_last(picture):
                return
        next_at = max(next_at + interval_s, loop.time())
        await asyncio.sleep(next_at - loop.time())


async def follow_until(parts: Parts, drop_id: str, done: asyncio.Future[Any]) -> None:
    """Shows the drop on stdout, live on a terminal and as lines otherwise, until `done` is done. For the demo."""
    with ExitStack() as held:
        following = asyncio.ensure_future(follow(parts, drop_id, _chosen(held, as_json=False), lambda _picture: False))
        try:
            await asyncio.wait((following, done), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


class JsonLines:
    """Pictures as JSON, one a line."""

    def show(self, picture: Picture, name: str) -> None:  # noqa: ARG002 - a picture needs no name here
        """Writes the picture."""
        print_json_line(picture)

    def trouble(self, words: str) -> None:
        """Said on stderr; the stream only has pictures."""
        sys.stderr.write(words + "\n")

    def end(self) -> None:
        """Nothing: the last line is the summary."""


class PlainLines:
    """Pictures as lines of words and numbers."""

    def show(self, picture: Picture, name: str) -> None:  # noqa: ARG002 - a line has the drop's numbers only
        """Writes the line."""
        from flashsale.cli.watch_view import plain_line

        print(plain_line(picture), flush=True)

    def trouble(self, words: str) -> None:
        """Said on stderr."""
        sys.stderr.write(words + "\n")

    def end(self) -> None:
        """Nothing: the last line says it."""


class LiveView:
    """Pictures in place, on a terminal. Use it as a context."""

    def __init__(self) -> None:
        from rich.live import Live

        from flashsale.cli.watch_view import History

        self._console = data_console()
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._history = History()
        self._last: tuple[Picture, str] | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, picture: Picture, name: str) -> None:
        """Puts the picture in place of the last one."""
        self._history.add(picture)
        self._last = (picture, name)
        self._draw()

    def trouble(self, words: str) -> None:
        """Shown below the last picture."""
        self._draw(words)

    def _draw(self, *notes: str) -> None:
        from flashsale.cli.watch_view import view

        if self._last is not None:
            self._live.update(view(*self._last, self._history, notes), refresh=True)

    def end(self) -> None:
        """The summary, below the last picture."""
        from flashsale.cli.watch_view import closing_words

        if self._last is not None:
            self._live.stop()
            self._console.print()
            self._console.print(closing_words(self._last[0], self._history))
