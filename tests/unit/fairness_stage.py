"""A drop that was drawn, and everything somebody could do to it afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from admission.beacon import BeaconValue
from admission.draw import commitment_of, draw_key
from admission.fairness import (
    EntryProof,
    FairnessDocument,
    LineShown,
    Verdict,
    fairness_document,
    receipt_keys,
    verify,
)
from admission.merkle import audit_path, leaf_hash, merkle_levels
from admission.receipts import ReceiptPayload, ReceiptSigner
from admission.tokens import b64decode, b64encode, make_signing_keys
from flashsale.model import ticket_id_of

NOW_MS = 1_800_000_000_000
KEYS, OTHER_KEYS = make_signing_keys(NOW_MS), make_signing_keys(NOW_MS)
JWKS = msgspec.json.encode(KEYS.jwks())
SECRET, BEACON = hashlib.sha256(b"the drop's secret").digest(), BeaconValue("drand", hashlib.sha256(b"round 42").digest(), 42, "ab" * 32)
SIZES = {"": 1_500, "vip": 40}
LINES = list(SIZES)
MINE, VIP = 1_234, 7
replaced: Any = msgspec.structs.replace


def secret_hash(group: str, number: int) -> bytes:
    return hashlib.sha256(f"{group} {number}".encode()).digest()


def hashes(group: str, count: int) -> list[bytes]:
    return [secret_hash(group, number) for number in range(count)]


def levels_of(entries: list[bytes]) -> list[list[bytes]]:
    return merkle_levels([leaf_hash(one) for one in entries])


def line_shown(group: str, entries: list[bytes], secret: bytes = SECRET, beacon: BeaconValue = BEACON) -> LineShown:
    root = levels_of(entries)[-1][0]
    return LineShown(group, len(entries), root.hex(), draw_key(secret, root, len(entries), beacon.value).hex())


def document_of(*lines: LineShown, secret: bytes = SECRET, beacon: BeaconValue = BEACON, **changes: Any) -> FairnessDocument:
    made = fairness_document(drop_id="trial", epoch=1, order="draw", secret=secret, lines=lines, beacon=beacon, drawn_at_ms=NOW_MS)
    return replaced(made, **changes)  # type: ignore[no-any-return]


def proof_of(group: str, number: int, entries: list[bytes]) -> EntryProof:
    path = audit_path(levels_of(entries), number)
    return EntryProof("trial", group, number, len(entries), b64encode(entries[number]), tuple(node.hex() for node in path))


def receipt_of(group: str, number: int, *, drop: str = "trial", keys: Any = KEYS, **changes: Any) -> str:
    """The receipt of who joined as `number`, with `changes` to its payload."""
    payload = ReceiptPayload(drop, number, b64encode(secret_hash(group, number)), NOW_MS, late=False, epoch=1, line=LINES.index(group))
    others = [ReceiptPayload(drop, 10_000 + one, b64encode(secret_hash("x", one)), NOW_MS, late=True, epoch=1) for one in range(4)]
    return ReceiptSigner(keys).sign([*others, replaced(payload, **changes)])[4]


def second_device(group: str, number: int, joined_as: int | None = None) -> str:
    """The receipt of another device that has the place of entry `number`, which the shopper joined with `joined_as`'s secret."""
    ticket = ticket_id_of("trial", b64encode(secret_hash(group, number if joined_as is None else joined_as)))
    return receipt_of(group, number, secret_hash=b64encode(secret_hash("laptop", number)), ticket=ticket)


def changed(receipt: str, old: bytes, new: bytes) -> str:
    """The receipt with other words in its payload, and the signature as it was."""
    header, payload, proof = receipt.split(".")
    words = b64decode(payload)
    assert old in words
    return ".".join((header, b64encode(words.replace(old, new)), proof))


MAIN, PRIORITY = line_shown("", hashes("", SIZES[""])), line_shown("vip", hashes("vip", SIZES["vip"]))


@dataclass(frozen=True)
class Case:
    """What somebody has in hand, and the step it fails at (None: it passes) with words of its sentence."""

    name: str
    fails_at: str | None
    words: str
    receipt: str = field(default_factory=lambda: receipt_of("", MINE))
    document: FairnessDocument = field(default_factory=lambda: document_of(MAIN, PRIORITY))
    proof: EntryProof | None = field(default_factory=lambda: proof_of("", MINE, hashes("", SIZES[""])))
    jwks: bytes = JWKS
    commitment: str | None = None

    def verdict(self) -> Verdict:
        return verify(self.receipt, self.document, self.proof, receipt_keys(self.jwks), self.commitment)

    def as_json(self) -> dict[str, Any]:
        """As web/verify-draw.js takes it."""
        parts = {"receipt": self.receipt, "fairness": self.document, "proof": self.proof, "commitment": self.commitment}
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({**parts, "jwks": msgspec.Raw(self.jwks)}))
        return plain


def cases() -> Iterator[Case]:
    """Every way it can go."""
    fair = Case("fair", None, "Your queue number is")
    yield fair
    yield replace(fair, name="commitment remembered", words="Your queue number is", commitment=commitment_of(SECRET).upper())
    yield replace(
        fair,
        name="priority line",
        receipt=receipt_of("vip", VIP),
        proof=proof_of("vip", VIP, hashes("vip", SIZES["vip"])),
    )
    yield from _second_devices(fair)
    yield from _without_a_draw(fair)
    yield from _forged(fair)
    yield from _tampered(fair)


def _second_devices(fair: Case) -> Iterator[Case]:
    yield replace(fair, name="second device", receipt=second_device("", MINE))
    vip = proof_of("vip", VIP, hashes("vip", SIZES["vip"]))
    yield replace(fair, name="second device in a priority line", receipt=second_device("vip", VIP), proof=vip)
    late = receipt_of("", 1_507, late=True, ticket="trial.tAAAAAAAAAAAAAAAAAAAAAA")
    yield replace(fair, name="second device of a late joiner", words="in order of arrival", receipt=late, proof=None)
    stranger = replace(fair, fails_at="proof", words="another ticket at entry number 1234")
    yield replace(stranger, name="second device of somebody else", receipt=second_device("", MINE, joined_as=MINE + 1))
    own = ticket_id_of("trial", b64encode(secret_hash("laptop", MINE)))
    yield replace(stranger, name="second device that names its own ticket", receipt=receipt_of("", MINE, ticket=own))
    names_another_drop = ticket_id_of("other", b64encode(secret_hash("", MINE)))
    yield replace(stranger, name="second device of another drop", receipt=receipt_of("", MINE, ticket=names_another_drop))
    ghost = [*hashes("", MINE), secret_hash("ghost", 1), *hashes("", SIZES[""])[MINE + 1 :]]
    drawn, proof = document_of(line_shown("", ghost), PRIORITY), proof_of("", MINE, ghost)
    yield replace(stranger, name="ghost in the place of a second device", receipt=second_device("", MINE), document=drawn, proof=proof)
    other_words = changed(second_device("", MINE), b'"ticket":"trial.t', b'"ticket":"trial.T')
    yield replace(fair, name="ticket exchanged in the receipt", fails_at="receipt", words="does not match", receipt=other_words)
    ticket = f',"ticket":"{ticket_id_of("trial", b64encode(secret_hash("", MINE)))}"'.encode()
    without = changed(second_device("", MINE), ticket, b"")
    yield replace(fair, name="ticket taken out of the receipt", fails_at="receipt", words="does not match", receipt=without)


def _without_a_draw(fair: Case) -> Iterator[Case]:
    arrival = replaced(fair.document, order="arrival", commitment=None, secret=None, beacon=None, lines=(LineShown(""),))
    late = receipt_of("", 1_507, late=True)
    yield replace(fair, name="order of arrival", words=f"your queue number is {MINE}", document=arrival, proof=None)
    yield replace(fair, name="late joiner", words="in order of arrival: your queue number is 1507", receipt=late, proof=None)
    one_of_the_draw = receipt_of("", 1_499, late=True)
    yield replace(fair, name="late among the drawn", fails_at="queue_number", words="one of the 1500", receipt=one_of_the_draw, proof=None)
    before = fairness_document(drop_id="trial", epoch=1, order="draw", secret=SECRET, lines=(LineShown(""),), beacon=None, drawn_at_ms=None)
    yield replace(fair, name="not drawn yet", fails_at="commitment", words="not been made yet", document=before, proof=None)
    silent = BeaconValue("drand", why="The beacon did not answer within 10 s.")
    without = document_of(line_shown("", hashes("", SIZES[""]), beacon=silent), beacon=silent)
    yield replace(fair, name="silent beacon", words="Your queue number", document=without)
    not_set = BeaconValue("none", why="No beacon of the kind drand is configured.")
    for name, beacon in (("none", BeaconValue("none")), ("file", BeaconValue("file", bytes(16))), ("not set", not_set)):
        drawn = document_of(line_shown("", hashes("", SIZES[""]), beacon=beacon), beacon=beacon)
        yield replace(fair, name=f"beacon {name}", document=drawn)


def _forged(fair: Case) -> Iterator[Case]:
    at = replace(fair, fails_at="receipt")
    yield replace(at, name="no receipt", words="three parts", receipt="x")
    yield replace(at, name="long receipt", words="three parts", receipt=f"{'e' * 5_000}..")
    yield replace(at, name="garbled receipt", words="cannot be read", receipt="e30.e30.AA")
    yield replace(at, name="receipt spelled otherwise", words="cannot be read", receipt=fair.receipt + "==")
    yield replace(at, name="forged receipt", words="one of the service's receipt keys", receipt=receipt_of("", MINE, keys=OTHER_KEYS))
    yield replace(at, name="better number", words="does not match", receipt=changed(fair.receipt, b":1234,", b":1233,"))
    parts = fair.receipt.split(".")
    yield replace(at, name="short proof", words="wrong length", receipt=".".join((*parts[:2], "AAAA")))
    yield replace(
        at, name="proof of another tree", words="does not fit", receipt=".".join((*parts[:2], b64encode(bytes(3) + b"\x05" + bytes(64))))
    )
    yield replace(at, name="keys of another service", words="one of the service's", jwks=msgspec.json.encode(OTHER_KEYS.jwks()))
    elsewhere = receipt_of("", MINE, drop="other")
    yield replace(
        fair, name="another drop", fails_at="drop", words="of the drop other and the fairness document of trial", receipt=elsewhere
    )
    for line in (2, -1):
        nowhere = receipt_of("", MINE, line=line)
        yield replace(fair, name=f"line {line}", fails_at="drop", words="of a line that", receipt=nowhere)


def _tampered(fair: Case) -> Iterator[Case]:
    document, entries = fair.document, hashes("", SIZES[""])
    assert fair.proof is not None
    other = hashlib.sha256(b"another secret").digest()
    yield replace(
        fair, name="secret", fails_at="commitment", words="not the one committed to", document=replaced(document, secret=other.hex())
    )
    exchanged = document_of(line_shown("", entries, secret=other), PRIORITY, secret=other)
    yield replace(fair, name="secret and commitment", words="Your queue number", document=exchanged)
    remembered = replace(fair, fails_at="commitment", words="exchanged", commitment=commitment_of(SECRET))
    yield replace(remembered, name="secret and commitment, remembered", document=exchanged)

    def with_line(**changes: Any) -> FairnessDocument:
        return replaced(document, lines=(replaced(MAIN, **changes), PRIORITY))  # type: ignore[no-any-return]

    yield replace(fair, name="no proof", fails_at="proof", words="is missing", proof=None)
    neighbour = replace(fair, fails_at="proof")
    yield replace(
        neighbour,
        name="proof of somebody else",
        words="entry number 1235, and your receipt is of 1234",
        proof=proof_of("", MINE + 1, entries),
    )
    line_exchanged = receipt_of("", VIP, line=1)
    vip = proof_of("vip", VIP, hashes("vip", SIZES["vip"]))
    yield replace(neighbour, name="receipt of another line", words="somebody else's secret", receipt=line_exchanged, proof=vip)
    yield replace(neighbour, name="proof of another line", words="another line", proof=replaced(fair.proof, group="vip"))
    yield replace(neighbour, name="proof of another drop", words="another drop", proof=replaced(fair.proof, drop="other"))
    ghost = [*entries[:MINE], secret_hash("ghost", 1), *entries[MINE + 1 :]]
    swapped = document_of(line_shown("", ghost), PRIORITY)
    yield replace(
        fair, name="ghost in my place", fails_at="proof", words="somebody else", document=swapped, proof=proof_of("", MINE, ghost)
    )
    yield replace(fair, name="ghost, my proof", fails_at="entry", words="other entries than people joined with", document=swapped)
    lost = [*entries[:MINE], bytes(32), *entries[MINE + 1 :]]
    swallowed = replace(fair, fails_at="proof", words="had lost your entry", document=document_of(line_shown("", lost), PRIORITY))
    yield replace(swallowed, name="lost entry", proof=proof_of("", MINE, lost))
    yield replace(swallowed, name="lost entry, second device", proof=proof_of("", MINE, lost), receipt=second_device("", MINE))
    stuffed = [*entries[:100], secret_hash("ghost", 2), *entries[100:]]
    yield replace(
        fair,
        name="ghost before me",
        fails_at="proof",
        words="somebody else",
        document=document_of(line_shown("", stuffed), PRIORITY),
        proof=proof_of("", MINE, stuffed),
    )
    somebody = receipt_of("", MINE + 1)
    yield replace(fair, name="swapped receipt", fails_at="proof", words="your receipt is of 1235", receipt=somebody)
    yield replace(fair, name="root", fails_at="entry", words="not under the root", document=with_line(root="ab" * 32))
    yield replace(fair, name="no root", fails_at="entry", words="not under the root", document=with_line(root=None))
    yield replace(fair, name="short path", fails_at="entry", words="not under", proof=replaced(fair.proof, path=fair.proof.path[:-1]))
    yield replace(
        fair, name="other count in the document", fails_at="entries", words="counts 1500 entries", document=with_line(entries=1_501)
    )
    # The path of entry 1234 is as long among 1501 as among 1500, and so leads to the same root.
    both = replace(fair, fails_at="key", words="does not follow", proof=replaced(fair.proof, entries=1_501))
    yield replace(both, name="other count in both", document=with_line(entries=1_501))
    yield replace(both, name="other count, proof only", fails_at="entries", words="counts 1501 entries and the fairness document 1500")
    yield replace(fair, name="key", fails_at="key", words="does not follow", document=with_line(key="cd" * 32))
    yield replace(fair, name="no key", fails_at="key", words="does not follow", document=with_line(key=None))
    assert document.beacon is not None
    beacon = replaced(document.beacon, value="00" * 32)
    yield replace(fair, name="beacon", fails_at="key", words="does not follow", document=replaced(document, beacon=beacon))
    yield replace(fair, name="beacon kept back", fails_at="key", words="does not follow", document=replaced(document, beacon=None))
