"""What may be said of a connection, in logs and to people."""

from __future__ import annotations

import re


def redacted(url: str) -> str:
    """`url` as it may be shown: without its password."""
    return re.sub(r"(?<=//)([^/@]*):[^/@]*@", r"\1:***@", url)


def reason_of(error: Exception) -> str:
    """What `error` says, without a full stop; some say nothing but what they are."""
    return str(error).rstrip(".") or type(error).__name__
