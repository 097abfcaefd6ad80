"""The fairness document, the proof of one entry, and how anybody checks both against a receipt. Pure: no input or output.

`web/verify-draw.js` does the same in a browser, step for step and sentence for sentence; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from admission.beacon import BeaconKind, BeaconValue
from admission.draw import ENTRIES_MAX, HASH_BYTES, Draw, commitment_of, draw_key
from admission.log import SignedHead
from admission.merkle import leaf_hash, root_from_path
from admission.receipts import ReceiptPayload, ReceiptVerifier
from admission.tokens import b64decode, b64encode
from flashsale.model import ticket_id_of

Order = Literal["draw", "arrival"]
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""32 bytes in hex"""
Entries = Annotated[int, msgspec.Meta(ge=0, le=ENTRIES_MAX)]
EntryNumber = Annotated[int, msgspec.Meta(ge=0, lt=ENTRIES_MAX)]
Path = Annotated[tuple[Hash, ...], msgspec.Meta(max_length=64)]
Name = Annotated[str, msgspec.Meta(max_length=64)]
LOST_ENTRY = b64encode(bytes(HASH_BYTES))
"""secret hash of an entry that a loss had swallowed before the draw"""


class BeaconShown(msgspec.Struct, frozen=True):
    """The randomness from outside that went into the keys."""

    kind: BeaconKind
    value: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})*\Z", max_length=128)]
    """hex; empty when the draw was made without"""
    round: int | None = None
    chain: str | None = None
    """of drand: hash of the chain the round belongs to"""
    why: str | None = None
    """why the draw was made without"""


class LineShown(msgspec.Struct, frozen=True):
    """One line's draw. All null until its entries are closed, the key until it is drawn."""

    group: Name
    """empty for the line of everybody who is in no group"""
    entries: Entries | None = None
    root: Hash | None = None
    key: Hash | None = None


class FairnessDocument(msgspec.Struct, frozen=True):
    """GET /v1/drops/{drop}/fairness. Members may be added, never changed."""

    drop: Name
    epoch: int
    commitment: Hash | None
    """hex SHA-256 of the secret; null only for drops from before there were draws"""
    order: Order
    beacon: BeaconShown | None
    """null until the draw"""
    lines: Annotated[tuple[LineShown, ...], msgspec.Meta(min_length=1, max_length=8)]
    secret: Hash | None
    """null until the draw"""
    drawn_at_ms: int | None
    log: SignedHead | None = None
    """head of the admission log, signed"""


class EntryProof(msgspec.Struct, frozen=True):
    """GET /v1/drops/{drop}/fairness/proofs/{entry_number}. Never changes once the draw is made."""

    drop: Name
    group: Name
    entry_number: EntryNumber
    entries: Entries
    secret_hash: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\Z")]
    """as in the receipt: base64url"""
    path: Path
    """siblings from the leaf to the root, hex"""


def fairness_document(
    *,
    drop_id: str,
    epoch: int,
    order: Order,
    secret: bytes | None,
    lines: Sequence[LineShown],
    beacon: BeaconValue | None,
    drawn_at_ms: int | None,
    log: SignedHead | None = None,
) -> FairnessDocument:
    """The document as it may be shown: `secret` and `beacon` stay behind until `drawn_at_ms` is there.

    Raises:
        ValueError: it is drawn, and a line has no key yet: the secret would tell its draw in advance.
    """
    drawn = drawn_at_ms is not None
    if drawn and any(line.key is None for line in lines):
        raise ValueError(f"the draw of {drop_id} is not complete, so its secret cannot be shown")
    return FairnessDocument(
        drop=drop_id,
        epoch=epoch,
        commitment=None if secret is None else commitment_of(secret),
        order=order,
        beacon=_shown(beacon) if drawn and beacon is not None else None,
        lines=tuple(lines),
        secret=secret.hex() if drawn and secret is not None else None,
        drawn_at_ms=drawn_at_ms,
        log=log,
    )


def _shown(beacon: BeaconValue) -> BeaconShown:
    return BeaconShown(beacon.kind, beacon.value.hex(), beacon.round, beacon.chain, beacon.why)


# ------------------------------------------------------------------------------------------------------------- verifying


StepName = Literal["receipt", "drop", "commitment", "proof", "entry", "entries", "key", "queue_number"]


class Step(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: StepName
    passed: bool
    sentence: str
    """for people"""


class Verdict(msgspec.Struct, frozen=True):
    """What a receipt, a fairness document and a proof come to."""

    queue_number: int | None
    """the place in line that follows; null when a step failed"""
    steps: tuple[Step, ...]
    """in order, up to the first that failed"""

    @property
    def passed(self) -> bool:
        """Whether every step did."""
        return all(step.passed for step in self.steps)


class _Jwk(msgspec.Struct):
    kty: str = ""
    crv: str = ""
    x: str = ""
    kid: str = ""
    purpose: str = "receipt"


class _Jwks(msgspec.Struct):
    keys: Annotated[list[_Jwk], msgspec.Meta(max_length=256)]


def receipt_keys(jwks: bytes) -> dict[str, Ed25519PublicKey]:
    """The receipt keys of a JSON Web Key Set (RFC 7517, RFC 8037) by `kid`; keys of other kinds are left out.

    Raises:
        ValueError: it is not a key set.
    """
    try:
        keys = msgspec.json.decode(jwks, type=_Jwks).keys
        found = [key for key in keys if (key.kty, key.crv, key.purpose) == ("OKP", "Ed25519", "receipt")]
        return {key.kid: Ed25519PublicKey.from_public_bytes(b64decode(key.x)) for key in found}
    except (msgspec.MsgspecError, ValueError):
        raise ValueError("not a JSON Web Key Set") from None


def proof_wanted(payload: ReceiptPayload, document: FairnessDocument) -> tuple[str, int] | None:
    """(group, entry number) of the proof a receipt needs, or None when nothing was drawn for it."""
    if payload.late or document.order == "arrival" or not 0 <= payload.line < len(document.lines):
        return None
    return document.lines[payload.line].group, payload.entry_number


def verify(
    receipt: str,
    document: FairnessDocument,
    proof: EntryProof | None,
    keys: Mapping[str, Ed25519PublicKey],
    commitment: str | None = None,
) -> Verdict:
    """Whether the receipt's place in line follows from a draw that nobody could bend; stops at the first step that fails.

    `keys` are the service's receipt keys by `kid`; `commitment` is the hex one the shopper wrote down before the drop.
    """
    steps = _Steps()
    try:
        queue_number = _queue_number(steps, receipt, document, proof, keys, commitment)
    except _Refuted:
        return Verdict(None, tuple(steps))
    return Verdict(queue_number, tuple(steps))


class _Refuted(Exception):
    """A step has failed; it is the last one."""


class _Steps(list[Step]):
    def check(self, name: StepName, passed: bool, good: str, bad: str) -> None:  # noqa: FBT001 - the result of the step
        self.append(Step(name, passed, good if passed else bad))
        if not passed:
            raise _Refuted


def _queue_number(
    steps: _Steps,
    receipt: str,
    document: FairnessDocument,
    proof: EntryProof | None,
    keys: Mapping[str, Ed25519PublicKey],
    commitment: str | None,
) -> int:
    payload = _genuine(steps, receipt, keys)
    line = _line(steps, payload, document)
    number = payload.entry_number
    if document.order == "arrival":
        good = f"This drop serves people in order of arrival and draws nothing: your queue number is {number}."
        steps.append(Step("queue_number", passed=True, sentence=good))
        return number
    if payload.late:
        _late(steps, number, line)
        return number
    secret = _committed(steps, document, commitment)
    root, entries = _entered(steps, payload, document, line, proof)
    key = draw_key(secret, root, entries, bytes.fromhex(document.beacon.value) if document.beacon else b"")
    steps.check(
        "key",
        key.hex() == line.key,
        f"The key follows from the secret, the root, the number of entries and the beacon. {_beacon_words(document.beacon)}",
        "The key does not follow from the secret, the root, the number of entries and the beacon: the order was not drawn with it.",
    )
    queue_number = Draw(key, entries).queue_number(number)
    good = f"Your queue number is {queue_number}: entry number {number} of {entries}, shuffled by the key."
    steps.append(Step("queue_number", passed=True, sentence=good))
    return queue_number


def _genuine(steps: _Steps, receipt: str, keys: Mapping[str, Ed25519PublicKey]) -> ReceiptPayload:
    try:
        payload = ReceiptVerifier(keys).read(receipt)
    except ValueError as error:
        steps.append(Step("receipt", passed=False, sentence=f"The receipt is not genuine: {error}."))
        raise _Refuted from error
    steps.append(Step("receipt", passed=True, sentence="The receipt is genuine: a key of the service has signed it."))
    return payload


def _line(steps: _Steps, payload: ReceiptPayload, document: FairnessDocument) -> LineShown:
    steps.check(
        "drop",
        payload.drop == document.drop and 0 <= payload.line < len(document.lines),
        f"Receipt and fairness document are of the same drop: {document.drop}.",
        f"The receipt is of the drop {payload.drop} and the fairness document of {document.drop}."
        if payload.drop != document.drop
        else "The receipt is of a line that the fairness document does not have.",
    )
    return document.lines[payload.line]


def _late(steps: _Steps, number: int, line: LineShown) -> None:
    steps.check(
        "queue_number",
        line.entries is None or number >= line.entries,
        f"You joined after the opening, behind everybody in the draw, in order of arrival: your queue number is {number}.",
        f"The receipt says that you joined after the opening, but its number {number} is one of the {line.entries} that were drawn.",
    )


def _committed(steps: _Steps, document: FairnessDocument, remembered: str | None) -> bytes:
    """The secret, when it is the one that was committed to."""
    if remembered is not None and remembered.lower() != document.commitment:
        sentence = "The commitment is not the one you remember: it was exchanged after you had seen it."
        steps.check("commitment", False, "", sentence)
    if document.secret is None:
        sentence = "The draw has not been made yet. Its secret is shown afterwards, and then everything can be checked."
        steps.check("commitment", False, "", sentence)
    secret = bytes.fromhex(document.secret or "")
    steps.check(
        "commitment",
        commitment_of(secret) == document.commitment,
        "The secret is the one committed to before the drop: its SHA-256 is the commitment you remember."
        if remembered
        else "The secret's SHA-256 is the commitment shown; that both were not exchanged, only one written down before the drop proves.",
        "The secret is not the one committed to before the drop: its SHA-256 is not the commitment.",
    )
    return secret


def _entered(
    steps: _Steps, payload: ReceiptPayload, document: FairnessDocument, line: LineShown, proof: EntryProof | None
) -> tuple[bytes, int]:
    """(root, number of entries) of the line, when the receipt's entry is one of them."""
    number = payload.entry_number
    trouble = _trouble(payload, document, line, proof)
    steps.check("proof", trouble is None, _yours(payload), trouble or "")
    assert proof is not None
    leaf, path = leaf_hash(b64decode(proof.secret_hash)), [bytes.fromhex(node) for node in proof.path]
    root = root_from_path(leaf, number, proof.entries, path)
    steps.check(
        "entry",
        root is not None and root.hex() == line.root,
        "Your entry is under the root: you were in the draw.",
        "Your entry is not under the root: the draw was made from other entries than people joined with.",
    )
    assert root is not None
    steps.check(
        "entries",
        proof.entries == line.entries,
        f"Proof and fairness document count the same entries: {line.entries}.",
        f"The proof counts {proof.entries} entries and the fairness document {line.entries}.",
    )
    return root, proof.entries


def _trouble(payload: ReceiptPayload, document: FairnessDocument, line: LineShown, proof: EntryProof | None) -> str | None:
    """Why a proof is not that of the receipt's entry."""
    number = payload.entry_number
    if proof is None:
        return f"The proof of your entry is missing: the service gives it for the entry number {number}."
    if (proof.drop, proof.group) != (document.drop, line.group):
        return "The proof is of another drop or another line than your receipt."
    if proof.entry_number != number:
        return f"The proof is of the entry number {proof.entry_number}, and your receipt is of {number}."
    return _trouble_of_secret(payload, proof)


def _trouble_of_secret(payload: ReceiptPayload, proof: EntryProof) -> str | None:
    """Why the entry at the receipt's entry number was not joined with the shopper's secret."""
    number = payload.entry_number
    if proof.secret_hash == LOST_ENTRY:
        return f"The service had lost your entry when it made the draw: the entry number {number} is drawn, but proves nobody's secret."
    if payload.ticket:
        if ticket_id_of(proof.drop, proof.secret_hash) != payload.ticket:
            other = f"the draw has another ticket at entry number {number} than the one your device shares"
            return f"The proof is of somebody else's place: {other}."
    elif proof.secret_hash != payload.secret_hash:
        return f"The proof is of somebody else's secret: the draw has another entry at your entry number {number}."
    return None


def _yours(payload: ReceiptPayload) -> str:
    if payload.ticket:
        return f"The proof is of the place your device shares: entry number {payload.entry_number}, and the ticket it was joined with."
    return f"The proof is of your entry: it has your entry number {payload.entry_number} and your secret's hash."


def _beacon_words(beacon: BeaconShown | None) -> str:
    if beacon is None or not beacon.value:
        return f"There was no beacon: {beacon.why}" if beacon is not None and beacon.why else "There was no beacon."
    if beacon.kind == "drand":
        return f"The beacon is round {beacon.round} of drand; any drand client tells whether that is genuine."
    return "The beacon was brought by people, in a file."
