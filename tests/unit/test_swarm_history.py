"""What the crowd's calls look like in its history: noted before they are sent, ended once, and without anybody's secrets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flashsale.model import reservation_id_of as reservation_id_of_service
from loadtest.asking import Asker, TimeUp
from loadtest.client import Answer, Pool
from loadtest.diary import Diary
from loadtest.endings import ending_of
from loadtest.history import Call, Kind, Recorder, Step, read_history
from loadtest.payment import Payments
from loadtest.shopper import reservation_id_of
from loadtest.swarm import EXIT_NO_HISTORY, main

JOIN = Call(Kind.JOIN, shopper="7", drop="d")
JOINED = b'{"ticket_id":"d.t1","receipt":"RECEIPT"}'


def answer(status: int, body: bytes = b"{}") -> Answer:
    return Answer(status, {}, body)


@pytest.mark.parametrize(
    ("kind", "status", "body", "step", "outcome"),
    [
        (Kind.JOIN, 201, b"{}", Step.OK, "joined"),
        (Kind.ADMIT, 200, b'{"admission_token":"TOKEN"}', Step.OK, "admitted"),
        (Kind.RESERVE, 201, b"{}", Step.OK, "reserved"),
        (Kind.RESERVE, 200, b"{}", Step.OK, "replayed"),
        (Kind.RESERVE, 409, b'{"code":"sold_out"}', Step.FAIL, "sold_out"),
        (Kind.RESERVE, 429, b"nonsense", Step.FAIL, "429"),
        (Kind.RESERVE, 503, b'{"code":"unknown"}', Step.UNKNOWN, "unknown"),
        (Kind.RESERVE, 503, b'{"code":"busy"}', Step.UNKNOWN, "busy"),
        (Kind.RESERVE, 502, b"", Step.UNKNOWN, "502"),
        (Kind.RELEASE, 200, b"{}", Step.OK, "given_back"),
        (Kind.CONFIRM, 200, b'{"state":"paid"}', Step.OK, "paid"),
        (Kind.CONFIRM, 200, b'{"state":"refund_due"}', Step.OK, "refund_due"),
        (Kind.CONFIRM, 202, b"{}", Step.UNKNOWN, "recording"),
        (Kind.CONFIRM, 410, b'{"code":"reservation_expired","refund_due":true}', Step.FAIL, "refund_due"),
        (Kind.CONFIRM, 410, b'{"code":"reservation_expired"}', Step.FAIL, "reservation_expired"),
        (Kind.WEBHOOK, 201, b'{"webhook_status":200}', Step.OK, "taken"),
        (Kind.WEBHOOK, 201, b'{"webhook_status":0}', Step.UNKNOWN, "webhook_0"),
        (Kind.WEBHOOK, 201, b'{"webhook_status":503}', Step.UNKNOWN, "webhook_503"),
        (Kind.WEBHOOK, 201, b'{"webhook_status":409}', Step.FAIL, "webhook_409"),
    ],
)
def test_an_answer_is_ok_a_refusal_or_unknown(kind: Kind, status: int, body: bytes, step: Step, outcome: str) -> None:
    ending = ending_of(kind, answer(status, body))
    assert (ending.step, ending.outcome) == (step, outcome)


def test_what_an_answer_acknowledges_is_kept() -> None:
    body = b'{"reservation_id":"d.r1","state":"reserved","amount_minor":300,"reserved_at_ms":1,"expires_at_ms":9,"items":[]}'
    ending = ending_of(Kind.RESERVE, answer(201, body))
    assert (ending.reservation_id, ending.state, ending.amount_minor, ending.reserved_at_ms, ending.expires_at_ms) == (
        "d.r1",
        "reserved",
        300,
        1,
        9,
    )


def test_shoppers_and_service_agree_on_a_reservations_name() -> None:
    for ticket_id, key in (("d.tAbc_-9", "7-0"), ("a-b.t0", "Schlüssel")):
        assert reservation_id_of(ticket_id, key) == reservation_id_of_service(ticket_id, key)


@asynccontextmanager
async def serving(*answers: tuple[int, bytes] | None) -> AsyncIterator[str]:
    """Where a server gives these statuses and bodies in turn, None by hanging up."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left and await reader.read(65_536):
            next_one = left.pop(0)
            if next_one is None:
                break
            status, body = next_one
            writer.write(b"HTTP/1.1 %d Answer\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_each_attempt_is_a_call_of_its_own_and_ends_once(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    async with serving(None, (201, JOINED)) as url:
        with Recorder(path) as recorder:
            pool = Pool(url)
            await Asker(pool, Diary(), time.monotonic() + 5, recorder).ask("join", "POST", "/x", body={"secret_hash": "HASH"}, call=JOIN)
            pool.close()
    told = [(event.op, event.step, event.outcome) for event in read_history(path)]
    assert told == [(1, Step.INVOKE, ""), (1, Step.UNKNOWN, "lost"), (2, Step.INVOKE, ""), (2, Step.OK, "joined")]


async def test_a_call_is_noted_before_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with Recorder(path) as recorder:
        noted: list[int] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65_536)
            recorder.flush()
            noted.extend(event.op for event in read_history(path))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            pool = Pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await Asker(pool, Diary(), time.monotonic() + 5, recorder).ask("join", "POST", "/x", call=JOIN)
            pool.close()
    assert noted == [1]


async def test_a_call_whose_caller_went_home_is_unknown(tmp_path: Path) -> None:
    path, asked = tmp_path / "history.jsonl", asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        asked.set()
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with Recorder(path) as recorder:
            pool = Pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            asking = asyncio.create_task(Asker(pool, Diary(), time.monotonic() + 5, recorder).ask("join", "POST", "/x", call=JOIN))
            await asked.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
    assert [(event.step, event.outcome) for event in read_history(path)] == [(Step.INVOKE, ""), (Step.UNKNOWN, "given_up")]


async def test_a_request_nobody_could_receive_had_no_effect(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    async with serving() as url:
        pass
    with Recorder(path) as recorder:
        asker = Asker(Pool(url), Diary(), time.monotonic() + 0.2, recorder)
        with pytest.raises(TimeUp):
            await asker.ask("join", "POST", "/x", call=JOIN)
    assert {(event.step, event.outcome) for event in read_history(path)} == {(Step.INVOKE, ""), (Step.FAIL, "not_sent")}


async def test_no_token_receipt_or_secret_is_in_a_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    async with serving((201, JOINED), (200, b'{"admission_token":"TOKEN","expires_at_ms":9}')) as url:
        with Recorder(path) as recorder:
            pool = Pool(url)
            asker = Asker(pool, Diary(), time.monotonic() + 5, recorder)
            await asker.ask("join", "POST", "/x", body={"secret_hash": "HASH"}, call=JOIN)
            await asker.ask("admission", "POST", "/x", headers={"Authorization": "Ticket d.t1.SECRET"}, call=Call(Kind.ADMIT))
            pool.close()
    text = path.read_text()
    assert "d.t1" in text
    assert not [word for word in ("HASH", "RECEIPT", "TOKEN", "SECRET") if word in text]


def test_a_history_that_cannot_be_written_is_said_before_anybody_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--url", "http://127.0.0.1:1", "--drop", "d", "--history", str(tmp_path / "nowhere" / "history.jsonl")])
    assert code == EXIT_NO_HISTORY
    assert "cannot be written" in capsys.readouterr().err


async def test_an_order_that_was_only_promised_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.payment.LOOK_AFTER_S", 0.001)
    path = tmp_path / "history.jsonl"
    answers = [(202, b'{"order_id":"d.r1","state":"confirmed"}')] * 2 + [(200, b'{"order_id":"d.r1","state":"paid","amount_minor":300}')]
    async with serving(*answers) as url:
        with Recorder(path) as recorder:
            pool = Pool(url)
            asker = Asker(pool, Diary(), time.monotonic() + 5, recorder)
            paid = await Payments(asker, Diary(), "KEY").confirm({"reservation_id": "d.r1", "amount_minor": 300})
            pool.close()
    assert (paid.acknowledged, paid.status) == (True, 202)
    ends = [(event.step, event.outcome, event.state) for event in read_history(path) if event.step is not Step.INVOKE]
    assert ends == [(Step.UNKNOWN, "recording", "confirmed")] * 2 + [(Step.OK, "done", "paid")]
    assert "KEY" not in path.read_text()
