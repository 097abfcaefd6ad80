"""Making the draw on a real store: made once, from everybody who joined in time, whatever happens to whoever makes it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from admission.beacon import BeaconValue, FileBeacon
from admission.draw import Draw, draw_key
from admission.drawing import PAGE_ENTRIES_MAX, PAGE_ENTRIES_MIN, make_draw
from admission.inlet import Inlet, LiveDrop
from admission.merkle import leaf_hash, merkle_levels
from admission.proofs import Proofs
from flashsale.clock import SystemClock
from flashsale.drops import DropStore
from flashsale.errors import StoreUnavailable
from flashsale.keys import drop_keys
from flashsale.model import DrawOutcome, Drop, EntriesRun, Group, Snapshot, place_of
from flashsale.scripts import Scripts
from tests.integration.http_client import make_drop, with_settings
from tests.lua.world import LIBRARY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

    from redis.asyncio import Redis

    from admission.beacon import Beacon
    from flashsale.settings import Settings

DROP = "sneaker-x"
KEYS = drop_keys(DROP)
SECRET = hashlib.sha256(b"the drop's secret").digest()
EMPTY = bytes(32)
BATCH = 100
"""joins in one call, as a busy worker makes them"""


def hash_of(name: int | str) -> bytes:
    """A shopper's secret hash."""
    return hashlib.sha256(f"shopper {name}".encode()).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    return merkle_levels([leaf_hash(one) for one in hashes])[-1][0] if hashes else hashlib.sha256(b"").digest()


def batched(things: Iterable[Any], count: int) -> Iterator[tuple[Any, ...]]:
    """`things`, `count` at a time (itertools has it from Python 3.12 on)."""
    rest = iter(things)
    return iter(lambda: tuple(itertools.islice(rest, count)), ())


class Stage:
    """A drop that draws, and a worker's hands on it."""

    def __init__(self, store: Redis, settings: Settings) -> None:
        self.store = store
        self.settings = with_settings(settings, waiting_room={"beat_ms": 50})
        self.scripts = Scripts(store, LIBRARY, self.settings.store, self.settings.batch)
        self.drops = DropStore(self.scripts, self.settings)

    async def open(self, **changes: Any) -> Drop:
        """Gives the store a drop that people may join, and that opens when `start` is called."""
        drop = make_drop(opens_in_ms=3_600_000, closes_at_ms=SystemClock().now_ms() + 2 * 3_600_000, **{"order": "draw", **changes})
        await self.drops.open(drop, draw_secret=SECRET)
        return drop

    async def join(self, *names: int | str, line: int = 0) -> list[list[Any]]:
        """Joins in one call: [outcome, place, late, …] of each."""
        requests = [(f"{DROP}.t{name}", hash_of(name), {"line": line}) for name in names]
        _, results = await self.scripts.call("join", DROP, msgpack.packb(requests, use_bin_type=False))
        return list(results)

    async def leave(self, name: int | str) -> None:
        _, (outcome, _) = await self.scripts.call("leave", DROP, msgpack.packb((f"{DROP}.t{name}", "left", "", -1, -1)))
        assert outcome == "left"

    async def start(self) -> Snapshot:
        """Opens the drop: the entries are fixed, the draw is to be made."""
        await self.drops.steer(DROP, "open")
        _, snapshot = await self.drops.advance(DROP, 50)
        assert snapshot.undrawn
        return snapshot

    async def now(self) -> Snapshot:
        """The drop as it is."""
        return (await self.drops.inspect(DROP)).snapshot

    async def draw(self) -> Draw:
        """The draw of line 0, which has been made."""
        line = (await self.now()).lines[0]
        return Draw(bytes.fromhex(line.key), line.entries or 0)


@pytest.fixture
def stage(store: Redis, settings: Settings) -> Stage:
    return Stage(store, settings)


async def require_drawn(stage: Stage, *hashes: Sequence[bytes], beacon: bytes = b"") -> None:
    """Each line is drawn from exactly these entries, and every one of them can be proven."""
    snapshot = await stage.now()
    for line, entries in zip(snapshot.lines, hashes, strict=True):
        root = root_of(entries)
        assert (line.entries, line.root) == (len(entries), root.hex())
        assert line.key == draw_key(SECRET, root, len(entries), beacon).hex()
    assert await Proofs.read(stage.drops, snapshot) is not None


# ------------------------------------------------------------------------------------------------------------ the entries


@pytest.mark.parametrize("at_once", [1, 7, BATCH])
async def test_five_thousand_entries_are_read_in_pages(stage: Stage, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.open()
    entries = [EMPTY] * 5_000
    for crowd in batched(batched(range(5_000), at_once), 50):
        for names, results in zip(crowd, await asyncio.gather(*(stage.join(*names) for names in crowd)), strict=True):
            for name, (_, place, *_) in zip(names, results, strict=True):
                entries[place] = hash_of(name)
    assert EMPTY not in entries
    asked: list[tuple[int, int]] = []
    read = stage.drops.entries_page

    async def counted(drop_id: str, after: str, count: int) -> list[EntriesRun]:
        page = await read(drop_id, after, count)
        asked.append((count, sum(len(run.secret_hashes) for run in page) // 32))
        return page

    monkeypatch.setattr(stage.drops, "entries_page", counted)
    assert await make_draw(stage.drops, await stage.start(), {}, "none")
    assert sum(hashes for _, hashes in asked) == 5_000
    assert {count for count, _ in asked} <= set(range(PAGE_ENTRIES_MIN, PAGE_ENTRIES_MAX + 1))
    assert len(asked) < 12, "pages grow with what fits in them"
    monkeypatch.undo()
    await require_drawn(stage, entries)


async def test_nobody_has_joined(stage: Stage) -> None:
    await stage.open()
    assert await make_draw(stage.drops, await stage.start(), {}, "none")
    await require_drawn(stage, [])
    [[outcome, place, late, *_]] = await stage.join("late")
    assert (outcome, place, late) == ("joined", 0, 1)


async def test_each_line_has_its_own_entries_and_key(stage: Stage) -> None:
    await stage.open(groups=(Group("vip", "Members", 200), Group("press", "Press", 50)))
    for number in range(30):
        await stage.join(f"a{number}")
        await stage.join(f"v{number}", f"w{number}", line=1)
    assert await make_draw(stage.drops, await stage.start(), {}, "none")
    members = [hash_of(f"{letter}{number}") for number in range(30) for letter in "vw"]
    await require_drawn(stage, [hash_of(f"a{number}") for number in range(30)], members, [])
    keys = [line.key for line in (await stage.now()).lines]
    assert len(set(keys)) == 3


async def test_an_entry_that_a_loss_has_swallowed_is_empty(stage: Stage) -> None:
    await stage.open()
    for name in range(20):
        await stage.join(name)
    found: Any = await stage.store.xrange(KEYS.entries)
    entry_ids = [entry_id for entry_id, _ in found]
    await stage.store.xdel(KEYS.entries, entry_ids[7], entry_ids[19])
    assert await make_draw(stage.drops, await stage.start(), {}, "none")
    await require_drawn(stage, [EMPTY if name in {7, 19} else hash_of(name) for name in range(20)])


async def take_up(stage: Stage, *names: int) -> None:
    """Joins with the receipt of a place from before a loss: the shopper's name is the entry number."""
    now_ms = SystemClock().now_ms()
    requests = [(f"{DROP}.t{name}", hash_of(name), {"claim": (name, 0, now_ms, 0)}) for name in names]
    _, results = await stage.scripts.call("join", DROP, msgpack.packb(requests, use_bin_type=False))
    assert [result[:3] for result in results] == [["restored", name, 0] for name in names]


async def swallow(stage: Stage, *names: int) -> None:
    """A loss that took these, who were the last to join, as a recovery leaves it: the places can be taken up again."""
    found: Any = await stage.store.xrange(KEYS.entries)
    await stage.store.xdel(KEYS.entries, *(entry_id for entry_id, fields in found if int(fields[b"n"]) in names))
    await stage.store.hdel(KEYS.tickets, *(f"{DROP}.t{name}" for name in names))
    await stage.store.hset(KEYS.drop, mapping={"restore_from": min(names), "restore_to": max(names) + 1})


async def test_who_comes_back_between_the_opening_and_the_draw_cannot_change_it(stage: Stage) -> None:
    """Two workers could have read the entries on either side of it, and whoever came later would have proven nothing."""
    await stage.open()
    for name in range(10):
        await stage.join(name)
    await swallow(stage, 7, 8, 9)
    await take_up(stage, 8)
    snapshot = await stage.start()
    await take_up(stage, 7)
    assert await make_draw(stage.drops, snapshot, {}, "none")
    entries = [hash_of(name) for name in range(7)] + [EMPTY, hash_of(8), EMPTY]
    await require_drawn(stage, entries)
    await take_up(stage, 9)
    await require_drawn(stage, entries)


async def test_proofs_return_with_those_who_were_in_the_draw(stage: Stage) -> None:
    await stage.open()
    for name in range(10):
        await stage.join(name)
    assert await make_draw(stage.drops, await stage.start(), {}, "none")
    await swallow(stage, *range(10))
    await take_up(stage, 3, 4, 5, 0, 1, 2, 6, 7, 8)
    assert await Proofs.read(stage.drops, await stage.now()) is None
    await take_up(stage, 9)
    await require_drawn(stage, [hash_of(name) for name in range(10)])


async def test_whoever_joins_in_the_beat_of_the_opening_is_in_the_draw_or_behind_it(stage: Stage) -> None:
    await stage.open()
    await stage.join(*range(50))
    before = asyncio.create_task(joining_on(stage, range(50, 400)))
    opening = asyncio.create_task(stage.start())
    after = asyncio.create_task(joining_on(stage, range(400, 750)))
    results = {**await before, **await after}
    assert await make_draw(stage.drops, await opening, {}, "none")
    entries = (await stage.now()).lines[0].entries or 0
    assert 50 <= entries < 750
    assert {name for name, (place, late) in results.items() if not late} == {
        name for name, (place, _) in results.items() if place < entries
    }
    assert sorted(place for place, _ in results.values()) == list(range(50, 750)), "nobody shares a place"
    in_time = sorted((place, name) for name, (place, late) in results.items() if not late)
    await require_drawn(stage, [hash_of(name) for name in range(50)] + [hash_of(name) for _, name in in_time])


async def joining_on(stage: Stage, names: range) -> dict[int, tuple[int, int]]:
    """Joins one after another: name to (place, late)."""
    return {name: (result[1], result[2]) for name in names for result in await stage.join(name)}


# ------------------------------------------------------------------------------------------------------------- who makes it


class Gate:
    """A beacon that says something when it is told to, and tells when it was asked."""

    kind: Any = "file"

    def __init__(self, value: bytes) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self._value = value

    async def value_after(self, fixed_at_ms: int) -> BeaconValue:
        assert fixed_at_ms > 0
        self.asked.set()
        await self.go.wait()
        return BeaconValue("file", self._value)


async def test_two_workers_draw_at_once_and_one_key_counts(stage: Stage) -> None:
    await stage.open(beacon="file")
    await stage.join(*range(40))
    snapshot = await stage.start()
    gates = [Gate(b"\x01" * 16), Gate(b"\x02" * 16)]
    workers = [asyncio.create_task(make_draw(stage.drops, snapshot, {"file": gate}, "file")) for gate in gates]
    for gate in gates:
        await gate.asked.wait()
    gates[1].go.set()
    assert await workers[1]
    gates[0].go.set()
    assert not await workers[0], "the second finds that it has been made"
    await require_drawn(stage, [hash_of(name) for name in range(40)], beacon=b"\x02" * 16)
    _, beacon = await stage.drops.draw_record(DROP)
    assert (beacon["kind"], beacon["value"]) == ("file", "02" * 16)
    assert not await make_draw(stage.drops, snapshot, {"file": gates[0]}, "file"), "nor can it be made again"


async def test_many_workers_draw_at_once(stage: Stage) -> None:
    await stage.open()
    await stage.join(*range(100))
    snapshot = await stage.start()
    revealed = await asyncio.gather(*(make_draw(stage.drops, snapshot, {}, "none") for _ in range(8)))
    assert sum(revealed) == 1
    await require_drawn(stage, [hash_of(name) for name in range(100)])


async def test_what_one_has_closed_another_reveals(stage: Stage) -> None:
    await stage.open(beacon="file")
    await stage.join(*range(40))
    snapshot = await stage.start()
    stopped = Gate(b"\x01" * 16)
    worker = asyncio.create_task(make_draw(stage.drops, snapshot, {"file": stopped}, "file"))
    await stopped.asked.wait()
    worker.cancel()
    with suppress(asyncio.CancelledError):
        await worker
    closed = await stage.now()
    assert closed.lines[0].root
    assert closed.undrawn
    other = Gate(b"\x02" * 16)
    other.go.set()
    assert await make_draw(stage.drops, closed, {"file": other}, "file")
    await require_drawn(stage, [hash_of(name) for name in range(40)], beacon=b"\x02" * 16)


async def test_one_who_saw_other_entries_reveals_nothing(stage: Stage) -> None:
    """A worker whose reading was wrong cannot bend what another has closed."""
    await stage.open()
    await stage.join(*range(10))
    snapshot = await stage.start()
    outcome, _, roots, _ = await stage.drops.draw(DROP, "close", ["ab" * 32])
    assert (outcome, roots) == (DrawOutcome.CLOSED, ["ab" * 32])
    outcome, *_ = await stage.drops.draw(DROP, "reveal", ["cd" * 32], ["ef" * 32], {"kind": "none", "value": ""})
    assert outcome is DrawOutcome.REFUSED
    assert (await stage.now()).undrawn
    assert await make_draw(stage.drops, snapshot, {}, "none")
    assert (await stage.now()).lines[0].key == draw_key(SECRET, bytes.fromhex("ab" * 32), 10, b"").hex()


async def test_a_store_that_is_away_in_between_holds_it_up_and_changes_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.open()
    await stage.join(*range(10))
    snapshot = await stage.start()

    async def away(_drop_id: str) -> Any:
        raise StoreUnavailable(what="The store cannot be reached.")

    with monkeypatch.context() as patch:
        patch.setattr(stage.drops, "draw_record", away)
        with pytest.raises(StoreUnavailable):
            await make_draw(stage.drops, snapshot, {}, "none")
    assert await make_draw(stage.drops, snapshot, {}, "none")
    await require_drawn(stage, [hash_of(name) for name in range(10)])


async def test_a_drop_by_arrival_is_never_drawn(stage: Stage) -> None:
    await stage.open(order="arrival")
    await stage.join(*range(3))
    await stage.drops.steer(DROP, "open")
    _, snapshot = await stage.drops.advance(DROP, 50)
    assert not snapshot.undrawn
    assert not await make_draw(stage.drops, snapshot, {}, "none")
    assert [line.root for line in (await stage.now()).lines] == [""]


# ------------------------------------------------------------------------------------------------------------- the beacon


async def test_a_beacon_that_comes_too_late_is_left_out_and_said_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admission.beacon.value_in_time.__kwdefaults__", {"deadline_s": 0.02})
    await stage.open(beacon="file")
    await stage.join(*range(5))
    assert await make_draw(stage.drops, await stage.start(), {"file": Gate(b"\x01" * 16)}, "file")
    await require_drawn(stage, [hash_of(name) for name in range(5)])
    _, beacon = await stage.drops.draw_record(DROP)
    assert (beacon["kind"], beacon["value"]) == ("file", "")
    assert "did not answer within 0.02 s" in beacon["why"]


async def test_what_people_bring_in_a_file_is_in_the_key(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admission.beacon.LOOK_AGAIN_S", 0.01)
    await stage.open(beacon="file")
    await stage.join(*range(5))
    path = tmp_path / "dice"
    beacon = FileBeacon(path)
    path.write_text("00" * 16, encoding="ascii")
    snapshot = await stage.start()
    drawing = asyncio.create_task(make_draw(stage.drops, snapshot, {"file": beacon}, "file"))
    async with asyncio.timeout(10):
        while not (closed := await stage.now()).lines[0].root:
            pass
    assert closed.undrawn, "last drop's dice do not count"
    path.with_suffix(".new").write_text("ab" * 16, encoding="ascii")
    path.with_suffix(".new").replace(path)
    assert await drawing
    await require_drawn(stage, [hash_of(name) for name in range(5)], beacon=bytes.fromhex("ab" * 16))


async def test_a_beacon_nobody_has_set_up_does_not_hold_the_drop_up(stage: Stage) -> None:
    await stage.open(beacon="drand")
    await stage.join(*range(5))
    assert await make_draw(stage.drops, await stage.start(), {}, "drand")
    _, beacon = await stage.drops.draw_record(DROP)
    assert beacon["why"] == "No beacon of the kind drand is configured."


# ------------------------------------------------------------------------------------------------------------- in a worker


class Worker:
    """An inlet, and what it sees."""

    def __init__(self, stage: Stage, beacons: dict[str, Beacon] | None = None) -> None:
        self._wake = asyncio.Event()
        self.live: LiveDrop | None = None
        self.inlet = Inlet(stage.drops, stage.settings.waiting_room, self._expire, self._see, None, beacons)

    async def _expire(self, _drop_id: str, _batch_size_max: int) -> int:
        return 0

    def _see(self, live: LiveDrop) -> None:
        self.live = live
        self._wake.set()

    async def until(self, found: Any) -> LiveDrop:
        """The first picture of which `found` is true."""
        async with asyncio.timeout(10):
            while self.live is None or not found(self.live):
                self._wake.clear()
                await self._wake.wait()
        return self.live

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.inlet.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


def is_prepared(live: LiveDrop) -> bool:
    return all(draw is not None and draw.prepared for draw in live.draws)


async def test_two_workers_end_with_the_same_order(stage: Stage) -> None:
    await stage.open()
    await stage.join(*range(200))
    workers = [Worker(stage), Worker(stage)]
    async with workers[0].running(), workers[1].running():
        await stage.drops.steer(DROP, "open")
        lives = [await worker.until(is_prepared) for worker in workers]
    orders = [[live.draws[0].queue_number(entry) for entry in range(200)] for live in lives if live.draws[0]]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(200))


async def test_a_worker_stopped_while_the_beacon_is_silent_is_followed_by_another(stage: Stage) -> None:
    await stage.open(beacon="file")
    await stage.join(*range(30))
    silent, speaks = Gate(b"\x01" * 16), Gate(b"\x02" * 16)
    speaks.go.set()
    first, second = Worker(stage, {"file": silent}), Worker(stage, {"file": speaks})
    async with first.running():
        await stage.drops.steer(DROP, "open")
        await silent.asked.wait()
        assert first.live is not None
        assert first.live.snapshot.serving_number == 0, "nobody is served before the draw"
    async with second.running():
        await second.until(is_prepared)
    await require_drawn(stage, [hash_of(name) for name in range(30)], beacon=b"\x02" * 16)


async def test_who_left_before_the_draw_is_passed_by(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admission.inlet.GONE_AT_ONCE", 4)
    await stage.open(groups=(Group("vip", "Members", 200),), capacity=1, rate_per_min=1)
    await stage.join(*range(60))
    await stage.join(*(f"v{number}" for number in range(10)), line=1)
    leavers: list[int | str] = [3, 8, 13, 21, 34, 55, "v2", "v7"]
    for name in leavers:
        await stage.leave(name)
    snapshot = await stage.start()
    worker = Worker(stage)
    async with worker.running():
        live = await worker.until(lambda live: is_prepared(live) and not live.snapshot.leaving)
    hashes = [hash_of(name) for name in range(60)], [hash_of(f"v{number}") for number in range(10)]
    await require_drawn(stage, *hashes)
    everybody, members = live.draws
    assert everybody is not None
    assert members is not None
    expected = [everybody.queue_number(name) for name in leavers if isinstance(name, int)]
    expected += [place_of(1, members.queue_number(number)) for number in (2, 7)]
    told: Any = await stage.store.zrange(KEYS.gone, 0, -1, withscores=True)
    gone = {int(place): int(score) for place, score in told}
    serving = [line.serving_number for line in live.snapshot.lines]
    assert set(gone) <= set(expected)
    passed = set(expected) - set(gone)
    assert all(place % 1_000_000_000 < serving[place // 1_000_000_000] for place in passed), "only those passed already are forgotten"
    assert all(place == score for place, score in gone.items())
    assert snapshot.leaving == len(leavers)
