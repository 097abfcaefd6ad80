"""Paying, as the shop's backend and its payment provider do it. The money is made up, the requests are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadtest.asking import PAUSE_MAX_S, Asker, code_of
from loadtest.diary import Diary
from loadtest.history import Call, Kind

RECORDING = 202
NOT_FOUND = 404
PENDING = "pending"
"""state of an order whose payment is not recorded"""
CONFIRMED = frozenset({200, RECORDING})
LOOKS_MAX = 3
LOOK_AFTER_S = 1.0
DELIVERIES_MAX = 20
_UNREACHED = 0


def confirm_request(storefront_key: str, reservation: Mapping[str, Any], payment: str = "pay") -> dict[str, Any]:
    """Path, headers and body with which the shop's backend says that a reservation is paid.

    One payment of that name for one reservation, however often it is reported.
    """
    reservation_id = reservation["reservation_id"]
    reference = f"{payment}-{reservation_id.rpartition('.')[2]}"
    return {
        "path": f"/v1/reservations/{reservation_id}/confirm",
        "headers": {"Authorization": f"Bearer {storefront_key}", "Idempotency-Key": f"confirm-{reference}"},
        "body": {"payment_reference": reference, "amount_minor": reservation["amount_minor"]},
    }


def test_payment_request(reservation: Mapping[str, Any]) -> dict[str, Any]:
    """Path and body with which a shopper pays at the local test provider, which then sends its webhook."""
    return {"path": "/v1/test-provider/payments", "body": {"reservation_id": reservation["reservation_id"]}}


def _confirming(reservation: Mapping[str, Any], request: Mapping[str, Any]) -> Call:
    reservation_id, body = str(reservation["reservation_id"]), request["body"]
    return Call(
        Kind.CONFIRM,
        drop=reservation_id.rpartition(".")[0],
        key=request["headers"]["Idempotency-Key"],
        reservation_id=reservation_id,
        amount_minor=body["amount_minor"],
        payment_reference=body["payment_reference"],
    )


def _paying(reservation: Mapping[str, Any]) -> Call:
    """The provider makes the payment's reference and knows the amount; both come with the answer."""
    reservation_id = str(reservation["reservation_id"])
    return Call(Kind.WEBHOOK, drop=reservation_id.rpartition(".")[0], reservation_id=reservation_id)


@dataclass(frozen=True, slots=True)
class Paid:
    """What a payment came to."""

    acknowledged: bool
    status: int
    code: str = ""

    @property
    def unknown(self) -> bool:
        """The service knows nothing of the reservation: it has lost it."""
        return self.status == NOT_FOUND


class Payments:
    """Pays for reservations."""

    def __init__(self, asker: Asker, diary: Diary, storefront_key: str) -> None:
        """`storefront_key` may confirm reservations; empty when there is none."""
        self._asker = asker
        self._diary = diary
        self._key = storefront_key

    @property
    def can_confirm(self) -> bool:
        """Whether there is a key to confirm with."""
        return bool(self._key)

    async def confirm(self, reservation: Mapping[str, Any]) -> Paid:
        """The shop's backend confirms. Raises TimeUp."""
        request = confirm_request(self._key, reservation)
        call = _confirming(reservation, request)
        answer = await self._asker.ask("confirm", "POST", **request, call=call)
        if answer.status == RECORDING and not await self._look_for_order(str(reservation["reservation_id"])):
            # A promise is lost with the store that made it; confirming again is harmless.
            answer = await self._asker.ask("confirm", "POST", **request, call=call)
        acknowledged = answer.status in CONFIRMED
        return Paid(acknowledged, answer.status, "" if acknowledged else code_of(answer))

    async def again(self, reservation: Mapping[str, Any]) -> None:
        """A second payment of a paid reservation, which must be refused. Raises TimeUp."""
        request = confirm_request(self._key, reservation, "again")
        answer = await self._asker.ask("confirm_again", "POST", **request, call=_confirming(reservation, request))
        if answer.status in CONFIRMED:
            self._diary.promise_broken(f"a second payment was answered {answer.status}")

    async def take_back(self, reservation: Mapping[str, Any]) -> None:
        """The shop takes a paid order back. Raises TimeUp."""
        reservation_id = str(reservation["reservation_id"])
        key = f"take-back-{reservation_id.rpartition('.')[2]}"
        await self._asker.ask(
            "refund",
            "POST",
            f"/v1/orders/{reservation_id}/refunds",
            headers={"Authorization": f"Bearer {self._key}", "Idempotency-Key": key},
            body={},
            call=Call(Kind.CANCEL_ORDER, drop=reservation_id.rpartition(".")[0], key=key, reservation_id=reservation_id),
        )

    async def _look_for_order(self, reservation_id: str) -> bool:
        """The shop's backend looks a few times for the order it was promised; whether it is paid. Raises TimeUp."""
        call = Call(Kind.READ_ORDER, drop=reservation_id.rpartition(".")[0], reservation_id=reservation_id)
        for _ in range(LOOKS_MAX):
            await self._asker.rest(LOOK_AFTER_S)
            answer = await self._asker.ask(
                "order", "GET", f"/v1/orders/{reservation_id}", headers={"Authorization": f"Bearer {self._key}"}, call=call
            )
            if answer.status != RECORDING:
                return answer.status == 200 and answer.json().get("state") != PENDING
        return False

    async def by_webhook(self, reservation: Mapping[str, Any]) -> Paid:
        """The test provider is paid and tells the service, again and again until that is answered, as providers do.

        Raises TimeUp.
        """
        status = _UNREACHED
        for _ in range(DELIVERIES_MAX):
            answer = await self._asker.ask("test_payment", "POST", **test_payment_request(reservation), call=_paying(reservation))
            if answer.status != 201:
                return Paid(acknowledged=False, status=answer.status, code=code_of(answer))
            status = int(answer.json()["webhook_status"])
            if status != _UNREACHED and status < 500:
                break
            self._diary.lost["webhook"] += 1
            await self._asker.rest(PAUSE_MAX_S)
        return Paid(status == 200, status, "" if status == 200 else "webhook")
