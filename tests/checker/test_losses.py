"""What the checker holds a service to that has lost data: what was told before may be gone, what was told since may not."""

from __future__ import annotations

import pytest

from loadtest.checker.model import Rules, Window
from loadtest.checker.state import FinalState, OrderRow, Refund, ReservationRecord, SkuState
from loadtest.checker.verdict import check
from loadtest.checker.violations import Name
from loadtest.history import Event, Kind, Step

DROP = "spring"
ONE_OF_IT = (("s1", 1),)
PRICE = 100
TTL_MS = 60_000
LOSS = Rules(losses=(Window(2_000, 3_000),), faults=(Window(0, 100_000),))


class Story:
    """A history in the making, told call by call."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def call(self, kind: Kind, shopper: str, at_ms: int, outcome: str, **told: object) -> None:
        """An acknowledged call that took ten milliseconds."""
        op, name = len(self.events) // 2 + 1, f"{DROP}.r{shopper}"
        asked = Event(Step.INVOKE, op, at_ms * 1_000_000, at_ms, kind=kind, shopper=shopper, drop=DROP, key=f"k{shopper}")
        asked.items, asked.reservation_id, asked.ticket_id = ONE_OF_IT, name, f"{DROP}.t{shopper}"
        if kind is Kind.CONFIRM:
            asked.amount_minor, asked.payment_reference = PRICE, f"pay-{shopper}"
        ended = Event(Step.OK, op, (at_ms + 10) * 1_000_000, at_ms + 10, outcome=outcome, reservation_id=name, amount_minor=PRICE)
        if kind is not Kind.CONFIRM:
            ended.reserved_at_ms, ended.expires_at_ms = 1, at_ms + TTL_MS
        self.events += [asked, ended]


def state(*records: tuple[str, str], orders: tuple[tuple[str, str], ...] = (), refunds: tuple[str, ...] = ()) -> FinalState:
    """One unit of one SKU; (shopper, state) of what is in the store and in Postgres."""
    sold = sum(state == "confirmed" for _, state in records)
    held = sum(state == "reserved" for _, state in records)
    paid = sum(state == "paid" for _, state in orders)
    return FinalState(
        drop_id=DROP,
        now_ms=4_000,
        epoch=2,
        limit_per_shopper=1,
        skus=(SkuState("s1", PRICE, 1, 1, 1, 1 - sold - held, held, sold, 1, paid),),
        reservations=tuple(
            ReservationRecord(f"{DROP}.r{shopper}", f"{DROP}.t{shopper}", state, ONE_OF_IT, PRICE, 1, 1_000 + TTL_MS)
            for shopper, state in records
        ),
        orders=tuple(
            OrderRow(
                f"{DROP}.r{shopper}", f"{DROP}.t{shopper}", state, ONE_OF_IT, PRICE, "" if state == "pending" else f"pay-{shopper}",
                0 if state == "pending" else 3_500,
            )
            for shopper, state in orders
        ),
        refunds=tuple(Refund(f"{DROP}.r{shopper}", f"pay-{shopper}", PRICE) for shopper in refunds),
    )  # fmt: skip


def verdict(story: Story, final: FinalState, rules: Rules = LOSS) -> set[Name]:
    return check(story.events, final, rules).names


@pytest.mark.parametrize(("second_at_ms", "oversold"), [(3_500, False), (1_500, True)])
def test_a_unit_promised_before_a_loss_may_be_promised_again_after_it(second_at_ms: int, *, oversold: bool) -> None:
    story = Story()
    story.call(Kind.RESERVE, "ann", 1_000, "reserved")
    story.call(Kind.RESERVE, "bob", second_at_ms, "reserved")
    final = state(("bob", "reserved"), orders=(("bob", "pending"),))
    assert (Name.OVERSOLD in verdict(story, final)) is oversold
    assert Name.LOST_RESERVATION not in verdict(story, final)


def test_what_was_promised_since_the_loss_is_held_for_certain() -> None:
    story = Story()
    story.call(Kind.RESERVE, "ann", 1_000, "reserved")
    story.call(Kind.RESTORE, "ann", 3_200, "restored")
    story.call(Kind.RESERVE, "bob", 3_500, "reserved")
    found = verdict(story, state(("ann", "reserved"), orders=(("ann", "pending"),)))
    assert found >= {Name.OVERSOLD, Name.LOST_RESERVATION}


def test_a_sale_that_was_in_postgres_is_never_lost() -> None:
    story = Story()
    story.call(Kind.RESERVE, "ann", 1_000, "reserved")
    story.call(Kind.CONFIRM, "ann", 1_200, "paid")
    story.call(Kind.RESERVE, "bob", 3_500, "reserved")
    found = verdict(story, state(("bob", "reserved"), orders=(("bob", "pending"),)))
    assert found >= {Name.OVERSOLD, Name.LOST_ORDER}


def test_a_unit_sold_twice_by_a_store_that_went_back_is_its_first_owners() -> None:
    story = Story()
    story.call(Kind.RESERVE, "ann", 1_000, "reserved")
    story.call(Kind.RESERVE, "bob", 2_500, "reserved")
    final = state(("ann", "reserved"), ("bob", "released"), orders=(("ann", "pending"), ("bob", "cancelled")))
    assert verdict(story, final) == set()
    assert Name.LOST_RESERVATION in verdict(story, final, Rules(faults=LOSS.faults))
