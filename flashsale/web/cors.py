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
)
_KEPT_PREFLIGHT: Headers = (*_PREFLIGHT, ("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S)))


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

    def lets_read(self, origin: str | None) -> bool:
        """Whether a page of `origin` may read."""
        return self.any or origin in self.by_origin

    def narrowed(self, origins: Iterable[str]) -> CrossOrigin:
        """The rule for those of `origins` that this one lets read."""
        return CrossOrigin(origin for origin in origins if self.lets_read(origin))


class CrossOrigins:
    """The operator's rule, and those of the drops that have their own."""

    def __init__(self, operators: CrossOrigin) -> None:
        self.operators = operators
        self._of_drops: dict[str, CrossOrigin] = {}
        self._origins: dict[str, tuple[str, ...]] = {}

    def learn(self, drop: Drop) -> CrossOrigin:
        """Notes what a drop says of origins; its rule."""
        drop_id = drop.drop_id
        if self._origins.get(drop_id) != drop.origins:
            self._origins[drop_id] = drop.origins
            self._of_drops.pop(drop_id, None)
            if drop.origins:
                self._of_drops[drop_id] = self.operators.narrowed(drop.origins)
        return self.of_drop(drop_id)

    def of_drop(self, drop_id: str) -> CrossOrigin:
        """The rule for answers about a drop; the operator's for one that has none of its own, or is not known."""
        return self._of_drops.get(drop_id, self.operators)

    def of_values(self, values: Mapping[str, str]) -> CrossOrigin:
        """The rule for a request, by the variable parts of its address: they name a drop, or a ticket or reservation of one."""
        if not self._of_drops:
            return self.operators
        return self.of_drop(_drop_of(values))

    def preflight_of(self, values: Mapping[str, str], origin: str | None) -> Headers:
        """Headers of the answer to a preflight, on top of those of every answer; none for a page that may not read.

        Browsers keep it for two hours when the rule is certain. A worker that has just started may not have met the drop; its answer is
        the operator's, and browsers ask again after five seconds (Fetch, 4.8).
        """
        if not self.of_values(values).lets_read(origin):
            return ()
        drop_id = _drop_of(values)
        return _KEPT_PREFLIGHT if not drop_id or drop_id in self._origins else _PREFLIGHT


def _drop_of(values: Mapping[str, str]) -> str:
    """The drop that an address names by itself, or by a ticket or reservation of it; empty for none."""
    return values.get("drop") or (values.get("ticket_id") or values.get("id") or "").rpartition(".")[0]
