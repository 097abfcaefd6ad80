"""The inlet on a real store: drops appear, beats move the line, a lost store is told and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgpack
import msgspec
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from admission.draw import Draw, EntriesTree, draw_key
from admission.drawing import make_draw
from admission.inlet import Inlet, LiveDrop
from admission.serving import RECOVERING_NOTICE
from flashsale.drops import DropStore
from flashsale.errors import DatabaseUnavailable, StoreUnavailable, StoreUnknown
from flashsale.keys import drop_keys
from flashsale.model import BeatPlan, DrawOutcome, Drop, DropState, EntriesRun, Inspection, Sku, Snapshot
from flashsale.scripts import Scripts
from flashsale.settings import WaitingRoomSettings, load_settings
from tests.lua.world import LIBRARY

SETTINGS = load_settings(environment={}, overrides={"waiting_room": {"beat_ms": 50}})
ROOM: WaitingRoomSettings = SETTINGS.waiting_room


def drop(drop_id: str, opens_in_ms: int = -1_000, **changes: Any) -> Drop:
    now = time.time_ns() // 1_000_000
    usual: dict[str, Any] = {
        "drop_id": drop_id, "name": "D", "currency": "EUR", "skus": (Sku("s1", "One", 5, 1_000, 2),), "joins_at_ms": now - 60_000,
        "opens_at_ms": now + opens_in_ms, "closes_at_ms": now + 600_000, "rate_per_min": 60_000, "capacity": 50,
        "claim_window_ms": 60_000, "reservation_ttl_ms": 60_000, "limit_per_shopper": 2,
    }  # fmt: skip
    return Drop(**(usual | changes))


class Watcher:
    """Every picture the inlet makes, for those who wait for one."""

    def __init__(self) -> None:
        self._seen = asyncio.Condition()
        self._latest: dict[str, LiveDrop] = {}
        self._wake: asyncio.Event = asyncio.Event()

    def on_change(self, live: LiveDrop) -> None:
        self._latest[live.definition.drop_id] = live
        self._wake.set()

    async def until(self, drop_id: str, found: Callable[[LiveDrop], bool]) -> LiveDrop:
        async with asyncio.timeout(10):
            while drop_id not in self._latest or not found(self._latest[drop_id]):
                self._wake.clear()
                await self._wake.wait()
        return self._latest[drop_id]


class Switch:
    """A `DropStore` whose store can be away."""

    def __init__(self, drops: DropStore) -> None:
        self._drops = drops
        self.away = False
        self.takes_s = 0.0
        """what a call takes besides"""
        self.too_late = asyncio.Semaphore(0)
        """so many calls are given up after that"""

    async def _there(self, call: Awaitable[Any]) -> Any:
        if self.away:
            call.close()  # type: ignore[attr-defined]
            raise StoreUnavailable(what="The store cannot be reached.")
        answer = await call
        await asyncio.sleep(self.takes_s)
        if not self.too_late.locked():
            await self.too_late.acquire()
            raise StoreUnknown(what="The store did not answer in time.")
        return answer

    async def ids(self) -> set[str]:
        found: set[str] = await self._there(self._drops.ids())
        return found

    async def inspect(self, drop_id: str) -> Inspection:
        found: Inspection = await self._there(self._drops.inspect(drop_id))
        return found

    async def fence_behind(self, drop_id: str) -> None:
        await self._there(self._drops.fence_behind(drop_id))

    async def advance(self, drop_id: str, beat_ms: int, plan: BeatPlan) -> tuple[bool, Snapshot]:
        found: tuple[bool, Snapshot] = await self._there(self._drops.advance(drop_id, beat_ms, plan))
        return found

    async def draw(self, drop_id: str, *step: Any) -> tuple[DrawOutcome, int, list[str], list[str]]:
        found: tuple[DrawOutcome, int, list[str], list[str]] = await self._there(self._drops.draw(drop_id, *step))
        return found

    async def draw_record(self, drop_id: str) -> tuple[str, dict[str, Any]]:
        found: tuple[str, dict[str, Any]] = await self._there(self._drops.draw_record(drop_id))
        return found

    async def entries_page(self, drop_id: str, after: str, count: int) -> list[EntriesRun]:
        found: list[EntriesRun] = await self._there(self._drops.entries_page(drop_id, after, count))
        return found

    async def leaving(self, drop_id: str, count: int) -> list[int]:
        found: list[int] = await self._there(self._drops.leaving(drop_id, count))
        return found


class Stage:
    """An inlet at work, and what it works on."""

    def __init__(self, store: Redis) -> None:
        self.store = store
        self.scripts = Scripts(store, LIBRARY, SETTINGS.store, SETTINGS.batch)
        self.drops = DropStore(self.scripts, SETTINGS)
        self.switch = Switch(self.drops)
        self.watcher = Watcher()
        self.expired: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.recorded: dict[str, Drop] = {}
        self.inlet = Inlet(self.switch, ROOM, self._expire, self.watcher.on_change, self._recorded)

    async def _recorded(self) -> dict[str, Drop]:
        return dict(self.recorded)

    async def _expire(self, drop_id: str, batch_size_max: int) -> int:
        self.expired.put_nowait((drop_id, batch_size_max))
        return 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.inlet.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
def stage(store: Redis, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr("admission.inlet.LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr("admission.inlet.BACKOFF_MAX_S", 0.1)
    return Stage(store)


async def test_an_empty_store_is_ready_with_nothing(stage: Stage) -> None:
    async with stage.running(), asyncio.timeout(10):
        await stage.inlet.ready.wait()
        assert stage.inlet.all() == []
        assert stage.inlet.get("d") is None


async def test_drops_appear_also_later(stage: Stage) -> None:
    await stage.drops.open(drop("one"))
    async with stage.running():
        first = await stage.watcher.until("one", lambda live: live.snapshot.state is DropState.OPEN)
        assert first.definition == (await stage.drops.inspect("one")).definition
        await stage.drops.open(drop("two"))
        await stage.watcher.until("two", lambda _: True)
        await stage.inlet.next_look()
        assert {live.definition.drop_id for live in stage.inlet.all()} == {"one", "two"}


async def test_drops_that_are_over_make_room_for_others_and_a_full_inlet_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admission.inlet.DROPS_MAX", 1)
    monkeypatch.setattr("admission.inlet.OVER_AFTER_MS", -1)
    await stage.drops.open(drop("one"))
    with capture_logs() as said:
        async with stage.running(), asyncio.timeout(10):
            await stage.watcher.until("one", lambda _: True)
            await stage.drops.open(drop("two"))
            for _ in range(2):
                await stage.inlet.next_look()
            assert stage.inlet.get("two") is None
            await stage.drops.close("one")
            await stage.watcher.until("two", lambda live: live.snapshot.state is DropState.OPEN)
            assert stage.inlet.get("one") is not None
            await stage.inlet.next_look()
    assert [line["event"] for line in said if line["event"].startswith(("too_many", "drops_within"))] == [
        "too_many_drops",
        "drops_within_limit",
    ]


async def test_a_drop_opens_by_itself_and_the_line_moves(stage: Stage) -> None:
    await stage.drops.open(drop("d", opens_in_ms=150))
    await stage.scripts.call("join", "d", msgspec.msgpack.encode([["d.tann", "secret"], ["d.tbob", "secret"]]))
    async with stage.running():
        await stage.watcher.until("d", lambda live: live.snapshot.state is DropState.WAITING)
        moved = await stage.watcher.until("d", lambda live: live.snapshot.serving_number == 2)
    assert moved.snapshot.state is DropState.OPEN
    assert moved.snapshot.entries == 2
    assert msgspec.json.decode(moved.document)["serving_number"] == 2


async def test_those_who_waited_are_drawn_at_the_opening_and_called_in_that_order(stage: Stage) -> None:
    hashes = [bytes([number]) * 32 for number in range(40)]
    secret = b"s" * 32
    await stage.drops.open(drop("d", opens_in_ms=300, order="draw", capacity=3), draw_secret=secret)
    packed = msgpack.packb([[f"d.t{number}", secret_hash] for number, secret_hash in enumerate(hashes)], use_bin_type=False)
    await stage.scripts.call("join", "d", packed)
    async with stage.running():
        waiting = await stage.watcher.until("d", lambda live: live.snapshot.state is DropState.WAITING)
        assert waiting.draws == (None,)
        called = await stage.watcher.until("d", lambda live: live.snapshot.serving_number > 0)
    tree = EntriesTree()
    tree.add(hashes)
    key = draw_key(secret, tree.root(), 40, b"")
    assert (called.snapshot.lines[0].root, called.snapshot.key) == (tree.root().hex(), key.hex())
    [draw] = called.draws
    assert draw is not None
    assert [draw.queue_number(entry) for entry in range(40)] == [Draw(key, 40).queue_number(entry) for entry in range(40)]
    assert msgspec.json.decode(called.document)["key"] == key.hex()


async def test_a_draw_that_fails_is_said_and_made_by_a_later_beat(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = 2

    async def failing(*arguments: Any) -> bool:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ValueError("spoilt")
        return await make_draw(*arguments)

    monkeypatch.setattr("admission.inlet.make_draw", failing)
    await stage.drops.open(drop("d", order="draw"), draw_secret=b"s" * 32)
    with capture_logs() as said:
        async with stage.running():
            await stage.watcher.until("d", lambda live: bool(live.snapshot.key))
    assert [line["event"] for line in said] == ["draw_failed", "draw_failed", "drawn"]


async def test_an_old_journal_slows_the_line_and_the_document_says_so(stage: Stage) -> None:
    units = (Sku("s1", "One", 5_000, 1_000, 2),)
    await stage.drops.open(drop("d", opens_in_ms=300, skus=units, rate_per_min=600, capacity=100_000))
    await stage.scripts.call("join", "d", msgpack.packb([[f"d.t{number}", "secret"] for number in range(1_000)]))
    journal, store = drop_keys("d").journal, cast("Any", stage.store)
    await store.xgroup_create(journal, "reconciler", "0", mkstream=True)
    async with stage.running():
        before = await stage.watcher.until("d", lambda live: live.snapshot.state is DropState.WAITING)
        assert before.snapshot.flow.journal_age_ms == 0
        await store.xadd(journal, {"v": "1"}, id=f"{before.snapshot.now_ms - 30_000}-0")
        slow = await stage.watcher.until("d", lambda live: "slower" in (_said(live)["notice"] or ""))
        assert slow.snapshot.flow.journal_age_ms >= 30_000
        await store.xreadgroup("reconciler", "c", {journal: ">"})
        await store.xack(journal, "reconciler", *[entry_id for entry_id, _ in await store.xrange(journal)])
        await stage.watcher.until("d", lambda live: live.snapshot.flow.journal_age_ms == 0 and _said(live)["notice"] is None)


async def test_a_slow_store_slows_the_line(stage: Stage) -> None:
    units = (Sku("s1", "One", 5_000, 1_000, 2),)
    await stage.drops.open(drop("d", skus=units, rate_per_min=600, capacity=100_000))
    async with stage.running():
        whole = await stage.watcher.until("d", lambda live: live.snapshot.state is DropState.OPEN)
        stage.switch.takes_s = 0.4
        slow = await stage.watcher.until("d", lambda live: live.pace.rate_per_min < whole.pace.rate_per_min)
        assert slow.snapshot.flow.journal_age_ms == 0
        stage.switch.takes_s = 0
        await stage.watcher.until("d", lambda live: live.pace.rate_per_min == whole.pace.rate_per_min)


async def test_beats_that_were_given_up_count_as_slow(stage: Stage) -> None:
    await stage.drops.open(drop("d", rate_per_min=600))
    async with stage.running(), asyncio.timeout(10):
        whole = await stage.watcher.until("d", lambda live: live.snapshot.state is DropState.OPEN)
        stage.switch.takes_s, stage.switch.too_late = 0.4, asyncio.Semaphore(3)
        while not stage.switch.too_late.locked():
            await stage.inlet.next_look()
        stage.switch.takes_s = 0
        await stage.watcher.until("d", lambda live: live.pace.rate_per_min < whole.pace.rate_per_min)


async def test_the_storefronts_signal_lowers_the_rate_for_as_long_as_it_says(stage: Stage) -> None:
    await stage.drops.open(drop("d", rate_per_min=600))
    async with stage.running():
        whole = await stage.watcher.until("d", lambda live: live.snapshot.state is DropState.OPEN)
        await stage.drops.signal("d", 250, 60_000)
        quarter = await stage.watcher.until("d", lambda live: live.pace.rate_per_min < whole.pace.rate_per_min)
        assert quarter.pace.rate_per_min == round(whole.pace.rate_per_min / 4)
        await stage.drops.signal("d", 0, 60_000)
        await stage.watcher.until("d", lambda live: live.pace.rate_per_min == 0)
        await stage.drops.signal("d", 0, 1)
        await stage.watcher.until("d", lambda live: live.pace.rate_per_min == whole.pace.rate_per_min)


async def test_the_end_is_in_the_first_document_after_the_last_unit_is_paid(stage: Stage) -> None:
    """Whoever polls reads what the inlet wrote last: a beat, and not a poll's interval, is what the news takes."""
    await stage.drops.open(drop("d", skus=(Sku("s1", "One", 1, 1_000, 1),)))
    async with stage.running():
        await stage.watcher.until("d", lambda live: _said(live)["sold_out"] is False)
        await stage.store.hset(drop_keys("d").stock, mapping={"available:s1": 0, "sold:s1": 1})
        told = await stage.watcher.until("d", lambda live: live.snapshot.skus["s1"].sold == 1)
        assert _said(told)["sold_out"] is True


def _said(live: LiveDrop) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(live.document)
    return found


async def test_a_store_that_is_down_and_back_is_survived(stage: Stage) -> None:
    stage.switch.away = True
    await stage.drops.open(drop("d"))
    async with stage.running(), asyncio.timeout(10):
        await stage.inlet.next_look()
        assert not stage.inlet.ready.is_set()
        stage.switch.away = False
        await stage.inlet.ready.wait()
        before = await stage.watcher.until("d", lambda live: live.snapshot.state is DropState.OPEN)
        stage.switch.away = True
        await stage.inlet.next_look()
        await stage.inlet.next_look()
        stage.switch.away = False
        after = await stage.watcher.until("d", lambda live: live.snapshot.now_ms > before.snapshot.now_ms + 100)
        assert not after.recovering


async def test_a_store_or_postgres_that_is_away_is_said_once_and_again_when_it_is_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admission.inlet.RECORDED_EVERY_S", 0.0)
    away = True

    async def recorded() -> dict[str, Drop]:
        if away:
            raise DatabaseUnavailable(what="Postgres cannot be reached.")
        return {}

    stage.switch.away = True
    with capture_logs() as said:
        stage.inlet = Inlet(stage.switch, ROOM, stage._expire, stage.watcher.on_change, recorded)
        async with stage.running(), asyncio.timeout(10):
            for _ in range(3):
                await stage.inlet.next_look()
            stage.switch.away = away = False
            await stage.inlet.ready.wait()
            await stage.inlet.next_look()
    assert [line["event"] for line in said] == ["recorded_drops_not_read", "drops_not_seen", "recorded_drops_read", "drops_seen"]


async def test_a_drop_the_store_has_lost_is_told_as_recovering_until_it_is_back(stage: Stage) -> None:
    definition = drop("d")
    await stage.drops.open(definition)
    async with stage.running():
        seen = await stage.watcher.until("d", lambda live: live.snapshot.state is DropState.OPEN)
        await stage.store.flushall()
        lost = await stage.watcher.until("d", lambda live: live.recovering)
        assert msgspec.json.decode(lost.document)["state"] == "recovering"
        assert lost.snapshot.serving_number == seen.snapshot.serving_number
        await stage.drops.open(definition, epoch=2)
        back = await stage.watcher.until("d", lambda live: not live.recovering)
    assert back.snapshot.epoch == 2


async def test_a_drop_that_is_recovering_from_the_start_appears_when_it_is_back(stage: Stage) -> None:
    definition = drop("d")
    await stage.drops.open(definition)
    await stage.store.delete("fs:{d}:drop", "fs:{d}:stock")
    async with stage.running(), asyncio.timeout(10):
        await stage.inlet.ready.wait()
        assert stage.inlet.all() == []
        await stage.drops.open(definition)
        await stage.watcher.until("d", lambda _: True)


async def test_a_spoilt_drop_does_not_keep_the_others_away(stage: Stage) -> None:
    await stage.drops.open(drop("a-spoilt"))
    await stage.drops.open(drop("b-sound"))
    await stage.store.delete("fs:{a-spoilt}:slots")
    await stage.store.set("fs:{a-spoilt}:slots", "not a sorted set")
    async with stage.running(), asyncio.timeout(10):
        await stage.inlet.ready.wait()
        await stage.watcher.until("b-sound", lambda live: live.snapshot.state is DropState.OPEN)


async def test_a_definition_nobody_can_read_does_not_end_the_inlet(stage: Stage) -> None:
    """As a newer release may have written it."""
    await stage.drops.open(drop("a-newer"))
    await stage.drops.open(drop("b-sound"))
    await stage.store.hset("fs:{a-newer}:drop", "definition", '{"shape": "unknown"}')
    async with stage.running(), asyncio.timeout(10):
        await stage.inlet.ready.wait()
        await stage.watcher.until("b-sound", lambda live: live.snapshot.state is DropState.OPEN)


async def test_a_changed_definition_is_read_again(stage: Stage) -> None:
    await stage.drops.open(drop("d"))
    changed = msgspec.json.encode(drop("d", name="Another name")).decode()
    async with stage.running():
        await stage.watcher.until("d", lambda _: True)
        await stage.store.hset("fs:{d}:drop", mapping={"definition": changed, "digest": "another"})
        await stage.watcher.until("d", lambda live: live.definition.name == "Another name")


async def test_overdue_reservations_are_ended_although_nobody_else_does(stage: Stage) -> None:
    await stage.drops.open(drop("d"))
    await stage.store.zadd("fs:{d}:expiries", {"d.rsomething": 1})
    async with stage.running(), asyncio.timeout(10):
        drop_id, batch_size_max = await stage.expired.get()
    assert drop_id == "d"
    assert 1 <= batch_size_max <= 1_000


async def test_a_worker_started_after_a_loss_knows_what_is_missing(stage: Stage) -> None:
    stage.recorded["d"] = drop("d")
    async with stage.running(), asyncio.timeout(10):
        await stage.inlet.ready.wait()
        assert stage.inlet.lost("d")
        assert not stage.inlet.lost("made-up")
        await stage.drops.open(drop("d"), epoch=2)
        await stage.watcher.until("d", lambda _: True)
        assert not stage.inlet.lost("d")


async def test_a_drop_is_found_although_the_list_of_drops_is_lost(stage: Stage) -> None:
    await stage.drops.open(drop("d"))
    await stage.store.delete("fs:drops")
    stage.recorded["d"] = drop("d")
    async with stage.running():
        await stage.watcher.until("d", lambda live: live.snapshot.state is DropState.OPEN)


async def test_a_store_that_went_back_is_fenced_for_everybody(stage: Stage) -> None:
    await stage.drops.open(drop("d"))
    keys = await stage.store.keys("fs:*")
    older: dict[Any, Any] = {key: await stage.store.dump(key) for key in keys}
    await stage.scripts.call("join", "d", msgspec.msgpack.encode([["d.tann", "secret"]]))
    async with stage.running():
        await stage.watcher.until("d", lambda live: live.snapshot.joined == 1 and live.snapshot.state is DropState.OPEN)
        for key, value in older.items():
            await stage.store.restore(key, 0, value, replace=True)
        lost = await stage.watcher.until("d", lambda live: live.recovering)
        assert msgspec.json.decode(lost.document)["notice"] == RECOVERING_NOTICE
        async with asyncio.timeout(10):
            while await stage.store.hget("fs:{d}:drop", "fenced") != b"rolled_back":
                await stage.inlet.next_look()
