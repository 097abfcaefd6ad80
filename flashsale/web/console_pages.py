"""The merchant console's page and the files it loads: served as they are, nothing is built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from flashsale.web.assets import MEDIA_TYPES
from flashsale.web.html import page_headers
from flashsale.web.problems import Code, problem
from flashsale.web.requests import etag_matches
from flashsale.web.routing import Readers, Route

FOLDER = Path(__file__).parent / "console"


class ConsolePages:
    """Handlers of the console's page and files."""

    def __init__(self) -> None:
        self._page = (FOLDER / "console.html").read_text(encoding="utf-8")
        self._headers: Mapping[str, str] = page_headers()
        self._files = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES}

    def routes(self) -> list[Route]:
        """Its addresses."""
        return [
            Route("GET", "/console", self.page, "page_console", readers=Readers.NOBODY),
            Route("GET", "/console/assets/{name}", self.asset, "console_asset", readers=Readers.NOBODY),
        ]

    async def page(self, _request: web.Request) -> web.Response:
        """GET /console: the one page; it asks by itself who is signed in."""
        return web.Response(text=self._page, headers=self._headers)

    async def asset(self, request: web.Request) -> web.Response:
        """GET /console/assets/{name}: a script or the style; only pages of our own may load them."""
        name = request.match_info["name"]
        body = self._files.get(name)
        if body is None:
            return problem(Code.NOT_FOUND)
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache", "Cross-Origin-Resource-Policy": "same-origin"}
        if etag_matches(request.headers.get("If-None-Match", ""), etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={**headers, "Content-Type": MEDIA_TYPES[Path(name).suffix]})
