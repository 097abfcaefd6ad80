"""The configuration of Envoy we ship. No Envoy runs here: its parts are held to the fields of Envoy's own messages, and to the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from admission.tokens import TOKEN_TYPE
from flashsale.settings import load_settings
from flashsale.verify.door import COOKIE, ENTRANCE
from flashsale.verify.tokens import CLOCKS_APART_S, LIFE_MAX_S

ROOT = Path(__file__).parents[2]
CONFIGURATION = yaml.safe_load((ROOT / "connectors" / "envoy" / "envoy.yaml").read_text(encoding="utf-8"))
PAGES = ROOT / "flashsale" / "verify" / "pages"
DIRECT_RESPONSE_BYTES_MAX = 4096
"""what Envoy takes for a direct response when nothing else is said"""
JWT_FILTER = "envoy.filters.http.jwt_authn"

# Fields of envoy.extensions.filters.http.jwt_authn.v3 and envoy.config.rbac.v3, those used here and their neighbours.
FIELDS: Mapping[str, frozenset[str]] = {
    "JwtAuthentication": frozenset({"@type", "providers", "rules", "bypass_cors_preflight", "requirement_map", "strip_failure_response"}),
    "JwtProvider": frozenset(
        {
            *("issuer", "audiences", "subjects", "require_expiration", "max_lifetime", "remote_jwks", "local_jwks", "forward"),
            *("from_headers", "from_params", "from_cookies", "forward_payload_header", "payload_in_metadata", "header_in_metadata"),
            *("clock_skew_seconds", "jwt_cache_config", "claim_to_headers", "clear_route_cache", "failed_status_in_metadata"),
        }
    ),
    "RemoteJwks": frozenset({"http_uri", "cache_duration", "async_fetch", "retry_policy"}),
    "HttpUri": frozenset({"uri", "cluster", "timeout"}),
    "JwtClaimToHeader": frozenset({"header_name", "claim_name"}),
    "RequirementRule": frozenset({"match", "requires", "requirement_name"}),
    "RBAC": frozenset({"action", "policies"}),
    "Policy": frozenset({"permissions", "principals", "condition"}),
    "MetadataMatcher": frozenset({"filter", "path", "value", "invert"}),
}


def listener() -> Any:
    (only,) = CONFIGURATION["static_resources"]["listeners"]
    return only["filter_chains"][0]["filters"][0]["typed_config"]


def http_filter(name: str) -> Any:
    (found,) = [one["typed_config"] for one in listener()["http_filters"] if one["name"] == name]
    return found


def only_knows(message: str, value: Mapping[str, Any]) -> None:
    assert set(value) <= FIELDS[message], f"{message} has no field {set(value) - FIELDS[message]}"


@pytest.fixture
def provider() -> Any:
    filter_ = http_filter(JWT_FILTER)
    only_knows("JwtAuthentication", filter_)
    assert filter_["@type"] == "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
    return filter_["providers"]["flashsale"]


def test_the_token_is_verified_before_what_it_says_is_looked_at() -> None:
    names = [one["name"] for one in listener()["http_filters"]]
    assert names == [JWT_FILTER, "envoy.filters.http.rbac", "envoy.filters.http.router"]


def test_the_provider_takes_what_the_service_issues(provider: Any) -> None:
    settings = load_settings(environment={}).tokens
    only_knows("JwtProvider", provider)
    assert (provider["issuer"], provider["audiences"]) == (settings.issuer, [settings.audience])
    assert provider["clock_skew_seconds"] == CLOCKS_APART_S
    assert provider["max_lifetime"] == f"{LIFE_MAX_S + CLOCKS_APART_S}s"
    assert settings.ttl_ms <= LIFE_MAX_S * 1000
    assert provider["from_cookies"] == [COOKIE]
    for claim in provider["claim_to_headers"]:
        only_knows("JwtClaimToHeader", claim)
    assert {claim["header_name"] for claim in provider["claim_to_headers"]} == {
        *("x-flashsale-subject", "x-flashsale-drop", "x-flashsale-expires")
    }


def test_a_bearer_of_the_shop_s_own_is_not_taken_for_a_bad_token(provider: Any) -> None:
    # Envoy verifies every token in the places it is told of, and refuses the request when one of them is not good.
    assert {"from_headers", "from_params"}.isdisjoint(provider)


def test_keys_come_from_the_service_over_tls(provider: Any) -> None:
    remote = provider["remote_jwks"]
    only_knows("RemoteJwks", remote)
    only_knows("HttpUri", remote["http_uri"])
    address = urlsplit(remote["http_uri"]["uri"])
    assert (address.scheme, address.path) == ("https", "/.well-known/jwks.json")
    (cluster,) = [one for one in CONFIGURATION["static_resources"]["clusters"] if one["name"] == remote["http_uri"]["cluster"]]
    tls = cluster["transport_socket"]["typed_config"]
    assert tls["sni"] == address.hostname
    assert tls["common_tls_context"]["validation_context"]["trusted_ca"]
    (name,) = tls["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    assert name["matcher"]["exact"] == address.hostname


def test_every_cluster_that_is_named_is_there(provider: Any) -> None:
    clusters = {one["name"] for one in CONFIGURATION["static_resources"]["clusters"]}
    routes = listener()["route_config"]["virtual_hosts"][0]["routes"]
    named = {route["route"]["cluster"] for route in routes if "route" in route} | {provider["remote_jwks"]["http_uri"]["cluster"]}
    assert named == clusters


def test_everything_but_the_entrance_needs_a_token() -> None:
    rules = http_filter(JWT_FILTER)["rules"]
    for rule in rules:
        only_knows("RequirementRule", rule)
    assert rules[-1] == {"match": {"prefix": "/"}, "requires": {"provider_name": "flashsale"}}
    assert [rule for rule in rules if "requires" not in rule] == [{"match": {"path": path}} for path in (ENTRANCE, f"{ENTRANCE}.js")]


def test_what_the_token_says_is_looked_at() -> None:
    rules = http_filter("envoy.filters.http.rbac")["rules"]
    only_knows("RBAC", rules)
    assert rules["action"] == "ALLOW"
    for policy in rules["policies"].values():
        only_knows("Policy", policy)
    opened = {one["url_path"]["path"]["exact"] for one in rules["policies"]["the-entrance"]["permissions"]}
    assert opened == {ENTRANCE, f"{ENTRANCE}.js"}
    (principal,) = rules["policies"]["admission-to-this-drop"]["principals"]
    wanted = {tuple(step["key"] for step in one["path"]): one for one in _metadata(principal)}
    provider_ = http_filter(JWT_FILTER)["providers"]["flashsale"]
    header, claims = provider_["header_in_metadata"], provider_["payload_in_metadata"]
    assert set(wanted) == {(header, "typ"), (header, "crit"), (claims, "drop"), (claims, "epoch")}
    assert wanted[header, "typ"]["value"] == {"string_match": {"exact": TOKEN_TYPE}}
    assert wanted[header, "crit"]["invert"] is True
    assert wanted[claims, "epoch"]["value"]["double_match"]["range"]["start"] >= 1


def _metadata(principal: Any) -> Iterator[Any]:
    for one in principal["and_ids"]["ids"]:
        matcher = one["metadata"]
        only_knows("MetadataMatcher", matcher)
        assert matcher["filter"] == JWT_FILTER
        yield matcher


def test_who_opens_a_page_is_led_to_the_waiting_page() -> None:
    (mapper,) = listener()["local_reply_config"]["mappers"]
    assert mapper["status_code"] == 303
    header = {one["header"]["key"]: one["header"]["value"] for one in mapper["headers_to_add"]}
    # Envoy reads %% as %.
    location = urlsplit(header["location"].replace("%%", "%"))
    assert "%" not in header["location"].replace("%%", "")
    assert location.path == "/drops/launch"
    assert parse_qs(location.query)["return"] == ["https://shop.example/flashsale/enter?to=%2F"]


def test_the_entrance_fits_a_direct_response() -> None:
    routes = listener()["route_config"]["virtual_hosts"][0]["routes"]
    served = {route["match"]["path"]: route["direct_response"]["body"]["filename"] for route in routes if "direct_response" in route}
    assert set(served) == {ENTRANCE, f"{ENTRANCE}.js"}
    for filename in served.values():
        assert 0 < len((PAGES / Path(filename).name).read_bytes()) <= DIRECT_RESPONSE_BYTES_MAX
