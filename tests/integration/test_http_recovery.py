"""A loss and a recovery, as a shopper sees them over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from admission.serving import RECOVERING_NOTICE
from flashsale.cli.recover import recovery_of
from flashsale.cli.target import opened
from flashsale.connections.database import Database
from flashsale.model import secret_hash_of
from flashsale.settings import Settings
from tests.integration.http_client import Answer, Buyer, Service, in_own_task, make_drop, running_service, with_signing_keys

DROP = "sneaker-x"


@pytest.fixture
def keyed(settings: Settings, tmp_path: Path) -> Settings:
    return with_signing_keys(settings, tmp_path)


@pytest.fixture
async def service(keyed: Settings, store: object, database: Database) -> AsyncIterator[Service]:
    async with in_own_task(keyed, database) as running:
        yield running


async def recover(settings: Settings) -> None:
    async with opened(settings) as parts:
        await recovery_of(parts).recover(DROP)


async def lose(settings: Settings) -> None:
    """Whatever the journal held is lost with the rest."""
    async with opened(settings) as parts:
        await parts.store.flushall()


async def until_recovered(service: Service) -> None:
    await service.until(
        lambda: (found := service.services.inlet.get(DROP)) is not None and not found.recovering and found.snapshot.epoch == 2
    )


async def until_lost(service: Service) -> None:
    await service.until(lambda: (found := service.services.inlet.get(DROP)) is not None and found.recovering)


async def restore(service: Service, reserved: Answer, receipt: str | None = None, reservation_id: str | None = None) -> Answer:
    path = f"/v1/reservations/{reservation_id or reserved.json['id']}/restore"
    return await service.post(path, {"receipt": receipt or reserved.json["receipt"]})


async def test_a_reservation_that_everybody_forgot_comes_back_by_its_receipt(service: Service, keyed: Settings) -> None:
    await service.open_drop(make_drop())
    ann = Buyer(service, DROP)
    await ann.enter()
    reserved = await ann.reserve({"white-42": 2})
    await lose(keyed)
    await until_lost(service)
    assert (await service.get(f"/v1/drops/{DROP}/serving")).json["notice"] == RECOVERING_NOTICE
    assert (await ann.reserve({"white-42": 2})).code == "recovering"
    assert (await restore(service, reserved)).code == "recovering"
    await recover(keyed)
    await until_recovered(service)

    first = await restore(service, reserved)
    assert (first.status, first.json["state"], first.json["items"]) == (200, "reserved", reserved.json["items"])
    assert (await restore(service, reserved)).json == first.json
    # The token has ended, and a repeated request finds what it did all the same.
    assert (await ann.reserve({"white-42": 2})).status == 200
    assert (await ann.reserve({"white-42": 1}, key="second")).code == "token_expired"
    paid = await service.as_storefront(
        f"/v1/reservations/{reserved.json['id']}/confirm", {"payment_reference": "p1", "amount_minor": reserved.json["amount_minor"]}
    )
    assert paid.status in {200, 202}


async def test_units_that_are_gone_are_not_given_twice(service: Service, keyed: Settings) -> None:
    await service.open_drop(make_drop())
    ann, bob = Buyer(service, DROP), Buyer(service, DROP)
    await ann.enter()
    lost = await ann.reserve({"white-42": 2})
    await lose(keyed)
    await recover(keyed)
    await until_recovered(service)
    await bob.enter()
    assert (await bob.reserve({"white-42": 2})).status == 201
    assert (await restore(service, lost)).code == "sold_out"


async def test_a_place_in_the_line_comes_back_by_its_receipt(service: Service, keyed: Settings) -> None:
    await service.open_drop(make_drop(rate_per_min=1))
    ann, bob = Buyer(service, DROP), Buyer(service, DROP)
    first, second = await ann.join(), await bob.join()
    await lose(keyed)
    await recover(keyed)
    await until_recovered(service)

    async def back(buyer: Buyer, receipt: str) -> Answer:
        body = {"secret_hash": secret_hash_of(buyer.secret), "receipt": receipt}
        return await service.post(f"/v1/drops/{DROP}/tickets", body)

    again = await back(bob, second.json["receipt"])
    assert again.status == 200
    assert {name: again.json[name] for name in ("ticket_id", "queue_number", "joined_at_ms")} == {
        name: second.json[name] for name in ("ticket_id", "queue_number", "joined_at_ms")
    }
    assert (await back(ann, second.json["receipt"])).code == "receipt_invalid"
    assert (await back(ann, first.json["receipt"])).json["queue_number"] == first.json["queue_number"]
    carl = await Buyer(service, DROP).join()
    assert carl.json["queue_number"] > second.json["queue_number"]


async def test_receipts_that_prove_nothing_are_refused(service: Service, keyed: Settings) -> None:
    await service.open_drop(make_drop())
    ann, bob = Buyer(service, DROP), Buyer(service, DROP)
    place = await ann.join()
    await ann.be_admitted()
    await bob.enter()
    one, other = await ann.reserve(), await bob.reserve()
    receipt = one.json["receipt"]
    assert (await restore(service, one)).status == 200  # it is there: nothing to restore
    assert (await restore(service, other, receipt)).code == "receipt_invalid"
    assert (await restore(service, one, place.json["receipt"])).code == "receipt_invalid"
    other_signature = receipt[:-9] + ("B" if receipt[-9] == "A" else "A") + receipt[-8:]
    assert (await restore(service, one, other_signature)).code == "receipt_invalid"
    assert (await restore(service, one, "nonsense")).code == "receipt_invalid"
    assert (await restore(service, one, reservation_id=f"other.r{one.json['id'][-22:]}")).code == "reservation_not_found"


async def test_a_receipt_of_what_was_given_back_brings_nothing_back(service: Service) -> None:
    await service.open_drop(make_drop())
    ann = Buyer(service, DROP)
    await ann.enter()
    reserved = await ann.reserve()
    await service.request("DELETE", f"/v1/reservations/{reserved.json['id']}")
    assert (await restore(service, reserved)).code == "reservation_expired"


async def test_a_worker_started_after_the_loss_knows_the_drop(keyed: Settings, store: object, database: Database) -> None:
    async with running_service(keyed, database) as before:
        await before.open_drop(make_drop())
    await lose(keyed)
    async with running_service(keyed, database) as service:
        for path in (f"/v1/drops/{DROP}", f"/v1/drops/{DROP}/serving", f"/v1/tickets/{DROP}.t{'A' * 22}"):
            answer = await service.get(path)
            assert (answer.status, answer.code) == (503, "recovering")
            assert "Retry-After" in answer.headers
        assert (await Buyer(service, DROP).join()).code == "recovering"
        assert (await service.get("/v1/drops/never-made")).code == "drop_not_found"
        await recover(keyed)
        await until_recovered(service)
        assert (await Buyer(service, DROP).join()).status == 201
