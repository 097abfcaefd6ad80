"""Putting together who gives payments back, as the settings say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientSession

from flashsale.clock import SystemClock
from flashsale.errors import ConfigurationError
from flashsale.payments.provider import RefundProvider
from flashsale.payments.registry import RefundProviders
from flashsale.payments.standard import StandardRefunds, StandardWebhooks
from flashsale.payments.stripe import StripeRefunds
from flashsale.payments.test import TestRefunds
from flashsale.settings import PaymentSettings


@asynccontextmanager
async def opened_refund_providers(settings: PaymentSettings) -> AsyncIterator[RefundProviders]:
    """The providers that give money back, with a client of their own for as long as the context lasts.

    Raises:
        ConfigurationError: a setting is not valid, or `refund_url` has no secret to sign with.
    """
    async with ClientSession() as client:
        yield RefundProviders(_providers(settings, client))


def _providers(settings: PaymentSettings, client: ClientSession) -> list[RefundProvider]:
    """The generic one comes last: it takes every payment that is nobody else's."""
    timeout_ms = settings.refund_timeout_ms
    found: list[RefundProvider] = []
    if settings.test_provider:
        found.append(TestRefunds(timeout_ms))
    if settings.stripe_api_key:
        found.append(StripeRefunds(client, settings.stripe_api_url, settings.stripe_api_key, timeout_ms=timeout_ms))
    if settings.refund_url:
        if not settings.webhook_secret:
            raise ConfigurationError(
                what="payments.refund_url is set and there is no secret to sign its requests with.",
                todo="Set payments.webhook_secret (FLASHSALE_PAYMENTS_WEBHOOK_SECRET_FILE).",
            )
        signer = StandardWebhooks(settings.webhook_secret, tolerance_ms=settings.webhook_tolerance_ms, clock=SystemClock())
        found.append(StandardRefunds(client, settings.refund_url, signer, timeout_ms=timeout_ms))
    return found
