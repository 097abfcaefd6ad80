"""Rows about API workers: killed, cut off, stopped."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from chaos.lab import until
from chaos.probe import Probe
from chaos.proxy import Swallow, armed, holding
from chaos.wire import Side, reply_to
from flashsale.cli.summary import Crowd
from flashsale.keys import drop_keys
from loadtest.client import AnswerLost, NotSent
from tests.faults.stage import orders, probe_for, units

if TYPE_CHECKING:
    from chaos.lab import Lab
    from chaos.process import LabProcess
    from loadtest.client import Answer
    from tests.faults.conftest import Bustle
    from tests.faults.stage import RowRecord

RETURNED_WITHIN_MS = 2_000
ANSWERED_WITHIN_S = 1.0
EARLY_S = 0.002
"""about as long as a request takes to the store"""
LATER_S = 0.01
"""a payment so much later than the rival meets a unit that is the rival's"""
PAID = frozenset({200, 202})
SOLD_OUT, EXPIRED = 409, 410


async def paid_and_judged(lab: Lab, probe: Probe, answer: Answer) -> None:
    """The reservation is paid through the second worker; then everything adds up and there is exactly one order."""
    assert (await probe.confirm(lab.process("worker-2"), answer.json())).status in {200, 202}
    judged = await lab.judge(probe.drop, probe.seen)
    assert judged.wrong == ()
    assert await orders(lab, probe.drop) == {answer.json()["reservation_id"]: "paid"}
    await lab.retire(probe.drop)


async def test_row_01_kill_api_before_reserve(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    worker, other = lab.workers
    async with bustle():
        probe = await probe_for(lab, row)
        with holding([worker.store], Side.REQUESTS, lab.script("reserve", drop_keys(probe.drop.drop_id).stock)) as hold:
            asked = asyncio.create_task(probe.reserve(worker))
            await hold.reached()
            await worker.kill()
            hold.drop()
            with pytest.raises(AnswerLost):
                await asked
        assert await units(lab, probe.drop) == (5, 0, 0)
        again = await probe.reserve(other)
        assert again.status == 201, again.body
        assert await units(lab, probe.drop) == (4, 1, 0)
        await paid_and_judged(lab, probe, again)
        await worker.start()
    row.saw("The connection was reset and no unit had moved; the repetition through the other worker was answered 201.")


async def test_row_02_kill_api_after_reserve(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    worker, other = lab.workers
    async with bustle():
        probe = await probe_for(lab, row)
        with holding([worker.store], Side.REPLIES, reply_to(lab.script("reserve", drop_keys(probe.drop.drop_id).stock))) as hold:
            asked = asyncio.create_task(probe.reserve(worker))
            await hold.reached()
            assert await units(lab, probe.drop) == (4, 1, 0)
            await worker.kill()
            with pytest.raises(AnswerLost):
                await asked
        again = await probe.reserve(other)
        assert again.status == 200, again.body
        assert await units(lab, probe.drop) == (4, 1, 0)
        await paid_and_judged(lab, probe, again)
        await worker.start()
    row.saw("The unit was taken before the kill; the repetition found that reservation (200), and still one unit was taken.")


@pytest.mark.parametrize("lost", [1, pytest.param(2, marks=pytest.mark.faults), pytest.param(4, marks=pytest.mark.faults)])
async def test_row_03_reply_lost(lab: Lab, row: RowRecord, bustle: Bustle, lost: int) -> None:
    worker, _ = lab.workers
    async with bustle():
        probe = await probe_for(lab, row)
        swallow = Swallow(Side.REPLIES, reply_to(lab.script("reserve", drop_keys(probe.drop.drop_id).stock)), times=lost)
        with armed([worker.store], swallow):
            answer = await probe.reserve(worker)
        assert swallow.left == 0, "the worker must have repeated as often as answers were lost"
        assert answer.status in {200, 201}, answer.body
        assert await units(lab, probe.drop) == (4, 1, 0)
        await paid_and_judged(lab, probe, answer)
    row.saw(f"{lost} lost: the worker asked {lost + 1} times, the shopper once, and one unit was taken.")


@pytest.mark.faults
async def test_row_04_client_never_repeats(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    worker, _ = lab.workers
    async with bustle():
        probe = await probe_for(lab, row, reservation_ttl_ms=1_500)
        with holding([worker.store], Side.REPLIES, reply_to(lab.script("reserve", drop_keys(probe.drop.drop_id).stock))) as hold:
            asked = asyncio.create_task(probe.reserve(worker))
            await hold.reached()
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            hold.release()
        assert await units(lab, probe.drop) == (4, 1, 0)
        judged = await lab.judge(probe.drop, probe.seen)
        assert judged.wrong == ()
        assert await units(lab, probe.drop) == (5, 0, 0)
        (late_ms,) = (await lab.sql(_LATENESS, probe.drop.drop_id))[0]
        assert 0 <= late_ms <= RETURNED_WITHIN_MS
        await lab.retire(probe.drop)
    row.saw(f"The unit was back {late_ms} ms after the expiry.")


_LATENESS = """
    SELECT (extract(epoch FROM finished_at - expires_at) * 1000)::int FROM orders WHERE drop_id = $1 AND state = 'expired'
"""


@pytest.mark.faults
async def test_row_20_partition_api_store(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    worker, _ = lab.workers
    loop = asyncio.get_running_loop()
    async with bustle():
        probe = await probe_for(lab, row)
        opened = said(worker, "store_circuit_opened")
        worker.store.stall()
        took_s = []
        for attempt in range(5):
            began = loop.time()
            answer = await probe.reserve(worker, key=f"attempt-{attempt}")
            took_s.append(loop.time() - began)
            assert answer.status == 503, answer.body
            assert "retry-after" in answer.headers
        row.saw(f"Answered 503 within {took_s[0] * 1000:.0f} ms, and with the circuit open within {took_s[-1] * 1000:.0f} ms.")
        assert max(took_s) <= ANSWERED_WITHIN_S
        await until(lambda: _is_more(worker, opened))
        assert await orders(lab, probe.drop) == {}
        worker.store.heal()
        await until(partial(worker.answers, "/readyz", 200))
        assert (await probe.reserve(worker, key="healed")).status == 201
        await lab.retire(probe.drop)


def said(process: LabProcess, event: str) -> int:
    """How often a process has said so since its start."""
    return sum(1 for line in process.lines if line.get("event") == event)


async def _is_more(worker: LabProcess, opened: int) -> bool:
    return said(worker, "store_circuit_opened") > opened


@pytest.mark.faults
async def test_row_21_one_way_partition(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    worker, other = lab.workers
    async with bustle():
        probe = await probe_for(lab, row)
        worker.store.stall(Side.REPLIES)
        answer = await probe.reserve(worker)
        assert answer.status == 503, answer.body
        assert await units(lab, probe.drop) == (4, 1, 0), "the request got through"
        worker.store.heal()
        again = await probe.reserve(other)
        assert again.status == 200, again.body
        assert await units(lab, probe.drop) == (4, 1, 0)
        await paid_and_judged(lab, probe, again)
    row.saw(f"Answered 503 {answer.json()['code']}; the repetition found the reservation, and one unit was taken.")


async def test_row_50_sigterm_worker(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    worker, _ = lab.workers
    async with bustle():
        probe = await probe_for(lab, row)
        with holding([worker.store], Side.REPLIES, reply_to(lab.script("reserve", drop_keys(probe.drop.drop_id).stock))) as hold:
            asked = asyncio.create_task(probe.reserve(worker))
            await hold.reached()
            worker.signal(signal.SIGTERM)
            await no_longer_accepts(worker, probe)
            hold.release()
            answer = await asked
        assert answer.status == 201, answer.body
        assert await worker.ended(within_s=10.0) == 0
        await paid_and_judged(lab, probe, answer)
        await worker.start()
    row.saw("The worker took no new request, answered the one in flight 201, and ended with exit code 0.")


async def no_longer_accepts(worker: LabProcess, probe: Probe) -> None:
    """Returns once new connections are refused."""
    async with asyncio.timeout(10.0):
        while True:
            try:
                await probe.join(worker)
            except (NotSent, AnswerLost):
                return
            await asyncio.sleep(0.02)


@pytest.mark.faults
async def test_row_50_sigterm_reconciler(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    reconciler, _ = lab.reconcilers
    async with bustle():
        probe = await probe_for(lab, row)
        answer = await probe.reserve(lab.workers[0])
        for process in lab.reconcilers:
            await process.says("drop_followed", drop=probe.drop.drop_id)
        assert await reconciler.stop() == 0
        names = {
            consumer["name"] for consumer in await lab.parts.store.xinfo_consumers(drop_keys(probe.drop.drop_id).journal, "reconciler")
        }
        assert len(names) <= 1, "it has left the group, so nobody has to wait for its entries"
        await paid_and_judged(lab, probe, answer)
        await reconciler.start()
    row.saw("The reconciler left the consumer group and ended with exit code 0.")


@pytest.mark.faults
async def test_row_49_confirm_release_expire_at_once(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    one, other = lab.workers
    rounds = 12
    async with bustle():
        probe = await probe_for(lab, row, units=rounds, limit=rounds, reservation_ttl_ms=2_500)
        reserved = [(await probe.reserve(one, key=f"key-{number}")).json() for number in range(rounds)]

        async def race(reservation: dict[str, Any]) -> tuple[Answer, Answer]:
            await asyncio.sleep(max(0.0, reservation["expires_at_ms"] / 1000 - time.time() - EARLY_S))
            confirmed, released = await asyncio.gather(probe.confirm(one, reservation), probe.release(other, reservation))
            return confirmed, released

        answers = await asyncio.gather(*(race(reservation) for reservation in reserved))
        for confirmed, released in answers:
            assert confirmed.status in {200, 202}, confirmed.body  # the units are free whoever was first, so money always wins
            assert released.status in {200, 409, 410}, released.body
        judged = await lab.judge(probe.drop, probe.seen)
        assert judged.wrong == ()
        assert await units(lab, probe.drop) == (0, 0, rounds)
        assert await orders(lab, probe.drop) == {reservation["reservation_id"]: "paid" for reservation in reserved}
        await lab.retire(probe.drop)
    winners = Counter(released.status for _, released in answers)
    row.saw(f"{rounds} races: every payment was honoured, releases were answered {dict(winners)}, one order each.")


async def refunds_of(lab: Lab, probe: Probe) -> list[str]:
    """The reservations whose payment goes back, one entry for each refund."""
    rows = await lab.sql("SELECT reservation_id FROM refunds WHERE drop_id = $1 ORDER BY 1", probe.drop.drop_id)
    return [reservation_id for (reservation_id,) in rows]


async def test_row_49_two_confirms_when_the_unit_is_anothers(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    one, other = lab.workers
    async with bustle():
        probe = await probe_for(lab, row, units=1)
        rival = Probe(probe.drop, lab.storefront_key)
        await rival.enter(other)
        lost = (await probe.reserve(one)).json()
        assert (await probe.release(other, lost)).status == 200
        won = (await rival.reserve(one)).json()
        answers = await asyncio.gather(
            probe.confirm(one, lost), probe.confirm(other, lost), rival.confirm(one, won), rival.confirm(other, won)
        )
        assert [answer.status in PAID for answer in answers] == [False, False, True, True]
        assert [(answer.status, answer.json()["refund_due"]) for answer in answers[:2]] == [(EXPIRED, True)] * 2
        assert (await lab.judge(probe.drop, rival.seen)).wrong == ()
        assert await units(lab, probe.drop) == (0, 0, 1)
        assert await orders(lab, probe.drop) == {lost["reservation_id"]: "refund_due", won["reservation_id"]: "paid"}
        assert await refunds_of(lab, probe) == [lost["reservation_id"]]
        await lab.retire(probe.drop)
    row.saw("The unit had gone to another: both confirms of the first were answered that the money goes back, which it does once.")


@pytest.mark.faults
async def test_row_49_with_a_rival_after_the_same_units(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    """No unit is spare: whoever of payment and rival comes first has it, and a payment that comes second goes back, once."""
    one, other = lab.workers
    rounds = 12
    async with bustle():
        probe = await probe_for(lab, row, units=rounds, limit=rounds, reservation_ttl_ms=2_500)
        rival = Probe(probe.drop, lab.storefront_key)
        await rival.enter(other)
        reserved = [(await probe.reserve(one, key=f"key-{number}")).json() for number in range(rounds)]

        async def pay(reservation: dict[str, Any], later_s: float) -> Answer:
            await asyncio.sleep(later_s)
            return await probe.confirm(one, reservation)

        async def race(number: int, reservation: dict[str, Any]) -> Answer:
            await asyncio.sleep(max(0.0, reservation["expires_at_ms"] / 1000 - time.time() - EARLY_S))
            paying = asyncio.create_task(pay(reservation, number % 4 * LATER_S))
            released, _ = await asyncio.gather(probe.release(other, reservation), takes(rival, other, number, paying))
            assert released.status in {200, 409, 410}, released.body
            return await paying

        answers = await asyncio.gather(*(race(number, reservation) for number, reservation in enumerate(reserved)))
        assert {answer.status for answer in answers} <= PAID | {EXPIRED}
        assert all(answer.json()["refund_due"] for answer in answers if answer.status == EXPIRED)
        lost = {reservation["reservation_id"] for reservation, answer in zip(reserved, answers, strict=True) if answer.status == EXPIRED}
        seen = Crowd(reservations=probe.reservations | rival.reservations, confirmed=probe.confirmed)
        assert (await lab.judge(probe.drop, seen)).wrong == ()
        told = await orders(lab, probe.drop)
        ids = [reservation["reservation_id"] for reservation in reserved]
        assert {name: told[name] for name in ids} == {name: "refund_due" if name in lost else "paid" for name in ids}
        assert await refunds_of(lab, probe) == sorted(lost)
        assert (await units(lab, probe.drop))[1:] == (0, rounds - len(lost))
        await lab.retire(probe.drop)
    row.saw(f"{rounds} races with a rival: {rounds - len(lost)} payments were honoured, {len(lost)} go back, once each.")


async def takes(rival: Probe, worker: LabProcess, number: int, paying: asyncio.Task[Answer]) -> None:
    """The rival asks for a unit until there is one, or until the payment is answered."""
    attempts = 0
    while (await rival.reserve(worker, key=f"{number}-{attempts}")).status == SOLD_OUT and not paying.done():
        attempts += 1
