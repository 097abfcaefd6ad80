"""The waiting page of a drop, for storefronts that send their shoppers here instead of embedding the waiting room."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from aiohttp import web

from flashsale.errors import FlashsaleError
from flashsale.model import Drop
from flashsale.storefront_urls import Address, address_of, return_address
from flashsale.web import problems
from flashsale.web.assets import Assets
from flashsale.web.directory import DropDirectory
from flashsale.web.html import Markup, Template, element, page_headers
from flashsale.web.plain_page import PlainPages
from flashsale.web.problems import Code, ProblemError, problem
from flashsale.web.services import Services


class Words(NamedTuple):
    """What the page itself says around the waiting room."""

    back: str
    choose: str
    drops: str
    cookieless: str
    """to a browser that takes no cookies, where choosing is on pages of ours"""


WORDS: Mapping[str, Words] = {
    "en": Words(
        "Continue to the shop",
        "Choose and reserve",
        "All drops",
        "Your browser takes no cookies from this site, so you could not choose here. Allow them, load this page again, and join then.",
    ),
    "de": Words(
        "Weiter zum Shop",
        "Auswählen und reservieren",
        "Alle Drops",
        "Ihr Browser nimmt keine Cookies dieser Website an, darum könnten Sie hier nichts auswählen. Erlauben Sie Cookies, laden Sie "
        "die Seite neu und stellen Sie sich dann an.",
    ),
    "es": Words(
        "Continuar a la tienda",
        "Elegir y reservar",
        "Todos los drops",
        "Su navegador no acepta cookies de este sitio, así que aquí no podría elegir. Permítalas, recargue la página y póngase "
        "entonces en la fila.",
    ),
    "fr": Words(
        "Continuer vers la boutique",
        "Choisir et réserver",
        "Tous les drops",
        "Votre navigateur refuse les cookies de ce site, vous ne pourriez donc pas choisir ici. Autorisez-les, rechargez la page, "
        "puis rejoignez la file.",
    ),
    "ja": Words(
        "ショップへ進む",
        "選んで予約する",
        "ドロップ一覧",
        "このブラウザーはこのサイトの Cookie を受け付けないため、ここでは商品を選べません。"
        "Cookie を許可し、ページを再読み込みしてから並んでください。",
    ),
    "ar": Words(
        "المتابعة إلى المتجر",
        "الاختيار والحجز",
        "كل العروض",
        "لا يقبل متصفحك ملفات تعريف الارتباط من هذا الموقع، فلن تتمكن من الاختيار هنا. اسمح بها وأعد تحميل الصفحة، ثم انضم.",
    ),
}
"""by language of the waiting room; English first, for everybody else"""
_LANGUAGE = re.compile(r"\s*([A-Za-z]{2})(?:-[A-Za-z0-9-]+)?\s*(?:;\s*q=([01](?:\.\d{0,3})?))?\s*")


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
            text, picture = self._filled(live.definition, request)
        except FlashsaleError as error:
            return self._plain.problem(problems.of_error(error), request)
        except ProblemError as error:
            return self._plain.problem(error.problem, request)
        return web.Response(text=text, headers=page_headers(picture=picture))

    def _filled(self, drop: Drop, request: web.Request) -> tuple[str, str]:
        """(the page, the address of its picture)."""
        shop = shop_address(drop, request)
        picture = picture_of(drop)
        line = line_address(drop, request)
        language = language_of(request.headers.get("Accept-Language", ""))
        words = WORDS[language]
        links = [element("a", words.drops, href="/")]
        if self._services.payments.test_provider is not None:
            links.insert(0, element("a", "The demo's shop", href=f"/shop/{drop.drop_id}"))
        text = self._template.fill(
            name=drop.name,
            drop=drop.drop_id,
            about=element("p", drop.description, class_="quiet") if drop.description else Markup(""),
            picture=element("img", src=picture, alt="", class_="picture") if picture else Markup(""),
            language=language,
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
        return element("a", words.back, id="back", class_="button", href=str(shop), data_to=str(shop))
    step = Markup('<input type="hidden" name="step" value="adopt">')
    place = Markup('<input type="hidden" name="secret"><input type="hidden" name="handoff">')
    return element("form", step, place, element("button", words.choose), id="choose", method="post", action=line)


def _cookieless(shop: Address | None, words: Words) -> Markup:
    """For browsers that would take a shopper nowhere; the script shows it."""
    return (
        Markup("")
        if shop is not None
        else element("p", words.cookieless, id="cookieless", class_="card trouble", role="alert", hidden=True)
    )


def shop_address(drop: Drop, request: web.Request) -> Address | None:
    """Where the shopper goes on: ?return=, or the first of the drop's; None when it has none.

    Raises:
        ProblemError: the drop does not name what ?return= says.
    """
    wanted = request.query.get("return")
    if wanted is None:
        return address_of(drop.return_urls[0]) if drop.return_urls else None
    address = return_address(wanted, drop.return_urls)
    if address is None:
        raise ProblemError(
            problem(
                Code.BAD_REQUEST,
                "The link that led here names a page to return to that does not belong to this drop's shop, so nobody is sent there. "
                "Go back to the shop and try its own link.",
            )
        )
    return address


def line_address(drop: Drop, request: web.Request) -> str:
    """The line without JavaScript, with the same way back."""
    wanted = request.query.get("return")
    return f"/drops/{drop.drop_id}/line" + (f"?return={quote(wanted, safe='')}" if wanted else "")


def picture_of(drop: Drop) -> str:
    """The address of the drop's picture, the first SKU's; empty when it has none that a page may show."""
    media = drop.skus[0].media if drop.skus else ""
    return media if address_of(media) is not None else ""


def language_of(accepted: str) -> str:
    """The waiting room's language for an Accept-Language header (RFC 9110, 12.5.4)."""
    found: dict[str, float] = {}
    for part in accepted[:500].split(","):
        match = _LANGUAGE.fullmatch(part)
        if match is not None:
            found.setdefault(match[1].lower(), float(match[2] or 1))
    return max((language for language in WORDS if found.get(language)), key=lambda language: found[language], default="en")
