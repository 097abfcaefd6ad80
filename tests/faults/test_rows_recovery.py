"""Rows about a store that has lost data: everything, its tail, or more than it can read."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import time
from asyncio import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from chaos.lab import cut_file, flip_byte, until
from chaos.losses import unrecorded
from chaos.probe import Probe, probe_drop
from flashsale.cli.environment import child_environment
from flashsale.embedded.errors import EmbeddedFailed
from tests.faults.stage import orders, probe_for, units

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chaos.lab import Lab
    from chaos.process import LabProcess
    from flashsale.model import Drop
    from tests.faults.conftest import Bustle
    from tests.faults.stage import RowRecord

SHOPPERS = 5
CUTS = 2
LOST_S_MAX = 2.0
"""what a power loss may cost with an AOF that goes to the disk every second: a second, and one more when the disk is busy"""
WATCH_S = 0.01
BUSY_S = 3.5
BUSY_RESERVATIONS = 95
"""twenty for each shopper is the limit"""
BUSY_TTL_MS = 8_000


async def command(lab: Lab, *words: str) -> tuple[int, Any]:
    """`flashsale …` as an engineer types it: (exit code, what it printed as JSON)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flashsale", *words, "--json",
        env=child_environment(lab.settings), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, msgspec.json.decode(printed) if printed else None


async def recovered(lab: Lab, drop: Drop) -> dict[str, Any]:
    """What the command says after it has recovered the drop."""
    code, told = await command(lab, "recover", drop.drop_id, "--yes")
    assert code == 0, told
    [found] = told
    assert found["result"] == "recovered", found
    return dict(found)


async def shoppers(lab: Lab, row: RowRecord, **changes: Any) -> list[Probe]:
    """Shoppers let in to one drop. `changes` are those of `probe_drop`."""
    drop = await lab.open_drop(probe_drop(f"row-{row.number:02}", **changes))
    probes = [Probe(drop, lab.storefront_key) for _ in range(SHOPPERS)]
    for probe in probes:
        await probe.enter(lab.workers[0])
    return probes


async def recorded(lab: Lab, drop: Drop, expected: dict[str, str]) -> None:
    """Returns once Postgres has exactly these orders."""

    async def looked() -> bool:
        return await orders(lab, drop) == expected

    await until(looked)


async def half_paid(lab: Lab, probes: list[Probe]) -> dict[str, str]:
    """Everybody reserves, every other one pays; order to state, all of it in Postgres."""
    expected: dict[str, str] = {}
    for at, probe in enumerate(probes):
        reserved = (await probe.reserve(lab.workers[at % len(lab.workers)])).json()
        expected[reserved["reservation_id"]] = "pending"
        if at % 2:
            await probe.confirm(lab.workers[0], reserved)
            expected[reserved["reservation_id"]] = "paid"
    await recorded(lab, probes[0].drop, expected)
    return expected


async def restart_everything(lab: Lab, damage: Callable[[], object]) -> None:
    """The machine goes down, `damage` is done to the files, and all of it comes up: nobody remembers anything."""
    for process in lab.processes.values():
        await process.kill()
    await lab.crash_valkey()
    damage()
    await lab.stores.valkey.start()
    await lab.heal()


async def is_recovering(lab: Lab, probe: Probe) -> None:
    """Every worker says so, whatever it is asked for."""

    async def told(worker: LabProcess) -> bool:
        answers = [await probe.join(worker), await probe.reserve(worker, key="another")]
        return all(answer.status == 503 and answer.json()["code"] == "recovering" for answer in answers)

    for worker in lab.workers:
        await until(partial(told, worker))


async def everything_is_back(lab: Lab, probes: list[Probe], expected: dict[str, str]) -> None:
    """Each reservation and order is what it was, what is held can be paid, the rest can be sold, and not a unit more."""
    drop = probes[0].drop
    [sku] = drop.skus
    paid, pending = [list(expected.values()).count(state) for state in ("paid", "pending")]
    await until(lambda: _units_are(lab, drop, (sku.allotment - paid - pending, pending, paid)))
    for worker in lab.workers:
        await until(partial(worker.answers, f"/v1/drops/{drop.drop_id}/serving", 200))
    for probe in probes:
        [reservation_id] = probe.reservations
        await probe.confirm(lab.workers[0], {"reservation_id": reservation_id, "amount_minor": sku.price_minor})
    assert await units(lab, drop) == (sku.allotment - len(expected), 0, len(expected))
    last = Probe(drop, lab.storefront_key)
    await last.enter(lab.workers[1])
    left = sku.allotment - len(expected)
    assert (await last.reserve(lab.workers[1], quantity=left)).status == 201
    assert (await last.reserve(lab.workers[1], key="too-many")).json()["code"] == "sold_out"
    [bought] = last.reservations
    await last.confirm(lab.workers[1], {"reservation_id": bought, "amount_minor": left * sku.price_minor})
    played = await lab.judge(drop)
    assert played.wrong == ()
    assert played.report["sold_units"] == sku.allotment
    await lab.retire(drop)


async def _units_are(lab: Lab, drop: Drop, expected: tuple[int, int, int]) -> bool:
    return await units(lab, drop) == expected


@pytest.mark.faults
async def test_row_13_no_aof(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    """There is no such tier; a data folder that is gone looks the same to everybody who starts after it."""
    async with bustle(recovered):
        probes = await shoppers(lab, row, units=9)
        expected = await half_paid(lab, probes)
        data = lab.stores.valkey.folder / "data"
        await restart_everything(lab, partial(shutil.rmtree, data / "appendonlydir"))
        await is_recovering(lab, probes[0])
        told = await recovered(lab, probes[0].drop)
        assert (told["condition"], told["orders"], told["live"]) == ("missing", 5, 3)
        await everything_is_back(lab, probes, expected)
    row.saw(f"Nothing was left; {told['orders']} orders were back after {told['ready_ms']} ms.")


class Disk:
    """What the disk may lack of Valkey's log when the power fails: all that was written within the last `LOST_S_MAX`."""

    def __init__(self, lab: Lab) -> None:
        self.log: Path = lab.append_only_files[-1]
        self._sizes: list[tuple[float, int]] = []

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Notes how the log grows inside the block."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            self._sizes.append((time.monotonic(), self.log.stat().st_size))
            await asyncio.sleep(WATCH_S)

    def bytes_kept(self, failed_s: float) -> int:
        """The least that is there after the power failed."""
        return next(size for at_s, size in self._sizes if at_s >= failed_s - LOST_S_MAX)


async def reserve_all(lab: Lab, probes: list[Probe]) -> dict[str, float]:
    """Reservations one after the other, for `BUSY_S`; each to the moment it was acknowledged."""
    acknowledged: dict[str, float] = {}
    began_s = time.monotonic()
    for number in range(BUSY_RESERVATIONS):
        await asyncio.sleep(began_s + number * BUSY_S / BUSY_RESERVATIONS - time.monotonic())
        answer = await probes[number % len(probes)].reserve(lab.workers[0], key=f"key-{number}")
        assert answer.status == 201, answer.body
        acknowledged[answer.json()["reservation_id"]] = time.monotonic()
    return acknowledged


@pytest.mark.faults
async def test_row_14_power_loss(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    """What the disk may lack is gone, at first all of it, and Postgres has heard of none of it: the log is all there is."""
    chance = random.Random(row.seed)
    found: list[str] = []
    for _ in range(CUTS):
        await lab.parts.store.config_set("appendfsync", "everysec")
        async with bustle(possibly_recovered, durability="second"):
            probes = await shoppers(lab, row, units=9, durability="second")
            expected = await half_paid(lab, probes)
            busy = await shoppers(
                lab, row, units=BUSY_RESERVATIONS, limit=BUSY_RESERVATIONS, reservation_ttl_ms=BUSY_TTL_MS, durability="second"
            )
            disk = Disk(lab)
            with unrecorded(lab):
                async with disk.watched():
                    acknowledged = await reserve_all(lab, busy)
                    failed_s = time.monotonic()
                    await lab.crash_valkey()
                least, size = disk.bytes_kept(failed_s), disk.log.stat().st_size
                await restart_everything(lab, partial(cut_file, disk.log, chance.randint(least, size) if found else least))
            records = (await lab.parts.drops.inspect(busy[0].drop.drop_id, reservations=tuple(acknowledged))).reservations
            lost = [reservation for reservation, record in zip(acknowledged, records, strict=True) if record is None]
            lost_s = max((failed_s - acknowledged[reservation] for reservation in lost), default=0.0)
            assert lost_s <= LOST_S_MAX, f"a reservation acknowledged {lost_s:.2f} s before the power failed is gone"
            assert lost == list(acknowledged)[len(acknowledged) - len(lost) :], "the latest are lost, and none in between"
            found.append(f"{len(lost)} of {len(acknowledged)}, of the last {lost_s:.1f} s")
            for drop in (probes[0].drop, busy[0].drop):
                await possibly_recovered(lab, drop)
            await everything_is_back(lab, probes, expected)
            played = await lab.judge(busy[0].drop)
            assert played.wrong == ()
            await lab.retire(busy[0].drop)
    assert any(not words.startswith("0 ") for words in found), found
    row.saw(f"Lost what the disk may lack, {CUTS} times ({'; '.join(found)} reservations); all that Postgres knew was there.")


async def possibly_recovered(lab: Lab, drop: Drop) -> None:
    """The command puts a drop together that has lost something, and leaves one alone that has not."""
    code, told = await command(lab, "recover", drop.drop_id, "--yes")
    assert code == 0, told


async def test_row_15_spoilt_aof(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    async with bustle():
        probe = await probe_for(lab, row)
        reserved = (await probe.reserve(lab.workers[0])).json()
        for worker in lab.workers:
            await worker.kill()
        await lab.crash_valkey()
        log = lab.append_only_files[-1]
        sound = log.read_bytes()
        flip_byte(log, sound.index(b"\r\n*", len(sound) // 2) + 2)
        with pytest.raises(EmbeddedFailed) as refused:
            await lab.stores.valkey.start()
        assert "Bad file format reading the append only file" in str(refused.value)
        code, _ = await command(lab, "recover", probe.drop.drop_id, "--yes")
        assert code == 3, "there is no store to recover into"
        log.write_bytes(sound)
        await lab.stores.valkey.start()
        await lab.heal()
        assert (await probe.confirm(lab.workers[0], reserved)).status in {200, 202}
        assert (await lab.judge(probe.drop)).wrong == ()
        await lab.retire(probe.drop)
    row.saw("Valkey refused to start and said where its log is broken; with the sound copy everything went on.")


@pytest.mark.faults
async def test_row_16_valkey_comes_back_empty(lab: Lab, row: RowRecord, bustle: Bustle) -> None:
    async with bustle(recovered):
        probes = await shoppers(lab, row, units=9)
        expected = await half_paid(lab, probes)
        await lab.parts.store.flushall()
        await is_recovering(lab, probes[0])
        code, told = await command(lab, "recover", probes[0].drop.drop_id, "--dry-run")
        assert (code, told[0]["result"], told[0]["condition"]) == (1, "needed", "missing")
        found = await recovered(lab, probes[0].drop)
        await everything_is_back(lab, probes, expected)
    row.saw(f"Every request heard 'recovering'; the drop was back {found['ready_ms']} ms after the command was given.")
