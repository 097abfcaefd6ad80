"""A storefront on an origin, and a site, of its own: one plain page that embeds the widget, under a strict policy.

Whoever is admitted buys there at once when asked to: with `buys="poster"` the page reserves one unit with the token it is handed,
and with `pays="1"` it pays at the service's test provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.typedefs import Handler

from flashsale.resources import resource_dir

BUYS = "buys"
PAYS = "pays"
LANGUAGE = "page-lang"
SANDBOX = "sandbox"
OWN_SCRIPT = "own-script"
"""words of the page's address that are about the page; all others become attributes of the widget"""
WIDGET = "flash-sale-room.js"
FALLBACK = "The line has a page of its own."

_PAGE = """<!doctype html>
<html lang="{language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A poster</title>
<link rel="stylesheet" href="/shop.css">
<script src="/shop.js" defer></script>
<script type="module" src="{script}"></script>
<body{buys}>
<main>
  <h1>A poster</h1>
  <flash-sale-room {attributes}><p><a href="{api}/drops/{drop}">{fallback}</a></p></flash-sale-room>
  <p id="bought"></p>
</main>
</html>
"""
_STYLE = """:root { color-scheme: light dark; font-family: system-ui, sans-serif; --accent: light-dark(#7a1f5c, #f0a6d8); }
flash-sale-room { --fsr-accent: var(--accent); }
body { margin: 0; }
main { max-width: 40rem; margin: 0 auto; padding: 1rem; }
"""
_SCRIPT = """"use strict";
const room = document.querySelector("flash-sale-room");
const { buys, pays } = document.body.dataset;
const api = room.getAttribute("api");
globalThis.heard = [];

for (const name of ["admitted", "ending", "position", "sold-out", "closed", "error", "draw", "state", "serving"]) {
  room.addEventListener(`flash-sale-${name}`, (event) => heard.push({ name, detail: event.detail, at_ms: performance.now() }));
}

async function post(path, body, headers) {
  const told = { "Content-Type": "application/json", ...headers };
  for (;;) {
    const answer = await fetch(api + path, { method: "POST", credentials: "omit", headers: told, body: JSON.stringify(body) });
    if (answer.status !== 503) return { status: answer.status, ...(await answer.json()) };
    await new Promise((resume) => setTimeout(resume, 1000 * Number(answer.headers.get("Retry-After") ?? 1)));
  }
}

async function buy(drop, token) {
  const key = localStorage.getItem("shop:key") ?? crypto.randomUUID();
  localStorage.setItem("shop:key", key);
  const headers = { Authorization: `Bearer ${token}`, "Idempotency-Key": key };
  const told = await post(`/v1/drops/${drop}/reservations`, { items: [{ sku: buys, quantity: 1 }] }, headers);
  document.querySelector("#bought").textContent = told.reservation_id ?? told.detail;
  if (pays && told.status === 201) await post("/v1/test-provider/payments", { reservation_id: told.reservation_id });
  document.body.dataset.status = String(told.status);
}

if (buys) room.addEventListener("flash-sale-admitted", ({ detail }) => buy(detail.drop, detail.token));
"""


@dataclass(slots=True)
class Storefront:
    """A running storefront."""

    origin: str
    service: str = ""
    """origin of the waiting room; known once it runs"""

    def page(self, drop_id: str, /, **words: str) -> str:
        """Address of the page that embeds the widget.

        `api` and `drop` are filled in; `buys`, `pays`, `page_lang`, `sandbox` and `own_script` are about the page, everything else is
        an attribute of the widget. Underscores stand for hyphens.
        """
        query = {name.replace("_", "-"): value for name, value in words.items()}
        return f"{self.origin}/p/{drop_id}?{urlencode(query)}"

    async def _page(self, request: web.Request) -> web.Response:
        words, drop_id = dict(request.query), request.match_info["drop"]
        own = {name: words.pop(name, "") for name in (BUYS, PAYS, LANGUAGE, SANDBOX, OWN_SCRIPT)}
        attributes = {"drop": drop_id, "api": self.service, **words}
        text = _PAGE.format(
            language=escape(own[LANGUAGE] or "en"),
            script=f"/widget/{WIDGET}" if own[OWN_SCRIPT] else f"{self.service}/assets/{WIDGET}",
            buys="".join(f' data-{word}="{escape(own[word])}"' for word in (BUYS, PAYS) if own[word]),
            attributes=" ".join(f'{escape(name)}="{escape(value)}"' for name, value in attributes.items()),
            api=escape(self.service),
            drop=escape(drop_id),
            fallback=FALLBACK,
        )
        sandbox = "; sandbox allow-scripts" if own[SANDBOX] else ""
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": self._policy + sandbox})

    @property
    def _policy(self) -> str:
        return (
            f"default-src 'none'; script-src 'self' {self.service}; connect-src 'self' {self.service}; style-src 'self'; img-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        )

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/p/{drop}", self._page)
        app.router.add_get("/shop.js", _file(_SCRIPT, "text/javascript"))
        app.router.add_get("/shop.css", _file(_STYLE, "text/css"))
        app.router.add_get("/favicon.ico", _file("", "image/x-icon"))
        app.router.add_get("/bought", _bought)
        app.router.add_get("/widget/{name:.+}", _widget)
        return app


def _file(text: str, content_type: str) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type)

    return answer


async def _bought(_request: web.Request) -> web.Response:
    """Where a waiting page leads back to."""
    return web.Response(text="<!doctype html><title>Back in the shop</title><h1>Back in the shop</h1>", content_type="text/html")


async def _widget(request: web.Request) -> web.FileResponse:
    """The widget's files from the shop's own server, as somebody who took the npm package has them."""
    folder = resource_dir("widget").resolve()
    path = (folder / request.match_info["name"]).resolve()
    if folder not in path.parents or not path.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(Path(path))


@asynccontextmanager
async def running_storefront() -> AsyncIterator[Storefront]:
    """A storefront on a free port; `service` is to be set before its pages are asked for."""
    shop = Storefront("")
    runner = web.AppRunner(shop._app())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (address,) = runner.addresses
        # Another name than the service's, so that to the browser they are different sites.
        shop.origin = f"http://localhost:{address[1]}"
        yield shop
    finally:
        await runner.cleanup()
