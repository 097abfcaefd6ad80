"""Are the stores there, and safe to sell from? Asked before anything is started on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from flashsale.cli.durability import check_durability
from flashsale.cli.output import say, warn
from flashsale.cli.target import Parts, opened
from flashsale.connections.checks import Finding, check_database, check_store, require_safe
from flashsale.errors import DatabaseUnavailable, FlashsaleError, StoreUnavailable, StoreUnknown
from flashsale.settings import Settings

WAIT_S = 15.0
"""How long a start waits for a store that does not answer yet."""
RETRY_S = 0.5

Result = TypeVar("Result")


async def require_safe_stores(settings: Settings, wait_s: float | None = None) -> bool:
    """Returns when the stores are safe to start on; False when Postgres did not answer and was not checked.

    Args:
        settings: where the stores are.
        wait_s: how long to wait for one that does not answer; `WAIT_S` when None.

    Raises:
        UnsafeStore: one is set up so that sales could be lost.
        StoreUnavailable: the store did not answer within `wait_s`.
    """
    wait_s = WAIT_S if wait_s is None else wait_s
    async with opened(settings) as parts:
        findings = await _answer(lambda: check_store(parts.store), "the store", wait_s, StoreUnavailable)
        await _warn_of_durability(parts)
        try:
            findings += await _answer(lambda: check_database(parts.database), "Postgres", wait_s, DatabaseUnavailable)
        except DatabaseUnavailable as error:
            _judge(findings)
            warn(f"{error.what} {error.why} Starting without it: drops run, orders are recorded when it is back.")
            return False
    _judge(findings)
    return True


async def _warn_of_durability(parts: Parts) -> None:
    """A drop whose durability is not kept is refused by every worker; the others go on."""
    with suppress(StoreUnavailable, StoreUnknown):
        for finding in await check_durability(parts):
            if finding.level == "unsafe":
                warn(f"{finding.name}: {finding.what} {finding.todo}")


def _judge(findings: list[Finding]) -> None:
    require_safe(findings)
    for finding in findings:
        if finding.level == "warn":
            warn(f"{finding.what} {finding.todo}")


async def _answer(ask: Callable[[], Awaitable[Result]], who: str, wait_s: float, unavailable: type[FlashsaleError]) -> Result:
    """What `ask` answers, asked again for a bounded time; says once that it waits."""
    deadline = time.monotonic() + wait_s
    said = False
    while True:
        try:
            return await ask()
        except unavailable:
            if time.monotonic() + RETRY_S > deadline:
                raise
        if not said:
            say(f"[dim]Waiting up to {wait_s:.0f} s for {who} …[/]")
            said = True
        await asyncio.sleep(RETRY_S)
