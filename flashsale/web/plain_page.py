"""Pages that need no JavaScript: one frame, a heading, what there is to say, and when the browser looks again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from flashsale.errors import FlashsaleError
from flashsale.web.assets import Assets
from flashsale.web.html import Markup, Template, element, html_of, page_headers
from flashsale.web.line_words import Languages, Unfit, Words
from flashsale.web.problems import Code, Problem, ProblemError, of_error

_LATER = ("later_title", "later")
_FOR_SHOPPERS: Mapping[Code, tuple[str, str]] = {
    Code.DROP_NOT_FOUND: ("no_drop_title", "no_drop"),
    Code.RATE_LIMITED: ("too_fast_title", "too_fast"),
    Code.RECOVERING: ("back_in_order_title", "back_in_order"),
    Code.FORBIDDEN: ("elsewhere_title", "elsewhere"),
    **dict.fromkeys((Code.BUSY, Code.STORE_UNAVAILABLE, Code.UNKNOWN, Code.DATABASE_UNAVAILABLE, Code.UNSAFE_STORE), _LATER),
}
"""words of the heading and of what is said below it"""


class PlainPages:
    """Makes the pages."""

    def __init__(self, assets: Assets) -> None:
        self._template = Template.read("plain.html")
        self._css = assets.path("page.css")
        self.languages = Languages()

    def page(
        self, words: Words, headline: Markup, *content: Markup, over: str = "", refresh_ms: int = 0, to: str = "", status: int = 200
    ) -> web.Response:
        """A page.

        Args:
            over: a line above the heading: the drop's name.
            refresh_ms: when the browser looks again; 0 for not by itself.
            to: the address it looks at.
        """
        headers = headers_in(words, page_headers(scripts=False))
        if refresh_ms:
            headers["Refresh"] = f"{max(1, math.ceil(refresh_ms / 1000))}; url={to}"
        return web.Response(status=status, text=self._filled(words, headline, content, over), headers=headers)

    def failed(self, error: FlashsaleError | ProblemError, request: web.Request) -> Problem:
        """The page for a request that failed, with a way on."""
        words, found = self.languages.of(request), found_in(error)
        title, sentence = _FOR_SHOPPERS.get(found.code, ("trouble_title", ""))
        said = words.say(sentence) if sentence else why(words, error)
        wait_s = found.headers.get("Retry-After")
        way, address = ("try_again", request.path_qs) if wait_s else ("to_drop", request.path)
        on = element("a", words.say(way), href=address, class_="button")
        ways = element("p", *([] if found.status == 404 else [on, " "]), element("a", words.say("drops"), href="/"))
        text = self._filled(words, words.say(title), (element("p", said), ways), "")
        answer = Problem(status=found.status, text=text, headers=headers_in(words, page_headers(scripts=False)))
        if wait_s:
            answer.headers["Retry-After"] = wait_s
            answer.headers["Refresh"] = f"{wait_s}; url={request.path_qs}"
        answer.code = found.code
        return answer

    def _filled(self, words: Words, headline: Markup, content: tuple[Markup, ...], over: str) -> str:
        return self._template.fill(
            language=words.language,
            direction=words.direction,
            title=Markup(f"{headline} · {html_of(over)}") if over else headline,
            css=self._css,
            over=element("p", element("bdi", over), class_="crumb") if over else Markup(""),
            headline=headline,
            content=Markup("\n".join(content)),
        )


def headers_in(words: Words, headers: dict[str, str]) -> dict[str, str]:
    """The headers of a page in a language that the browser has asked for."""
    return {**headers, "Content-Language": words.language, "Vary": "Accept-Language"}


def found_in(error: FlashsaleError | ProblemError) -> Problem:
    """The problem that a failed request is answered with."""
    return error.problem if isinstance(error, ProblemError) else of_error(error)


def why(words: Words, error: FlashsaleError | ProblemError) -> Markup:
    """The sentence that says why a request failed."""
    if isinstance(error, Unfit):
        return words.say(error.word, **error.values)
    found = found_in(error)
    return words.refusal(found.code, document_of(found)["detail"])


def document_of(found: Problem) -> dict[str, Any]:
    """What a problem says as a document (RFC 9457)."""
    assert isinstance(found.body, bytes)
    document: dict[str, Any] = msgspec.json.decode(found.body)
    return document
