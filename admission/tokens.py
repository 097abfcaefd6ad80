"""Admission tokens and the keys that sign them. Pure: no input or output.

A token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037), `typ` `flashsale-admission+jwt`. The algorithm belongs to
the key and is never taken from the token (RFC 8725, 3.1). Keys are named by their RFC 7638 thumbprint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Purpose = Literal["admission", "receipt"]

TOKEN_TYPE = "flashsale-admission+jwt"  # noqa: S105 - a media type
TOKEN_LENGTH_MAX = 2048
VERIFIED_TOKENS_MAX = 65_536


def b64encode(data: bytes) -> str:
    """base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def b64decode(text: str) -> bytes:
    """The bytes of base64url `text` without padding.

    Raises:
        ValueError: other characters, padding, or bits left over; so every value has exactly one spelling.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64url") from None
    if b64encode(data) != text:
        raise ValueError("not canonical base64url")
    return data


class SigningKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A private Ed25519 key as kept in the signing-key file (a JWK with what we need to rotate it)."""

    kid: str
    """RFC 7638 thumbprint of the public key"""
    d: str
    """private seed, 32 bytes in base64url"""
    purpose: Purpose
    active: bool
    """signs new tokens; of several active ones of a purpose the last one in the file does"""
    created_at_ms: int

    def private(self) -> Ed25519PrivateKey:
        """The key itself."""
        return Ed25519PrivateKey.from_private_bytes(b64decode(self.d))

    def public_jwk(self) -> dict[str, str]:
        """What `/.well-known/jwks.json` shows of it."""
        public = b64encode(self.private().public_key().public_bytes_raw())
        return {"kty": "OKP", "crv": "Ed25519", "x": public, "kid": self.kid, "use": "sig", "alg": "EdDSA", "purpose": self.purpose}


class SigningKeySet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signing-key file: every key that may still have valid tokens."""

    keys: list[SigningKey]

    def active(self, purpose: Purpose) -> SigningKey:
        """The key that signs for `purpose`.

        Raises:
            ValueError: there is none.
        """
        for key in reversed(self.keys):
            if key.purpose == purpose and key.active:
                return key
        raise ValueError(f"no active signing key for {purpose}")

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public JSON Web Key Set (RFC 7517)."""
        return {"keys": [key.public_jwk() for key in self.keys]}


def thumbprint(public_x: str) -> str:
    """RFC 7638 thumbprint of the Ed25519 public key `public_x` (base64url)."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{public_x}"}}'
    return b64encode(hashlib.sha256(canonical.encode()).digest())


def make_signing_key(purpose: Purpose, now_ms: int) -> SigningKey:
    """A fresh active key."""
    private = Ed25519PrivateKey.generate()
    public_x = b64encode(private.public_key().public_bytes_raw())
    return SigningKey(
        kid=thumbprint(public_x), d=b64encode(private.private_bytes_raw()), purpose=purpose, active=True, created_at_ms=now_ms
    )


def make_signing_keys(now_ms: int) -> SigningKeySet:
    """A fresh set: one key for each purpose."""
    return SigningKeySet(keys=[make_signing_key("admission", now_ms), make_signing_key("receipt", now_ms)])


def rotate_signing_keys(keys: SigningKeySet, now_ms: int) -> SigningKeySet:
    """The set with a new active key for each purpose; the old ones stay to verify what they have signed."""
    old = [msgspec.structs.replace(key, active=False) for key in keys.keys]
    return SigningKeySet(keys=old + make_signing_keys(now_ms).keys)


@dataclass(frozen=True, slots=True)
class Admission:
    """What a shopper was given: permission to reserve, as recorded in the store."""

    drop_id: str
    epoch: int
    ticket_id: str
    token_id: str
    """the token's `jti`: 128 random bits, 22 base64url characters"""
    issued_at_ms: int
    expires_at_ms: int


def make_token_id() -> str:
    """128 random bits as 22 base64url characters."""
    return secrets.token_urlsafe(16)


class Permission(NamedTuple):
    """What a genuine token permits, by its own words; the store has the last one."""

    drop_id: str
    ticket_id: str
    token_id: str
    epoch: int
    """tokens of an earlier epoch than the drop's have ended"""


class _Claims(msgspec.Struct):
    iss: str
    aud: str
    sub: str
    drop: str
    epoch: int
    jti: str
    iat: int
    nbf: int
    exp: int


class _Header(msgspec.Struct):
    alg: str
    kid: str
    typ: str
    crit: Any = None


_decode_claims = msgspec.json.Decoder(_Claims).decode
_decode_header = msgspec.json.Decoder(_Header).decode


class TokenSigner:
    """Signs admission tokens, and tells ours from others.

    Verifying costs about 0.1 ms, several times the rest of a reserve. A token this process has signed or verified
    before is recognised by its SHA-256, in a bounded table. Whether a token has expired, or was ever issued, is for the
    store to say, by its own clock.
    """

    def __init__(self, keys: SigningKeySet, *, issuer: str, audience: str) -> None:
        signing = keys.active("admission")
        self._private = signing.private()
        self._header = b64encode(msgspec.json.encode({"alg": "EdDSA", "kid": signing.kid, "typ": TOKEN_TYPE})).encode() + b"."
        self._public: dict[str, Ed25519PublicKey] = {key.kid: key.private().public_key() for key in keys.keys if key.purpose == "admission"}
        self._issuer = issuer
        self._audience = audience
        self._verified: OrderedDict[bytes, Permission] = OrderedDict()

    def sign(self, admission: Admission) -> str:
        """The compact token. The same admission always gives the same token (Ed25519 is deterministic)."""
        issued_at, expires_at = admission.issued_at_ms // 1000, admission.expires_at_ms // 1000
        claims = _Claims(
            iss=self._issuer,
            aud=self._audience,
            sub=admission.ticket_id,
            drop=admission.drop_id,
            epoch=admission.epoch,
            jti=admission.token_id,
            iat=issued_at,
            nbf=issued_at,
            exp=expires_at,
        )
        signed = self._header + b64encode(msgspec.json.encode(claims)).encode()
        token = signed + b"." + b64encode(self._private.sign(signed)).encode()
        self._remember(token, Permission(admission.drop_id, admission.ticket_id, admission.token_id, admission.epoch))
        return token.decode()

    def read(self, token: str) -> Permission | None:
        """What a token we signed permits, or None. Its expiry is not looked at."""
        if len(token) > TOKEN_LENGTH_MAX or not token.isascii():
            return None
        raw = token.encode()
        known = self._verified.get(hashlib.sha256(raw).digest())
        if known is not None:
            return known
        found = self._verify(raw)
        if found is not None:
            self._remember(raw, found)
        return found

    def _verify(self, token: bytes) -> Permission | None:
        parts = token.split(b".")
        if len(parts) != 3:
            return None
        try:
            header = _decode_header(b64decode(parts[0].decode()))
            public = self._public.get(header.kid)
            if public is None or header.alg not in ("EdDSA", "Ed25519") or header.typ != TOKEN_TYPE or header.crit is not None:
                return None
            public.verify(b64decode(parts[2].decode()), parts[0] + b"." + parts[1])
            claims = _decode_claims(b64decode(parts[1].decode()))
        except (ValueError, InvalidSignature, msgspec.MsgspecError, RecursionError):
            return None  # RecursionError: brackets nested a thousand deep, in a header anyone can send
        if claims.iss != self._issuer or claims.aud != self._audience:
            return None
        return Permission(claims.drop, claims.sub, claims.jti, claims.epoch)

    def _remember(self, token: bytes, what: Permission) -> None:
        self._verified[hashlib.sha256(token).digest()] = what
        if len(self._verified) > VERIFIED_TOKENS_MAX:
            self._verified.popitem(last=False)
