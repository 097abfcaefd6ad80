"""Logging: key-values, one canonical line per request and per batch, never a token or a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from flashsale.settings import LogSettings

REDACTED = "[redacted]"

_SECRET_NAMES = re.compile(
    r"authori[sz]ation|cookie|passw|secret|api_?key|receipt|private|signature|(?:^|_)(?:token|bearer|credential)s?$", re.IGNORECASE
)
_SECRET_VALUES = re.compile(
    r"""
      fs_live_[A-Za-z0-9]{12}_[A-Za-z0-9_-]{43}              # an API key
    | wh(?:sec|sk)_[A-Za-z0-9+/=_-]{16,}                     # a webhook secret
    | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+   # a JWT or a receipt
    | (?i:\b(?:bearer|ticket)\s+)[A-Za-z0-9._~+/=-]{16,}     # an Authorization header's value
    | \.t[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{16,128}            # a ticket with its secret
    | (?<=://)\S*(?i:passw[^=&\s]*=)[^&\s]+                  # a URL up to the password in its query
    | (?<=://)[^\s:]*:\S+(?=@)                               # the password in a URL, which may hold an @ itself
    """,
    re.VERBOSE,
)
_DEPTH_MAX = 6


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: members that are secrets by name, and secrets inside any text, become `[redacted]`."""
    return {name: _redacted(name, value, 0) for name, value in event.items()}


def _redacted(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _DEPTH_MAX or _SECRET_NAMES.search(name):
        return REDACTED
    if isinstance(value, MutableMapping):
        return {str(key): _redacted(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", item, depth + 1) for item in value]
    return _SECRET_VALUES.sub(REDACTED, value.decode(errors="replace") if isinstance(value, bytes) else str(value))


class Trouble:
    """What fails again and again for as long as something is away: said once when it begins and once when it is over."""

    def __init__(self, log: Any, began: str, over: str, **facts: Any) -> None:
        """Nothing has failed yet.

        Args:
            log: where it is said.
            began: event of the warning.
            over: event of the good news.
            facts: go with both.
        """
        self._log = log
        self._began = began
        self._over = over
        self._facts = facts
        self._lasts = False

    def met(self, **facts: Any) -> None:
        """It failed."""
        if not self._lasts:
            self._log.warning(self._began, **self._facts, **facts)
        self._lasts = True

    def passed(self) -> None:
        """It worked."""
        if self._lasts:
            self._log.info(self._over, **self._facts)
        self._lasts = False


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Sets logging up for this process; also what libraries log through `logging`.

    Args:
        settings: level, format and sampling.
        stream: where lines go; standard error when None, so that a command's output stays clean.
    """
    stream = sys.stderr if stream is None else stream
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    renderer: Processor = structlog.processors.JSONRenderer(serializer=_to_json) if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(max(level, logging.WARNING))


def _to_json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


class _Forward(logging.Handler):
    """What libraries log becomes lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
