"""Cross-origin rules: an allow-list of exact origins, never with credentials."""

from __future__ import annotations

from collections.abc import Iterable

PREFLIGHT_MAX_AGE_S = 7200
ALLOWED_METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-Id, If-None-Match"
EXPOSED_HEADERS = "X-Request-Id, Retry-After, ETag, Location"
ANY = "*"


class CrossOrigin:
    """What pages of other origins may read."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)
        self.any = ANY in self._origins
        """every origin may: answers do not depend on who asks"""
        self._for_any = (("Access-Control-Allow-Origin", ANY), ("Access-Control-Expose-Headers", EXPOSED_HEADERS))

    def headers(self, origin: str | None) -> tuple[tuple[str, str], ...]:
        """Headers of an answer to a page of `origin` (None: no page asked)."""
        if self.any:
            return self._for_any
        if origin is None or origin not in self._origins:
            return (("Vary", "Origin"),)
        return (("Vary", "Origin"), ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", EXPOSED_HEADERS))

    def preflight(self, origin: str | None) -> tuple[tuple[str, str], ...]:
        """Headers of the answer to a preflight, on top of `headers`."""
        if not self.any and (origin is None or origin not in self._origins):
            return ()
        return (
            ("Access-Control-Allow-Methods", ALLOWED_METHODS),
            ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
            ("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S)),
        )
