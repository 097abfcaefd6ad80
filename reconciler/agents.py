"""What every background loop here has in common: one start and stop contract, pauses that end when stopping, back-off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from flashsale.errors import FlashsaleError
from flashsale.log import Trouble

JITTER = 0.2
"""Pauses vary by this share, so that processes started together do not stay in step."""
BACKOFF_MIN_S = 0.02
BACKOFF_MAX_S = 1.0
RESTART_PAUSE_S = 1.0

_log = structlog.get_logger("reconciler")


class Agent(Protocol):
    """A background loop."""

    @property
    def name(self) -> str:
        """For logs."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what is in hand and return."""
        ...


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait about so long; returns at once, and True, when stopping."""
    try:
        async with asyncio.timeout(seconds * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311 - not for secrets
            await stop.wait()
    except TimeoutError:
        return False
    return True


class Backoff:
    """Growing pauses after failures, up to `BACKOFF_MAX_S`, so that work resumes within a second of the repair."""

    def __init__(self) -> None:
        self._seconds = BACKOFF_MIN_S
        self.failures = 0

    async def wait(self, stop: asyncio.Event) -> bool:
        """Pause after one more failure; True when stopping."""
        self.failures += 1
        seconds, self._seconds = self._seconds, min(2 * self._seconds, BACKOFF_MAX_S / (1 + JITTER))
        return await pause(stop, seconds)

    def reset(self) -> None:
        """It worked again."""
        self._seconds = BACKOFF_MIN_S
        self.failures = 0


async def repeat(name: str, interval_ms: int, step: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
    """Run `step` every `interval_ms` until stopping. A store that is away is said once and not the end."""
    trouble = Trouble(_log, "agent_held_up", "agent_resumed", agent=name)
    while not stop.is_set():
        try:
            await step()
            trouble.passed()
        except FlashsaleError as error:
            trouble.met(code=error.code, error=str(error))
        if await pause(stop, interval_ms / 1000):
            return


@dataclass(frozen=True, slots=True)
class Loop:
    """An agent that is nothing but a step, repeated."""

    name: str
    interval_ms: int
    step: Callable[[], Awaitable[object]]

    async def run(self, stop: asyncio.Event) -> None:
        """Repeat the step until stopping."""
        await repeat(self.name, self.interval_ms, self.step, stop)


async def keep_running(agent: Agent, stop: asyncio.Event) -> None:
    """Run `agent` until stopping; after a defect it is started again, so that one drop's trouble stays with that drop."""
    while not stop.is_set():
        try:
            await agent.run(stop)
        except Exception:  # noqa: BLE001 - whatever it was, the other agents go on
            _log.exception("agent_failed", agent=agent.name)
            await pause(stop, RESTART_PAUSE_S)
