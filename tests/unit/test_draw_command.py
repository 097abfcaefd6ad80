"""`flashsale verify-draw`, as somebody uses it who has a receipt and nothing else of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from admission.draw import commitment_of
from tests.integration.command_line import Done, flashsale
from tests.unit.fairness_stage import SECRET, Case, cases

CASES = {case.name: case for case in cases()}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FLASHSALE_DEBUG"):
        monkeypatch.setenv(name, "")


def save(case: Case) -> None:
    Path("receipt.txt").write_text(case.receipt + "\n")
    Path("fairness.json").write_bytes(msgspec.json.encode(case.document))
    Path("proof.json").write_bytes(msgspec.json.encode(case.proof))
    Path("jwks.json").write_bytes(case.jwks)


async def verified(*more: str) -> Done:
    return await flashsale(
        "verify-draw", "receipt.txt", "--fairness", "fairness.json", "--proof", "proof.json", "--keys", "jwks.json", *more
    )


async def test_a_fair_draw_is_verified_from_files_alone() -> None:
    save(CASES["fair"])
    done = await verified()
    assert (done.code, done.err) == (0, "")
    assert f"Your queue number is {CASES['fair'].verdict().queue_number}" in done.out
    assert len(done.out.splitlines()) == 9


@pytest.mark.parametrize("name", ["secret", "root", "better number", "key", "proof of somebody else"])
async def test_what_was_tampered_with_is_a_finding(name: str) -> None:
    case = CASES[name]
    save(case)
    done = await verified()
    assert done.code == 1
    [failed] = [line for line in done.out.splitlines() if line.startswith("FAILED")]
    assert f" {case.fails_at} " in failed
    assert case.words in failed


async def test_programs_get_the_verdict_as_json() -> None:
    for name, code in (("fair", 0), ("entries", 1)):
        case = CASES["other count in the document"] if name == "entries" else CASES[name]
        save(case)
        done = await verified("--json")
        verdict = case.verdict()
        assert done.code == code
        assert done.json == {
            "passed": verdict.passed,
            "queue_number": verdict.queue_number,
            "steps": msgspec.json.decode(msgspec.json.encode(verdict.steps)),
        }


async def test_a_commitment_written_down_is_held_against_the_document() -> None:
    save(CASES["secret and commitment"])
    assert (await verified()).code == 0
    done = await verified("--commitment", commitment_of(SECRET))
    assert (done.code, "exchanged" in done.out) == (1, True)
    mistyped = await verified("--commitment", commitment_of(SECRET)[:-1])
    assert (mistyped.code, mistyped.out) == (2, "")
    assert "64 hex digits" in mistyped.err


async def test_the_answer_of_the_join_is_as_good_as_the_receipt_in_it() -> None:
    save(CASES["fair"])
    Path("receipt.txt").write_bytes(msgspec.json.encode({"ticket_id": "trial.t1", "receipt": CASES["fair"].receipt}))
    assert (await verified()).code == 0
    Path("receipt.txt").write_text('{"ticket_id": "trial.t1"}')
    done = await verified()
    assert (done.code, "without a receipt" in done.err) == (2, True)


async def test_missing_and_mistaken_files_are_wrong_usage() -> None:
    save(CASES["fair"])
    without_keys = await flashsale("verify-draw", "receipt.txt", "--fairness", "fairness.json")
    assert (without_keys.code, "--keys jwks.json" in without_keys.err) == (2, True)
    for wrong in (
        ("nowhere.json", "proof.json", "jwks.json"),
        ("proof.json", "proof.json", "jwks.json"),
        ("fairness.json", "jwks.json", "jwks.json"),
    ):
        done = await flashsale("verify-draw", "receipt.txt", "--fairness", wrong[0], "--proof", wrong[1], "--keys", wrong[2])
        assert (done.code, done.out) == (2, "")
    done = await flashsale("verify-draw", "receipt.txt", "--fairness", "fairness.json", "--proof", "proof.json", "--keys", "receipt.txt")
    assert (done.code, "keys cannot be read" in done.err) == (2, True)
    Path("long.json").write_bytes(b" " * 300_000)
    done = await flashsale("verify-draw", "receipt.txt", "--fairness", "long.json", "--keys", "jwks.json")
    assert (done.code, "longer than" in done.err) == (2, True)


async def test_a_proof_that_was_not_given_is_asked_for() -> None:
    save(CASES["fair"])
    done = await flashsale("verify-draw", "receipt.txt", "--fairness", "fairness.json", "--keys", "jwks.json")
    assert (done.code, "entry number 1234" in done.out) == (1, True)


# ------------------------------------------------------------------------------------------------------- from a service


@asynccontextmanager
async def service(case: Case, below: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """(address of its fairness document, what was asked of it)."""
    asked: list[str] = []
    documents = {
        f"{below}/v1/drops/trial/fairness": case.document,
        f"{below}/v1/drops/trial/fairness/proofs/1234": case.proof,
        f"{below}/v1/drops/trial/fairness/proofs/7?group=vip": case.proof,
        f"{below}/.well-known/jwks.json": msgspec.Raw(case.jwks),
    }

    async def answer(request: web.Request) -> web.Response:
        asked.append(str(request.rel_url))
        document = documents.get(str(request.rel_url))
        return web.Response(status=404) if document is None else web.Response(body=msgspec.json.encode(document))

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{below}/v1/drops/trial/fairness", asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("name", "below"), [("fair", ""), ("fair", "/queue"), ("priority line", "")])
async def test_one_address_is_enough(name: str, below: str) -> None:
    case = CASES[name]
    save(case)
    async with service(case, below) as (url, asked):
        done = await flashsale("verify-draw", "receipt.txt", "--fairness", url, "--json")
    assert (done.code, done.json["queue_number"]) == (0, case.verdict().queue_number), done.err
    assert len(asked) == 3


@pytest.mark.parametrize("name", ["not drawn yet", "late joiner", "forged receipt"])
async def test_no_proof_is_fetched_where_none_is_needed(name: str) -> None:
    case = CASES[name]
    save(case)
    async with service(case) as (url, asked):
        done = await flashsale("verify-draw", "receipt.txt", "--fairness", url)
    assert (done.code, len(asked)) == (int(case.fails_at is not None), 2)


async def test_a_service_that_is_not_there_is_told_without_its_address() -> None:
    save(CASES["fair"])
    async with service(CASES["fair"]) as (url, _):
        done = await flashsale("verify-draw", "receipt.txt", "--fairness", url.replace("trial", "other"))
        assert (done.code, "status 404" in done.err) == (3, True)
    gone = await flashsale("verify-draw", "receipt.txt", "--fairness", url.replace("//", "//me:hunter2@"))
    assert (gone.code, gone.out) == (3, "")
    assert "fairness document could not be fetched" in gone.err
    assert "hunter2" not in gone.err
    assert "doctor" not in gone.err
