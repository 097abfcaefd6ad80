"""Identities: taken when the storefront signed them for this service, and never otherwise."""

from __future__ import annotations

import hashlib
import hmac
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from admission.tokens import b64encode
from flashsale.errors import ConfigurationError
from flashsale.identity import IDENTITY_LENGTH_MAX, IdentityVerifier, identity_digest, read_identity_keys
from flashsale.model import digest

NOW_MS = 1_800_000_000_000
NOW_S = NOW_MS // 1000
ISSUER, AUDIENCE, DROP = "https://shop.example", "waiting-room", "sneaker-x"

ED = OKPKey.generate_key("Ed25519", parameters={"kid": "ed"})
EC = ECKey.generate_key("P-256", parameters={"kid": "ec"})
RSA = RSAKey.generate_key(2048, parameters={"kid": "rsa"})
OCT = OctKey.generate_key(256, parameters={"kid": "oct"})
KEYS: list[tuple[Key, str]] = [(ED, "EdDSA"), (ED, "Ed25519"), (EC, "ES256"), (RSA, "RS256"), (OCT, "HS256")]


def key_set(*keys: Key) -> bytes:
    return msgspec.json.encode({"keys": [key.as_dict(private=isinstance(key, OctKey)) for key in keys]})


VERIFIER = IdentityVerifier.of(key_set(ED, EC, RSA, OCT), issuer=ISSUER, audience=AUDIENCE)


def claims(**changes: Any) -> dict[str, Any]:
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "customer-7", "exp": NOW_S + 600}
    return {name: value for name, value in (usual | changes).items() if value is not ...}


def signed(key: Key = ED, alg: str = "EdDSA", header: dict[str, Any] | None = None, **changes: Any) -> str:
    return encoded({"alg": alg, "kid": key.kid, **(header or {})}, key, **changes)


def encoded(header: dict[str, Any], key: Key, **changes: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # EdDSA is the old name, and what most storefronts still say
        return jwt.encode(header, claims(**changes), key, algorithms=[header["alg"]])


def read(token: str) -> str:
    return VERIFIER.read(token, DROP, NOW_MS).identity


@pytest.mark.parametrize(("key", "alg"), KEYS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_kind_of_key_is_taken_and_says_the_same_of_a_shopper(key: Key, alg: str) -> None:
    assert read(signed(key, alg)) == identity_digest(DROP, ISSUER, "customer-7")


def test_only_a_digest_of_the_shopper_remains_another_in_every_drop() -> None:
    here = identity_digest(DROP, ISSUER, "customer-7")
    assert here == digest("identity", DROP, ISSUER, "customer-7")
    others = {
        identity_digest("sneaker-y", ISSUER, "customer-7"),
        identity_digest(DROP, ISSUER, "customer-8"),
        identity_digest(DROP, "x", "y"),
    }
    assert len({here, *others}) == 4
    assert len(here) == 22


def test_a_group_and_a_drop_may_be_named() -> None:
    found = VERIFIER.read(signed(group="vip", drop=DROP), DROP, NOW_MS)
    assert found.group == "vip"
    assert VERIFIER.read(signed(group=None), DROP, NOW_MS).group == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iss": "https://other.example"}, "another issuer"),
        ({"aud": "other"}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"exp": NOW_S}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": NOW_S + 24 * 3600 + 1}, "24 hours"),
        ({"exp": 1e300}, "24 hours"),
        ({"nbf": NOW_S + 61}, "not in force"),
        ({"sub": ""}, "subject"),
        ({"sub": "x" * 257}, "subject"),
        ({"drop": "sneaker-y"}, "another drop"),
        ({"exp": ...}, "claims"),
        ({"sub": ...}, "claims"),
        ({"iss": ...}, "claims"),
        ({"aud": ...}, "claims"),
        ({"exp": str(NOW_S + 600)}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": None}, "claims"),
        ({"sub": 7}, "claims"),
        ({"group": ["vip"]}, "claims"),
        ({"drop": 7}, "claims"),
    ],
    ids=str,
)
def test_what_is_not_in_force_for_this_drop_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read(signed(**changes))
    assert "customer-7" not in str(caught.value)


def test_what_is_just_in_force_is_taken() -> None:
    for changes in ({"exp": NOW_S + 1}, {"exp": NOW_S + 0.5}, {"exp": NOW_S + 24 * 3600}, {"nbf": NOW_S + 60}, {"aud": ["a", AUDIENCE]}):
        assert read(signed(**changes)) == identity_digest(DROP, ISSUER, "customer-7")


TOKEN = signed()
OTHERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.="


@settings(max_examples=300)
@given(position=st.integers(0, len(TOKEN) - 1), other=st.sampled_from(OTHERS))
def test_any_other_character_at_any_place_is_refused(position: int, other: str) -> None:
    changed = TOKEN[:position] + other + TOKEN[position + 1 :]
    if changed != TOKEN:
        with pytest.raises(ValueError, match=r"identity|JWT"):
            read(changed)


@given(st.one_of(st.text(max_size=200), st.lists(st.text(OTHERS, max_size=40), min_size=3, max_size=3).map(".".join)))
def test_whatever_somebody_sends_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"identity|JWT"):
        read(text)


def test_the_algorithm_is_the_keys_and_never_the_tokens() -> None:
    parts = [b64encode(msgspec.json.encode(part)) for part in ({"alg": "none", "kid": "ed"}, claims())]
    forged = {
        "none": ".".join([*parts, ""]),
        "a public key's text as a secret": _hmac_signed("rsa", RSA.as_pem(private=False)),
        "a public key's bytes as a secret": _hmac_signed("ed", ED.public_key.public_bytes_raw()),
        "a secret's name with a public key's algorithm": signed(ED, "EdDSA", {"kid": "oct"}),
        "RSA with another hash": signed(RSA, "RS512"),
        "RSA with another padding": signed(RSA, "PS256"),
        "a secret with another hash": signed(OCT, "HS512"),
        "no name where there are several": encoded({"alg": "EdDSA"}, ED),
        "an unknown name": signed(header={"kid": "unknown"}),
        "a name that is no text": signed_with_header({"alg": "EdDSA", "kid": 7}),
        "a key of its own": signed(OKPKey.generate_key("Ed25519", parameters={"kid": "ed"}), header={"jwk": ED.as_dict(private=False)}),
    }
    for how, token in forged.items():
        with pytest.raises(ValueError, match="not signed by a key"):
            pytest.fail(f"{how}: {read(token)}")


def signed_with_header(header: dict[str, Any]) -> str:
    covered = ".".join(b64encode(msgspec.json.encode(part)) for part in (header, claims()))
    return f"{covered}.{b64encode(ED.private_key.sign(covered.encode()))}"  # type: ignore[union-attr]


def _hmac_signed(kid: str, secret: bytes) -> str:
    covered = ".".join(b64encode(msgspec.json.encode(part)) for part in ({"alg": "HS256", "kid": kid}, claims()))
    return f"{covered}.{b64encode(hmac.digest(secret, covered.encode(), hashlib.sha256))}"


def test_what_a_header_insists_on_and_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="not signed by a key"):
        read(signed_with_header({"alg": "EdDSA", "kid": "ed", "crit": ["new"], "new": 1}))
    with pytest.raises(ValueError, match="not signed by a key"):
        read(signed_with_header({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": False}))
    assert read(signed_with_header({"alg": "EdDSA", "kid": "ed", "harmless": 1})) == read(TOKEN)


def test_the_only_key_needs_no_name() -> None:
    alone = IdentityVerifier.of(key_set(ED), issuer=ISSUER, audience=AUDIENCE)
    token = encoded({"alg": "EdDSA"}, ED)
    assert alone.read(token, DROP, NOW_MS).identity == identity_digest(DROP, ISSUER, "customer-7")
    with pytest.raises(ValueError, match="not signed"):
        alone.read(signed(header={"kid": "unknown"}), DROP, NOW_MS)


def test_without_keys_no_identity_is_taken() -> None:
    nobody = read_identity_keys("", issuer="", audience="")
    for token in (TOKEN, encoded({"alg": "EdDSA"}, ED)):
        with pytest.raises(ValueError, match="not signed"):
            nobody.read(token, DROP, NOW_MS)


def test_a_long_one_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="three parts"):
        read(signed(extra="x" * IDENTITY_LENGTH_MAX))


# ------------------------------------------------------------------------------------------------------------------- keys


def test_a_key_may_say_what_it_is_for() -> None:
    for members in ({"alg": "EdDSA", "use": "sig", "key_ops": ["verify"]}, {"alg": "Ed25519"}):
        described = msgspec.json.encode({"keys": [ED.as_dict(private=False) | members]})
        for alg in ("EdDSA", "Ed25519"):
            found = IdentityVerifier.of(described, issuer=ISSUER, audience=AUDIENCE).read(signed(alg=alg), DROP, NOW_MS)
            assert found.identity == read(TOKEN)


def short_rsa() -> dict[str, str]:
    numbers = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    return {"kty": "RSA", "n": b64encode(numbers.n.to_bytes(128, "big")), "e": "AQAB"}


def as_set(*entries: Any) -> bytes:
    return msgspec.json.encode({"keys": list(entries)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "JWK set"),
        (b"[]", "JWK set"),
        (b"{}", "JWK set"),
        (b"\xff", "JWK set"),
        (as_set(), "1 to"),
        (as_set(*[ED.as_dict(private=False)] * 33), "1 to"),
        (b'{"keys": {}}', "1 to"),
        (as_set(7), "key 1 is not a JWK"),
        (as_set({}), "key 1 is not a JWK"),
        (as_set({"kty": "OKP", "crv": "Ed25519"}), "key 1 is not a JWK"),
        (as_set({"kty": "OKP", "crv": "Ed25519", "x": "é"}), "key 1 is not a JWK"),
        (as_set(ED.as_dict(private=False), ED.as_dict(private=False)), "key 2 has the kid of another"),
        (as_set(OKPKey.generate_key("X25519").as_dict(private=False)), "key 1 is none of"),
        (as_set(ECKey.generate_key("P-384").as_dict(private=False)), "key 1 is none of"),
        (as_set(short_rsa()), "key 1 is none of"),
        (as_set({"kty": "oct", "k": b64encode(bytes(31))}), "key 1 is none of"),
        (as_set(ED.as_dict(private=False) | {"alg": "HS256"}), "another algorithm"),
        (as_set(RSA.as_dict(private=False) | {"alg": "PS256"}), "another algorithm"),
        (as_set(ED.as_dict(private=False) | {"use": "enc"}), "not for signatures"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_keys_that_cannot_be_used_are_told_by_their_position(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        IdentityVerifier.of(content, issuer=ISSUER, audience=AUDIENCE)


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(ED))
    assert read_identity_keys(str(path), issuer=ISSUER, audience=AUDIENCE).read(TOKEN, DROP, NOW_MS).identity == read(TOKEN)


def test_a_file_that_cannot_be_used_is_named_and_its_secrets_are_not(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ConfigurationError, match="No such file"):
        read_identity_keys(str(path), issuer=ISSUER, audience=AUDIENCE)
    path.write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')
    with pytest.raises(ConfigurationError, match=r"keys\.json.*key 1") as caught:
        read_identity_keys(str(path), issuer=ISSUER, audience=AUDIENCE)
    assert "c2VjcmV0" not in str(caught.value)
    for issuer, audience in ((ISSUER, ""), ("", AUDIENCE)):
        with pytest.raises(ConfigurationError, match="issuer or"):
            read_identity_keys(str(path), issuer=issuer, audience=audience)
    path.write_bytes(b" " * 262_145)
    with pytest.raises(ConfigurationError, match="more than"):
        read_identity_keys(str(path), issuer=ISSUER, audience=AUDIENCE)
