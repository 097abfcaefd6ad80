"""Sessions of the merchant console: a signed cookie in place of an API key.

The cookie names a key and holds none. Nothing is kept here about sessions: with every request the key is looked up among
those in memory, so a key that is revoked or runs out ends its sessions within seconds, and a session works while Postgres
is away. A browser sends cookies by itself, so whatever changes something has to come from a page of our own
(RFC 6265bis, 8.8.2; Fetch Metadata).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import structlog
from aiohttp import web
from msgspec import Meta, Struct

from admission.signed_texts import SignedTexts
from flashsale.access import Scope
from flashsale.web.answers import personal
from flashsale.web.page_origin import is_from_elsewhere, refuse_other_pages
from flashsale.web.problems import Code, problem
from flashsale.web.requests import read_json

if TYPE_CHECKING:
    from admission.tokens import SigningKeySet
    from flashsale.access import AccessKeys, Principal
    from flashsale.clock import Clock
    from flashsale.web.clients import Clients
    from flashsale.web.services import Services

SESSION_TYPE = "flashsale-console+jwt"
SESSION_TTL_MS = 8 * 3_600_000
SESSION_LENGTH_MAX = 1024
KEY_LENGTH_MAX = 200
COOKIE = "flashsale-console"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""only a page served by https may set it, for its own host and every path (RFC 6265bis, 4.1.3)"""

_encode = msgspec.json.Encoder().encode


class SignInBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST session."""

    key: Annotated[str, Meta(max_length=KEY_LENGTH_MAX)]
    """an API key with the scope `merchant`"""


class SessionView(Struct, frozen=True):
    """Who is signed in."""

    tenant: str
    scopes: list[str]
    expires_at_ms: int


class _Claims(Struct, frozen=True):
    sub: str
    """id of the API key"""
    iat: int
    exp: int


_sign_in_body = msgspec.json.Decoder(SignInBody)
_decode_claims = msgspec.json.Decoder(_Claims).decode


class ConsoleSessions:
    """Makes sessions, and finds who stands behind one."""

    def __init__(self, keys: SigningKeySet, access: AccessKeys, clock: Clock) -> None:
        self._texts = SignedTexts(keys, SESSION_TYPE, SESSION_LENGTH_MAX)
        self._access = access
        self._clock = clock

    def begin(self, principal: Principal) -> tuple[str, int, int]:
        """A new session of the key that `principal` has shown: (the cookie's value, when it ends in ms, how long in seconds)."""
        now_ms = self._clock.now_ms()
        ends_at_ms = min(now_ms + SESSION_TTL_MS, principal.expires_at_ms or now_ms + SESSION_TTL_MS)
        claims = _Claims(sub=principal.key_id, iat=now_ms // 1000, exp=ends_at_ms // 1000)
        return self._texts.sign(_encode(claims)), claims.exp * 1000, claims.exp - claims.iat

    async def find(self, cookie: str) -> tuple[Principal, int] | None:
        """Who a session stands for and when it ends in ms; None when it has ended or is not ours."""
        try:
            claims = _decode_claims(self._texts.verify(cookie))
        except (ValueError, msgspec.MsgspecError):
            return None
        if self._clock.now_ms() >= claims.exp * 1000:
            return None
        principal = await self._access.find(claims.sub)
        return None if principal is None else (principal, claims.exp * 1000)


def session_cookie(request: web.Request, *, secure: bool) -> str | None:
    """The session that a request carries; by https only one that was set by https."""
    return request.cookies.get(SECURE_COOKIE if secure else COOKIE)


class SessionRoutes:
    """Handlers of signing in and out."""

    def __init__(self, services: Services, clients: Clients) -> None:
        self._access = services.access
        self._sessions = services.console_sessions
        self._clients = clients
        self._log = structlog.get_logger("console")
        self._body_timeout_s = services.settings.http.body_timeout_ms / 1000

    async def sign_in(self, request: web.Request) -> web.Response:
        """POST /console/session: a session for an API key. Wrong ones are counted as they are everywhere."""
        secure = self._clients.is_secure(request)
        if is_from_elsewhere(request, secure=secure):
            return problem(Code.FORBIDDEN, "Signing in is for the console's own page.")
        body = await read_json(request, _sign_in_body, self._body_timeout_s)
        principal = await self._access.authenticate(body.key.strip())
        if principal is None:
            wait_s = self._clients.take(request)
            if wait_s:
                return problem(Code.RATE_LIMITED, retry_after_s=wait_s)
            return problem(Code.UNAUTHORIZED, "This API key is unknown, expired or revoked.")
        if Scope.MERCHANT not in principal.scopes:
            return problem(Code.FORBIDDEN, "The console needs a key with the scope merchant.")
        value, ends_at_ms, ttl_s = self._sessions.begin(principal)
        self._log.info("signed_in", key_id=principal.key_id, tenant=principal.tenant, ttl_s=ttl_s)
        answer = _session(principal, ends_at_ms)
        answer.set_cookie(
            SECURE_COOKIE if secure else COOKIE,
            value,
            max_age=ttl_s,
            path="/",
            secure=secure,
            httponly=True,
            samesite="Strict",
        )
        return answer

    async def show(self, request: web.Request) -> web.Response:
        """GET /console/session: who is signed in."""
        cookie = session_cookie(request, secure=self._clients.is_secure(request))
        found = None if cookie is None else await self._sessions.find(cookie)
        return problem(Code.UNAUTHORIZED, "Nobody is signed in.") if found is None else _session(*found)

    async def sign_out(self, request: web.Request) -> web.Response:
        """DELETE /console/session: the browser forgets the session."""
        secure = self._clients.is_secure(request)
        refuse_other_pages(request, secure=secure)
        answer = web.Response(status=204, headers={"Cache-Control": "no-store"})
        answer.del_cookie(SECURE_COOKIE if secure else COOKIE, path="/", secure=secure, httponly=True, samesite="Strict")
        return answer


def _session(principal: Principal, ends_at_ms: int) -> web.Response:
    view = SessionView(principal.tenant, sorted(scope.value for scope in principal.scopes), ends_at_ms)
    return personal(view)
