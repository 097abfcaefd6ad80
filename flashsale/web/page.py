"""A plain page to take part in a drop: no framework, a strict content security policy, files of its own."""

from __future__ import annotations

import base64
import hashlib
import re
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
_INLINE = re.compile(r"<(script|style)(?: [^>]*)?>(.*?)</\1>", re.DOTALL)
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
        page = (resource_dir("web") / "verify-draw.html").read_text(encoding="utf-8")
        self._verify_draw = page.replace('"./verify-draw.js"', '"/assets/verify-draw.js"')
        self._verify_draw_headers = {**_HTML, "Content-Security-Policy": _policy_with_inline(self._verify_draw)}

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

    async def verify_draw(self, _request: web.Request) -> web.Response:
        """GET /verify-draw: checks a draw in the browser; with ?drop= it finds everything but the receipt by itself."""
        return web.Response(text=self._verify_draw, headers=self._verify_draw_headers)

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


def _policy_with_inline(html: str) -> str:
    """`POLICY`, which also lets what stands in the page run, and nothing else: CSP Level 3 knows it by its hash."""
    policy = POLICY
    for kind, text in _INLINE.findall(html):
        known = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        policy = policy.replace(f"{kind}-src 'self'", f"{kind}-src 'self' 'sha256-{known}'")
    return policy
