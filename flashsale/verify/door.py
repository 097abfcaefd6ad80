"""What every middleware does, as values: where the token is, who is let in, and what others are told. Pure.

A shopper without admission who opens a page is led to the waiting page. Admitted, the waiting page leads back to the *entrance*, a page of
this package, with the token behind the `#`, which no server and no log ever sees; the entrance keeps it as a cookie and goes on to where
the shopper wanted to be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from posixpath import normpath
from urllib.parse import quote

from flashsale.verify.answers import Code, Refusal
from flashsale.verify.verifier import AdmissionVerifier

COOKIE = "flashsale_admission"
ENTRANCE = "/flashsale/enter"
RETURN_LENGTH_MAX = 2000
"""of an address to come back to, as the waiting page takes it; a longer one is left out"""
RETRY_AFTER_S = 5

_COOKIE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGES = Path(__file__).parent / "pages"
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a door looks at of a request."""

    method: str
    path: str
    """decoded"""
    query: str
    """without the question mark"""
    origin: str
    """scheme and host as the request says, for example `https://shop.example`"""
    header: Callable[[str], str]
    """a header's value by its lower-case name, empty when there is none"""

    @property
    def navigation(self) -> bool:
        """Whether a person opens a page, so that leading them elsewhere helps. Browsers say so (Fetch Metadata); others are guessed."""
        if self.method not in {"GET", "HEAD"}:
            return False
        mode = self.header("sec-fetch-mode")
        return mode == "navigate" if mode else "text/html" in self.header("accept")


@dataclass(frozen=True, slots=True)
class DoorAnswer:
    """An answer that does not come from the shop."""

    status: int
    headers: Headers
    body: bytes

    @property
    def line(self) -> str:
        """Status and phrase, as WSGI wants it."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """How a shop's door is kept."""

    verifier: AdmissionVerifier
    waiting_page: str = ""
    """`https://queue.shop.example/drops/launch`; empty: nobody is led anywhere"""
    origin: str = ""
    """the shop's own, `https://shop.example`; needed where a proxy ends TLS before the shop. Empty: as each request says"""
    paths: tuple[str, ...] = ("/",)
    """what is behind the door: these paths and everything below them"""
    cookie: str = COOKIE
    entrance: str = ENTRANCE
    """address of the entrance; the drop's `return_urls` has to allow it. Empty: the shop has a page of its own that keeps the token"""
    _pages: dict[str, DoorAnswer] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if _COOKIE_NAME.fullmatch(self.cookie) is None:
            raise ValueError("the cookie's name has 1 to 64 letters, digits, '_' and '-'")
        if self.waiting_page and not self.waiting_page.startswith(("https://", "http://")):
            raise ValueError("waiting_page is an address like https://queue.shop.example/drops/launch")
        if not all(path.startswith("/") for path in (*self.paths, self.entrance or "/")):
            raise ValueError("paths and the entrance begin with '/'")
        object.__setattr__(self, "_pages", self._entrance_pages())

    def covers(self, path: str) -> bool:
        """Whether the decoded `path` is behind the door, in any spelling that a framework may take for one that is.

        As it is written, and with its dots and double slashes resolved; small and capital letters are the same, as they are to Express.
        """
        written = path.lower()
        resolved = "/" + normpath(written).lstrip("/")
        kept = [prefix.lower().rstrip("/") for prefix in self.paths]
        return any(spelt == prefix or spelt.startswith(prefix + "/") for prefix in kept for spelt in (written, resolved))

    def own_page(self, asked: Asked) -> DoorAnswer | None:
        """The entrance's page or script, when that is what was asked for."""
        return self._pages.get(asked.path) if asked.method in {"GET", "HEAD"} else None

    def token(self, asked: Asked) -> str:
        """The token of the cookie, or else of `Authorization: Bearer`; empty when there is neither."""
        return token_of(asked.header("authorization"), asked.header("cookie"), self.cookie)

    def refuse(self, asked: Asked, refusal: Refusal) -> DoorAnswer:
        """Leads a person to the waiting page, and tells a program what is wrong."""
        if refusal.code is Code.KEYS_UNAVAILABLE:
            return _problem(refusal, 503, [("Retry-After", str(RETRY_AFTER_S))])
        if not self.waiting_page:
            return _problem(refusal, 403, [])
        if asked.navigation:
            return DoorAnswer(303, [("Location", self._way_in(asked)), ("Cache-Control", "no-store"), ("Content-Length", "0")], b"")
        return _problem(refusal, 403, [], waiting_page=self.waiting_page)

    def _way_in(self, asked: Asked) -> str:
        """The waiting page with the address to come back to."""
        wanted = _quoted(asked.path, "/~") + (f"?{asked.query}" if asked.query else "")
        target = f"{self.entrance}?to={_quoted(wanted)}" if self.entrance else wanted
        home = self.origin or asked.origin
        back = home + target
        if len(back) > RETURN_LENGTH_MAX:
            back = home + (self.entrance or "/")
        return f"{self.waiting_page}{'&' if '?' in self.waiting_page else '?'}return={_quoted(back)}"

    def _entrance_pages(self) -> dict[str, DoorAnswer]:
        if not self.entrance:
            return {}
        page = (_PAGES / "enter.html").read_text(encoding="utf-8")
        script = self.entrance + ".js"
        page = page.replace('src="enter.js"', f'src="{quote(script)}"').replace(f'data-cookie="{COOKIE}"', f'data-cookie="{self.cookie}"')
        return {
            self.entrance: _page(page.encode(), ".html"),
            script: _page((_PAGES / "enter.js").read_bytes(), ".js"),
        }


def token_of(authorization: str, cookies: str, cookie: str = COOKIE) -> str:
    """The token of a Cookie header, or else of an Authorization header with a bearer; empty when there is neither.

    The cookie comes first because a shop may have bearers of its own, for other purposes.
    """
    if kept := cookie_value(cookies, cookie):
        return kept
    scheme, _, credential = authorization.partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


def cookie_value(header: str, name: str) -> str:
    """The first value of a cookie in a Cookie header (RFC 6265, 4.2.1); empty when there is none."""
    for pair in header.split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            return value
    return ""


def _quoted(text: str, safe: str = "") -> str:
    """Percent-encoded; whatever a caller sends as an address has to come out as one."""
    return quote(text, safe=safe, errors="replace")


def _page(body: bytes, suffix: str) -> DoorAnswer:
    headers = [
        ("Content-Type", _TYPES[suffix]),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-cache"),
        ("Content-Security-Policy", _PAGE_POLICY),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return DoorAnswer(200, headers, body)


def _problem(refusal: Refusal, status: int, headers: Headers, **members: str) -> DoorAnswer:
    """A problem document (RFC 9457) with the same `code` in every connector."""
    document = {
        "type": f"urn:flashsale:problem:{refusal.code.value}",
        "title": "Not let in",
        "status": status,
        "detail": refusal.detail,
        "code": refusal.code.value,
        **members,
    }
    body = json.dumps(document, ensure_ascii=False).encode()
    own = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    return DoorAnswer(status, own + headers, body)
