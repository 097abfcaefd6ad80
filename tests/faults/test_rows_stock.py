"""Rows of the fault table about stock: a journal trimmed by an operator, and a merchant who changes the stock during the drop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from chaos.lab import until
from flashsale.access import Scope, create_key
from flashsale.keys import drop_keys
from flashsale.model import DropState
from loadtest.client import AnswerLost, NotSent, Pool
from loadtest.history import Call, Ending, Kind, Recorder, Step
from reconciler.auditor import AuditWord, audit
from reconciler.evidence import Evidence
from reconciler.repair import Repairer, plan_repair
from tests.faults.stage import RowRecord, orders, probe_for, require_sound, selling_from

if TYPE_CHECKING:
    from chaos.lab import Lab
    from flashsale.model import Drop
    from tests.faults.conftest import Bustle

ASK_AGAIN_S = 0.2
ASKED_WITHIN_S = 30.0


def evidence_of(lab: Lab, drop: Drop) -> Evidence:
    return Evidence(drop.drop_id, lab.parts.database, lab.parts.store)


async def state_of(lab: Lab, drop: Drop) -> DropState:
    return (await lab.inspect(drop)).state


@pytest.mark.faults
async def test_row_43_journal_trimmed(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    async with bustle():
        found_after_s = await trimmed_and_repaired(lab, row)
    row.saw(f"The auditor named both reservations and paused the drop after {found_after_s:.0f} s; the repair recorded each once.")


async def trimmed_and_repaired(lab: Lab, row: RowRecord) -> float:
    """How long it took to find out, in seconds."""
    probe = await probe_for(lab, row)
    for reconciler in lab.reconcilers:
        await reconciler.says("drop_followed", drop=probe.drop.drop_id)
        await reconciler.kill()
    paid, held = [(await probe.reserve(lab.workers[0], key=key)).json() for key in ("paid", "held")]
    assert (await probe.confirm(lab.workers[0], paid)).status == 202
    await lab.parts.store.xtrim(drop_keys(probe.drop.drop_id).journal, maxlen=0, approximate=False)
    for reconciler in lab.reconcilers:
        await reconciler.start()

    async def paused() -> bool:
        return await state_of(lab, probe.drop) is DropState.PAUSED

    began = time.monotonic()
    await until(paused)
    found_after_s = time.monotonic() - began
    look = await evidence_of(lab, probe.drop).reservations()
    plan = plan_repair(probe.drop.drop_id, look)
    assert plan.unsafe == []
    assert [step for step in plan.steps if step[0] != "tell"] == []
    assert {step[1] for step in plan.steps} == {paid["reservation_id"], held["reservation_id"]}
    await Repairer(lab.parts.drops, lab.parts.scripts, lab.parts.database).carry_out(plan)

    async def recorded() -> bool:
        return await orders(lab, probe.drop) == {paid["reservation_id"]: "paid", held["reservation_id"]: "pending"}

    await until(recorded)
    await lab.parts.drops.steer(probe.drop.drop_id, "resume")
    assert (await probe.release(lab.workers[0], held)).status == 200
    judged = await lab.judge(probe.drop, probe.seen)
    assert judged.wrong == ()
    await lab.retire(probe.drop)
    return found_after_s


class Merchant:
    """Asks a worker for changes of stock until it answers, and writes down what was asked and answered."""

    def __init__(self, lab: Lab, drop: Drop, key: str) -> None:
        self._lab = lab
        self._path = f"/v1/merchant/drops/{drop.drop_id}/stock"
        self._drop = drop
        self._key = key
        self._history = lab.folder / f"{drop.drop_id}.history.jsonl"

    async def change(self, name: str, sku: str, delta: int, *, drain: bool = False) -> dict[str, Any]:
        with Recorder(self._history, f"merchant-{name}") as recorder:
            op = recorder.invoke(Call(Kind.ADJUST_STOCK, drop=self._drop.drop_id, key=name, items=((sku, 0),), delta=delta))
            answer = await self._answered(name, {"sku": sku, "delta": delta, "drain": drain})
            step = Step.OK if "outcome" in answer else Step.FAIL
            recorder.end(op, Ending(step, answer.get("outcome") or answer["code"]))
        return answer

    async def _answered(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._key}", "Idempotency-Key": name}
        pool = Pool(self._lab.url)
        try:
            async with asyncio.timeout(ASKED_WITHIN_S):
                while True:
                    try:
                        answer = await pool.request("POST", self._path, headers=headers, body=body)
                    except (AnswerLost, NotSent):
                        await asyncio.sleep(ASK_AGAIN_S)
                        continue
                    if answer.status not in {401, 503}:  # a key is known a moment after it was made
                        found: dict[str, Any] = answer.json()
                        return found
                    await asyncio.sleep(ASK_AGAIN_S)
        finally:
            pool.close()


@pytest.mark.faults
async def test_row_48_stock_changes_during_the_drop(lab: Lab, row: RowRecord) -> None:
    _, key = await create_key(lab.parts.database, [Scope.MERCHANT])
    told: dict[str, dict[str, Any]] = {}

    async def disturb(drop: Drop) -> None:
        merchant = Merchant(lab, drop, key)
        first, second = (sku.sku for sku in drop.skus[:2])
        allotment = drop.skus[1].allotment
        await selling_from(lab, drop, 10)
        told["more"] = await merchant.change("more", first, 15)
        # A worker dies before it may have answered; the same key counts once.
        await lab.workers[0].kill()
        again = asyncio.create_task(merchant.change("again", first, 5))
        await lab.workers[0].start()
        told["again"] = await again
        told["too many"] = await merchant.change("too-many", second, -allotment)
        told["drain"] = await merchant.change("drain", second, -(allotment // 2), drain=True)
        report = await audit(evidence_of(lab, drop))
        assert report.word is not AuditWord.DRIFT, report.drifts

    played = await lab.rehearse(row.scenario(shoppers=400, units=60), disturb)
    require_sound(played)
    assert told["more"]["outcome"] == "adjusted"
    assert told["again"]["outcome"] in {"adjusted", "replayed"}
    assert told["too many"]["code"] == "too_few_units"
    assert told["drain"].get("outcome") in {"adjusted", "draining"} or told["drain"]["code"] == "too_few_units"
    store = (await lab.inspect(played.drop)).skus
    postgres = {row["sku"]: row for row in await lab.parts.database.fetch("stock_allotments", played.drop.drop_id)}
    assert {sku: stock.allotment for sku, stock in store.items()} == {sku: row["allotment"] for sku, row in postgres.items()}
    first = played.drop.skus[0]
    assert store[first.sku].allotment == first.allotment + 20
    assert (await audit(evidence_of(lab, played.drop))).word is AuditWord.CLEAN
    await lab.retire(played.drop)
    draining = store[played.drop.skus[1].sku].draining
    row.saw(
        f"{played.report['sold_units']} units sold; 20 were added once although a worker died; withdrawing what was held was"
        f" refused, and of the units withdrawn by draining {draining} were still held in the end."
    )
