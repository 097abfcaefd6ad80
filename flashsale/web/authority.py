"""Who asks, and whether they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from flashsale.access import AccessKeys, Principal, Scope
from flashsale.web.clients import Clients
from flashsale.web.console_session import session_cookie
from flashsale.web.page_origin import refuse_other_pages
from flashsale.web.problems import Code, ProblemError, problem
from flashsale.web.requests import bearer

if TYPE_CHECKING:
    from flashsale.web.console_session import ConsoleSessions


class Authority:
    """Checks API keys.

    A right key is always taken, also from where others guess. Wrong ones count as changes do, and whoever sends too many is told so;
    what keeps guessers out is that a key has 256 random bits.
    """

    def __init__(self, access: AccessKeys, clients: Clients, sessions: ConsoleSessions | None = None) -> None:
        """Put it together.

        Args:
            access: the keys in force.
            clients: limits what is not genuine.
            sessions: of the console, where its cookie is taken in place of a key.
        """
        self._access = access
        self._clients = clients
        self._sessions = sessions

    async def of(self, request: web.Request, *scopes: Scope) -> Principal:
        """Who asks, with a key for one of `scopes`.

        Raises:
            ProblemError: there is no valid key or session, it has none of the scopes, or it is a session that another
                page makes use of.
        """
        principal, _ = await self.until(request, *scopes)
        return principal

    async def until(self, request: web.Request, *scopes: Scope) -> tuple[Principal, int | None]:
        """As `of`, and when that ends by itself, in ms; None for never."""
        found = await self._by_session(request) or await self._by_key(request)
        if found is None:
            self.charge(request)
            raise ProblemError(problem(Code.UNAUTHORIZED))
        if found[0].scopes.isdisjoint(scopes):
            raise ProblemError(problem(Code.FORBIDDEN))
        return found

    async def _by_key(self, request: web.Request) -> tuple[Principal, int | None] | None:
        principal = await self._access.authenticate(bearer(request))
        return None if principal is None else (principal, principal.expires_at_ms)

    async def _by_session(self, request: web.Request) -> tuple[Principal, int] | None:
        if self._sessions is None or "Authorization" in request.headers:
            return None
        secure = self._clients.is_secure(request)
        cookie = session_cookie(request, secure=secure)
        found = None if cookie is None else await self._sessions.find(cookie)
        if found is not None:
            refuse_other_pages(request, secure=secure)
        return found

    def charge(self, request: web.Request) -> None:
        """Counts a request that was not genuine. Raises ProblemError when there were too many from where it came."""
        wait_s = self._clients.take(request)
        if wait_s:
            raise ProblemError(problem(Code.RATE_LIMITED, retry_after_s=wait_s))
