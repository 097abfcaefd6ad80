"""Rows about a store that has lost data: everything, its tail, or more than it can read."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from asyncio import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from chaos.lab import cut_file, flip_byte, until
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
    from tests.faults.stage import RowRecord

SHOPPERS = 5
CUTS = 4


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


async def shoppers(lab: Lab, row: RowRecord, count: int = SHOPPERS, *, units: int = 9) -> list[Probe]:
    """Shoppers let in to one drop."""
    drop = await lab.open_drop(probe_drop(f"row-{row.number:02}", units=units))
    probes = [Probe(drop, lab.storefront_key) for _ in range(count)]
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
async def test_row_13_no_aof(lab: Lab, row: RowRecord) -> None:
    """There is no such tier; a data folder that is gone looks the same to everybody who starts after it."""
    probes = await shoppers(lab, row, units=9)
    expected = await half_paid(lab, probes)
    data = lab.stores.valkey.folder / "data"
    await restart_everything(lab, partial(shutil.rmtree, data / "appendonlydir"))
    await is_recovering(lab, probes[0])
    told = await recovered(lab, probes[0].drop)
    assert (told["condition"], told["orders"], told["live"]) == ("missing", 5, 3)
    await everything_is_back(lab, probes, expected)
    row.saw(f"Nothing was left; {told['orders']} orders were back after {told['ready_ms']} ms.")


@pytest.mark.faults
async def test_row_14_power_loss(lab: Lab, row: RowRecord) -> None:
    chance = random.Random(row.seed)
    found: list[str] = []
    for _ in range(CUTS):
        probes = await shoppers(lab, row, units=9)
        log: Path = lab.append_only_files[-1]
        before = log.stat().st_size
        expected = await half_paid(lab, probes)
        cut = chance.randrange(before, log.stat().st_size)
        await restart_everything(lab, partial(cut_file, log, cut))
        code, [told] = await command(lab, "recover", probes[0].drop.drop_id, "--yes")
        assert code == 0, told
        found.append(f"{told['condition']} by {told['changes_behind']} changes")
        await everything_is_back(lab, probes, expected)
    assert any("behind" in condition or "fenced" in condition for condition in found), found
    row.saw(f"Lost the tail of the log {CUTS} times ({', '.join(found)}); all that Postgres knew came back.")


async def test_row_15_spoilt_aof(lab: Lab, row: RowRecord) -> None:
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
async def test_row_16_valkey_comes_back_empty(lab: Lab, row: RowRecord) -> None:
    probes = await shoppers(lab, row, units=9)
    expected = await half_paid(lab, probes)
    await lab.parts.store.flushall()
    await is_recovering(lab, probes[0])
    code, told = await command(lab, "recover", probes[0].drop.drop_id, "--dry-run")
    assert (code, told[0]["result"], told[0]["condition"]) == (1, "needed", "missing")
    found = await recovered(lab, probes[0].drop)
    await everything_is_back(lab, probes, expected)
    row.saw(f"Every request heard 'recovering'; the drop was back {found['ready_ms']} ms after the command was given.")
