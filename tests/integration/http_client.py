"""A running worker inside the test's own process and loop, and a shopper who speaks HTTP to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from admission import inlet
from admission.tokens import make_signing_keys
from flashsale.access import Scope, create_key
from flashsale.cli.compose import build_services
from flashsale.clock import SystemClock
from flashsale.connections.database import Database
from flashsale.connections.store import open_store
from flashsale.drops import DropCatalog
from flashsale.errors import DatabaseUnavailable
from flashsale.model import Drop, Sku, secret_hash_of
from flashsale.settings import Settings
from flashsale.stock import StockLedger
from flashsale.web.app import listen, serving
from flashsale.web.services import Services
from reconciler.metrics import ReconcilerMetrics
from reconciler.runner import Reconciler


def with_settings(settings: Settings, **sections: Mapping[str, Any]) -> Settings:
    """`settings` with values of some sections replaced."""
    replaced = {name: msgspec.structs.replace(getattr(settings, name), **values) for name, values in sections.items()}
    return msgspec.structs.replace(settings, **replaced)


def with_signing_keys(settings: Settings, folder: Path) -> Settings:
    """`settings` with fresh signing keys in `folder`."""
    path = folder / "signing-keys.json"
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(make_signing_keys(SystemClock().now_ms())))
    return with_settings(settings, tokens={"signing_keys_file": str(path)})


def make_drop(drop_id: str = "sneaker-x", *, opens_in_ms: int = -1000, **changes: Any) -> Drop:
    """A drop that lets everyone in at once: 100 of one SKU and 3 of another."""
    now_ms = SystemClock().now_ms()
    values: dict[str, Any] = {
        "drop_id": drop_id,
        "name": "Sneaker X",
        "currency": "EUR",
        "skus": (Sku("black-42", "Black 42", 100, 12_000, 2), Sku("white-42", "White 42", 3, 15_000, 2)),
        "joins_at_ms": now_ms - 60_000,
        "opens_at_ms": now_ms + opens_in_ms,
        "closes_at_ms": now_ms + 3_600_000,
        "rate_per_min": 600_000,
        "capacity": 10_000,
        "claim_window_ms": 30_000,
        "reservation_ttl_ms": 120_000,
        "limit_per_shopper": 3,
    }
    return Drop(**{**values, **changes})


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The problem's code; an answer that is not a problem has none."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body)
        return str(self.json["code"])


@dataclass(slots=True)
class Service:
    """A running worker and what a test needs around it."""

    services: Services
    url: str
    port: int
    client: ClientSession
    database: Database
    api_key: str = ""

    async def request(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any) -> Answer:
        async with self.client.request(method, self.url + path, headers=dict(headers or {}), **options) as answer:
            return Answer(answer.status, answer.headers.copy(), await answer.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("POST", path, json=json, **options)

    async def open_drop(self, drop: Drop) -> Drop:
        """Creates the drop and waits until this worker serves it and lets people in."""
        await DropCatalog(self.database, self.services.drop_store).create(drop)
        await self.until(lambda: self.services.inlet.get(drop.drop_id) is not None)
        return drop

    async def until(self, condition: Any) -> None:
        """Returns when `condition()` is true; looks at every beat."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the inlet announces its beats to nobody
                await asyncio.sleep(0.005)

    async def as_storefront(
        self, path: str, json: Any = None, *, method: str = "POST", key: str | None = None, idempotency_key: str | None = None
    ) -> Answer:
        headers = {
            "Authorization": f"Bearer {self.api_key if key is None else key}",
            "Idempotency-Key": idempotency_key or secrets.token_hex(8),
        }
        return await self.request(method, path, json=json, headers=headers)


@dataclass(slots=True)
class Buyer:
    """One shopper, step by step."""

    service: Service
    drop_id: str
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    ticket_id: str = ""
    token: str = ""

    async def join(self, **shown: str) -> Answer:
        body = {"secret_hash": secret_hash_of(self.secret), **shown}
        answer = await self.service.post(f"/v1/drops/{self.drop_id}/tickets", body)
        if answer.status in {200, 201}:
            self.ticket_id = answer.json["ticket_id"]
        return answer

    @property
    def proof(self) -> dict[str, str]:
        """The header that proves whose ticket it is."""
        return {"Authorization": f"Ticket {self.ticket_id}.{self.secret}"}

    async def admit(self) -> Answer:
        answer = await self.service.post(f"/v1/drops/{self.drop_id}/admissions", headers=self.proof)
        if answer.status == 200:
            self.token = answer.json["admission_token"]
        return answer

    async def enter(self) -> None:
        """Joins and is admitted."""
        assert (await self.join()).status == 201
        await self.be_admitted()

    async def be_admitted(self) -> None:
        """Asks until it is this shopper's turn."""
        async with asyncio.timeout(10):
            while (answer := await self.admit()).status != 200:
                assert answer.code == "not_yet", answer.body
                await asyncio.sleep(0.02)

    async def reserve(self, items: Mapping[str, int] | None = None, key: str = "first", token: str | None = None) -> Answer:
        body = {"items": [{"sku": sku, "quantity": quantity} for sku, quantity in (items or {"black-42": 1}).items()]}
        headers = {"Authorization": f"Bearer {self.token if token is None else token}", "Idempotency-Key": key}
        return await self.service.post(f"/v1/drops/{self.drop_id}/reservations", body, headers=headers)


@asynccontextmanager
async def running_service(settings: Settings, database: Database) -> AsyncIterator[Service]:
    """A worker on a free port, with one storefront key of the tenant `default`.

    Enter and leave it in one task: it holds task groups. New drops are looked for, and the line moves, without delay.
    """
    settings = with_settings(settings, waiting_room={"beat_ms": 50})
    with patch.object(inlet, "LOOK_AGAIN_S", 0.02):
        async with build_services(settings) as services, serving(services, listen("127.0.0.1", 0)) as port:
            await services.inlet.ready.wait()
            async with ClientSession() as client:
                service = Service(services, f"http://127.0.0.1:{port}", port, client, database)
                _, service.api_key = await create_key(database, [Scope.STOREFRONT])
                with suppress(DatabaseUnavailable):
                    await services.access.refresh()
                yield service


@asynccontextmanager
async def in_own_task(settings: Settings, database: Database) -> AsyncIterator[Service]:
    """`running_service` for fixtures, whose two halves run in different tasks."""
    started: asyncio.Future[Service] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def run() -> None:
        try:
            async with running_service(settings, database) as service:
                started.set_result(service)
                await stop.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    task = asyncio.create_task(run())
    try:
        yield await started
    finally:
        stop.set()
        await task


@asynccontextmanager
async def reconciling(settings: Settings, database: Database, services: Services) -> AsyncIterator[None]:
    """A reconciler beside the worker, so that orders get into Postgres."""
    catalog = DropCatalog(database, services.drop_store)
    reconciler = Reconciler(
        settings=with_settings(settings, reconciler={"refresh_ms": 50, "block_ms": 50}),
        database=database,
        open_journal_store=lambda: open_store(settings.store, blocks_ms=50),
        expire=services.reservations.expire,
        pause=services.drop_store.pause,
        open_in_store=catalog.open_in_store,
        complete_stock=StockLedger(database, services.drop_store).complete,
        metrics=ReconcilerMetrics(CollectorRegistry()),
    )
    stop = asyncio.Event()
    task = asyncio.create_task(reconciler.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def dump_of(store: Redis) -> dict[str, Any]:
    """Every key of the store with its serialized value: to see that a refused request changed nothing."""
    keys: list[Any] = sorted(await store.keys("*"))
    return {key.decode(): await store.dump(key) for key in keys}
