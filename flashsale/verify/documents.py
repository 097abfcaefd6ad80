"""Public documents of the service, fetched by HTTP and kept.

Whoever needs one that is there never waits; whoever needs one that is not shares the one request that is under way. When the service is
away, the last good document stays in use.
"""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from http.client import HTTPException
from typing import Any, Generic, NamedTuple, TypeVar

Value = TypeVar("Value")
Monotonic = Callable[[], float]

DOCUMENT_BYTES_MAX = 262_144
FRESH_MIN_S = 1.0
FRESH_MAX_S = 86_400.0
FIRST_RETRY_S = 2.0
"""between two tries while there is no document at all"""
LOST_AFTER_S = 60.0
"""a request that has not ended after this never will: its thread was lost in a fork"""

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?=$|[\s,])", re.IGNORECASE)
_CHUNK_BYTES = 65_536


class Unavailable(Exception):
    """The document could not be had. The words are why."""


class Loaded(NamedTuple, Generic[Value]):
    """A document and how long it may be used without looking again."""

    value: Value
    fresh_s: float


class Document(Generic[Value]):
    """One document, kept. Safe to use from threads and event loops at once."""

    def __init__(
        self, load: Callable[[], Loaded[Value]] | None, *, retry_s: float, monotonic: Monotonic, known: Value | None = None
    ) -> None:
        """Keeps what `load` returns.

        Args:
            load: fetches the document, in a thread of its own; raises Unavailable. Without it, `known` is all there ever is.
            retry_s: the least time between two requests once there is a document.
            monotonic: seconds that never step back.
            known: the document, when it is at hand.
        """
        self.value = known
        self.trouble = ""
        """why the last request failed, or empty"""
        self._load = load
        self._retry_s = retry_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._stale_at = self._retry_at = float("-inf")
        self._flight: Future[None] | None = None
        self._flight_began_at = 0.0

    @property
    def stale(self) -> bool:
        """Whether it is time to look again."""
        return self._load is not None and self._monotonic() >= self._stale_at

    def renew(self) -> Future[None] | None:
        """Asks for the document anew; whoever wants it waits for what is returned. None when the last request was too recent."""
        with self._lock:
            now = self._monotonic()
            if self._flight is not None and not self._flight.done() and now < self._flight_began_at + LOST_AFTER_S:
                return self._flight
            if self._load is None or now < self._retry_at:
                return None
            flight: Future[None] = Future()
            self._flight, self._flight_began_at = flight, now
        threading.Thread(target=self._fetch, args=(self._load, flight), name="flashsale-verify", daemon=True).start()
        return flight

    def _fetch(self, load: Callable[[], Loaded[Value]], flight: Future[None]) -> None:
        try:
            loaded = load()
        except Unavailable as error:
            self.trouble = str(error)
        else:
            self.value, self.trouble = loaded.value, ""
            self._stale_at = self._monotonic() + min(max(loaded.fresh_s, FRESH_MIN_S), FRESH_MAX_S)
        finally:
            self._retry_at = self._monotonic() + (FIRST_RETRY_S if self.value is None else self._retry_s)
            flight.set_result(None)


class Answer(NamedTuple):
    """A document's bytes, and what its Cache-Control header says."""

    body: bytes
    max_age_s: float | None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Whoever can redirect a request for keys can forge admissions."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Fetcher:
    """Fetches over http and https only, following nowhere, bounded in time and size."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._open = urllib.request.build_opener(_NoRedirects).open

    def get(self, url: str) -> Answer:
        """The document at `url`.

        Raises:
            Unavailable: nobody answers, in time, with a document of at most 256 kB.
        """
        if not url.startswith(("https://", "http://")):
            raise Unavailable("the address is not an http address")
        deadline = time.monotonic() + self._timeout_s
        try:
            with self._open(url, timeout=self._timeout_s) as answer:
                body = b""
                while chunk := answer.read1(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > DOCUMENT_BYTES_MAX:
                        raise Unavailable(f"the answer has more than {DOCUMENT_BYTES_MAX} bytes")
                    if time.monotonic() > deadline:
                        raise Unavailable(f"no complete answer within {self._timeout_s:g} s")
                found = _MAX_AGE.search(answer.headers.get("Cache-Control") or "")
        except (OSError, HTTPException, ValueError) as error:
            raise Unavailable(f"no answer: {type(error).__name__}") from None
        return Answer(body, float(found[1]) if found else None)
