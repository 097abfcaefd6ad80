"""Exit codes, and which error ends a command with which.

Scripts depend on these numbers; they are in the help of `flashsale` and never change their meaning.
"""

from __future__ import annotations

from enum import IntEnum

from flashsale.errors import FlashsaleError


class Exit(IntEnum):
    """What a command ends with."""

    OK = 0
    FINDING = 1
    """a check found something: drift, an unsafe store, a pending migration, an unclean demo"""
    USAGE = 2
    """the command line, a settings file or a drop file is wrong; nothing was done"""
    UNREACHABLE = 3
    """a store could not be reached or started"""
    REFUSED = 4
    """the service's rules say no: no such drop, a state it cannot be in, an unsafe store"""
    RUNNING = 5
    """another process has the data folder or the port"""
    DEFECT = 70
    """something failed that should not be able to; --debug shows where"""
    INTERRUPTED = 130
    """Ctrl-C"""


class AlreadyRunning(FlashsaleError):
    """Another process uses what this command needs for itself."""

    code = "already_running"


class Refused(FlashsaleError):
    """The command is understood and the rules say no."""

    code = "refused"


def exit_code_of(error: FlashsaleError) -> Exit:
    """What a command ends with when it fails with `error`; the first class that fits decides."""
    return next((code for kinds, code in _codes() if isinstance(error, kinds)), Exit.DEFECT)


def _codes() -> tuple[tuple[tuple[type[FlashsaleError], ...], Exit], ...]:
    from flashsale import errors
    from flashsale.drop_files import DropFileError
    from flashsale.drops import DropExists
    from flashsale.embedded.errors import EmbeddedFailed, FolderInUse

    return (
        ((FolderInUse, AlreadyRunning), Exit.RUNNING),
        ((errors.StoreUnavailable, errors.StoreUnknown, errors.DatabaseUnavailable, errors.Busy, EmbeddedFailed), Exit.UNREACHABLE),
        ((errors.ConfigurationError, errors.BadInput, DropFileError), Exit.USAGE),
        ((Refused, DropExists, errors.DropNotFound, errors.Recovering, errors.UnsafeStore), Exit.REFUSED),
    )
