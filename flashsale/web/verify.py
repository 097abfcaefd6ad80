"""One question, for proxies: does this request carry a good admission token?"""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from flashsale.errors import BadInput
from flashsale.model import DROP_ID_RE
from flashsale.verify import Admission, AdmissionVerifier, Refusal
from flashsale.verify import Code as Fault
from flashsale.verify.door import RETURN_LENGTH_MAX, token_of
from flashsale.web.problems import Code, problem
from flashsale.web.requests import query_of
from flashsale.web.services import Services

REMEMBERED_S = 5
"""how long a proxy may remember that a token is good; none is good for longer after a recovery"""


class Verify:
    """Answers nginx's auth_request, forward_auth of others, and whoever cannot verify a signature. Nothing is asked of a store."""

    def __init__(self, services: Services) -> None:
        self._clock = services.clock
        self._inlet = services.inlet
        tokens = services.settings.tokens
        self._verifier = AdmissionVerifier(jwks=services.jwks, issuer=tokens.issuer, audience=tokens.audience, now=self._now_s)

    async def verify(self, request: web.Request) -> web.Response:
        """GET /v1/verify: 204 for a good token, 401 when another one is needed, 403 when it is good elsewhere."""
        drop_id = _drop_of(request)
        verdict = self._judge(_token_of(request), drop_id)
        if isinstance(verdict, Refusal):
            answer = problem(Code(verdict.code.value), verdict.detail)
            # A proxy throws the body away, and makes an answer of its own from these.
            answer.headers["X-Flashsale-Refused"] = verdict.code.value
            answer.headers["X-Flashsale-Way-Back"] = self._way_back(drop_id, _wanted(request))
            return answer
        headers = {
            "X-Flashsale-Subject": verdict.subject,
            "X-Flashsale-Drop": verdict.drop,
            "X-Flashsale-Expires": str(verdict.expires_at_s),
            "Cache-Control": "no-store",
            # For nginx alone, which then keeps it to itself.
            "X-Accel-Expires": str(max(0, min(REMEMBERED_S, int(verdict.expires_at_s - self._now_s())))),
        }
        return web.Response(status=204, headers=headers)

    def _now_s(self) -> float:
        return self._clock.now_ms() / 1000

    def _judge(self, token: str, drop_id: str) -> Admission | Refusal:
        verdict = self._verifier.verify(token)
        if isinstance(verdict, Refusal):
            return verdict
        if drop_id and verdict.drop != drop_id:
            return Refusal(Fault.WRONG_DROP)
        live = self._inlet.get(verdict.drop)
        return Refusal(Fault.OLD_EPOCH) if live is not None and verdict.epoch < live.snapshot.epoch else verdict

    def _way_back(self, drop_id: str, wanted: str) -> str:
        """The query that tells the waiting page where to lead a shopper who wanted the address `wanted`; empty when that is not known."""
        live = self._inlet.get(drop_id)
        if live is None or not live.definition.return_urls:
            return ""
        entrance = live.definition.return_urls[0]
        back = f"{entrance}{'&' if '?' in entrance else '?'}to={quote(wanted, safe='', errors='surrogateescape')}"
        return f"?return={quote(back if len(back) <= RETURN_LENGTH_MAX else entrance, safe='')}"


def _wanted(request: web.Request) -> str:
    """The path and query a proxy was asked for; the shop's first page when it does not say."""
    return request.headers.get("X-Original-URI") or request.headers.get("X-Forwarded-Uri") or "/"


def _token_of(request: web.Request) -> str:
    """The token of the request itself, or of the one a proxy tells of."""
    headers = request.headers
    return token_of(headers.get("Authorization", ""), headers.get("Cookie", "")) or token_of(
        headers.get("X-Original-Authorization", ""), headers.get("X-Original-Cookie", "")
    )


def _drop_of(request: web.Request) -> str:
    """The only drop whose tokens are good, empty for any. Raises BadInput."""
    drop_id = query_of(request, "drop").get("drop", "")
    if drop_id and DROP_ID_RE.fullmatch(drop_id) is None:
        raise BadInput(what="This is not the id of a drop.", field="drop")
    return drop_id
