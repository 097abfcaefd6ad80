"""What the rows have in common: a record of what was seen, one shopper to look closely at, and what must always hold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chaos.lab import Lab, Rehearsal
from chaos.probe import SKU, Probe, probe_drop
from chaos.process import LabProcess, Line
from flashsale.cli.rehearsal import Pace, Scenario
from flashsale.model import Drop

SLOW_PER_MIN = 300
"""A drop's rate with which the sale outlasts some restarts, also on a machine that is busy."""


@dataclass
class RowRecord:
    """What a test writes down about its row."""

    number: int
    seen: list[str] = field(default_factory=list)
    beside: str = ""
    """what a crowd did at another drop meanwhile"""

    @property
    def seed(self) -> int:
        """Of the crowd: the same people whenever the row is run."""
        return 1000 + self.number

    def scenario(self, *, shoppers: int = 300, units: int = 70, reservation_ttl_ms: int = 4_000) -> Scenario:
        """A crowd for this row: a sell-out of some ten seconds."""
        return Scenario(shoppers, units, self.seed, opens_in_s=1.0, deadline_s=60.0, pace=Pace(reservation_ttl_ms=reservation_ttl_ms))

    def saw(self, sentence: str) -> None:
        """Notes what happened, for the report."""
        self.seen.append(sentence)


def require_sound(played: Rehearsal) -> None:
    """Nothing is wrong, and it was a real sale."""
    assert played.wrong == (), "; ".join(played.wrong)
    assert played.report["sold_units"] > 0


def require_unnoticed(played: Rehearsal) -> None:
    """It was sound, and nobody outside heard of a fault of Postgres or a reconciler: a drop needs neither while it is on.

    That the store is slow for a moment is allowed: making the fault may keep this machine's disk busy.
    """
    require_sound(played)
    assert played.seen.retry_later.keys() <= {"busy", "store_unavailable", "unknown"}


async def probe_for(lab: Lab, row: RowRecord, worker: str = "worker-1", **changes: Any) -> Probe:
    """A shopper let in to a drop of its own. `changes` are those of `probe_drop`."""
    probe = Probe(await lab.open_drop(probe_drop(f"row-{row.number:02}", **changes)), lab.storefront_key)
    await probe.enter(lab.process(worker))
    return probe


async def units(lab: Lab, drop: Drop) -> tuple[int, int, int]:
    """(available, reserved, sold) of a probe's drop, in the store."""
    stock = (await lab.inspect(drop)).skus[SKU]
    return stock.available, stock.reserved, stock.sold


async def orders(lab: Lab, drop: Drop) -> dict[str, str]:
    """Order to state, in Postgres."""
    return dict(await lab.sql("SELECT reservation_id, state FROM orders WHERE drop_id = $1", drop.drop_id))


async def events(lab: Lab, drop: Drop) -> list[str]:
    """What the outbox holds of a drop, oldest first."""
    return [event for (event,) in await lab.sql("SELECT event FROM outbox WHERE drop_id = $1 ORDER BY id", drop.drop_id)]


async def events_twice(lab: Lab, drop: Drop) -> list[tuple[str, str]]:
    """(order, event) of everything that would be told twice."""
    found = await lab.sql("SELECT reservation_id, event FROM outbox WHERE drop_id = $1 GROUP BY 1, 2 HAVING count(*) > 1", drop.drop_id)
    return [(order, event) for order, event in found]


async def selling_from(lab: Lab, drop: Drop, units_reserved: int) -> None:
    """Returns once so many units have been reserved."""
    await lab.until(drop, lambda inspection: inspection.stats.get("reserved_units", 0) >= units_reserved)


async def first_to_say(processes: Iterable[LabProcess], event: str, **fields: Any) -> Line:
    """The line of whichever process says it first."""
    asked = [asyncio.create_task(process.says(event, **fields)) for process in processes]
    try:
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
