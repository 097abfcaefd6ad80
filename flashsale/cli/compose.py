"""Putting an API worker together: the one place that knows how its parts fit."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import structlog
import uvloop
from aiohttp import ClientSession

from admission.admitted import AdmittedLately
from admission.beacon import Beacon, FileBeacon
from admission.handoff import Handoffs
from admission.inlet import Inlet, LiveDrop
from admission.invites import InviteCodes
from admission.log import HeadSigner
from admission.receipts import ReceiptSigner, ReceiptVerifier, ReservationSigner
from admission.tokens import SigningKeySet, TokenSigner
from admission.waiting_room import WaitingRoom
from flashsale.access import AccessKeys
from flashsale.audits import Audits
from flashsale.beacons import DrandBeacon
from flashsale.clock import Clock, SystemClock
from flashsale.connections.database import Database, open_database
from flashsale.connections.store import open_store
from flashsale.drops import DropCatalog, DropStore
from flashsale.errors import ConfigurationError
from flashsale.expiry import Expiry
from flashsale.identity import read_identity_keys
from flashsale.log import configure_logging
from flashsale.metrics import Metrics
from flashsale.model import Drop
from flashsale.orders import Orders
from flashsale.payments.provider import PaymentProvider
from flashsale.payments.registry import Payments
from flashsale.payments.standard import STANDARD_PROVIDER, StandardWebhooks, secret_of
from flashsale.payments.stripe import STRIPE_PROVIDER, StripeWebhooks
from flashsale.payments.test import TEST_PROVIDER
from flashsale.recorded import recorded_drops
from flashsale.refunds import Refunds
from flashsale.reservations import Reservations
from flashsale.resources import resource_dir
from flashsale.scripts import Scripts, read_scripts
from flashsale.settings import BeaconSettings, Settings
from flashsale.stock import StockLedger
from flashsale.web.app import listen, serving
from flashsale.web.console_session import ConsoleSessions
from flashsale.web.cors import CrossOrigin
from flashsale.web.entrance import Entrance
from flashsale.web.request_ids import RequestIds
from flashsale.web.services import Services
from flashsale.web.serving import ServingDocuments

FIRST_LOOK_S = 2.0
"""a worker that has not seen the store after this long serves all the same, and says so in /readyz"""

ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000


@asynccontextmanager
async def build_services(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Services]:
    """A worker's services with their background loops, which run while the context lasts.

    Succeeds while either store is away: what needs it answers 503 until it is back.

    Raises:
        ConfigurationError: a setting is not valid, or the signing keys cannot be read.
    """
    clock = SystemClock() if clock is None else clock
    keys = read_signing_keys(settings.tokens.signing_keys_file)
    async with AsyncExitStack() as opened:
        store = open_store(settings.store)
        opened.push_async_callback(store.aclose)
        database = await open_database(settings.postgres)
        opened.push_async_callback(database.close)
        metrics = Metrics()
        scripts = Scripts(store, read_scripts(resource_dir("lua")), settings.store, settings.batch, _circuit_watch(metrics))
        services = _services(
            settings, clock, keys, scripts, database, Orders(database, store), metrics, await _beacons(settings.beacon, opened)
        )
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(services.inlet.run(), name="inlet"),
                group.create_task(services.orders.run(), name="orders"),
                group.create_task(services.access.run(), name="access"),
            ]
            try:
                yield services
            finally:
                for loop in loops:
                    loop.cancel()


async def _beacons(settings: BeaconSettings, opened: AsyncExitStack) -> dict[str, Beacon]:
    """Where draws get randomness from outside, by kind."""
    beacons: dict[str, Beacon] = {}
    if settings.drand_url:
        client = await opened.enter_async_context(ClientSession())
        beacons["drand"] = DrandBeacon(client, settings.drand_url)
    if settings.file:
        beacons["file"] = FileBeacon(Path(settings.file))
    return beacons


def _circuit_watch(metrics: Metrics) -> Callable[[bool], None]:
    log = structlog.get_logger("store")

    def changed(is_open: bool) -> None:
        metrics.store_circuit_changed(is_open)
        if is_open:
            log.warning("store_circuit_opened", meaning="The store does not answer; calls are refused until it does.")
        else:
            log.info("store_circuit_closed")

    return changed


def _services(
    settings: Settings,
    clock: Clock,
    keys: SigningKeySet,
    scripts: Scripts,
    database: Database,
    orders: Orders,
    metrics: Metrics,
    beacons: Mapping[str, Beacon],
) -> Services:
    drop_store = DropStore(scripts, settings)
    reservations = Reservations(scripts, ReservationSigner(keys).sign)
    expiry = Expiry(drop_store, reservations.expire, clock=clock)
    tokens = TokenSigner(keys, issuer=settings.tokens.issuer, audience=settings.tokens.audience)
    handoffs = Handoffs(keys)
    identity = settings.identity
    identities = read_identity_keys(identity.keys_file, issuer=identity.issuer, audience=identity.audience)
    documents = ServingDocuments(CrossOrigin(settings.http.cors_origins), RequestIds(), metrics)

    admitted = AdmittedLately()
    access = AccessKeys(database, clock)

    def seen(live: LiveDrop) -> None:
        documents.see(live)
        admitted.see(live.snapshot)
        if not live.recovering:  # then it is an old picture
            expiry.watch(live.snapshot)

    async def recorded() -> dict[str, Drop]:
        return {drop_id: one.drop for drop_id, one in (await recorded_drops(database)).items()}

    async def store_answers() -> None:
        await drop_store.ids()

    async def postgres_answers() -> None:
        async with database.acquire() as session:
            await session.connection.execute("SELECT 1")

    return Services(
        settings=settings,
        clock=clock,
        inlet=Inlet(drop_store, settings.waiting_room, expiry.end_overdue, seen, recorded, beacons),
        documents=documents,
        waiting_room=WaitingRoom(scripts, tokens, ReceiptSigner(keys)),
        reservations=reservations,
        drop_store=drop_store,
        catalog=DropCatalog(database, drop_store),
        store_calls=scripts.calls,
        heads=HeadSigner(keys),
        stock=StockLedger(database, drop_store),
        audits=Audits(database),
        orders=orders,
        access=access,
        console_sessions=ConsoleSessions(keys, access, clock),
        payments=_payments(settings, clock, keys),
        refunds=Refunds(database),
        tokens=tokens,
        receipts=ReceiptVerifier.of(keys),
        entrance=Entrance(identities, InviteCodes(keys), handoffs),
        handoffs=handoffs,
        admitted=admitted,
        jwks=msgspec.json.encode(keys.jwks()),
        metrics=metrics,
        checks={"store": store_answers, "postgres": postgres_answers},
    )


def _payments(settings: Settings, clock: Clock, keys: SigningKeySet) -> Payments:
    providers: dict[str, PaymentProvider] = {}
    tolerance_ms = settings.payments.webhook_tolerance_ms
    if settings.payments.webhook_secret:
        providers[STANDARD_PROVIDER] = StandardWebhooks(settings.payments.webhook_secret, tolerance_ms=tolerance_ms, clock=clock)
    if settings.payments.stripe_webhook_secret:
        providers[STRIPE_PROVIDER] = StripeWebhooks(settings.payments.stripe_webhook_secret, tolerance_ms=tolerance_ms, clock=clock)
    if not settings.payments.test_provider:
        return Payments(providers)
    # Any worker may get the webhook another one sent, so all make the same secret of what all have.
    secret = secret_of(keys.active("receipt").d.encode())
    test_provider = StandardWebhooks(secret, tolerance_ms=tolerance_ms, clock=clock)
    return Payments({**providers, TEST_PROVIDER: test_provider}, test_provider)


def read_signing_keys(path: str) -> SigningKeySet:
    """The signing keys in the file `path`.

    Raises:
        ConfigurationError: there is no such file, others may read it, or it is not a set of signing keys.
    """
    if not path:
        raise ConfigurationError(
            what="No signing keys are set.",
            todo="Make some with 'flashsale signing-key', and name the file in tokens.signing_keys_file.",
        )
    try:
        content = Path(path).read_bytes()
        _require_private(Path(path))
    except OSError as error:
        raise ConfigurationError(
            what=f"The signing keys in {path} cannot be read:",
            why=f"{error.strerror}.",
            todo=f"Make them with 'flashsale signing-key create {path}', for the account that reads them.",
        ) from None
    try:
        keys = msgspec.json.decode(content, type=SigningKeySet)
        keys.active("admission")
        keys.active("receipt")
    except (msgspec.MsgspecError, ValueError):
        # What the file holds is secret, so the parser's words are not repeated.
        raise ConfigurationError(
            what=f"{path} does not hold an active signing key for admission tokens and one for receipts.",
            todo="Restore it from a copy, or make a new file with 'flashsale signing-key create'.",
        ) from None
    return keys


def _require_private(path: Path) -> None:
    """Only the owner may read the keys, or its group too where we could not change that: a file of somebody else's, or on a
    read-only mount, as Kubernetes gives secrets to a group (`fsGroup`, mode 0440).

    Raises:
        ConfigurationError: others may read or change them.
        OSError: there is no such file.
    """
    status = path.stat()
    given = status.st_uid != os.geteuid() or bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_IRWXO | (stat.S_IWGRP | stat.S_IXGRP if given else stat.S_IRWXG)):
        raise ConfigurationError(
            what=f"The signing keys in {path} may be read by others (mode {mode:04o}).",
            todo=f"Run: chmod 600 {path}. Of a Kubernetes secret: fsGroup of the pod, and defaultMode 0440 of the volume.",
        )


def run_worker(settings: Settings) -> None:
    """Runs one API worker until SIGTERM or SIGINT, then finishes what is in flight.

    Raises:
        ConfigurationError: see `build_services`.
        OSError: the address to listen on cannot be had.
    """
    configure_logging(settings.log)
    _collect_rarely()
    uvloop.run(_worker(settings))


def _collect_rarely() -> None:
    """Keeps the cycle collector from looking at everything all the time.

    Hundreds of requests in flight are tens of thousands of objects that are freed without it; looked at every 700
    allocations, they cost a tenth to a fifth of a join ('flashsale bench --only join' with and without).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS, 20, 100)


async def _worker(settings: Settings) -> None:
    log = structlog.get_logger("worker")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with build_services(settings) as services:
        if not await _first_look(services.inlet, stop):
            return
        async with serving(services, listen(settings.http.host, settings.http.port)) as port:
            log.info("worker_ready", host=settings.http.host, port=port)
            await stop.wait()
            log.info("worker_stopping")
    log.info("worker_stopped")


async def _first_look(inlet: Inlet, stop: asyncio.Event) -> bool:
    """Gives the inlet a moment to learn the drops, so that the first requests find them; False when asked to stop."""
    waiting = [asyncio.ensure_future(inlet.ready.wait()), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waiting, timeout=FIRST_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in waiting:
            future.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return not stop.is_set()
