"""The folders of a server, and the account they belong to."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from flashsale.child import Account
from flashsale.embedded.errors import EmbeddedFailed

# sun_path holds 108 bytes on Linux, 104 elsewhere, with its closing zero.
_SOCKET_PATH_MAX_BYTES = 100
_NOBODY_ID = 65534  # where no user of that name is known


def server_account(paths: Iterable[Path]) -> Account | None:
    """Who a server runs as: nobody when we are root, else ourselves (None).

    Args:
        paths: what the server must reach.
    """
    if os.geteuid() != 0:
        return None
    uid = gid = _NOBODY_ID
    with suppress(KeyError):
        uid, gid = pwd.getpwnam("nobody")[2:4]
    return Account(uid, gid, passes_folder_permissions=not all(_open_to_others(path) for path in paths))


def _open_to_others(path: Path) -> bool:
    """Whether somebody without rights of their own gets as far as `path` and may enter or run it."""
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def make_folder(path: Path, mode: int, account: Account | None = None) -> None:
    """`path`, with its parents, belonging to `account` and open as `mode` says."""
    path.mkdir(parents=True, exist_ok=True)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    path.chmod(mode)


def socket_folder(preferred: Path, socket_name: str, account: Account | None) -> Path:
    """`preferred`, or a short private folder of the same identity when a socket's path there would be too long.

    Raises:
        EmbeddedFailed: somebody else owns the short folder.
    """
    if len(os.fsencode(preferred / socket_name)) <= _SOCKET_PATH_MAX_BYTES:
        make_folder(preferred, 0o700, account)
        return preferred
    owner = os.geteuid() if account is None else account.uid
    digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"flashsale-{owner}-{digest}"
    with suppress(FileExistsError):
        short.mkdir(mode=0o700)
        if account is not None:
            os.chown(short, account.uid, account.gid)
    state = short.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != owner or state.st_mode & 0o077:
        raise EmbeddedFailed(
            what=f"The folder {short} cannot be used for a socket:",
            why="it belongs to somebody else or is open to others.",
            todo="Remove it, or choose a data folder with a shorter path.",
        )
    return short
