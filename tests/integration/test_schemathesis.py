"""Schemathesis plays the description against a running worker with real stores: nothing undocumented, no 5xx."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from flashsale.access import Scope, create_key
from flashsale.connections.database import Database
from flashsale.settings import Settings
from tests.integration.http_client import Buyer, Service, in_own_task, make_drop, with_settings, with_signing_keys

SEED = 20260
EXAMPLES_MAX = 12
# Whether a request is taken depends on the drop, the line and the stock and not on its form alone; and addresses refused
# by another check first are no defect. What is left is what must hold for every answer.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
CONFIGURATION = """
[parameters]
"path.drop" = "{drop}"

[[operations]]
include-operation-id = "ticket"
parameters = {{ "path.ticket_id" = "{ticket}" }}

[[operations]]
include-operation-id = ["reservation", "extend", "confirm", "order", "refund"]
parameters = {{ "path.id" = "{reservation}" }}

[[operations]]
include-operation-id = "reserve"
headers = {{ Authorization = "Bearer {token}" }}

[[operations]]
include-operation-id = ["orders", "order", "confirm", "refund"]
headers = {{ Authorization = "Bearer {key}" }}

# Not the live stream: it does not end.
[[operations]]
include-operation-id = ["merchant_drops", "merchant_drop", "merchant_drop_create", "report", "orders_csv", "audit"]
headers = {{ Authorization = "Bearer {merchant_key}" }}
"""


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    settings = with_settings(
        with_signing_keys(settings, tmp_path),
        confirm={"deadline_ms": 20},
        payments={"test_provider": True, "webhook_secret": "whsec_" + "c2NoZW1hdGhlc2lz" * 3},
    )
    async with in_own_task(settings, database) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("aimed", [True, False], ids=["at what exists", "at anything"])
async def test_every_answer_is_described(service: Service, tmp_path: Path, aimed: bool) -> None:  # noqa: FBT001
    drop = await service.open_drop(make_drop(limit_per_shopper=1000, extension_ms=60_000))
    buyer = Buyer(service, drop.drop_id)
    await buyer.enter()
    reservation = await buyer.reserve()
    configuration = tmp_path / "schemathesis.toml"
    values = {
        "drop": drop.drop_id,
        "ticket": buyer.ticket_id,
        "reservation": reservation.json["reservation_id"],
        "token": buyer.token,
        "key": service.api_key,
        "merchant_key": (await create_key(service.database, [Scope.MERCHANT]))[1],
    }
    configuration.write_text(CONFIGURATION.format(**values) if aimed else "")

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "--no-color"),
        *("run", f"{service.url}/openapi.json", "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--seed", str(SEED), "--max-examples", str(EXAMPLES_MAX), "--no-shrink", "--generation-database", "none"),
        *("--continue-on-failure", "--warnings", "off", "--request-timeout", "10"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-20_000:]

    # And whatever it tried, no unit was lost or made.
    for stock in (await service.services.drop_store.inspect(drop.drop_id)).skus.values():
        assert stock.allotment == stock.available + stock.reserved + stock.sold
    assert msgspec.json.decode((await service.get("/readyz")).body)["status"] == "ready"
