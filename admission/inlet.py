"""The inlet: every worker beats for every drop, and the first in each beat raises the serving number.

There is no leader. The script does a beat's work once, whoever asks; all workers get the picture back, and that picture
is what they answer shoppers from.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from admission.drawing import DrawStore, draws_of, make_draw, prepare
from admission.pace import Pace, Signals, plan
from admission.places import Draws, queue_place
from admission.serving import encode_document, serving_document
from flashsale.errors import FlashsaleError, Recovering, ScriptError
from flashsale.log import Trouble
from flashsale.model import BeatPlan, DrawOutcome, Drop, DropState, Inspection, Snapshot
from flashsale.settings import WaitingRoomSettings

if TYPE_CHECKING:
    from admission.beacon import Beacon

LOOK_AGAIN_S = 1.0
REASONS_MAX = 4
"""different reasons that are said while beats fail one after the other"""
OVER_AFTER_MS = 60_000
OVER_PAUSE_S = 10.0
"""between looks at a drop that closed some time ago and in which nothing is reserved any more: there may be years of them"""
DROPS_MAX = 1000
"""drops with beats; those that are over do not count"""
EXPIRE_BATCH_MAX = 200
RECORDED_EVERY_S = 10.0
"""how often Postgres is asked which drops the store should hold; a drop's life does not depend on the answer"""
RECORDED_TIMEOUT_S = 1.0
BACKOFF_MAX_S = 0.5
"""While the store is away a beat costs nothing but a refusal, and the one that is let through finds out that it is back."""

GONE_AT_ONCE = 500
LATENCY_SHARE = 0.2
"""of a new call in the running mean of what a call to the store takes"""

_BEATING = (DropState.WAITING, DropState.OPEN, DropState.PAUSED)


class DropBeats(DrawStore, Protocol):
    """What the inlet needs of `flashsale.drops.DropStore`."""

    async def ids(self) -> set[str]: ...  # noqa: D102 - see DropStore
    async def inspect(self, drop_id: str) -> Inspection: ...  # noqa: D102 - see DropStore
    async def advance(self, drop_id: str, beat_ms: int, plan: BeatPlan) -> tuple[bool, Snapshot]: ...  # noqa: D102 - see DropStore
    async def leaving(self, drop_id: str, count: int) -> list[int]: ...  # noqa: D102 - see DropStore
    async def fence_behind(self, drop_id: str) -> None: ...  # noqa: D102 - see DropStore


@dataclass(frozen=True, slots=True)
class LiveDrop:
    """A drop as this worker last saw it."""

    definition: Drop
    snapshot: Snapshot
    document: bytes
    pace: Pace
    """the plan for the next beat, whose rate the document tells"""
    recovering: bool = False
    draws: Draws = ()
    """of the drop's lines, for working out queue numbers"""


class Inlet:
    """Beats for all drops and keeps the picture of each.

    `expire` ends overdue reservations of a drop; the inlet calls it when it sees any, so that units come back although
    no reconciler is running.
    """

    def __init__(
        self,
        drops: DropBeats,
        room: WaitingRoomSettings,
        expire: Callable[[str, int], Awaitable[int]],
        on_change: Callable[[LiveDrop], None],
        recorded: Callable[[], Awaitable[Mapping[str, Drop]]] | None = None,
        beacons: Mapping[str, Beacon] | None = None,
    ) -> None:
        """Put it together; see the class.

        Args:
            recorded: the drops the store should hold, as Postgres has them, by id. A worker started after a loss knows by it
                that a drop is recovering and not made up. Never asked for a shopper's request.
            beacons: of draws, by kind.
        """
        self._drops = drops
        self._room = room
        self._expire = expire
        self._on_change = on_change
        self._live: dict[str, LiveDrop] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._draws = DrawTasks(drops, beacons or {})
        self._latency_ms = 0.0
        self._looked = asyncio.Event()
        self._recorded = recorded
        self._should_be: Mapping[str, Drop] = {}
        self._ask_recorded_at = 0.0
        self._told: set[str] = set()
        """drops it was said of that they are recovering"""
        self._log = structlog.get_logger("inlet")
        self._unread = Trouble(self._log, "recorded_drops_not_read", "recorded_drops_read")
        self._unseen = Trouble(self._log, "drops_not_seen", "drops_seen")
        self._some_unseen = Trouble(self._log, "some_drops_not_seen", "all_drops_seen")
        self._too_many = Trouble(self._log, "too_many_drops", "drops_within_limit")
        self.ready = asyncio.Event()
        """set after the first complete look at the store"""

    def get(self, drop_id: str) -> LiveDrop | None:
        """The drop as last seen, or None when this worker does not know it."""
        return self._live.get(drop_id)

    def all(self) -> list[LiveDrop]:
        """All drops known to this worker."""
        return list(self._live.values())

    def lost(self, drop_id: str) -> bool:
        """Whether the store should hold the drop and this worker has not seen it there."""
        return drop_id not in self._live and drop_id in self._should_be

    def absent(self) -> list[Drop]:
        """Drops the store should hold that this worker has not seen there."""
        return [drop for drop_id, drop in self._should_be.items() if drop_id not in self._live]

    async def run(self) -> None:
        """Looks for drops and beats for each, until cancelled."""
        pause_s = LOOK_AGAIN_S
        async with asyncio.TaskGroup() as group, self._draws:
            while True:
                try:
                    await self._ask_recorded()
                    await self._look(group)
                    pause_s = LOOK_AGAIN_S
                    self._unseen.passed()
                except FlashsaleError as error:
                    self._unseen.met(error=str(error))
                    pause_s = min(pause_s * 2, BACKOFF_MAX_S)
                self._looked.set()
                self._looked = asyncio.Event()
                await asyncio.sleep(pause_s * random.uniform(0.8, 1.0))  # noqa: S311 - spreads workers, no secret

    async def next_look(self) -> None:
        """Returns after the next look at which drops there are."""
        await self._looked.wait()

    async def _ask_recorded(self) -> None:
        """Now and then; when Postgres does not answer, what it said last stays true."""
        now = asyncio.get_running_loop().time()
        if self._recorded is None or now < self._ask_recorded_at:
            return
        self._ask_recorded_at = now + RECORDED_EVERY_S
        try:
            async with asyncio.timeout(RECORDED_TIMEOUT_S):
                self._should_be = await self._recorded()
            self._unread.passed()
        except (FlashsaleError, TimeoutError) as error:
            self._unread.met(error=str(error) or "it took too long")

    async def _look(self, group: asyncio.TaskGroup) -> None:
        unseen: list[FlashsaleError] = []
        ids = await self._drops.ids() | self._should_be.keys()
        beating = sum(not _is_over(self._live[drop_id].snapshot) for drop_id in self._tasks)
        for drop_id in sorted(ids - self._tasks.keys(), key=lambda drop_id: (drop_id not in self._should_be, drop_id)):
            if beating >= DROPS_MAX:
                self._too_many.met(drops_max=DROPS_MAX, todo="Shoppers of the other drops wait in vain. Close drops that nobody needs.")
                break
            try:
                await self._meet(drop_id)
            except Recovering:
                if drop_id not in self._told:
                    self._log.error("drop_recovering", drop=drop_id, todo=f"Look at the store, then run 'flashsale recover {drop_id}'.")
                self._told.add(drop_id)
                continue
            except ScriptError as error:  # spoilt data of one drop; the others go on
                self._log.error("drop_unreadable", drop=drop_id, error=str(error))
                continue
            except FlashsaleError as error:  # in a Cluster the others may be on nodes that answer
                unseen.append(error)
                continue
            self._told.discard(drop_id)
            self._tasks[drop_id] = group.create_task(self._beat_for(drop_id), name=f"inlet:{drop_id}")
            beating += not _is_over(self._live[drop_id].snapshot)
        else:
            self._too_many.passed()
        if unseen and not self._tasks:
            raise unseen[0]
        if unseen:
            self._some_unseen.met(drops=len(unseen), error=str(unseen[0]))
        else:
            self._some_unseen.passed()
        self.ready.set()

    async def _meet(self, drop_id: str) -> None:
        inspection = await self._drops.inspect(drop_id)
        self._see(inspection.definition, inspection.snapshot)

    def _see(self, definition: Drop, snapshot: Snapshot, *, recovering: bool = False) -> None:
        pace = plan(snapshot, Signals(snapshot.flow.journal_age_ms, self._latency_ms, snapshot.signal_permille / 1000))
        document = encode_document(serving_document(snapshot, self._room, pace=pace, recovering=recovering))
        before = self._live.get(snapshot.drop_id)
        draws = draws_of(snapshot, before.draws if before else ())
        live = self._live[snapshot.drop_id] = LiveDrop(definition, snapshot, document, pace, recovering, draws)
        self._on_change(live)

    async def _beat_for(self, drop_id: str) -> None:
        failures, said = 0, set[str]()
        while True:
            live = self._live[drop_id]
            try:
                snapshot = await self._beat(live)
                failures = 0
                said.clear()
                definition = live.definition
                if snapshot.digest != live.snapshot.digest:
                    inspection: Inspection = await self._drops.inspect(drop_id)
                    definition = inspection.definition
                self._see(definition, snapshot)
                self._draws.attend(self._live[drop_id])
                if snapshot.overdue:
                    await self._expire(drop_id, EXPIRE_BATCH_MAX)
            except Recovering:
                failures += 1
                self._see(live.definition, live.snapshot, recovering=True)
                if failures == 1:
                    self._log.error("drop_recovering", drop=drop_id, todo=f"Look at the store, then run 'flashsale recover {drop_id}'.")
                    await self._fence(drop_id)
            except FlashsaleError as error:
                failures += 1
                # A connection that was lost may be the first of it, and what is behind it comes later.
                if str(error) not in said and len(said) < REASONS_MAX:
                    said.add(str(error))
                    self._log.warning("beat_failed", drop=drop_id, error=str(error))
            await asyncio.sleep(self._pause_s(self._live[drop_id].snapshot, failures))

    async def _beat(self, live: LiveDrop) -> Snapshot:
        """A beat with the plan that follows from what the last one saw."""
        pace = live.pace
        told = pace.told(live.document)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            _, snapshot = await self._drops.advance(live.snapshot.drop_id, self._room.beat_ms, told)
        except FlashsaleError:  # given up after its time, or refused at once while the store is away: that says nothing
            self._latency_ms += LATENCY_SHARE * max(0.0, (clock() - began) * 1000 - self._latency_ms)
            raise
        self._latency_ms += LATENCY_SHARE * ((clock() - began) * 1000 - self._latency_ms)
        return snapshot

    async def _fence(self, drop_id: str) -> None:
        """What this worker has seen and the store has not must be heard by those who have not seen it."""
        try:
            await self._drops.fence_behind(drop_id)
        except FlashsaleError as error:
            self._log.warning("drop_not_fenced", drop=drop_id, error=str(error))

    def _pause_s(self, snapshot: Snapshot, failures: int) -> float:
        beat_s = self._room.beat_ms / 1000
        if failures:
            return float(min(beat_s * 2.0 ** min(failures, 8), BACKOFF_MAX_S))
        if snapshot.state in _BEATING or snapshot.reservations_live:
            return beat_s
        if _is_over(snapshot):
            return OVER_PAUSE_S
        until_join_s = (snapshot.joins_at_ms - snapshot.now_ms) / 1000
        return max(beat_s, min(LOOK_AGAIN_S, until_join_s)) if snapshot.state is DropState.SCHEDULED else LOOK_AGAIN_S


def _is_over(snapshot: Snapshot) -> bool:
    closed = snapshot.state is DropState.CLOSED and not snapshot.reservations_live
    return closed and snapshot.now_ms > snapshot.closes_at_ms + OVER_AFTER_MS


class DrawTasks:
    """What has to be done for draws beside the beats: making one, working out where those are who left before it."""

    def __init__(self, drops: DropBeats, beacons: Mapping[str, Beacon]) -> None:
        self._drops = drops
        self._beacons = beacons
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger("draw")

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def attend(self, live: LiveDrop) -> None:
        """Starts what is due for a drop, unless it is being done; called after every beat."""
        drop_id, snapshot = live.snapshot.drop_id, live.snapshot
        unprepared = any(draw is not None and not draw.prepared for draw in live.draws)
        if drop_id in self._tasks or not (snapshot.undrawn or unprepared or (snapshot.key and snapshot.leaving)):
            return
        task = self._tasks[drop_id] = asyncio.create_task(self._work(live), name=f"draw:{drop_id}")
        task.add_done_callback(partial(self._ended, drop_id))

    def _ended(self, drop_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(drop_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("draw_failed", drop=drop_id, error=repr(error), todo="The next beat tries again; the line waits for the draw.")

    async def _work(self, live: LiveDrop) -> None:
        snapshot = live.snapshot
        try:
            if snapshot.undrawn:
                if await make_draw(self._drops, snapshot, self._beacons, live.definition.beacon):
                    self._log.info("drawn", drop=snapshot.drop_id, entries=sum(line.entries or 0 for line in snapshot.lines))
                return
            await prepare(live.draws)
            await self._tell_gone(live)
        except FlashsaleError as error:
            self._log.warning("draw_held_up", drop=snapshot.drop_id, error=str(error))

    async def _tell_gone(self, live: LiveDrop) -> None:
        drop_id = live.snapshot.drop_id
        while places := await self._drops.leaving(drop_id, GONE_AT_ONCE):
            queue_places = [queue_place(place, live.draws) for place in places]
            outcome, *_ = await self._drops.draw(drop_id, "gone", places, queue_places)
            if outcome is DrawOutcome.REFUSED:
                return
            await asyncio.sleep(0)
