"""A whole service to rehearse drops on: real stores, workers and the reconciler as processes of their own.

One stack serves all rehearsals of the folder. Each has a drop of its own, and whoever stops or kills a part waits until it
is back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flashsale.access import Scope, create_key
from flashsale.cli.rehearsal import SETTINGS, Scenario, come_to_rest, crowd, make_drop, new_drop_id, report_on
from flashsale.cli.stack import Stack, running_stack
from flashsale.cli.summary import Crowd
from flashsale.cli.target import Parts, opened
from flashsale.errors import FlashsaleError
from flashsale.model import Drop
from tests.folders import scratch
from tests.workers import every_worker_knows

LOOK_S = 0.05
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A running service, from the inside and from the outside."""

    stack: Stack
    parts: Parts
    storefront_key: str

    async def rehearse(
        self, scenario: Scenario, disturb: Callable[[Drop], Coroutine[Any, Any, None]], *, mend: Callable[[], Awaitable[None]] | None = None
    ) -> tuple[dict[str, Any], Crowd]:
        """Plays a drop, with `disturb` going on beside the crowd and `mend` after it; the report, and what the crowd saw."""
        drop = make_drop(new_drop_id(), scenario, int(time.time() * 1000))
        await self.parts.catalog.create(drop)
        async with crowd(self.stack.http_url, drop.drop_id, scenario, self.storefront_key, self.stack.data_dir) as shoppers:
            disturbing = asyncio.create_task(disturb(drop))
            seen = await shoppers.finished()
            await disturbing
        if mend is not None:
            await mend()
        await come_to_rest(self.parts, drop.drop_id)
        return await report_on(self.parts, drop.drop_id, seen), seen

    async def until(self, drop: Drop, happened: Callable[[Any], bool]) -> None:
        """Returns once `happened` is true of the drop in the store."""

        async def looked() -> bool:
            return happened(await self.parts.drops.inspect(drop.drop_id))

        await until(looked)

    async def kill(self, name: str) -> int:
        """`kill -9` for the process called `name`; its process id."""
        await until(lambda: name in self.stack.pids)
        pid = self.stack.pids[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    async def back(self, name: str, killed: int) -> None:
        """Returns once another process does the work of the killed one."""
        await until(lambda: self.stack.pids.get(name, killed) != killed)


async def until(question: Callable[[], Awaitable[bool] | bool]) -> None:
    """Asks until the answer is yes; a part that does not answer just now counts as no."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                answer = question()
                if await answer if isinstance(answer, Awaitable) else answer:
                    return
            except FlashsaleError:
                pass
            await asyncio.sleep(LOOK_S)


@pytest.fixture(scope="session")
async def stage() -> AsyncIterator[Stage]:
    """The stack of all rehearsals."""
    with tempfile.TemporaryDirectory(prefix="flashsale-stage-", dir=scratch(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        async with running_stack(folder, port=0, workers=2, overrides=SETTINGS) as stack, opened(stack.settings) as parts:
            _, key = await create_key(parts.database, [Scope.STOREFRONT], label="acceptance")
            await until(lambda: every_worker_knows(stack.http_url, key))
            yield Stage(stack, parts, key)
