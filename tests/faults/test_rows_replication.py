"""Rows 17 to 19 and 22 to 24: stores of several servers. Each test has its own, since it changes for good who is who."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from chaos.proxy import Proxy
from chaos.topologies import SLOTS, ClusterStores, Node, SentinelStores, until
from flashsale.cli.recover import recovery_of
from flashsale.cli.rehearsal import Pace, Scenario, come_to_rest
from flashsale.cli.target import Parts
from flashsale.errors import Recovering, StoreUnavailable, StoreUnknown
from flashsale.keys import DROPS, drop_keys
from flashsale.model import Durability, Reservation
from tests.faults.stage import RowRecord
from tests.replication.buyers import PRICE_MINOR, Buyers, admitted, open_drop, selling
from tests.replication.service import REST_S, running_service

pytestmark = pytest.mark.faults

UNITS = 80
SHOPPERS = 120
EARLY = 24


@pytest.fixture
def folder(stores_folder: Path, request: pytest.FixtureRequest) -> Path:
    path = stores_folder / f"row-{abs(hash(request.node.name)) % 10**6}"
    path.mkdir()
    path.chmod(0o711)
    return path


def scenario(row: RowRecord, shoppers: int = 400) -> Scenario:
    return Scenario(shoppers=shoppers, units=UNITS, seed=row.seed, opens_in_s=2.5, deadline_s=60.0, pace=Pace(reservation_ttl_ms=4_000))


async def test_row_17_failover_to_a_replica_that_is_up_to_date(row: RowRecord, folder: Path, database_url: str) -> None:
    async with SentinelStores(folder / "s", sentinels=3) as stores, running_service(folder, stores.url, database_url) as service:
        drop = await service.create("row-17", scenario(row))

        async def fail_over() -> None:
            await service.selling(drop)
            await stores.kill_in_step()
            began_at = time.monotonic()
            await stores.next_primary()
            await service.until(drop, lambda _: True)
            row.saw(f"The service answered again {time.monotonic() - began_at:.1f} s after the kill.")

        played = await service.play(drop, scenario(row), fail_over)
        played.require_nothing_lost(UNITS)
        assert played.rest_s <= REST_S
        row.saw(f"Asked to try again: {dict(played.seen.retry_later)}. At rest {played.rest_s:.1f} s after the crowd had left.")


async def test_row_17_failover_at_any_moment_with_tier_replica(row: RowRecord, folder: Path, database_url: str) -> None:
    """The tier needs a replica, so the sale stands still until the old primary has come back as one."""
    async with SentinelStores(folder / "s") as stores, running_service(folder, stores.url, database_url) as service:
        drop = await service.create("row-17-replica", scenario(row), durability=Durability.REPLICA)

        async def fail_over() -> None:
            await service.selling(drop)
            await stores.primary.kill()
            await stores.next_primary()
            await stores.primary.start()

        played = await service.play(drop, scenario(row), fail_over)
        played.require_nothing_lost(UNITS)
        assert played.rest_s <= REST_S
        row.saw(f"Killed in the middle: nothing acknowledged was lost; asked to try again: {dict(played.seen.retry_later)}.")


@asynccontextmanager
async def behind_a_relay(folder: Path) -> AsyncIterator[tuple[SentinelStores, Proxy]]:
    """A primary and its replica, and the wire between them."""
    stores = SentinelStores(folder / "s")
    async with Proxy("replica to primary", [("127.0.0.1", stores.primary.port)]) as link:
        stores.link_port = link.port
        async with stores:
            yield stores, link


async def test_row_18_failover_to_a_replica_that_is_behind(row: RowRecord, folder: Path, database_url: str) -> None:
    async with behind_a_relay(folder) as (stores, link), running_service(folder, stores.url, database_url) as service:
        parts = service.parts
        kept = await open_to(parts, "row-18-replica", Durability.REPLICA)
        loose = await open_to(parts, "row-18-disk", Durability.DISK)
        for buyers in (kept, loose):
            await buyers.run(buyers.tickets[:EARLY])
            await buyers.pay(list(buyers.reservations)[: EARLY // 2])
        await until(stores.in_step)

        link.stall()
        await loose.run(loose.tickets[EARLY : 2 * EARLY])
        rest = asyncio.create_task(kept.run())
        await kept.troubled("unknown", EARLY)
        acknowledged = set(kept.reservations)
        await stores.primary.kill()
        await stores.next_primary()

        assert len(acknowledged) == EARLY, "an answer left although no replica had it"
        # Both have forgotten what somebody has seen, be it only unanswered, so both are closed until that is accounted for.
        for buyers in (kept, loose):
            await until(lambda buyers=buyers: fenced(stores.replica, buyers.drop_id))  # type: ignore[misc]
            with pytest.raises((Recovering, StoreUnavailable)):
                await buyers.reserve(buyers.tickets[-1])
        behind, ready_ms = await recover(parts, loose.drop_id)
        assert behind > 0, "the replica was not behind, so this proved nothing"
        await stores.primary.start()  # the Sentinels make it a replica, which tier replica needs
        await recover(parts, kept.drop_id)
        assert await kept.lost() == []

        await until(lambda: follows(stores.primary, stores.replica))
        loose.outcomes.clear()  # what was acknowledged at this tier may be gone
        for buyers in (kept, loose):
            await buyers.admit()
        await asyncio.gather(rest, loose.run())
        for buyers in (kept, loose):
            assert len(buyers.reservations) == UNITS
            await buyers.pay(buyers.reservations)
            assert (await buyers.stock()).sold == UNITS
            assert await come_to_rest(parts, buyers.drop_id) <= REST_S
            assert await paid(parts, buyers.drop_id) == UNITS
        row.saw(f"The store had forgotten {behind} changes of a drop, which was closed, and recovered in {ready_ms} ms.")


async def recover(parts: Parts, drop_id: str) -> tuple[int, int]:
    """Puts a drop together again; how many changes the store had forgotten, and how long it took in ms."""
    recovered = await recovery_of(parts).recover(drop_id)
    assert recovered is not None
    return recovered.plan.finding.changes_behind, recovered.ready_ms


async def open_to(parts: Parts, drop_id: str, durability: Durability) -> Buyers:
    """A drop of this tier, and shoppers who have been let in."""
    return await admitted(parts, (await open_drop(parts, UNITS, drop_id=drop_id, durability=durability)).drop_id, SHOPPERS)


async def fenced(node: Node, drop_id: str) -> bool:
    """Whether a drop is closed until it has been recovered."""
    return bool(await node.command("HGET", drop_keys(drop_id).drop, "fenced"))


async def paid(parts: Parts, drop_id: str) -> int:
    """Orders in Postgres that are paid for."""
    counts = {found["state"]: found["orders"] for found in await parts.database.fetch("order_counts", drop_id)}
    return int(counts.get("paid", 0))


async def test_row_19_the_old_primary_comes_back_with_clients_on_it(row: RowRecord, folder: Path, database_url: str) -> None:
    """Clients that found it through the Sentinels leave it at once; here one stays, as if it had its address from elsewhere."""
    async with (
        SentinelStores(folder / "s") as stores,
        running_service(folder, stores.url, database_url) as service,
        selling(stores.primary.url, database_url) as astray,
    ):
        buyers = await open_to(service.parts, "row-19", Durability.DISK)
        await buyers.run(buyers.tickets[:EARLY])
        lost = Buyers(astray, buyers.drop_id, buyers.tickets)
        await lost.run(buyers.tickets[:EARLY])
        await until(stores.in_step)
        stores.primary.freeze()
        await stores.next_primary()
        await until(lambda: is_read(stores.replica))
        stores.primary.thaw()

        await lost.run(buyers.tickets[EARLY:])
        there = {name: found for name, found in lost.outcomes.items() if isinstance(found, Reservation) and name not in buyers.outcomes}
        assert there, "nobody reserved on the old primary, so this proved nothing"
        for found in there.values():
            await astray.reservations.confirm(found.reservation_id, "paid-astray", PRICE_MINOR, "request")
        await buyers.run(reversed(buyers.tickets))  # the others get the units
        await buyers.pay(buyers.reservations)
        assert await come_to_rest(service.parts, buyers.drop_id) <= REST_S
        assert await paid(service.parts, buyers.drop_id) == UNITS
        references = {found["payment_reference"] for found in await orders(service.parts, buyers.drop_id)}
        assert "paid-astray" not in references

        await until(lambda: follows(stores.primary, stores.replica))
        with pytest.raises((StoreUnavailable, StoreUnknown)):
            await lost.reserve(buyers.tickets[0])
        row.saw(f"{len(there)} reservations were made and paid on the old primary; none of them became an order.")


async def orders(parts: Parts, drop_id: str) -> list[Any]:
    """All orders of a drop."""
    return list(await parts.database.fetch("orders_page", drop_id, "", 1_000))


async def is_read(node: Node) -> bool:
    """Whether the reconciler waits for news there."""
    return bool((await node.info("clients"))["blocked_clients"])


async def follows(node: Node, primary: Node) -> bool:
    """Whether a server has become a replica of the primary."""
    return bool((await node.info("replication")).get("master_port") == primary.port)


async def test_row_22_a_primary_is_cut_off_from_its_replica(row: RowRecord, folder: Path, database_url: str) -> None:
    async with behind_a_relay(folder) as (stores, link), running_service(folder, stores.url, database_url) as service:
        buyers = await open_to(service.parts, "row-22", Durability.REPLICA)
        await buyers.run(buyers.tickets[:EARLY])
        link.stall()
        rest = asyncio.create_task(buyers.run())
        await buyers.troubled("unknown", EARLY)
        assert len(buyers.reservations) == EARLY, "an answer left although no replica had it"
        link.heal()
        await rest
        assert len(buyers.reservations) == UNITS
        assert (await buyers.stock()).reserved == UNITS
        row.saw(f"While the wire was silent nobody was told yes; shoppers were asked {buyers.troubles.total()} times to ask again.")


async def test_row_23_a_node_of_a_cluster_is_isolated(row: RowRecord, folder: Path, database_url: str) -> None:
    """The frozen node also keeps the list of all drops, which is read once a second."""
    async with ClusterStores(folder / "c") as stores, running_service(folder, stores.url, database_url) as service:
        frozen = await stores.owner(key_slot(DROPS.encode()))
        other = next(node for node in stores.nodes if node is not frozen)
        people = scenario(row, shoppers=200)
        stuck = await service.create(await name_on(stores, frozen), people)
        free = await service.create(await name_on(stores, other), people)

        async def freeze() -> None:
            await asyncio.gather(service.selling(stuck), service.selling(free))
            frozen.freeze()
            await service.until(free, lambda inspection: sum(stock.sold for stock in inspection.skus.values()) >= UNITS // 2)
            frozen.thaw()

        async def nothing() -> None:
            pass

        held_up, unaffected = await asyncio.gather(service.play(stuck, people, freeze), service.play(free, people, nothing))
        held_up.require_nothing_lost(UNITS)
        unaffected.require_nothing_lost(UNITS)
        assert unaffected.seen.http_5xx == 0
        assert held_up.rest_s <= REST_S
        row.saw(f"Shoppers of its own drop were asked {held_up.seen.http_5xx} times to try again, those of the other never.")


@pytest.mark.parametrize("way", ["migrate_slot", "migrate_keys"])
async def test_row_24_slots_move_under_load(row: RowRecord, folder: Path, database_url: str, way: str) -> None:
    async with ClusterStores(folder / "c") as stores, running_service(folder, stores.url, database_url) as service:
        drop = await service.create(f"row-24-{way.replace('_', '-')}", scenario(row))
        slot = key_slot(drop_keys(drop.drop_id).drop.encode())
        moves = 0

        async def move() -> None:
            nonlocal moves
            await service.selling(drop)
            for node in [*stores.nodes, *stores.nodes]:
                if node is not await stores.owner(slot):
                    await getattr(stores, way)(slot, node)
                    moves += 1

        played = await service.play(drop, scenario(row), move)
        played.require_nothing_lost(UNITS)
        assert played.rest_s <= REST_S
        row.saw(f"The slot moved {moves} times; shoppers were asked {played.seen.http_5xx} times to try again.")


async def name_on(stores: ClusterStores, node: Node) -> str:
    """A name for a drop that lives on a node."""
    for number in range(SLOTS):
        name = f"row-23-{number}"
        if await stores.owner(key_slot(drop_keys(name).drop.encode())) is node:
            return name
    raise AssertionError("a node without slots")
