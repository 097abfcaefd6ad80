"""Who may read: the operator's list, which a drop's own list narrows and never widens."""

from __future__ import annotations

from flashsale.web.cors import CrossOrigin, CrossOrigins
from tests.integration.http_client import make_drop

SHOP, OTHER, EVIL = "https://shop.example", "https://other.example", "https://evil.example"


def allowed(rule: CrossOrigin, origin: str | None) -> str | None:
    headers = dict(rule.headers(origin))
    assert (headers.get("Vary") == "Origin") != rule.any, "an answer that depends on the origin says so, also to those it refuses"
    assert rule.lets_read(origin) == ("Access-Control-Allow-Origin" in headers)
    return headers.get("Access-Control-Allow-Origin")


def test_a_list_lets_exactly_its_origins_read() -> None:
    rule = CrossOrigin([SHOP])
    assert allowed(rule, SHOP) == SHOP
    for origin in (EVIL, "null", None, SHOP + ":8443", SHOP.upper(), SHOP + ".evil.example", "http://shop.example"):
        assert allowed(rule, origin) is None


def test_nobody_may_with_an_empty_list() -> None:
    assert allowed(CrossOrigin([]), SHOP) is None


def test_a_drop_narrows_what_everybody_may() -> None:
    rules = CrossOrigins(CrossOrigin(["*"]))
    rules.learn(make_drop("narrow", origins=(SHOP,)))
    rules.learn(make_drop("wide"))
    assert (allowed(rules.of_drop("narrow"), SHOP), allowed(rules.of_drop("narrow"), EVIL)) == (SHOP, None)
    assert allowed(rules.of_drop("wide"), EVIL) == allowed(rules.of_drop("unknown"), EVIL) == "*"


def test_a_drop_cannot_let_in_whom_the_operator_does_not() -> None:
    rules = CrossOrigins(CrossOrigin([SHOP, OTHER]))
    rules.learn(make_drop("d", origins=(SHOP, EVIL)))
    assert [allowed(rules.of_drop("d"), origin) for origin in (SHOP, OTHER, EVIL)] == [SHOP, None, None]


def test_the_drop_of_an_address_is_that_of_its_ticket_or_reservation() -> None:
    rules = CrossOrigins(CrossOrigin(["*"]))
    own = rules.learn(make_drop("d", origins=(SHOP,)))
    for values in ({"drop": "d"}, {"ticket_id": "d.tAAA"}, {"id": "d.rAAA"}):
        assert rules.of_values(values) is own
    for values in ({}, {"drop": "e"}, {"id": "d"}, {"ticket_id": "e.tAAA"}):
        assert rules.of_values(values) is rules.operators


def test_a_drop_that_forgets_its_list_has_the_operators() -> None:
    rules = CrossOrigins(CrossOrigin(["*"]))
    assert not rules.learn(make_drop("d", origins=(SHOP,))).any
    assert rules.learn(make_drop("d")).any


def test_a_browser_keeps_a_preflight_only_when_the_drop_is_known_here() -> None:
    rules = CrossOrigins(CrossOrigin(["*"]))
    rules.learn(make_drop("narrow", origins=(SHOP,)))
    rules.learn(make_drop("wide"))

    def is_kept(**values: str) -> bool:
        return "Access-Control-Max-Age" in dict(rules.preflight_of(values, SHOP))

    assert is_kept(drop="narrow")
    assert is_kept(ticket_id="wide.tAAA")
    assert is_kept(), "no drop has a word in it"
    for values in ({"drop": "unknown"}, {"ticket_id": "unknown.tAAA"}, {"id": "unknown.rAAA"}):
        assert not is_kept(**values)
        assert rules.preflight_of(values, SHOP), "it is answered all the same"
    assert rules.preflight_of({"drop": "narrow"}, EVIL) == ()
