"""Pages of our own: text becomes HTML in one place, and every page has the same strict headers."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from flashsale.storefront_urls import address_of

FOLDER = Path(__file__).parent / "pages"
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


class Template:
    """HTML with `{{names}}` in it."""

    def __init__(self, text: str) -> None:
        self._parts = _PLACEHOLDER.split(text)

    @classmethod
    def read(cls, name: str) -> Template:
        """The template in a file of `pages/`."""
        return cls((FOLDER / name).read_text(encoding="utf-8"))

    def fill(self, **values: str) -> Markup:
        """The HTML with each name replaced; what is not `Markup` is escaped. Raises KeyError when one is missing."""
        parts = [html_of(values[part]) if at % 2 else part for at, part in enumerate(self._parts)]
        return Markup("".join(parts))


def html_of(text: str) -> Markup:
    """`text` as HTML, for between tags and for attributes in quotes."""
    return text if isinstance(text, Markup) else Markup(escape(text))


def element(tag: str, /, *children: str, **attributes: str | bool) -> Markup:
    """An element. A `_` at the end of an attribute's name is left out, one within becomes a hyphen; True is one without a value."""
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html_of(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    return Markup(f"<{tag}{shown}>{''.join(map(html_of, children))}</{tag}>")


def page_headers(*, picture: str = "", scripts: bool = True) -> dict[str, str]:
    """Headers of a page.

    Args:
        picture: address of the one picture from elsewhere.
        scripts: whether the page has any.
    """
    address = address_of(picture)
    own = "'self'" if scripts else "'none'"
    policy = (
        f"default-src 'none'; script-src {own}; connect-src {own}; style-src 'self'; "
        f"img-src 'self' data:{f' {address.origin}' if address else ''}; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        # A form of a page with "no-referrer" would be sent with `Origin: null`, and could not be told from a stranger's.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "X-Frame-Options": "DENY",
    }
