"""Text becomes HTML in one place, and nobody's text becomes more than text."""

from __future__ import annotations

import pytest

from flashsale.web.html import Markup, Template, element, page_headers


def test_text_is_escaped_and_markup_is_not() -> None:
    template = Template('<p title="{{a}}">{{b}}</p>')
    assert template.fill(a='"><script>', b=Markup("<b>x</b>")) == '<p title="&quot;&gt;&lt;script&gt;"><b>x</b></p>'


def test_what_a_value_says_is_not_filled_again() -> None:
    assert Template("{{a}}{{b}}").fill(a="{{b}}", b="x") == "{{b}}x"


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        Template("{{a}}").fill()


def test_an_element() -> None:
    made = element("a", "<x>", element("b", "y"), href="/?a=1&b=2", class_="c", data_to="d", hidden=True, required=False)
    assert made == '<a href="/?a=1&amp;b=2" class="c" data-to="d" hidden>&lt;x&gt;<b>y</b></a>'


@pytest.mark.parametrize("picture", ["", "https://x;script-src *", "https://a.example,b", "javascript:x", "https://a b.example/"])
def test_a_picture_adds_nothing_but_an_origin_to_the_policy(picture: str) -> None:
    assert page_headers(picture=picture) == page_headers()


def test_the_policy_is_strict() -> None:
    policy = page_headers(picture="https://cdn.example/a.webp")["Content-Security-Policy"]
    assert "img-src 'self' data: https://cdn.example;" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src 'none'" in page_headers(scripts=False)["Content-Security-Policy"]
