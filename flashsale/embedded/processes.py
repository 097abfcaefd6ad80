"""A server as a process: what it inherits, and how it ends, be it our child or what an earlier parent left."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from flashsale.embedded.errors import EmbeddedFailed

STOP_TIMEOUT_S = 20.0
_GONE_POLL_S = 0.01


async def end_process(process: asyncio.subprocess.Process, how: signal.Signals) -> None:
    """End a child of ours; by force when it does not obey within `STOP_TIMEOUT_S`."""
    with suppress(ProcessLookupError):
        process.send_signal(how)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def end_leftover(folder: Path, how: signal.Signals) -> None:
    """End a server that outlived the process that started it in `folder`.

    Raises:
        EmbeddedFailed: it does not go away.
    """
    pid = _leftover(folder)
    if pid is None:
        return
    for step in (how, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, step)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _leftover(folder) == pid and time.monotonic() < deadline:  # noqa: ASYNC110 - not our child, so nothing tells us
            await asyncio.sleep(_GONE_POLL_S)
        if _leftover(folder) != pid:
            return
    raise EmbeddedFailed(what=f"An earlier server, process {pid}, still runs in {folder} and does not end.", todo="Stop it by hand.")


def _leftover(folder: Path) -> int | None:
    """The server whose pid file lies in `folder`, when that process still works in that folder. Linux only."""
    try:
        pid = int((folder / "pid").read_text(encoding="ascii"))
        works_in = Path(f"/proc/{pid}/cwd").readlink()
    except (OSError, ValueError):
        return None
    return pid if works_in.is_relative_to(folder) else None


def environment() -> dict[str, str]:
    """What a server inherits: nothing of ours, so that a stray PG… variable cannot change where it listens."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
