"""A lost drop comes back from Postgres with everybody's unexpired reservation, and never with a unit too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from flashsale.cli.recover import recovery_of
from flashsale.cli.target import opened
from flashsale.connections.database import Database
from flashsale.drops import ROLLED_BACK
from flashsale.errors import DatabaseUnavailable, DropNotFound, Recovering
from flashsale.keys import DROPS, drop_keys
from flashsale.model import DropState, JoinOutcome, Reservation, ReservationState, SkuStock, secret_hash_of
from flashsale.refunds import Refunds
from flashsale.settings import Settings
from reconciler.auditor import AuditWord, audit
from reconciler.consumer import JournalConsumer
from reconciler.evidence import Evidence
from reconciler.journal import Journal, set_back
from reconciler.laws import DriftKind
from reconciler.metrics import ReconcilerMetrics
from reconciler.orders import Batch, OrderRecorder, Recorded
from reconciler.recovery import NO_UNITS, Condition, Recovery, RecoveryOvertaken, unfit
from reconciler.stock import StockRecorder
from tests.integration.reconciler_stage import query
from tests.integration.recovery_stage import Stage, new_parts, watch_of
from tests.integration.test_reconciler_process import until


@pytest.fixture
async def stage(store: object, settings: Settings) -> AsyncIterator[Stage]:
    async with opened(settings) as parts:
        made = Stage(parts)
        await made.open()
        yield made


async def condition(stage: Stage) -> Condition:
    return (await recovery_of(new_parts(stage.parts)).find(stage.drop_id)).condition


async def is_fenced(stage: Stage) -> bool:
    return await condition(stage) is Condition.FENCED


async def test_a_sound_drop_is_left_alone(stage: Stage) -> None:
    await stage.enter("ann")
    before = await stage.copy()
    assert await stage.recover() is None
    assert await stage.copy() == before


async def test_an_order_the_store_never_heard_of_comes_in_when_it_is_asked_for(stage: Stage) -> None:
    """As of a reconciler that recorded what it had read before the store lost it, after the drop had been recovered."""
    await stage.enter("ann")
    before = await stage.copy()
    known = await stage.reserve("ann")
    await stage.drain()
    keys = drop_keys(stage.drop_id)
    await stage.parts.store.delete(keys.stock, keys.tickets, keys.reservations, keys.expiries)
    for key in (keys.stock, keys.tickets):
        await stage.parts.store.restore(key, 0, *before[key.encode()])
    evidence = Evidence(stage.drop_id, stage.parts.database, stage.parts.store)
    assert {drift.kind for drift in (await audit(evidence)).drifts} >= {DriftKind.ORDER_UNKNOWN}
    assert await stage.recover() is None
    assert await stage.recover(although_sound=True) is not None
    [held] = (await stage.inspect(known)).reservations
    assert held is not None
    assert held.state is ReservationState.RESERVED
    assert (await audit(evidence)).word is AuditWord.CLEAN


def recording(stage: Stage, recorder: OrderRecorder | None = None) -> JournalConsumer:
    """A reconciler's consumer of the drop's journal."""
    parts = stage.parts
    settings = msgspec.structs.replace(parts.settings.reconciler, block_ms=20, claim_idle_ms=40)
    journal, metrics = Journal(parts.store, stage.drop_id, "recording"), ReconcilerMetrics(CollectorRegistry())
    recorder, stock = recorder or OrderRecorder(parts.database), StockRecorder(parts.database)
    return JournalConsumer(
        stage.drop_id,
        journal,
        recorder,
        stock,
        metrics,
        settings,
        fence=lambda drop_id, epoch: parts.drops.fence(drop_id, epoch, ROLLED_BACK),
    )


class FrozenRecorder(OrderRecorder):
    """Of a process that is stopped just before it records what it has read, until it is thawed."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.frozen, self.thawed = asyncio.Event(), asyncio.Event()

    async def record(self, batch: Batch, *, may_refuse: bool = True) -> Recorded:
        self.frozen.set()
        await self.thawed.wait()
        return await super().record(batch, may_refuse=may_refuse)


@asynccontextmanager
async def frozen_reconciler(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A reconciler that has read all there is, and is frozen; calling what this gives thaws it and waits until it is done."""
    recorder, stop = FrozenRecorder(stage.parts.database), asyncio.Event()
    working = asyncio.create_task(recording(stage, recorder).run(stop))

    async def thaw() -> None:
        recorder.thawed.set()
        stop.set()
        await working

    try:
        await recorder.frozen.wait()
        yield thaw
    finally:
        working.cancel()


async def test_what_a_frozen_reconciler_still_has_is_not_recorded_once_the_drop_is_recovered(stage: Stage) -> None:
    await stage.enter("ann", "bob", "carl")
    known = await stage.reserve("carl")
    await stage.drain()
    await stage.reserve("ann", white_42=2)
    paid = await stage.reserve("bob")
    assert await stage.pay(paid) == "confirmed"
    assert (await stage.parts.stock.change(stage.drop_id, "less", "black-42", -5)).outcome.value == "adjusted"
    async with frozen_reconciler(stage) as thaw:
        await stage.parts.store.flushall()
        await stage.recover()
        await thaw()
    assert await query(stage.parts.database, "SELECT reservation_id, state FROM orders") == [(known.reservation_id, "pending")]
    [held] = await Refunds(stage.parts.database).unfinished()
    assert (held.reservation_id, held.payment_reference, held.state, held.reason) == (
        paid.reservation_id, f"pay-{paid.reservation_id[-6:]}", "held", "overtaken",
    )  # fmt: skip
    assert (held.amount_minor, held.currency, held.drop_id) == (paid.amount_minor, stage.drop.currency, stage.drop_id)
    assert await condition(stage) is Condition.SOUND
    assert (await stage.inspect()).skus["black-42"] == SkuStock(100, 99, 1, 0)
    assert (await audit(Evidence(stage.drop_id, stage.parts.database, stage.parts.store))).word is AuditWord.CLEAN


async def test_a_payment_that_was_overtaken_waits_for_nobody_once_it_is_confirmed_again(stage: Stage) -> None:
    await stage.enter("ann")
    paid = await stage.reserve("ann")
    assert await stage.pay(paid) == "confirmed"
    async with frozen_reconciler(stage) as thaw:
        await stage.parts.store.flushall()
        await stage.recover()
        await thaw()
    receipt = [
        paid.reservation_id, paid.ticket_id, "q", 1, paid.number, paid.items, paid.amount_minor, paid.reserved_at_ms, paid.expires_at_ms,
    ]  # fmt: skip
    assert (await stage.call("restore", [receipt]))[0][0] == "restored"
    assert await stage.pay(paid) == "confirmed"
    await stage.drain()
    assert await Refunds(stage.parts.database).unfinished() == []
    assert await query(stage.parts.database, "SELECT reservation_id, state FROM orders") == [(paid.reservation_id, "paid")]


async def test_what_was_recorded_before_the_recovery_is_nothing_for_a_person(stage: Stage) -> None:
    """The recovery takes over what a frozen reconciler holds; when that one thaws, it is known already."""
    await stage.enter("ann")
    paid = await stage.reserve("ann")
    assert await stage.pay(paid) == "confirmed"
    async with frozen_reconciler(stage) as thaw:
        await stage.parts.drops.fence(stage.drop_id, 1, "drift")
        await stage.recover()
        await thaw()
    assert await Refunds(stage.parts.database).unfinished() == []
    assert await query(stage.parts.database, "SELECT reservation_id, state FROM orders") == [(paid.reservation_id, "paid")]
    assert await condition(stage) is Condition.SOUND


async def test_what_postgres_lost_after_a_recovery_is_recorded_again(stage: Stage) -> None:
    """The store was rebuilt with it, and its entry is of the epoch that Postgres is back in."""
    await stage.enter("ann")
    sold = await stage.reserve("ann")
    assert await stage.pay(sold) == "confirmed"
    await stage.drain()
    await stage.parts.drops.fence(stage.drop_id, 1, "drift")
    await stage.recover()
    await stage.drain()
    for statement in ("DELETE FROM order_items", "DELETE FROM outbox", "DELETE FROM orders", "UPDATE drop_skus SET sold = 0"):
        await query(stage.parts.database, statement)
    await query(stage.parts.database, "UPDATE drops SET epoch = 1")
    await set_back(stage.parts.store, stage.drop_id)
    await watch_of(stage.parts).look()
    await stage.drain()
    assert await query(stage.parts.database, "SELECT reservation_id, state FROM orders") == [(sold.reservation_id, "paid")]
    assert (await audit(Evidence(stage.drop_id, stage.parts.database, stage.parts.store))).word is AuditWord.CLEAN


async def test_an_unknown_drop_is_told_as_such(stage: Stage) -> None:
    with pytest.raises(DropNotFound):
        await recovery_of(stage.parts).find("never-made")


async def test_everything_lost_comes_back_from_postgres(stage: Stage) -> None:
    await stage.enter("ann", "bob", "carl", "dora")
    live = await stage.reserve("ann", black_42=2, white_42=1)
    paid, ended = await stage.reserve("bob"), await stage.reserve("carl")
    assert await stage.pay(paid) == "confirmed"
    await stage.parts.reservations.release(ended.reservation_id, "q", "shopper")
    await watch_of(stage.parts).look()
    await stage.drain()
    before = await stage.inspect(live, paid, ended)
    await stage.parts.store.flushall()
    assert await condition(stage) is Condition.MISSING

    recovered = await stage.recover()

    after = await stage.inspect(live, paid, ended)
    assert after.skus == before.skus
    assert [one and (one.state, one.items, one.expires_at_ms, one.amount_minor, one.ticket_id) for one in after.reservations] == [
        one and (one.state, one.items, one.expires_at_ms, one.amount_minor, one.ticket_id) for one in before.reservations
    ]
    assert (after.state, after.epoch, recovered.epoch) == (DropState.OPEN, 2, 2)
    assert after.snapshot.serving_number >= before.snapshot.serving_number
    assert after.snapshot.joined > before.snapshot.joined
    assert await condition(stage) is Condition.SOUND
    assert await stage.parts.store.sismember(DROPS, stage.drop_id)
    # Whoever repeats finds the truth, and what was held can be paid.
    assert await stage.pay(paid) == "replayed"
    assert await stage.pay(live) == "confirmed"
    assert (await stage.reserve("ann", black_42=2, white_42=1)).replayed


async def test_what_the_journal_still_holds_gets_into_postgres_first(stage: Stage) -> None:
    await stage.enter("ann", "bob")
    held, paid = await stage.reserve("ann"), await stage.reserve("bob")
    await stage.pay(paid)
    await stage.parts.drops.fence(stage.drop_id, 1, "drift")
    assert await condition(stage) is Condition.FENCED
    recovered = await stage.recover()
    assert recovered.plan.orders == 2
    found = await stage.inspect(held, paid)
    assert [one and one.state for one in found.reservations] == [ReservationState.RESERVED, ReservationState.CONFIRMED]
    assert found.skus["black-42"] == SkuStock(100, 98, 1, 1)


async def test_a_store_that_went_back_in_time_is_noticed_by_whoever_starts_later(stage: Stage) -> None:
    await stage.enter("ann", "bob")
    early = await stage.reserve("ann")
    older = await stage.copy()
    late = await stage.reserve("bob")
    assert await stage.pay(late) == "confirmed"
    await watch_of(stage.parts).look()
    await stage.drain()
    await stage.put_back(older)
    # Nobody is left who has seen the later state.
    stage.parts = new_parts(stage.parts)
    assert (await stage.inspect(late)).reservations == (None,)
    watch = watch_of(stage.parts)
    assert await watch.look() == {stage.drop_id}
    with pytest.raises(Recovering):
        await new_parts(stage.parts).drops.inspect(stage.drop_id)

    recovered = await stage.recover()

    assert recovered.plan.finding.condition in {Condition.BEHIND, Condition.FENCED}
    found = await stage.inspect(early, late)
    assert [one and one.state for one in found.reservations] == [ReservationState.RESERVED, ReservationState.CONFIRMED]
    assert found.skus["black-42"] == SkuStock(100, 98, 1, 1)
    assert await watch.look() == set()


async def test_a_store_that_went_back_and_on_is_noticed_by_who_recorded_what_it_lost(stage: Stage) -> None:
    """Whoever had seen nothing of it has made as many changes anew, so the numbers say nothing."""
    await stage.enter("ann", "bob")
    await stage.reserve("bob")
    consumer, stop = recording(stage), asyncio.Event()
    await consumer.drain()
    older = await stage.copy()
    lost = await stage.reserve("ann")
    await consumer.drain()
    await stage.put_back(older)
    stage.parts = new_parts(stage.parts)
    for name in ("carl", "dora", "emil"):
        await stage.enter(name)
        await stage.reserve(name)
    assert await condition(stage) is Condition.SOUND

    working = asyncio.create_task(consumer.run(stop))
    await until(partial(is_fenced, stage))
    stop.set()
    await working

    await stage.recover()
    [held] = (await stage.inspect(lost)).reservations
    assert held is not None
    assert held.state is ReservationState.RESERVED
    await stage.drain()
    assert (await audit(Evidence(stage.drop_id, stage.parts.database, stage.parts.store))).word is AuditWord.CLEAN
    # What is lost for good is said once: the recovered drop stays open.
    await consumer.drain()
    await consumer._hold_the_store_to_it()
    assert await condition(stage) is Condition.SOUND


@pytest.mark.parametrize("trimmed", [False, True])
async def test_a_journal_that_was_trimmed_or_emptied_is_no_loss(stage: Stage, *, trimmed: bool) -> None:
    await stage.enter("ann", "bob")
    await stage.reserve("ann")
    consumer = recording(stage)
    await consumer.drain()
    keys = drop_keys(stage.drop_id)
    if trimmed:
        await stage.parts.store.xtrim(keys.journal, maxlen=0, approximate=False)
    await consumer._hold_the_store_to_it()
    await stage.reserve("bob")
    await consumer._hold_the_store_to_it()
    assert await condition(stage) is Condition.SOUND
    await stage.parts.store.delete(keys.journal)
    await consumer._hold_the_store_to_it()
    assert await condition(stage) is Condition.SOUND


async def test_what_a_batch_told_is_enough_to_notice(stage: Stage) -> None:
    """Power is lost a moment after an order was recorded, before anybody had looked at the drop."""
    await stage.enter("ann")
    older = await stage.copy()
    assert await stage.pay(await stage.reserve("ann")) == "confirmed"
    await stage.drain()
    await stage.put_back(older)
    stage.parts = new_parts(stage.parts)
    assert await condition(stage) is Condition.BEHIND
    assert await watch_of(stage.parts).look() == {stage.drop_id}


async def test_an_older_epoch_is_noticed(stage: Stage) -> None:
    await stage.enter("ann")
    older = await stage.copy()
    await stage.parts.store.flushall()
    await stage.recover()
    await stage.put_back(older)
    stage.parts = new_parts(stage.parts)
    assert await condition(stage) is Condition.BEHIND
    assert await watch_of(stage.parts).look() == {stage.drop_id}
    assert (await stage.recover()).epoch == 3


async def test_the_line_of_a_rolled_back_store_is_kept(stage: Stage) -> None:
    numbers = await stage.join("ann", "bob")
    await stage.enter("carl")
    older = await stage.copy()
    await stage.reserve("carl")
    await watch_of(stage.parts).look()
    await stage.drain()
    await stage.put_back(older)
    await stage.recover()
    assert await stage.join("ann", "bob") == numbers
    assert (await stage.join("dora"))[0] > 3


async def test_a_unit_that_was_sold_twice_is_kept_by_whoever_came_first(stage: Stage) -> None:
    """The store went back, sold the last units again, and only then somebody noticed."""
    await stage.enter("ann", "bob", "carl")
    older = await stage.copy()
    first = await stage.reserve("ann", white_42=2)
    await stage.drain()
    await stage.put_back(older)
    stage.parts = new_parts(stage.parts)
    second, third = await stage.reserve("bob", white_42=2), await stage.reserve("carl", white_42=1)
    await stage.drain()
    await stage.parts.drops.fence(stage.drop_id, 1, "drift")

    recovered = await stage.recover()

    assert recovered.plan.refused == {second.reservation_id}
    found = await stage.inspect(first, second, third)
    assert [one and one.state for one in found.reservations] == [
        ReservationState.RESERVED, ReservationState.RELEASED, ReservationState.RESERVED,
    ]  # fmt: skip
    assert found.skus["white-42"] == SkuStock(3, 0, 3, 0)
    await stage.drain()
    order = await stage.parts.database.fetchrow("order_by_id", second.reservation_id)
    assert order is not None
    assert (order["state"], order["reason"]) == ("cancelled", NO_UNITS)


async def test_those_that_ran_out_meanwhile_are_expired_properly(stage: Stage) -> None:
    await stage.enter("ann")
    held = await stage.reserve("ann")
    await stage.drain()
    await stage.parts.store.flushall()
    async with stage.parts.database.acquire() as session:
        await session.connection.execute("UPDATE orders SET expires_at = reserved_at + interval '1 ms'")
    plan = await recovery_of(stage.parts).plan(stage.drop_id)
    assert (plan.live, plan.overdue) == (1, 1)
    await stage.recover()
    assert await stage.parts.reservations.expire(stage.drop_id, 100) == 1
    await stage.drain()
    order = await stage.parts.database.fetchrow("order_by_id", held.reservation_id)
    assert order is not None
    assert order["state"] == "expired"
    assert (await stage.inspect()).skus["black-42"].available == 100


async def test_a_paused_drop_stays_paused_and_an_open_one_may_be_kept_so(stage: Stage) -> None:
    await stage.parts.drops.steer(stage.drop_id, "pause")
    await stage.drain()
    await stage.parts.store.flushall()
    assert (await stage.recover()).state is DropState.PAUSED
    await stage.parts.drops.steer(stage.drop_id, "resume")
    await stage.parts.drops.fence(stage.drop_id, 2, "drift")
    assert (await stage.recover(keep_paused=True)).state is DropState.PAUSED
    assert (await stage.inspect()).state is DropState.PAUSED


async def test_what_the_merchant_had_changed_is_remembered(stage: Stage) -> None:
    await stage.parts.drops.steer(stage.drop_id, "rate_per_min", 77)
    await stage.parts.drops.steer(stage.drop_id, "notice", "Socks are late")
    await watch_of(stage.parts).look()
    await stage.parts.store.flushall()
    await stage.recover()
    snapshot = (await stage.inspect()).snapshot
    assert (snapshot.rate_per_min, snapshot.notice) == (77, "Socks are late")


async def test_stock_that_was_added_is_there_and_a_repeated_addition_changes_nothing(stage: Stage) -> None:
    await stage.parts.stock.change(stage.drop_id, "a1", "black-42", 7)
    await stage.drain()
    await stage.parts.store.flushall()
    await stage.recover()
    assert (await stage.inspect()).skus["black-42"] == SkuStock(107, 107, 0, 0)
    again = await stage.parts.drops.adjust_stock(stage.drop_id, "a1", "black-42", 7, drain=False)
    assert again.outcome.value == "replayed"


async def test_a_drop_that_was_open_before_is_recovered_and_not_opened_anew(stage: Stage) -> None:
    """Postgres was away when the store had been given the drop, and the store was lost before the opener came again."""
    await stage.enter("ann")
    sold = await stage.reserve("ann")
    await stage.pay(sold)
    await stage.drain()
    async with stage.parts.database.acquire() as session:
        await session.connection.execute("UPDATE drops SET opened_in_store = false, epoch = 0")
    await stage.parts.store.flushall()
    stage.parts = new_parts(stage.parts)

    await stage.parts.catalog.open_in_store(stage.drop_id)

    assert await condition(stage) is Condition.MISSING
    assert await watch_of(stage.parts).look() == {stage.drop_id}
    await stage.recover()
    assert (await stage.inspect(sold)).skus["black-42"] == SkuStock(100, 99, 0, 1)


async def test_an_extension_that_was_used_cannot_be_used_again(stage: Stage) -> None:
    await stage.enter("ann", "bob")
    extended, plain = await stage.reserve("ann"), await stage.reserve("bob")
    await stage.parts.reservations.extend(extended.reservation_id, 30_000, "x1", "q")
    await stage.drain()
    await stage.parts.store.flushall()
    await stage.recover()
    again = await stage.parts.reservations.extend(extended.reservation_id, 30_000, "x2", "q")
    assert again.outcome.value == "already_extended"
    assert (await stage.parts.reservations.extend(plain.reservation_id, 30_000, "x2", "q")).outcome.value == "extended"


async def test_a_payment_that_goes_back_cannot_pay_after_a_loss(stage: Stage) -> None:
    await stage.enter("ann", "bob")
    live, sold = await stage.reserve("ann"), await stage.reserve("bob")

    async def pay(reservation: Reservation, reference: str, amount_minor: int) -> str:
        settled = await stage.parts.reservations.confirm(reservation.reservation_id, reference, amount_minor, "q")
        return settled.outcome.value

    assert await pay(live, "too-little", live.amount_minor - 1) == "amount_mismatch"
    assert [await pay(sold, reference, sold.amount_minor) for reference in ("one", "two")] == ["confirmed", "payment_conflict"]
    await stage.drain()
    await stage.parts.store.flushall()
    await stage.recover()
    length = (await stage.inspect()).journal_length

    assert await pay(live, "too-little", live.amount_minor) == "payment_conflict"
    assert [await pay(sold, reference, sold.amount_minor) for reference in ("one", "two")] == ["replayed", "payment_conflict"]
    assert (await stage.inspect()).journal_length == length, "it goes back once"
    assert await pay(live, "right", live.amount_minor) == "confirmed"


async def test_units_that_were_to_be_drained_are_drained_once(stage: Stage) -> None:
    await stage.enter("ann", "bob")
    await stage.reserve("ann", white_42=2)
    adjusted = await stage.parts.stock.change(stage.drop_id, "less", "white-42", -2, drain=True)
    assert adjusted.outcome.value == "draining"
    await watch_of(stage.parts).look()
    await stage.drain()
    before = (await stage.inspect()).skus
    await stage.parts.store.flushall()
    await stage.recover()
    assert (await stage.inspect()).skus == before

    async def change(delta: int, *, drain: bool) -> str:
        return (await stage.parts.stock.change(stage.drop_id, "less", "white-42", delta, drain=drain)).outcome.value

    assert await change(-2, drain=True) == "replayed"
    assert await change(-2, drain=False) == "key_reused"
    assert (await stage.inspect()).skus == before


async def test_reservations_that_nobody_knows_count_for_nobody(stage: Stage) -> None:
    """The journal was trimmed by hand; the store still has the reservation and Postgres has never heard of it."""
    await stage.enter("ann", "bob")
    kept = await stage.reserve("bob")
    await stage.drain()
    lost = [await stage.reserve("ann", white_42=2), await stage.reserve("bob", "second", white_42=1)]
    await stage.parts.store.xtrim(drop_keys(stage.drop_id).journal, maxlen=0, approximate=False)
    await stage.parts.drops.fence(stage.drop_id, 1, "drift")

    await stage.recover()

    found = await stage.parts.drops.inspect(stage.drop_id, (stage.ticket("ann"), stage.ticket("bob")))
    assert [ticket and (ticket.reservations, ticket.live, ticket.units) for ticket in found.tickets] == [(0, 0, 0), (1, 1, 1)]
    for reservation in lost:
        receipt = [
            reservation.reservation_id, reservation.ticket_id, "q", 1, reservation.number, reservation.items,
            reservation.amount_minor, reservation.reserved_at_ms, reservation.expires_at_ms,
        ]  # fmt: skip
        assert (await stage.call("restore", [receipt]))[0][0] == "restored"
    found = await stage.inspect(kept)
    assert (found.skus["black-42"].reserved, found.skus["white-42"].reserved) == (1, 3)


async def test_places_of_an_earlier_loss_can_be_taken_up_after_a_later_one(stage: Stage) -> None:
    """Whoever waits hears of a loss when their turn comes; by then there may have been another."""
    numbers = dict(zip(("ann", "bob", "carl"), await stage.join("ann", "bob", "carl"), strict=True))
    await watch_of(stage.parts).look()
    await stage.parts.store.flushall()
    await stage.recover()

    async def come_back(name: str, epoch: int) -> tuple[str, int]:
        request = [stage.ticket(name), secret_hash_of(stage.shoppers[name]), {"claim": [numbers[name], 0, 1, epoch]}]
        [found] = await stage.call("join", [request])
        return found[0], found[1]

    assert await come_back("ann", 1) == ("restored", numbers["ann"])
    numbers["dora"] = (await stage.join("dora"))[0]
    await watch_of(stage.parts).look()
    await stage.parts.drops.fence(stage.drop_id, 2, "drift")
    await stage.recover()

    assert await come_back("bob", 1) == ("restored", numbers["bob"])
    stage.shoppers["thief"] = "another secret of somebody else"
    for name in ("ann", "dora"):
        assert await come_back(name, 2) == ("replayed", numbers[name])
        numbers["thief"] = numbers[name]
        word, number = await come_back("thief", 1)
        assert number > numbers["dora"], (word, "a number is never two tickets'")
    assert await come_back("carl", 1) == ("restored", numbers["carl"])


async def test_an_interrupted_recovery_leaves_the_drop_closed_and_is_done_again(stage: Stage) -> None:
    names = [f"p{number}" for number in range(30)]
    await stage.enter(*names)
    for name in names:
        await stage.reserve(name)
    await stage.drain()
    await stage.parts.store.flushall()

    def interrupt(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await stage.recover(told=interrupt)
    assert await condition(stage) is Condition.FENCED
    with pytest.raises(Recovering):
        await stage.inspect()
    joined = int(await stage.parts.store.hget(drop_keys(stage.drop_id).drop, "joined"))
    assert (await stage.recover()).plan.orders == 30
    found = await stage.inspect()
    assert found.skus["black-42"] == SkuStock(100, 70, 30, 0)
    assert found.snapshot.joined == joined


async def test_postgres_going_away_in_the_middle_is_said_as_such(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.enter("ann")
    await stage.reserve("ann")
    await stage.drain()
    await stage.parts.store.flushall()
    load = Recovery._load

    async def cut(self: Recovery, *rest: Any) -> None:
        await query(
            stage.parts.database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        await load(self, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Recovery, "_load", cut)
        with pytest.raises(DatabaseUnavailable):
            await stage.recover()
    assert await condition(stage) is Condition.FENCED
    assert (await stage.recover()).plan.orders == 1


async def test_two_recoveries_at_once_are_one(stage: Stage) -> None:
    await stage.enter("ann")
    await stage.reserve("ann")
    await stage.drain()
    await stage.parts.store.flushall()
    results = await asyncio.gather(stage.recover(), stage.recover(), return_exceptions=True)
    assert sum(isinstance(result, RecoveryOvertaken) or result is None for result in results) == 1
    assert (await stage.inspect()).skus["black-42"] == SkuStock(100, 99, 1, 0)
    assert (await stage.inspect()).epoch == 2


async def test_the_list_of_drops_is_written_again(stage: Stage) -> None:
    await stage.parts.store.delete(DROPS)
    assert await watch_of(stage.parts).look() == set()
    assert await stage.parts.drops.ids() == {stage.drop_id}


async def test_a_part_that_is_missing_is_damage(stage: Stage) -> None:
    await stage.enter("ann")
    held = await stage.reserve("ann")
    await stage.drain()
    await stage.parts.store.delete(drop_keys(stage.drop_id).stock)
    assert await condition(stage) is Condition.DAMAGED
    assert await watch_of(new_parts(stage.parts)).look() == {stage.drop_id}
    await stage.recover()
    assert (await stage.inspect(held)).skus["black-42"] == SkuStock(100, 99, 1, 0)


async def test_a_ticket_that_came_back_without_its_secret_is_its_owners(stage: Stage) -> None:
    await stage.enter("ann")
    await stage.reserve("ann")
    await stage.drain()
    await stage.parts.store.flushall()
    await stage.recover()
    ticket, secret_hash = stage.ticket("ann"), secret_hash_of(stage.shoppers["ann"])
    assert (await stage.call("admit", [[ticket, "fresh-token"]]))[0][0] == "admitted"
    assert JoinOutcome((await stage.call("join", [[ticket, secret_hash]]))[0][0]) is JoinOutcome.REPLAYED


def test_whoever_came_first_keeps_all_of_it_or_nothing() -> None:
    pending = [("r1", {"a": 2}), ("r2", {"a": 2, "b": 1}), ("r3", {"a": 1, "b": 1}), ("r4", {"b": 1})]
    assert unfit(pending, {"a": 3, "b": 1}) == {"r2": {"a": 2, "b": 1}, "r4": {"b": 1}}
    assert unfit([], {}) == {}
