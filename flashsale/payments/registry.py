"""The providers that are set up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flashsale.payments.provider import PaymentProvider, ProviderUnknown, RefundProvider
from flashsale.payments.standard import StandardWebhooks


class Payments:
    """The providers that report payments, by the name in their webhook's address."""

    def __init__(self, providers: Mapping[str, PaymentProvider], test_provider: StandardWebhooks | None = None) -> None:
        self._providers = dict(providers)
        self.test_provider = test_provider
        """signs the events of the local test provider; None when it is off"""

    def provider(self, name: str) -> PaymentProvider:
        """The provider `name`.

        Raises:
            ProviderUnknown: there is none.
        """
        try:
            return self._providers[name]
        except KeyError:
            raise ProviderUnknown(what="There is no payment provider of that name here.") from None


class RefundProviders:
    """The providers that give money back."""

    def __init__(self, providers: Sequence[RefundProvider] = ()) -> None:
        """`providers` are asked in this order whether a payment is theirs."""
        self._providers = tuple(providers)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all of them."""
        return tuple(provider.name for provider in self._providers)

    def owner(self, payment_reference: str) -> RefundProvider | None:
        """Who gives this payment back; None when nobody is set up that could."""
        return next((provider for provider in self._providers if provider.owns(payment_reference)), None)
