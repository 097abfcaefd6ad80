"""Refunds are driven until they are done, whoever dies or does not answer, and each payment goes back once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import pytest
from prometheus_client import CollectorRegistry
from standardwebhooks.webhooks import Webhook

from flashsale.clock import SystemClock
from flashsale.connections.database import Database
from flashsale.payments.provider import PaymentEvent, ProviderUnreachable, RefundAnswer, RefundEvent, RefundOrder, RefundState
from flashsale.payments.registry import RefundProviders
from flashsale.payments.standard import StandardRefunds, StandardWebhooks
from flashsale.payments.stripe import StripeRefunds
from flashsale.payments.test import TestRefunds, reference_of
from flashsale.refunds import HoldReason, Refund, RefundProgress, Refunds, Release
from flashsale.settings import load_settings
from reconciler.metrics import ReconcilerMetrics
from reconciler.orders import Batch, OrderRecorder
from reconciler.outbox import Outbox
from reconciler.refunds import PER_PROVIDER_MAX, RefundDriver
from tests.integration.reconciler_stage import DROP, make_drop, query, reservation_id, states, transition, typed
from tests.integration.refund_stage import Answer, Asked, Elsewhere, Ledger, elsewhere

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Provider:
    """A provider in this process: does what the test says, and remembers."""

    name = "standard"

    def __init__(self, *answers: RefundAnswer | Exception | asyncio.Event) -> None:
        self.answers = list(answers)
        self.asked: list[RefundOrder] = []
        self.arrived = asyncio.Event()
        self.ledger = Ledger()

    def owns(self, payment_reference: str) -> bool:
        return payment_reference.startswith("pay-")

    async def find_refund(self, order: RefundOrder) -> RefundAnswer | None:
        return None

    async def refund(self, order: RefundOrder) -> RefundAnswer:
        self.asked.append(order)
        self.ledger.give(order.refund_id, order.amount_minor)
        self.arrived.set()
        answer = self.answers.pop(0) if self.answers else DONE
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return DONE
        if isinstance(answer, Exception):
            raise answer
        return answer


DONE = RefundAnswer(RefundState.DONE, "re_1")
UNKNOWN = ProviderUnreachable(what="No answer.")


@pytest.fixture
async def due(database: Database) -> Database:
    """A database with one order whose payment has to go back."""
    await make_drop(database)
    await OrderRecorder(database).record(Batch(DROP, typed(transition("refund_due", 1))))
    return database


def driver(database: Database, *providers: Any, timeout_ms: int = 10_000) -> RefundDriver:
    settings = load_settings(environment={}, overrides={"payments": {"refund_timeout_ms": timeout_ms, "refund_interval_ms": 50}})
    return RefundDriver(database, RefundProviders(providers), ReconcilerMetrics(CollectorRegistry()), settings.payments)


async def only(database: Database) -> Refund:
    (refund,) = await Refunds(database).of_order(reservation_id(1))
    return refund


async def make_due_now(database: Database) -> None:
    await query(database, "UPDATE refunds SET next_attempt_at = now()")


async def refunded_events(database: Database) -> list[str]:
    return [event.reservation_id for event in await Outbox(database).undelivered(1000) if event.event == "order.refunded"]


async def test_a_refund_is_asked_for_and_done(due: Database) -> None:
    provider = Provider()
    assert await driver(due, provider).drive() == 1
    assert await driver(due, provider).drive() == 0
    (order,) = provider.asked
    assert (order.payment_reference, order.amount_minor, order.currency, order.attempt) == ("pay-1", 1500, "EUR", 1)
    refund = await only(due)
    assert (refund.state, refund.provider, refund.provider_refund_id) == (RefundProgress.DONE, "standard", "re_1")
    assert refund.finished_at_ms is not None
    assert await states(due) == {"refunded": 1}
    assert await refunded_events(due) == [reservation_id(1)]


async def test_the_journal_told_again_changes_nothing_after_it_is_done(due: Database) -> None:
    await driver(due, Provider()).drive()
    await OrderRecorder(due).record(Batch(DROP, typed(transition("refund_due", 1), transition("confirmed", 1), transition("surplus", 1))))
    assert await states(due) == {"refunded": 1}
    assert (await only(due)).state is RefundProgress.DONE
    assert await driver(due, Provider()).drive() == 0


async def test_an_unknown_outcome_is_asked_for_again_with_the_same_key(due: Database) -> None:
    provider = Provider(UNKNOWN, TimeoutError(), DONE)
    for _ in range(3):
        assert (await only(due)).state is not RefundProgress.DONE
        await driver(due, provider).drive()
        await make_due_now(due)
    assert len({order.refund_id for order in provider.asked}) == 1
    assert [order.attempt for order in provider.asked] == [1, 2, 3]
    assert (await only(due)).state is RefundProgress.DONE
    assert len(provider.ledger.given) == 1


async def test_between_two_attempts_it_waits(due: Database) -> None:
    await driver(due, Provider(UNKNOWN)).drive()
    refund = await only(due)
    assert (refund.state, refund.last_error) == (RefundProgress.REQUESTED, "No answer.")
    ((waits,),) = await query(due, "SELECT next_attempt_at > now() FROM refunds")
    assert waits
    assert await driver(due, Provider()).drive() == 0


async def test_a_driver_killed_after_the_call_is_followed_by_another_and_the_money_goes_back_once(due: Database) -> None:
    provider = Provider(asyncio.Event())
    killed = asyncio.create_task(driver(due, provider).drive())
    await provider.arrived.wait()
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    assert (await only(due)).state is RefundProgress.REQUESTED
    assert await driver(due, provider).drive() == 0  # for a while it may still be the first one's
    await make_due_now(due)
    assert await driver(due, provider).drive() == 1
    assert [order.attempt for order in provider.asked] == [1, 2]
    assert len(provider.ledger.given) == 1
    assert await states(due) == {"refunded": 1}
    assert await refunded_events(due) == [reservation_id(1)]


async def test_of_many_drivers_each_refund_is_one_ones(due: Database) -> None:
    told = typed(*(transition("refund_due", number) for number in range(60)))
    await OrderRecorder(due).record(Batch(DROP, told))
    provider = Provider()
    while (await states(due)).get("refund_due"):
        await asyncio.gather(*(driver(due, provider).drive() for _ in range(4)))
        await make_due_now(due)
    assert len(provider.asked) == len(provider.ledger.given) == 60
    assert await states(due) == {"refunded": 60}
    assert len(await refunded_events(due)) == 60


async def test_a_definite_refusal_is_left_for_a_person(due: Database) -> None:
    await driver(due, Provider(RefundAnswer(RefundState.REFUSED, code="expired_card"))).drive()
    refund = await only(due)
    assert (refund.state, refund.last_error) == (RefundProgress.FAILED, "expired_card")
    await make_due_now(due)
    assert await driver(due, Provider()).drive() == 0
    assert await Refunds(due).release(refund.refund_id) is Release.SENT
    assert await driver(due, Provider()).drive() == 1
    assert await states(due) == {"refunded": 1}


async def test_a_pending_one_is_asked_about_again(due: Database) -> None:
    provider = Provider(RefundAnswer(RefundState.PENDING, "re_7"))
    await driver(due, provider).drive()
    refund = await only(due)
    assert (refund.state, refund.provider_refund_id) == (RefundProgress.REQUESTED, "re_7")
    await make_due_now(due)
    await driver(due, provider).drive()
    assert (await only(due)).state is RefundProgress.DONE


async def test_without_a_provider_it_waits_and_is_listed_until_somebody_settles_it(due: Database) -> None:
    await driver(due).drive()
    refunds = Refunds(due)
    (refund,) = await refunds.unfinished()
    assert (refund.state, refund.attempts) == (RefundProgress.DUE, 0)
    assert await refunds.unfinished(DROP) == [refund]
    assert await refunds.unfinished("other") == []
    assert await refunds.settle(refund.refund_id)
    assert await driver(due).drive() == 1
    assert await refunds.unfinished() == []
    assert await states(due) == {"refunded": 1}
    assert await refunded_events(due) == [reservation_id(1)]
    assert not await refunds.settle(refund.refund_id)
    assert not await refunds.settle("rf_unknown")


async def test_a_provider_that_hangs_holds_up_no_other(due: Database) -> None:
    told = typed(*(transition("refund_due", number, payment=f"slow-{number}") for number in range(2, 2 + 3 * PER_PROVIDER_MAX)))
    await OrderRecorder(due).record(Batch(DROP, told))
    await query(due, "UPDATE refunds SET next_attempt_at = now() - interval '1 hour' WHERE payment_reference LIKE 'slow-%'")
    release = asyncio.Event()
    slow = Provider(*[release] * 20)
    slow.name = "slow"
    slow.owns = lambda payment_reference: payment_reference.startswith("slow-")  # type: ignore[method-assign]
    quick = Provider()
    working = asyncio.create_task(driver(due, slow, quick).drive())
    async with asyncio.timeout(30):
        await quick.arrived.wait()
    assert len(slow.asked) <= PER_PROVIDER_MAX
    release.set()
    await working


async def test_a_provider_that_never_answers_is_given_up_for_now(due: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.refunds.GRACE_S", 0.01)
    await driver(due, Provider(asyncio.Event()), timeout_ms=1).drive()
    refund = await only(due)
    assert (refund.state, refund.last_error) == (RefundProgress.REQUESTED, "The provider did not answer in time.")


async def test_a_payment_that_pays_for_its_order_is_never_sent_back_by_itself(due: Database) -> None:
    """A provider reported it with another amount first, so it became surplus; then the shop confirmed with it."""
    told = typed(transition("surplus", 2, payment="pay-2", reason="amount_mismatch"), transition("confirmed", 2))
    await OrderRecorder(due).record(Batch(DROP, told))
    provider = Provider()
    await driver(due, provider).drive()
    assert [order.payment_reference for order in provider.asked] == ["pay-1"]
    assert [refund.payment_reference for refund in await Refunds(due).unfinished()] == ["pay-2"]


@pytest.fixture
async def kept(database: Database) -> Database:
    """A payment that was held for a person, and then the shop confirmed its order with it."""
    await make_drop(database)
    await Refunds(database).hold("stripe", PaymentEvent("e", reservation_id(1), "pay-1", 1500, "USD"), HoldReason.CURRENCY_MISMATCH)
    await OrderRecorder(database).record(Batch(DROP, typed(transition("confirmed", 1))))
    return database


async def test_a_payment_that_pays_for_its_order_is_not_sent_back_by_a_person_either(kept: Database) -> None:
    refunds, provider = Refunds(kept), Provider()
    assert await refunds.release((await only(kept)).refund_id) is Release.PAYS
    assert (await only(kept)).state is RefundProgress.HELD
    await driver(kept, provider).drive()
    assert (provider.asked, await states(kept)) == ([], {"paid": 1})


async def test_a_person_closes_a_payment_that_pays_for_its_order(kept: Database) -> None:
    refunds = Refunds(kept)
    assert await refunds.settle((await only(kept)).refund_id)
    assert await driver(kept, Provider()).drive() == 1
    assert await refunds.unfinished() == []
    assert await states(kept) == {"paid": 1}


@pytest.mark.parametrize("noted", [True, False], ids=["and noted as such", "a moment ago"])
async def test_an_order_taken_back_after_its_payment_was_closed_by_hand_waits_for_a_person(kept: Database, *, noted: bool) -> None:
    refunds, provider = Refunds(kept), Provider()
    await refunds.settle((await only(kept)).refund_id)
    if noted:
        await driver(kept, provider).drive()
    await OrderRecorder(kept).record(Batch(DROP, typed(transition("cancelled", 1, payment="pay-1"))))
    assert await states(kept) == {"refund_due": 1}
    assert await driver(kept, provider).drive() == 0
    assert [one.state for one in await refunds.unfinished()] == [RefundProgress.FAILED]
    assert await refunds.release((await only(kept)).refund_id) is Release.SENT
    await driver(kept, provider).drive()
    assert [order.payment_reference for order in provider.asked] == ["pay-1"]
    assert await states(kept) == {"refunded": 1}


async def test_an_order_taken_back_after_its_payment_had_gone_back_is_refunded(kept: Database) -> None:
    refunds, provider = Refunds(kept), Provider()
    await refunds.hear(RefundEvent("e", "pay-1", 1500, (await only(kept)).refund_id, "re_5"))
    await driver(kept, provider).drive()
    await OrderRecorder(kept).record(Batch(DROP, typed(transition("cancelled", 1, payment="pay-1"))))
    await driver(kept, provider).drive()
    assert (provider.asked, await states(kept)) == ([], {"refunded": 1})


async def test_nothing_to_give_back_is_given_back_at_once(due: Database) -> None:
    await query(due, "UPDATE refunds SET amount_minor = 0")
    provider = Provider()
    await driver(due, provider).drive()
    assert provider.asked == []
    assert await states(due) == {"refunded": 1}


async def test_the_agent_works_until_it_is_stopped(due: Database) -> None:
    provider, stop = Provider(), asyncio.Event()
    agent = driver(due, provider)
    running = asyncio.create_task(agent.run(stop))
    async with asyncio.timeout(30):
        await provider.arrived.wait()
    stop.set()
    await running
    assert await states(due) == {"refunded": 1}


# ------------------------------------------------------------------------------------------------ what providers tell


@pytest.mark.parametrize(
    ("event", "settled"),
    [
        (RefundEvent("e", "pay-1", 1500), True),
        (RefundEvent("e", "pay-1", 1499), False),
        (RefundEvent("e", "pay-2", 1500), False),
        (RefundEvent("e", "pay-1", 1500, "rf_unknown"), False),
    ],
)
async def test_an_event_settles_the_refund_it_means(due: Database, event: RefundEvent, *, settled: bool) -> None:
    refunds = Refunds(due)
    assert await refunds.hear(event) is settled
    await driver(due).drive()
    assert await states(due) == {"refunded" if settled else "refund_due": 1}
    assert not await refunds.hear(event)


async def test_an_event_with_our_id_settles_that_refund_alone(due: Database) -> None:
    await OrderRecorder(due).record(
        Batch(DROP, typed(transition("surplus", 1, payment="pay-0"), transition("surplus", 2, payment="pay-1")))
    )
    refunds = Refunds(due)
    assert not await refunds.hear(RefundEvent("e", "pay-1", 9999))  # two refunds of one payment: which of them?
    refund = next(one for one in await refunds.of_order(reservation_id(1)) if one.payment_reference == "pay-1")
    assert await refunds.hear(RefundEvent("e", "pay-1", 1500, refund.refund_id, "re_5"))
    await driver(due).drive()
    assert {one.payment_reference: (one.state, one.provider_refund_id) for one in await refunds.of_order(reservation_id(1))} == {
        "pay-0": (RefundProgress.DUE, ""),
        "pay-1": (RefundProgress.DONE, "re_5"),
    }


async def test_a_held_payment_goes_nowhere_until_a_person_says_so(database: Database) -> None:
    refunds, provider = Refunds(database), Provider()
    for _ in range(2):
        await refunds.hold("stripe", PaymentEvent("e", "nobody's", "pay-9", 700, "EUR"), HoldReason.UNMATCHED)
    await driver(database, provider).drive()
    (held,) = await refunds.unfinished()
    assert (held.state, held.reason, held.provider, held.drop_id) == (RefundProgress.HELD, "unmatched", "stripe", "")
    assert await refunds.release(held.refund_id) is Release.SENT
    await driver(database, provider).drive()
    assert [order.payment_reference for order in provider.asked] == ["pay-9"]
    found = await refunds.get(held.refund_id)
    assert found is not None
    assert found.state is RefundProgress.DONE
    assert await refunds.get("rf_unknown") is None


# ------------------------------------------------------------------------------------------------------- over the wire


@pytest.fixture
async def shop() -> AsyncIterator[Elsewhere]:
    """The shop's address for refunds. Like any good one it knows a request it has seen."""
    ledger = Ledger()

    async def answer(asked: Asked) -> Answer:
        event = Webhook(SECRET).verify(asked.body, asked.headers)
        assert asked.headers["webhook-id"] == asked.headers["idempotency-key"] == event["data"]["refund_id"]
        ledger.give(event["data"]["refund_id"], event["data"]["amount_minor"])
        return 200, {"state": "done", "provider_refund_id": f"back-{len(ledger.given)}"}

    async with elsewhere(answer) as there:
        yield there


def standard(shop: Elsewhere, timeout_ms: int = 10_000) -> StandardRefunds:
    signer = StandardWebhooks(SECRET, tolerance_ms=300_000, clock=SystemClock())
    return StandardRefunds(shop.client, f"{shop.url}/refunds", signer, timeout_ms=timeout_ms)


async def test_the_shop_is_asked_with_a_signature_it_can_check(due: Database, shop: Elsewhere) -> None:
    shop.lost = 1
    await driver(due, standard(shop)).drive()
    assert (await only(due)).state is RefundProgress.REQUESTED
    await make_due_now(due)
    await driver(due, standard(shop)).drive()
    refund = await only(due)
    assert (refund.state, refund.provider_refund_id, refund.attempts) == (RefundProgress.DONE, "back-1", 2)
    first, second = shop.asked
    assert first.body == second.body
    assert json.loads(first.body) == {
        "type": "refund.requested",
        "data": {
            "refund_id": refund.refund_id,
            "reservation_id": reservation_id(1),
            "payment_reference": "pay-1",
            "amount_minor": 1500,
            "currency": "EUR",
            "reason": "late",
        },
    }


@pytest.mark.parametrize(
    ("answer", "state", "code"),
    [
        ((200, {"state": "done"}), RefundState.DONE, ""),
        ((200, {"state": "pending", "provider_refund_id": "x"}), RefundState.PENDING, ""),
        ((202, b""), RefundState.PENDING, ""),
        ((204, b""), RefundState.PENDING, ""),
        ((200, {"state": "refused", "code": "too_old"}), RefundState.REFUSED, "too_old"),
        ((422, {"code": "too_old"}), RefundState.REFUSED, "too_old"),
        ((410, b"gone"), RefundState.REFUSED, "http_410"),
    ],
)
async def test_what_the_shops_answer_means(shop: Elsewhere, answer: Answer, state: RefundState, code: str) -> None:
    async def told(_: Asked) -> Answer:
        return answer

    shop.answer = told
    found = await standard(shop).refund(ORDER)
    assert (found.state, found.code) == (state, code)


@pytest.mark.parametrize(
    "answer",
    [(500, b""), (503, b""), (429, b""), (408, b""), (401, b""), (404, b""), (301, b""), (200, b"{"), (200, {}), (200, b" " * 70_000)],
)
async def test_answers_that_decide_nothing(shop: Elsewhere, answer: Answer) -> None:
    async def told(_: Asked) -> Answer:
        return answer

    shop.answer = told
    with pytest.raises(ProviderUnreachable):
        await standard(shop).refund(ORDER)


async def test_a_shop_that_is_away_or_silent_decides_nothing(shop: Elsewhere) -> None:
    async def silent(_: Asked) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    shop.answer = silent
    with pytest.raises(ProviderUnreachable, match="in time"):
        await standard(shop, timeout_ms=50).refund(ORDER)
    shop.url = "http://127.0.0.1:1"
    with pytest.raises(ProviderUnreachable):
        await standard(shop).refund(ORDER)


ORDER = RefundOrder("rf_1", reservation_id(1), "pi_1", 1500, "EUR", "late", attempt=1)


class Stripe:
    """Stripe's refunds, as far as its documentation tells: idempotency keys, metadata, a list by payment."""

    def __init__(self) -> None:
        self.by_key: dict[str, dict[str, Any]] = {}
        self.refused_by_key: dict[str, Answer] = {}
        self.status = "succeeded"
        self.error: Answer | None = None
        self.unseen = 0
        """so many refunds are made, and answered with an error of the server's"""

    async def answer(self, asked: Asked) -> Answer:
        assert asked.headers["authorization"] == "Bearer rk_test"
        if asked.method == "GET":
            assert asked.query["payment_intent"] == "pi_1"
            return 200, {"object": "list", "data": list(self.by_key.values()), "has_more": False}
        key = asked.headers["idempotency-key"]
        if key in self.refused_by_key:
            return self.refused_by_key[key]
        if self.error is not None:
            if self.error[0] in (400, 402):
                self.refused_by_key[key] = self.error
            return self.error
        form = {name: value for name, (value,) in parse_qs(asked.body.decode()).items()}
        refund = {
            "id": f"re_{len(self.by_key) + 1}",
            "object": "refund",
            "payment_intent": form["payment_intent"],
            "amount": int(form["amount"]),
            "status": self.status,
            "metadata": {name[len("metadata[") : -1]: value for name, value in form.items() if name.startswith("metadata[")},
        }
        made = self.by_key.setdefault(key, refund)
        if self.unseen:
            self.unseen -= 1
            return 500, b""
        return 200, made


@pytest.fixture
def ledger() -> Stripe:
    return Stripe()


@pytest.fixture
async def api(ledger: Stripe) -> AsyncIterator[Elsewhere]:
    async with elsewhere(ledger.answer) as there:
        yield there


def stripe(api: Elsewhere) -> StripeRefunds:
    return StripeRefunds(api.client, f"{api.url}/", "rk_test", timeout_ms=10_000)


@pytest.fixture
async def due_at_stripe(database: Database) -> Database:
    await make_drop(database)
    await OrderRecorder(database).record(Batch(DROP, typed(transition("refund_due", 1, payment="pi_1"))))
    return database


async def send_again(database: Database) -> None:
    assert (await only(database)).state is RefundProgress.FAILED
    assert await Refunds(database).release((await only(database)).refund_id) is Release.SENT


async def drive_now(database: Database, api: Elsewhere) -> None:
    await make_due_now(database)
    await driver(database, stripe(api)).drive()


async def test_stripe_is_asked_once_and_then_what_became_of_it(due_at_stripe: Database, ledger: Stripe, api: Elsewhere) -> None:
    api.lost = 1
    await driver(due_at_stripe, stripe(api)).drive()
    await make_due_now(due_at_stripe)
    ledger.by_key["another"] = {"id": "re_9", "metadata": {}, "status": "succeeded"}
    await driver(due_at_stripe, stripe(api)).drive()
    refund = await only(due_at_stripe)
    assert (refund.state, refund.provider, refund.provider_refund_id) == (RefundProgress.DONE, "stripe", "re_1")
    assert [asked.method for asked in api.asked] == ["POST", "GET"]
    assert ledger.by_key[refund.refund_id]["amount"] == 1500


async def test_a_refund_that_failed_at_stripe_is_made_anew_when_a_person_sends_it(
    due_at_stripe: Database, ledger: Stripe, api: Elsewhere
) -> None:
    ledger.status = "failed"
    await drive_now(due_at_stripe, api)
    await send_again(due_at_stripe)
    ledger.status, ledger.unseen = "succeeded", 1
    await drive_now(due_at_stripe, api)
    assert (await only(due_at_stripe)).state is RefundProgress.REQUESTED
    await drive_now(due_at_stripe, api)
    refund = await only(due_at_stripe)
    assert (refund.state, refund.provider_refund_id) == (RefundProgress.DONE, "re_2")
    assert [asked.method for asked in api.asked] == ["POST", "GET", "POST", "GET"]
    assert list(ledger.by_key) == [refund.refund_id, f"{refund.refund_id}-1"]


async def test_a_refund_that_fails_anew_is_left_for_a_person_again(due_at_stripe: Database, ledger: Stripe, api: Elsewhere) -> None:
    ledger.status = "failed"
    await drive_now(due_at_stripe, api)
    await send_again(due_at_stripe)
    ledger.unseen = 1
    await drive_now(due_at_stripe, api)
    await drive_now(due_at_stripe, api)
    assert (await only(due_at_stripe)).state is RefundProgress.FAILED
    assert [asked.method for asked in api.asked] == ["POST", "GET", "POST", "GET"]


async def test_what_stripe_refused_is_not_told_again_when_a_person_sends_it(
    due_at_stripe: Database, ledger: Stripe, api: Elsewhere
) -> None:
    ledger.error = (400, {"error": {"code": "insufficient_funds"}})
    await drive_now(due_at_stripe, api)
    await send_again(due_at_stripe)
    ledger.error = None
    await drive_now(due_at_stripe, api)
    refund = await only(due_at_stripe)
    assert (refund.state, list(ledger.by_key)) == (RefundProgress.DONE, [f"{refund.refund_id}-1"])


async def test_a_refund_that_lives_after_all_is_not_made_a_second_time(due_at_stripe: Database, ledger: Stripe, api: Elsewhere) -> None:
    """The refusal was of another day; meanwhile somebody's request with our id went through at Stripe."""
    ledger.error = (400, {"error": {"code": "insufficient_funds"}})
    await drive_now(due_at_stripe, api)
    await send_again(due_at_stripe)
    refund = await only(due_at_stripe)
    for name, status in (("dead", "failed"), ("living", "pending")):
        ledger.by_key[name] = {"id": f"re_{name}", "metadata": {"refund_id": refund.refund_id}, "status": status}
    await drive_now(due_at_stripe, api)
    refund = await only(due_at_stripe)
    assert (refund.state, refund.provider_refund_id) == (RefundProgress.REQUESTED, "re_living")
    assert [asked.method for asked in api.asked] == ["POST", "GET"]


async def test_to_send_a_waiting_refund_keeps_its_key(due_at_stripe: Database, ledger: Stripe, api: Elsewhere) -> None:
    """What is unknown may have happened: only a refusal begins another generation."""
    ledger.unseen = 1
    await drive_now(due_at_stripe, api)
    ledger.by_key.clear()
    assert await Refunds(due_at_stripe).release((await only(due_at_stripe)).refund_id) is Release.SENT
    await drive_now(due_at_stripe, api)
    assert list(ledger.by_key) == [(await only(due_at_stripe)).refund_id]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("succeeded", RefundState.DONE),
        ("pending", RefundState.PENDING),
        ("requires_action", RefundState.PENDING),
        ("new word", RefundState.PENDING),
        ("failed", RefundState.REFUSED),
        ("canceled", RefundState.REFUSED),
    ],
)
async def test_states_of_a_refund_at_stripe(ledger: Stripe, api: Elsewhere, status: str, state: RefundState) -> None:
    ledger.status = status
    assert (await stripe(api).refund(ORDER)).state is state
    found = await stripe(api).find_refund(ORDER)
    assert found is not None
    assert (found.state, found.provider_refund_id) == (state, "re_1")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        ((400, {"error": {"code": "charge_already_refunded", "type": "invalid_request_error"}}), RefundState.DONE),
        ((400, {"error": {"code": "resource_missing"}}), RefundState.REFUSED),
        ((402, {"error": {"type": "card_error"}}), RefundState.REFUSED),
        ((429, {"error": {"type": "rate_limit"}}), None),
        ((409, {"error": {"type": "idempotency_error"}}), None),
        ((401, {"error": {}}), None),
        ((500, b"oops"), None),
        ((400, b"oops"), None),
    ],
)
async def test_errors_of_stripe(ledger: Stripe, api: Elsewhere, error: Answer, state: RefundState | None) -> None:
    ledger.error = error
    if state is None:
        with pytest.raises(ProviderUnreachable):
            await stripe(api).refund(ORDER)
        return
    assert (await stripe(api).refund(ORDER)).state is state


async def test_the_test_provider_loses_answers_and_knows_the_truth_later(database: Database) -> None:
    await make_drop(database)
    payment = reference_of(reservation_id(1), refund_timeouts=2)
    await OrderRecorder(database).record(Batch(DROP, typed(transition("refund_due", 1, payment=payment))))
    provider = TestRefunds(1)
    for attempts in (1, 2, 3):
        assert await driver(database, provider).drive() == 1
        assert (await only(database)).attempts == attempts
        await make_due_now(database)
    assert (await only(database)).state is RefundProgress.DONE


def test_whose_payment_it_is(api: Elsewhere, shop: Elsewhere) -> None:
    providers = RefundProviders([TestRefunds(1), stripe(api), standard(shop)])
    owners = {reference: providers.owner(reference) for reference in (reference_of("d.r1", 2, 3), "pi_1", "ch_1", "test-1", "order 7")}
    assert [owner.name for owner in owners.values() if owner] == ["test", "stripe", "stripe", "standard", "standard"]
    assert RefundProviders().owner("pi_1") is None
