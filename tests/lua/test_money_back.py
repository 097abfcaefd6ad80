"""Orders taken back and payments that pay nothing: each unit is sold once, each payment pays or goes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flashsale.model import ReleaseOutcome, ReservationState
from flashsale.reservations import Reservations
from tests.lua import world as w
from tests.lua.dump import conserved
from tests.lua.test_races import EXPIRY_MS, kinds
from tests.lua.world import World, paying, releasing, reserving

REMEMBERED_MAX = 16


async def surplus(world: World) -> list[tuple[str, int, str]]:
    """Payments that go back: (reference, amount, reason)."""
    transitions = [tr for entry in (await world.state())["journal"] for tr in entry.get("transitions", [])]
    return [(tr["payment_reference"], tr["amount_minor"], tr["reason"]) for tr in transitions if tr["kind"] == "surplus"]


# ------------------------------------------------------------------------------------------------------- orders taken back


async def test_a_cancelled_orders_units_are_sold_again(world: World) -> None:
    await w.all_sold(world)
    assert (await world.release("r1", paid_too=True))[0] == "cancelled"
    assert (await world.reserve(reserving("bob", "r2", s1=1)))[0][0] == "reserved"
    assert conserved(await world.state())


async def test_a_cancelled_orders_allowance_is_back(world: World) -> None:
    await w.confirmed(world)
    assert (await world.reserve(reserving("ann", "r2", s1=2)))[0] == ["limit_reached", 2, 1]
    await world.release("r1", paid_too=True)
    assert (await world.reserve(reserving("ann", "r2", s1=2)))[0][0] == "reserved"


async def test_only_one_who_may_cancel_cancels(world: World) -> None:
    await w.confirmed(world)
    digest = await world.digest()
    assert (await world.release("r1"))[0] == "confirmed"
    assert await world.digest() == digest


async def test_many_cancellations_and_payments_at_once_are_one_each(world: World) -> None:
    await w.reserved(world)
    calls = [world.confirm("r1"), *(world.release("r1", paid_too=True) for _ in range(4)), world.confirm("r1"), world.release("r1")]
    await asyncio.gather(*calls)
    state = await world.state()
    assert conserved(state)
    assert all(kinds(state).count(kind) <= 1 for kind in ("confirmed", "cancelled", "released"))


async def test_a_payment_after_the_cancellation_does_not_sell(world: World) -> None:
    """Neither the one whose money goes back already, repeated, nor another one, which then goes back as well."""
    await w.cancelled(world)
    assert (await world.confirm("r1"))[0] == "refund_due"
    assert await surplus(world) == []
    assert (await world.confirm("r1", "late"))[0] == "payment_conflict"
    assert (await world.confirm("r1", "late"))[0] == "payment_conflict"
    assert await surplus(world) == [("late", 1_500, "paid_twice")]
    assert (await world.state())["stock"]["sold:s1"] == 0


@pytest.mark.parametrize("after", ["extend", "expire", "release", "reserve"])
async def test_a_cancelled_order_stays_cancelled(world: World, after: str) -> None:
    await w.cancelled(world)
    digest = await world.digest()
    world.at(EXPIRY_MS)
    calls: dict[str, Any] = {
        "extend": world.extend("r1"),
        "expire": world.expire(),
        "release": world.release("r1", paid_too=True),
        "reserve": world.reserve(reserving("ann", "r1", s1=1, s2=1)),
    }
    for name, call in calls.items():
        if name == after:
            await call
        else:
            call.close()
    assert await world.digest() == digest


async def test_a_cancellation_leaves_another_reservations_slot(world: World) -> None:
    await w.confirmed(world)
    await world.reserve(reserving("ann", "r2", s1=1))
    await world.release("r1", paid_too=True)
    state = await world.state()
    assert 0 in state["slots"]
    assert state["tickets"]["ann"]["live"] == 1


async def test_a_batch_pays_and_cancels_in_order(world: World) -> None:
    await w.reserved(world)
    await world.confirm("r1")
    _, _, results = await world.act("release", [releasing("r1"), releasing("r1", paid_too=True), releasing("r1", paid_too=True)])
    assert [result[0] for result in results] == ["confirmed", "cancelled", "replayed"]
    assert kinds(await world.state()) == ["reserved", "confirmed", "cancelled"]


async def test_python_cancels(world: World) -> None:
    await w.admitted(world)
    world.at(1_000)
    reservation_id = "d.r" + "1" * 22
    await world.reserve(reserving("ann", reservation_id, s1=1))
    await world.confirm(reservation_id, amount_minor=1_000)
    reservations = Reservations(world.scripts)
    assert (await reservations.release(reservation_id, "q", "shopper")).outcome is ReleaseOutcome.CONFIRMED
    settled = await reservations.release(reservation_id, "q", "merchant", paid_too=True)
    assert (settled.outcome, settled.state) == (ReleaseOutcome.CANCELLED, ReservationState.CANCELLED)


# ---------------------------------------------------------------------------------------------- payments that pay nothing


async def test_each_further_payment_goes_back_once(world: World) -> None:
    await w.confirmed(world)
    for reference, amount_minor in (("b", 1_500), ("b", 1_500), ("c", 7), ("b", 1_500), ("pay", 1_500), ("c", 8)):
        await world.confirm("r1", reference, amount_minor)
    assert await surplus(world) == [("b", 1_500, "paid_twice"), ("c", 7, "paid_twice")]
    state = await world.state()
    assert (state["stock"]["sold:s1"], state["reservations"]["r1"]["payment_reference"]) == (1, "pay")


async def test_a_surplus_tells_the_reservation_it_was_meant_for(world: World) -> None:
    await w.confirmed(world)
    await world.confirm("r1", "b", 7)
    [told] = (await world.state())["journal"][-1]["transitions"]
    assert (told["reservation_id"], told["ticket_id"], told["items"]) == ("r1", "ann", [["s1", 1], ["s2", 1]])


async def test_two_payments_in_one_batch(world: World) -> None:
    await w.reserved(world)
    _, _, results = await world.act("confirm", [paying("r1", "a"), paying("r1", "b"), paying("r1", "b"), paying("r1", "a")])
    assert [result[0] for result in results] == ["confirmed", "payment_conflict", "payment_conflict", "replayed"]
    assert await surplus(world) == [("b", 1_500, "paid_twice")]


async def test_a_payment_that_goes_back_never_pays(world: World) -> None:
    """A provider reported too little and then the whole under the same reference: the first money is on its way back."""
    await w.reserved(world)
    assert (await world.confirm("r1", "a", 1_000))[0] == "amount_mismatch"
    digest = await world.digest()
    assert (await world.confirm("r1", "a"))[0] == "payment_conflict"
    world.at(EXPIRY_MS)
    assert (await world.confirm("r1", "a"))[0] == "payment_conflict"
    assert await world.digest() == digest
    assert (await world.confirm("r1", "b"))[0] == "confirmed"
    assert await surplus(world) == [("a", 1_000, "amount_mismatch")]


async def test_a_storefront_that_names_a_wrong_amount_may_say_it_again(world: World) -> None:
    await w.reserved(world)
    digest = await world.digest()
    assert (await world.confirm("r1", "a", 1_000, key="k"))[0] == "amount_mismatch"
    assert await world.digest() == digest
    assert (await world.confirm("r1", "a", key="k"))[0] == "confirmed"
    assert await surplus(world) == []


async def test_memory_of_payments_is_bounded_and_none_is_lost(world: World) -> None:
    """Past the bound a repeated payment is told of again; the reconciler counts each reference once."""
    await w.confirmed(world)
    references = [f"p{number:02}" for number in range(REMEMBERED_MAX + 4)]
    for _ in range(2):
        await world.act("confirm", [paying("r1", reference) for reference in references])
    assert (await world.state())["reservations"]["r1"]["surplus"] == references[:REMEMBERED_MAX]
    told = [reference for reference, _, _ in await surplus(world)]
    assert told == references + references[REMEMBERED_MAX:]


async def test_a_late_payment_refused_and_a_second_one(world: World) -> None:
    """The order has one refund; the second payment has one of its own."""
    await w.refund_due(world)
    assert (await world.confirm("r1", "b", 1_000))[0] == "payment_conflict"
    assert (await world.confirm("r1", "pay", 1_000))[0] == "refund_due"
    assert kinds(await world.state()).count("refund_due") == 1
    assert await surplus(world) == [("b", 1_000, "paid_twice")]


async def test_an_extension_does_not_forget_payments_nor_payments_the_extension(world: World) -> None:
    await w.reserved(world)
    await world.confirm("r1", "a", 1)
    assert (await world.extend("r1"))[0] == "extended"
    await world.confirm("r1", "b", 1)
    record = (await world.state())["reservations"]["r1"]
    assert (record["extend_key"], record["surplus"]) == ("k-extend", ["a", "b"])
    assert (await world.extend("r1"))[0] == "replayed"
