"""Who asks, and whether they may."""

from __future__ import annotations

from aiohttp import web

from flashsale.access import AccessKeys, Principal, Scope
from flashsale.web.clients import Clients
from flashsale.web.problems import Code, ProblemError, problem
from flashsale.web.requests import bearer


class Authority:
    """Checks API keys. Whoever guesses is slowed down like whoever floods."""

    def __init__(self, access: AccessKeys, clients: Clients) -> None:
        self._access = access
        self._clients = clients

    async def of(self, request: web.Request, *scopes: Scope) -> Principal:
        """Who asks, with a key for one of `scopes`.

        Raises:
            ProblemError: there is no valid key, or it has none of the scopes.
        """
        principal = await self._access.authenticate(bearer(request))
        if principal is None:
            self.charge(request)
            raise ProblemError(problem(Code.UNAUTHORIZED))
        if principal.scopes.isdisjoint(scopes):
            raise ProblemError(problem(Code.FORBIDDEN))
        return principal

    def charge(self, request: web.Request) -> None:
        """Counts a request that was not genuine. Raises ProblemError when there were too many from where it came."""
        wait_s = self._clients.take(request)
        if wait_s:
            raise ProblemError(problem(Code.RATE_LIMITED, retry_after_s=wait_s))
