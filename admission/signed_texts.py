"""Short texts that only this service can have written: compact JWS (RFC 7515), Ed25519 under the receipt key. Pure.

Each kind has a `typ` of its own, so a text of one kind can be taken for no other, and for no receipt and no admission
token.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidSignature

from admission.tokens import SigningKey, SigningKeySet, b64decode, b64encode


class SignedTexts:
    """Signs payloads of one kind, and tells ours from others."""

    def __init__(self, keys: SigningKeySet, kind: str, length_max: int) -> None:
        """Put it together.

        Args:
            keys: of the service; retired ones still verify what they have signed.
            kind: the `typ` of the header.
            length_max: of a whole text; a longer one is not looked at.

        Raises:
            ValueError: there is no active receipt key.
        """
        key = keys.active("receipt")
        self._private = key.private()
        self._header = _header(key, kind)
        self._length_max = length_max
        # What is signed begins with one of these texts or is not ours, so nothing in a header is ever believed.
        self._public = {_header(key, kind): key.private().public_key() for key in keys.keys if key.purpose == "receipt"}

    def sign(self, payload: bytes) -> str:
        """The text that carries `payload`."""
        signed = f"{self._header}.{b64encode(payload)}"
        return f"{signed}.{b64encode(self._private.sign(signed.encode()))}"

    def verify(self, text: str) -> bytes:
        """The payload of a genuine text.

        Raises:
            ValueError: it is not one.
        """
        header, _, rest = text.partition(".")
        payload, _, signature = rest.partition(".")
        public = self._public.get(header)
        if public is None or len(text) > self._length_max:
            raise ValueError("not of this kind, or too long")
        try:
            public.verify(b64decode(signature), f"{header}.{payload}".encode())
        except InvalidSignature:
            raise ValueError("the signature does not match") from None
        return b64decode(payload)


def _header(key: SigningKey, kind: str) -> str:
    return b64encode(msgspec.json.encode({"alg": "EdDSA", "kid": key.kid, "typ": kind}))
