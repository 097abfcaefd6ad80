"""Request ids: unique without asking anyone, and cheap."""

from __future__ import annotations

import itertools
import secrets


class RequestIds:
    """Makes ids: random letters of this process, then a counter."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6) + "-"
        self._prefix_bytes = self._prefix.encode()
        self._count = itertools.count(1)

    def next(self) -> str:
        """A fresh id."""
        return f"{self._prefix}{next(self._count):x}"

    def next_bytes(self) -> bytes:
        """A fresh id, as it is sent."""
        return b"%b%x" % (self._prefix_bytes, next(self._count))
