"""Definitions of drops as they are kept: what an earlier version did not know is left out, and may be missing."""

from __future__ import annotations

import json

from flashsale.drops import decode_drop, digest_of, encode_drop
from tests.integration.http_client import make_drop

SHOP = "https://shop.example"


def test_a_drop_without_a_storefront_keeps_the_digest_it_had() -> None:
    kept = json.loads(encode_drop(make_drop()))
    assert not kept.keys() & {"origins", "return_urls"}
    assert digest_of(encode_drop(make_drop(origins=(SHOP,)))) != digest_of(encode_drop(make_drop()))


def test_a_definition_from_before_storefronts_is_read() -> None:
    drop = make_drop()
    assert decode_drop(encode_drop(drop)) == drop
    assert (drop.origins, drop.return_urls) == ((), ())


def test_what_is_kept_is_read_as_it_was() -> None:
    for drop in (make_drop(origins=(SHOP,)), make_drop(return_urls=(f"{SHOP}/a",)), make_drop(origins=(SHOP,), return_urls=(SHOP,))):
        assert decode_drop(encode_drop(drop)) == drop
