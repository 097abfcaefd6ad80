"""The fairness document, and what a verifier says of it: a fair draw follows, and everything else is caught by its own step."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from admission.beacon import BeaconValue
from admission.draw import Draw, commitment_of
from admission.fairness import (
    EntryProof,
    FairnessDocument,
    LineShown,
    fairness_document,
    proof_wanted,
    receipt_keys,
)
from admission.receipts import ReceiptVerifier
from tests.unit.fairness_stage import JWKS, KEYS, MAIN, MINE, NOW_MS, OTHER_KEYS, SECRET, SIZES, VIP, Case, cases, hashes, proof_of

CASES = list(cases())
STEPS = ["receipt", "drop", "commitment", "proof", "entry", "entries", "key", "queue_number"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_caught_at_its_step_and_says_so(case: Case) -> None:
    verdict = case.verdict()
    *before, last = verdict.steps
    assert all(step.passed for step in before)
    assert (last.passed, last.name) == (case.fails_at is None, case.fails_at or "queue_number")
    assert case.words in last.sentence
    assert (verdict.queue_number is None, verdict.passed) == (case.fails_at is not None, case.fails_at is None)


def test_every_step_that_can_fail_does() -> None:
    assert {case.fails_at for case in CASES if case.fails_at} == set(STEPS)
    failures = {case.verdict().steps[-1].sentence for case in CASES if case.fails_at}
    assert all(sentence.endswith(".") for sentence in failures)


def test_the_names_are_different() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def test_a_fair_draw_passes_every_step_in_order_and_gives_the_number_of_the_draw() -> None:
    verdict = named("fair").verdict()
    assert [step.name for step in verdict.steps] == STEPS
    assert verdict.queue_number == Draw(bytes.fromhex(MAIN.key or ""), SIZES[""]).queue_number(MINE)


def test_the_beacon_is_told_where_the_key_follows() -> None:
    told = {
        name: named(name).verdict().steps[-2].sentence for name in ("fair", "silent beacon", "beacon none", "beacon file", "beacon not set")
    }
    assert "round 42 of drand" in told["fair"]
    assert "did not answer within 10 s" in told["silent beacon"]
    assert "There was no beacon." in told["beacon none"]
    assert "No beacon of the kind drand is configured." in told["beacon not set"]
    assert "by people" in told["beacon file"]


def test_a_commitment_that_was_remembered_is_told() -> None:
    said = {name: named(name).verdict().steps[2].sentence for name in ("fair", "commitment remembered")}
    assert said["commitment remembered"].endswith("you remember.")
    assert "remember" not in said["fair"]


# --------------------------------------------------------------------------------------------------------- the documents


def document(**changes: Any) -> FairnessDocument:
    plain: dict[str, Any] = {
        "drop_id": "trial",
        "epoch": 2,
        "order": "draw",
        "secret": SECRET,
        "lines": [MAIN],
        "beacon": BeaconValue("none"),
        "drawn_at_ms": NOW_MS,
    }
    return fairness_document(**plain | changes)


def test_the_secret_stays_behind_until_the_draw() -> None:
    before = document(drawn_at_ms=None, lines=[LineShown("", 1_500, MAIN.root)], beacon=BeaconValue("drand", bytes(32), 7))
    assert (before.secret, before.beacon, before.commitment) == (None, None, commitment_of(SECRET))
    assert SECRET.hex().encode() not in msgspec.json.encode(before)
    after = document()
    assert (after.secret, after.drawn_at_ms) == (SECRET.hex(), NOW_MS)


def test_the_secret_is_not_shown_while_a_line_has_no_key() -> None:
    with pytest.raises(ValueError, match="not complete"):
        document(lines=[MAIN, LineShown("vip", 40)])


def test_a_drop_by_arrival_has_nothing_to_show() -> None:
    shown = document(order="arrival", secret=None, lines=[LineShown("")], beacon=None, drawn_at_ms=None)
    assert msgspec.json.decode(msgspec.json.encode(shown)) == {
        "drop": "trial",
        "epoch": 2,
        "commitment": None,
        "order": "arrival",
        "beacon": None,
        "lines": [{"group": "", "entries": None, "root": None, "key": None}],
        "secret": None,
        "drawn_at_ms": None,
        "log": None,
    }


def test_documents_survive_the_wire_and_later_members() -> None:
    for thing, kind in ((document(), FairnessDocument), (proof_of("vip", VIP, hashes("vip", 40)), EntryProof)):
        wire = msgspec.json.encode(msgspec.to_builtins(thing) | {"a_later_member": 1})
        assert msgspec.json.decode(wire, type=kind) == thing


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "00"},
        {"secret": "AB" * 32},
        {"commitment": "00" * 32 + "\n"},
        {"lines": []},
        {"lines": [{"group": ""}] * 9},
        {"lines": [{"group": "", "entries": -1}]},
        {"lines": [{"group": "", "entries": 10**10}]},
        {"beacon": {"kind": "moon", "value": ""}},
        {"beacon": {"kind": "file", "value": "0"}},
        {"order": "chance"},
    ],
    ids=str,
)
def test_what_is_no_fairness_document_is_not_read(changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(document()) | changes, FairnessDocument)


@pytest.mark.parametrize(
    "changes", [{"path": ["00" * 32] * 65}, {"path": ["00"]}, {"secret_hash": "A" * 42 + "B"}, {"entry_number": -1}], ids=str
)
def test_what_is_no_proof_is_not_read(changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(proof_of("vip", VIP, hashes("vip", 40))) | changes, EntryProof)


@pytest.mark.parametrize("name", ["fair", "priority line", "late joiner", "order of arrival", "line 2", "line -1"])
def test_it_tells_which_proof_a_receipt_needs(name: str) -> None:
    case = named(name)
    payload = ReceiptVerifier.of(KEYS).read(case.receipt)
    wanted = {"fair": ("", MINE), "priority line": ("vip", VIP)}
    assert proof_wanted(payload, case.document) == wanted.get(name)


# ------------------------------------------------------------------------------------------------------------------ keys


def test_keys_are_those_for_receipts() -> None:
    assert set(receipt_keys(JWKS)) == {KEYS.active("receipt").kid}
    others = [{"kty": "EC", "kid": "p256"}, {"kty": "OKP", "crv": "X25519", "x": "AA"}]
    jwks = msgspec.json.encode({"keys": [*others, *OTHER_KEYS.jwks()["keys"]]})
    assert set(receipt_keys(jwks)) == {OTHER_KEYS.active("receipt").kid}


@pytest.mark.parametrize(
    "jwks",
    [b"", b"[]", b'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"a"}]}', b'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"="}]}'],
)
def test_what_is_no_key_set_is_told_so(jwks: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON Web Key Set"):
        receipt_keys(jwks)
