"""The application: which route is answered by what, and how it is served."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web
from aiohttp.http import HttpVersion11

from flashsale.resources import resource_dir
from flashsale.web.assets import Assets
from flashsale.web.clients import Clients
from flashsale.web.connection import Connection, Connections
from flashsale.web.console_pages import ConsolePages
from flashsale.web.console_session import SessionRoutes
from flashsale.web.directory import DropDirectory
from flashsale.web.fairness import FairnessRoutes
from flashsale.web.html import FOLDER
from flashsale.web.merchant import Merchant, OwnDrops
from flashsale.web.merchant_drops import MerchantDrops
from flashsale.web.merchant_live import LiveRoute, end_live_streams, live_streams
from flashsale.web.merchant_reports import MerchantReports
from flashsale.web.observer import Elsewhere, Observer
from flashsale.web.operations import Operations
from flashsale.web.page import Page
from flashsale.web.plain_line import PlainLine
from flashsale.web.plain_page import PlainPages
from flashsale.web.problems import Code, problem
from flashsale.web.request_ids import RequestIds
from flashsale.web.routing import Readers, Route, RouteTable
from flashsale.web.services import Services
from flashsale.web.shop.shop import FILES as SHOP_FILES
from flashsale.web.shop.shop import Shop
from flashsale.web.shopper import Shopper
from flashsale.web.steering import Steering
from flashsale.web.storefront import Storefront
from flashsale.web.test_provider import TEST_PROVIDER_PATH, TestProvider, courier
from flashsale.web.verify import Verify
from flashsale.web.waiting_page import WaitingPage

SERVICES = web.AppKey("services", Services)

LISTEN_BACKLOG = 4096
LINGER_S = 2.0
"""how long the rest of a refused body is read and thrown away"""


def routes_of(services: Services) -> list[Route]:
    """Every route there is."""
    clients = Clients(services.settings.http, services.clock)
    directory = DropDirectory(services.inlet, services.drop_store, services.clock)
    shopper = Shopper(services, directory, clients)
    storefront = Storefront(services, directory, clients)
    test_provider = TestProvider(services, directory, clients)
    own = OwnDrops(services, directory, clients)
    merchant, steering = Merchant(services, own), Steering(services, own)
    merchant_drops, merchant_reports, live = MerchantDrops(services, own), MerchantReports(services, own), LiveRoute(own)
    session = SessionRoutes(services, clients)
    operations = Operations(services)
    fairness = FairnessRoutes(services, directory)
    assets = Assets((resource_dir("widget"), resource_dir("web")), (FOLDER,), (SHOP_FILES,))
    plain = PlainPages(assets)
    page = Page(services, assets)
    waiting_page = WaitingPage(services, directory, assets, plain)
    plain_line = PlainLine(services, directory, clients, plain)
    return [
        Route("GET", "/v1/drops/{drop}", shopper.drop, "drop"),
        Route("GET", "/v1/drops/{drop}/serving", shopper.serving, "serving", hot=True),
        Route("GET", "/v1/drops/{drop}/fairness", fairness.document, "fairness"),
        Route("GET", "/v1/drops/{drop}/fairness/proofs/{entry_number}", fairness.proof, "proof"),
        Route("POST", "/v1/drops/{drop}/tickets", shopper.join, "join", hot=True),
        Route("POST", "/v1/drops/{drop}/admissions", shopper.admit, "admission", hot=True),
        Route("POST", "/v1/drops/{drop}/reservations", shopper.reserve, "reserve", hot=True),
        Route("GET", "/v1/tickets/{ticket_id}", shopper.ticket, "ticket", hot=True),
        Route("DELETE", "/v1/tickets/{ticket_id}", shopper.leave, "leave"),
        Route("POST", "/v1/tickets/{ticket_id}/handoff", shopper.hand_over, "handoff"),
        Route("GET", "/v1/reservations/{id}", shopper.reservation, "reservation", hot=True),
        Route("DELETE", "/v1/reservations/{id}", shopper.release, "release"),
        Route("POST", "/v1/reservations/{id}/extend", shopper.extend, "extend"),
        Route("POST", "/v1/reservations/{id}/restore", shopper.restore, "restore"),
        Route("POST", "/v1/reservations/{id}/confirm", storefront.confirm, "confirm"),
        Route("POST", "/v1/payments/webhook/{provider}", storefront.webhook, "webhook"),
        Route("GET", "/v1/orders", storefront.orders, "orders"),
        Route("GET", "/v1/orders/{id}", storefront.order, "order"),
        Route("POST", "/v1/orders/{id}/refunds", storefront.refund, "refund"),
        Route("POST", TEST_PROVIDER_PATH, test_provider.pay, "test_payment"),
        Route("GET", "/v1/verify", Verify(services).verify, "verify", hot=True),
        Route("GET", "/v1/merchant/drops", merchant_drops.list, "merchant_drops"),
        Route("POST", "/v1/merchant/drops", merchant_drops.create, "merchant_drop_create"),
        Route("GET", "/v1/merchant/drops/{drop}", merchant_drops.show, "merchant_drop"),
        Route("GET", "/v1/merchant/drops/{drop}/live", live.watch, "live"),
        Route("POST", "/v1/merchant/drops/{drop}/close", merchant_drops.close, "close"),
        Route("GET", "/v1/merchant/drops/{drop}/report", merchant_reports.report, "report"),
        Route("GET", "/v1/merchant/drops/{drop}/orders.csv", merchant_reports.orders, "orders_csv"),
        Route("POST", "/v1/merchant/drops/{drop}/stock", merchant.stock, "stock"),
        Route("GET", "/v1/merchant/drops/{drop}/audit", merchant.audit, "audit"),
        Route("POST", "/v1/merchant/drops/{drop}/pause", steering.pause, "pause"),
        Route("POST", "/v1/merchant/drops/{drop}/resume", steering.resume, "resume"),
        Route("POST", "/v1/merchant/drops/{drop}/rate", steering.rate, "rate"),
        Route("POST", "/v1/merchant/drops/{drop}/capacity", steering.capacity, "capacity"),
        Route("POST", "/v1/merchant/drops/{drop}/message", steering.message, "message"),
        Route("POST", "/v1/merchant/drops/{drop}/joining", steering.joining, "joining"),
        Route("POST", "/v1/merchant/drops/{drop}/signal", steering.signal, "signal"),
        Route("POST", "/v1/merchant/drops/{drop}/tickets/{ticket_id}/remove", steering.remove, "remove"),
        *ConsolePages().routes(),
        Route("POST", "/console/session", session.sign_in, "sign_in", readers=Readers.NOBODY),
        Route("GET", "/console/session", session.show, "session", readers=Readers.NOBODY),
        Route("DELETE", "/console/session", session.sign_out, "sign_out", readers=Readers.NOBODY),
        Route("GET", "/healthz", operations.alive, "healthz"),
        Route("GET", "/readyz", operations.ready, "readyz"),
        Route("GET", "/metrics", operations.metrics, "metrics"),
        Route("GET", "/.well-known/jwks.json", operations.keys, "jwks"),
        Route("GET", "/openapi.json", operations.description, "openapi"),
        Route("GET", "/", page.drops, "page_drops", readers=Readers.NOBODY),
        Route("GET", "/drops/{drop}", waiting_page.show, "page_drop", readers=Readers.NOBODY),
        Route("GET", "/drops/{drop}/line", plain_line.show, "page_line", readers=Readers.NOBODY),
        Route("POST", "/drops/{drop}/line", plain_line.act, "page_line_step", readers=Readers.NOBODY),
        Route("GET", "/verify-draw", page.verify_draw, "page_verify_draw", readers=Readers.NOBODY),
        *assets.routes(),
        *Shop(services, directory, assets).routes(),
    ]


def create_app(services: Services, request_ids: RequestIds | None = None) -> web.Application:
    """The application over `services`."""
    settings = services.settings
    cross_origins = services.documents.cross_origins
    observer = Observer(cross_origins, request_ids or RequestIds(), services.metrics, settings.log.sample_ok)
    elsewhere = observer.around(Route("*", "*", Elsewhere(cross_origins).answer, "none"))
    app = web.Application(client_max_size=settings.http.body_max_bytes)
    app[SERVICES] = services
    app.router.register_resource(RouteTable(routes_of(services), observer.around, elsewhere, _expect))
    app.cleanup_ctx.append(partial(live_streams, services=services))
    app.on_shutdown.append(end_live_streams)
    app.cleanup_ctx.append(partial(courier, signer=services.payments.test_provider))
    return app


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Meets `Expect: 100-continue`; any other expectation is refused (RFC 9110, 10.1.1)."""
    if request.headers["Expect"].lower() != "100-continue":
        return problem(Code.EXPECTATION_FAILED)
    if request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is not part of the answer
    return None


@asynccontextmanager
async def serving(services: Services, listener: socket.socket) -> AsyncIterator[int]:
    """Serves on `listener` while the context lasts; yields the port.

    Afterwards no connection is accepted any more, and requests in flight have `http.shutdown_grace_ms` to finish.
    """
    settings = services.settings.http
    request_ids = services.documents.request_ids
    runner = web.AppRunner(
        create_app(services, request_ids),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=settings.shutdown_grace_ms / 1000,
    )
    await runner.setup()
    assert runner.server is not None
    shared = Connections(
        services.documents,
        request_ids,
        services.metrics,
        connections_max=settings.connections_max,
        head_timeout_s=settings.head_timeout_ms / 1000,
    )
    loop = asyncio.get_running_loop()
    connect = partial(
        Connection,
        runner.server,
        shared,
        loop=loop,
        access_log=None,
        keepalive_timeout=settings.keepalive_ms / 1000,
        lingering_time=LINGER_S,
        auto_decompress=False,
    )
    try:
        server = await loop.create_server(connect, sock=listener, backlog=LISTEN_BACKLOG)
        try:
            yield listener.getsockname()[1]
        finally:
            server.close()
    finally:
        await runner.cleanup()


def listen(host: str, port: int) -> socket.socket:
    """A socket of this worker's own on a port that all workers share (SO_REUSEPORT); the kernel spreads connections.

    Raises:
        OSError: the address cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
