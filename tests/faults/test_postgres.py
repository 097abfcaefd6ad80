"""Rows about Postgres: restarted, away, locked, and with too few connections."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from chaos.lab import until
from chaos.standby import copied, replaced_by
from loadtest.client import Pool
from tests.faults.stage import (
    SLOW_PER_MIN,
    events_twice,
    first_to_say,
    orders,
    probe_for,
    require_sound,
    require_unnoticed,
    selling_from,
    units,
)

if TYPE_CHECKING:
    from chaos.lab import Lab
    from chaos.process import LabProcess
    from flashsale.model import Drop
    from tests.faults.conftest import Bustle
    from tests.faults.stage import RowRecord

pytestmark = pytest.mark.faults

STATE_EVENTS_MAX = 3
"""entries that tell a drop's state"""
ALARMING_S = 1.0
"""longer than any entry waits while all is well"""
ROOM_BYTES = 40_000
CONNECTIONS = 5
"""of which the reconcilers alone would like four and the workers sixteen"""


@pytest.mark.parametrize("how", ["fast", "immediate"])
async def test_row_31_postgres_restarts(lab: Lab, row: RowRecord, how: str) -> None:
    accepted = 0
    probe = await probe_for(lab, row)
    worker = lab.workers[0]

    async def disturb(drop: Drop) -> None:
        nonlocal accepted
        for turn, sold in enumerate((15, 30)):
            await selling_from(lab, drop, sold)
            if how == "fast":
                await lab.stores.postgres.stop()
            else:
                await lab.stop_postgres_at_once()
            before = (await lab.inspect(drop)).stats["reserved_units"]
            reserved = await probe.reserve(worker, key=f"turn-{turn}")
            assert reserved.status == 201, reserved.body
            accepted += (await probe.confirm(worker, reserved.json())).status == 202
            await selling_from(lab, drop, before + 5)
            await lab.stores.postgres.start()

    played = await lab.rehearse(row.scenario(), disturb, rate_per_min=SLOW_PER_MIN)
    require_unnoticed(played)
    assert accepted == 2
    judged = await lab.judge(probe.drop, probe.seen)
    assert judged.wrong == ()
    assert set((await orders(lab, probe.drop)).values()) == {"paid"}
    for drop in (played.drop, probe.drop):
        assert await events_twice(lab, drop) == []
        await lab.retire(drop)
    row.saw(f"{how}, twice: reservations went on, confirms were answered 202, then everything was recorded, one order each.")


async def test_row_38_too_few_connections(lab: Lab, row: RowRecord) -> None:
    async def disturb(drop: Drop) -> None:
        await selling_from(lab, drop, 15)
        await lab.restart_postgres_with(max_connections=CONNECTIONS, superuser_reserved_connections=0, max_wal_senders=0)
        await selling_from(lab, drop, 50)

    async def mend() -> None:
        await lab.restart_postgres_with()

    played = await lab.rehearse(row.scenario(), disturb, mend=mend)
    require_sound(played)
    await lab.retire(played.drop)
    row.saw(f"With {CONNECTIONS} connections for four processes the sale went on and {played.report['sold_units']} units were sold.")


async def test_row_32_postgres_away_longer_than_reservations_live(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    worker = lab.workers[0]
    async with bustle():
        probe = await probe_for(lab, row, reservation_ttl_ms=1_500)
        await lab.stores.postgres.stop()
        paid, forgotten = [(await probe.reserve(worker, key=key)).json() for key in ("pay", "forget")]
        assert (await probe.confirm(worker, paid)).status == 202
        await lab.until(probe.drop, lambda inspection: inspection.reservations_live == 0)
        assert await units(lab, probe.drop) == (4, 0, 1), "what was paid stays, what was not has expired"
        transitions = 4  # reserved twice, confirmed, expired
        entries = (await lab.inspect(probe.drop)).journal_length
        assert entries <= transitions + STATE_EVENTS_MAX
        await first_to_say(lab.reconcilers, "database_held_up", drop=probe.drop.drop_id)
        await until(partial(_waits_since, worker, probe.drop, ALARMING_S))
        await lab.stores.postgres.start()
        judged = await lab.judge(probe.drop, probe.seen)
        assert judged.wrong == ()
        assert await orders(lab, probe.drop) == {paid["reservation_id"]: "paid", forgotten["reservation_id"]: "expired"}
        await until(partial(_nothing_waits, worker, probe.drop))
        await lab.retire(probe.drop)
    row.saw(
        f"The paid reservation stayed, the other expired; {entries} entries waited in the journal, which the log and the metric of "
        "their age told, and all arrived."
    )


async def test_row_34_deadlock(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    async with bustle():
        probe = await probe_for(lab, row)
        reserved = (await probe.reserve(lab.workers[0])).json()
        await until(partial(_has, lab, probe.drop, {reserved["reservation_id"]: "pending"}))
        async with lab.parts.database.transaction() as somebody:
            # The victim is whoever looks first after deadlock_timeout; this session never looks.
            await somebody.connection.execute("SET LOCAL deadlock_timeout = '60s'; SET LOCAL lock_timeout = '30s'")
            await somebody.connection.execute("SELECT 1 FROM drop_skus WHERE drop_id = $1 FOR UPDATE", probe.drop.drop_id)
            confirming = asyncio.create_task(probe.confirm(lab.workers[0], reserved))
            await until(partial(_somebody_waits_for_a_lock, lab))
            await somebody.connection.execute("SELECT 1 FROM orders WHERE drop_id = $1 FOR UPDATE", probe.drop.drop_id)
        assert (await confirming).status in {200, 202}
        judged = await lab.judge(probe.drop, probe.seen)
        assert judged.wrong == ()
        assert await orders(lab, probe.drop) == {reserved["reservation_id"]: "paid"}
        said = [line["error"] for process in lab.reconcilers for line in process.lines if line.get("event") == "database_held_up"]
        assert any("deadlock" in error for error in said), said
        await lab.retire(probe.drop)
    row.saw("The reconciler was chosen as the deadlock's victim, repeated the batch, and there is one order.")


async def recorded(lab: Lab, drop: Drop, number: int) -> None:
    """Returns once Postgres has so many orders of a drop."""

    async def looked() -> bool:
        return len(await orders(lab, drop)) >= number

    await until(looked)


async def test_row_35_standby_without_the_last_commits(lab: Lab, row: RowRecord) -> None:
    lost = 0

    async def disturb(drop: Drop) -> None:
        nonlocal lost
        await selling_from(lab, drop, 10)
        copy = await copied(lab.stores.postgres)
        await recorded(lab, drop, len(await orders(lab, drop)) + 5)
        for reconciler in lab.reconcilers:
            reconciler.signal(signal.SIGSTOP)
        before = await orders(lab, drop)
        await replaced_by(lab.stores.postgres, copy, promoted=True)
        found = await orders(lab, drop)
        lost = sum(found.get(order) != state for order, state in before.items())
        for reconciler in lab.reconcilers:
            reconciler.signal(signal.SIGCONT)

    played = await lab.rehearse(row.scenario(), disturb, rate_per_min=SLOW_PER_MIN)
    require_unnoticed(played)
    assert lost > 0, "the standby had everything"
    said = [line for process in lab.reconcilers for line in process.lines if line.get("event") == "postgres_lost_commits"]
    assert said, "a failover that lost commits is told"
    await lab.retire(played.drop)
    row.saw(f"{lost} orders were gone or behind; all came again from the journal, {played.report['sold_units']} units were sold.")


async def test_row_36_full_disk(lab: Lab, row: RowRecord) -> None:
    async def disturb(drop: Drop) -> None:
        await selling_from(lab, drop, 10)
        await lab.restart_postgres_with_room(ROOM_BYTES)
        await until(partial(_has_no_room, lab))
        before = (await lab.inspect(drop)).stats["reserved_units"]
        await selling_from(lab, drop, before + 10)
        await lab.stores.postgres.restart()

    played = await lab.rehearse(row.scenario(), disturb, rate_per_min=SLOW_PER_MIN)
    require_unnoticed(played)
    assert await events_twice(lab, played.drop) == []
    await lab.retire(played.drop)
    row.saw(f"Postgres panicked; {played.report['sold_units']} units were sold all the same, and with room again all was recorded, once.")


async def test_row_37_lock_held_by_a_migration(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    worker = lab.workers[0]
    async with bustle():
        probe = await probe_for(lab, row)
        async with lab.parts.database.transaction() as migration:
            await migration.connection.execute("LOCK TABLE orders, api_keys IN ACCESS EXCLUSIVE MODE")
            reserved = await probe.reserve(worker)
            assert reserved.status == 201, reserved.body
            assert (await probe.confirm(worker, reserved.json())).status == 202
            line = await first_to_say(lab.reconcilers, "database_held_up", drop=probe.drop.drop_id)
            assert "lock timeout" in line["error"]
            await until(partial(_go_on_with_the_keys_they_know, lab))
        judged = await lab.judge(probe.drop, probe.seen)
        assert judged.wrong == ()
        assert await orders(lab, probe.drop) == {reserved.json()["reservation_id"]: "paid"}
        await lab.retire(probe.drop)
    row.saw("Reserving went on, the confirm was answered 202, the reconciler gave up on the lock again and again, then wrote the order.")


async def _waits_since(worker: LabProcess, drop: Drop, seconds: float) -> bool:
    """Whether the metric says that the oldest entry waits for so long at least. An alarm would be set to 30 s."""
    return await _oldest_age_s(worker, drop) >= seconds


async def _nothing_waits(worker: LabProcess, drop: Drop) -> bool:
    return await _oldest_age_s(worker, drop) == 0


async def _oldest_age_s(worker: LabProcess, drop: Drop) -> float:
    pool = Pool(worker.url)
    try:
        text = (await pool.request("GET", "/metrics")).body.decode()
    finally:
        pool.close()
    found = re.search(rf'^flashsale_journal_oldest_age_seconds{{drop="{drop.drop_id}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def _has_no_room(lab: Lab) -> bool:
    """Whether a write of Postgres's log has failed for want of room, which it calls a panic."""
    log = lab.stores.postgres.log_file.read_text(encoding="utf-8", errors="replace")
    return "PANIC" in log and os.strerror(errno.EFBIG) in log


async def _go_on_with_the_keys_they_know(lab: Lab) -> bool:
    """Whether each worker has given up on the lock and kept its keys."""
    said = [[line for line in worker.lines if line.get("event") == "keys_not_refreshed"][-1:] for worker in lab.workers]
    return all(lines and "lock timeout" in lines[0]["error"] and lines[0]["kept"] > 0 for lines in said)


async def _has(lab: Lab, drop: Drop, expected: dict[str, str]) -> bool:
    return await orders(lab, drop) == expected


async def _somebody_waits_for_a_lock(lab: Lab) -> bool:
    return bool(await lab.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"))
