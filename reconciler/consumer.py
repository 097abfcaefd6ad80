"""The consumer of one drop's journal: read, record, acknowledge, announce; the next batch is read meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import structlog

from flashsale.errors import DatabaseUnavailable, StoreUnavailable, StoreUnknown
from reconciler.agents import Backoff
from reconciler.entries import Drawn, DropEvent, Entry, UnreadableEntry, read_entry
from reconciler.journal import order_of
from reconciler.orders import AllotmentRefused, Batch, OrderRecorder, Overtaken, Recorded
from reconciler.stock import StockRecorder, Told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from flashsale.settings import ReconcilerSettings
    from reconciler.entries import ReservationTransition
    from reconciler.journal import Journal
    from reconciler.metrics import ReconcilerMetrics

LOADS_IN_HAND_MAX = 3
UNFINISHED_MAX = 16
"""loads recorded or being recorded, and not yet acknowledged"""
RECORDINGS_MAX = 2
"""While one batch waits for its commit to reach the disk, the rows of the next go in."""
HEAD_START_S = 0.001
EARLIER_WAIT_S = 1.0
"""How long a batch that does not fit the allotment waits in hand for earlier entries to be finished elsewhere."""

Fence: TypeAlias = "Callable[[str, int], Awaitable[object]]"
"""Closes a drop (its id, the epoch that is known) until it is recovered; raises StoreUnavailable or StoreUnknown."""

_log = structlog.get_logger("reconciler")


class Load:
    """Entries that are recorded together, understood, folded and laid out in columns."""

    def __init__(self, drop_id: str, read: Sequence[Entry | UnreadableEntry]) -> None:
        self.entries = [entry for entry in read if isinstance(entry, Entry)]
        self.unreadable = [entry for entry in read if isinstance(entry, UnreadableEntry)]
        transitions = (transition for entry in self.entries for transition in entry.transitions)
        self.epoch = min((entry.epoch for entry in self.entries if entry.epoch), default=0)
        self.batch = Batch(drop_id, transitions, max((entry.sequence for entry in self.entries), default=0), self.epoch)
        changes = [change for entry in self.entries for change in entry.stock_changes]
        self.raises = [change for change in changes if change.delta >= 0]
        self.lowers = [change for change in changes if change.delta < 0]
        self.read_at = time.monotonic()

    def __len__(self) -> int:
        return len(self.entries) + len(self.unreadable)

    @property
    def event(self) -> DropEvent | None:
        """The latest change of the drop's state."""
        return max((entry.event for entry in self.entries if entry.event), key=lambda event: event.at_ms, default=None)

    @property
    def drawn(self) -> Drawn | None:
        """The draw, made once in a drop's life."""
        return next((entry.drawn for entry in self.entries if entry.drawn), None)

    @property
    def entry_ids(self) -> set[str]:
        """Of all entries."""
        return {entry.entry_id for entry in self.entries} | {entry.entry_id for entry in self.unreadable}

    @property
    def payments(self) -> list[ReservationTransition]:
        """Every transition that tells of a payment."""
        return [transition for entry in self.entries for transition in entry.transitions if transition.payment_reference]

    def before(self, epoch: int) -> Load:
        """What is known to be of an earlier epoch."""
        return Load(self.batch.drop_id, [entry for entry in self.entries if 0 < entry.epoch < epoch])

    def since(self, epoch: int) -> Load:
        """All the rest."""
        return Load(self.batch.drop_id, [*(entry for entry in self.entries if not 0 < entry.epoch < epoch), *self.unreadable])

    @property
    def of_later_version(self) -> set[str]:
        """Ids of the entries that only a later release can read."""
        return {entry.entry_id for entry in self.unreadable if entry.later_version}

    def failures(self, poison: Mapping[str, str]) -> dict[str, str]:
        """Entry id to reason, of the entries that nobody can record: unreadable ones and those of `poison` orders and changes."""
        failed = {entry.entry_id: entry.why for entry in self.unreadable if not entry.later_version}
        if poison:
            for entry in self.entries:
                for name in _names_in(entry):
                    if reason := poison.get(name):
                        failed[entry.entry_id] = f"{name}: {reason}"
        return failed

    def with_changes(self, change_ids: set[str]) -> set[str]:
        """Ids of the entries that tell of these changes of an allotment."""
        if not change_ids:
            return set()
        return {entry.entry_id for entry in self.entries if any(change.change_id in change_ids for change in entry.stock_changes)}


def _names_in(entry: Entry) -> list[str]:
    return [transition.reservation_id for transition in entry.transitions] + [change.change_id for change in entry.stock_changes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What recording a load came to."""

    orders: Recorded
    failed: Mapping[str, str]
    """entry id to reason, of the entries that nobody can record"""
    too_early: set[str]
    """ids of the entries that must come again: after others, or to a reconciler of a later release"""


class JournalConsumer:
    """Moves one drop's journal into Postgres.

    While Postgres works on one batch the next is read and laid out, and the one before acknowledged; more than
    `LOADS_IN_HAND_MAX` are never on their way to Postgres, nor more than `UNFINISHED_MAX` held in memory. Nothing is
    acknowledged before its commit. While Postgres is away the
    batches in hand are tried again, at least once a second.
    """

    def __init__(
        self,
        drop_id: str,
        journal: Journal,
        recorder: OrderRecorder,
        stock: StockRecorder,
        metrics: ReconcilerMetrics,
        settings: ReconcilerSettings,
        before_refusing: Callable[[], Awaitable[None]] | None = None,
        fence: Fence | None = None,
    ) -> None:
        """Puts it together.

        Args:
            drop_id: whose journal it is.
            journal: read from.
            recorder: of orders.
            stock: recorder of changes of allotments.
            metrics: what is counted.
            settings: sizes and waits.
            before_refusing: called before a payment becomes a refund because Postgres has no unit for it: the last occasion
                to find out that Postgres has forgotten what would free one, and to set the journal back.
            fence: closes the drop when its store has lost what this consumer has recorded.
        """
        self.name = f"journal {drop_id}"
        self._drop_id = drop_id
        self._journal = journal
        self._recorder = recorder
        self._stock = stock
        self._metrics = metrics
        self._settings = settings
        self._before_refusing = before_refusing
        self._fence = fence
        self._latest: Entry | None = None
        """of those recorded"""
        self._waiting: deque[Entry | UnreadableEntry] = deque()
        self._in_hand: list[asyncio.Task[None]] = []
        self._room = asyncio.Semaphore(LOADS_IN_HAND_MAX)
        self._lanes = asyncio.Semaphore(RECORDINGS_MAX)
        self._claim_at = 0.0
        self._has_left_some = False

    async def run(self, stop: asyncio.Event) -> None:
        """Work until stopping; what is in hand is finished first, unless Postgres is away."""
        backoff = Backoff()
        try:
            while not stop.is_set():
                try:
                    load = await self._claimed() or await self._next(self._settings.block_ms)
                except (StoreUnavailable, StoreUnknown) as error:
                    self._say_first(backoff, "journal_unreachable", error)
                    await backoff.wait(stop)
                    continue
                backoff.reset()
                if load:
                    await self._take_in_hand(load, stop)
        except asyncio.CancelledError:
            for work in self._in_hand:
                work.cancel()
            raise
        finally:
            await asyncio.gather(*self._in_hand, return_exceptions=True)
        await self._nothing_in_hand()
        await self._leave()

    async def drain(self) -> int:
        """Record everything the journal holds and nobody has taken; returns the number of entries. For commands and tests.

        Raises:
            StoreUnavailable: the journal cannot be read.
        """
        seen, never = 0, asyncio.Event()
        while load := await self._next(None):
            seen += len(load)
            await self._take_in_hand(load, never)
        await self._nothing_in_hand()
        return seen

    async def _take_in_hand(self, load: Load, stop: asyncio.Event) -> None:
        """Start on `load` when there is room for it.

        Returns once its statement should be on its way: laying out the next load keeps this process busy for longer than
        sending takes, and Postgres would be idle meanwhile.
        """
        while len(self._in_hand) >= UNFINISHED_MAX:
            await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)
            self._let_go_of_finished()
        self._let_go_of_finished()
        await self._room.acquire()
        work = asyncio.create_task(self._work(load, stop))
        self._in_hand.append(work)
        await asyncio.wait({work}, timeout=HEAD_START_S)

    def _let_go_of_finished(self) -> None:
        for work in [work for work in self._in_hand if work.done()]:
            self._in_hand.remove(work)
            work.result()

    async def _nothing_in_hand(self) -> None:
        in_hand, self._in_hand = self._in_hand, []
        await asyncio.gather(*in_hand)

    async def _work(self, load: Load, stop: asyncio.Event) -> None:
        try:
            try:
                async with self._lanes:
                    outcome = await self._record(load, stop)
            finally:
                # What was read goes to Postgres although the store does not take acknowledgements: it may be gone for good,
                # and whoever rebuilds the drop from Postgres must not be too early.
                self._room.release()
            if outcome:
                await self._settle(load, outcome)
        except Exception:
            _log.exception("batch_failed", drop=self._drop_id, entries=len(load))
            raise

    async def _next(self, block_ms: int | None) -> Load | None:
        """Entries of up to `batch_rows_max` orders (an entry is never cut), or None when there is nothing new."""
        taken: list[Entry | UnreadableEntry] = []
        orders: set[str] = set()
        last_read_was_full = True
        while True:
            if not self._waiting:
                if not last_read_was_full:
                    break
                found = await self._journal.read(self._settings.batch_entries_max, None if taken else block_ms)
                last_read_was_full = len(found) == self._settings.batch_entries_max
                self._waiting.extend(read_entry(entry.entry_id, entry.fields) for entry in found)
                continue
            orders |= _orders_of(self._waiting[0])
            if taken and len(orders) > self._settings.batch_rows_max:
                break
            taken.append(self._waiting.popleft())
        return Load(self._drop_id, taken) if taken else None

    async def _claimed(self) -> Load | None:
        """Now and then, entries that a consumer took and did not finish.

        Nothing of our own may be in hand meanwhile: we would take it from ourselves and count it as one more delivery.
        """
        if self._waiting or time.monotonic() < self._claim_at:
            return None
        await self._hold_the_store_to_it()
        await self._nothing_in_hand()
        claimed = await self._journal.claim(self._settings.claim_idle_ms, self._settings.batch_entries_max)
        if claimed.was_last or len(claimed.entries) < self._settings.batch_entries_max:
            self._claim_at = time.monotonic() + self._settings.claim_idle_ms / 2000
        if claimed.vanished:
            self._metrics.vanished_entries.labels(self._drop_id).inc(len(claimed.vanished))
            _log.error("journal_entries_vanished", drop=self._drop_id, entries=len(claimed.vanished), first=claimed.vanished[0])
        read = [read_entry(entry.entry_id, entry.fields) for entry in claimed.entries]
        return Load(self._drop_id, read) if read else None

    async def _hold_the_store_to_it(self) -> None:
        """Closes the drop when the store has lost the latest entry that is recorded.

        Workers find a store that went back in time by the number of changes; those who have seen less than was lost may have
        made as many new ones before anybody compared. The entry's id is of the one change that was lost.
        """
        latest = self._latest
        if latest is None or self._fence is None or not await self._journal.has_lost(latest.entry_id):
            return
        self._latest = None
        try:
            outcome = await self._fence(self._drop_id, latest.epoch)
        except (StoreUnavailable, StoreUnknown):
            self._latest = latest
            raise
        _log.error("journal_entry_lost", drop=self._drop_id, entry=latest.entry_id, fence=str(outcome))

    def _note_latest(self, load: Load) -> None:
        known = [entry for entry in load.entries if entry.epoch]
        if self._latest is not None:
            known.append(self._latest)
        self._latest = max(known, key=lambda entry: order_of(entry.entry_id), default=None)

    async def _settle(self, load: Load, outcome: Outcome) -> None:
        """Acknowledge and announce. If that fails the entries come again, which is harmless."""
        seconds = time.monotonic() - load.read_at
        recorded, failed = outcome.orders, outcome.failed
        self._count(recorded, seconds)
        self._note_latest(load)
        try:
            await asyncio.gather(
                self._journal.ack(
                    [entry_id for entry_id in load.entry_ids if entry_id not in failed and entry_id not in outcome.too_early]
                ),
                self._journal.announce(recorded.states),
            )
            await self._journal.give_back(load.of_later_version)
            buried = await self._journal.bury(failed, self._settings.deliveries_max)
        except StoreUnavailable as error:
            _log.warning("journal_not_acknowledged", drop=self._drop_id, entries=len(load), error=str(error))
            buried = []
        self._say_left(load)
        for entry_id in buried:
            self._metrics.dead_letters.labels(self._drop_id).inc()
            _log.error("journal_entry_dead", drop=self._drop_id, entry=entry_id, reason=failed[entry_id])
        _log.info(
            "batch_recorded",
            drop=self._drop_id,
            entries=len(load),
            orders=len(load.batch),
            rows=recorded.rows,
            paid=recorded.paid,
            refused=recorded.refused,
            failed=len(failed),
            too_early=len(outcome.too_early),
            ms=round(seconds * 1000, 1),
        )

    def _say_left(self, load: Load) -> None:
        """Once: while releases change, such entries come by again and again."""
        if load.of_later_version and not self._has_left_some:
            self._has_left_some = True
            _log.warning(
                "journal_entry_left",
                drop=self._drop_id,
                entry=min(load.of_later_version),
                reason="a later release wrote it",
                todo="It waits for a reconciler of that release; start one, or finish the upgrade.",
            )

    async def _record(self, load: Load, stop: asyncio.Event) -> Outcome | None:
        """Record until it is done; None when the entries have to come again: stopping came first, or others must go first."""
        backoff = Backoff()
        while True:
            try:
                if event := load.event:
                    await self._recorder.record_event(self._drop_id, event)
                if drawn := load.drawn:
                    await self._recorder.record_draw(self._drop_id, drawn)
                outcome = await self._record_current(load, stop)
            except DatabaseUnavailable as error:
                self._say_first(backoff, "database_held_up", error)
                if await backoff.wait(stop):
                    return None
            else:
                if backoff.failures:
                    _log.info("database_resumed", drop=self._drop_id, failures=backoff.failures)
                return outcome

    async def _record_current(self, load: Load, stop: asyncio.Event) -> Outcome | None:
        """As `_record_units`; what is of an epoch that the drop has left is set aside."""
        try:
            return await self._record_units(load, stop)
        except Overtaken as overtaken:
            await self._set_aside(load.before(overtaken.epoch), overtaken.epoch)
            return await self._record_current(load.since(overtaken.epoch), stop)

    async def _set_aside(self, overtaken: Load, epoch: int) -> None:
        """The drop was recovered without what these entries tell. What they sold may be another's; what was paid is kept."""
        held = await self._recorder.hold(self._drop_id, overtaken.payments)
        self._metrics.overtaken_entries.labels(self._drop_id).inc(len(overtaken))
        _log.error(
            "journal_entries_overtaken",
            drop=self._drop_id,
            entries=len(overtaken),
            epoch=overtaken.epoch,
            epoch_now=epoch,
            payments_held=held,
            todo="They were read before the store lost them and come after the recovery. See 'flashsale refunds list' for payments.",
        )

    async def _record_units(self, load: Load, stop: asyncio.Event) -> Outcome | None:
        """Units that came, then orders, then units that went: in this order nothing of one load is in its own way.

        Each step is a transaction of its own and may be repeated, so the entries are acknowledged after the last one.
        """
        raised = await self._stock.tell(self._drop_id, load.raises, load.epoch)
        try:
            recorded = await self._recorder.record(load.batch, may_refuse=False)
        except AllotmentRefused:
            if not await self._earlier_are_finished(load, stop):
                return None
            recorded = await self._recorder.record(load.batch)
        lowered = await self._stock.tell(self._drop_id, load.lowers, load.epoch)
        return _outcome(load, recorded, raised, lowered)

    async def _earlier_are_finished(self, load: Load, stop: asyncio.Event) -> bool:
        """Whether everything before the last entry of `load` is recorded, so that the allotment's refusal is final.

        An earlier entry that another consumer still has in hand, or left behind when it died, may give back the very unit
        that is missing. After `EARLIER_WAIT_S` the load is let go, because only then can this consumer claim such an entry;
        both come again, the earlier one first.
        """
        backoff, give_up_at = Backoff(), time.monotonic() + EARLIER_WAIT_S
        try:
            if self._before_refusing:
                await self._before_refusing()
            while await self._journal.earlier_unfinished(load.entry_ids):
                if time.monotonic() > give_up_at or await backoff.wait(stop):
                    _log.info("batch_waits_for_earlier_entries", drop=self._drop_id, entries=len(load))
                    return False
        except StoreUnavailable as error:
            self._say_first(backoff, "journal_unreachable", error)
            return False
        return True

    def _count(self, recorded: Recorded, seconds: float) -> None:
        self._metrics.orders_recorded.labels(self._drop_id).inc(recorded.rows)
        self._metrics.orders_paid.labels(self._drop_id).inc(recorded.paid)
        self._metrics.refunds_due.labels(self._drop_id).inc(recorded.refused)
        self._metrics.batch_seconds.labels(self._drop_id).observe(seconds)

    def _say_first(self, backoff: Backoff, event: str, error: Exception) -> None:
        if not backoff.failures:
            _log.warning(event, drop=self._drop_id, error=str(error))

    async def _leave(self) -> None:
        try:
            await self._journal.leave()
        except StoreUnavailable as error:
            _log.warning("journal_not_left", drop=self._drop_id, error=str(error))


def _outcome(load: Load, recorded: Recorded, *told: Told) -> Outcome:
    poison = dict(recorded.poison)
    too_early: set[str] = set()
    for part in told:
        poison |= part.poison
        too_early |= part.too_early
    return Outcome(recorded, load.failures(poison), load.with_changes(too_early) | load.of_later_version)


def _orders_of(entry: Entry | UnreadableEntry) -> set[str]:
    return {transition.reservation_id for transition in entry.transitions} if isinstance(entry, Entry) else set()
