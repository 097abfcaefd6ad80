"""The waiting page of a drop, for storefronts that send their shoppers here instead of embedding the waiting room."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from aiohttp import web

from flashsale.errors import FlashsaleError
from flashsale.model import Drop
from flashsale.storefront_urls import Address, address_of, return_address
from flashsale.web.assets import Assets
from flashsale.web.directory import DropDirectory
from flashsale.web.html import Markup, Template, element, page_headers
from flashsale.web.line_words import Unfit, Words, wanted_language
from flashsale.web.plain_page import PlainPages, headers_in
from flashsale.web.problems import ProblemError
from flashsale.web.services import Services


class WaitingPage:
    """Handler of its route."""

    def __init__(self, services: Services, directory: DropDirectory, assets: Assets, plain: PlainPages) -> None:
        self._directory = directory
        self._assets = assets
        self._plain = plain
        self._services = services
        self._template = Template.read("waiting.html")

    async def show(self, request: web.Request) -> web.Response:
        """GET /drops/{drop}: the waiting room, and with ?return= the way back to the shop."""
        try:
            live = await self._directory.find(request.match_info["drop"])
            words = self._plain.languages.of(request)
            text, picture = self._filled(live.definition, request, words)
        except (FlashsaleError, ProblemError) as error:
            return self._plain.failed(error, request)
        return web.Response(text=text, headers=headers_in(words, page_headers(picture=picture)))

    def _filled(self, drop: Drop, request: web.Request, words: Words) -> tuple[str, str]:
        """(the page, the address of its picture)."""
        shop = shop_address(drop, request)
        picture = picture_of(drop)
        line = line_address(drop, request)
        links = [element("a", words.say("drops"), href="/")]
        if self._services.payments.test_provider is not None:
            links.insert(0, element("a", "The demo's shop", href=f"/shop/{drop.drop_id}", lang="en"))
        text = self._template.fill(
            name=drop.name,
            drop=drop.drop_id,
            about=element("p", drop.description, class_="quiet", dir="auto") if drop.description else Markup(""),
            picture=element("img", src=picture, alt="", class_="picture") if picture else Markup(""),
            language=words.language,
            direction=words.direction,
            scriptless=words.say("scriptless"),
            to_line=words.say("to_line"),
            starting=words.say("starting"),
            go_on=words.say("go_on"),
            line=line,
            onward=_onward(shop, line, words),
            cookieless=_cookieless(shop, words),
            links=Markup(" · ".join(links)),
            css=self._assets.path("page.css"),
            waiting=self._assets.path("waiting.js"),
            widget=self._assets.path("flash-sale-room.js"),
        )
        return text, picture


def _onward(shop: Address | None, line: str, words: Words) -> Markup:
    if shop is not None:
        return element("a", words.say("to_shop"), id="back", class_="button", href=str(shop), data_to=str(shop))
    step = Markup('<input type="hidden" name="step" value="adopt">')
    place = Markup('<input type="hidden" name="secret"><input type="hidden" name="handoff">')
    stuck = element("p", words.say("not_taken_along"), id="stuck", class_="trouble", role="alert", hidden=True)
    return element("form", step, place, stuck, element("button", words.say("choose_here")), id="choose", method="post", action=line)


def _cookieless(shop: Address | None, words: Words) -> Markup:
    """For browsers that would take a shopper nowhere; the script shows it."""
    if shop is not None:
        return Markup("")
    return element("p", words.say("cookieless"), id="cookieless", class_="card trouble", role="alert", hidden=True)


def shop_address(drop: Drop, request: web.Request) -> Address | None:
    """Where the shopper goes on: ?return=, or the first of the drop's; None when it has none.

    Raises:
        Unfit: the drop does not name what ?return= says.
    """
    wanted = request.query.get("return")
    if wanted is None:
        return address_of(drop.return_urls[0]) if drop.return_urls else None
    address = return_address(wanted, drop.return_urls)
    if address is None:
        raise Unfit("no_way_back")
    return address


def line_address(drop: Drop, request: web.Request) -> str:
    """The line without JavaScript, with the same way back and in the same language."""
    asked = {"return": request.query.get("return"), "lang": wanted_language(request)}
    fields = {name: value for name, value in asked.items() if value}
    return f"/drops/{drop.drop_id}/line" + (f"?{urlencode(fields, quote_via=quote, safe='')}" if fields else "")


def picture_of(drop: Drop) -> str:
    """The address of the drop's picture, the first SKU's; empty when it has none that a page may show."""
    media = drop.skus[0].media if drop.skus else ""
    return media if address_of(media) is not None else ""
