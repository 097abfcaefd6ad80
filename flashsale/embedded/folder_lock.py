"""One process at a time runs servers in a folder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from flashsale.embedded.errors import EmbeddedFailed, FolderInUse


def try_lock(file: int, kind: int, pause_s: float = 0.0) -> bool:
    """Take a lock on an open file if nobody holds it; else say no after a pause."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(pause_s)
        return False
    return True


class FolderLock:
    """Held by the process that runs servers in a folder; gone when that process is, however it ended."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            FolderInUse: another process, or another object of this one, has it.
        """
        path = folder / "lock"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # `running_stores` borrows the lock for an instant, so one refusal is not yet an answer.
        if not any(try_lock(self._file, fcntl.LOCK_EX, pause_s) for pause_s in (0.02, 0.05, 0.0)):
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise FolderInUse(
                what=f"The data folder {folder} is in use by process {holder or 'unknown'}.",
                todo="Stop that one first, or choose another data folder.",
            )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._file)


def lock_folder(folder: Path) -> FolderLock:
    """Make `folder` when it is missing, and take it.

    Raises:
        FolderInUse: another process has it.
        EmbeddedFailed: it cannot be made or entered.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FolderLock(folder)
    except OSError as error:
        raise EmbeddedFailed(
            what=f"The data folder {folder} cannot be used:",
            why=f"{error}.",
            todo="Choose another one, or give this one to the user you start as.",
        ) from error
