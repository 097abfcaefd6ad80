"""`flashsale order` and `flashsale refunds` against running stores."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from flashsale.cli.environment import environment_of
from flashsale.connections.database import Database
from flashsale.refunds import RefundProgress, Refunds
from flashsale.settings import Settings
from reconciler.orders import Batch, OrderRecorder
from tests.integration import reconciler_stage as stage
from tests.integration.command_line import Running, find_by_environment, flashsale
from tests.integration.http_client import Buyer, Service, in_own_task, make_drop, reconciling, with_settings, with_signing_keys
from tests.integration.refund_stage import Answer, Asked, Ledger, elsewhere
from tests.integration.test_refunds import SECRET, driver

NOBODY = f"sneaker-x.r{'A' * 22}"


@pytest.fixture(autouse=True)
def _environment(settings: Settings, store: Redis, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_by_environment(settings, tmp_path, monkeypatch)


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    async with in_own_task(with_signing_keys(settings, tmp_path), database) as running:
        yield running


async def reserved(service: Service) -> str:
    drop = await service.open_drop(make_drop())
    buyer = Buyer(service, drop.drop_id)
    await buyer.enter()
    return str((await buyer.reserve()).json["reservation_id"])


async def paid(service: Service, settings: Settings, database: Database, tmp_path: Path) -> str:
    """An order that is in Postgres."""
    order_id = await reserved(service)
    body = {"payment_reference": "pay-1", "amount_minor": 12_000}
    async with reconciling(settings, database, service.services):
        assert (await service.as_storefront(f"/v1/reservations/{order_id}/confirm", body)).status in {200, 202}
        while await service.services.orders.wait_recorded(order_id, 10_000) is None:
            pass
    return order_id


async def test_an_order_is_shown_and_taken_back(service: Service, settings: Settings, database: Database, tmp_path: Path) -> None:
    order_id = await paid(service, settings, database, tmp_path)
    shown = (await flashsale("order", "show", order_id, "--json")).json
    assert (shown["state"], shown["reservation_state"], shown["items"], shown["refunds"]) == ("paid", "confirmed", [["black-42", 1]], [])
    text = await flashsale("order", "show", order_id)
    assert "120.00 EUR" in text.out
    assert "pay-1" in text.out

    cancelled = await flashsale("order", "cancel", order_id, "--reason", "unavailable", "--json")
    assert cancelled.json == {"order_id": order_id, "outcome": "cancelled", "state": "cancelled"}
    again = await flashsale("order", "cancel", order_id)
    assert (again.code, again.out) == (0, "")
    assert "its payment goes back" in again.err
    async with reconciling(settings, database, service.services):
        while not (refunds := await Refunds(database).unfinished()):
            pass
    shown = (await flashsale("order", "show", order_id, "--json")).json
    assert (shown["state"], shown["reason"], shown["reservation_state"]) == ("refund_due", "merchant:unavailable", "cancelled")
    assert shown["refunds"][0]["refund_id"] == refunds[0].refund_id
    assert refunds[0].refund_id in (await flashsale("order", "show", order_id)).out
    stock = (await service.services.drop_store.inspect("sneaker-x")).skus["black-42"]
    assert (stock.available, stock.sold) == (100, 0)


async def test_an_unpaid_reservation_is_ended(service: Service) -> None:
    order_id = await reserved(service)
    shown = (await flashsale("order", "show", order_id, "--json")).json
    assert (shown["state"], shown["reservation_state"], shown["amount_minor"]) == (None, "reserved", 12_000)
    ended = await flashsale("order", "cancel", order_id)
    assert (ended.code, "not paid" in ended.err) == (0, True)
    assert "released" in (await flashsale("order", "show", order_id)).out


@pytest.mark.parametrize("words", [("show",), ("cancel",)])
async def test_orders_there_are_none_of(service: Service, words: tuple[str, ...]) -> None:
    await service.open_drop(make_drop())
    for order_id in (NOBODY, f"another.r{'A' * 22}"):
        refused = await flashsale("order", *words, order_id)
        assert (refused.code, refused.out) == (4, "")
        assert order_id in refused.err
    assert (await flashsale("order", *words, "order-7")).code == 2


async def test_a_reason_is_one_of_a_few(service: Service) -> None:
    assert (await flashsale("order", "cancel", NOBODY, "--reason", "because")).code == 2


async def test_the_doctor_names_payments_that_wait_for_a_person(database: Database) -> None:
    async def refunds() -> list[tuple[str, str, str]]:
        found = (await flashsale("doctor", "--json")).json
        return [(one["name"], one["level"], one["what"]) for one in found if one["name"].startswith("refunds")]

    assert await refunds() == [("refunds", "ok", "No payment waits for a person.")]
    await stage.make_drop(database)
    paid, lost = stage.typed(*(stage.transition("confirmed", number) for number in (1, 2)))
    recorder = OrderRecorder(database)
    await recorder.hold(stage.DROP, [paid, lost])
    [(name, level, what)] = await refunds()
    assert (name, level) == ("refunds.for_people", "warn")
    assert what.startswith("2 payments ")
    await recorder.record(Batch(stage.DROP, [paid]))
    assert (await refunds())[0][2].startswith("1 payment ")
    assert [one["reservation_id"] for one in (await flashsale("refunds", "list", "--json")).json] == [lost.reservation_id]
    await stage.query(database, "UPDATE refunds SET state = 'due', created_at = now() - interval '2 hours'")
    assert [name for name, _, _ in await refunds()] == ["refunds.oldest"]


async def test_refunds_are_listed_settled_and_sent(database: Database) -> None:
    assert (await flashsale("refunds", "list")).err.strip() == "No payment waits to go back."
    await stage.make_drop(database)
    told = stage.typed(*(stage.transition("refund_due", number) for number in (1, 2)))
    await OrderRecorder(database).record(Batch(stage.DROP, told))
    listed = (await flashsale("refunds", "list", "--json")).json
    assert {one["payment_reference"] for one in listed} == {"pay-1", "pay-2"}
    assert (await flashsale("refunds", "list", "autumn", "--json")).json == []
    first, second = (one["refund_id"] for one in listed)
    text = (await flashsale("refunds", "list", stage.DROP)).out
    assert first in text
    assert "15.00 EUR" in text

    assert (await flashsale("refunds", "done", first)).code == 0
    assert (await flashsale("refunds", "send", second)).code == 0
    await driver(database).drive()
    assert [one["refund_id"] for one in (await flashsale("refunds", "list", "--json")).json] == [second]
    assert await stage.states(database) == {"refunded": 1, "refund_due": 1}
    settled = await Refunds(database).get(first)
    assert settled is not None
    assert settled.state is RefundProgress.DONE
    for words in (("done", first), ("send", first), ("done", "rf_unknown")):
        assert (await flashsale("refunds", *words)).code == 4


async def test_a_payment_that_pays_for_its_order_is_not_sent_and_the_way_out_is_told(database: Database) -> None:
    await stage.make_drop(database)
    told = stage.typed(stage.transition("surplus", 1, reason="amount_mismatch"), stage.transition("confirmed", 1))
    await OrderRecorder(database).record(Batch(stage.DROP, told))
    [listed] = (await flashsale("refunds", "list", "--json")).json
    refused = await flashsale("refunds", "send", listed["refund_id"])
    assert refused.code == 4
    assert "pays for an order that is paid" in refused.err
    assert (await flashsale("refunds", "done", listed["refund_id"])).code == 0
    await driver(database).drive()
    assert (await flashsale("refunds", "list", "--json")).json == []


async def test_a_reconciler_killed_after_it_asked_is_followed_by_another(settings: Settings, database: Database, tmp_path: Path) -> None:
    """The shop gave the money back and its answer met nobody: the next process asks again, with the same key."""
    await stage.make_drop(database)
    await OrderRecorder(database).record(Batch(stage.DROP, stage.typed(stage.transition("refund_due", 1))))
    ledger, arrived, answering = Ledger(), asyncio.Event(), asyncio.Event()

    async def answer(asked: Asked) -> Answer:
        ledger.give(asked.headers["idempotency-key"], 1500)
        arrived.set()
        await answering.wait()
        return 200, {"state": "done"}

    async with elsewhere(answer) as shop:
        payments = {"webhook_secret": SECRET, "refund_url": f"{shop.url}/refunds", "refund_interval_ms": 50}
        environment = environment_of(with_settings(settings, payments=payments))
        with Running("reconcile-worker", environment=environment, folder=tmp_path) as first:
            async with asyncio.timeout(60):
                await arrived.wait()
            first.end(signal.SIGKILL)
        answering.set()
        await stage.query(database, "UPDATE refunds SET next_attempt_at = now()")
        with Running("reconcile-worker", environment=environment, folder=tmp_path):
            async with asyncio.timeout(60):
                while await stage.states(database) != {"refunded": 1}:  # noqa: ASYNC110 - another process does it
                    await asyncio.sleep(0.05)
    assert len(shop.asked) == 2
    assert len(ledger.given) == 1
