"""Random fault runs: drops under load while a schedule made from a seed breaks the service, each judged after healing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from chaos.faults import FAULTS, Blow, resume, strike
from chaos.lab import HEALED_LATE_MS, Lab, since_the_losses, until
from flashsale.cli.rehearsal import NotAtRest, crowd, make_drop
from loadtest.checker.model import Window
from reconciler.journal import Journal

if TYPE_CHECKING:
    from chaos.schedule import Round, Schedule
    from flashsale.cli.summary import Crowd
    from flashsale.model import Drop

REST_WITHIN_S = 60.0
"""longer than that after the last fault has healed, and something is lost for good"""

Tell = Callable[[str], None]


class Struck(msgspec.Struct, frozen=True):
    """A fault as it happened."""

    fault: str
    at_s: float
    """after the opening, as planned"""
    took_s: float
    from_ms: int
    to_ms: int
    """when, in ms since the epoch"""
    cut_short_by: str
    """what kept it from its full length: mostly the damage of another fault"""


class Played(msgspec.Struct, frozen=True):
    """One drop of a run, judged."""

    number: int
    drop: str
    shoppers: int
    units: int
    sold: int
    strikes: tuple[Struck, ...]
    caught_up_s: float
    """from the end of the last fault until all that had happened by then was finished: recorded, or ended in time"""
    wrong: tuple[str, ...]
    """broken promises, in words"""
    violations: dict[str, int]
    """broken promises found by the history checker, by name"""


class Outcome(msgspec.Struct, frozen=True):
    """A whole run."""

    seed: int
    minutes: float
    faults: tuple[str, ...]
    rounds: tuple[Played, ...]
    seconds: float

    @property
    def violations(self) -> int:
        """Broken promises of all rounds."""
        return sum(len(played.wrong) + sum(played.violations.values()) for played in self.rounds)


@dataclass(slots=True)
class Soak:
    """Plays the rounds of a schedule in one laboratory."""

    lab: Lab
    schedule: Schedule
    tell: Tell

    async def run(self, only: int | None = None) -> tuple[Played, ...]:
        """All rounds, or one of them; each is told as it ends."""
        rounds = [planned for planned in self.schedule.rounds if only in (None, planned.number)]
        return tuple([await self._play(planned) for planned in rounds])

    async def _play(self, planned: Round) -> Played:
        lab, name = self.lab, f"soak-{self.schedule.seed % 1_000_000}-{planned.number}"
        drop = await lab.open_drop(make_drop(name, planned.scenario, int(time.time() * 1000)))
        history = lab.folder / f"{name}.history.jsonl"
        started_ms = int(time.time() * 1000)
        async with crowd(lab.url, name, planned.scenario, lab.storefront_key, lab.folder, history=history) as shoppers:
            striking = asyncio.create_task(self._strike_all(planned, drop))
            try:
                seen = await shoppers.finished()
                struck, caught_up_s = await striking
            finally:
                striking.cancel()
                with suppress(asyncio.CancelledError):
                    await striking
        await lab.heal()
        faults = (Window(started_ms, int(time.time() * 1000) + HEALED_LATE_MS),) if struck else ()
        losses = tuple(Window(one.from_ms, one.to_ms) for one in struck if FAULTS[one.fault].loses_data)
        wrong, sold = await self._judge(drop, since_the_losses(seen, losses), losses)
        verdict = await lab.checked(drop, history, faults, losses)
        played = Played(
            number=planned.number,
            drop=drop.drop_id,
            shoppers=planned.scenario.shoppers,
            units=planned.scenario.units,
            sold=sold,
            strikes=tuple(struck),
            caught_up_s=round(caught_up_s, 2),
            wrong=wrong,
            violations={str(name): count for name, count in verdict.violations.items()},
        )
        self.tell(told(played))
        if played.wrong or played.violations:
            self._keep_logs(name)
        else:
            history.unlink()
        await lab.retire(drop)
        return played

    def _keep_logs(self, name: str) -> None:
        """What the processes said, next to the history, for whoever looks why."""
        for process in self.lab.processes.values():
            lines = b"".join(msgspec.json.encode(line) + b"\n" for line in process.lines)
            (self.lab.folder / f"{name}.{process.name}.log").write_bytes(lines)

    async def _strike_all(self, planned: Round, drop: Drop) -> tuple[list[Struck], float]:
        """(what struck, how long the service needed after the last fault)."""
        turns = {fault.target: asyncio.Lock() for fault in FAULTS.values()}

        async def one(at_s: float, fault: str, span_s: float, luck: int) -> Struck:
            await asyncio.sleep(max(0.0, drop.opens_at_ms / 1000 + at_s - time.time()))
            async with turns[FAULTS[fault].target]:
                began, began_ms = time.monotonic(), int(time.time() * 1000)
                why = await strike(FAULTS[fault], Blow(self.lab, drop, random.Random(luck), span_s))  # noqa: S311 - not for secrets
                return Struck(fault, at_s, round(time.monotonic() - began, 2), began_ms, int(time.time() * 1000), why)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(strike.at_s, strike.fault, strike.span_s, strike.luck)) for strike in planned.strikes]
        with suppress(TimeoutError):  # a store that went back may have forgotten that the drop was resumed
            await resume(self.lab, drop)
        return [task.result() for task in tasks], await self._catch_up(drop)

    async def _catch_up(self, drop: Drop) -> float:
        """Returns when everything from before now is finished, while the crowd goes on; how long that took, in seconds."""
        healed, journal = time.monotonic(), Journal(self.lab.parts.store, drop.drop_id, "soak")

        async def caught_up() -> bool:
            age_ms, overdue = await journal.oldest_unfinished_ms(), (await self.lab.inspect(drop)).snapshot.overdue
            return not overdue and (age_ms is None or age_ms < (time.monotonic() - healed) * 1000)

        with suppress(TimeoutError):  # then it is not at rest either, and that is told with the reason
            await until(caught_up, REST_WITHIN_S)
        return time.monotonic() - healed

    async def _judge(self, drop: Drop, seen: Crowd, losses: tuple[Window, ...]) -> tuple[tuple[str, ...], int]:
        """(broken promises in words, units sold)."""
        try:
            rehearsal = await self.lab.judge(drop, seen, REST_WITHIN_S, losses)
        except NotAtRest as error:
            return (f"{error.what} {error.why}",), 0
        return rehearsal.wrong, rehearsal.report["sold_units"]


def told(played: Played) -> str:
    """A round in one line, and a line for each broken promise."""
    struck = ", ".join(f"{struck.fault} @{struck.at_s:g}s" for struck in played.strikes)
    head = f"{played.number:3}  {played.sold}/{played.units} sold to {played.shoppers}  caught up in {played.caught_up_s:.1f} s  {struck}"
    wrong = [*played.wrong, *(f"{name}: {count}" for name, count in played.violations.items())]
    return "\n".join([head, *(f"     ! {sentence}" for sentence in wrong)])
