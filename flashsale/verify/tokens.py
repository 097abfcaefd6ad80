"""Admission tokens as others present them: taken apart, and believed only once a known key has signed them. Pure.

A token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037). Following RFC 8725: the algorithm belongs to the key and is never taken from
the token (3.1), the type is explicit (3.11), `kid` only ever picks one of the keys already known, and nothing a token points to is
fetched (3.10).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from flashsale.verify.answers import Admission, Code, Refusal

TOKEN_TYPE = "flashsale-admission+jwt"  # noqa: S105 - a media type
TOKEN_LENGTH_MAX = 4096
KEYS_MAX = 32
KID_LENGTH_MAX = 128
LIFE_MAX_S = 600
"""what is good for longer is not from us: admission cannot be taken back, so it never lasts long"""
CLOCKS_APART_S = 30
"""how far this machine's clock may be from the service's"""
VERIFIED_TOKENS_MAX = 16_384

_ALGORITHMS = ("EdDSA", "Ed25519")
"""names of the one algorithm there is, the old and the new one (RFC 9864)"""
_PURPOSE = "admission"
_TEXTS = ("iss", "aud", "sub", "drop", "jti")
_NUMBERS = ("epoch", "iat", "nbf", "exp")
_NUMBER_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key of the service."""

    raw: bytes
    public: Ed25519PublicKey


Keys = Mapping[str, VerifyingKey]
"""by `kid`"""


@dataclass(frozen=True, slots=True)
class SealedToken:
    """A token taken apart; nothing in it is believed yet."""

    kid: str
    content: bytes
    """what the signature is over"""
    payload: bytes
    signature: bytes
    digest: bytes
    """SHA-256 of the whole token"""


def b64decode(text: str) -> bytes:
    """The bytes of base64url without padding; every value has one spelling.

    Raises:
        ValueError: another spelling, or other characters.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64url") from None
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise ValueError("not canonical base64url")
    return data


def read_keys(document: str | bytes | Mapping[str, Any]) -> Keys:
    """The keys for admission tokens of a JWK set (RFC 7517), as text or already decoded. Others in the set are passed over.

    Raises:
        ValueError: it is not a JWK set, or holds more than 32 keys.
    """
    try:
        entries = (document if isinstance(document, Mapping) else json.loads(document))["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        entries = None
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise ValueError(f'not a JWK set of at most {KEYS_MAX} keys: {{"keys": [...]}}')
    return dict(key for key in map(_read_key, entries) if key is not None)


def _read_key(entry: Any) -> tuple[str, VerifyingKey] | None:
    if not isinstance(entry, dict):
        return None
    kid, text = entry.get("kid"), entry.get("x")
    if not isinstance(kid, str) or not isinstance(text, str) or not 1 <= len(kid) <= KID_LENGTH_MAX:
        return None
    if (entry.get("kty"), entry.get("crv")) != ("OKP", "Ed25519") or entry.get("alg", _ALGORITHMS[0]) not in _ALGORITHMS:
        return None
    if entry.get("use", "sig") != "sig" or entry.get("purpose", _PURPOSE) != _PURPOSE:
        return None
    try:
        raw = b64decode(text)
        return kid, VerifyingKey(raw, Ed25519PublicKey.from_public_bytes(raw))
    except ValueError:
        return None


def unseal(token: str) -> SealedToken | None:
    """The token taken apart, or None when it does not even look like one of the service's."""
    parts = token.split(".", 3)
    if len(token) > TOKEN_LENGTH_MAX or len(parts) != 3 or not token.isascii():
        return None
    try:
        header = _decode(b64decode(parts[0]))
        payload, signature = b64decode(parts[1]), b64decode(parts[2])
    except ValueError:
        return None
    kid = header.get("kid")
    if header.get("alg") not in _ALGORITHMS or header.get("typ") != TOKEN_TYPE or "crit" in header or not isinstance(kid, str):
        return None
    content, _, _ = token.rpartition(".")
    return SealedToken(kid, content.encode(), payload, signature, hashlib.sha256(token.encode()).digest())


def _decode(data: bytes) -> dict[str, Any]:
    """The members of a JSON object in its shortest spelling, which is how the service writes it.

    Whatever does not come back the same is refused: a member said twice, of which another reader may take the other one, or a number
    with a fraction. The connector for Node has the same rule.

    Raises:
        ValueError: it is anything else.
    """
    try:
        value = json.loads(data.decode())
        if isinstance(value, dict) and json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() == data:
            return value
    except RecursionError:
        pass  # brackets nested a thousand deep, in a header anyone can send
    raise ValueError("not JSON as the service writes it")


class TokenReader:
    """Reads tokens of one issuer for one audience. Verifying a signature costs 0.1 ms, so tokens seen before are remembered."""

    def __init__(self, *, issuer: str, audience: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._lock = threading.Lock()
        self._genuine: dict[bytes, tuple[bytes, dict[str, Any]]] = {}
        """SHA-256 of the token to the key that signed it and the claims"""

    def read(self, token: SealedToken, key: VerifyingKey, now_s: float) -> Admission | Refusal:
        """What the token permits at the time `now_s`, in whichever drop."""
        claims = self._claims(token, key)
        if claims is None or not 0 < claims["exp"] - claims["iat"] <= LIFE_MAX_S:
            return Refusal(Code.TOKEN_INVALID)
        if claims["iss"] != self._issuer:
            return Refusal(Code.WRONG_ISSUER)
        if claims["aud"] != self._audience:
            return Refusal(Code.WRONG_AUDIENCE)
        if claims["nbf"] > now_s + CLOCKS_APART_S:
            return Refusal(Code.TOKEN_EARLY)
        if claims["exp"] <= now_s - CLOCKS_APART_S:
            return Refusal(Code.TOKEN_EXPIRED)
        return Admission(claims["sub"], claims["drop"], claims["epoch"], claims["jti"], claims["iat"], claims["exp"])

    def _claims(self, token: SealedToken, key: VerifyingKey) -> dict[str, Any] | None:
        """The claims of a genuine token; None of any other."""
        signed_by, known = self._genuine.get(token.digest, (b"", None))
        if known is not None and signed_by == key.raw:
            return known
        try:
            key.public.verify(token.signature, token.content)
            claims = _decode(token.payload)
        except (InvalidSignature, ValueError):
            return None
        if not all(isinstance(claims.get(name), str) for name in _TEXTS) or not all(_is_whole(claims.get(name)) for name in _NUMBERS):
            return None
        with self._lock:
            self._genuine[token.digest] = key.raw, claims
            if len(self._genuine) > VERIFIED_TOKENS_MAX:
                del self._genuine[next(iter(self._genuine))]
        return claims


def _is_whole(value: object) -> bool:
    return type(value) is int and 0 <= value <= _NUMBER_MAX
