"""The line keeps its order over two workers while one is killed and the store restarts, and it moves although nobody looks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from admission.log import Called, Claimed, Returned
from flashsale.admission_log import read_log
from flashsale.cli.rehearsal import Pace, Scenario, make_drop, new_drop_id
from loadtest.client import Pool
from tests.acceptance.conftest import until
from tests.acceptance.visitor import Visitor, every_worker_serves

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from admission.log import Event
    from flashsale.model import Drop
    from tests.acceptance.conftest import Stage

pytestmark = pytest.mark.faults

PEOPLE, DOORS, CAPACITY = 400, 40, 60
CLAIM_WINDOW_MS = 1_000
COMING = 150
"""as many come when they are called; the others have closed the page"""


class Crowd:
    """People who come through `DOORS` doors at once, and tell when so many of them have a place."""

    def __init__(self, pool: Pool, drop: Drop) -> None:
        self.people = [Visitor(pool, drop.drop_id) for _ in range(PEOPLE)]
        self._reached = {count: asyncio.Event() for count in (PEOPLE // 4, PEOPLE // 2)}
        self._gates = {PEOPLE // 2: asyncio.Event(), PEOPLE * 3 // 4: asyncio.Event()}
        self._joined = 0

    async def join(self) -> None:
        """Returns when everybody has a place."""
        coming = iter(enumerate(self.people))
        async with asyncio.TaskGroup() as doors:
            for _ in range(DOORS):
                doors.create_task(self._through_a_door(coming))

    async def _through_a_door(self, coming: Iterable[tuple[int, Visitor]]) -> None:
        for at, visitor in coming:
            for first, gate in self._gates.items():
                if at >= first:
                    await gate.wait()
            assert (await visitor.join()).status in {200, 201}
            self._joined += 1
            if self._joined in self._reached:
                self._reached[self._joined].set()

    async def disturbed(self, stage: Stage) -> None:
        """A worker is killed in the first half, the store in the third quarter; the last quarter finds both back."""
        await self._reached[PEOPLE // 4].wait()
        worker = await stage.kill("worker-1")
        await self._reached[PEOPLE // 2].wait()
        await stage.back("worker-1", worker)
        store = await stage.kill("valkey")
        self._gates[PEOPLE // 2].set()
        await stage.back("valkey", store)
        self._gates[PEOPLE * 3 // 4].set()


async def test_the_line_keeps_its_order_and_goes_on_by_itself(stage: Stage) -> None:
    drop = await _open(stage)
    with closing(Pool(stage.stack.http_url)) as pool:
        crowd = Crowd(pool, drop)
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.join())
            group.create_task(crowd.disturbed(stage))
        people = sorted(crowd.people, key=lambda visitor: int(visitor.ticket["queue_number"]))
        assert [visitor.ticket["queue_number"] for visitor in people] == list(range(PEOPLE)), "nobody twice, and no number left out"
        assert _overtaken_at_the_door(people) == []
        assert any(visitor.repeated for visitor in people), "the losses hit nobody, so this proved nothing"

        await stage.until(drop, lambda inspection: inspection.snapshot.serving_number >= COMING)
        coming = people[:COMING]
        async with asyncio.TaskGroup() as group:
            for visitor in coming:
                group.create_task(visitor.comes_in())
        await stage.until(drop, lambda inspection: inspection.snapshot.serving_number == PEOPLE)

    events, _ = await read_log(stage.parts.scripts.calls, drop.drop_id)
    calls = [event for event in events if isinstance(event, Called)]
    assert (calls[0].start, calls[-1].stop) == (0, PEOPLE)
    assert all(before.stop == after.start and before.at_ms <= after.at_ms for before, after in pairwise(calls)), "called in order"
    claimed = Counter(place for event in events if isinstance(event, Claimed) for place in event.places)
    assert claimed == Counter(range(COMING))
    assert _most_inside(events) <= CAPACITY
    assert _most_inside(events) > CAPACITY // 2, "there was a crowd at the door"


async def _open(stage: Stage) -> Drop:
    """A drop that is open, by arrival, with more units than people, and with room for a part of them at a time."""
    scenario = Scenario(shoppers=PEOPLE, units=PEOPLE * 2, seed=0, opens_in_s=0.0, pace=Pace(claim_window_ms=CLAIM_WINDOW_MS))
    drop = replace(
        make_drop(new_drop_id(), scenario, int(time.time() * 1000)), capacity=CAPACITY, rate_per_min=60_000, opens_at_ms=0, joins_at_ms=0
    )
    await stage.parts.catalog.create(drop)
    await until(lambda: every_worker_serves(stage.stack.http_url, drop.drop_id))
    return drop


def _overtaken_at_the_door(people: Sequence[Visitor]) -> list[int]:
    """Numbers, in their order, of those who were answered before somebody with a lower number had even asked."""
    overtaken, latest_asked_s = [], 0.0
    for visitor in people:
        if visitor.answered_at_s < latest_asked_s:
            overtaken.append(int(visitor.ticket["queue_number"]))
        latest_asked_s = max(latest_asked_s, visitor.asked_at_s)
    return overtaken


def _most_inside(events: Sequence[Event]) -> int:
    """The most people who had a slot at one time: from when they were let in, or called back, for a claim window."""
    until_ms: dict[int, int] = {}
    most = 0
    for event in events:
        if isinstance(event, Claimed | Returned):
            until_ms |= dict.fromkeys(event.places, event.at_ms + CLAIM_WINDOW_MS)
            most = max(most, sum(lapses_at_ms > event.at_ms for lapses_at_ms in until_ms.values()))
    return most
