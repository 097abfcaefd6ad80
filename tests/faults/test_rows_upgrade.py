"""Rows about releases and restarts of all workers: two versions side by side, and everybody coming back at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import msgpack
import pytest

from chaos.proxy import Trigger, armed
from chaos.release import next_release, upgraded
from chaos.wire import Side
from flashsale.keys import drop_keys
from tests.faults.stage import SLOW_PER_MIN, events_twice, first_to_say, require_sound, selling_from

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.lab import Lab
    from chaos.wire import Message
    from flashsale.model import Drop
    from tests.faults.stage import RowRecord

pytestmark = pytest.mark.faults

CROWD = 2_000
JOINED = 1_000
"""of them when the workers go; the others come all the while"""
AWAY_S = 4.0
"""long enough that every client has found nobody there, some several times"""
OPENS_IN_S = 26.0
"""after they have come back: at the opening everybody looks within a poll, whatever happened before"""
COMING_BACK_S = 6.0
SLOT_S = 0.1
SHARE_MAX = 0.5
"""of those who had joined, within a tenth of a second. Together they would be all of them; spread, and polling as they do, a ninth."""


class Arrivals(Trigger):
    """Notes when requests come by, and touches none."""

    def __init__(self) -> None:
        super().__init__(Side.REQUESTS, lambda _message: False)
        self.at_s: list[float] = []

    def wants(self, message: Message) -> bool:
        """Never."""
        if message.raw.startswith((b"GET ", b"POST ")):
            self.at_s.append(time.monotonic())
        return False

    def busiest(self, since_s: float) -> int:
        """Requests in the fullest slot while they came back."""
        passed = [at_s - since_s for at_s in self.at_s if 0 <= at_s - since_s < COMING_BACK_S]
        return max(Counter(int(passed_s / SLOT_S) for passed_s in passed).values())


async def test_row_45_two_versions_side_by_side(lab: Lab, row: RowRecord, tmp_path: Path) -> None:
    release = await asyncio.to_thread(next_release, tmp_path / "release")
    async with AsyncExitStack() as held:

        async def disturb(drop: Drop) -> None:
            await selling_from(lab, drop, 10)
            # The worker first, so that for a while nobody can read what it writes.
            await held.enter_async_context(upgraded(lab.process("worker-2"), release))
            # Shoppers keep their connections to the worker that stayed; so that one goes, too, until they have used the other.
            await lab.process("worker-1").stop()
            await first_to_say(lab.reconcilers, "journal_entry_left", drop=drop.drop_id)
            await lab.process("worker-1").start()
            await selling_from(lab, drop, 30)
            await held.enter_async_context(upgraded(lab.process("reconciler-2"), release))

        played = await lab.rehearse(row.scenario(), disturb, rate_per_min=SLOW_PER_MIN)
        require_sound(played)
        assert await events_twice(lab, played.drop) == []
        keys = drop_keys(played.drop.drop_id)
        versions = Counter(fields[b"v"] for _, fields in await lab.parts.store.xrange(keys.journal))
        assert set(versions) == {b"1", b"2"}, versions
        assert await lab.parts.store.xlen(keys.dead) == 0
        await lab.retire(played.drop)
    row.saw(
        f"{versions[b'1']} entries of the old version and {versions[b'2']} of the new: the old reconciler left the new ones, "
        f"the new one read both, {played.report['sold_units']} units were sold."
    )


async def test_row_46_everybody_comes_back_at_once(lab: Lab, row: RowRecord) -> None:
    arrivals, before = Arrivals(), dict[str, tuple[int, bool]]()
    back_s = 0.0

    async def disturb(drop: Drop) -> None:
        nonlocal before, back_s
        await lab.until(drop, lambda inspection: inspection.snapshot.joined >= JOINED)
        await asyncio.gather(*(worker.kill() for worker in lab.workers))
        before = await places(lab, drop)
        await asyncio.sleep(AWAY_S)
        await asyncio.gather(*(worker.start() for worker in lab.workers))
        back_s = time.monotonic()

    with armed([lab.front], arrivals):
        played = await lab.rehearse(replace(row.scenario(shoppers=CROWD, units=200), opens_in_s=OPENS_IN_S, deadline_s=110.0), disturb)
    require_sound(played)
    after = await places(lab, played.drop)
    assert len(before) >= JOINED
    assert {ticket: after[ticket] for ticket in before} == before
    assert arrivals.busiest(back_s) <= len(before) * SHARE_MAX
    await lab.retire(played.drop)
    row.saw(
        f"{len(before)} people kept their places over a restart of all workers; coming back, {arrivals.busiest(back_s)} requests "
        f"were the most in {SLOT_S} s, {sum(played.seen.retry_later.values())} answers asked to come again."
    )


async def places(lab: Lab, drop: Drop) -> dict[str, tuple[int, bool]]:
    """Ticket to its number, and whether it joined late."""
    records = await lab.parts.store.hgetall(drop_keys(drop.drop_id).tickets)
    return {ticket.decode(): (number, bool(late)) for ticket, (number, late, *_) in ((t, msgpack.unpackb(p)) for t, p in records.items())}
