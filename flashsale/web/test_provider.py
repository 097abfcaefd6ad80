"""The local test provider's checkout: pays at once, or misbehaves as it is told. Only where it is switched on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, web
from msgspec import Struct

from flashsale.errors import Busy
from flashsale.model import Reservation
from flashsale.payments.standard import StandardWebhooks
from flashsale.payments.test import TEST_PROVIDER, Delivery, deliveries_of, reference_of
from flashsale.web.answers import PERSONAL
from flashsale.web.clients import Clients
from flashsale.web.directory import DropDirectory
from flashsale.web.problems import Code, ProblemError, problem
from flashsale.web.requests import TestPaymentBody, read_json
from flashsale.web.services import Services

TEST_PROVIDER_PATH = "/v1/test-provider/payments"
WEBHOOK_TIMEOUT_S = 5.0
LATE_MAX = 1000
"""payments whose money is still to come; they end with the process"""

_body = msgspec.json.Decoder(TestPaymentBody)
_encode = msgspec.json.Encoder().encode


class TestPaymentView(Struct, frozen=True):
    """What the test provider did."""

    __test__ = False

    payment_reference: str
    amount_minor: int
    webhook_status: int
    """the service's answer to the provider's webhook, the first one that was no success; 0 when it could not be reached or is
    still to be sent"""


class Courier:
    """Delivers the test provider's events over HTTP, as a provider would; some of them later."""

    def __init__(self, client: ClientSession, signer: StandardWebhooks) -> None:
        self._client = client
        self._signer = signer
        self._late: set[asyncio.Task[int]] = set()

    async def send(self, url: str, deliveries: list[Delivery]) -> int:
        """Send one after the other; the first status that was no success, or the first of all."""
        statuses = [await self._deliver(url, delivery) for delivery in deliveries]
        return next((status for status in statuses if not 200 <= status < 300), statuses[0])

    def send_later(self, after_ms: int, url: str, deliveries: list[Delivery]) -> None:
        """Send in a while.

        Raises:
            Busy: too much is to be sent later already.
        """
        if len(self._late) >= LATE_MAX:
            raise Busy(what="The test provider has promised too many payments.", todo="Wait until some have been made.")

        async def send() -> int:
            await asyncio.sleep(after_ms / 1000)
            return await self.send(url, deliveries)

        late = asyncio.create_task(send())
        self._late.add(late)
        late.add_done_callback(self._late.discard)

    async def forget(self) -> None:
        """What was to be sent later is not sent any more."""
        late = list(self._late)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _deliver(self, url: str, delivery: Delivery) -> int:
        headers = self._signer.headers(delivery.event_id, delivery.body)
        try:
            async with self._client.post(url, data=delivery.body, headers=headers) as answer:
                return answer.status
        except (ClientError, TimeoutError):
            return 0


COURIER = web.AppKey("courier", Courier)


async def courier(app: web.Application, signer: StandardWebhooks | None) -> AsyncIterator[None]:
    """The courier in `app[COURIER]` for as long as the application runs; none without a signer."""
    if signer is None:
        yield
        return
    async with ClientSession(timeout=ClientTimeout(total=WEBHOOK_TIMEOUT_S)) as client:
        app[COURIER] = Courier(client, signer)
        yield
        await app[COURIER].forget()


class TestProvider:
    """Handler of its one route."""

    __test__ = False

    def __init__(self, services: Services, directory: DropDirectory, clients: Clients) -> None:
        self._services = services
        self._directory = directory
        self._clients = clients
        self._body_timeout_s = services.settings.http.body_timeout_ms / 1000

    async def pay(self, request: web.Request) -> web.Response:
        """POST /v1/test-provider/payments: plays a shopper who pays, and a provider that tells of it."""
        if self._services.payments.test_provider is None:
            return problem(Code.NOT_FOUND)
        wait_s = self._clients.take(request)
        if wait_s:
            raise ProblemError(problem(Code.RATE_LIMITED, retry_after_s=wait_s))
        body = await read_json(request, _body, self._body_timeout_s)
        reservation = await self._find(body.reservation_id)
        behaviour = body.behaviour
        deliveries = deliveries_of(body.reservation_id, reservation.amount_minor, behaviour)
        reference = reference_of(body.reservation_id, refund_timeouts=behaviour.refund_timeouts)
        await asyncio.sleep(behaviour.delay_ms / 1000)
        if behaviour.pay_after_ms:
            request.app[COURIER].send_later(behaviour.pay_after_ms, _webhook_url(request), deliveries)
            status, webhook_status = 202, 0
        else:
            status, webhook_status = 201, await request.app[COURIER].send(_webhook_url(request), deliveries)
        view = TestPaymentView(reference, reservation.amount_minor, webhook_status)
        return web.Response(status=status, body=_encode(view), headers=PERSONAL)

    async def _find(self, reservation_id: str) -> Reservation:
        """Raises ProblemError when there is none."""
        live = await self._directory.of_reservation(reservation_id)
        inspection = await self._services.drop_store.inspect(live.definition.drop_id, reservations=(reservation_id,))
        found = inspection.reservations[0]
        if found is None:
            raise ProblemError(problem(Code.RESERVATION_NOT_FOUND))
        return found


def _webhook_url(request: web.Request) -> str:
    """The webhook at the address the caller reached us at."""
    assert request.transport is not None
    host, port = request.transport.get_extra_info("sockname")[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1/payments/webhook/{TEST_PROVIDER}"
