"""The file of vectors: as its generator writes it, complete, and what the service itself makes of it."""

from __future__ import annotations

import json

import msgspec
import pytest

from admission.tokens import Admission, SigningKeySet, TokenSigner
from tests.connectors.vector_file import AUDIENCE, DOCUMENT, DROP, ISSUER, JWKS, NOW_S, VECTORS, Vector, vectors_at
from tests.vectors.make_admission_tokens import EPOCH, FILE, SIGNING_KEYS, document, main

KEYS = msgspec.json.decode(json.dumps(SIGNING_KEYS).encode(), type=SigningKeySet)
# What the service leaves to the store's clock, to the drop that was asked for, or to its epoch.
JUDGED_ELSEWHERE = {None, "token_expired", "token_early", "wrong_drop", "old_epoch"}
LENIENT = {
    "good for longer than ten minutes",  # the store knows what it issued
    "good for ever",
    "expires before it is issued",
    "a header that names the key twice",
    "the drop named twice",
    "the expiry named twice",
    "an expiry that is a float",
    "an expiry with an exponent",
    "an expiry beyond every clock",
    "a beginning below zero",
}


def test_the_file_is_what_its_generator_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == document(), f"Run: python -m {main.__module__}"


def test_it_tells_every_case_apart() -> None:
    assert len({vector.name for vector in VECTORS}) == len(VECTORS)
    assert len({vector.token for vector in VECTORS}) == len(VECTORS)
    assert {vector.code for vector in VECTORS} == {
        *(None, "token_missing", "token_invalid", "token_expired", "token_early"),
        *("wrong_issuer", "wrong_audience", "wrong_drop", "old_epoch"),
    }


def test_an_oversized_token_still_fits_the_headers_that_proxies_pass_on() -> None:
    (oversized,) = [vector for vector in VECTORS if vector.name.startswith("oversized")]
    assert 4096 < len(oversized.token) < 8000


def test_the_same_vectors_can_be_had_for_any_time() -> None:
    later = vectors_at(NOW_S + 1000)
    assert [(vector.name, vector.code) for vector in later] == [(vector.name, vector.code) for vector in VECTORS]
    assert later[0].token != VECTORS[0].token


def test_the_keys_are_those_of_a_service() -> None:
    assert msgspec.to_builtins(KEYS.jwks()) == JWKS == DOCUMENT["jwks"]


def test_a_good_vector_is_exactly_what_the_service_issues() -> None:
    signer = TokenSigner(KEYS, issuer=ISSUER, audience=AUDIENCE)
    issued_ms = (NOW_S - 60) * 1000
    admission = Admission(DROP, EPOCH, f"{DROP}.tAAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBB", issued_ms + 7, issued_ms + 600_007)
    assert signer.sign(admission) == VECTORS[0].token


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_the_service_takes_no_vector_that_is_not_genuine(vector: Vector) -> None:
    permission = TokenSigner(KEYS, issuer=ISSUER, audience=AUDIENCE).read(vector.token)
    if vector.name not in LENIENT:
        assert (permission is not None) == (vector.code in JUDGED_ELSEWHERE)
