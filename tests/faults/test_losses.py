"""A store that loses data while a crowd buys: the drop is recovered, receipts bring back what only shoppers know, all adds up."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import pytest

from chaos.losses import empty_store, log_size, recovered, set_back, unrecorded
from flashsale.cli.rehearsal import Pace, Scenario
from loadtest.checker.model import Window
from tests.faults.stage import require_sound, selling_from

if TYPE_CHECKING:
    from chaos.lab import Lab, Rehearsal
    from flashsale.model import Drop

pytestmark = pytest.mark.faults

SCENARIO = Scenario(300, 70, 16, opens_in_s=1.0, deadline_s=60.0, pace=Pace(reservation_ttl_ms=6_000))
Lose = Callable[["Lab", "Drop"], Awaitable[None]]


async def everything(lab: Lab, drop: Drop) -> None:
    await selling_from(lab, drop, 20)
    await empty_store(lab)


async def what_nobody_had_recorded(lab: Lab, drop: Drop) -> None:
    with unrecorded(lab):
        await selling_from(lab, drop, 30)
        await empty_store(lab)


async def what_came_after_a_copy(lab: Lab, drop: Drop) -> None:
    log, size = log_size(lab)
    await selling_from(lab, drop, 20)
    await set_back(lab, log, size)


async def the_last_calls(lab: Lab, drop: Drop) -> None:
    await selling_from(lab, drop, 20)
    await set_back(lab, log_size(lab)[0], -3_000)


async def play(lab: Lab, lose: Lose) -> Rehearsal:
    losses: list[Window] = []

    async def disturb(drop: Drop) -> None:
        began_ms = int(time.time() * 1000)
        await lose(lab, drop)
        await recovered(lab, drop)
        losses.append(Window(began_ms, int(time.time() * 1000)))

    return await lab.rehearse(SCENARIO, disturb, losses=losses)


@pytest.mark.parametrize(
    "lose", [everything, what_nobody_had_recorded, what_came_after_a_copy, the_last_calls], ids=lambda lose: lose.__name__
)
async def test_a_crowd_buys_on_after_a_loss(lab: Lab, lose: Lose) -> None:
    played = await play(lab, lose)
    require_sound(played)
    assert played.report["sold_units"] == SCENARIO.units
    assert (await lab.inspect(played.drop)).epoch == 2
    seen = msgspec.json.decode((lab.folder / f"{played.drop.drop_id}.crowd.json").read_bytes())
    assert seen["restored"]["place"] > 0, "whoever waited showed a receipt"
    # Any loss may take a reservation of the moment before it; this one takes thirty units of them.
    assert lose is not what_nobody_had_recorded or seen["restored"]["reservation"] > 0
    await lab.retire(played.drop)
