"""The core verifier: every vector, and keys and epochs that come over HTTP from a service that changes, hangs and goes away."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flashsale.verify import Admission, AdmissionVerifier, Code, Refusal
from flashsale.verify.documents import DOCUMENT_BYTES_MAX
from flashsale.verify.tokens import KEYS_MAX, VERIFIED_TOKENS_MAX, TokenReader, read_keys, unseal
from tests.connectors.service_stage import KEYS_PATH, SERVING_PATH, DocumentService, FakeTime, document_service
from tests.connectors.vector_file import AUDIENCE, DROP, GOOD, ISSUER, JWKS, MIN_EPOCH, NOW_S, VECTORS, Vector
from tests.vectors.make_admission_tokens import BEFORE, CURRENT, STRANGER, Maker, seal

MAKE = Maker(NOW_S)


def verifier(**options: Any) -> AdmissionVerifier:
    """One that lives at the vectors' time; with the vectors' keys at hand unless it is given an address."""
    given = options if "jwks_url" in options else {"jwks": JWKS, **options}
    return AdmissionVerifier(**{"drop": DROP, "min_epoch": MIN_EPOCH, "now": lambda: float(NOW_S), **given})


def code_of(verdict: Admission | Refusal) -> str | None:
    return verdict.code.value if isinstance(verdict, Refusal) else None


SHARED = verifier()


@pytest.fixture
def service() -> Iterator[DocumentService]:
    with document_service() as running:
        yield running


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


# -------------------------------------------------------------------------------------------------------------- vectors


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
async def test_every_vector(vector: Vector) -> None:
    both = verifier()
    assert code_of(both.verify(vector.token)) == vector.code
    # And once more, when a good token is remembered.
    assert code_of(await both.verify_async(vector.token)) == vector.code


def test_every_vector_by_one_verifier_in_either_order() -> None:
    one = verifier()
    for vector in [*VECTORS, *reversed(VECTORS)]:
        assert code_of(one.verify(vector.token)) == vector.code, vector.name


def test_a_good_token_says_who_was_let_in() -> None:
    assert verifier().verify(GOOD) == Admission(
        subject=f"{DROP}.tAAAAAAAAAAAAAAAAAAAAAA",
        drop=DROP,
        epoch=MIN_EPOCH,
        token_id="BBBBBBBBBBBBBBBBBBBBBB",
        issued_at_s=NOW_S - 60,
        expires_at_s=NOW_S + 540,
    )


def test_without_a_drop_the_caller_tells_them_apart() -> None:
    verdict = verifier(drop=None).verify(MAKE.token(drop="another"))
    assert isinstance(verdict, Admission)
    assert verdict.drop == "another"


def test_a_remembered_token_still_expires() -> None:
    now = FakeTime(NOW_S)
    one = verifier(now=now)
    assert code_of(one.verify(GOOD)) is None
    now.pass_s(540 + 29)
    assert code_of(one.verify(GOOD)) is None
    now.pass_s(1)
    assert code_of(one.verify(GOOD)) == "token_expired"


def test_every_code_has_a_sentence() -> None:
    assert all(Refusal(code).detail.endswith(".") for code in Code)


@pytest.mark.parametrize("token", ["é" * 300, "\ud800.a.b", "a.b.c\n", " " + GOOD, GOOD + "\n", "....", "\x00"])
def test_nonsense_is_refused_and_raises_nothing(token: str) -> None:
    assert code_of(verifier().verify(token)) == "token_invalid"


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
@example("." * 4096)
@example("A" * 1_000_000)
def test_whatever_comes_is_answered(token: str) -> None:
    assert code_of(SHARED.verify(token)) == ("token_invalid" if token else "token_missing")


@given(st.integers(0, len(GOOD) - 1), st.characters(max_codepoint=0x2FF))
def test_no_character_of_a_good_token_can_be_another(position: int, character: str) -> None:
    token = GOOD[:position] + character + GOOD[position + 1 :]
    assert (code_of(SHARED.verify(token)) is None) == (token == GOOD)


@given(
    st.sampled_from(sorted(MAKE.claims())),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.integers(), max_size=2) | st.just({}),
)
def test_claims_of_whatever_kind_are_answered(name: str, value: object) -> None:
    verdict = SHARED.verify(seal(MAKE.header(), MAKE.claims() | {name: value}, CURRENT))
    assert isinstance(verdict, Refusal) or name in {"sub", "jti", "epoch", "iat", "nbf", "exp"}


# ----------------------------------------------------------------------------------------------------------- what it takes


@pytest.mark.parametrize(
    "options",
    [
        {"jwks_url": ""},
        {"jwks_url": "http://127.0.0.1/keys", "jwks": JWKS},
        {"jwks": "no json"},
        {"jwks": {"keys": {}}},
        {"jwks": {"keys": [{}] * (KEYS_MAX + 1)}},
        {"jwks": {"keys": [STRANGER.jwk("receipt")]}},
        {"jwks": JWKS, "serving_url": "https://queue.shop.example/serving"},
    ],
    ids=["no keys", "both", "not JSON", "not a list", "too many", "none for admission", "no drop in the address"],
)
def test_a_verifier_that_cannot_work_is_not_made(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"jwks|JWK|serving_url"):
        AdmissionVerifier(**options)


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "EC"},
        {"crv": "X25519"},
        {"alg": "ES256"},
        {"use": "enc"},
        {"purpose": "receipt"},
        {"kid": ""},
        {"kid": 7},
        {"x": CURRENT.x + "="},
        {"x": "AAAA"},
        {"x": None},
    ],
    ids=str,
)
def test_a_key_for_anything_else_is_passed_over(change: dict[str, Any]) -> None:
    assert set(read_keys({"keys": [CURRENT.jwk("admission") | change, BEFORE.jwk("admission"), "no key"]})) == {BEFORE.kid}


def test_a_key_goes_by_both_names_of_its_algorithm() -> None:
    assert set(read_keys(json.dumps({"keys": [CURRENT.jwk("admission") | {"alg": "Ed25519"}]}))) == {CURRENT.kid}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VERIFIED_TOKENS_MAX <= 65_536
    monkeypatch.setattr("flashsale.verify.tokens.VERIFIED_TOKENS_MAX", 3)
    reader = TokenReader(issuer=ISSUER, audience=AUDIENCE)
    keys = read_keys(JWKS)
    for number in range(10):
        token = unseal(MAKE.token(jti=f"{number}"))
        assert token is not None
        assert isinstance(reader.read(token, keys[CURRENT.kid], NOW_S), Admission)
    assert len(reader._genuine) == 3


# ------------------------------------------------------------------------------------------------------- keys over HTTP


def test_keys_are_fetched_when_first_needed_and_kept(service: DocumentService, time: FakeTime) -> None:
    one = verifier(jwks_url=service.keys_url, monotonic=time)
    assert service.asked == []
    assert {code_of(one.verify(GOOD)) for _ in range(5)} == {None}
    assert service.asked == [KEYS_PATH]


def test_nothing_is_fetched_for_what_is_no_token(service: DocumentService) -> None:
    one = verifier(jwks_url=service.keys_url)
    assert {code_of(one.verify(token)) for token in ("", "garbage", "a.b.c", GOOD + "=")} == {"token_missing", "token_invalid"}
    assert service.asked == []


def test_a_crowd_shares_the_first_request(service: DocumentService) -> None:
    service.gate.clear()
    one = verifier(jwks_url=service.keys_url, timeout_s=30.0)
    with ThreadPoolExecutor(8) as pool:
        verdicts = [pool.submit(one.verify, GOOD) for _ in range(8)]
        service.arrived.acquire()
        service.gate.set()
        assert {code_of(verdict.result()) for verdict in verdicts} == {None}
    assert service.asked == [KEYS_PATH]


async def test_a_crowd_on_a_loop_shares_the_first_request_too(service: DocumentService) -> None:
    one = verifier(jwks_url=service.keys_url, timeout_s=30.0)
    service.gate.clear()
    crowd = [asyncio.create_task(one.verify_async(GOOD)) for _ in range(50)]
    await asyncio.to_thread(service.arrived.acquire)
    crowd[0].cancel()  # whoever started it goes: the others still get it
    service.gate.set()
    assert {code_of(verdict) for verdict in await asyncio.gather(*crowd[1:])} == {None}
    assert service.asked == [KEYS_PATH]


def test_an_unknown_kid_asks_once_a_minute(service: DocumentService, time: FakeTime) -> None:
    service.keys = {"keys": [BEFORE.jwk("admission")]}
    one = verifier(jwks_url=service.keys_url, monotonic=time)
    assert code_of(one.verify(MAKE.token(BEFORE))) is None
    # The service rotates its keys.
    service.keys = JWKS
    time.pass_s(59)
    assert {code_of(one.verify(GOOD)) for _ in range(20)} == {"token_invalid"}
    assert len(service.asked) == 1
    time.pass_s(1)
    assert code_of(one.verify(GOOD)) is None
    assert {code_of(one.verify(MAKE.token(STRANGER))) for _ in range(20)} == {"token_invalid"}
    assert len(service.asked) == 2


def test_a_stale_set_is_renewed_behind_the_callers_back(service: DocumentService, time: FakeTime) -> None:
    service.max_age_s = 120
    one = verifier(jwks_url=service.keys_url, monotonic=time)
    assert code_of(one.verify(GOOD)) is None
    assert service.arrived.acquire(timeout=0)
    service.gate.clear()
    time.pass_s(119)
    assert code_of(one.verify(GOOD)) is None
    assert len(service.asked) == 1
    time.pass_s(1)
    assert code_of(one.verify(GOOD)) is None, "nobody waits, though the service does not answer"
    service.arrived.acquire()
    assert len(service.asked) == 2


def test_a_withdrawn_key_takes_its_tokens_along(service: DocumentService, time: FakeTime) -> None:
    one = verifier(jwks_url=service.keys_url, monotonic=time)
    assert code_of(one.verify(GOOD)) is None
    service.keys = {"keys": [BEFORE.jwk("admission")]}
    time.pass_s(300)
    one.verify(GOOD)
    _settle(one)
    assert code_of(one.verify(GOOD)) == "token_invalid"


def test_another_key_under_the_same_name_takes_its_tokens_along(service: DocumentService, time: FakeTime) -> None:
    one = verifier(jwks_url=service.keys_url, monotonic=time)
    assert code_of(one.verify(GOOD)) is None
    service.keys = {"keys": [STRANGER.jwk("admission") | {"kid": CURRENT.kid}]}
    time.pass_s(300)
    one.verify(GOOD)
    _settle(one)
    assert code_of(one.verify(GOOD)) == "token_invalid"


def test_the_last_good_keys_stay_while_the_service_is_away(service: DocumentService, time: FakeTime) -> None:
    one = verifier(jwks_url=service.keys_url, monotonic=time)
    assert code_of(one.verify(GOOD)) is None
    service.status = 503
    for _ in range(10):
        time.pass_s(3600)
        assert code_of(one.verify(GOOD)) is None
        _settle(one)
    assert one.trouble
    service.status = 200
    time.pass_s(3600)
    one.verify(GOOD)
    _settle(one)
    assert not one.trouble


@pytest.mark.parametrize(
    "keys",
    [b"", b"no json", b"[]", b'{"keys": 7}', b'{"keys": []}', b"[" * 5000, json.dumps(JWKS).encode() + b" " * DOCUMENT_BYTES_MAX],
    ids=["empty", "not JSON", "a list", "a number", "no key", "deep", "too long"],
)
def test_a_set_that_is_none_replaces_no_keys(service: DocumentService, time: FakeTime, keys: bytes) -> None:
    service.keys = keys
    one = verifier(jwks_url=service.keys_url, monotonic=time)
    assert code_of(one.verify(GOOD)) == "keys_unavailable"
    service.keys = JWKS
    time.pass_s(2)
    assert code_of(one.verify(GOOD)) is None
    service.keys = keys
    time.pass_s(300)
    one.verify(GOOD)
    _settle(one)
    assert one.trouble
    assert code_of(one.verify(GOOD)) is None


def test_without_any_keys_nobody_is_let_in_and_the_service_is_asked_now_and_then(time: FakeTime) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        one = verifier(jwks_url=f"http://127.0.0.1:{taken.getsockname()[1]}{KEYS_PATH}", monotonic=time)
        assert {code_of(one.verify(GOOD)) for _ in range(5)} == {"keys_unavailable"}
        assert "no answer" in one.trouble


def test_no_redirection_is_followed(service: DocumentService) -> None:
    with document_service() as attacker:
        attacker.keys = {"keys": [STRANGER.jwk("admission")]}
        service.status, service.location = 302, attacker.keys_url
        assert code_of(verifier(jwks_url=service.keys_url).verify(MAKE.token(STRANGER))) == "keys_unavailable"
        assert attacker.asked == []


@pytest.mark.parametrize("url", ["file://{path}", "ftp://127.0.0.1/keys", "data:application/json,{keys}", "{path}"])
def test_only_http_is_spoken(url: str, tmp_path: Path) -> None:
    path, keys = tmp_path / "jwks.json", json.dumps(JWKS)
    path.write_text(keys, encoding="utf-8")
    address = url.replace("{path}", str(path)).replace("{keys}", quote(keys))
    assert code_of(verifier(jwks_url=address).verify(GOOD)) == "keys_unavailable"


def test_a_service_that_hangs_costs_one_token_the_timeout(service: DocumentService) -> None:
    service.gate.clear()
    assert code_of(verifier(jwks_url=service.keys_url, timeout_s=0.05).verify(GOOD)) == "keys_unavailable"


def test_a_request_lost_in_a_fork_is_not_waited_for_for_ever(service: DocumentService, time: FakeTime) -> None:
    one = verifier(jwks_url=service.keys_url, monotonic=time, timeout_s=0.05)
    lost: Future[None] = Future()
    one._keys._flight, one._keys._flight_began_at = lost, time()
    assert code_of(one.verify(GOOD)) == "keys_unavailable"
    time.pass_s(60)
    one._timeout_s = 30.0
    assert code_of(one.verify(GOOD)) is None


# ---------------------------------------------------------------------------------------------------------------- epochs


def test_an_epoch_is_learned_from_the_serving_document(service: DocumentService, time: FakeTime) -> None:
    one = verifier(serving_url=service.serving_url, min_epoch=0, monotonic=time)
    assert code_of(one.verify(GOOD)) is None
    assert code_of(one.verify(MAKE.token(epoch=MIN_EPOCH - 1))) == "old_epoch"
    assert service.asked == [SERVING_PATH]
    # The drop is recovered: tokens of before have ended.
    service.epoch = MIN_EPOCH + 1
    time.pass_s(15)
    one.verify(GOOD)
    _settle(one)
    assert code_of(one.verify(GOOD)) == "old_epoch"
    assert code_of(one.verify(MAKE.token(epoch=MIN_EPOCH + 1))) is None


def test_a_known_epoch_is_not_forgotten_for_an_earlier_one(service: DocumentService) -> None:
    service.epoch = 0
    assert code_of(verifier(serving_url=service.serving_url).verify(MAKE.token(epoch=MIN_EPOCH - 1))) == "old_epoch"


@pytest.mark.parametrize("status", [404, 503])
def test_without_the_document_a_token_of_any_epoch_is_good(service: DocumentService, status: int) -> None:
    service.status = status
    assert code_of(verifier(serving_url=service.serving_url, min_epoch=0).verify(GOOD)) is None


def test_the_epoch_of_a_token_that_is_not_genuine_is_not_asked_for(service: DocumentService) -> None:
    one = verifier(serving_url=service.serving_url, drop=None)
    for vector in VECTORS:
        if vector.code not in {None, "wrong_drop", "old_epoch"}:
            assert code_of(one.verify(vector.token)) == vector.code
    assert service.asked == []


def test_a_drop_in_an_address_is_no_path(service: DocumentService) -> None:
    one = verifier(serving_url=service.serving_url, drop=None)
    one.verify(MAKE.token(drop="../../metrics?x="))
    assert service.asked == ["/v1/drops/..%2F..%2Fmetrics%3Fx%3D/serving"]


# ----------------------------------------------------------------------------------------------------------------- alone


def test_it_brings_nothing_of_the_service_along() -> None:
    script = "import sys, flashsale.verify, flashsale.verify.asgi, flashsale.verify.wsgi; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    ours = {name for name in loaded if name.partition(".")[0] in {"flashsale", "admission", "reconciler"}}
    assert {name for name in ours if name != "flashsale" and not name.startswith("flashsale.verify")} == set()
    assert not {name.partition(".")[0] for name in loaded} & {"aiohttp", "redis", "asyncpg", "msgspec", "msgpack", "structlog", "joserfc"}


def _settle(one: AdmissionVerifier) -> None:
    """Waits for whatever is being fetched."""
    for thread in threading.enumerate():
        if thread.name == "flashsale-verify":
            thread.join(10)
    assert one is not None
