"""Recording orders in a real Postgres: once, forward only, never past the allotment."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING

import pytest

from flashsale.errors import DatabaseUnavailable
from flashsale.model import DropState
from reconciler.entries import DropEvent
from reconciler.orders import Batch, OrderRecorder, Overtaken, Recorded
from reconciler.outbox import Outbox
from tests.integration.reconciler_stage import DROP, LAST, NOW_MS, Packed, make_drop, query, reservation_id, sold, states, transition, typed

if TYPE_CHECKING:
    from flashsale.connections.database import Database


@pytest.fixture
async def recorder(database: Database) -> OrderRecorder:
    await make_drop(database, shirts=10, caps=5)
    return OrderRecorder(database)


async def record(recorder: OrderRecorder, *packed: Packed) -> Recorded:
    return await recorder.record(Batch(DROP, typed(*packed)))


async def test_an_order_holds_everything_the_transition_said(recorder: OrderRecorder, database: Database) -> None:
    await record(recorder, transition("confirmed", 7, items=[("cap", 1), ("shirt", 2)], at_ms=NOW_MS + 5))
    row = await database.fetchrow("order_by_id", reservation_id(7))
    assert row is not None
    found = dict(row)
    assert found.pop("recorded_at") is not None
    assert found == {
        "reservation_id": reservation_id(7),
        "drop_id": DROP,
        "ticket_id": transition("confirmed", 7)[4],
        "queue_number": 7,
        "state": "paid",
        "amount_minor": 4500,
        "currency": "EUR",
        "payment_reference": "pay-7",
        "reason": "",
        "request_id": "request-7",
        "reserved_at_ms": NOW_MS,
        "expires_at_ms": NOW_MS + 60_000,
        "paid_at_ms": NOW_MS + 5,
        "finished_at_ms": NOW_MS + 5,
        "skus": ["cap", "shirt"],
        "quantities": [1, 2],
    }
    assert await sold(database) == {"cap": 1, "shirt": 2}


STORY = [transition("reserved", 1), transition("expired", 1, at_ms=NOW_MS + 1), transition("confirmed", 1, at_ms=NOW_MS + 2)]


@pytest.mark.parametrize("seed", range(8))
async def test_copies_in_any_order_and_any_batches_make_one_order(recorder: OrderRecorder, database: Database, seed: int) -> None:
    chance = random.Random(seed)
    told = [*STORY, transition("reserved", 2), transition("released", 2, at_ms=NOW_MS + 3)] * 3
    chance.shuffle(told)
    while told:
        size = chance.randint(1, 4)
        await record(recorder, *told[:size])
        told = told[size:]
    assert await states(database) == {"paid": 1, "cancelled": 1}
    assert await sold(database) == {"cap": 0, "shirt": 1}
    paid = await database.fetchrow("order_by_id", reservation_id(1))
    assert paid is not None
    assert (paid["paid_at_ms"], paid["quantities"]) == (NOW_MS + 2, [1])


async def test_older_news_never_overwrites_newer(recorder: OrderRecorder, database: Database) -> None:
    await record(recorder, transition("confirmed", 1))
    for kind in ("reserved", "expired", "released"):
        assert (await record(recorder, transition(kind, 1, at_ms=NOW_MS + 99))).rows == 0
    assert await states(database) == {"paid": 1}
    assert await sold(database) == {"cap": 0, "shirt": 1}


async def test_an_expired_order_that_is_paid_late_becomes_paid(recorder: OrderRecorder, database: Database) -> None:
    await record(recorder, transition("expired", 1))
    assert (await record(recorder, transition("confirmed", 1))).paid == 1
    assert await sold(database) == {"cap": 0, "shirt": 1}


async def test_only_what_changed_is_told_and_once(recorder: OrderRecorder, database: Database) -> None:
    told = (
        transition("reserved", 1),
        transition("confirmed", 2),
        transition("expired", 3),
        transition("released", 4),
        transition("refund_due", 5),
    )
    for _ in range(3):
        await record(recorder, *told)
    events = await Outbox(database).undelivered(100)
    assert sorted((event.reservation_id, event.event) for event in events) == sorted(
        [
            (reservation_id(2), "order.paid"),
            (reservation_id(3), "order.expired"),
            (reservation_id(4), "order.cancelled"),
            (reservation_id(5), "order.refund_due"),
        ]
    )
    (paid,) = [json.loads(event.payload) for event in events if event.event == "order.paid"]
    assert paid == {"state": "paid", "amount_minor": 1500, "currency": "EUR"}


async def test_delivered_events_are_not_read_again(recorder: OrderRecorder, database: Database) -> None:
    await record(recorder, *(transition("confirmed", number) for number in range(3)))
    outbox = Outbox(database)
    first, *rest = await outbox.undelivered(100)
    assert await outbox.delivered([first.event_id]) == [first.event_id]
    assert await outbox.delivered([first.event_id]) == []
    assert await outbox.undelivered(100) == rest
    assert await outbox.undelivered(1, after=rest[0].event_id) == rest[1:]
    assert await outbox.waiting() == 2


async def test_a_full_outbox_stops_no_order_and_is_not_counted_to_its_end(
    recorder: OrderRecorder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.outbox.WAITING_COUNT_MAX", 3)
    await record(recorder, *(transition("confirmed", number) for number in range(3)))
    await record(recorder, *(transition("confirmed", number) for number in range(3, 8)))
    outbox = Outbox(database)
    assert (await outbox.waiting(), len(await outbox.undelivered(100))) == (3, 8)
    assert await states(database) == {"paid": 8}


async def test_a_refund_is_work_that_stays(recorder: OrderRecorder, database: Database) -> None:
    for _ in range(2):
        await record(recorder, transition("refund_due", 5, reason="sold_out"))
    (due,) = await database.fetch("refunds_open", DROP, 10)
    assert (due["reservation_id"], due["amount_minor"], due["currency"], due["payment_reference"], due["reason"]) == (
        reservation_id(5),
        1500,
        "EUR",
        "pay-5",
        "sold_out",
    )
    assert await sold(database) == {"cap": 0, "shirt": 0}


CANCELLED = [
    transition("reserved", 1, items=[("cap", 1), ("shirt", 2)]),
    transition("confirmed", 1, items=[("cap", 1), ("shirt", 2)], at_ms=NOW_MS + 1),
    transition("cancelled", 1, items=[("cap", 1), ("shirt", 2)], at_ms=NOW_MS + 2),
]


@pytest.mark.parametrize("seed", range(8))
async def test_a_cancelled_order_gives_its_units_back_once(recorder: OrderRecorder, database: Database, seed: int) -> None:
    chance = random.Random(seed)
    told = CANCELLED * 3
    chance.shuffle(told)
    await record(recorder, transition("confirmed", 2))
    while told:
        size = chance.randint(1, 3)
        await record(recorder, *told[:size])
        told = told[size:]
    assert await states(database) == {"refund_due": 1, "paid": 1}
    assert await sold(database) == {"cap": 0, "shirt": 1}
    (due,) = await database.fetch("refunds_open", DROP, 10)
    assert (due["reservation_id"], due["amount_minor"], due["payment_reference"]) == (reservation_id(1), 4500, "pay-1")
    assert due["reason"] == "merchant:other"


async def test_when_it_was_paid_is_kept_when_it_is_cancelled(recorder: OrderRecorder, database: Database) -> None:
    await record(recorder, *CANCELLED[:2])
    await record(recorder, CANCELLED[2])
    row = await database.fetchrow("order_by_id", reservation_id(1))
    assert row is not None
    assert (row["state"], row["paid_at_ms"], row["finished_at_ms"]) == ("refund_due", NOW_MS + 1, NOW_MS + 2)


async def test_many_recorders_give_a_cancelled_orders_units_back_once(recorder: OrderRecorder, database: Database) -> None:
    told = [transition(kind, number, at_ms=NOW_MS + at) for number in range(10) for at, kind in enumerate(("confirmed", "cancelled"))]

    async def one(seed: int) -> None:
        mine = random.Random(seed).sample(told, len(told))
        for at in range(0, len(mine), 3):
            while True:
                try:
                    await record(recorder, *mine[at : at + 3])
                    break
                except DatabaseUnavailable:  # a deadlock: one of the two repeats
                    continue

    await asyncio.gather(*(one(seed) for seed in range(4)))
    assert await states(database) == {"refund_due": 10}
    assert await sold(database) == {"cap": 0, "shirt": 0}
    assert len(await database.fetch("refunds_open", DROP, 100)) == 10


async def test_what_a_cancellation_frees_can_be_sold_in_the_same_batch(recorder: OrderRecorder, database: Database) -> None:
    await record(recorder, *(transition("confirmed", number) for number in range(10)))
    told = [transition("cancelled", 0, at_ms=NOW_MS + 1), *(transition("confirmed", number, at_ms=NOW_MS + 2) for number in (10, 11))]
    recorded = await record(recorder, *told)
    assert (recorded.paid, recorded.refused) == (1, 1)
    assert await states(database) == {"paid": 10, "refund_due": 2}
    assert await sold(database) == {"cap": 0, "shirt": 10}


async def test_an_order_refused_here_and_cancelled_there_never_counted(recorder: OrderRecorder, database: Database) -> None:
    await record(recorder, *(transition("confirmed", number, at_ms=NOW_MS + number) for number in range(11)))
    assert (await record(recorder, transition("cancelled", 10, at_ms=NOW_MS + 50))).rows == 0
    assert await sold(database) == {"cap": 0, "shirt": 10}
    assert len(await database.fetch("refunds_open", DROP, 10)) == 1


@pytest.mark.parametrize("kinds", [["reserved", "extended"], ["extended", "reserved"], ["extended", "extended", "reserved"]])
@pytest.mark.parametrize("together", [True, False])
async def test_the_latest_expiry_of_a_pending_order_counts(
    recorder: OrderRecorder, database: Database, kinds: list[str], *, together: bool
) -> None:
    told = [transition(kind, 1, expires_in_ms=90_000 if kind == "extended" else 60_000) for kind in kinds]
    for batch in [told] if together else [[one] for one in told]:
        await record(recorder, *batch)
    row = await database.fetchrow("order_by_id", reservation_id(1))
    assert row is not None
    assert (row["state"], row["expires_at_ms"]) == ("pending", NOW_MS + 90_000)
    assert await Outbox(database).undelivered(10) == []


async def test_an_extension_heard_of_late_changes_nothing_any_more(recorder: OrderRecorder, database: Database) -> None:
    await record(recorder, transition("reserved", 1))
    await record(recorder, transition("confirmed", 1, expires_in_ms=90_000))
    assert (await record(recorder, transition("extended", 1, expires_in_ms=90_000))).rows == 0
    row = await database.fetchrow("order_by_id", reservation_id(1))
    assert row is not None
    assert (row["state"], row["expires_at_ms"]) == ("paid", NOW_MS + 90_000)


@pytest.mark.parametrize("order_first", [True, False])
async def test_a_surplus_payment_is_a_refund_of_its_own(recorder: OrderRecorder, database: Database, *, order_first: bool) -> None:
    surplus = [transition("surplus", 1, payment=f"again-{number}") for number in (1, 2)]
    batches = [[transition("confirmed", 1)], [*surplus, surplus[0]]]
    for batch in batches if order_first else batches[::-1]:
        await record(recorder, *batch)
        await record(recorder, *batch)
    assert await states(database) == {"paid": 1}
    assert await sold(database) == {"cap": 0, "shirt": 1}
    due = await database.fetch("refunds_open", DROP, 10)
    assert sorted((row["payment_reference"], row["reason"], row["state"], row["currency"]) for row in due) == [
        ("again-1", "paid_twice", "due", "EUR"),
        ("again-2", "paid_twice", "due", "EUR"),
    ]
    assert len({row["refund_id"] for row in due}) == 2


async def test_a_surplus_payment_that_can_never_be_is_told_apart(recorder: OrderRecorder, database: Database) -> None:
    told = [transition("surplus", number, payment="nul\0byte" if number == 3 else f"again-{number}") for number in range(6)]
    recorded = await record(recorder, *told)
    assert list(recorded.poison) == [reservation_id(3)]
    assert recorded.surplus == len(await database.fetch("refunds_open", DROP, 10)) == 5


async def test_a_held_payment_is_due_as_soon_as_the_journal_tells_of_it(recorder: OrderRecorder, database: Database) -> None:
    for number, payment in ((1, "pay-1"), (2, "again-2"), (3, "pay-3")):
        await database.execute("refund_hold", reservation_id(number), DROP, 77, "EUR", payment, "unmatched", "standard")
    await record(recorder, transition("refund_due", 1), transition("surplus", 2, payment="again-2"), transition("confirmed", 3))
    due = await database.fetch("refunds_open", DROP, 10)
    assert sorted((row["payment_reference"], row["state"], row["amount_minor"], row["reason"]) for row in due) == [
        ("again-2", "due", 1500, "paid_twice"),
        ("pay-1", "due", 1500, "late"),
    ]  # the third pays for an order


async def test_payments_past_the_allotment_become_refunds_the_latest_ones(recorder: OrderRecorder, database: Database) -> None:
    told = [transition("confirmed", number, at_ms=NOW_MS + number) for number in range(13)]
    random.Random(3).shuffle(told)
    recorded = await record(recorder, *told, transition("reserved", 20))
    assert (recorded.rows, recorded.paid, recorded.refused) == (14, 10, 3)
    assert await states(database) == {"pending": 1, "paid": 10, "refund_due": 3}
    assert await sold(database) == {"cap": 0, "shirt": 10}
    due = await database.fetch("refunds_open", DROP, 10)
    assert {(row["reservation_id"], row["reason"]) for row in due} == {
        (reservation_id(number), "allotment_exceeded") for number in (10, 11, 12)
    }
    assert dict(recorded.states)[reservation_id(12)] == "refund_due"
    assert dict(recorded.states)[reservation_id(0)] == "paid"


async def test_a_refused_payment_stays_refused_when_it_is_told_again(recorder: OrderRecorder, database: Database) -> None:
    told = [transition("confirmed", number, at_ms=NOW_MS + number) for number in range(11)]
    await record(recorder, *told)
    again = await record(recorder, *told)
    assert (again.rows, again.refused) == (0, 0)
    assert dict(again.states) == {reservation_id(number): "refund_due" if number == 10 else "paid" for number in range(11)}


async def test_nobody_is_refused_while_units_are_free(recorder: OrderRecorder, database: Database) -> None:
    """A batch that repeats what is recorded must not count it twice against the allotment."""
    old = [transition("confirmed", number, at_ms=NOW_MS) for number in range(9)]
    await record(recorder, *old)
    recorded = await record(recorder, *old, transition("confirmed", 9, at_ms=NOW_MS + 1), transition("confirmed", 10, at_ms=NOW_MS + 2))
    assert (recorded.paid, recorded.refused) == (1, 1)
    assert await sold(database) == {"cap": 0, "shirt": 10}


async def test_many_recorders_at_once_count_each_unit_once(recorder: OrderRecorder, database: Database) -> None:
    """Overlapping batches, SKUs in both orders, more payments than units: every seed ends the same."""
    chance = random.Random(11)
    carts = ([("cap", 1), ("shirt", 1)], [("shirt", 1)], [("cap", 1)])
    told = [transition("confirmed", number, items=carts[number % 3], at_ms=NOW_MS + number) for number in range(24)]

    async def one() -> None:
        mine = chance.sample(told, len(told))
        for at in range(0, len(mine), 7):
            while True:
                try:
                    await record(recorder, *mine[at : at + 7])
                    break
                except DatabaseUnavailable:  # a deadlock: one of the two repeats
                    continue

    await asyncio.gather(*(one() for _ in range(4)))
    counts = await states(database)
    assert sum(counts.values()) == 24
    totals = await sold(database)
    assert totals["cap"] <= 5
    assert totals["shirt"] <= 10
    ((paid,),) = await query(database, "SELECT sum(quantity)::int FROM order_items JOIN orders USING (reservation_id) WHERE state = 'paid'")
    assert paid == sum(totals.values())
    ((rows, events),) = await query(database, "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox)")
    assert rows == events == 24


@pytest.mark.parametrize(
    ("poison", "why"),
    [
        (transition("confirmed", 99, items=[("hat", 1)]), "unknown SKU hat"),
        (transition("confirmed", 99, payment="nul\0byte"), "0x00"),
        (transition("confirmed", 99, items=[("cap", 1), ("cap", 1)]), "order_items_pkey"),
        ([*transition("confirmed", 99)[:9], NOW_MS - 1, "pay", ""], "orders_expires_after_reserved"),
        ([*transition("confirmed", 99)[:10], "", ""], "orders_payment_iff_paid"),
        (transition("confirmed", 99, drop_id="autumn"), "orders_id_of_drop"),
    ],
)
async def test_a_row_that_can_never_be_is_isolated(recorder: OrderRecorder, database: Database, poison: Packed, why: str) -> None:
    recorded = await record(recorder, *(transition("confirmed", number) for number in range(9)), poison)
    assert list(recorded.poison) == [poison[1]]
    assert why in recorded.poison[poison[1]]
    assert recorded.paid == 9
    assert await sold(database) == {"cap": 0, "shirt": 9}
    assert len(await Outbox(database).undelivered(100)) == 9


async def test_of_an_unknown_drop_nothing_is_recorded_and_all_is_poison(recorder: OrderRecorder) -> None:
    told = typed(*(transition("confirmed", number, drop_id="autumn") for number in range(20)))
    recorded = await recorder.record(Batch("autumn", told))
    assert recorded.rows == 0
    assert set(recorded.poison) == {reservation_id(number, "autumn") for number in range(20)}


async def test_a_lock_held_too_long_is_tried_later(recorder: OrderRecorder, database: Database) -> None:
    async with database.transaction() as session:
        await session.fetch("skus_lock", DROP)
        async with database.acquire() as other:
            await other.connection.execute("SET lock_timeout = '20ms'")
            impatient = OrderRecorder(_OneSession(other))  # type: ignore[arg-type]
            with pytest.raises(DatabaseUnavailable, match="lock timeout"):
                await impatient.record(Batch(DROP, typed(transition("confirmed", 1))))
    assert (await record(recorder, transition("confirmed", 1))).paid == 1


class _OneSession:
    """A database with one connection, so that a test can set it up."""

    def __init__(self, session: object) -> None:
        self._session = session

    def acquire(self) -> _OneSession:
        return self

    async def __aenter__(self) -> object:
        return self._session

    async def __aexit__(self, *_: object) -> None:
        return None


async def test_a_drops_state_follows_the_latest_news(recorder: OrderRecorder, database: Database) -> None:
    assert await recorder.record_event(DROP, DropEvent(DropState.OPEN, 20))
    assert not await recorder.record_event(DROP, DropEvent(DropState.WAITING, 10))
    assert await recorder.record_event(DROP, DropEvent(DropState.PAUSED, 30))
    assert not await recorder.record_event("autumn", DropEvent(DropState.PAUSED, 30))
    row = await database.fetchrow("drop_get", DROP)
    assert row is not None
    assert (row["state"], row["state_at_ms"]) == ("paused", 30)


async def test_defining_a_drop_twice_changes_nothing(recorder: OrderRecorder, database: Database) -> None:
    assert await database.fetchrow("drop_insert", DROP, "other", "Other", json.dumps({"currency": "USD"}), 0, 1, LAST) is None
    assert await database.fetch("drop_skus_insert", DROP, ["shirt", "hat"], ["S", "H"], [99, 1], [1, 1], [1, 1]) != []
    row = await database.fetchrow("drop_get", DROP)
    assert row is not None
    assert (row["tenant"], row["currency"], row["closes_at_ms"]) == ("shop", "EUR", LAST)
    totals = {row["sku"]: row["allotment"] for row in await database.fetch("drop_totals", DROP)}
    assert totals == {"shirt": 10, "cap": 5, "hat": 1}


async def test_an_epoch_never_goes_back(recorder: OrderRecorder, database: Database) -> None:
    assert [row["drop_id"] for row in await database.fetch("drops_to_open")] == [DROP]
    assert await database.fetchval("drop_opened_in_store", DROP, 3) == 3
    assert await database.fetchval("drop_opened_in_store", DROP, 2) == 3
    assert await database.fetch("drops_to_open") == []
    assert [row["drop_id"] for row in await database.fetch("drops_live")] == [DROP]


async def test_pages_hold_every_order_once(recorder: OrderRecorder, database: Database) -> None:
    await make_drop(database, "spring-2")
    await recorder.record(Batch("spring-2", typed(transition("confirmed", 1, drop_id="spring-2"))))
    await record(recorder, *(transition("reserved", number) for number in range(25)))
    seen: list[str] = []
    while page := await database.fetch("orders_page", DROP, seen[-1] if seen else "", 10):
        assert len(page) <= 10
        seen += [row["reservation_id"] for row in page]
    assert seen == sorted(reservation_id(number) for number in range(25))


# ------------------------------------------------------------------------------------------------------- epochs that are over


async def somebody_waits(database: Database) -> None:
    """Returns once a statement waits for another's lock."""
    async with asyncio.timeout(20):
        while not await query(database, "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("kind", ["reserved", "confirmed"])
async def test_what_an_epoch_did_is_recorded_until_the_next_begins(recorder: OrderRecorder, database: Database, kind: str) -> None:
    told = typed(transition(kind, 1)), typed(transition(kind, 2), transition("surplus", 3))
    await database.fetchval("drop_opened_in_store", DROP, 1)
    assert (await recorder.record(Batch(DROP, told[0], 7, epoch=1))).rows == 1
    assert await database.fetchval("drop_epoch_raise", DROP, 2) == 2
    for _ in range(2):
        with pytest.raises(Overtaken) as overtaken:
            await recorder.record(Batch(DROP, told[1], 9, epoch=1))
        assert overtaken.value.epoch == 2
    assert sum((await states(database)).values()) == 1
    assert await query(database, "SELECT max(sequence) FROM journal_marks") == [(7,)], "else the drop would look set back"
    assert await query(database, "SELECT FROM refunds") == []
    # Entries of before epochs were told, and those of epochs Postgres has yet to hear of, are recorded.
    assert (await recorder.record(Batch(DROP, told[1]))).rows == 1
    assert (await recorder.record(Batch(DROP, typed(transition(kind, 4)), epoch=3))).rows == 1


async def test_a_payment_that_does_not_fit_is_no_refund_when_it_comes_too_late(recorder: OrderRecorder, database: Database) -> None:
    await database.fetchval("drop_opened_in_store", DROP, 2)
    await record(recorder, transition("confirmed", 1, items=[("cap", 5)]))
    with pytest.raises(Overtaken):
        await recorder.record(Batch(DROP, typed(transition("confirmed", 2, items=[("cap", 1)])), epoch=1))
    assert await states(database) == {"paid": 1}


async def test_an_epoch_begins_after_what_is_being_recorded(recorder: OrderRecorder, database: Database) -> None:
    await database.fetchval("drop_opened_in_store", DROP, 1)
    async with database.transaction() as session:
        await session.fetchrow("orders_record", *Batch(DROP, typed(transition("reserved", 1)), epoch=1).arguments)
        raising = asyncio.create_task(database.fetchval("drop_epoch_raise", DROP, 2))
        await somebody_waits(database)
    assert await raising == 2
    assert await states(database) == {"pending": 1}


async def test_what_waits_for_an_epoch_to_begin_comes_too_late(recorder: OrderRecorder, database: Database) -> None:
    await database.fetchval("drop_opened_in_store", DROP, 1)
    async with database.transaction() as session:
        await session.fetchval("drop_epoch_raise", DROP, 2)
        recording = asyncio.create_task(recorder.record(Batch(DROP, typed(transition("reserved", 1)), epoch=1)))
        await somebody_waits(database)
    with pytest.raises(Overtaken):
        await recording
    assert await states(database) == {}


async def test_a_picture_does_not_wait_for_what_is_being_recorded(recorder: OrderRecorder, database: Database) -> None:
    await database.fetchval("drop_opened_in_store", DROP, 1)
    async with database.transaction() as session:
        await session.fetchrow("orders_record", *Batch(DROP, typed(transition("reserved", 1)), epoch=1).arguments)
        async with asyncio.timeout(20):
            await database.execute("drop_picture_note", DROP, "{}", 5)
            await recorder.record_event(DROP, DropEvent(DropState.PAUSED, 5))
            await recorder.record(Batch(DROP, typed(transition("reserved", 2)), epoch=1))
    assert await states(database) == {"pending": 2}


async def test_overtaken_payments_are_kept_once(recorder: OrderRecorder, database: Database) -> None:
    await record(recorder, transition("confirmed", 1), transition("refund_due", 2), transition("surplus", 3))
    late = typed(*(transition(kind, number) for number in range(1, 6) for kind in ("confirmed", "cancelled")))
    assert await recorder.hold(DROP, late) == 2
    assert await recorder.hold(DROP, late) == 0
    rows = await query(database, "SELECT reservation_id, state, reason, currency FROM refunds WHERE state = 'held' ORDER BY amount_minor")
    assert sorted(rows) == sorted((reservation_id(number), "held", "overtaken", "EUR") for number in (4, 5))
