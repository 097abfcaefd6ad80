"""The shop's pages. What moves (stock, places, reservations) they ask for from the browser, as any storefront would."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from admission.inlet import LiveDrop
from flashsale.errors import DropNotFound, FlashsaleError
from flashsale.model import DropState, Sku
from flashsale.web import problems
from flashsale.web.assets import Assets
from flashsale.web.directory import DropDirectory
from flashsale.web.html import Markup, Template, page_headers
from flashsale.web.problems import Code, problem
from flashsale.web.routing import Readers, Route
from flashsale.web.services import Services

FILES = Path(__file__).parent / "files"
"""what the pages load; one set of the service's assets"""
PAGES = Path(__file__).parent / "pages"
LAMP = "halo-"
"""SKUs whose names begin so are the lamp; others have no story and no model here"""
_PRESENCE = {DropState.OPEN: 3, DropState.PAUSED: 3, DropState.WAITING: 2, DropState.SCHEDULED: 1, DropState.CLOSED: 0}


class Shop:
    """Handlers of the shop's routes; nothing is there unless the test provider is switched on."""

    def __init__(self, services: Services, directory: DropDirectory, assets: Assets) -> None:
        self._services = services
        self._directory = directory
        self._assets = assets
        self._pages = {path.stem: Template(path.read_text(encoding="utf-8")) for path in PAGES.iterdir() if path.suffix == ".html"}
        self._folder = assets.path("shop.css").removesuffix("/shop.css")
        self._own_pictures = {path.name for path in FILES.glob(f"{LAMP}*.svg")}

    def routes(self) -> list[Route]:
        """All under /shop/."""
        pages = {
            "/shop": ("shop", self.front),
            "/shop/": ("shop_front", self.front),
            "/shop/{drop}": ("shop_product", self.product),
            "/shop/{drop}/checkout": ("shop_checkout", self.checkout),
            "/shop/{drop}/order": ("shop_order", self.order),
        }
        return [Route("GET", path, handler, name, readers=Readers.NOBODY) for path, (name, handler) in pages.items()]

    async def front(self, _request: web.Request) -> web.Response:
        """GET /shop/: leads to the drop that is on, or the next one, or the last one."""
        if not self._is_open():
            return problem(Code.NOT_FOUND)
        found = max(self._services.inlet.all(), key=_presence, default=None)
        if found is None:
            return self._nothing(404, "Nothing is on sale just now", "As soon as a drop is scheduled, it is here.")
        return web.Response(status=302, headers={"Location": f"/shop/{found.definition.drop_id}", "Cache-Control": "no-store"})

    async def product(self, request: web.Request) -> web.Response:
        """GET /shop/{drop}: the product and the waiting room."""
        return await self._page("product", request)

    async def checkout(self, request: web.Request) -> web.Response:
        """GET /shop/{drop}/checkout: paying for what is reserved."""
        return await self._page("checkout", request)

    async def order(self, request: web.Request) -> web.Response:
        """GET /shop/{drop}/order: what was bought, and how far it has come."""
        return await self._page("order", request)

    def _is_open(self) -> bool:
        return self._services.payments.test_provider is not None

    async def _page(self, page: str, request: web.Request) -> web.Response:
        if not self._is_open():
            return problem(Code.NOT_FOUND)
        try:
            live = await self._directory.find(request.match_info["drop"])
        except DropNotFound:
            return self._nothing(404, "There is no such drop", "It may be long over, or the address has a mistake in it.")
        except FlashsaleError as error:
            status = problems.of_error(error).status
            return self._nothing(
                status, "The shop will be back in a moment", "Your place and whatever you have reserved are safe. Try again."
            )
        return self._filled(page, live)

    def _filled(self, page: str, live: LiveDrop) -> web.Response:
        drop = live.definition
        content = self._pages[page].fill(
            drop=drop.drop_id,
            name=drop.name,
            description=drop.description,
            units=f"{sum(stock.allotment for stock in live.snapshot.skus.values()):,}",
            order="drawn by lot" if drop.order == "draw" else "first come, first served",
            wares=Markup("".join(self._ware(live, sku) for sku in drop.skus)),
            picture=self._picture(drop.skus[0]),
            files=self._folder,
        )
        lamp = all(sku.sku.startswith(LAMP) for sku in drop.skus)
        text = self._framed(page, drop.name, content, drop=drop.drop_id, currency=drop.currency, lamp="yes" if lamp else "no")
        return web.Response(text=text, headers=page_headers(picture=drop.skus[0].media))

    def _nothing(self, status: int, title: str, sentence: str) -> web.Response:
        """A page that says what is not there, and the way on."""
        text = self._framed("nothing", title, self._pages["nothing"].fill(title=title, sentence=sentence))
        return web.Response(status=status, text=text, headers=page_headers(scripts=False))

    def _framed(self, page: str, title: str, content: Markup, *, drop: str = "", currency: str = "", lamp: str = "no") -> str:
        return self._pages["frame"].fill(page=page, title=title, main=content, drop=drop, currency=currency, lamp=lamp, files=self._folder)

    def _ware(self, live: LiveDrop, sku: Sku) -> Markup:
        """One choice. Prices and units are written by the browser, in its reader's way."""
        stock = live.snapshot.skus[sku.sku]
        return self._pages["ware"].fill(
            sku=sku.sku,
            name=sku.name,
            checked=" checked" if sku is live.definition.skus[0] else "",
            price_minor=str(sku.price_minor),
            limit=str(sku.limit_per_shopper),
            available=str(stock.available),
            reserved=str(stock.reserved),
            picture=self._picture(sku),
        )

    def _picture(self, sku: Sku) -> str:
        """The drop's own picture of a SKU; of the lamp, the one that may be kept for ever."""
        name = f"{sku.sku}.svg"
        return self._assets.path(name) if name in self._own_pictures else sku.media


def _presence(live: LiveDrop) -> tuple[int, int]:
    """How much a drop belongs on the front page; of several alike, the latest."""
    return _PRESENCE[live.snapshot.state], live.snapshot.opens_at_ms
