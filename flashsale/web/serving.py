"""The serving documents, rendered once per change, and the short path that answers them in front of the router.

The short path only ever takes a request it understands completely: exactly the bytes of one simple GET of a known
document, or of several. Whatever is unusual goes the long way through the parser and the router, and gets the same answer
there.
"""

from __future__ import annotations

import base64
import hashlib
import re
from email.utils import formatdate

from aiohttp import web

from admission.inlet import LiveDrop
from flashsale.metrics import Metrics
from flashsale.model import DROP_ID_PATTERN
from flashsale.web.answers import Headers
from flashsale.web.cors import CrossOrigin, CrossOrigins
from flashsale.web.request_ids import RequestIds
from flashsale.web.requests import etag_matches

SERVER_NAME = "flashsale"
HEADS_MAX = 4096
"""request heads remembered as understood"""
HEAD_BYTES_MAX = 4096
PIPELINED_MAX = 32

_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# Names whose meaning cannot change what the answer is; everything else goes the long way.
_PLAIN_NAMES = (
    rb"user-agent|accept|accept-language|accept-encoding|accept-charset|cache-control|pragma|referer|dnt|priority|cookie|"
    rb"sec-" + _TOKEN + rb"+|x-forwarded-(?:for|proto|host|port)|x-real-ip|via|forwarded|traceparent|tracestate"
)
_SIMPLE_HEAD = re.compile(
    rb"GET (?P<path>/v1/drops/" + DROP_ID_PATTERN.encode() + rb"/serving) HTTP/1\.1\r\n"
    rb"(?P<headers>(?:"
    rb"(?i:host):[ \t]*(?P<host>[A-Za-z0-9.:\[\]_-]+)[ \t]*\r\n"
    rb"|(?i:connection):[ \t]*(?i:keep-alive)[ \t]*\r\n"
    rb"|(?i:if-none-match):[ \t]*(?P<tags>[\x21\x23-\x7e\x22, ]*)\r\n"
    rb"|(?i:origin):[ \t]*(?P<origin>[\x21-\x7e]*)[ \t]*\r\n"
    rb"|(?i:" + _PLAIN_NAMES + rb"):[ \t]*[\x20-\x7e\t]*\r\n"
    rb")+)\r\n"
)
_SINGLE_NAMES = re.compile(rb"(?im:^(host|if-none-match|origin|connection):)")


def etag_of(body: bytes) -> str:
    """A strong entity tag (RFC 9110, 8.8.3): another body has another one."""
    return '"' + base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:12]).decode() + '"'


class ServingDocument:
    """One drop's document, ready to send."""

    __slots__ = ("_found", "_found_tail", "_unchanged", "body", "by_origin", "etag", "headers", "rule")

    def __init__(self, rule: CrossOrigin) -> None:
        self.rule = rule
        self.by_origin: dict[bytes, ServingDocument] = {}
        """the same for pages of the origins on the rule's list, as the short path answers them; empty where everybody may read"""
        self.body = b""
        self.etag = ""
        self.headers: dict[str, str] = {}
        """of the answer 200, without those every answer has"""
        self._found = self._found_tail = self._unchanged = b""

    def render_for_all(self, body: bytes) -> None:
        """Takes over a new document, for whoever asks."""
        self.render(body, self.rule.headers(None))
        for origin, headers in self.rule.by_origin.items():
            document = self.by_origin.get(origin.encode())
            if document is None:
                document = self.by_origin[origin.encode()] = ServingDocument(self.rule)
            document.render(body, headers)

    def render(self, body: bytes, cross_origin: Headers) -> None:
        """Takes over a new document, to be answered with the headers `cross_origin` as well."""
        self.body = body
        self.etag = etag_of(body)
        self.headers = {"Content-Type": "application/json", "ETag": self.etag, "Cache-Control": "public, max-age=1"}
        shared = [*cross_origin, ("X-Content-Type-Options", "nosniff"), ("Date", formatdate(usegmt=True)), ("Server", SERVER_NAME)]
        self._found = _head("200 OK", [*self.headers.items(), ("Content-Length", str(len(body))), *shared])
        self._found_tail = _END + body
        self._unchanged = _head("304 Not Modified", [*self.unchanged_headers().items(), *shared])

    def unchanged_headers(self) -> dict[str, str]:
        """Headers of the answer 304."""
        return {"ETag": self.etag, "Cache-Control": self.headers["Cache-Control"]}

    def found(self, request_id: bytes) -> bytes:
        """The whole answer 200 as bytes."""
        return self._found + request_id + self._found_tail

    def unchanged(self, request_id: bytes) -> bytes:
        """The whole answer 304 as bytes."""
        return self._unchanged + request_id + _END


def _head(status: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "X-Request-Id: "]
    return "\r\n".join(lines).encode()


class ServingDocuments:
    """The documents of all drops this worker knows; the inlet tells it of every change."""

    def __init__(self, cross_origin: CrossOrigin, request_ids: RequestIds, metrics: Metrics) -> None:
        self.cross_origins = CrossOrigins(cross_origin)
        self.request_ids = request_ids
        self._next_id = request_ids.next_bytes
        self._metrics = metrics
        self._documents: dict[str, ServingDocument] = {}
        self._by_path: dict[bytes, ServingDocument] = {}
        self._heads: dict[bytes, ServingDocument] = {}
        self._answered = 0

    def see(self, live: LiveDrop) -> None:
        """Renders a drop's document anew."""
        drop_id = live.snapshot.drop_id
        rule = self.cross_origins.learn(live.definition)
        document = self._documents.get(drop_id)
        if document is None or document.rule is not rule:
            document = self._documents[drop_id] = ServingDocument(rule)
            self._by_path[f"/v1/drops/{drop_id}/serving".encode()] = document
            self._heads.clear()
        document.render_for_all(live.document)
        if self._answered:
            self._metrics.short_answers.inc(self._answered)
            self._answered = 0

    def get(self, drop_id: str) -> ServingDocument | None:
        """The document of a drop, or None when this worker does not know it."""
        return self._documents.get(drop_id)

    def short_answer(self, data: bytes) -> bytes | None:
        """The bytes that answer `data`, or None when it is anything but complete simple requests for known documents."""
        document = self._heads.get(data)
        if document is not None:
            self._answered += 1
            return document.found(self._next_id())
        if not data.startswith(b"GET /v1/drops/") or not data.endswith(_END):
            return None
        if data.find(_END) == len(data) - len(_END):
            return self._one(data)
        parts = data.split(_END, PIPELINED_MAX + 1)
        if len(parts) > PIPELINED_MAX + 1 or parts[-1]:
            return None
        answers = [self._one(part + _END) for part in parts[:-1]]
        return None if None in answers else b"".join(answer for answer in answers if answer is not None)

    def _one(self, head: bytes) -> bytes | None:
        document = self._heads.get(head)
        if document is None:
            match = _SIMPLE_HEAD.fullmatch(head) if len(head) <= HEAD_BYTES_MAX else None
            document = self._by_path.get(match["path"]) if match else None
            if match is None or document is None or not _is_plain(match):
                return None
            if match["origin"] is not None:
                document = document.by_origin.get(match["origin"], document)
            if match["tags"] is not None:
                # Not remembered: the next one of the same client carries another tag.
                if etag_matches(match["tags"].decode(), document.etag):
                    self._answered += 1
                    return document.unchanged(self._next_id())
            else:
                self._remember(head, document)
        self._answered += 1
        return document.found(self._next_id())

    def _remember(self, head: bytes, document: ServingDocument) -> None:
        if len(self._heads) >= HEADS_MAX:
            self._heads.clear()
        self._heads[head] = document


def _is_plain(match: re.Match[bytes]) -> bool:
    """Whether each header whose value matters is there once."""
    names = [name.lower() for name in _SINGLE_NAMES.findall(match["headers"])]
    return names.count(b"host") == 1 and len(set(names)) == len(names)


def serving_response(document: ServingDocument, if_none_match: str | None) -> web.Response:
    """The routed answer; `short_answer` gives the same."""
    if if_none_match is not None and etag_matches(if_none_match, document.etag):
        return web.Response(status=304, headers=document.unchanged_headers())
    return web.Response(body=document.body, headers=document.headers)
