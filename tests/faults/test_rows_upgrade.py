"""Rows about releases and restarts of all workers: two versions side by side, and everybody coming back at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from chaos.release import next_release, upgraded
from flashsale.keys import drop_keys
from tests.faults.stage import events_twice, first_to_say, require_sound, selling_from

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.lab import Lab
    from flashsale.model import Drop
    from tests.faults.stage import RowRecord

pytestmark = pytest.mark.faults


async def test_row_45_two_versions_side_by_side(lab: Lab, row: RowRecord, tmp_path: Path) -> None:
    release = await asyncio.to_thread(next_release, tmp_path / "release")
    async with AsyncExitStack() as held:

        async def disturb(drop: Drop) -> None:
            await selling_from(lab, drop, 10)
            # The worker first, so that for a while nobody can read what it writes.
            await held.enter_async_context(upgraded(lab.process("worker-2"), release))
            await first_to_say(lab.reconcilers, "journal_entry_left", drop=drop.drop_id)
            await selling_from(lab, drop, 30)
            await held.enter_async_context(upgraded(lab.process("reconciler-2"), release))

        played = await lab.rehearse(row.scenario(), disturb)
        require_sound(played)
        assert await events_twice(lab, played.drop) == []
        keys = drop_keys(played.drop.drop_id)
        versions = Counter(fields[b"v"] for _, fields in await lab.parts.store.xrange(keys.journal))
        assert set(versions) == {b"1", b"2"}, versions
        assert await lab.parts.store.xlen(keys.dead) == 0
        await lab.retire(played.drop)
    row.saw(
        f"{versions[b'1']} entries of the old version and {versions[b'2']} of the new: the old reconciler left the new ones, "
        f"the new one read both, {played.report['sold_units']} units were sold."
    )
