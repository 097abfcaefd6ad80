"""`drop report` and the reading of the log, on a real store."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from redis.asyncio import Redis

from admission.log import Called, Unknown, extend, first_head
from flashsale import admission_log
from flashsale.admission_log import LogFollower, read_log, read_pages, read_samples
from flashsale.connections.calls import StoreCalls
from flashsale.connections.database import Database
from flashsale.connections.store import open_store
from flashsale.errors import StoreUnavailable
from flashsale.keys import drop_keys
from flashsale.settings import Settings
from tests.integration.command_line import find_by_environment, flashsale
from tests.integration.test_cli_commands import drop_file
from tests.lua import world as w
from tests.lua.world import World
from tests.report_stage import document

TRIAL = "trial"
KEYS = drop_keys(TRIAL)


@pytest.fixture
def calls(store: Redis, settings: Settings) -> StoreCalls:
    return StoreCalls(store, settings.store)


async def write(store: Redis, **fields: Any) -> None:
    await store.xadd(KEYS.served, {name.rstrip("_"): value for name, value in fields.items()})


async def call(store: Redis, start: int, stop: int, at_ms: int = 1) -> None:
    await write(store, at_ms=at_ms, from_=start, to=stop)


# ----------------------------------------------------------------------------------------------------------------- reading


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_log, "PAGE_ENTRIES", 3)


@pytest.mark.usefixtures("small_pages")
async def test_a_follower_reads_on_from_where_it_was_and_has_the_head_of_the_whole_log(store: Redis, calls: StoreCalls) -> None:
    follower = LogFollower(calls, TRIAL)
    assert await follower.follow(1)
    assert follower.head == first_head(TRIAL)
    for at in range(10):
        await call(store, at, at + 1)
    assert not await follower.follow(2)
    assert follower.head.entries in {6, 7}
    assert await follower.follow(5)
    entries = [entry async for page in read_pages(calls, KEYS.served, 100) for entry in page]
    assert follower.head == extend(first_head(TRIAL), entries)
    assert follower.head.entries == 10
    await call(store, 10, 11)
    assert await follower.follow(1)
    assert follower.head == (await read_log(calls, TRIAL))[1]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("same_id", [True, False])
async def test_a_follower_begins_anew_when_the_store_has_another_log(store: Redis, calls: StoreCalls, *, same_id: bool) -> None:
    follower = LogFollower(calls, TRIAL)
    for at in range(4):
        await store.xadd(KEYS.served, {"at_ms": 1, "from": at, "to": at + 1}, id=f"{at + 1}-0")
    assert await follower.follow(9)
    await store.delete(KEYS.served)
    await store.xadd(KEYS.served, {"at_ms": 1, "from": 0, "to": 7}, id="4-0" if same_id else "9-0")
    assert await follower.follow(9)
    assert follower.head.entries == 1
    assert follower.head == (await read_log(calls, TRIAL))[1]
    await store.delete(KEYS.served)
    assert await follower.follow(9)
    assert follower.head == first_head(TRIAL)


@pytest.mark.usefixtures("small_pages")
async def test_two_who_follow_at_once_do_not_spoil_the_head(store: Redis, calls: StoreCalls) -> None:
    for at in range(20):
        await call(store, at, at + 1)
    follower = LogFollower(calls, TRIAL)
    await asyncio.gather(*(follower.follow(9) for _ in range(5)))
    assert follower.head == (await read_log(calls, TRIAL))[1]


@pytest.mark.usefixtures("small_pages")
async def test_a_log_is_read_up_to_its_bound(store: Redis, calls: StoreCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_log, "LOG_ENTRIES_MAX", 5)
    for at in range(9):
        await call(store, at, at + 1)
    events, head = await read_log(calls, TRIAL)
    assert events == [Called(1, at, at + 1) for at in range(5)]
    assert head.entries == 5


async def test_samples_that_cannot_be_read_are_left_out(store: Redis, calls: StoreCalls) -> None:
    good = document(0, joined=3)
    for data in (msgspec.json.encode(good), b"{", b'{"drop": 1}'):
        await store.xadd(KEYS.samples, {"d": data})
    await store.xadd(KEYS.samples, {"other": 1})
    assert await read_samples(calls, TRIAL) == [good]


async def test_a_store_that_is_away_is_told(settings: Settings) -> None:
    nowhere = msgspec.structs.replace(settings.store, url="redis://127.0.0.1:1/0", timeout_ms=100, deadline_ms=200)
    client = open_store(nowhere)
    with pytest.raises(StoreUnavailable):
        await LogFollower(StoreCalls(client, nowhere), TRIAL).follow(1)
    await client.aclose()


async def test_what_the_scripts_write_is_understood(store: Redis, calls: StoreCalls) -> None:
    await w.admitted(World(store))
    events, _ = await read_log(calls, w.DROP_ID)
    assert Called in {type(event) for event in events}
    assert Unknown not in {type(event) for event in events}


# ----------------------------------------------------------------------------------------------------------------- command


@pytest.fixture
async def trial(settings: Settings, store: Redis, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """50 posters; opens in an hour, and the log says what happened from then on. Answers the time of the opening."""
    find_by_environment(settings, tmp_path, monkeypatch)
    created = await flashsale("drop", "create", str(drop_file(tmp_path, TRIAL)), "--json")
    assert created.code == 0
    opens_at_ms: int = created.json["definition"]["opens_at_ms"]
    await call(store, 0, 5, opens_at_ms + 1_000)
    await write(store, at_ms=opens_at_ms + 1_500, k="claimed", p=msgpack.packb([1, 0]), w=msgpack.packb([500, 400]))
    await write(store, at_ms=opens_at_ms + 1_600, k="danced", p=msgpack.packb([1]))
    await call(store, 5, 8, opens_at_ms + 2_000)
    return opens_at_ms


async def test_a_report_as_text_json_page_and_log(trial: int, store: Redis, tmp_path: Path) -> None:
    done = await flashsale("drop", "report", TRIAL, "--html", "page.html", "--log", "log.jsonl", "--json")
    assert (done.code, done.err.strip()) == (0, "The page is in page.html.")
    made = done.json
    whole = made["whole"]
    assert (made["drop"], made["opens_at_ms"], whole["called"], whole["claimed"], whole["never_came"]) == (TRIAL, trial, 8, 2, 6)
    assert (whole["calls"]["inversions"], whole["claims"]["inversions"]) == (0, 1)
    assert (whole["wait_to_claim"]["p50_ms"], made["log"]["entries"], made["log"]["unknown"]) == (400, 4, {"danced": 1})
    digest = hashlib.sha256(TRIAL.encode()).digest()
    for line in (tmp_path / "log.jsonl").read_bytes().splitlines():
        digest = hashlib.sha256(digest + line).digest()
    assert made["log"]["head"] == digest.hex()
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    text = await flashsale("drop", "report", TRIAL)
    assert (text.code, text.err) == (0, "")
    assert "A [bold] trial" in text.out
    for words in ("overtakes in calling", "never came" if made["final"] else "have not come", "τ 1.0000", digest.hex()):
        assert words in text.out


async def test_an_overtake_is_a_finding(trial: int, store: Redis) -> None:
    await call(store, 9, 10, trial + 3_000)
    await call(store, 8, 9, trial + 3_200)
    done = await flashsale("drop", "report", TRIAL)
    assert done.code == 1
    assert "1 pair of places was called in the wrong order" in done.err


@pytest.mark.usefixtures("trial")
async def test_a_report_works_without_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHSALE_POSTGRES_URL", "postgresql://somebody:hunter2@127.0.0.1:1/flashsale")
    done = await flashsale("drop", "report", TRIAL)
    assert (done.code, done.err) == (0, "")


@pytest.mark.usefixtures("trial")
@pytest.mark.parametrize(
    ("arguments", "code", "words"), [((TRIAL, "--html", "no/folder/page.html"), 2, "cannot be written"), (("other",), 4, "no drop")]
)
async def test_a_refusal_says_why(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = await flashsale("drop", "report", *arguments)
    assert (done.code, words in done.err) == (code, True), done.err
