"""Where tests keep the data of servers that they throw away afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30


def scratch() -> Path | None:
    """Memory, where there is plenty; None for the system's own place.

    The servers force every change to disk in tests as they do in production, and would wait for it. What the fault tests
    break is on a disk.
    """
    try:
        return MEMORY if shutil.disk_usage(MEMORY).free >= ROOM_BYTES else None
    except OSError:
        return None
