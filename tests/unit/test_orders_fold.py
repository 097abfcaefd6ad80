"""What a batch of transitions comes to, whatever their order."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale.model import OrderState, Transition
from reconciler.entries import DropEvent, Entry, UnreadableEntry, read_entry
from reconciler.orders import ALLOTMENT_EXCEEDED, RANK_OF, STATE_OF, Batch, fit, fold
from tests.integration.reconciler_stage import DROP, NOW_MS, entry_fields, reservation_id, transition, typed

KINDS = [kind.value for kind in Transition]


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 2)), max_size=12), st.randoms())
def test_the_order_of_delivery_does_not_matter(found: list[tuple[str, int, int]], chance: object) -> None:
    transitions = list(typed(*(transition(kind, number, at_ms=NOW_MS + late) for kind, number, late in dict.fromkeys(found))))
    shuffled = transitions * 2
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    decided = [(one.reservation_id, RANK_OF[one.kind], one.at_ms) for one in fold(transitions)]
    assert decided == [(one.reservation_id, RANK_OF[one.kind], one.at_ms) for one in fold(shuffled)]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["reserved"], OrderState.PENDING),
        (["reserved", "released"], OrderState.CANCELLED),
        (["reserved", "expired"], OrderState.EXPIRED),
        (["reserved", "confirmed"], OrderState.PAID),
        (["confirmed", "reserved"], OrderState.PAID),
        (["reserved", "expired", "confirmed"], OrderState.PAID),
        (["reserved", "expired", "refund_due"], OrderState.REFUND_DUE),
        (["reserved", "extended"], OrderState.PENDING),
        (["extended", "expired"], OrderState.EXPIRED),
        (["cancelled", "confirmed", "reserved"], OrderState.REFUND_DUE),
        (["surplus", "confirmed", "surplus"], OrderState.PAID),
    ],
)
def test_the_strongest_transition_is_the_order(kinds: list[str], expected: OrderState) -> None:
    (order,) = fold(typed(*(transition(kind, 1) for kind in kinds)))
    assert STATE_OF[order.kind] is expected


def test_orders_come_in_the_order_two_consumers_lock_them() -> None:
    ids = [order.reservation_id for order in fold(typed(*(transition("reserved", number) for number in range(50))))]
    assert ids == sorted(ids)


def test_of_two_payments_the_earlier_gets_the_last_unit() -> None:
    orders = fold(typed(transition("confirmed", 1, at_ms=NOW_MS + 9), transition("confirmed", 2, at_ms=NOW_MS + 1)))
    fitted = {order.reservation_id: order for order in fit(orders, {"shirt": 1}, {})}
    assert fitted[reservation_id(2)].kind is Transition.CONFIRMED
    assert (fitted[reservation_id(1)].kind, fitted[reservation_id(1)].reason) == (Transition.REFUND_DUE, ALLOTMENT_EXCEEDED)
    assert fitted[reservation_id(1)].payment_reference == "pay-1"


def test_a_payment_gets_all_its_units_or_none() -> None:
    both = (("cap", 1), ("shirt", 2))
    orders = fold(typed(transition("confirmed", 1, items=both), transition("confirmed", 2, items=[("cap", 1)], at_ms=NOW_MS + 1)))
    fitted = {order.reservation_id: order.kind for order in fit(orders, {"shirt": 1, "cap": 1}, {})}
    assert fitted == {reservation_id(1): Transition.REFUND_DUE, reservation_id(2): Transition.CONFIRMED}


@pytest.mark.parametrize("state", ["paid", "refund_due", "refunded"])
def test_what_is_recorded_already_needs_no_units(state: str) -> None:
    orders = fold(typed(transition("confirmed", 1)))
    assert fit(orders, {"shirt": 0}, {reservation_id(1): state}) == orders


def test_what_a_cancelled_order_gives_back_is_free() -> None:
    orders = fold(typed(transition("cancelled", 1), transition("confirmed", 2), transition("cancelled", 3)))
    fitted = {order.reservation_id: order.kind for order in fit(orders, {}, {reservation_id(1): "paid", reservation_id(3): "refund_due"})}
    assert fitted[reservation_id(2)] is Transition.CONFIRMED
    assert {order.kind for order in fit(orders, {}, {})} == {Transition.CANCELLED, Transition.REFUND_DUE}


def test_a_surplus_payment_makes_no_order() -> None:
    batch = Batch(DROP, typed(transition("surplus", 1, payment="again")))
    assert (batch.orders, len(batch.surplus), batch.finished()) == ([], 1, [])


def test_what_was_not_paid_needs_no_units() -> None:
    orders = fold(typed(transition("reserved", 1), transition("expired", 2)))
    assert fit(orders, {}, {}) == orders


def test_halves_hold_everything_once_and_the_earlier_first() -> None:
    batch = Batch(DROP, typed(*(transition("confirmed", number, at_ms=NOW_MS - number) for number in range(5))))
    earlier, later = batch.halves()
    assert {order.reservation_id for order in (*earlier.orders, *later.orders)} == {order.reservation_id for order in batch.orders}
    assert len(earlier) + len(later) == 5
    assert max(order.at_ms for order in earlier.orders) < min(order.at_ms for order in later.orders)


def test_a_refund_without_a_reason_gets_one() -> None:
    packed = transition("refund_due", 1)
    packed[11] = ""
    assert Batch(DROP, typed(packed)).arguments[10] == ["unspecified"]


def changed(position: int, value: object) -> bytes:
    packed = transition("confirmed", 1)
    packed[position] = value
    return bytes(msgpack.packb([packed]))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"e": entry_fields([])[b"e"]},
        {b"v": b"2", b"e": entry_fields([])[b"e"]},
        {b"v": b"1"},
        {b"v": b"1", b"e": b""},
        {b"v": b"1", b"e": b"\xff\x00junk"},
        {b"v": b"1", b"e": msgpack.packb({"a": 1})},
        {b"v": b"1", b"e": msgpack.packb([transition("confirmed", 1)[:11]])},
        {b"v": b"1", b"e": msgpack.packb([[*transition("confirmed", 1), "more"]])},
        {b"v": b"1", b"e": changed(0, "sold")},
        {b"v": b"1", b"e": changed(1, "x" * 129)},
        {b"v": b"1", b"e": changed(1, b"\xff\xfe")},
        {b"v": b"1", b"e": changed(2, -1)},
        {b"v": b"1", b"e": changed(2, 1.5)},
        {b"v": b"1", b"e": changed(6, [])},
        {b"v": b"1", b"e": changed(6, [["shirt", 0]])},
        {b"v": b"1", b"e": changed(6, [["shirt", 1001]])},
        {b"v": b"1", b"e": changed(7, 2**53 + 1)},
        {b"v": b"1", b"e": changed(10, None)},
        {b"v": b"1", b"d": msgpack.packb(["opened", 1])},
        {b"v": b"1", b"d": msgpack.packb(["open"])},
    ],
)
def test_an_entry_that_breaks_the_contract_is_unreadable_and_says_why(fields: dict[bytes, bytes]) -> None:
    entry = read_entry("7-1", fields)
    assert isinstance(entry, UnreadableEntry)
    assert entry.entry_id == "7-1"
    assert entry.why


@given(st.binary(max_size=200), st.sampled_from([b"e", b"d"]))
def test_no_bytes_make_reading_fail(junk: bytes, name: bytes) -> None:
    assert isinstance(read_entry("1-0", {b"v": b"1", name: junk}), Entry | UnreadableEntry)


def test_a_drop_event_is_read() -> None:
    assert read_entry("1-0", {b"v": b"1", b"d": msgpack.packb(["paused", 5])}) == Entry("1-0", event=DropEvent("paused", 5))  # type: ignore[arg-type]
