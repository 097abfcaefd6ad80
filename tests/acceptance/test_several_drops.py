"""Three drops in one installation: each has its own line, draw, stock and trouble, and leaves the others alone."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flashsale.cli.recover import recovery_of
from flashsale.cli.rehearsal import Scenario, make_drop, new_drop_id
from flashsale.model import DropState
from loadtest.client import Pool
from loadtest.draw import Lot
from tests.acceptance.conftest import until
from tests.acceptance.visitor import Visitor, every_worker_serves

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flashsale.model import Drop
    from tests.acceptance.conftest import Stage

SKU = "halo-moon"
ENTRANTS = 6
SOON_MS = 6_000


@dataclass(frozen=True, slots=True)
class Shop:
    """Three drops, and the way to them."""

    stage: Stage
    pool: Pool
    selling: Drop
    """two units, open, by arrival"""
    drawing: Drop
    """opens in a moment, by draw"""
    later: Drop
    """nobody may join yet"""

    def visitor(self, drop: Drop) -> Visitor:
        return Visitor(self.pool, drop.drop_id)

    async def buyer(self, drop: Drop) -> Visitor:
        """Somebody who has joined and come in."""
        visitor = self.visitor(drop)
        assert (await visitor.join()).status == 201
        await visitor.comes_in()
        return visitor

    async def serving(self, drop: Drop) -> dict[str, Any]:
        """The serving document, which holds together: the state is that of its own time."""
        answer = await self.pool.request("GET", f"/v1/drops/{drop.drop_id}/serving")
        assert answer.status == 200
        document: dict[str, Any] = answer.json()
        opened = document["now_ms"] >= document["opens_at_ms"]
        assert document["state"] in ({"open", "paused", "closed", "recovering"} if opened else {"scheduled", "waiting"}), document
        return document

    async def until_state(self, drop: Drop, state: str) -> dict[str, Any]:
        """The first document that says so."""
        documents: list[dict[str, Any]] = []

        async def reached() -> bool:
            documents.append(await self.serving(drop))
            return bool(documents[-1]["state"] == state)

        await until(reached)
        times = [document["now_ms"] for document in documents]
        assert all(document["opens_at_ms"] == documents[0]["opens_at_ms"] for document in documents)
        assert times[-1] >= times[0] - 2_000, "workers show pictures of their own, each as old as a beat"
        return documents[-1]

    async def pays(self, reservation: dict[str, Any]) -> None:
        """The storefront confirms."""
        answer = await self.pool.request(
            "POST",
            f"/v1/reservations/{reservation['id']}/confirm",
            headers={"Authorization": f"Bearer {self.stage.storefront_key}", "Idempotency-Key": reservation["id"]},
            body={"payment_reference": f"pay-{reservation['id'][-6:]}", "amount_minor": reservation["amount_minor"]},
        )
        assert answer.status in {200, 202}, answer.body

    async def steer(self, drop: Drop, word: str) -> None:
        await self.stage.parts.drops.steer(drop.drop_id, word)


@asynccontextmanager
async def shop(stage: Stage) -> AsyncIterator[Shop]:
    """The drops, known to every worker."""
    known: list[Drop] = []

    async def create(units: int, joins_in_ms: int, opens_in_ms: int, **rules: Any) -> None:
        now_ms = int(time.time() * 1000)
        usual = {"capacity": 100, "rate_per_min": 6_000, "claim_window_ms": 60_000, "reservation_ttl_ms": 60_000}
        times = {"joins_at_ms": now_ms + joins_in_ms, "opens_at_ms": now_ms + opens_in_ms}
        plain = make_drop(new_drop_id(), Scenario(shoppers=0, units=units, seed=0, opens_in_s=0.0), now_ms)
        known.append(replace(plain, **(usual | times | rules)))
        await stage.parts.catalog.create(known[-1])

    async def every_one_is_served() -> bool:
        return all([await every_worker_serves(stage.stack.http_url, drop.drop_id) for drop in known])

    # Time for what has to happen before the second opens begins when the first is served.
    await create(2, -1_000, -1_000)
    await until(every_one_is_served)
    await create(20, -1_000, SOON_MS, order="draw")
    await create(10, SOON_MS + 1_000, 600_000)
    await until(every_one_is_served)
    with closing(Pool(stage.stack.http_url)) as pool:
        yield Shop(stage, pool, *known)


async def test_three_drops_at_once_leave_each_other_alone(stage: Stage) -> None:
    async with shop(stage) as three:
        entrants = await _while_one_sells_another_waits_and_the_third_is_closed(three)
        second = await _one_opens_and_draws_while_the_first_sells(three, entrants)
        await _one_is_paused_and_then_sold_out(three, second)
        await _one_begins_to_wait_by_itself(three)
        await _one_recovers(three, entrants)


async def _while_one_sells_another_waits_and_the_third_is_closed(three: Shop) -> list[Visitor]:
    early = await three.visitor(three.later).join()
    assert (early.status, early.json()["code"], early.json()["opens_at_ms"]) == (409, "not_open", three.later.joins_at_ms)
    entrants = [three.visitor(three.drawing) for _ in range(ENTRANTS)]
    for number, entrant in enumerate(entrants):
        assert (await entrant.join()).status == 201
        assert entrant.ticket["entry_number"] == number
    first = await three.buyer(three.selling)
    assert first.ticket["queue_number"] == 0, "each drop counts its own people"
    reserved = await first.reserves(SKU)
    assert reserved.status == 201
    await three.pays(reserved.json())

    async def all_are_told_of() -> bool:
        return bool((await three.serving(three.drawing))["joined"] == ENTRANTS)

    await until(all_are_told_of)
    before = (await three.stage.parts.drops.inspect(three.drawing.drop_id)).now_ms
    document = await three.serving(three.drawing)
    after = (await three.stage.parts.drops.inspect(three.drawing.drop_id)).now_ms
    assert before - 2_000 < document["now_ms"] <= after, "the countdown is by the store's clock"
    assert document["opens_at_ms"] == three.drawing.opens_at_ms
    assert (document["joined"], document["key"], document["serving_number"]) == (ENTRANTS, None, 0)
    return entrants


async def _one_opens_and_draws_while_the_first_sells(three: Shop, entrants: list[Visitor]) -> Visitor:
    await three.until_state(three.drawing, "open")
    await three.stage.until(three.drawing, lambda inspection: bool(inspection.snapshot.key))
    for entrant in entrants:
        await entrant.comes_in()
    document = await three.serving(three.drawing)
    lots = [Lot(entrant.ticket, draws=True).drawn_by(document) for entrant in entrants]
    assert sorted(lot for lot in lots if lot is not None) == list(range(ENTRANTS))
    assert (await three.serving(three.selling))["key"] is None
    assert (await three.serving(three.later))["state"] == "scheduled"
    second = await three.buyer(three.selling)
    assert second.ticket["queue_number"] == 1, "the first goes on"
    return second


async def _one_is_paused_and_then_sold_out(three: Shop, second: Visitor) -> None:
    await three.steer(three.selling, "pause")
    assert (await (await three.buyer(three.drawing)).reserves(SKU)).status == 201
    assert (await second.reserves(SKU)).json()["code"] == "paused"
    await three.steer(three.selling, "resume")
    reserved = await second.reserves(SKU)
    assert reserved.status == 201
    await three.pays(reserved.json())
    assert (await three.visitor(three.selling).join()).json()["code"] == "sold_out"
    assert (await (await three.buyer(three.drawing)).reserves(SKU)).status == 201
    stock = (await three.stage.parts.drops.inspect(three.drawing.drop_id)).skus[SKU]
    assert (stock.reserved, stock.sold) == (2, 0)


async def _one_begins_to_wait_by_itself(three: Shop) -> None:
    document = await three.until_state(three.later, "waiting")
    assert document["now_ms"] >= three.later.joins_at_ms
    visitor = three.visitor(three.later)
    assert (await visitor.join()).status == 201
    assert visitor.ticket["entry_number"] == 0
    refused = await visitor.asks_to_come_in()
    assert (refused.json()["code"], refused.json()["opens_at_ms"]) == ("not_open", three.later.opens_at_ms)


async def _one_recovers(three: Shop, entrants: list[Visitor]) -> None:
    parts, drawing = three.stage.parts, three.drawing.drop_id
    await parts.drops.fence(drawing, 1, "drift")
    held = asyncio.create_task(entrants[0].join())
    assert (await three.visitor(three.later).join()).status == 201, "the others do not wait for it"
    assert (await three.serving(three.selling))["sold_out"]
    await three.until_state(three.drawing, "recovering")
    assert not held.done(), "nobody joins a drop that recovers"
    assert await recovery_of(parts).recover(drawing) is not None
    assert (await held).status == 200
    assert entrants[0].ticket["entry_number"] == 0
    inspection = await parts.drops.inspect(drawing)
    assert (inspection.state, inspection.epoch, inspection.skus[SKU].reserved) == (DropState.OPEN, 2, 2)
    assert {(await parts.drops.inspect(other.drop_id)).epoch for other in (three.selling, three.later)} == {1}
