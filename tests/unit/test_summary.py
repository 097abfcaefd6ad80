"""The definitions behind the demo's zeros, each shown to catch what it is there to catch."""

from __future__ import annotations

import hashlib
import math
from typing import Any, ClassVar

import pytest

from admission.draw import Draw
from flashsale.cli.summary import (
    ENDINGS,
    Crowd,
    EmptyHanded,
    Order,
    Raise,
    Sku,
    Turns,
    faults,
    free_since_ms,
    lost_orders,
    oversold_units,
    overtakes,
    percentile,
    strange_endings,
    undersold_units,
    waits_ms,
)
from flashsale.model import Ticket, place_of


def ticket(number: int, *, joined: int = 1, admitted: int = 0, late: bool = False, turn: int = -1) -> Ticket:
    return Ticket(f"d.t{number}", number, late, joined, "", 0, 0, admitted, 0, 0, 0, turn)


def order(name: str, state: str, *, quantity: int = 1, reserved: int = 0, gave_back: int | None = None) -> Order:
    return Order(name, state, (("a", quantity),), reserved, gave_back)


LINE = (Raise(100, 0, 2), Raise(200, 2, 5))


class TestOversold:
    def test_nothing_when_all_is_sold_exactly(self) -> None:
        assert oversold_units([Sku(allotment=10, paid=10, available=0, taken=10)]) == 0

    @pytest.mark.parametrize(("paid", "taken"), [(11, 10), (10, 11)])
    def test_counts_a_unit_too_many_in_either_place(self, paid: int, taken: int) -> None:
        assert oversold_units([Sku(allotment=10, paid=paid, available=0, taken=taken)]) == 1

    def test_does_not_set_one_sku_off_against_another(self) -> None:
        assert oversold_units([Sku(10, 12, 0, 10), Sku(10, 5, 5, 5)]) == 2


class TestUndersold:
    SKUS: ClassVar = {"a": Sku(allotment=10, paid=8, available=2, taken=8)}
    # Everything was reserved; two units came back at 5000 and stayed.
    ORDERS = (order("r1", "paid", quantity=8), order("r2", "expired", quantity=2, gave_back=5000))

    def test_somebody_who_left_after_the_units_came_back_counts(self) -> None:
        assert undersold_units(self.SKUS, self.ORDERS, [EmptyHanded([("a", 1)], 9000)]) == 1

    def test_somebody_who_had_left_before_does_not(self) -> None:
        assert undersold_units(self.SKUS, self.ORDERS, [EmptyHanded([("a", 1)], 4000)]) == 0

    def test_news_takes_a_moment(self) -> None:
        assert undersold_units(self.SKUS, self.ORDERS, [EmptyHanded([("a", 1)], 7900)]) == 0

    def test_never_more_than_is_left(self) -> None:
        assert undersold_units(self.SKUS, self.ORDERS, [EmptyHanded([("a", 2)], 9000)] * 50) == 2

    def test_people_take_another_sku_when_theirs_is_gone(self) -> None:
        assert undersold_units(self.SKUS, self.ORDERS, [EmptyHanded([("b", 2)], 9000)]) == 1

    def test_nothing_when_all_is_sold(self) -> None:
        assert undersold_units({"a": Sku(10, 10, 0, 10)}, self.ORDERS, [EmptyHanded([("a", 1)], 9000)]) == 0


class TestFreeSince:
    def test_the_return_that_ended_the_shortage(self) -> None:
        assert free_since_ms(2, [(10, -5), (20, 1), (30, -1), (40, 2)]) == 40

    def test_always_when_there_never_was_a_shortage(self) -> None:
        assert free_since_ms(2, [(10, -5), (20, 1)]) == -math.inf

    def test_never_when_nothing_is_free(self) -> None:
        assert free_since_ms(0, [(10, -5)]) == math.inf


class TestLostOrders:
    ORDERS: ClassVar = {name: order(name, state) for name, state in (("r1", "paid"), ("r2", "expired"), ("r3", "refund_due"))}

    def test_nothing_when_every_promise_is_in_postgres(self) -> None:
        crowd = Crowd(reservations={"r1": 1, "r2": 1, "r3": 1}, confirmed={"r1": 200, "r3": 202})
        assert lost_orders(crowd, self.ORDERS) == 0

    def test_an_acknowledged_reservation_without_a_row(self) -> None:
        assert lost_orders(Crowd(reservations={"r9": 1}), self.ORDERS) == 1

    def test_an_acknowledged_payment_whose_order_is_not_paid(self) -> None:
        assert lost_orders(Crowd(reservations={"r2": 1}, confirmed={"r2": 200}), self.ORDERS) == 1

    def test_an_acknowledged_payment_without_a_row_is_lost_once(self) -> None:
        assert lost_orders(Crowd(reservations={"r9": 1}, confirmed={"r9": 202}), self.ORDERS) == 1
        assert lost_orders(Crowd(confirmed={"r9": 202}), self.ORDERS) == 1


class TestOvertakes:
    def test_none_in_an_orderly_line(self) -> None:
        line = [
            ticket(0, joined=10, admitted=100),
            ticket(1, joined=10),
            ticket(2, joined=20, admitted=250),
            ticket(3, joined=30, late=True),
        ]
        assert overtakes(line, LINE) == 0

    def test_a_number_given_to_somebody_who_joined_later(self) -> None:
        assert overtakes([ticket(0, joined=30), ticket(1, joined=20)], ()) == 1

    def test_a_number_given_twice(self) -> None:
        assert overtakes([ticket(0), ticket(0)], ()) == 1

    def test_a_late_place_before_an_early_one(self) -> None:
        assert overtakes([ticket(0, late=True), ticket(1)], ()) == 1

    def test_an_admission_before_its_turn(self) -> None:
        assert overtakes([ticket(2, admitted=150)], LINE) == 1

    def test_an_admission_of_a_number_never_served(self) -> None:
        assert overtakes([ticket(7, admitted=900)], LINE) == 1

    def test_a_ticket_made_anew_after_a_loss_was_served_before(self) -> None:
        assert overtakes([ticket(7, joined=0, admitted=900)], LINE) == 0

    def test_who_joined_when_a_loss_has_swallowed_is_left_out(self) -> None:
        assert overtakes([ticket(0, joined=30), ticket(1, joined=0), ticket(2, joined=40)], ()) == 0

    @pytest.mark.parametrize("second", [Raise(200, 3, 5), Raise(200, 1, 5), Raise(200, 2, 2), Raise(50, 2, 5)])
    def test_a_raise_that_skips_repeats_stands_still_or_goes_back_in_time(self, second: Raise) -> None:
        assert overtakes([], (Raise(100, 0, 2), second)) == 1


class TestOvertakesByDraw:
    DRAW: ClassVar = Draw(hashlib.sha256(b"key").digest(), 5)
    FIRST: ClassVar = (DRAW.entry_number(0), DRAW.entry_number(1))
    """the entries that drew the first two places, which were called at 100"""

    def overtakes(self, *line: Ticket, raises: tuple[Raise, ...] = LINE, drawn_at_ms: int = 90) -> int:
        return overtakes(line, raises, [self.DRAW], drawn_at_ms)

    def test_none_when_each_is_admitted_after_the_draws_place_was_called(self) -> None:
        early = [ticket(entry, joined=10 + entry, admitted=100, turn=self.DRAW.queue_number(entry)) for entry in self.FIRST]
        assert self.overtakes(*early, ticket(5, joined=30, late=True)) == 0

    def test_the_order_of_arrival_does_not_count(self) -> None:
        last = self.DRAW.entry_number(4)
        assert self.overtakes(ticket(last, admitted=150)) == 1
        assert self.overtakes(ticket(last, admitted=200)) == 0

    def test_a_late_place_is_its_own(self) -> None:
        raises = (*LINE, Raise(300, 5, 6))
        assert self.overtakes(ticket(5, late=True, admitted=250), raises=raises) == 1
        assert self.overtakes(ticket(5, late=True, admitted=300), raises=raises) == 0

    def test_an_admission_by_another_place_than_the_draws(self) -> None:
        entry = self.FIRST[0]
        assert self.overtakes(ticket(entry, admitted=250, turn=3)) == 1

    def test_somebody_called_before_the_draw(self) -> None:
        assert self.overtakes(drawn_at_ms=101) == 1

    def test_each_line_is_a_line_of_its_own(self) -> None:
        raises = (Raise(100, 0, 2), Raise(100, place_of(1, 0), place_of(1, 3)), Raise(200, 2, 5))
        line = [ticket(0, joined=20), ticket(place_of(1, 0), joined=10, admitted=100, late=True)]
        assert overtakes(line, raises) == 0
        assert overtakes([ticket(place_of(1, 3), admitted=200)], raises) == 1
        assert overtakes([], (*raises, Raise(300, place_of(1, 4), place_of(1, 5)))) == 1


def test_waits_count_from_the_opening_or_from_joining_and_only_for_the_admitted() -> None:
    line = [
        ticket(0, joined=10, admitted=101),
        ticket(1, joined=90, admitted=102),
        ticket(2, joined=10),
        ticket(3, joined=10, admitted=201),
    ]
    assert waits_ms(line, Turns(LINE), opens_at_ms=50) == [10, 50, 150]


def test_percentiles_are_nearest_rank() -> None:
    assert [percentile([1, 2, 3, 4], share) for share in (0.5, 0.95, 0.99)] == [2, 4, 4]
    assert percentile([], 0.5) == 0


class TestStrangeEndings:
    USUAL: ClassVar = dict.fromkeys(ENDINGS, 3)
    REFUSED: ClassVar = {
        "reserve_refused 409 limit_reached": 1,
        "reserve_refused 422 invalid_request": 1,
        "admission_refused 500 internal": 1,
    }
    LOST: ClassVar = {"forgotten not_found": 1, "forgotten_and_left": 1, "forgotten_again_and_again": 1, "serving_refused 404 not_found": 1}

    def test_what_people_do_and_being_sold_out_is_usual(self) -> None:
        assert strange_endings(self.USUAL, closed=False, may_forget=False) == {}

    def test_a_refusal_for_anything_else_is_strange(self) -> None:
        assert strange_endings(self.USUAL | self.REFUSED, closed=True, may_forget=False) == self.REFUSED

    def test_an_ending_nobody_has_thought_of_is_strange(self) -> None:
        assert strange_endings({"done": 1, "paid twice": 1}, closed=True, may_forget=True) == {"done": 1, "paid twice": 1}

    def test_to_be_forgotten_takes_a_loss(self) -> None:
        assert strange_endings(self.LOST, closed=False, may_forget=False) == self.LOST
        assert strange_endings(self.LOST | self.REFUSED, closed=False, may_forget=True) == {
            ending: 1 for ending in self.REFUSED if "limit_reached" not in ending
        }

    def test_to_find_the_drop_closed_takes_a_closed_drop(self) -> None:
        assert strange_endings({"closed": 2}, closed=True, may_forget=False) == {}
        assert strange_endings({"closed": 2}, closed=False, may_forget=False) == {"closed": 2}


class TestFaults:
    CLEAN: ClassVar[dict[str, Any]] = {
        "oversold_units": 0,
        "undersold_units": 0,
        "lost_orders": 0,
        "duplicate_orders": 0,
        "overtakes": 0,
        "draw_faults": 0,
        "http_5xx": 0,
        "broken_promises": 0,
        "strange_endings": {},
        "audit": "clean",
        "orders_in_postgres": {"pending": 0},
    }

    def test_none_when_all_is_well(self) -> None:
        assert faults(self.CLEAN) == []

    @pytest.mark.parametrize(
        "name",
        ["oversold_units", "undersold_units", "lost_orders", "duplicate_orders", "overtakes", "draw_faults", "http_5xx", "broken_promises"],
    )
    def test_each_number_that_is_not_zero_is_named(self, name: str) -> None:
        assert faults({**self.CLEAN, name: 2}) == [f"{name} is 2"]

    def test_an_audit_that_is_not_clean_is_named(self) -> None:
        assert faults({**self.CLEAN, "audit": "drift"}) == ["the audit is drift"]

    def test_endings_that_may_not_be_are_named(self) -> None:
        endings = {"reserve_refused 409 limit_reached": 40}
        assert faults({**self.CLEAN, "strange_endings": endings}) == ["40 visits ended with 'reserve_refused 409 limit_reached'"]

    def test_pending_orders_are_named(self) -> None:
        assert faults({**self.CLEAN, "orders_in_postgres": {"pending": 3}}) == ["3 orders are still pending"]
