"""`flashsale recover` and what doctor says, as an engineer types them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flashsale.cli.main import run
from flashsale.cli.shapes import Picture
from flashsale.cli.target import opened
from flashsale.cli.watch import follow
from flashsale.settings import Settings
from tests.integration.http_client import with_signing_keys
from tests.integration.recovery_stage import Stage


@pytest.fixture
async def stage(store: object, settings: Settings) -> AsyncIterator[Stage]:
    async with opened(settings) as parts:
        made = Stage(parts)
        await made.open()
        await made.enter("ann", "bob")
        await made.reserve("ann")
        assert await made.pay(await made.reserve("bob")) == "confirmed"
        await made.drain()
        yield made


@pytest.fixture(autouse=True)
def _installation(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = with_signing_keys(settings, tmp_path)
    monkeypatch.setenv("FLASHSALE_STORE_URL", settings.store.url)
    monkeypatch.setenv("FLASHSALE_POSTGRES_URL", settings.postgres.url)
    monkeypatch.setenv("FLASHSALE_TOKENS_SIGNING_KEYS_FILE", keyed.tokens.signing_keys_file)


class Seen:
    """What a watcher is shown."""

    def __init__(self) -> None:
        self.shown, self.troubled = asyncio.Event(), asyncio.Event()
        self.troubles: list[str] = []

    def show(self, picture: Picture, name: str) -> None:
        self.shown.set()

    def trouble(self, words: str) -> None:
        self.troubles.append(words)
        self.troubled.set()

    def end(self) -> None:
        pass


async def type_in(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    """(exit code, JSON on stdout or None, messages); in a thread, because a command has an event loop of its own."""
    capfd.readouterr()
    code = await asyncio.to_thread(run, words)
    out, messages = capfd.readouterr()
    return code, msgspec.json.decode(out) if out else None, messages


async def test_a_sound_drop_needs_nothing(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    code, told, messages = await type_in(capfd, "recover", stage.drop_id, "--yes", "--json")
    assert (code, told[0]["result"]) == (0, "sound")
    assert "nothing to recover" in messages


async def test_a_lost_drop_is_told_recovered_and_found_sound(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    await stage.parts.store.flushall()
    _, found, _ = await type_in(capfd, "doctor", "--json")
    [finding] = [finding for finding in found if finding["name"] == f"drop.{stage.drop_id}"]
    assert (finding["level"], f"flashsale recover {stage.drop_id}" in finding["todo"]) == ("unsafe", True)

    code, told, messages = await type_in(capfd, "recover", "--all", "--dry-run", "--json")
    assert (code, told[0]["result"], told[0]["condition"], told[0]["live"]) == (1, "needed", "missing", 1)
    assert "the store does not have it" in messages
    assert await stage.parts.store.exists(f"fs:{{{stage.drop_id}}}:drop") == 0

    code, told, messages = await type_in(capfd, "recover", stage.drop_id, "--yes", "--json")
    assert (code, told[0]["result"], told[0]["orders"], told[0]["epoch"], told[0]["state"]) == (0, "recovered", 2, 2, "open")
    assert told[0]["skus"][0] == {"sku": "black-42", "allotment": 100, "available": 98, "reserved": 1, "sold": 1}
    assert told[0]["ready_ms"] > 0
    assert "Recovered" in messages

    code, told, _ = await type_in(capfd, "audit", stage.drop_id, "--json")
    assert (code, told[0]["result"]) == (0, "clean")


async def test_without_anybody_to_ask_it_wants_to_be_told(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    await stage.parts.store.flushall()
    code, _, messages = await type_in(capfd, "recover", stage.drop_id)
    assert code == 2
    assert "--yes" in messages


@pytest.mark.parametrize(("words", "expected"), [((), 2), (("a", "--all"), 2), (("never-made", "--yes"), 4)])
async def test_misuse_is_told(capfd: pytest.CaptureFixture[str], store: object, words: tuple[str, ...], expected: int) -> None:
    code, _, messages = await type_in(capfd, "recover", *words)
    assert code == expected
    assert "→" in messages


async def test_who_watches_sees_the_drop_go_and_come_back(stage: Stage) -> None:
    seen = Seen()
    watching = asyncio.create_task(follow(stage.parts, stage.drop_id, seen, lambda _picture: seen.troubled.is_set(), 0.02))
    async with asyncio.timeout(30):
        await seen.shown.wait()
        await stage.parts.store.flushall()
        await seen.troubled.wait()
        await stage.recover()
        await watching
    assert stage.drop_id in seen.troubles[0]
