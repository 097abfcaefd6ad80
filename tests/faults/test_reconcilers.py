"""Rows about reconcilers: killed at every step between reading the journal and forgetting an entry, several at once, bad journals."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from chaos.lab import until
from chaos.proxy import Proxy, Swallow, armed, holding
from chaos.wire import Side, command, reply_to, statement
from flashsale.keys import drop_keys
from reconciler.journal import GROUP
from tests.faults.stage import events, events_twice, orders, probe_for, require_sound, require_unnoticed, selling_from, units

if TYPE_CHECKING:
    from chaos.lab import Lab
    from chaos.probe import Probe
    from chaos.process import LabProcess
    from chaos.wire import Message, Pattern
    from flashsale.model import Drop
    from tests.faults.conftest import Bustle
    from tests.faults.stage import RowRecord

RECORD = "INSERT INTO orders AS o"
"""of the statement that records a batch"""
SOME_ENTRY_BYTES = 60
"""a reply of XREADGROUP with an entry is longer, an empty one shorter"""


def stores_of(lab: Lab) -> list[Proxy]:
    return [reconciler.store for reconciler in lab.reconcilers]


def databases_of(lab: Lab) -> list[Proxy]:
    return [reconciler.database for reconciler in lab.reconcilers]


async def pending(lab: Lab, drop: Drop) -> int:
    """Entries that were delivered and not acknowledged."""
    return int((await lab.parts.store.xpending(drop_keys(drop.drop_id).journal, GROUP))["pending"])


async def followed_by_all(lab: Lab, drop: Drop) -> None:
    """Every reconciler works on the drop."""
    for reconciler in lab.reconcilers:
        await reconciler.says("drop_followed", drop=drop.drop_id)


async def recorded(lab: Lab, drop: Drop, expected: dict[str, str]) -> None:
    """Returns once Postgres has exactly these orders and nothing of the journal is unfinished."""

    async def looked() -> bool:
        return await orders(lab, drop) == expected and await pending(lab, drop) == 0

    await until(looked)


async def killed_while_paid(
    lab: Lab, probe: Probe, links: list[Proxy], side: Side, pattern: Pattern, look: Callable[[str], Awaitable[None]]
) -> tuple[LabProcess, str]:
    """A reservation is paid, and the reconciler that comes to `pattern` with it is killed right there.

    Args:
        look: called with the reservation's id at that very moment, to see what is true then.

    Returns:
        The victim, which stays dead, and the reservation's id.
    """
    worker = lab.workers[0]
    await followed_by_all(lab, probe.drop)
    reserved = await probe.reserve(worker)
    reservation_id = reserved.json()["reservation_id"]
    await recorded(lab, probe.drop, {reservation_id: "pending"})
    with holding(links, side, pattern) as hold:
        confirming = asyncio.create_task(probe.confirm(worker, reserved.json()))
        victim = lab.owner((await hold.reached()).proxy)
        await look(reservation_id)
        await victim.kill()
    assert (await confirming).status in {200, 202}
    return victim, reservation_id


async def once_and_for_all(lab: Lab, probe: Probe, reservation_id: str) -> None:
    """Somebody finishes it: one order, one event, nothing pending, and everything adds up."""
    await recorded(lab, probe.drop, {reservation_id: "paid"})
    assert await events(lab, probe.drop) == ["order.paid"]
    judged = await lab.judge(probe.drop, probe.seen)
    assert judged.wrong == ()
    await lab.retire(probe.drop)


async def test_row_05_kill_reconciler_after_read(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    async with bustle():
        probe = await probe_for(lab, row)
        journal = drop_keys(probe.drop.drop_id).journal

        async def look(reservation_id: str) -> None:
            assert await pending(lab, probe.drop) == 1
            assert await orders(lab, probe.drop) == {reservation_id: "pending"}

        read = reply_to(command("XREADGROUP", journal), bytes_min=SOME_ENTRY_BYTES)
        victim, reservation_id = await killed_while_paid(lab, probe, stores_of(lab), Side.REPLIES, read, look)
        await once_and_for_all(lab, probe, reservation_id)
        await victim.start()
    row.saw(f"{victim.name} took the entry with it; the other claimed it, and there is one order and one event.")


async def test_row_06_kill_reconciler_between_insert_and_commit(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    async with bustle():
        probe = await probe_for(lab, row)

        async def look(reservation_id: str) -> None:
            await until(partial(_written_not_committed, lab))
            assert await orders(lab, probe.drop) == {reservation_id: "pending"}

        commit = statement(RECORD, "Sync", probe.drop.drop_id)
        victim, reservation_id = await killed_while_paid(lab, probe, databases_of(lab), Side.REQUESTS, commit, look)
        await once_and_for_all(lab, probe, reservation_id)
        await victim.start()
    row.saw("The insert was rolled back with its connection; the other reconciler recorded the order, once.")


async def _written_not_committed(lab: Lab) -> bool:
    """Whether a transaction is open that has written: the statement has been executed."""
    return bool(await lab.sql("SELECT 1 FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()"))


async def test_row_07_kill_reconciler_between_commit_and_ack(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    async with bustle():
        probe = await probe_for(lab, row)

        async def look(reservation_id: str) -> None:
            assert await orders(lab, probe.drop) == {reservation_id: "paid"}
            assert await pending(lab, probe.drop) == 1

        committed = reply_to(statement(RECORD, "Bind", probe.drop.drop_id), "ReadyForQuery")
        victim, reservation_id = await killed_while_paid(lab, probe, databases_of(lab), Side.REPLIES, committed, look)
        await once_and_for_all(lab, probe, reservation_id)
        await victim.start()
    row.saw("The order was committed and its entry delivered again; still one order and one event.")


async def test_row_08_kill_reconciler_between_ack_and_deletion(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    async with bustle():
        probe = await probe_for(lab, row)
        journal = drop_keys(probe.drop.drop_id).journal

        async def look(reservation_id: str) -> None:
            assert await orders(lab, probe.drop) == {reservation_id: "paid"}
            assert await pending(lab, probe.drop) == 0

        victim, reservation_id = await killed_while_paid(lab, probe, stores_of(lab), Side.REPLIES, reply_to(command("XACK", journal)), look)
        entries = await lab.parts.store.xlen(journal)
        await victim.start()
        await once_and_for_all(lab, probe, reservation_id)
        assert await lab.parts.store.xlen(journal) >= entries >= 2, "finished entries are a second copy for ten minutes"
    row.saw(f"All {entries} entries are still there, and nobody made a second order of them.")


@pytest.mark.faults
async def test_row_09_kill_reconciler_mid_batch(lab: Lab, row: RowRecord) -> None:
    unfinished = 0

    async def disturb(drop: Drop) -> None:
        nonlocal unfinished
        await followed_by_all(lab, drop)
        for acknowledged in (2, 5):
            with holding(stores_of(lab), Side.REQUESTS, command("XACK", drop_keys(drop.drop_id).journal), skip=acknowledged) as hold:
                victim = lab.owner((await hold.reached()).proxy)
                unfinished += await pending(lab, drop)
                await victim.kill()
            await victim.start()

    played = await lab.rehearse(row.scenario(), disturb)
    require_sound(played)
    assert unfinished > 0
    assert await pending(lab, played.drop) == 0
    await lab.retire(played.drop)
    row.saw(f"Two kills left {unfinished} entries behind; all were claimed, {played.report['sold_units']} units sold, the audit is clean.")


@pytest.mark.faults
async def test_row_10_kill_reaper_mid_batch(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    reservations = 12
    async with bustle():
        probe = await probe_for(lab, row, units=20, limit=20, reservation_ttl_ms=2_500)
        for number in range(reservations):
            assert (await probe.reserve(lab.workers[0], key=f"key-{number}")).status == 201
        # Workers end what they see overdue, too, and all at once; here the reapers are wanted.
        for worker in lab.workers:
            worker.signal(signal.SIGSTOP)
        with holding(stores_of(lab), Side.REPLIES, ended_some(lab.script("expire", drop_keys(probe.drop.drop_id).expiries))) as hold:
            victim = lab.owner((await hold.reached()).proxy)
            ended_first = reservations - (await lab.inspect(probe.drop)).reservations_live
            await victim.kill()
        for worker in lab.workers:
            worker.signal(signal.SIGCONT)
        assert 0 < ended_first < reservations
        judged = await lab.judge(probe.drop, probe.seen)
        assert judged.wrong == ()
        assert await units(lab, probe.drop) == (20, 0, 0)
        assert sorted(await events(lab, probe.drop)) == ["order.expired"] * reservations
        assert judged.report["expired_units"] == reservations
        await victim.start()
        await lab.retire(probe.drop)
    row.saw(f"{victim.name} had ended {ended_first} of {reservations}; all were ended, each once.")


def ended_some(expire: Pattern) -> Pattern:
    """The answer to a call of the script that ended at least one reservation."""

    def matches(message: Message) -> bool:
        if message.belongs_to is None or not expire(message.belongs_to) or not message.raw.startswith(b"$"):
            return False
        result = msgpack.unpackb(message.raw.partition(b"\r\n")[2][:-2])[2]
        return bool(result[1])

    return matches


@pytest.mark.faults
async def test_row_11_two_reconcilers(lab: Lab, row: RowRecord) -> None:
    async def disturb(drop: Drop) -> None:
        await followed_by_all(lab, drop)

    played = await lab.rehearse(row.scenario(), disturb)
    require_sound(played)
    shares = [_orders_recorded(reconciler, played.drop) for reconciler in lab.reconcilers]
    assert all(shares), shares
    assert await events_twice(lab, played.drop) == []
    expired = played.report["expired_units"]
    await lab.retire(played.drop)
    row.saw(f"They recorded {shares} changes of orders between them; {expired} units expired and were back once, no event came twice.")


def _orders_recorded(reconciler: LabProcess, drop: Drop) -> int:
    return sum(line["rows"] for line in reconciler.lines if line.get("event") == "batch_recorded" and line["drop"] == drop.drop_id)


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
async def test_row_33_connection_cut_during_commit(lab: Lab, row: RowRecord, bustle: Bustle, when: str) -> None:
    async with bustle():
        probe = await probe_for(lab, row)
        await followed_by_all(lab, probe.drop)
        reserved = (await probe.reserve(lab.workers[0])).json()
        await recorded(lab, probe.drop, {reserved["reservation_id"]: "pending"})
        if when == "before the commit":
            cut = Swallow(Side.REQUESTS, statement(RECORD, "Sync", probe.drop.drop_id))
        else:
            cut = Swallow(Side.REPLIES, reply_to(statement(RECORD, "Bind", probe.drop.drop_id), "ReadyForQuery"))
        with armed(databases_of(lab), cut):
            assert (await probe.confirm(lab.workers[0], reserved)).status == 200
        assert cut.left == 0
        await once_and_for_all(lab, probe, reserved["reservation_id"])
    row.saw(f"Cut {when}: the reconciler repeated the batch, the shop got its 200, and there is one order and one event.")


# -------------------------------------------------------------------------------------------------------------- journal


@pytest.mark.faults
async def test_row_41_duplicates_in_any_order(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    chance = random.Random(row.seed)
    worker = lab.workers[0]
    async with bustle():
        probe = await probe_for(lab, row, reservation_ttl_ms=1_500)
        await followed_by_all(lab, probe.drop)
        paid, released, expired = [(await probe.reserve(worker, key=key)).json() for key in ("pay", "release", "forget")]
        assert (await probe.confirm(worker, paid)).status in {200, 202}
        assert (await probe.release(worker, released)).status == 200
        ended = {paid["reservation_id"]: "paid", released["reservation_id"]: "cancelled", expired["reservation_id"]: "expired"}
        await recorded(lab, probe.drop, ended)
        before = await _every_order(lab, probe.drop)
        journal = drop_keys(probe.drop.drop_id).journal
        entries = [fields for _, fields in await lab.parts.store.xrange(journal)]
        copies = entries * 3
        chance.shuffle(copies)
        for fields in copies:
            await lab.parts.store.xadd(journal, fields)
        judged = await lab.judge(probe.drop, probe.seen)
        assert judged.wrong == ()
        assert await _every_order(lab, probe.drop) == before
        assert sorted(await events(lab, probe.drop)) == ["order.cancelled", "order.expired", "order.paid"]
        await lab.retire(probe.drop)
    row.saw(f"{len(copies)} copies of {len(entries)} entries changed no row and told nobody anything.")


async def _every_order(lab: Lab, drop: Drop) -> list[tuple[Any, ...]]:
    return await lab.sql("SELECT * FROM orders WHERE drop_id = $1 ORDER BY reservation_id", drop.drop_id)


@pytest.mark.faults
async def test_row_42_poison_entry(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    junk = [{b"v": b"1", b"e": b"\xc1\xff"}, {b"nothing": b"known"}]
    async with bustle():
        probe = await probe_for(lab, row)
        await followed_by_all(lab, probe.drop)
        keys = drop_keys(probe.drop.drop_id)
        poison = [(await lab.parts.store.xadd(keys.journal, fields)).decode() for fields in junk]
        reserved = (await probe.reserve(lab.workers[0])).json()
        assert (await probe.confirm(lab.workers[0], reserved)).status == 200, "others flow while poison waits"
        await until(lambda: _dead(lab, probe.drop, len(junk)))
        letters = [fields for _, fields in await lab.parts.store.xrange(keys.dead)]
        assert sorted(letter[b"id"].decode() for letter in letters) == sorted(poison)
        assert {letter[b"deliveries"] for letter in letters} == {b"5"}
        said = {line.get("entry") for process in lab.reconcilers for line in process.lines if line.get("event") == "journal_entry_dead"}
        assert said == set(poison)
        await once_and_for_all(lab, probe, reserved["reservation_id"])
    row.saw("After 5 deliveries both lay in the dead-letter stream and were said; a confirm meanwhile was answered 200.")


async def _dead(lab: Lab, drop: Drop, letters: int) -> bool:
    return bool(await lab.parts.store.xlen(drop_keys(drop.drop_id).dead) == letters)


@pytest.mark.faults
async def test_row_44_consumer_group_destroyed(lab: Lab, row: RowRecord) -> None:
    times = 3

    async def disturb(drop: Drop) -> None:
        await followed_by_all(lab, drop)
        for turn in range(1, times + 1):
            await selling_from(lab, drop, 15 * turn)
            assert await lab.parts.store.xgroup_destroy(drop_keys(drop.drop_id).journal, GROUP)

    played = await lab.rehearse(row.scenario(), disturb)
    require_unnoticed(played)
    assert await events_twice(lab, played.drop) == []
    await lab.retire(played.drop)
    row.saw(f"Destroyed {times} times during the sale; it was made anew each time, and no order or event came twice.")
