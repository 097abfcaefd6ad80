"""Who a shopper is, as the storefront says: a JWT (RFC 7519) it signed, so that one person has one place in a drop.

The keys are the storefront's, in a JWK set file (RFC 7517). Each key has one algorithm by its kind, never by the token's word (RFC 8725,
3.1); Ed25519 goes by both its names (RFC 9864):

    OKP Ed25519      EdDSA, Ed25519
    EC P-256         ES256
    RSA, 2048 bits   RS256
    oct, 32 bytes    HS256

Of a shopper only a digest is ever stored or logged.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, JWKRegistry, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from admission.tokens import b64decode
from flashsale.errors import ConfigurationError
from flashsale.model import digest

IDENTITY_LENGTH_MAX = 4096
SUBJECT_LENGTH_MAX = 256
LIFE_MAX_S = 24 * 3600
"""an identity that is good for longer is as good as a password"""
CLOCKS_APART_S = 60
"""how far ahead of the store's clock the storefront's may be"""
KEYS_MAX = 32
FILE_BYTES_MAX = 262_144
RSA_BITS_MIN = 2048
RSA_BITS_MAX = 4096
"""longer ones cost every join more than they give"""
OCT_BYTES_MIN = 32

_NOT_GENUINE = "The identity is not signed by a key of the storefront, or it was changed."


class _Claims(msgspec.Struct, frozen=True):
    """The claims that are looked at; a storefront may send others."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    nbf: float = 0.0
    drop: str | None = None
    group: str | None = None


class _Header(msgspec.Struct, frozen=True):
    kid: str | None = None
    crit: None = None
    """nothing a token may insist on is known here (RFC 7515, 4.1.11)"""


_decode_claims = msgspec.json.Decoder(_Claims).decode
_decode_header = msgspec.json.Decoder(_Header).decode


@dataclass(frozen=True, slots=True)
class ShopperIdentity:
    """A shopper the storefront knows, without saying who."""

    identity: str
    """digest of storefront, shopper and drop: 22 base64url characters"""
    group: str = ""
    """priority group the storefront puts the shopper into, or empty"""


def identity_digest(drop_id: str, issuer: str, subject: str) -> str:
    """What is kept of a shopper: 22 base64url characters, another in every drop."""
    return digest("identity", drop_id, issuer, subject)


class _OneAlgorithm(JWSRegistry):
    """The algorithm of one key. A token may only call it by one of its names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(algorithms=names, strict_check_header=False)
        self._algorithm = self.algorithms[names[0]]
        self._names = names

    def get_alg(self, name: str) -> JWSAlgModel:
        """The algorithm, when `name` is one of its names."""
        if name not in self._names:
            raise UnsupportedAlgorithmError(name)
        return self._algorithm


@dataclass(frozen=True, slots=True)
class _VerifyingKey:
    key: Key
    algorithm: _OneAlgorithm


class IdentityVerifier:
    """Reads identities that the storefront has signed; without keys it takes none."""

    def __init__(self, keys: Mapping[str, _VerifyingKey], *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    @classmethod
    def of(cls, key_set: bytes, *, issuer: str, audience: str) -> IdentityVerifier:
        """A verifier with the keys of a JWK set, given as JSON.

        Raises:
            ValueError: it is not a set of keys that can be used here; says why, without repeating any of it.
        """
        try:
            entries = msgspec.json.decode(key_set, type=dict[str, Any])["keys"]
        except (msgspec.MsgspecError, KeyError, UnicodeDecodeError):
            raise ValueError('it is not a JWK set: {"keys": [...]}') from None
        if not isinstance(entries, list) or not 1 <= len(entries) <= KEYS_MAX:
            raise ValueError(f"a set holds 1 to {KEYS_MAX} keys")
        keys: dict[str, _VerifyingKey] = {}
        for position, entry in enumerate(entries, start=1):
            kid, key = _read_key(entry, f"key {position}")
            if kid in keys:
                raise ValueError(f"key {position} has the kid of another")
            keys[kid] = key
        return cls(keys, issuer=issuer, audience=audience)

    def read(self, token: str, drop_id: str, now_ms: int) -> ShopperIdentity:
        """Whom a genuine identity names.

        Args:
            now_ms: the store's time.

        Raises:
            ValueError: it is not genuine, not in force, or not for this drop; says which, and never what it holds.
        """
        claims = self._genuine(token)
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        now_s = now_ms / 1000
        if claims.iss != self._issuer or self._audience not in audiences:
            raise ValueError("The identity is from another issuer or for another audience.")
        if claims.exp <= now_s:
            raise ValueError("The identity has expired; ask the storefront for a new one.")
        if claims.exp > now_s + LIFE_MAX_S:
            raise ValueError("The identity is good for more than 24 hours, which is too long.")
        if claims.nbf > now_s + CLOCKS_APART_S:
            raise ValueError("The identity is not in force yet.")
        if not 1 <= len(claims.sub) <= SUBJECT_LENGTH_MAX:
            raise ValueError(f"The identity's subject has to have 1 to {SUBJECT_LENGTH_MAX} characters.")
        if claims.drop is not None and claims.drop != drop_id:
            raise ValueError("The identity is for another drop.")
        return ShopperIdentity(identity_digest(drop_id, claims.iss, claims.sub), claims.group or "")

    def _genuine(self, token: str) -> _Claims:
        parts = token.split(".")
        if len(token) > IDENTITY_LENGTH_MAX or len(parts) != 3:
            raise ValueError("An identity is a JWT of three parts.")
        try:
            # The library takes more than one spelling of the same bytes; one is enough.
            header, payload, _ = (b64decode(part) for part in parts)
            known = self._keys[self._kid(_decode_header(header))]
            jws.deserialize_compact(token, known.key, registry=known.algorithm)
        except (KeyError, ValueError, JoseError):
            raise ValueError(_NOT_GENUINE) from None
        try:
            return _decode_claims(payload)
        except ValueError:
            raise ValueError("The identity has to have the claims iss, sub, aud and exp, each of its kind.") from None

    def _kid(self, header: _Header) -> str:
        """The name of the key to try; the only one of a set needs none."""
        return next(iter(self._keys)) if header.kid is None and len(self._keys) == 1 else header.kid or ""


def _read_key(entry: Any, name: str) -> tuple[str, _VerifyingKey]:
    """A key's id, and the key with its algorithm. Raises ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # of keys that are too short, which are refused below
            key = JWKRegistry.import_key(entry)
    except (JoseError, ValueError, TypeError, AttributeError, KeyError):
        raise ValueError(f"{name} is not a JWK") from None
    algorithms = _algorithms(key)
    if not algorithms:
        raise ValueError(f"{name} is none of Ed25519, P-256, RSA of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, or oct of {OCT_BYTES_MIN} bytes")
    if key.alg not in {None, *algorithms}:
        raise ValueError(f"{name} is for another algorithm than {algorithms[0]}")
    if key.get("use", "sig") != "sig":
        raise ValueError(f"{name} is not for signatures")
    kid = key.kid or key.thumbprint()
    # An identity may be spelt with either name of a key's algorithm, so the key itself must not insist on one.
    bare = JWKRegistry.import_key({member: value for member, value in entry.items() if member not in {"alg", "key_ops"}})
    return kid, _VerifyingKey(bare, _OneAlgorithm(algorithms))


def _algorithms(key: Key) -> tuple[str, ...]:
    """The names of a key's one algorithm; none when the key is of a kind or size we do not take."""
    match key:
        case OKPKey() if key.get("crv") == "Ed25519":
            return "Ed25519", "EdDSA"
        case ECKey() if key.get("crv") == "P-256":
            return ("ES256",)
        case RSAKey() if RSA_BITS_MIN <= key.public_key.key_size <= RSA_BITS_MAX:
            return ("RS256",)
        case OctKey() if len(key.raw_value) >= OCT_BYTES_MIN:
            return ("HS256",)
        case _:
            return ()


def read_identity_keys(path: str, *, issuer: str, audience: str) -> IdentityVerifier:
    """The verifier with the keys in the file `path`; one that takes no identity when there is no path.

    Raises:
        ConfigurationError: the file cannot be used, or issuer or audience are missing.
    """
    if not path:
        return IdentityVerifier({}, issuer=issuer, audience=audience)
    if not issuer or not audience:
        raise ConfigurationError(
            what="identity.keys_file is set, and identity.issuer or identity.audience is not.",
            why="Without both, an identity made for somebody else would be taken.",
            todo="Set them to the 'iss' and 'aud' of the storefront's identities.",
        )
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(what=f"The identity keys in {path} cannot be read:", why=f"{error.strerror}.") from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigurationError(what=f"{path} has more than {FILE_BYTES_MAX} bytes.", todo="It has to be a JWK set.")
    try:
        return IdentityVerifier.of(content, issuer=issuer, audience=audience)
    except ValueError as error:
        raise ConfigurationError(
            what=f"{path} cannot be used for identities:", why=f"{error}.", todo="See docs/places.md for the keys that can."
        ) from None
