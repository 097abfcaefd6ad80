"""Cross-origin rules: allow-lists of exact origins, never with credentials. A drop's own list can only narrow the operator's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flashsale.model import Drop
from flashsale.web.answers import Headers

PREFLIGHT_MAX_AGE_S = 7200
ALLOWED_METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-Id, If-None-Match"
EXPOSED_HEADERS = "X-Request-Id, Retry-After, ETag, Location"
ANY = "*"

FOR_ANYONE: Headers = (("Access-Control-Allow-Origin", ANY), ("Access-Control-Expose-Headers", EXPOSED_HEADERS))
"""of answers that pages of every origin may read"""
_FOR_NOBODY: Headers = (("Vary", "Origin"),)
_PREFLIGHT: Headers = (
    ("Access-Control-Allow-Methods", ALLOWED_METHODS),
    ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
    ("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S)),
)


class CrossOrigin:
    """What pages of other origins may read."""

    def __init__(self, origins: Iterable[str]) -> None:
        origins = tuple(origins)
        self.any = ANY in origins
        """every origin may: answers do not depend on who asks"""
        self.by_origin: Mapping[str, Headers] = {
            origin: (*_FOR_NOBODY, ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", EXPOSED_HEADERS))
            for origin in origins
            if not self.any
        }
        """headers of an answer to a page of each origin that may"""

    def headers(self, origin: str | None) -> Headers:
        """Headers of an answer to a page of `origin` (None: no page asked)."""
        if self.any:
            return FOR_ANYONE
        return _FOR_NOBODY if origin is None else self.by_origin.get(origin, _FOR_NOBODY)

    def preflight(self, origin: str | None) -> Headers:
        """Headers of the answer to a preflight, on top of `headers`."""
        return _PREFLIGHT if self.any or origin in self.by_origin else ()

    def narrowed(self, origins: Iterable[str]) -> CrossOrigin:
        """The rule for those of `origins` that this one lets read."""
        return CrossOrigin(origin for origin in origins if self.any or origin in self.by_origin)


class CrossOrigins:
    """The operator's rule, and those of the drops that have their own."""

    def __init__(self, operators: CrossOrigin) -> None:
        self.operators = operators
        self._of_drops: dict[str, CrossOrigin] = {}
        self._origins: dict[str, tuple[str, ...]] = {}

    def learn(self, drop: Drop) -> CrossOrigin:
        """Notes what a drop says of origins; its rule."""
        if self._origins.get(drop.drop_id, ()) != drop.origins:
            self._origins[drop.drop_id] = drop.origins
            self._of_drops[drop.drop_id] = self.operators.narrowed(drop.origins) if drop.origins else self.operators
        return self.of_drop(drop.drop_id)

    def of_drop(self, drop_id: str) -> CrossOrigin:
        """The rule for answers about a drop; the operator's for one that has none of its own, or is not known."""
        return self._of_drops.get(drop_id, self.operators)

    def of_values(self, values: Mapping[str, str]) -> CrossOrigin:
        """The rule for a request, by the variable parts of its address: they name a drop, or a ticket or reservation of one."""
        if not self._of_drops:
            return self.operators
        drop_id = values.get("drop")
        if drop_id is None:
            drop_id = (values.get("ticket_id") or values.get("id") or "").rpartition(".")[0]
        return self.of_drop(drop_id)
