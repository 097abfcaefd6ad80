"""Pages that need no JavaScript: one frame, a heading, what there is to say, and when the browser looks again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from flashsale.web.assets import Assets
from flashsale.web.html import Markup, Template, element, page_headers
from flashsale.web.problems import Code, Problem

_LATER = ("A moment, please", "The service cannot answer just now. If you have a place, it is kept; this page tries again by itself.")
_FOR_SHOPPERS: Mapping[Code, tuple[str, str]] = {
    Code.DROP_NOT_FOUND: ("There is no such drop", "Is the address complete? It is best to follow the shop's own link."),
    Code.RATE_LIMITED: ("That was too fast", "Too many requests came from your connection. This page tries again by itself."),
    Code.RECOVERING: ("We are putting things back in order", "If you have a place, it is kept. This page goes on by itself."),
    Code.FORBIDDEN: ("This did not come from here", "Another page tried to act for you. Nothing has changed."),
    **dict.fromkeys((Code.BUSY, Code.STORE_UNAVAILABLE, Code.UNKNOWN, Code.DATABASE_UNAVAILABLE, Code.UNSAFE_STORE), _LATER),
}


class PlainPages:
    """Makes the pages."""

    def __init__(self, assets: Assets) -> None:
        self._template = Template.read("plain.html")
        self._css = assets.path("page.css")

    def page(self, headline: str, *content: Markup, over: str = "", refresh_ms: int = 0, to: str = "", status: int = 200) -> web.Response:
        """A page.

        Args:
            over: a line above the heading: the drop's name.
            refresh_ms: when the browser looks again; 0 for not by itself.
            to: the address it looks at.
        """
        headers = page_headers(scripts=False)
        if refresh_ms:
            headers["Refresh"] = f"{max(1, math.ceil(refresh_ms / 1000))}; url={to}"
        return web.Response(status=status, text=self._filled(headline, content, over), headers=headers)

    def problem(self, found: Problem, request: web.Request) -> Problem:
        """A problem as the page that answers `request`, with a way on."""
        title, sentence = _FOR_SHOPPERS.get(found.code) or ("That did not work", detail_of(found))
        wait_s = found.headers.get("Retry-After")
        words, address = ("Try again", request.path_qs) if wait_s else ("Go to the drop", request.path)
        on = element("a", words, href=address, class_="button")
        ways = element("p", *([] if found.status == 404 else [on, " "]), element("a", "All drops", href="/"))
        text = self._filled(title, (element("p", sentence), ways), "")
        answer = Problem(status=found.status, text=text, headers=page_headers(scripts=False))
        if wait_s:
            answer.headers["Retry-After"] = wait_s
            answer.headers["Refresh"] = f"{wait_s}; url={request.path_qs}"
        answer.code = found.code
        return answer

    def _filled(self, headline: str, content: tuple[Markup, ...], over: str) -> str:
        return self._template.fill(
            title=f"{headline} · {over}" if over else headline,
            css=self._css,
            over=element("p", over, class_="crumb") if over else Markup(""),
            headline=headline,
            content=Markup("\n".join(content)),
        )


def detail_of(found: Problem) -> str:
    """The sentence that a problem says."""
    return str(document_of(found)["detail"])


def document_of(found: Problem) -> dict[str, Any]:
    """What a problem says as a document (RFC 9457)."""
    assert isinstance(found.body, bytes)
    document: dict[str, Any] = msgspec.json.decode(found.body)
    return document
