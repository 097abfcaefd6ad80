"""Pages about no drop in particular: the list of drops, and the one that checks a draw."""

from __future__ import annotations

import base64
import hashlib
import re

from aiohttp import web

from flashsale.resources import resource_dir
from flashsale.web.assets import Assets
from flashsale.web.html import Markup, Template, element, page_headers
from flashsale.web.services import Services

DROPS_MAX = 100
_INLINE = re.compile(r"<(script|style)(?: [^>]*)?>(.*?)</\1>", re.DOTALL)


class Page:
    """Handlers of their routes."""

    def __init__(self, services: Services, assets: Assets) -> None:
        self._services = services
        self._drops = Template.read("drops.html")
        self._css = assets.path("page.css")
        page = (resource_dir("web") / "verify-draw.html").read_text(encoding="utf-8")
        self._verify_draw = page.replace('"./verify-draw.js"', '"/assets/verify-draw.js"')
        policy = _with_inline(page_headers()["Content-Security-Policy"], self._verify_draw)
        # The receipt may be in its address, behind the #: what it links to is not to know where a reader came from.
        self._verify_draw_headers = {**page_headers(), "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}

    async def drops(self, _request: web.Request) -> web.Response:
        """GET /: the drops there are, the next opening first."""
        lives = sorted(self._services.inlet.all(), key=lambda live: (live.snapshot.state == "closed", live.snapshot.opens_at_ms))
        rows = [
            element(
                "li",
                element("a", live.definition.name, href=f"/drops/{live.definition.drop_id}"),
                element("span", live.snapshot.state.value, class_="state"),
            )
            for live in lives[:DROPS_MAX]
        ]
        shown = Markup("\n".join(rows)) or element("li", "No drop yet.")
        return web.Response(text=self._drops.fill(css=self._css, drops=shown), headers=page_headers(scripts=False))

    async def verify_draw(self, _request: web.Request) -> web.Response:
        """GET /verify-draw: checks a draw in the browser; with ?drop= it finds everything but the receipt by itself."""
        return web.Response(text=self._verify_draw, headers=self._verify_draw_headers)


def _with_inline(policy: str, html: str) -> str:
    """`policy`, which also lets what stands in the page run, and nothing else: CSP Level 3 knows it by its hash."""
    for kind, text in _INLINE.findall(html):
        known = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        policy = policy.replace(f"{kind}-src 'self'", f"{kind}-src 'self' 'sha256-{known}'")
    return policy
