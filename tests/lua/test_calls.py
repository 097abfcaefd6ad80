"""Calling scripts from Python: lost replies, flushed scripts, epochs, and what each failure is told as."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError

from admission.draw import Draw
from admission.places import Draws
from admission.receipts import ReceiptSigner
from admission.tokens import TokenSigner, b64decode, make_signing_keys
from admission.waiting_room import Admitted, WaitingRoom
from flashsale.drops import DropStore
from flashsale.errors import Recovering, ScriptError, StoreUnavailable, StoreUnknown
from flashsale.model import (
    AdmitOutcome,
    LeaveOutcome,
    OpenDropOutcome,
    Refused,
    Reservation,
    ReserveOutcome,
    secret_hash_of,
    ticket_id_of,
)
from flashsale.reservations import Reservations
from flashsale.scripts import Scripts
from tests.lua import world as w
from tests.lua.world import KEYS, LIBRARY, VALID, World, reserving, settings_of_tests, t


class LossyClient:
    """Executes every command, and loses the first replies, as a broken connection does."""

    def __init__(self, client: Redis, losses: int) -> None:
        self._client = client
        self.losses = losses
        self.executed = 0

    async def execute_command(self, *words: Any) -> Any:
        reply = await self._client.execute_command(*words)  # type: ignore[no-untyped-call]
        self.executed += 1
        if self.losses:
            self.losses -= 1
            raise StoreConnectionError("the connection was lost")
        return reply

    def pipeline(self, *, transaction: bool) -> Any:
        return self._client.pipeline(transaction=transaction)


def lossy(world: World, losses: int, deadline_ms: int = 3_000) -> tuple[Scripts, LossyClient]:
    settings = settings_of_tests()
    client = LossyClient(world.client, losses)
    store = type(settings.store)(url="unix:///unused", timeout_ms=100, deadline_ms=deadline_ms, connections_max=1)
    scripts = Scripts(client, LIBRARY, store, settings.batch)
    scripts.clock_ms = world.scripts.clock_ms
    return scripts, client


@pytest.mark.parametrize("losses", [1, 2, 3])
async def test_a_lost_reply_is_asked_for_again_and_has_one_effect(world: World, losses: int) -> None:
    await w.admitted(world)
    scripts, client = lossy(world, losses)
    _, results = await scripts.call("reserve", "d", msgpack.packb([reserving("ann", "r1", s1=1)]))
    assert results[0][0] == "replayed"
    assert client.executed == losses + 1
    state = await world.state()
    assert state["stock"]["available:s1"] == 4
    assert len(state["journal"]) == 3  # waiting, open, and one reservation


@pytest.mark.parametrize("script", [name for name in VALID if name != "inspect"])
async def test_every_writing_script_has_one_effect_when_its_reply_is_lost(world: World, script: str) -> None:
    await w.busy(world)
    await world.act(script, *VALID[script])
    once = await world.state()
    await world.client.flushall()
    await w.busy(world)
    scripts, client = lossy(world, 2)
    await scripts.call(script, "d", *world.arguments(script, *VALID[script])[1:])
    assert client.executed == 3
    assert await world.state() == once


async def test_no_reply_within_the_deadline_is_unknown_and_not_failed(world: World) -> None:
    await w.admitted(world)
    scripts, _ = lossy(world, 10**6, deadline_ms=80)
    with pytest.raises(StoreUnknown):
        await scripts.call("reserve", "d", msgpack.packb([reserving("ann", "r1", s1=1)]))
    assert (await world.state())["stock"]["available:s1"] == 4
    assert (await world.reserve(reserving("ann", "r1", s1=1)))[0][0] == "replayed"


@pytest.mark.parametrize("turns", range(16))
async def test_a_cancelled_call_is_cancelled_at_whatever_moment(world: World, turns: int) -> None:
    """Else a loop that is told to end while it sends a command would go on for ever."""
    await w.admitted(world)
    for _ in range(5):
        call = asyncio.create_task(world.drops.inspect("d"))
        for _ in range(turns):
            await asyncio.sleep(0)
        if call.cancel():
            await asyncio.wait([call])
            assert call.cancelled()
    assert (await world.drops.inspect("d")).epoch == 1


async def test_a_cancelled_task_may_still_call_while_it_tidies_up(world: World) -> None:
    await w.admitted(world)
    waits, tidied = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            waits.set()
            await asyncio.Event().wait()
        finally:
            await world.drops.close("d")
            tidied.set()

    task = asyncio.create_task(work())
    await waits.wait()
    task.cancel()
    await asyncio.wait([task])
    assert tidied.is_set()


async def test_scripts_that_were_flushed_are_loaded_again(world: World) -> None:
    await w.admitted(world)
    await world.client.script_flush()
    assert (await world.reserve(reserving("ann", "r1", s1=1)))[0][0] == "reserved"
    await asyncio.gather(world.client.script_flush(), *(world.join(f"p{number}") for number in range(20)), world.client.script_flush())
    assert (await world.state())["drop"]["joined"] == "22"


@pytest.mark.parametrize(
    ("refusal", "raised"),
    [
        ("OOM command not allowed", StoreUnavailable),
        ("MISCONF Errors writing to the AOF file", StoreUnavailable),
        ("READONLY You can't write against a read only replica.", StoreUnavailable),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable),
        ("LOADING Valkey is loading the dataset in memory", StoreUnavailable),
        ("MASTERDOWN Link with MASTER is down", StoreUnavailable),
        ("CLUSTERDOWN The cluster is down", StoreUnavailable),
        ("BUSY Valkey is busy running a script.", StoreUnavailable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailable),
        ("BADARG quantity must be a whole number", ScriptError),
        ("WRONGTYPE Operation against a key", ScriptError),
        ("ERR something else", ScriptError),
    ],
)
async def test_what_a_refusal_is_told_as(world: World, refusal: str, raised: type[Exception]) -> None:
    class RefusingClient:
        async def execute_command(self, *_words: Any) -> Any:
            raise ResponseError(refusal)

    scripts, _ = lossy(world, 0, deadline_ms=60)
    scripts._client = RefusingClient()
    with pytest.raises(raised):
        await scripts.call("inspect", "d", msgpack.packb([[], []]))


# ---------------------------------------------------------------------------------------------------------------- epochs


async def test_a_process_that_has_seen_a_later_epoch_does_not_act_on_an_earlier_one(world: World) -> None:
    await w.busy(world)
    world.scripts.learn_epoch("d", 2)
    before = await world.digest()
    with pytest.raises(Recovering):
        await world.drops.close("d")
    assert await world.digest() == before


async def test_a_process_behind_the_store_learns_the_epoch_and_goes_on(world: World) -> None:
    await w.busy(world)
    await world.client.hset(KEYS.drop, "epoch", 5)
    assert (await world.drops.inspect("d")).epoch == 5
    await world.client.hset(KEYS.drop, "epoch", 4)
    with pytest.raises(Recovering):
        await world.drops.inspect("d")


@pytest.mark.parametrize("key", ["drop", "stock"])
async def test_a_lost_drop_is_recovering_for_a_process_that_knew_it_and_for_a_fresh_one(world: World, key: str) -> None:
    await w.busy(world)
    await world.client.delete(getattr(KEYS, key))
    for drops in (world.drops, World(world.client).drops):
        with pytest.raises(Recovering):
            await drops.inspect("d")


async def test_a_drop_the_store_lost_in_part_is_not_opened_over(world: World) -> None:
    """Opening it again would put sold units back on sale."""
    await w.all_sold(world)
    await world.client.delete(KEYS.drop)
    before = await world.client.hgetall(KEYS.stock)
    assert await world.open() is OpenDropOutcome.EXISTS
    assert await world.client.hgetall(KEYS.stock) == before


# -------------------------------------------------------------------------------------------------------------- services


async def test_the_service_tells_outcomes_in_the_words_of_the_domain(world: World) -> None:
    await w.admitted(world)
    reservations = Reservations(world.scripts)
    # Tickets of a service carry the drop's id; ann's of the tests do not, so she gets one here.
    await world.client.hset(KEYS.tickets, "d.tann", (await world.client.hget(KEYS.tickets, "ann")) or "")
    token = "ann-token"
    made = await reservations.reserve("d", "d.tann", token, "k", (("s1", 1), ("s2", 1)), "q")
    again = await reservations.reserve("d", "d.tann", token, "k", (("s1", 1), ("s2", 1)), "q")
    assert isinstance(made, Reservation)
    assert isinstance(again, Reservation)
    assert (made.replayed, again.replayed, made.amount_minor) == (False, True, 1_500)
    assert made.reservation_id == again.reservation_id
    limited = await reservations.reserve("d", "d.tann", token, "k2", (("s1", 2),), "q")
    assert limited == Refused(ReserveOutcome.LIMIT_REACHED, {"limit": 2, "held": 1})
    await world.client.hset(KEYS.stock, mapping={"available:s2": 0, "allotment:s2": 1})
    gone = await reservations.reserve("d", "d.tann", token, "k3", (("s2", 1),), "q")
    assert gone == Refused(ReserveOutcome.SOLD_OUT, {"available": {"s2": 0}, "place_kept": True})
    paid = await reservations.confirm(made.reservation_id, "pay", 1_500, "q")
    assert (paid.outcome.value, paid.amount_minor) == ("confirmed", 1_500)


async def test_a_ticket_made_anew_after_a_loss_is_only_its_owners(world: World) -> None:
    """The store has no hash of its secret any more; that its id is made of the hash still proves the owner."""
    await w.served(world)
    secret, keys = "s" * 43, make_signing_keys(t(0))
    ticket_id = ticket_id_of("d", secret_hash_of(secret))
    number, late, _, *rest = msgpack.unpackb((await world.client.hget(KEYS.tickets, "ann")) or b"")
    await world.client.hset(KEYS.tickets, ticket_id, msgpack.packb([number, late, "", *rest]))
    room = WaitingRoom(world.scripts, TokenSigner(keys, issuer="i", audience="a"), ReceiptSigner(keys))
    assert await room.admit("d", 1, ticket_id, "x" * 43) == Refused(AdmitOutcome.TICKET_INVALID)
    assert isinstance(await room.admit("d", 1, ticket_id, secret), Admitted)


@pytest.mark.parametrize(
    "known", [(), (None,), (Draw(b"another draw of the same entries".ljust(32), 1),)], ids=["nothing", "no draw yet", "another draw"]
)
async def test_an_entry_number_is_no_queue_number(world: World, known: Draws) -> None:
    """Of a worker that has not seen the draw yet, or has seen one that does not count."""
    secret, keys = "s" * 43, make_signing_keys(t(0))
    ticket_id, hash_ = ticket_id_of("d", secret_hash_of(secret)), b64decode(secret_hash_of(secret))
    await world.open(order="draw")
    world.at(-5_000)
    _, _, [joined] = await world.act("join", msgpack.packb([(ticket_id, hash_)], use_bin_type=False))
    await w.serve(world)
    await w.draw(world)
    world.at(2 * w.BEAT_MS)
    assert await world.beat() == "advanced"
    room = WaitingRoom(world.scripts, TokenSigner(keys, issuer="i", audience="a"), ReceiptSigner(keys))
    assert joined[:2] == ["joined", 0]
    answer = await room.admit("d", 1, ticket_id, secret, known)
    assert isinstance(answer, Refused)
    assert answer.outcome is AdmitOutcome.NOT_YET
    assert await room.leave("d", ticket_id, secret, known) is LeaveOutcome.PLACE
    the_draw = (Draw(bytes.fromhex(w.digits("key")[0]), 1),)
    assert isinstance(await room.admit("d", 1, ticket_id, secret, the_draw), Admitted)


async def test_drop_ids_are_found_by_every_process(world: World) -> None:
    await world.open()
    fresh = DropStore(World(world.client).scripts, settings_of_tests())
    assert await fresh.ids() == {"d"}
    inspection = await fresh.inspect("d", ("nobody",), ("nothing",))
    assert inspection.definition == w.DROP
    assert (inspection.tickets, inspection.reservations) == ((None,), (None,))
