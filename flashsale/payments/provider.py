"""What every payment provider has in common, whatever it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol, TypeAlias

import msgspec
from msgspec import Meta

from flashsale.errors import BadInput, FlashsaleError
from flashsale.model import PAYMENT_REFERENCE_LENGTH_MAX

EVENT_ID_LENGTH_MAX = 256

Reference: TypeAlias = Annotated[str, Meta(pattern=rf"^[\x21-\x7e]{{1,{PAYMENT_REFERENCE_LENGTH_MAX}}}\Z")]
"""What a provider calls a payment."""
ReservationName: TypeAlias = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,128}\Z")]
"""What a provider says is paid for; not necessarily a reservation of ours."""
AmountMinor: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Currency: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z]{3}\Z")]


class WebhookRefused(FlashsaleError):
    """The request is not a genuine event of the provider."""

    code = "unauthorized"


class ProviderUnknown(FlashsaleError):
    """No payment provider of that name is set up."""

    code = "not_found"


class ProviderUnreachable(FlashsaleError):
    """The provider gave no answer that can be relied on: what was asked may or may not have happened."""

    code = "provider_unreachable"


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """Money was received for a reservation."""

    event_id: str
    reservation_id: str
    payment_reference: str
    amount_minor: int
    currency: str = ""
    """ISO 4217; empty when the provider does not say"""


@dataclass(frozen=True, slots=True)
class RefundEvent:
    """Money went back."""

    event_id: str
    payment_reference: str
    amount_minor: int
    """of all of the payment that went back so far"""
    refund_id: str = ""
    """ours, when the provider repeats it"""
    provider_refund_id: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A genuine event that concerns nobody here."""

    event_id: str


Event: TypeAlias = PaymentEvent | RefundEvent | Ignored


class PaymentProvider(Protocol):
    """One way in for payments."""

    def verify_webhook(self, headers: Mapping[str, str], body: bytes) -> Event:
        """What a genuine event tells. Names of `headers` are in lower case.

        Raises:
            WebhookRefused: the event is not genuine, or too old.
            BadInput: it is genuine and malformed.
        """
        ...


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """A payment that is to go back."""

    refund_id: str
    """always the same for the same payment: the idempotency key"""
    reservation_id: str
    payment_reference: str
    amount_minor: int
    currency: str
    reason: str
    attempt: int
    """from 1; after the first, an earlier one may have had its effect unseen"""
    generation: int = 0
    """how often a person sent it on after the provider had refused: what was refused in an earlier one decides nothing now"""


class RefundState(StrEnum):
    """How far a refund is."""

    DONE = "done"
    PENDING = "pending"
    """taken, and not finished: ask again, or wait for the provider's event"""
    REFUSED = "refused"
    """it will never happen; a person has to look"""


@dataclass(frozen=True, slots=True)
class RefundAnswer:
    """What a provider says of a refund."""

    state: RefundState
    provider_refund_id: str = ""
    code: str = ""
    """the provider's word for why it was refused"""


class RefundProvider(Protocol):
    """One way to give money back."""

    @property
    def name(self) -> str:
        """As in the address of its webhook."""
        ...

    def owns(self, payment_reference: str) -> bool:
        """Whether a payment was made there, by the look of its reference."""
        ...

    async def find_refund(self, order: RefundOrder) -> RefundAnswer | None:
        """What became of an earlier request, None when the provider knows of none or asking again is how to find out.

        Raises:
            ProviderUnreachable: it is not known.
        """
        ...

    async def refund(self, order: RefundOrder) -> RefundAnswer:
        """Ask for the money to go back. Repeated with the same `refund_id` it goes back once.

        Raises:
            ProviderUnreachable: the outcome is not known.
        """
        ...


def decoded(body: bytes, kind: type[Any]) -> Any:
    """`body` as `kind`.

    Raises:
        BadInput: it is not JSON of that form.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(what="The event cannot be read:", why=f"{error}.", field="body") from None
