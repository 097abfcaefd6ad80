"""Finding a drop by its id: what is asked for right after it was made is found."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from admission.inlet import Inlet
from flashsale.clock import SystemClock
from flashsale.drops import DropStore
from flashsale.errors import Busy, DropNotFound, Recovering, StoreUnavailable
from flashsale.web.directory import LOOKING_MAX, DropDirectory


class Drops:
    """What the directory asks of its neighbours: the ids in the store, and the drops the inlet has met so far."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.met: dict[str, str] = {}
        self.lost_ids: set[str] = set()
        self.readings = 0
        self.answers = asyncio.Event()
        """readings go on"""
        self.answers.set()
        self.away = False

    async def ids(self) -> set[str]:
        self.readings += 1
        await self.answers.wait()
        if self.away:
            raise StoreUnavailable(what="The store cannot be reached.")
        return set(self.made)

    def get(self, drop_id: str) -> Any:
        return self.met.get(drop_id)

    def lost(self, drop_id: str) -> bool:
        return drop_id in self.lost_ids

    async def next_look(self) -> None:
        """The first look has read the ids before the drop was made; the second meets it."""
        await asyncio.sleep(0)
        self.met = {drop_id: drop_id for drop_id in self.made} if self.readings > 2 else self.met
        self.readings += 1


@pytest.fixture
def drops() -> Drops:
    return Drops()


@pytest.fixture
def directory(drops: Drops) -> DropDirectory:
    return DropDirectory(cast("Inlet", drops), cast("DropStore", drops), SystemClock())


async def test_a_drop_made_right_after_the_ids_were_read_is_found(drops: Drops, directory: DropDirectory) -> None:
    with pytest.raises(DropNotFound):
        await directory.find("sneaker-x")
    drops.made.add("sneaker-x")
    assert await directory.find("sneaker-x") == "sneaker-x"  # type: ignore[comparison-overlap]


async def test_many_unknown_ids_at_once_cost_one_reading(drops: Drops, directory: DropDirectory) -> None:
    answers = await asyncio.gather(*(directory.find(f"made-up-{n}") for n in range(100)), return_exceptions=True)
    assert all(isinstance(answer, DropNotFound) for answer in answers)
    assert drops.readings == 1


async def test_a_drop_the_store_has_lost_is_recovering_and_costs_no_reading(drops: Drops, directory: DropDirectory) -> None:
    drops.lost_ids.add("sneaker-x")
    with pytest.raises(Recovering):
        await directory.find("sneaker-x")
    assert drops.readings == 0


async def test_a_drop_that_is_listed_and_cannot_be_seen_is_recovering(drops: Drops, directory: DropDirectory) -> None:
    drops.made.add("sneaker-x")
    drops.readings = -10
    with pytest.raises(Recovering):
        await directory.find("sneaker-x")


async def test_while_the_store_is_away_nobody_is_told_that_a_drop_does_not_exist(drops: Drops, directory: DropDirectory) -> None:
    drops.made.add("sneaker-x")
    drops.away = True
    answers = await asyncio.gather(*(directory.find("sneaker-x") for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    drops.away = False
    assert await directory.find("sneaker-x") == "sneaker-x"  # type: ignore[comparison-overlap]


async def test_whoever_would_be_one_too_many_is_told_so(drops: Drops, directory: DropDirectory) -> None:
    drops.answers.clear()
    looking = [asyncio.create_task(directory.find(f"made-up-{n}")) for n in range(LOOKING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await directory.find("sneaker-x")
    with pytest.raises(DropNotFound):
        await directory.find("no drop is called so")
    drops.answers.set()
    assert all(isinstance(answer, DropNotFound) for answer in await asyncio.gather(*looking, return_exceptions=True))
