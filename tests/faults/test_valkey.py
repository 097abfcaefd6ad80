"""Rows about Valkey: killed, frozen, full, and told to forget."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from chaos.lab import until
from chaos.losses import recovered
from chaos.probe import Probe
from tests.faults.stage import events_twice, probe_for, require_sound, selling_from, units

if TYPE_CHECKING:
    from chaos.lab import Lab, Rehearsal
    from chaos.process import LabProcess
    from flashsale.model import Drop
    from tests.faults.conftest import Bustle
    from tests.faults.stage import RowRecord

pytestmark = pytest.mark.faults

FROZEN_S = 10.0
PAUSED_MS = 400
ROOM_BYTES = 2_000
"""enough for a reservation or two"""
RESERVATIONS_MAX = 15
AT_RISK = 1
"""acknowledged writes a full disk may cost at this tier"""
SLOW_FLUSH_US = 500_000
SLOW_S = 5.0
CALLS_ON_THE_WAY = 100


def polite(played: Rehearsal) -> str:
    """How often shoppers were asked to come again; `Rehearsal.wrong` has seen to it that no 5xx was anything else."""
    asked = {code: count for code, count in played.seen.retry_later.items() if count}
    return f"shoppers were asked to come again {asked}" if asked else "no shopper saw an error"


async def test_row_12_kill_valkey_aof_everysec(lab: Lab, row: RowRecord) -> None:
    async def disturb(drop: Drop) -> None:
        for sold in (15, 40):
            await selling_from(lab, drop, sold)
            await lab.crash_valkey()
            await lab.stores.valkey.start()
            await lab.parts.store.config_set("appendfsync", "everysec")

    await lab.parts.store.config_set("appendfsync", "everysec")
    played = await lab.rehearse(row.scenario(), disturb, durability="second")
    require_sound(played)
    await lab.retire(played.drop)
    kept = len(played.seen.reservations)
    row.saw(f"Killed twice: all {kept} acknowledged reservations were kept, scripts loaded themselves, {polite(played)}.")


async def test_row_25_script_flush(lab: Lab, row: RowRecord) -> None:
    flushed = 0

    async def disturb(drop: Drop) -> None:
        nonlocal flushed
        await selling_from(lab, drop, 1)
        while (await lab.inspect(drop)).stats["reserved_units"] < 60:
            await lab.parts.store.script_flush()
            flushed += 1
            await asyncio.sleep(0.05)

    played = await lab.rehearse(row.scenario(), disturb)
    require_sound(played)
    assert flushed > 10
    assert played.seen.http_5xx == 0
    await lab.retire(played.drop)
    row.saw(f"Flushed {flushed} times during the sale; no shopper saw an error.")


async def test_row_26_maxmemory(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    worker = lab.workers[0]
    async with bustle():
        probe, late = await probe_for(lab, row), await probe_for(lab, row)
        paid, released = [(await probe.reserve(worker, key=key)).json() for key in ("pay", "release")]
        before = await lab.inspect(late.drop)
        await lab.parts.store.config_set("maxmemory", 1_000_000)
        joined, reserved = await Probe(late.drop, lab.storefront_key).join(worker), await late.reserve(worker)
        assert (joined.status, reserved.status) == (503, 503), (joined.body, reserved.body)
        assert {answer.json()["code"] for answer in (joined, reserved)} == {"store_unavailable"}, "refused, and not perhaps done"
        assert all("retry-after" in answer.headers for answer in (joined, reserved))
        after = await lab.inspect(late.drop)
        assert (after.skus, after.snapshot.joined, after.journal_length) == (before.skus, before.snapshot.joined, before.journal_length)
        assert (await probe.confirm(worker, paid)).status in {200, 202}
        assert (await probe.release(worker, released)).status == 200
        await lab.parts.store.config_set("maxmemory", 0)
        judged = await lab.judge(probe.drop, probe.seen)
        assert judged.wrong == ()
        assert await units(lab, probe.drop) == (4, 0, 1)
        for drop in (probe.drop, late.drop):
            await lab.retire(drop)
    row.saw(f"Join and reserve: 503 {reserved.json()['code']}, nothing written; confirm and release worked.")


async def test_row_29_frozen(lab: Lab, row: RowRecord) -> None:
    async def disturb(drop: Drop) -> None:
        await selling_from(lab, drop, 20)
        lab.freeze_valkey()
        await asyncio.sleep(FROZEN_S)
        lab.thaw_valkey()

    played = await lab.rehearse(row.scenario(), disturb)
    require_sound(played)
    assert await events_twice(lab, played.drop) == []
    await lab.retire(played.drop)
    ended = played.report["expired_units"]
    row.saw(f"Frozen for {FROZEN_S:g} s: {polite(played)}; {ended} units expired and were back once.")


async def test_row_30_clients_paused_and_killed(lab: Lab, row: RowRecord) -> None:
    killed = 0

    async def disturb(drop: Drop) -> None:
        nonlocal killed
        for sold in (10, 25, 40):
            await selling_from(lab, drop, sold)
            await lab.parts.store.execute_command("CLIENT", "PAUSE", PAUSED_MS, "WRITE")
            killed += await lab.parts.store.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    played = await lab.rehearse(row.scenario(), disturb)
    require_sound(played)
    assert killed > 0
    assert played.seen.http_5xx == 0, played.seen.retry_later
    await lab.retire(played.drop)
    row.saw(f"Three pauses of {PAUSED_MS} ms and {killed} connections killed: every call was repeated, no shopper saw an error.")


async def test_row_27_slow_disk(lab: Lab, row: RowRecord) -> None:
    calls: list[int] = []

    async def disturb(drop: Drop) -> None:
        await selling_from(lab, drop, 10)
        before = await _script_calls(lab)
        await lab.parts.store.execute_command("DEBUG", "AOF-FLUSH-SLEEP", SLOW_FLUSH_US)
        await asyncio.sleep(SLOW_S)
        await lab.parts.store.execute_command("DEBUG", "AOF-FLUSH-SLEEP", 0)
        calls.append(await _script_calls(lab) - before)

    played = await lab.rehearse(row.scenario(), disturb)
    require_sound(played)
    longest_ms = max(times["max"] for times in played.report["answer_ms"].values())
    assert longest_ms >= SLOW_FLUSH_US / 1000, "the disk was not slow"
    # At most one call is served per flush, and a call that nobody waits for any more is not sent again and again.
    assert calls[0] <= 2 * SLOW_S * 1_000_000 / SLOW_FLUSH_US + CALLS_ON_THE_WAY
    await lab.retire(played.drop)
    row.saw(f"A flush took {SLOW_FLUSH_US // 1000} ms for {SLOW_S:g} s: the longest answer took {longest_ms:.0f} ms, {polite(played)}.")


async def _script_calls(lab: Lab) -> int:
    """Calls of scripts the store has served."""
    stats = await lab.parts.store.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


async def test_row_28_full_disk_everysec(lab: Lab, row: RowRecord) -> None:
    worker = lab.workers[0]
    await lab.parts.store.config_set("appendfsync", "everysec")
    probe = await probe_for(lab, row, units=RESERVATIONS_MAX, limit=RESERVATIONS_MAX, durability="second", reservation_ttl_ms=5_000)
    await lab.restart_valkey_with_room(ROOM_BYTES, "everysec")
    try:
        answers = [await probe.reserve(worker, key=f"key-{number}") for number in range(RESERVATIONS_MAX)]
        refused = [answer for answer in answers if answer.status != 201]
        assert refused, "the disk was not full"
        assert {answer.status for answer in refused} == {503}, refused[0].body
        assert all("retry-after" in answer.headers for answer in refused)
        assert await worker.answers(f"/v1/drops/{probe.drop.drop_id}/serving", 200), "reading goes on"
        await until(partial(_says_why, worker, probe.drop, "MISCONF"))
    finally:
        await lab.stores.valkey.restart()
    # What was lost had been acknowledged, so a worker knows that the store has gone back, and the drop waits for its recovery.
    await recovered(lab, probe.drop)
    acknowledged = tuple(probe.reservations)
    found = await lab.parts.drops.inspect(probe.drop.drop_id, reservations=acknowledged)
    held = found.reservations
    lost = [reservation_id for reservation_id, record in zip(acknowledged, held, strict=True) if record is None]
    assert len(lost) <= AT_RISK
    for reservation_id in lost:
        del probe.reservations[reservation_id]
    judged = await lab.judge(probe.drop, probe.seen)
    assert judged.wrong == ()
    await lab.retire(probe.drop)
    noticed = ", which was noticed: the drop waited for its recovery" if found.epoch > 1 else ""
    row.saw(
        f"Every second: {len(refused)} refused with 503, reading went on, the log said why; {len(lost)} of {len(held)} "
        f"acknowledged was lost{noticed}."
    )


async def _says_why(worker: LabProcess, drop: Drop, reason: str) -> bool:
    """Whether the log tells an operator that the line of a drop stands still, and with the store's own word why."""
    return any(
        line.get("event") == "beat_failed" and line["drop"] == drop.drop_id and reason in line["error"] and line["level"] == "warning"
        for line in worker.lines
    )


async def test_row_28_full_disk_always(lab: Lab, row: RowRecord) -> None:
    async def disturb(drop: Drop) -> None:
        await selling_from(lab, drop, 15)
        await lab.restart_valkey_with_room(ROOM_BYTES)
        crash = await lab.stores.valkey.wait_crashed()
        assert crash.exit_status == 1, crash.log_tail
        await lab.stores.valkey.restart()

    played = await lab.rehearse(row.scenario(), disturb)
    require_sound(played)
    await lab.retire(played.drop)
    kept = len(played.seen.reservations)
    row.saw(f"Always: the server ended itself; restarted with room, all {kept} acknowledged reservations were kept, {polite(played)}.")
