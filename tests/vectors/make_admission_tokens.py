"""Writes connectors/vectors.json: `python -m tests.vectors.make_admission_tokens`.

Admission tokens, good and bad, with what every connector has to say of each. Made without the service's code: only hashlib, json and a
library for Ed25519. The keys are fixed, and Ed25519 is deterministic, so the file is always the same; `vectors` makes them for any time,
for whoever cannot set a clock.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE = Path(__file__).parents[2] / "connectors" / "vectors.json"
NOW_S = 1_800_000_000
ISSUER, AUDIENCE, DROP, EPOCH = "flashsale", "storefront", "launch", 3
TYPE = "flashsale-admission+jwt"
PADDING = 5000
"""characters in a claim; the token is then longer than the 4096 a connector takes, and shorter than a header of 8 kB"""


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class VectorKey(NamedTuple):
    """An Ed25519 key that follows from a name."""

    seed: bytes

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def x(self) -> str:
        return b64(self.private.public_key().public_bytes_raw())

    @property
    def kid(self) -> str:
        """RFC 7638."""
        return b64(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{self.x}"}}'.encode()).digest())

    def jwk(self, purpose: str) -> dict[str, str]:
        return {"kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.kid, "use": "sig", "alg": "EdDSA", "purpose": purpose}

    def signing_key(self, purpose: str, *, active: bool = True) -> dict[str, Any]:
        """As the service's file of signing keys has it."""
        return {"kid": self.kid, "d": b64(self.seed), "purpose": purpose, "active": active, "created_at_ms": NOW_S * 1000}


def _named(name: str) -> VectorKey:
    return VectorKey(hashlib.sha256(f"flashsale admission vectors: {name}".encode()).digest())


CURRENT, BEFORE, RECEIPTS, STRANGER = _named("current"), _named("before"), _named("receipts"), _named("stranger")
JWKS = {"keys": [BEFORE.jwk("admission"), CURRENT.jwk("admission"), RECEIPTS.jwk("receipt")]}
SIGNING_KEYS = {"keys": [BEFORE.signing_key("admission", active=False), CURRENT.signing_key("admission"), RECEIPTS.signing_key("receipt")]}


def seal(header: Any, payload: Any, key: VectorKey) -> str:
    """A token with this header and payload (JSON, or bytes as they are) and the key's good signature."""
    parts = [b64(part if isinstance(part, bytes) else compact(part)) for part in (header, payload)]
    content = ".".join(parts)
    return f"{content}.{b64(key.private.sign(content.encode()))}"


class Maker:
    """Makes tokens around one instant."""

    def __init__(self, now_s: int, epoch: int = EPOCH) -> None:
        self.now_s = now_s
        self.epoch = epoch

    def claims(self, **changes: Any) -> dict[str, Any]:
        issued = self.now_s - 60
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"{DROP}.tAAAAAAAAAAAAAAAAAAAAAA",
            "drop": DROP,
            "epoch": self.epoch,
            "jti": "BBBBBBBBBBBBBBBBBBBBBB",
            "iat": issued,
            "nbf": issued,
            "exp": issued + 600,
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def header(self, key: VectorKey = CURRENT, **changes: Any) -> dict[str, Any]:
        return {"alg": "EdDSA", "kid": key.kid, "typ": TYPE, **changes}

    def token(self, key: VectorKey = CURRENT, *, header: Any = None, payload: Any = None, **changes: Any) -> str:
        return seal(header or self.header(key), payload or self.claims(**changes), key)

    def span(self, *, issued: int, expires: int, **changes: Any) -> dict[str, Any]:
        """Claims issued and expiring so many seconds from now."""
        return {"iat": self.now_s + issued, "nbf": self.now_s + issued, "exp": self.now_s + expires, **changes}


def vectors(now_s: int, epoch: int = EPOCH) -> list[dict[str, str | None]]:
    """Every vector for a drop in `epoch`: its name, the token, and the code of its refusal, or None when it is good."""
    make = Maker(now_s, epoch)
    found = [*_good(make), *_of_another_place_or_time(make), *_not_genuine(make), *_forbidden_headers(make), *_malformed(make)]
    return [{"name": name, "code": code, "token": token} for name, code, token in found]


Vectors = list[tuple[str, str | None, str]]


def _good(make: Maker) -> Vectors:
    return [
        ("valid", None, make.token()),
        ("valid, the algorithm by its new name", None, make.token(header=make.header(alg="Ed25519"))),
        ("valid, by the key before the last rotation", None, make.token(BEFORE)),
        ("valid, of a later epoch", None, make.token(epoch=make.epoch + 1)),
        ("valid, with a claim that is not known", None, make.token(later="than this connector")),
        ("expired less than 30 seconds ago", None, make.token(**make.span(issued=-500, expires=-15))),
        ("in force in less than 30 seconds", None, make.token(**make.span(issued=15, expires=600))),
    ]


def _of_another_place_or_time(make: Maker) -> Vectors:
    return [
        ("none", "token_missing", ""),
        ("expired", "token_expired", make.token(**make.span(issued=-700, expires=-120))),
        ("not in force yet", "token_early", make.token(**make.span(issued=120, expires=600))),
        ("for another audience", "wrong_audience", make.token(aud="another-shop")),
        ("for an audience that looks the same", "wrong_audience", make.token(aud="storefr\u043ent")),
        ("by another issuer", "wrong_issuer", make.token(iss="another-service")),
        ("for another drop", "wrong_drop", make.token(drop="another", sub="another.tAAAAAAAAAAAAAAAAAAAAAA")),
        ("of an epoch that has ended", "old_epoch", make.token(epoch=make.epoch - 1)),
        ("good for longer than ten minutes", "token_invalid", make.token(**make.span(issued=-60, expires=541))),
        ("good for ever", "token_invalid", make.token(exp=2**53 - 1)),
        ("expires before it is issued", "token_invalid", make.token(**make.span(issued=20, expires=10))),
    ]


def _not_genuine(make: Maker) -> Vectors:
    good = make.token()
    content, _, signature = good.rpartition(".")
    header, payload, _ = good.split(".")
    other = b64(compact(make.claims(drop=DROP, sub=f"{DROP}.tCCCCCCCCCCCCCCCCCCCCCC")))
    flipped = bytearray(base64.urlsafe_b64decode(signature + "=="))
    flipped[10] ^= 1
    public = CURRENT.private.public_key().public_bytes_raw()
    symmetric = f"{b64(compact(make.header(alg='HS256')))}.{payload}"
    none = b64(compact(make.header(alg="none")))
    return [
        ("forged: one bit of the signature", "token_invalid", f"{content}.{b64(bytes(flipped))}"),
        ("forged: another shopper under a good signature", "token_invalid", f"{header}.{other}.{signature}"),
        ("signed by another key that says it is ours", "token_invalid", seal(make.header(CURRENT), make.claims(), STRANGER)),
        ("signed by the key for receipts", "token_invalid", make.token(RECEIPTS)),
        ("an unknown kid", "token_invalid", make.token(STRANGER)),
        ("a kid that is a path", "token_invalid", make.token(header=make.header(kid="../../etc/passwd"))),
        ("without a kid", "token_invalid", make.token(header={"alg": "EdDSA", "typ": TYPE})),
        ("without a signature", "token_invalid", f"{content}."),
        ("the algorithm none, without a signature", "token_invalid", f"{none}.{payload}."),
        ("the algorithm none, under a good signature", "token_invalid", make.token(header=make.header(alg="none"))),
        (
            "HS256 with the public key as the secret",
            "token_invalid",
            f"{symmetric}.{b64(hmac.digest(public, symmetric.encode(), 'sha256'))}",
        ),
        (
            "HS256 with the public key's text as the secret",
            "token_invalid",
            f"{symmetric}.{b64(hmac.digest(CURRENT.x.encode(), symmetric.encode(), 'sha256'))}",
        ),
    ]


def _forbidden_headers(make: Maker) -> Vectors:
    return [
        ("another algorithm's name under a good signature", "token_invalid", make.token(header=make.header(alg="ES256"))),
        ("an algorithm's name in small letters", "token_invalid", make.token(header=make.header(alg="eddsa"))),
        ("of another type", "token_invalid", make.token(header=make.header(typ="JWT"))),
        ("of no type", "token_invalid", make.token(header={"alg": "EdDSA", "kid": CURRENT.kid})),
        ("of a receipt's type", "token_invalid", make.token(header=make.header(typ="flashsale-receipt"))),
        ("crit with something unknown", "token_invalid", make.token(header=make.header(crit=["exp"]))),
        ("crit with nothing", "token_invalid", make.token(header=make.header(crit=[]))),
        ("brings its own key", "token_invalid", seal({**make.header(STRANGER), "jwk": STRANGER.jwk("admission")}, make.claims(), STRANGER)),
        ("says where its key is", "token_invalid", make.token(STRANGER, header=make.header(STRANGER, jku="https://example.com/jwks.json"))),
        ("a header that names the key twice", "token_invalid", make.token(header=_twice(make.header(), "kid", STRANGER.kid))),
    ]


def _malformed(make: Maker) -> Vectors:
    good = make.token()
    header, payload, signature = good.split(".")
    claims = make.claims()
    deep = b'{"deep":' + b"[" * 1200 + b"]" * 1200 + b"}"
    return [
        ("oversized, under a good signature", "token_invalid", make.token(padding="x" * PADDING)),
        ("garbage", "token_invalid", "garbage"),
        ("three parts of garbage", "token_invalid", "a.b.c"),
        ("two parts", "token_invalid", f"{header}.{payload}"),
        ("four parts", "token_invalid", f"{good}.{signature}"),
        ("padded base64", "token_invalid", f"{header}.{payload}.{signature}=="),
        ("a signature with bits left over", "token_invalid", f"{header}.{payload}.{_with_bits_left_over(signature)}"),
        ("base64 of the other alphabet", "token_invalid", f"{header}.{payload}.{'+' + signature[1:]}"),
        ("a header that is not JSON", "token_invalid", make.token(header=b"{alg:EdDSA}")),
        ("a header that is a list", "token_invalid", make.token(header=[make.header()])),
        ("a header nested a thousand deep", "token_invalid", make.token(header=deep)),
        ("claims that are not UTF-8", "token_invalid", make.token(payload=b'{"iss":"\xff"}')),
        ("claims that are a list", "token_invalid", make.token(payload=[claims])),
        ("the drop named twice", "token_invalid", make.token(payload=_twice(claims, "drop", "another"))),
        ("the expiry named twice", "token_invalid", make.token(payload=_twice(claims, "exp", claims["exp"] + 1))),
        ("an expiry with a fraction", "token_invalid", make.token(exp=claims["exp"] + 0.5)),
        ("an expiry that is a float", "token_invalid", make.token(exp=float(claims["exp"]))),
        ("an expiry with an exponent", "token_invalid", make.token(payload=compact(claims).replace(f"{claims['exp']}".encode(), b"18e8"))),
        ("an expiry that is a text", "token_invalid", make.token(exp=str(claims["exp"]))),
        ("an expiry that is true", "token_invalid", make.token(exp=True)),
        ("an expiry beyond every clock", "token_invalid", make.token(payload=compact({**claims, "exp": 10**30}))),
        ("a beginning below zero", "token_invalid", make.token(nbf=-1)),
        ("an epoch that is a text", "token_invalid", make.token(epoch=str(make.epoch))),
        ("an epoch that is true", "token_invalid", make.token(epoch=True)),
        ("a drop that is a list", "token_invalid", make.token(drop=[DROP])),
        ("audiences in a list", "token_invalid", make.token(aud=[AUDIENCE])),
        *((f"without {name}", "token_invalid", make.token(payload=make.claims(**{name: None}))) for name in claims),
    ]


def _twice(members: dict[str, Any], name: str, second: Any) -> bytes:
    """JSON in which a member is said a second time, at the end."""
    return compact(members)[:-1] + b"," + compact({name: second})[1:]


def _with_bits_left_over(signature: str) -> str:
    """Another spelling of the same 64 bytes: the last character's low four bits mean nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return signature[:-1] + alphabet[alphabet.index(signature[-1]) + 1]


def document() -> str:
    """The file's text."""
    about = {
        "about": "Admission tokens and what every connector says of each: null lets in, a code refuses. Written by "
        "python -m tests.vectors.make_admission_tokens.",
        "now_s": NOW_S,
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "drop": DROP,
        "min_epoch": EPOCH,
        "jwks": JWKS,
    }
    head = json.dumps(about, indent=1)[: -len("\n}")]
    rows = ",\n  ".join(json.dumps(vector) for vector in vectors(NOW_S))
    return f'{head},\n "vectors": [\n  {rows}\n ]\n}}\n'


def main() -> None:
    """Writes the file."""
    FILE.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")


if __name__ == "__main__":
    main()
