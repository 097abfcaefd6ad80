"""Receipts: one signature for a whole call, and each still proves its own place alone."""

from __future__ import annotations

import random

import msgspec
import pytest

from admission.merkle import audit_path, leaf_hash, merkle_levels, node_hash, root_from_path
from admission.receipts import (
    RECEIPT_LENGTH_MAX,
    ReceiptPayload,
    ReceiptSigner,
    ReceiptVerifier,
    ReservationSigner,
)
from admission.tokens import SigningKeySet, b64decode, b64encode, make_signing_keys, rotate_signing_keys
from flashsale.model import Reservation, ReservationState

NOW_MS = 1_800_000_000_000
KEYS = make_signing_keys(NOW_MS)
SIGNER = ReceiptSigner(KEYS)


def verifier(keys: SigningKeySet = KEYS) -> ReceiptVerifier:
    return ReceiptVerifier({key.kid: key.private().public_key() for key in keys.keys if key.purpose == "receipt"})


def payloads(count: int) -> list[ReceiptPayload]:
    return [ReceiptPayload("d", number, f"secret-{number}", NOW_MS + number, late=number % 2 == 1) for number in range(count)]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


@pytest.mark.parametrize("count", range(1, 71))
def test_every_receipt_of_a_call_proves_its_place(count: int) -> None:
    wanted = payloads(count)
    receipts = SIGNER.sign(wanted)
    assert [verifier().read(receipt) for receipt in receipts] == wanted
    assert len({b64decode(receipt.split(".")[2])[-64:] for receipt in receipts}) == 1


@pytest.mark.parametrize("count", range(1, 71))
def test_the_tree_is_that_of_rfc_9162(count: int) -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(count)]
    levels = merkle_levels(leaves)
    root = naive_root(leaves)
    assert levels[-1] == [root]
    for index, leaf in enumerate(leaves):
        path = audit_path(levels, index)
        assert root_from_path(leaf, index, count, path) == root
        assert root_from_path(leaf, index, count, [*path, root]) is None
        for wrong in {0, count - 1, count // 2} - {index}:
            assert root_from_path(leaf, wrong, count, path) != root
        if path:
            assert root_from_path(leaf, index, count, path[:-1]) is None


@pytest.mark.parametrize(("index", "count"), [(-1, 4), (4, 4), (0, 0), (1, 1)])
def test_a_place_outside_the_tree_has_no_root(index: int, count: int) -> None:
    assert root_from_path(leaf_hash(b"x"), index, count, []) is None


def test_leaves_and_nodes_cannot_stand_for_one_another() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


def test_a_full_batch_stays_within_the_length_of_a_receipt() -> None:
    receipts = SIGNER.sign(payloads(1_024))
    assert max(map(len, receipts)) < RECEIPT_LENGTH_MAX // 2
    assert verifier().read(receipts[1_023]).entry_number == 1_023


@pytest.mark.parametrize("count", [1, 2, 7, 70])
def test_any_changed_character_is_noticed(count: int) -> None:
    receipt = SIGNER.sign(payloads(count))[count // 2]
    rng, reader = random.Random(count), verifier()
    for index in rng.sample(range(len(receipt)), 120):
        changed = receipt[:index] + ("A" if receipt[index] != "A" else "B") + receipt[index + 1 :]
        with pytest.raises(ValueError, match="receipt"):
            reader.read(changed)


def test_parts_of_two_receipts_do_not_fit_together() -> None:
    one, two = (receipt.split(".") for receipt in SIGNER.sign(payloads(5))[:2])
    for mixed in ([one[0], two[1], one[2]], [one[0], one[1], two[2]]):
        with pytest.raises(ValueError, match="signature does not match"):
            verifier().read(".".join(mixed))


def test_a_receipt_of_another_service_is_none() -> None:
    with pytest.raises(ValueError, match="names a key"):
        verifier(make_signing_keys(NOW_MS)).read(SIGNER.sign(payloads(1))[0])
    same_name = {KEYS.active("receipt").kid: make_signing_keys(NOW_MS).active("receipt").private().public_key()}
    with pytest.raises(ValueError, match="signature does not match"):
        ReceiptVerifier(same_name).read(SIGNER.sign(payloads(1))[0])


def test_receipts_outlive_a_rotation() -> None:
    receipt = SIGNER.sign(payloads(3))[1]
    rotated = rotate_signing_keys(KEYS, NOW_MS)
    assert verifier(rotated).read(receipt).entry_number == 1
    assert ReceiptSigner(rotated).sign(payloads(1))[0].split(".")[0] != receipt.split(".")[0]


@pytest.mark.parametrize(
    "receipt",
    [
        "",
        "a.b",
        "a.b.c.d",
        "é.b.c",
        "e30.e30.e30",
        ".".join(["x" * 2_000] * 3),
        f"{SIGNER.sign(payloads(1))[0]}=",
        f"{SIGNER._header}.{b64encode(b'{}')}.{b64encode(bytes(68))}",
        f"{SIGNER._header}.{SIGNER.sign(payloads(1))[0].split('.')[1]}.{b64encode(bytes(67))}",
        f"{SIGNER._header}.{SIGNER.sign(payloads(1))[0].split('.')[1]}.",
        f"{b64encode(b'[' * 2_000)}.e30.AA",
    ],
    ids=lambda receipt: receipt[:20],
)
def test_what_is_not_a_receipt_is_told_so(receipt: str) -> None:
    with pytest.raises(ValueError, match=r"receipt|part|signature"):
        verifier().read(receipt)


def reservation(number: int) -> Reservation:
    state, items = ReservationState.RESERVED, (("s1", 1), ("s2", 2))
    return Reservation(f"d.r{number}", "d", f"d.t{number}", state, items, 1_500, NOW_MS, NOW_MS + 60_000, number=number)


@pytest.mark.parametrize("count", [1, 2, 7, 256])
def test_a_receipt_of_a_reservation_tells_all_of_it(count: int) -> None:
    made = [reservation(number) for number in range(count)]
    receipts = ReservationSigner(KEYS).sign(3, made)
    for one, receipt in zip(made, receipts, strict=True):
        assert len(receipt) < RECEIPT_LENGTH_MAX
        read = ReceiptVerifier.of(KEYS).read_reservation(receipt)
        assert (read.reservation_id, read.drop, read.epoch, read.ticket_id, read.number) == (
            one.reservation_id,
            "d",
            3,
            one.ticket_id,
            one.number,
        )
        assert (read.items, read.amount_minor, read.reserved_at_ms, read.expires_at_ms) == (one.items, 1_500, NOW_MS, NOW_MS + 60_000)


def test_a_receipt_of_one_kind_is_none_of_the_other() -> None:
    [place], [held] = SIGNER.sign(payloads(1)), ReservationSigner(KEYS).sign(1, [reservation(0)])
    with pytest.raises(ValueError, match="read"):
        verifier().read(held)
    with pytest.raises(ValueError, match="read"):
        verifier().read_reservation(place)
    header, payload, proof = held.split(".")
    with pytest.raises(ValueError, match=r"read|key"):
        verifier().read(".".join((place.split(".")[0], payload, proof)))
    with pytest.raises(ValueError, match=r"key|read"):
        verifier().read_reservation(".".join((place.split(".")[0], payload, proof)))
    assert header != place.split(".")[0]


def test_a_receipt_from_before_epochs_is_still_read() -> None:
    [receipt] = SIGNER.sign([_Old("d", 7, "secret", NOW_MS, late=False)])
    assert verifier().read(receipt) == ReceiptPayload("d", 7, "secret", NOW_MS, late=False, epoch=0)


class _Old(msgspec.Struct):
    drop: str
    entry_number: int
    secret_hash: str
    at_ms: int
    late: bool
