"""The beacon: the first value after the entries were closed, and a draw that goes on when nobody gives one."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

from admission.beacon import Beacon, BeaconUnavailable, BeaconValue, FileBeacon, NoBeacon, round_after, value_in_time
from flashsale.beacons import DrandBeacon
from flashsale.errors import ConfigurationError
from flashsale.fetching import ANSWER_BYTES_MAX
from flashsale.settings import load_settings

# drand's default chain, and a round of it as its documentation shows it.
GENESIS_S, PERIOD_S, ROUND = 1_595_431_050, 30, 5_347_804
MADE_AT_MS = 1000 * (GENESIS_S + (ROUND - 1) * PERIOD_S)
RANDOMNESS = "a87619810b1b41e70a01b8f903cf69977e026f80d9fd5e4c197c298a96c61cfe"
SIGNATURE = (
    "92daf5745411a415b539caebda0b523fa20d4d12b28eb2fe427decdf5dcc976046a9c83b54f1db991fa191ffca8fcbdc07563036664f6ba47dcf00593559286f"
    "667574f6b0a2ba0be2683463b5bf3472e5696ac28b75d5b2223dbb98a56c96a3"
)
CHAIN = "8990e7a9aaed2ffed73dbd7092123d6f289930540d7651336225dc172e51b2ce"
INFO_V1 = {"public_key": "86", "period": PERIOD_S, "genesis_time": GENESIS_S, "hash": CHAIN}
INFO_V2 = {"public_key": "86", "period": PERIOD_S, "genesis_time": GENESIS_S, "chain_hash": CHAIN, "beacon_id": "default"}
ROUND_V1 = {"round": ROUND, "randomness": RANDOMNESS, "signature": SIGNATURE, "previous_signature": "b0"}
ROUND_V2 = {"round": ROUND, "signature": SIGNATURE}


class Relay:
    """A drand relay on a real socket: `answers` by path, and before them `first`, one after the other."""

    def __init__(self, client: ClientSession, url: str) -> None:
        self.client, self.url = client, url
        self.answers: dict[str, Any] = {}
        self.first: list[int] = []
        self.asked: list[str] = []
        self.was_asked = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.was_asked.set()
        if self.first:
            return web.Response(status=self.first.pop(0), headers={"Location": "/elsewhere"})
        body = self.answers.get(request.path)
        if body is None:
            return web.Response(status=404)
        return web.Response(body=body if isinstance(body, bytes) else msgspec.json.encode(body))


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with relaying() as relay:
        yield relay


@asynccontextmanager
async def relaying() -> AsyncIterator[Relay]:
    app = web.Application()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    async with ClientSession() as client:
        relay = Relay(client, "")
        app.router.add_get("/{path:.*}", relay.answer)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        relay.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield relay
        finally:
            await runner.cleanup()


@pytest.mark.parametrize(
    ("chain", "info", "rounds", "answer"),
    [(f"/{CHAIN}", INFO_V1, "public", ROUND_V1), ("/v2/beacons/default", INFO_V2, "rounds", ROUND_V2)],
    ids=["v1", "v2"],
)
async def test_drand_gives_the_first_round_after_the_entries_closed(
    relay: Relay, chain: str, info: dict[str, Any], rounds: str, answer: dict[str, Any]
) -> None:
    relay.answers = {f"{chain}/info": info, f"{chain}/{rounds}/{ROUND}": answer}
    beacon: Beacon = DrandBeacon(relay.client, relay.url + chain + "/")
    for fixed_at_ms in (MADE_AT_MS - 1, MADE_AT_MS - 30_000):
        assert await beacon.value_after(fixed_at_ms) == BeaconValue("drand", bytes.fromhex(RANDOMNESS), ROUND, CHAIN)
    assert relay.asked == [f"{chain}/info", *[f"{chain}/{rounds}/{ROUND}"] * 2]


def test_a_value_made_at_the_instant_may_have_been_known() -> None:
    assert [
        round_after(MADE_AT_MS + late, genesis_s=GENESIS_S, period_s=PERIOD_S) - ROUND for late in (-30_000, -1, 0, 29_999, 30_000)
    ] == [
        0,
        0,
        1,
        1,
        2,
    ]
    assert [round_after(at_ms, genesis_s=10, period_s=3) for at_ms in (0, 9_999, 10_000, 12_999, 13_000)] == [1, 1, 2, 2, 3]


async def test_it_waits_for_a_round_that_is_not_there_yet(relay: Relay) -> None:
    relay.answers = {"/c/info": INFO_V1, f"/c/public/{ROUND}": ROUND_V1}
    relay.first = [503, 404, 425]
    found = await DrandBeacon(relay.client, f"{relay.url}/c").value_after(MADE_AT_MS - 1)
    assert (found.value.hex(), len(relay.asked)) == (RANDOMNESS, 5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (ROUND_V1 | {"round": ROUND + 1}, "gave 5347805"),
        (ROUND_V1 | {"randomness": "00" * 32}, "does not belong"),
        (ROUND_V1 | {"signature": SIGNATURE[:-2] + "00"}, "does not belong"),
        (ROUND_V1 | {"signature": "not hex"}, "cannot be read"),
        (ROUND_V1 | {"signature": ""}, "cannot be read"),
        (b"<html>", "cannot be read"),
    ],
)
async def test_what_makes_no_sense_is_not_drawn_with(relay: Relay, wrong: Any, words: str) -> None:
    relay.answers = {"/c/info": INFO_V1, f"/c/public/{ROUND}": wrong}
    with pytest.raises(BeaconUnavailable, match=words):
        await DrandBeacon(relay.client, f"{relay.url}/c").value_after(MADE_AT_MS - 1)


@pytest.mark.parametrize("info", [INFO_V1 | {"period": 0}, {"period": 3}, b"[]"])
async def test_a_chain_that_makes_no_sense_is_not_asked(relay: Relay, info: Any) -> None:
    relay.answers = {"/c/info": info}
    with pytest.raises(BeaconUnavailable, match="cannot be read"):
        await DrandBeacon(relay.client, f"{relay.url}/c").value_after(MADE_AT_MS)


async def test_a_relay_that_refuses_is_not_asked_again(relay: Relay) -> None:
    relay.first = [403]
    found = await value_in_time(DrandBeacon(relay.client, f"{relay.url}/c"), MADE_AT_MS)
    assert found == BeaconValue("drand", why="The beacon answered with status 403.")


async def test_a_relay_that_leads_elsewhere_or_talks_without_end_is_not_followed(relay: Relay) -> None:
    relay.first = [302]
    relay.answers = {"/c/info": b" " * (ANSWER_BYTES_MAX + 1)}
    found = await value_in_time(DrandBeacon(relay.client, f"{relay.url}/c"), MADE_AT_MS, deadline_s=0.6)
    assert (found.value, set(relay.asked)) == (b"", {"/c/info"})


async def test_a_draw_goes_on_without_and_says_why(relay: Relay) -> None:
    asking = asyncio.create_task(value_in_time(DrandBeacon(relay.client, f"{relay.url}/c"), MADE_AT_MS, deadline_s=0.3))
    await relay.was_asked.wait()
    found = await asking
    assert (found.kind, found.value, found.round) == ("drand", b"", None)
    assert found.why is not None
    assert "within 0.3 s" in found.why


async def test_nobody_at_the_address_is_no_failure_of_the_draw() -> None:
    async with relaying() as gone:
        url = f"{gone.url}/c"
    async with ClientSession() as client:
        found = await value_in_time(DrandBeacon(client, url), MADE_AT_MS, deadline_s=0.3)
    assert (found.value, "0.3 s" in str(found.why), "127.0.0.1" in str(found.why)) == (b"", True, False)


async def test_an_address_is_an_address(relay: Relay) -> None:
    with pytest.raises(ConfigurationError, match="not an address"):
        DrandBeacon(relay.client, "api.drand.sh")


async def test_no_beacon_is_at_once() -> None:
    assert await value_in_time(NoBeacon(), MADE_AT_MS) == BeaconValue("none")


async def test_a_file_from_before_the_entries_closed_is_not_used(tmp_path: Path) -> None:
    """Somebody forgot to take the last drop's away: its value was known while people could still join."""
    path = tmp_path / "dice"
    path.write_text("00" * 32)
    os.utime(path, (MADE_AT_MS / 1000, MADE_AT_MS / 1000))
    beacon = FileBeacon(path)
    stale = await value_in_time(beacon, MADE_AT_MS, deadline_s=0.3)
    assert (stale.kind, stale.value) == ("file", b"")
    assert (await value_in_time(beacon, MADE_AT_MS - 1)).value == bytes(32)


async def test_a_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "dice"
    waiting = asyncio.create_task(value_in_time(FileBeacon(path), MADE_AT_MS))
    path.with_suffix(".new").write_text(RANDOMNESS.upper() + "\n")
    path.with_suffix(".new").rename(path)
    assert await waiting == BeaconValue("file", bytes.fromhex(RANDOMNESS))


@pytest.mark.parametrize(
    ("text", "words"), [("six, six, one", "hex digits"), ("00" * 15, "16 to 64"), ("00" * 65, "16 to 64"), ("é", "hex")]
)
async def test_a_file_with_something_else_is_no_beacon(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "dice"
    path.write_text(text)
    found = await value_in_time(FileBeacon(path), MADE_AT_MS)
    assert (found.value, words in str(found.why), str(tmp_path) in str(found.why)) == (b"", True, False)


async def test_a_folder_is_no_beacon(tmp_path: Path) -> None:
    assert "cannot be read" in str((await value_in_time(FileBeacon(tmp_path), MADE_AT_MS)).why)


def test_the_chain_we_come_with_is_faster_than_our_patience() -> None:
    """The default chain of drand makes a value every 30 s, so two draws of three would be without; quicknet every 3 s."""
    assert load_settings(environment={}).beacon.drand_url.endswith("/v2/beacons/quicknet")


def test_the_published_round_is_genuine_as_far_as_we_look() -> None:
    assert hashlib.sha256(bytes.fromhex(SIGNATURE)).hexdigest() == RANDOMNESS


def test_a_value_survives_being_stored() -> None:
    value = BeaconValue("drand", bytes(range(32)), ROUND, CHAIN, "why")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=BeaconValue) == value
