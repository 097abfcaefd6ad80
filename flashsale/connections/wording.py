"""What may be said of a connection, in logs and to people."""

from __future__ import annotations

import re

_PASSWORD_IN_QUERY = re.compile(r"(passw[^=&\s]*=)[^&\s]+", re.IGNORECASE)
_PASSWORD_OF_USER = re.compile(r"^([^:/@]*:/{2,}[^:]*|(?![^:/@]*://)[^:]*):.*@", re.DOTALL)
"""From the user's name to the last @: a password that is not escaped may hold what ends other parts of a URL."""
_QUOTED = re.compile(r"'.*'|\".*\"", re.DOTALL)


def redacted(url: str) -> str:
    """`url` as it may be shown: without its password, also when it is malformed; rather too little is shown than too much."""
    return _PASSWORD_OF_USER.sub(r"\1:***@", _PASSWORD_IN_QUERY.sub(r"\1***", url))


def reason_of(error: Exception) -> str:
    """What `error` says, without a full stop; some say nothing but what they are."""
    return str(error).rstrip(".") or type(error).__name__


def reason_unquoted(error: Exception) -> str:
    """As `reason_of`, without what it quotes: of a URL that was not understood that may be the password."""
    return _QUOTED.sub("'…'", reason_of(error))
