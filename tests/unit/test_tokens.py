"""Admission tokens: ours are recognised, everything else is not, whatever it looks like."""

from __future__ import annotations

import hashlib
import hmac
import json
import string
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from admission.tokens import (
    TOKEN_LENGTH_MAX,
    TOKEN_TYPE,
    Admission,
    Permission,
    SigningKey,
    SigningKeySet,
    TokenSigner,
    b64decode,
    b64encode,
    make_signing_keys,
    make_token_id,
    rotate_signing_keys,
    thumbprint,
)

NOW_MS = 1_800_000_000_000
KEYS = make_signing_keys(NOW_MS)
ADMISSION = Admission("d", 3, "d.tAAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBB", NOW_MS + 999, NOW_MS + 60_999)
OURS = Permission("d", ADMISSION.ticket_id, ADMISSION.token_id, epoch=3)

# RFC 8037, appendix A.1 to A.3.
RFC8037_D = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC8037_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC8037_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def signer(keys: SigningKeySet = KEYS, issuer: str = "flashsale", audience: str = "storefront") -> TokenSigner:
    return TokenSigner(keys, issuer=issuer, audience=audience)


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, payload, _ = token.split(".")
    return json.loads(b64decode(header)), json.loads(b64decode(payload))


def signed(header: Any, payload: Any, key: SigningKey | None = None) -> str:
    """A token with this content and a good signature by our own key."""
    content = f"{b64encode(_json(header))}.{b64encode(_json(payload))}"
    private = (key or KEYS.active("admission")).private()
    return f"{content}.{b64encode(private.sign(content.encode()))}"


def _json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


TOKEN = signer().sign(ADMISSION)
HEADER, CLAIMS = parts_of(TOKEN)


def refused(token: str) -> bool:
    """By a process that has signed or seen nothing before."""
    return signer().read(token) is None


def test_a_token_says_what_it_is() -> None:
    assert {"alg": "EdDSA", "kid": KEYS.active("admission").kid, "typ": TOKEN_TYPE} == HEADER
    assert {
        "iss": "flashsale",
        "aud": "storefront",
        "sub": ADMISSION.ticket_id,
        "drop": "d",
        "epoch": 3,
        "jti": ADMISSION.token_id,
        "iat": NOW_MS // 1_000,
        "nbf": NOW_MS // 1_000,
        "exp": NOW_MS // 1_000 + 60,
    } == CLAIMS
    assert len(TOKEN) < 700


def test_the_same_admission_is_always_the_same_token() -> None:
    assert signer().sign(ADMISSION) == TOKEN
    assert signed(HEADER, CLAIMS) == TOKEN


def test_a_token_is_recognised_by_its_signer_and_by_another_process() -> None:
    own, other = signer(), signer()
    own.sign(ADMISSION)
    assert own.read(TOKEN) == other.read(TOKEN) == other.read(TOKEN) == OURS


@pytest.mark.parametrize("part", [0, 1, 2])
def test_every_changed_character_is_noticed(part: int) -> None:
    reader, parts = signer(), TOKEN.split(".")
    for index, character in enumerate(parts[part]):
        replaced = "A" if character != "A" else "B"
        changed = [*parts]
        changed[part] = parts[part][:index] + replaced + parts[part][index + 1 :]
        assert reader.read(".".join(changed)) is None


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(HEADER | {"alg": "none"}, id="alg none"),
        pytest.param(HEADER | {"alg": "None"}, id="alg None"),
        pytest.param(HEADER | {"alg": "HS256"}, id="alg HS256"),
        pytest.param(HEADER | {"alg": ""}, id="alg empty"),
        pytest.param(HEADER | {"alg": ["EdDSA"]}, id="alg list"),
        pytest.param({"kid": HEADER["kid"], "typ": TOKEN_TYPE}, id="no alg"),
        pytest.param(HEADER | {"kid": KEYS.active("receipt").kid}, id="the receipts' key"),
        pytest.param(HEADER | {"kid": "../../etc/passwd"}, id="kid as a path"),
        pytest.param(HEADER | {"kid": "' OR 1=1 --"}, id="kid as a query"),
        pytest.param(HEADER | {"kid": ""}, id="kid empty"),
        pytest.param(HEADER | {"kid": None}, id="kid null"),
        pytest.param({"alg": "EdDSA", "typ": TOKEN_TYPE}, id="no kid"),
        pytest.param({"alg": "EdDSA", "typ": TOKEN_TYPE, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": RFC8037_X}}, id="its own key"),
        pytest.param(HEADER | {"typ": "JWT"}, id="typ JWT"),
        pytest.param(HEADER | {"typ": "flashsale-receipt+merkle"}, id="typ of a receipt"),
        pytest.param({"alg": "EdDSA", "kid": HEADER["kid"]}, id="no typ"),
        pytest.param(HEADER | {"crit": ["exp"]}, id="crit"),
        pytest.param(HEADER | {"crit": []}, id="crit empty"),
        pytest.param([], id="a list"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b'{"alg":"EdDSA"', id="cut off"),
    ],
)
def test_a_wrong_header_is_refused_even_with_a_good_signature(header: Any) -> None:
    assert refused(signed(header, CLAIMS))


@pytest.mark.parametrize("nested", ["crit", "unknown"])
def test_a_deeply_nested_header_is_refused(nested: str) -> None:
    """The header is read before the signature is checked, so anyone can send one."""
    depth = 1_300
    header = f'{{"alg":"EdDSA","kid":"k","typ":"t","{nested}":{"[" * depth}'.encode()
    token = f"{b64encode(header)}.e30.AA"
    assert len(token) < TOKEN_LENGTH_MAX
    assert refused(token)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(CLAIMS | {"iss": "somebody"}, id="issuer"),
        pytest.param(CLAIMS | {"aud": "elsewhere"}, id="audience"),
        pytest.param(CLAIMS | {"aud": ["storefront"]}, id="audience list"),
        pytest.param(CLAIMS | {"exp": "never"}, id="exp text"),
        pytest.param({name: value for name, value in CLAIMS.items() if name != "jti"}, id="no jti"),
        pytest.param({name: value for name, value in CLAIMS.items() if name != "exp"}, id="no exp"),
        pytest.param(CLAIMS | {"sub": 7}, id="sub number"),
        pytest.param([], id="a list"),
        pytest.param(b"\xff", id="no text"),
    ],
)
def test_wrong_claims_are_refused_even_with_a_good_signature(claims: Any) -> None:
    assert refused(signed(HEADER, claims))


def test_a_signature_without_its_key_is_none() -> None:
    content = TOKEN.rpartition(".")[0]
    public = KEYS.active("admission").private().public_key().public_bytes_raw()
    confused = signed(HEADER | {"alg": "HS256"}, CLAIMS).rpartition(".")[0]
    stranger = SigningKey(kid=HEADER["kid"], d=RFC8037_D, purpose="admission", active=True, created_at_ms=0)
    for token in (
        f"{content}.",
        f"{content}.{b64encode(bytes(64))}",
        f"{content}.{b64encode(bytes(63))}",
        f"{confused}.{b64encode(hmac.digest(public, confused.encode(), 'sha256'))}",
        signed(HEADER, CLAIMS, stranger),
        signed(HEADER | {"kid": KEYS.active("receipt").kid}, CLAIMS, KEYS.active("receipt")),
    ):
        assert refused(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        TOKEN + ".",
        "." + TOKEN,
        TOKEN + "=",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN.replace(".", ".."),
        f"{TOKEN}.{TOKEN}",
        TOKEN.replace(".", ". ", 1),
        TOKEN + "A",
        TOKEN[:-1],
        "é" + TOKEN[1:],
        TOKEN + "\x00",
        "x" * 100_000,
    ],
    ids=lambda token: repr(token[:12]),
)
def test_what_is_not_a_token_is_refused(token: str) -> None:
    assert refused(token)


def test_a_token_beyond_the_limit_is_refused_although_it_is_genuine() -> None:
    assert not refused(signed(HEADER, CLAIMS | {"note": "x" * 500}))
    assert refused(signed(HEADER, CLAIMS | {"note": "x" * 2_000}))


def test_one_value_has_one_spelling() -> None:
    """The last character of a part may carry unused bits; a second spelling would be a second token."""
    content, _, signature = TOKEN.rpartition(".")
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    others = [signature[:-1] + character for character in alphabet if character != signature[-1]]
    assert all(refused(f"{content}.{other}") for other in others)


def test_what_was_recognised_is_forgotten_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admission.tokens.VERIFIED_TOKENS_MAX", 4)
    reader = signer()
    for number in range(20):
        reader.sign(Admission("d", 1, "t", f"{number}", NOW_MS, NOW_MS))
    assert len(reader._verified) == 4
    assert reader.read(TOKEN) == OURS


def test_forged_tokens_are_not_remembered() -> None:
    reader = signer()
    for number in range(50):
        assert reader.read(f"{TOKEN}{number}") is None
    assert len(reader._verified) == 0


# ----------------------------------------------------------------------------------------------------------------- keys


def test_rotation_keeps_old_tokens_good_and_signs_with_the_new_key() -> None:
    rotated = rotate_signing_keys(KEYS, NOW_MS + 1)
    assert rotated.active("admission").kid != KEYS.active("admission").kid
    assert signer(rotated).read(TOKEN) == OURS
    fresh = signer(rotated).sign(ADMISSION)
    assert parts_of(fresh)[0]["kid"] == rotated.active("admission").kid
    assert refused(fresh)  # by a process that still has the old file
    retired = SigningKeySet(keys=[key for key in rotated.keys if key.active])
    assert signer(retired).read(TOKEN) is None


def test_the_last_active_key_of_a_purpose_signs() -> None:
    both = SigningKeySet(keys=[*KEYS.keys, *make_signing_keys(NOW_MS).keys])
    assert both.active("admission") == both.keys[2]
    with pytest.raises(ValueError, match="no active signing key for receipt"):
        SigningKeySet(keys=[KEYS.active("admission")]).active("receipt")


def test_public_keys_are_a_jwk_set_without_anything_private() -> None:
    jwks = rotate_signing_keys(KEYS, NOW_MS).jwks()
    assert list(jwks) == ["keys"]
    assert len(jwks["keys"]) == 4
    for jwk in jwks["keys"]:
        assert jwk.keys() == {"kty", "crv", "x", "kid", "use", "alg", "purpose"}
        assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA")
        assert jwk["kid"] == thumbprint(jwk["x"])
        assert len(b64decode(jwk["x"])) == 32


def test_thumbprint_is_that_of_rfc_8037() -> None:
    assert thumbprint(RFC8037_X) == RFC8037_THUMBPRINT
    private = Ed25519PrivateKey.from_private_bytes(b64decode(RFC8037_D))
    assert b64encode(private.public_key().public_bytes_raw()) == RFC8037_X


def test_token_ids_are_128_random_bits() -> None:
    ids = {make_token_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(b64decode(token_id)) == 16 for token_id in ids)


# ------------------------------------------------------------------------------------------------------------- base64url


@given(st.binary(max_size=80))
@settings(derandomize=True, database=None)
def test_base64url_is_canonical(data: bytes) -> None:
    text = b64encode(data)
    assert b64decode(text) == data
    assert not set(text) & set("+/=")
    with pytest.raises(ValueError, match="base64url"):
        b64decode(text + "=")


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_+/= \n", max_size=12))
@settings(derandomize=True, database=None)
def test_what_decodes_encodes_to_the_same_text(text: str) -> None:
    try:
        data = b64decode(text)
    except ValueError:
        return
    assert b64encode(data) == text


def test_known_digest_is_what_the_table_of_verified_tokens_is_keyed_by() -> None:
    reader = signer()
    reader.read(TOKEN)
    assert list(reader._verified) == [hashlib.sha256(TOKEN.encode()).digest()]
