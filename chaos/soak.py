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
from chaos.lab import Lab, Recovery, now_ms, since_the_losses
from chaos.process import ProcessFailed
from flashsale.cli.rehearsal import NotAtRest, crowd, make_drop
from loadtest.checker.model import Window

if TYPE_CHECKING:
    from chaos.schedule import Round, Schedule
    from flashsale.cli.summary import Crowd
    from flashsale.model import Drop

REST_WITHIN_S = 60.0
"""longer than that after the last fault has healed, and something is lost for good"""


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
    found: str = ""
    """what a process of ours did that it must not do, whatever is broken: end, hang, or not start"""


class Played(msgspec.Struct, frozen=True):
    """One drop of a run, judged."""

    number: int
    drop: str
    shoppers: int
    units: int
    sold: int
    strikes: tuple[Struck, ...]
    moved_s: float
    """from the end of the last fault until the line moved"""
    caught_up_s: float
    """from the end of the last fault until all that had happened by then was finished: recorded, or ended in time"""
    late: tuple[str, ...]
    """what of that took longer than is promised, in words"""
    wrong: tuple[str, ...]
    """broken promises, in words"""
    violations: dict[str, int]
    """broken promises found by the history checker, by name"""

    @property
    def findings(self) -> tuple[str, ...]:
        """Everything that must not be, in words."""
        return *self.wrong, *(f"{name}: {count}" for name, count in self.violations.items()), *self.late


class Outcome(msgspec.Struct, frozen=True):
    """All rounds of one seed."""

    seed: int
    faults: tuple[str, ...]
    rounds: tuple[Played, ...]
    seconds: float

    @property
    def violations(self) -> int:
        """Broken promises of all rounds, those of time among them."""
        return sum(len(played.wrong) + sum(played.violations.values()) + len(played.late) for played in self.rounds)


class Run(msgspec.Struct, frozen=True):
    """One seed, or several played one after the other."""

    minutes: float
    """about how long each took"""
    seeds: tuple[Outcome, ...]
    violations: int = 0
    """broken promises of all seeds"""

    @classmethod
    def of(cls, minutes: float, seeds: tuple[Outcome, ...]) -> Run:
        """A run of these seeds."""
        return cls(minutes, seeds, sum(outcome.violations for outcome in seeds))


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What all faults of a round came to."""

    struck: tuple[Struck, ...]
    died: tuple[str, ...]
    """processes that nothing had struck and that were gone"""
    healed_ms: int
    recovery: Recovery

    @property
    def delays(self) -> tuple[Window, ...]:
        """When faults kept reservations from ending in time. One that was cut short left its damage until everything was healed."""
        return tuple(
            Window(one.from_ms, self.healed_ms if one.cut_short_by or one.found else one.to_ms)
            for one in self.struck
            if FAULTS[one.fault].loses_time
        )

    @property
    def losses(self) -> tuple[Window, ...]:
        """When the store forgot what it had acknowledged."""
        return tuple(Window(one.from_ms, one.to_ms) for one in self.struck if FAULTS[one.fault].loses_data)

    @property
    def found(self) -> tuple[str, ...]:
        """What processes of ours did that they must not do."""
        return *self.died, *(f"{one.fault} @{one.at_s:g}s: {one.found}" for one in self.struck if one.found)


@dataclass(slots=True)
class Soak:
    """Plays the rounds of a schedule in one laboratory."""

    lab: Lab
    schedule: Schedule
    tell: Callable[[Played], None]

    async def run(self, only: int | None = None) -> tuple[Played, ...]:
        """All rounds, or one of them; each is told as it ends."""
        rounds = [planned for planned in self.schedule.rounds if only in (None, planned.number)]
        return tuple([await self._play(planned) for planned in rounds])

    async def _play(self, planned: Round) -> Played:
        lab, name = self.lab, f"soak-{self.schedule.seed % 1_000_000}-{planned.number}"
        drop = await lab.open_drop(make_drop(name, planned.scenario, now_ms()))
        history = lab.folder / f"{name}.history.jsonl"
        async with crowd(lab.url, name, planned.scenario, lab.storefront_key, lab.folder, history=history) as shoppers:
            striking = asyncio.create_task(self._strike_all(planned, drop))
            try:
                seen = await shoppers.finished()
                aftermath = await striking
            finally:
                striking.cancel()
                with suppress(asyncio.CancelledError):
                    await striking
        losses = aftermath.losses
        wrong, sold = await self._judge(drop, since_the_losses(seen, losses), losses)
        verdict = await lab.checked(drop, history, aftermath.delays, losses)
        played = Played(
            number=planned.number,
            drop=drop.drop_id,
            shoppers=planned.scenario.shoppers,
            units=planned.scenario.units,
            sold=sold,
            strikes=aftermath.struck,
            moved_s=round(aftermath.recovery.moved_s, 2),
            caught_up_s=round(aftermath.recovery.caught_up_s, 2),
            late=aftermath.recovery.late,
            wrong=(*wrong, *aftermath.found),
            violations={str(name): count for name, count in verdict.violations.items()},
        )
        self.tell(played)
        if played.findings:
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

    async def _strike_all(self, planned: Round, drop: Drop) -> Aftermath:
        """Lets every fault of a round strike, heals what they left, and waits for the drop to recover while the crowd goes on."""
        turns = {fault.target: asyncio.Lock() for fault in FAULTS.values()}

        async def one(at_s: float, fault: str, span_s: float, luck: int) -> Struck:
            await asyncio.sleep(max(0.0, drop.opens_at_ms / 1000 + at_s - time.time()))
            async with turns[FAULTS[fault].target]:
                began, began_ms, cut_short_by, found = time.monotonic(), now_ms(), "", ""
                try:
                    cut_short_by = await strike(FAULTS[fault], Blow(self.lab, drop, random.Random(luck), span_s))  # noqa: S311 - not for secrets
                except ProcessFailed as failed:
                    found = failed.what
                return Struck(fault, at_s, round(time.monotonic() - began, 2), began_ms, now_ms(), cut_short_by, found)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(strike.at_s, strike.fault, strike.span_s, strike.luck)) for strike in planned.strikes]
        struck = tuple(task.result() for task in tasks)
        hurt = any(one.cut_short_by or one.found for one in struck)
        died = () if hurt else tuple(f"{name} was gone" for name, process in self.lab.processes.items() if not process.running)
        await self.lab.heal()
        with suppress(TimeoutError):  # a store that went back may have forgotten that the drop was resumed
            await resume(self.lab, drop)
        return Aftermath(struck, died, now_ms(), await self.lab.recovery(drop, REST_WITHIN_S))

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
    return "\n".join([head, *(f"     ! {sentence}" for sentence in played.findings)])
