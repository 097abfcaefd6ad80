"""`flashsale drop orders`: every order of a drop, as a table for spreadsheets or as JSON lines."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, run
from flashsale.cli.output import print_json_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flashsale.orders import Order


def register(drops: typer.Typer) -> None:
    """Adds the command to the group `drop`."""
    command(drops, "orders", "flashsale drop orders trial > trial.csv", "flashsale drop orders trial --json")(orders)


def orders(drop_id: options.DropId, as_json: options.Json = False, config: options.Config = None, data: options.Data = None) -> None:
    """Every order of a drop, as Postgres has it: CSV on stdout, in the order of their ids.

    Times are UTC, amounts in minor units. A text from outside that a spreadsheet would take for a formula begins with an
    apostrophe. With --json: one order a line.
    """
    run(_write(drop_id, config, data, as_json=as_json))


async def _write(drop_id: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    from flashsale.cli.target import find_target, opened
    from flashsale.order_csv import csv_pages
    from flashsale.orders import PAGE_MAX, Orders

    async with opened(find_target(config, data).settings) as parts:
        await parts.catalog.get(drop_id)
        page = partial(Orders(parts.database, parts.store).page, drop_id, limit=PAGE_MAX)
        if as_json:
            await _write_json(page)
            return
        async for piece in csv_pages(page):
            sys.stdout.write(piece.decode())


async def _write_json(page: Callable[[str], Awaitable[Sequence[Order]]]) -> None:
    found = await page("")
    while found:
        for order in found:
            print_json_line(order)
        found = await page(found[-1].order_id)
