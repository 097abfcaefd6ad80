"""The one tree of exceptions. Expected outcomes are values (see `flashsale.model`); these are for the unexpected.

Nothing here knows HTTP: `flashsale.web.problems` translates each class once.
"""

from __future__ import annotations


class FlashsaleError(Exception):
    """Something failed; says what, why and what to do about it.

    `code` is stable and may be shown to callers; `what`, `why` and `todo` are sentences without secrets.
    """

    code = "internal"

    def __init__(self, *, what: str, why: str = "", todo: str = "") -> None:
        self.what = what
        self.why = why
        self.todo = todo
        super().__init__(" ".join(part for part in (what, why, todo) if part))


class UnsafeStore(FlashsaleError):
    """A store is reachable but set up so that units or orders could be lost."""

    code = "unsafe_store"


class StoreUnavailable(FlashsaleError):
    """The store could not be reached or refused to start; nothing has changed."""

    code = "store_unavailable"


class StoreUnknown(FlashsaleError):
    """The call was sent and no answer came: it may or may not have taken effect.

    Repeating it with the same caller-made id gives the one true outcome.
    """

    code = "unknown"


class Busy(FlashsaleError):
    """A bounded waiting line in this process is full."""

    code = "busy"


class Recovering(FlashsaleError):
    """The store has lost, or does not yet hold again, what belongs to this drop."""

    code = "recovering"


class DatabaseUnavailable(FlashsaleError):
    """Postgres could not be reached or refused the connection."""

    code = "database_unavailable"


class DropNotFound(FlashsaleError):
    """No drop of that id is known."""

    code = "drop_not_found"


class ScriptError(FlashsaleError):
    """A script refused its arguments or found a key of the wrong type: a defect or tampering, never a business outcome."""

    code = "internal"


class BadInput(FlashsaleError):
    """The caller's input is malformed. `field` names the offending part where there is one."""

    code = "bad_request"

    def __init__(self, *, what: str, field: str | None = None, why: str = "", todo: str = "") -> None:
        self.field = field
        super().__init__(what=what, why=why, todo=todo)


class ConfigurationError(FlashsaleError):
    """Settings are missing or contradict one another."""

    code = "configuration"
