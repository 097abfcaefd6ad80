"""Stores that lose data in the middle of a sale, and the recovery that follows, as an engineer would do it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from chaos.lab import Lab, cut_file, until
from flashsale.cli.recover import recovery_of
from reconciler.recovery import Condition

if TYPE_CHECKING:
    from pathlib import Path

    from flashsale.model import Drop

RECOVERED_WITHIN_S = 60.0
NOTICED_WITHIN_S = 3.0
"""a process that has seen more than the store has fences the drop at its next call; the watch looks once a second"""


@contextmanager
def unrecorded(lab: Lab) -> Iterator[None]:
    """The reconcilers hear nothing from the store, so that Postgres knows nothing of what happens inside the block."""
    for reconciler in lab.reconcilers:
        reconciler.store.stall()
    try:
        yield
    finally:
        for reconciler in lab.reconcilers:
            reconciler.store.heal()


async def empty_store(lab: Lab) -> None:
    """FLUSHALL: what a wrong volume is."""
    await lab.parts.store.flushall()


def log_size(lab: Lab) -> tuple[Path, int]:
    """Valkey's append-only file as it is now, for `set_back`."""
    log = lab.append_only_files[-1]
    return log, log.stat().st_size


async def set_back(lab: Lab, log: Path, size: int) -> None:
    """Valkey is killed and starts again with its append-only file as it was at `size`: an older copy.

    A negative size takes so many bytes off its end: the power failed and the disk had not kept its word.
    """
    await lab.crash_valkey()
    cut_file(log, size)
    await lab.stores.valkey.start()


async def recovered(lab: Lab, drop: Drop) -> None:
    """Returns when the drop is sound, whatever else is broken meanwhile.

    Raises:
        TimeoutError: it could not be recovered.
    """
    recovery = recovery_of(lab.parts)

    async def is_lost() -> bool:
        return (await recovery.find(drop.drop_id)).condition is not Condition.SOUND

    async def is_sound() -> bool:
        return await recovery.recover(drop.drop_id) is None

    with suppress(TimeoutError):  # then nobody had heard of what the store has forgotten, and nothing is lost
        await until(is_lost, NOTICED_WITHIN_S)
    await until(is_sound, RECOVERED_WITHIN_S)
