"""Handoff codes: good for one place, ten minutes and nobody else's making."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.handoff import HANDOFF_TTL_MS, HANDOFF_TYPE, Handoffs
from admission.receipts import ReceiptPayload, ReceiptSigner, ReceiptVerifier
from admission.tokens import SigningKeySet, b64decode, b64encode, make_signing_keys, rotate_signing_keys
from flashsale.model import secret_hash_of, ticket_id_of

NOW_MS = 1_800_000_000_000
KEYS = make_signing_keys(NOW_MS)
HANDOFFS = Handoffs(KEYS)
DROP = "sneaker-x"
TICKET = ticket_id_of(DROP, secret_hash_of("a secret of the first device"))
CODE = HANDOFFS.make(TICKET, NOW_MS + HANDOFF_TTL_MS)
OTHERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def test_a_code_names_the_ticket_until_it_expires() -> None:
    assert HANDOFFS.read(CODE, DROP, NOW_MS) == TICKET
    assert HANDOFFS.read(CODE, DROP, NOW_MS + HANDOFF_TTL_MS - 1) == TICKET
    with pytest.raises(ValueError, match="expired"):
        HANDOFFS.read(CODE, DROP, NOW_MS + HANDOFF_TTL_MS)


def test_a_code_is_of_one_drop() -> None:
    with pytest.raises(ValueError, match="another drop"):
        HANDOFFS.read(CODE, "sneaker-y", NOW_MS)


@given(position=st.integers(0, len(CODE) - 1), other=st.sampled_from(OTHERS))
def test_any_other_character_at_any_place_is_refused(position: int, other: str) -> None:
    changed = CODE[:position] + other + CODE[position + 1 :]
    if changed != CODE:
        with pytest.raises(ValueError, match="not a handoff code"):
            HANDOFFS.read(changed, DROP, NOW_MS)


@given(st.text(max_size=300))
def test_whatever_somebody_sends_is_no_code(text: str) -> None:
    with pytest.raises(ValueError, match="not a handoff code"):
        HANDOFFS.read(text, DROP, NOW_MS)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_padding_and_length_are_not_overlooked(part: int) -> None:
    parts = CODE.split(".")
    for spelt in (parts[part] + "=", parts[part] + "A" * 4, ""):
        with pytest.raises(ValueError, match="not a handoff code"):
            HANDOFFS.read(".".join([*parts[:part], spelt, *parts[part + 1 :]]), DROP, NOW_MS)


def test_a_handoff_code_and_a_receipt_cannot_stand_for_one_another() -> None:
    [receipt] = ReceiptSigner(KEYS).sign([ReceiptPayload(DROP, 1, "hash", NOW_MS, late=False)])
    with pytest.raises(ValueError, match="not a handoff code"):
        HANDOFFS.read(receipt, DROP, NOW_MS)
    with pytest.raises(ValueError, match=r"receipt|part"):
        ReceiptVerifier.of(KEYS).read(CODE)


@pytest.mark.parametrize(
    ("alg", "typ"), [("none", HANDOFF_TYPE), ("HS256", HANDOFF_TYPE), ("EdDSA", "JWT"), ("EdDSA", "flashsale-receipt+merkle")]
)
def test_a_genuine_signature_under_another_header_does_not_count(alg: str, typ: str) -> None:
    key = KEYS.active("receipt")
    header = b64encode(msgspec.json.encode({"alg": alg, "kid": key.kid, "typ": typ}))
    signed = f"{header}.{CODE.split('.')[1]}"
    with pytest.raises(ValueError, match="not a handoff code"):
        HANDOFFS.read(f"{signed}.{b64encode(key.private().sign(signed.encode()))}", DROP, NOW_MS)


def test_codes_outlive_a_rotation_and_are_of_one_service() -> None:
    assert Handoffs(rotate_signing_keys(KEYS, NOW_MS)).read(CODE, DROP, NOW_MS) == TICKET
    with pytest.raises(ValueError, match="not a handoff code"):
        Handoffs(make_signing_keys(NOW_MS)).read(CODE, DROP, NOW_MS)


def test_an_admission_key_signs_no_handoff() -> None:
    admission_only = SigningKeySet([msgspec.structs.replace(KEYS.active("admission"), purpose="receipt")])
    code = Handoffs(admission_only).make(TICKET, NOW_MS + 1)
    assert b64decode(code.split(".")[0])
    with pytest.raises(ValueError, match="not a handoff code"):
        HANDOFFS.read(code, DROP, NOW_MS)
