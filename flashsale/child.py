"""What a child process does to itself before it becomes its program: end with its parent, and give up root.

The parent starts `python child.py … -- program arguments`, and this file, run as a script, replaces itself by the program
under the same process id. That is done here and not in a `preexec_fn`, because Python code between fork and exec may
deadlock in a parent that has threads.

This file is also run on its own, so it imports the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Numbers of the Linux kernel's interface: prctl(2), capset(2), capabilities(7).
_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1

_NOBODY = "-"
_EXIT_CANNOT_EXECUTE = 126


@dataclass(frozen=True)
class Account:
    """The unprivileged user a child runs as when its parent is root."""

    uid: int
    gid: int
    passes_folder_permissions: bool
    """Keep the right to pass folders closed to others (CAP_DAC_OVERRIDE): for data or programs below a private folder
    such as /root. The child is then no longer root, but file permissions do not hold it back."""


def child_argv(argv: Sequence[str], *, death_signal: signal.Signals, account: Account | None = None) -> list[str]:
    """The command that runs `argv` as a child which gets `death_signal` when the calling thread's process ends.

    Only Linux knows such a signal; elsewhere the program just runs.
    """
    who = _NOBODY if account is None else f"{account.uid}:{account.gid}:{int(account.passes_folder_permissions)}"
    # -I and -S: no site packages, no environment; starting up takes some 15 ms.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), who, "--", *argv]


def main(arguments: Sequence[str]) -> None:
    """Become the program named in `arguments`, as `child_argv` wrote them; never returns.

    Raises:
        OSError: a step failed; the program was not started.
    """
    parent, death_signal, who, _, *argv = arguments
    if who != _NOBODY:
        uid, gid, passes = (int(part) for part in who.split(":"))
        _become(Account(uid, gid, bool(passes)))
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != int(parent):
            sys.exit(0)  # the parent ended before the signal was armed
    os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted


def _become(account: Account) -> None:
    """Change to `account` for good."""
    if account.passes_folder_permissions:
        # Else the kernel takes every capability away with the user id, and access(2), which initdb asks, never counts them.
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setgid(account.gid)
    os.setuid(account.uid)
    if account.passes_folder_permissions:
        _keep_capability(_CAP_DAC_OVERRIDE)


def _keep_capability(number: int) -> None:
    """Hold one capability and drop all others, also across the coming exec."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << number
    # Two structs of effective, permitted, inheritable: capabilities 0..31, then 32..63.
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if _libc().capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        raise _last_error("capset")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def _prctl(option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if _libc().prctl(option, *padded) != 0:
        raise _last_error(f"prctl {option}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _last_error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        print(f"{Path(__file__).name}: cannot start {' '.join(sys.argv[5:6])}: {error}", file=sys.stderr)  # noqa: T201 - its parent's log
        sys.exit(_EXIT_CANNOT_EXECUTE)
