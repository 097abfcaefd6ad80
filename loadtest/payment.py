"""Paying, as the shop's backend and its payment provider do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadtest.asking import Asker
from loadtest.client import Answer


class Payments:
    """Pays for reservations. The money is made up, the requests are not."""

    def __init__(self, storefront_key: str) -> None:
        """`storefront_key` may confirm reservations; empty when there is none."""
        self._key = storefront_key

    @property
    def can_confirm(self) -> bool:
        """Whether there is a key to confirm with."""
        return bool(self._key)

    async def confirm(self, asker: Asker, reservation: Mapping[str, Any]) -> Answer:
        """The shop's backend tells the service that a reservation is paid."""
        reservation_id = reservation["id"]
        return await asker.ask(
            "confirm",
            "POST",
            f"/v1/reservations/{reservation_id}/confirm",
            headers={"Authorization": f"Bearer {self._key}", "Idempotency-Key": f"confirm-{reservation_id}"},
            body={"payment_reference": payment_reference(reservation_id), "amount_minor": reservation["amount_minor"]},
        )

    async def pay_by_webhook(self, asker: Asker, reservation: Mapping[str, Any]) -> Answer:
        """The test provider tells the service that a reservation is paid."""
        reservation_id = reservation["id"]
        return await asker.ask(
            "webhook",
            "POST",
            "/v1/payments/webhook/test",
            body={
                "reservation_id": reservation_id,
                "payment_reference": payment_reference(reservation_id),
                "amount_minor": reservation["amount_minor"],
            },
        )


def payment_reference(reservation_id: str) -> str:
    """One payment for one reservation, however often it is reported."""
    return f"pay-{reservation_id}"
