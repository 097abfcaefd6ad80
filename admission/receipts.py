"""Signed receipts of places in the line and of reservations. Pure: no input or output.

After a loss a receipt gives back what the store has forgotten. An Ed25519 signature costs as much as the rest of a join
or a reservation, so one signature covers all of a script call: it signs
the root of a Merkle tree (RFC 9162, section 2.1.1) over their payloads, and every receipt carries its own audit path.

Format, three base64url parts joined by dots, as a JWS (RFC 7515) has them:

    header    {"alg":"EdDSA","kid":…,"typ":"flashsale-receipt+merkle"}, or "flashsale-reservation-receipt+merkle"
    payload   {"drop":…,"entry_number":…,"secret_hash":…,"at_ms":…,"late":…,"epoch":…}, or that of a reservation
    proof     2 bytes leaf index, 2 bytes leaf count, 32 bytes for each node of the audit path, 64 bytes signature

The signature is over `"flashsale-receipt-root" ‖ 0x00 ‖ SHA-256(header part) ‖ root`; a leaf is the payload part as text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from admission.merkle import audit_path, leaf_hash, merkle_levels, root_from_path
from admission.tokens import SigningKeySet, b64decode, b64encode
from flashsale.model import Reservation

RECEIPT_TYPE = "flashsale-receipt+merkle"
RESERVATION_RECEIPT_TYPE = "flashsale-reservation-receipt+merkle"
RECEIPT_LENGTH_MAX = 4096
ROOT_CONTEXT = b"flashsale-receipt-root\x00"
SIGNATURE_BYTES = 64


class ReceiptPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a receipt proves: this secret's place and when it was given."""

    drop: str
    entry_number: int
    """order of joining, from 0; the queue number of a late joiner"""
    secret_hash: str
    at_ms: int
    late: bool
    epoch: int = 0
    """of the drop when the place was given; 0 in receipts from before epochs were in them"""
    line: int = 0
    """of a priority group; 0 is everybody's"""
    ticket: str = ""
    """the ticket whose place it is, when a second device of the shopper has it too; its secret hash is under the draw's root"""


class ReservationReceipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a receipt of a reservation proves."""

    reservation_id: str
    drop: str
    epoch: int
    ticket_id: str
    number: int
    items: tuple[tuple[str, int], ...]
    """(SKU, quantity)"""
    amount_minor: int
    reserved_at_ms: int
    expires_at_ms: int


Payload = TypeVar("Payload", bound=msgspec.Struct)


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    kid: str
    typ: str


class ReceiptSigner:
    """Signs the receipts of one script call together."""

    def __init__(self, keys: SigningKeySet, kind: str = RECEIPT_TYPE) -> None:
        key = keys.active("receipt")
        self._private = key.private()
        self._header = b64encode(msgspec.json.encode(_Header(alg="EdDSA", kid=key.kid, typ=kind)))
        self._context = ROOT_CONTEXT + hashlib.sha256(self._header.encode()).digest()

    def sign(self, payloads: Sequence[msgspec.Struct]) -> list[str]:
        """One receipt for each payload, in order."""
        encode = msgspec.json.encode
        texts = [b64encode(encode(payload)) for payload in payloads]
        levels = merkle_levels([leaf_hash(text.encode()) for text in texts])
        signature = self._private.sign(self._context + levels[-1][0])
        count = len(texts).to_bytes(2, "big")
        return [
            f"{self._header}.{text}.{b64encode(i.to_bytes(2, 'big') + count + b''.join(audit_path(levels, i)) + signature)}"
            for i, text in enumerate(texts)
        ]


class ReservationSigner:
    """Signs the receipts of the reservations of one script call together."""

    def __init__(self, keys: SigningKeySet) -> None:
        self._signer = ReceiptSigner(keys, RESERVATION_RECEIPT_TYPE)

    def sign(self, epoch: int, reservations: Sequence[Reservation]) -> list[str]:
        """One receipt for each reservation, in order."""
        return self._signer.sign(
            [
                ReservationReceipt(
                    one.reservation_id,
                    one.drop_id,
                    epoch,
                    one.ticket_id,
                    one.number,
                    one.items,
                    one.amount_minor,
                    one.reserved_at_ms,
                    one.expires_at_ms,
                )
                for one in reservations
            ]
        )


@dataclass(frozen=True, slots=True)
class ReceiptVerifier:
    """Checks receipts against public keys by `kid`; needs nothing else, so anyone can."""

    public_keys: Mapping[str, Ed25519PublicKey]

    @classmethod
    def of(cls, keys: SigningKeySet) -> ReceiptVerifier:
        """A verifier of what these keys have signed, the retired ones too."""
        return cls({key.kid: key.private().public_key() for key in keys.keys if key.purpose == "receipt"})

    def read(self, receipt: str) -> ReceiptPayload:
        """The payload of a genuine receipt of a place.

        Raises:
            ValueError: it is not one; says which step failed.
        """
        return self._read(receipt, RECEIPT_TYPE, ReceiptPayload)

    def read_reservation(self, receipt: str) -> ReservationReceipt:
        """The payload of a genuine receipt of a reservation. Raises as `read` does."""
        return self._read(receipt, RESERVATION_RECEIPT_TYPE, ReservationReceipt)

    def _read(self, receipt: str, kind: str, payload_type: type[Payload]) -> Payload:
        parts = receipt.split(".")
        if len(receipt) > RECEIPT_LENGTH_MAX or len(parts) != 3:
            raise ValueError("a receipt has three parts joined by dots")
        try:
            header = msgspec.json.decode(b64decode(parts[0]), type=_Header)
            payload = msgspec.json.decode(b64decode(parts[1]), type=payload_type)
            proof = b64decode(parts[2])
        except (ValueError, msgspec.MsgspecError):
            raise ValueError("a part of the receipt cannot be read") from None
        public = self.public_keys.get(header.kid)
        if public is None or header.typ != kind:
            raise ValueError("the receipt names a key that is not one of the service's receipt keys")
        path, signature = proof[4:-SIGNATURE_BYTES], proof[-SIGNATURE_BYTES:]
        if len(proof) < 4 + SIGNATURE_BYTES or len(path) % 32:
            raise ValueError("the receipt's proof has the wrong length")
        siblings = [path[i : i + 32] for i in range(0, len(path), 32)]
        index, count = int.from_bytes(proof[:2], "big"), int.from_bytes(proof[2:4], "big")
        root = root_from_path(leaf_hash(parts[1].encode()), index, count, siblings)
        if root is None:
            raise ValueError("the receipt's path does not fit its place in the tree")
        try:
            public.verify(signature, ROOT_CONTEXT + hashlib.sha256(parts[0].encode()).digest() + root)
        except InvalidSignature:
            raise ValueError("the signature does not match: the receipt was changed or is not from this service") from None
        return payload
