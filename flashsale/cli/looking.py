"""Looking at drops from outside: the store first, because it works without Postgres."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from flashsale.audits import Audits, LastAudit
from flashsale.cli.exits import Refused
from flashsale.cli.shapes import DropListed, DropShown, Orders, Picture, picture_of
from flashsale.cli.target import Parts
from flashsale.drops import DropRow
from flashsale.errors import DatabaseUnavailable, DropNotFound, FlashsaleError, Recovering, StoreUnavailable, StoreUnknown
from flashsale.model import Drop, Inspection
from reconciler.journal import Journal

DATABASE_PATIENCE_S = 1.0
"""A view does not wait longer for Postgres; it shows what the store knows."""
DATABASE_PAUSE_S = 5.0
"""After a failure Postgres is left alone this long."""
LOOKS_AT_ONCE_MAX = 16

Result = TypeVar("Result")


async def of_drop(parts: Parts, drop_id: str, call: Awaitable[Result]) -> Result:
    """The result of a call about a drop.

    Raises:
        DropNotFound: there is no such drop, which the store alone cannot know.
        Refused: the drop is recorded and the store has not been given it yet.
        Recovering: the store has lost the drop.
        StoreUnavailable, StoreUnknown: the store does not answer.
    """
    try:
        return await call
    except Recovering as error:
        raise await _why_missing(parts, drop_id) from error


async def _why_missing(parts: Parts, drop_id: str) -> FlashsaleError:
    if drop_id in await parts.drops.ids():
        return Recovering(
            what=f"The store does not hold the drop {drop_id} as it should, so nothing is sold.",
            todo=f"'flashsale recover {drop_id} --dry-run' says what is the matter.",
        )
    try:
        row = await parts.catalog.get(drop_id)
    except DropNotFound as missing:
        return missing
    except DatabaseUnavailable:
        return Refused(
            what=f"The store holds no drop called {drop_id}, and Postgres does not answer, so nobody can tell whether there is one.",
            todo="'flashsale doctor' shows what is wrong.",
        )
    if row.opened_in_store:
        return Recovering(
            what=f"The store has lost the drop {drop_id}.", todo=f"'flashsale recover {drop_id} --dry-run' says what is left."
        )
    return Refused(
        what=f"The drop {drop_id} is recorded, but the store has not been given it yet.",
        todo="A running reconciler does that within a second once the store answers.",
    )


class Looker:
    """Takes pictures of one drop, one after the other. Postgres may be slow or away; the picture comes all the same."""

    def __init__(self, parts: Parts, drop_id: str) -> None:
        self._parts = parts
        self._drop_id = drop_id
        self._journal = Journal(parts.store, drop_id, "watch")
        self._ask_database_at = 0.0

    async def look(self) -> tuple[Inspection, Picture]:
        """The drop now. Raises as `of_drop` does."""
        inspection, (orders, audit) = await asyncio.gather(
            of_drop(self._parts, self._drop_id, self._parts.drops.inspect(self._drop_id)), self._ask_database()
        )
        return inspection, picture_of(inspection, await self._journal.oldest_unfinished_ms(), orders, audit)

    async def _ask_database(self) -> tuple[Orders | None, LastAudit | None]:
        if time.monotonic() < self._ask_database_at:
            return None, None
        try:
            async with asyncio.timeout(DATABASE_PATIENCE_S):
                rows = await self._parts.database.fetch("order_counts", self._drop_id)
                audit = await Audits(self._parts.database).last(self._drop_id)
        except (DatabaseUnavailable, TimeoutError):
            self._ask_database_at = time.monotonic() + DATABASE_PAUSE_S
            return None, None
        return Orders(**{row["state"]: row["orders"] for row in rows}), audit


async def show(parts: Parts, drop_id: str) -> DropShown:
    """All there is to know of a drop. Raises as `of_drop` does, unless Postgres knows the drop at least."""
    try:
        inspection, picture = await Looker(parts, drop_id).look()
    except (StoreUnavailable, StoreUnknown, Refused, Recovering):
        try:
            row = await parts.catalog.get(drop_id)
        except DatabaseUnavailable:
            row = None
        if row is None:
            raise
        return DropShown(drop_id, row.state.value, in_store=False, definition=row.drop, live=None, units=dict(row.allotments))
    units = {sku: stock.allotment for sku, stock in picture.skus.items()}
    return DropShown(drop_id, picture.state, in_store=True, definition=inspection.definition, live=picture, units=units)


async def list_drops(parts: Parts) -> tuple[list[DropListed], list[str]]:
    """All drops, latest opening first, and what could not be asked.

    Raises:
        StoreUnavailable: neither the store nor Postgres answers.
    """
    troubles: list[str] = []
    rows: dict[str, DropRow] = {}
    try:
        rows = {row.drop.drop_id: row for row in await parts.catalog.list()}
    except DatabaseUnavailable as error:
        troubles.append(f"{error.what} {error.why} Only what the store holds is shown.")
    try:
        ids = await parts.drops.ids()
    except StoreUnavailable as error:
        if troubles:
            raise
        troubles.append(f"{error.what} States are the last ones Postgres heard of.")
        ids = set()
    gate = asyncio.Semaphore(LOOKS_AT_ONCE_MAX)
    listed = await asyncio.gather(*(_listed(parts, drop_id, rows.get(drop_id), gate, held=drop_id in ids) for drop_id in {*rows, *ids}))
    found = [drop for drop in listed if drop is not None]
    return sorted(found, key=lambda drop: (-drop.opens_at_ms, drop.drop_id)), troubles


async def _listed(parts: Parts, drop_id: str, row: DropRow | None, gate: asyncio.Semaphore, *, held: bool) -> DropListed | None:
    if held:
        try:
            async with gate:
                inspection = await parts.drops.inspect(drop_id)
            allotment = sum(stock.allotment for stock in inspection.skus.values())
            return _line(inspection.definition, inspection.state.value, allotment, inspection)
        except FlashsaleError:
            pass  # shown as Postgres knows it
    return None if row is None else _line(row.drop, row.state.value, sum(row.allotments.values()), None)


def _line(drop: Drop, state: str, allotment: int, inspection: Inspection | None) -> DropListed:
    stocks = None if inspection is None else inspection.skus.values()
    times = drop if inspection is None else inspection.snapshot
    return DropListed(
        drop_id=drop.drop_id,
        name=drop.name,
        state=state,
        in_store=inspection is not None,
        joins_at_ms=times.joins_at_ms,
        opens_at_ms=times.opens_at_ms,
        closes_at_ms=times.closes_at_ms,
        allotment=allotment,
        available=None if stocks is None else sum(stock.available for stock in stocks),
        reserved=None if stocks is None else sum(stock.reserved for stock in stocks),
        sold=None if stocks is None else sum(stock.sold for stock in stocks),
    )
