"""Texts that only the service can have written."""

from __future__ import annotations

import pytest

from admission.signed_texts import SignedTexts
from admission.tokens import make_signing_keys, rotate_signing_keys

KEYS = make_signing_keys(1)


def texts(kind: str = "test+jws", length_max: int = 500) -> SignedTexts:
    return SignedTexts(KEYS, kind, length_max)


def test_what_was_signed_is_read_also_after_a_rotation() -> None:
    text = texts().sign(b"payload")
    assert texts().verify(text) == b"payload"
    assert SignedTexts(rotate_signing_keys(KEYS, 2), "test+jws", 500).verify(text) == b"payload"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "a.b.c",
        texts().sign(b"payload") + "A",
        texts().sign(b"payload")[:-2],
        texts("other+jws").sign(b"payload"),
        SignedTexts(make_signing_keys(1), "test+jws", 500).sign(b"payload"),
        texts(length_max=5_000).sign(b"x" * 1_000),
        texts().sign(b"payload").replace(".", ".\udcff", 1),
    ],
    ids=range(9),
)
def test_nothing_else_is(text: str) -> None:
    with pytest.raises(ValueError):
        texts().verify(text)


def test_another_payload_under_the_same_signature_is_not() -> None:
    header, _, signature = texts().sign(b"payload").split(".")
    _, payload, _ = texts().sign(b"another").split(".")
    with pytest.raises(ValueError, match="signature"):
        texts().verify(f"{header}.{payload}.{signature}")
