"""A plain page to take part in a drop: no framework, a strict content security policy, files of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from html import escape
from pathlib import Path

from aiohttp import web

from flashsale.resources import resource_dir
from flashsale.web.directory import DropDirectory
from flashsale.web.problems import Code, problem
from flashsale.web.services import Services

FOLDER = Path(__file__).parent / "pages"
MEDIA_TYPES: Mapping[str, str] = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HTML: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Page:
    """Handlers of the page's routes."""

    def __init__(self, services: Services, directory: DropDirectory) -> None:
        self._services = services
        self._directory = directory
        files = [*FOLDER.iterdir(), *resource_dir("web").iterdir()]
        self._assets = {path.name: path.read_bytes() for path in files if path.suffix in MEDIA_TYPES}
        self._drop = (FOLDER / "drop.html").read_text(encoding="utf-8")
        self._drops = (FOLDER / "drops.html").read_text(encoding="utf-8")

    async def drops(self, _request: web.Request) -> web.Response:
        """GET /: the drops there are, the next opening first."""
        lives = sorted(self._services.inlet.all(), key=lambda live: (live.snapshot.state == "closed", live.snapshot.opens_at_ms))
        rows = [
            f'<li><a href="/drops/{live.definition.drop_id}">{escape(live.definition.name)}</a>'
            f'<span class="state">{live.snapshot.state.value}</span></li>'
            for live in lives[:100]
        ]
        return web.Response(text=self._drops.replace("<!-- drops -->", "\n".join(rows) or "<li>No drop yet.</li>"), headers=_HTML)

    async def drop(self, request: web.Request) -> web.Response:
        """GET /drops/{drop}: takes part in one drop."""
        live = await self._directory.find(request.match_info["drop"])
        pays = "yes" if self._services.payments.test_provider is not None else "no"
        text = self._drop.replace("{{drop}}", live.definition.drop_id).replace("{{name}}", escape(live.definition.name))
        return web.Response(text=text.replace("{{pays}}", pays), headers=_HTML)

    async def asset(self, request: web.Request) -> web.Response:
        """GET /assets/{name}: the page's script and style, and the modules for any page (`web/`)."""
        name = request.match_info["name"]
        body = self._assets.get(name)
        if body is None:
            return problem(Code.NOT_FOUND)
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"Content-Type": MEDIA_TYPES[Path(name).suffix], "Cache-Control": "no-cache", "ETag": etag}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers=headers)
