"""Which page sent a request: a browser sends cookies by itself, so what changes something by one has to come from a page of our own.

Browsers say it (Fetch Metadata; RFC 6454), and programs need not.
"""

from __future__ import annotations

from aiohttp import web

from flashsale.web.problems import Code, ProblemError, problem

_READING = frozenset({"GET", "HEAD"})


def is_from_elsewhere(request: web.Request, *, secure: bool) -> bool | None:
    """Whether a page of another origin sent the request; None when it does not say.

    Args:
        secure: the request came by https.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site != "same-origin"
    origin = request.headers.get("Origin")
    if origin is None:
        return None
    # Without https here, a proxy nobody told us of may still have it.
    schemes = ("https",) if secure else ("https", "http")
    return origin.lower() not in {f"{scheme}://{request.host.lower()}" for scheme in schemes}


def refuse_other_pages(request: web.Request, *, secure: bool) -> None:
    """Raises ProblemError when a request with a cookie would change something and not certainly comes from our own page."""
    if request.method not in _READING and is_from_elsewhere(request, secure=secure) is not False:
        raise ProblemError(problem(Code.FORBIDDEN, "The session counts for requests of the console's own page only."))
