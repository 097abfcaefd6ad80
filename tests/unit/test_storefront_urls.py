"""Nobody is sent anywhere but to the shop: every spelling that has fooled somebody's check is in this table."""

from __future__ import annotations

import pytest

from flashsale.storefront_urls import URL_LENGTH_MAX, address_of, return_address

LAUNCH = ("https://shop.example/launch",)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/launch",
        "https://shop.example/launch/",
        "https://shop.example/launch/checkout;v=2",
        "https://shop.example/launch?from=room&x=%2F..%2F",
        "https://shop.example/launch/a%20b?q=a/../b?c",
        "https://shop.example:443/launch",
        "HTTPS://SHOP.example/launch",
    ],
)
def test_the_way_back_to_the_shop(url: str) -> None:
    address = return_address(url, LAUNCH)
    assert address is not None
    assert str(address).startswith("https://shop.example/launch")


@pytest.mark.parametrize(
    "url",
    [
        # another place
        "https://evil.example/launch",
        "https://shop.example.evil.example/launch",
        "https://evilshop.example/launch",
        "https://shop.example:8443/launch",
        "https://shop.example./launch",
        "http://shop.example/launch",
        # beside the page, not below it
        "https://shop.example/",
        "https://shop.example/launcher",
        "https://shop.example/launch.evil",
        "https://shop.example/Launch",
        "https://shop.example/launch%2f..%2fadmin",
        "https://shop.example/launch/../admin",
        "https://shop.example/launch/%2e%2e/admin",
        "https://shop.example/launch/.%2E/admin",
        "https://shop.example/launch/..;/admin",
        "https://shop.example/launch/%5c..%5cadmin",
        "https://shop.example/launch/./x",
        # a user's name, which makes the host something else
        "https://shop.example@evil.example/launch",
        "https://shop.example:x@evil.example/launch",
        "https://shop.example%40evil.example/launch",
        "https://user@shop.example/launch",
        # what browsers read as a slash, or pass over
        "https://shop.example\\@evil.example/launch",
        "https:\\\\evil.example/launch",
        "https://evil.example\\.shop.example/launch",
        "https://shop.example/launch\\..\\admin",
        "https://shop.exam\tple/launch",
        "https://shop.example/launch\r\nLocation: https://evil.example",
        " https://shop.example/launch",
        "https://shop.example/launch ",
        "\x00https://shop.example/launch",
        # no address of a page
        "javascript:alert(1)",
        "JaVaScRiPt://shop.example/launch%0aalert(1)",
        "data:text/html,x",
        "//shop.example/launch",
        "///evil.example",
        "/launch",
        "launch",
        "",
        "https:shop.example/launch",
        "https:///shop.example/launch",
        "https://",
        "https:///launch",
        "ftp://shop.example/launch",
        # the token's own place
        "https://shop.example/launch#x",
        "https://shop.example/launch#",
        # broken, or in other letters
        "https://shop.example/launch/%zz",
        "https://shop.example/launch/%2",
        "https://\u0455hop.example/launch",
        "http\u017f://shop.example/launch",
        "https://\u017fhop.example/launch",
        "https://shop。example/launch",
        "https://shop.example/l\u0430unch",
        'https://shop.example/launch"onclick="x',
        "https://shop.example/launch<script>",
        "https://shop.example:99999999/launch",
        "https://shop.example:0443/launch",
        "https://[::1/launch",
        "https://shop.example/launch/" + "x" * URL_LENGTH_MAX,
    ],
)
def test_everywhere_else_is_refused(url: str) -> None:
    assert return_address(url, LAUNCH) is None


def test_without_a_list_nobody_is_sent_anywhere() -> None:
    assert return_address("https://shop.example/launch", ()) is None


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        ("https://shop.example", "https://shop.example/any/thing", "https://shop.example.evil/any"),
        ("https://shop.example/", "https://shop.example/any", "https://shop.test/any"),
        ("https://shop.example/a/", "https://shop.example/a/b", "https://shop.example/a"),
        ("https://shop.example:8443/a", "https://shop.example:8443/a", "https://shop.example/a"),
        ("http://localhost:3000/a", "http://localhost:3000/a/b", "http://localhost:3001/a"),
        ("http://[::1]:3000/", "http://[::1]:3000/x", "http://127.0.0.1:3000/x"),
    ],
)
def test_what_an_entry_covers(allowed: str, inside: str, outside: str) -> None:
    assert return_address(inside, (allowed,)) is not None
    assert return_address(outside, (allowed,)) is None


@pytest.mark.parametrize(
    "url", ["http\u017f://a/", "http://\u212aelvin.localhost/", "https://\u212a.example/", "https://a\u017fb.example/"]
)
def test_letters_that_only_fold_to_ascii_are_no_address(url: str) -> None:
    assert address_of(url) is None
    assert return_address(url, ("https://k.example/", "http://kelvin.localhost/")) is None


def test_an_origin_is_written_as_browsers_write_it() -> None:
    address = address_of("HTTPS://Shop.Example:443/A?b")
    assert address is not None
    assert (address.origin, address.path, address.query) == ("https://shop.example", "/A", "?b")
    assert str(address) == "https://shop.example/A?b"


def test_plain_http_is_for_pages_that_are_tried_out_here() -> None:
    for host in ("localhost", "shop.localhost", "127.0.0.1", "[::1]"):
        assert address_of(f"http://{host}:3000/") is not None
    for host in ("shop.example", "localhost.example", "127.0.0.2", "10.0.0.1"):
        assert address_of(f"http://{host}:3000/") is None
