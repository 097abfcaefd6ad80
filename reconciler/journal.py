"""The journal of one drop: reading it, acknowledging it, setting aside what nobody understands, cleaning up behind.

Delivery is at least once. An entry is *finished* once it was delivered to the group and acknowledged; until then it is
never deleted. Everything here may be repeated, and any number of processes may work on one journal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from flashsale.connections.wording import reason_of
from flashsale.errors import StoreUnavailable
from flashsale.keys import DROPS, drop_keys
from reconciler.entries import sequence_of

GROUP = "reconciler"
GIVEN_BACK_IDLE_MS = 86_400_000
"""longer than anybody waits before taking over"""
START = "0"
"""Where the group begins: a group made anew reads everything that is still there, and what was recorded is absorbed."""
DEAD_FIELD_BYTES_MAX = 65_536
"""Of each original field kept with a dead letter; a whole entry of 256 transitions is smaller."""
TRIM_PAGE_ENTRIES = 1_000
TRIM_PAGES_MAX = 20
WINDOW_PAGE_ENTRIES = 200

Store: TypeAlias = Redis
"""What the composition root opens and passes in; nothing else here needs to know its type."""


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry as it was read."""

    entry_id: str
    fields: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Claimed:
    """Entries taken over from consumers that did not finish them."""

    entries: list[RawEntry] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    """ids of unfinished entries that somebody deleted; only the auditor can tell what they held"""
    was_last: bool = True
    """the next page is the first one again"""


@dataclass(frozen=True, slots=True)
class JournalMark:
    """Where a journal stood at one moment."""

    last_id: str
    """of the last entry ever added"""
    oldest_unfinished_ms: int | None
    """age of the oldest unfinished entry; None when everything is finished"""


async def live_drop_ids(store: Store) -> set[str]:
    """Ids of the drops the store has been given, those that are long over among them.

    Raises:
        StoreUnavailable: it does not answer.
    """
    with store_errors():
        members: set[Any] = await store.smembers(DROPS)
        return {member.decode() for member in members}


async def has_outstanding(store: Store, drop_id: str) -> bool:
    """Whether a drop has journal entries that are not finished, or reservations that are still to end.

    Raises:
        StoreUnavailable: it does not answer.
    """
    if await Journal(store, drop_id, "registry").oldest_unfinished_ms() is not None:
        return True
    with store_errors():
        return bool(await store.zcard(drop_keys(drop_id).expiries))


async def set_back(store: Store, drop_id: str) -> None:
    """Has everything that is still in a drop's journal delivered once more, finished or not.

    Raises:
        StoreUnavailable: it does not answer.
    """
    with store_errors():
        try:
            await store.xgroup_setid(drop_keys(drop_id).journal, GROUP, START)
        except ResponseError as error:
            # A group that is still to be made begins there anyway.
            if not str(error).startswith("NOGROUP") and "requires the key to exist" not in str(error):
                raise


class Journal:
    """One drop's journal, read as one consumer of the group."""

    def __init__(self, store: Store, drop_id: str, consumer: str) -> None:
        """`store` needs a connection for the blocking read and one more; `consumer` must be unique to this process."""
        # The library's annotations mix str and bytes; replies here are always bytes.
        self._store: Any = store
        self._keys = drop_keys(drop_id)
        self._consumer = consumer
        self._claim_from = "0-0"

    async def read(self, entries_max: int, block_ms: int | None = None) -> list[RawEntry]:
        """New entries, oldest first; waits up to `block_ms` for the first one, not at all when None.

        Makes the group when there is none.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with store_errors():
            try:
                return await self._read(entries_max, block_ms)
            except ResponseError as error:
                await self._make_group(error)
            return await self._read(entries_max, block_ms)

    async def _read(self, entries_max: int, block_ms: int | None) -> list[RawEntry]:
        reply = await self._store.xreadgroup(GROUP, self._consumer, {self._keys.journal: ">"}, count=entries_max, block=block_ms)
        return [_raw(found) for _, entries in reply or [] for found in entries]

    async def claim(self, idle_ms: int, entries_max: int) -> Claimed:
        """A page of entries delivered at least `idle_ms` ago and not finished since, whoever had them.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with store_errors():
            try:
                cursor, entries, vanished = await self._store.xautoclaim(
                    self._keys.journal, GROUP, self._consumer, idle_ms, start_id=self._claim_from, count=entries_max
                )
            except ResponseError as error:
                await self._make_group(error)
                return Claimed()
        self._claim_from = cursor.decode()
        return Claimed([_raw(found) for found in entries], [entry_id.decode() for entry_id in vanished], was_last=cursor == b"0-0")

    async def earlier_unfinished(self, entry_ids: Collection[str]) -> bool:
        """Whether an entry that comes before the last of `entry_ids`, and is not among them, is not finished yet.

        So is, once the group was set back, whatever has not been delivered again.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        last = max(entry_ids, key=order_of)
        with store_errors():
            delivered = await self._last_delivered()
            if delivered is None or order_of(delivered) < order_of(last):
                return True
            # One more than are ours: if all that come back are ours, no other one comes before them.
            found = await self._store.xpending_range(self._keys.journal, GROUP, min="-", max="(" + last, count=len(entry_ids) + 1)
        return any(pending["message_id"].decode() not in entry_ids for pending in found)

    async def ack(self, entry_ids: Sequence[str]) -> None:
        """Mark entries as finished. Call it after the commit, never before.

        Raises:
            StoreUnavailable: unknown whether they are; they may be delivered again, which is harmless.
        """
        if entry_ids:
            with store_errors():
                await self._store.xack(self._keys.journal, GROUP, *entry_ids)

    async def give_back(self, entry_ids: Collection[str]) -> None:
        """Let others have at once what this consumer cannot finish. Kept, it would be nobody's until it counts as idle again, and
        whoever asks as often as the others may be the first to get it every time.

        Raises:
            StoreUnavailable: others get it later.
        """
        if entry_ids:
            with store_errors():
                await self._store.xclaim(
                    self._keys.journal, GROUP, self._consumer, 0, list(entry_ids), idle=GIVEN_BACK_IDLE_MS, justid=True
                )

    async def announce(self, states: Sequence[tuple[str, str]]) -> None:
        """Tell API workers which orders Postgres now has. A hint: whoever misses it looks for itself.

        Raises:
            StoreUnavailable: the hint is lost.
        """
        if states:
            with store_errors():
                await self._store.publish(self._keys.recorded, msgspec.msgpack.encode(states))

    async def bury(self, reasons: Mapping[str, str], deliveries_max: int) -> list[str]:
        """Move those of the entries that were delivered `deliveries_max` times to the dead-letter stream.

        `reasons` says for each entry id why it cannot be recorded. Returns the ids moved; the others stay unfinished and
        come back by `claim`.

        Raises:
            StoreUnavailable: some may not have been moved; they come back.
        """
        buried = []
        with store_errors():
            for entry_id, reason in reasons.items():
                found = await self._store.xpending_range(self._keys.journal, GROUP, min=entry_id, max=entry_id, count=1)
                if found and found[0]["times_delivered"] >= deliveries_max:
                    await self._bury(entry_id, reason, found[0]["times_delivered"])
                    buried.append(entry_id)
        return buried

    async def _bury(self, entry_id: str, reason: str, deliveries: int) -> None:
        found = await self._store.xrange(self._keys.journal, min=entry_id, max=entry_id, count=1)
        letter: dict[Any, Any] = {"id": entry_id, "reason": reason[:1000], "deliveries": deliveries}
        for name, value in found[0][1].items() if found else ():
            letter[b"entry:" + name] = value[:DEAD_FIELD_BYTES_MAX]
            if len(value) > DEAD_FIELD_BYTES_MAX:
                letter[b"cut:" + name] = len(value)
        async with self._store.pipeline(transaction=True) as together:
            together.xadd(self._keys.dead, letter)
            together.xack(self._keys.journal, GROUP, entry_id)
            await together.execute()

    async def mark(self) -> JournalMark:
        """Where the journal stands.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with store_errors():
            delivered = await self._last_delivered()
            oldest = await self._oldest_unfinished(delivered)
            seconds, micros = await self._store.time()
            last = (await self._store.xinfo_stream(self._keys.journal))["last-generated-id"] if delivered or oldest else b"0-0"
        age = None if oldest is None else max(0, seconds * 1000 + micros // 1000 - order_of(oldest)[0])
        return JournalMark(last_id=last.decode(), oldest_unfinished_ms=age)

    async def oldest_unfinished_ms(self) -> int | None:
        """Age of the oldest entry that is not finished, whether delivered or not; None when all are.

        The store's own `lag` is not used: it is wrong or missing once entries were deleted.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return (await self.mark()).oldest_unfinished_ms

    async def unrecorded_from(self) -> str:
        """Where to begin with XRANGE so that every entry before it is finished.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with store_errors():
            delivered = await self._last_delivered()
            unfinished = await self._oldest_unfinished(delivered)
        return unfinished or ("-" if delivered is None else "(" + delivered)

    async def between(self, first: str, last: str, entries_max: int) -> list[RawEntry] | None:
        """The entries from `first` to `last`, finished or not; None when there are more than `entries_max`.

        Args:
            first: as XRANGE takes it.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        found: list[RawEntry] = []
        with store_errors():
            while len(found) <= entries_max:
                page = await self._store.xrange(self._keys.journal, min=first, max=last, count=WINDOW_PAGE_ENTRIES)
                found += [_raw(entry) for entry in page]
                if len(page) < WINDOW_PAGE_ENTRIES:
                    return found
                first = "(" + found[-1].entry_id
        return None

    async def sequence_before(self, first: str) -> int:
        """The highest sequence among the entries just before `first` (as `unrecorded_from` gives it); 0 when there are none.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if first == "-":
            return 0
        last = first.removeprefix("(") if first.startswith("(") else "(" + first
        with store_errors():
            entries = await self._store.xrevrange(self._keys.journal, max=last, min="-", count=WINDOW_PAGE_ENTRIES)
        return max((sequence_of(fields) for _, fields in entries), default=0)

    async def has_lost(self, entry_id: str) -> bool:
        """Whether an entry is gone that lies between those that are kept: the store has gone back in time.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with store_errors():
            first = await self._store.xrange(self._keys.journal, count=1)
            if not first or order_of(first[0][0].decode()) > order_of(entry_id):
                return False  # trimmed since, or the journal is another one
            return not await self._store.xrange(self._keys.journal, min=entry_id, max=entry_id, count=1)

    async def _last_delivered(self) -> str | None:
        """Id of the last entry the group was given; None when there is no group or no journal."""
        try:
            groups = await self._store.xinfo_groups(self._keys.journal)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return None
        return next((group["last-delivered-id"].decode() for group in groups if group["name"] == GROUP.encode()), None)

    async def _oldest_unfinished(self, delivered: str | None) -> str | None:
        if delivered is None:
            first = await self._store.xrange(self._keys.journal, count=1)
            return first[0][0].decode() if first else None
        # The undelivered are looked at first: an entry delivered in between is then found pending, never missed.
        ahead = await self._store.xrange(self._keys.journal, min="(" + delivered, count=1)
        pending = await self._store.xpending(self._keys.journal, GROUP)
        ids = [entry_id.decode() for entry_id in (pending["min"], ahead[0][0] if ahead else None) if entry_id]
        return min(ids, key=order_of, default=None)

    async def trim(self, keep_ms: int) -> int:
        """Delete entries that are finished and older than `keep_ms`; returns how many.

        By id, below the oldest unfinished entry, never by length; in bounded pages, so that no call holds the store up.
        The store drops whole nodes of the stream, so the youngest few finished entries may stay.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with store_errors():
            delivered = await self._last_delivered()
            if delivered is None:
                return 0
            seconds, _ = await self._store.time()
            unfinished = await self._oldest_unfinished(delivered)
            limits = [f"{seconds * 1000 - keep_ms}-0", delivered, *([unfinished] if unfinished else [])]
            return await self._trim_below(min(limits, key=order_of))

    async def _trim_below(self, entry_id: str) -> int:
        total = 0
        for _ in range(TRIM_PAGES_MAX):
            deleted = await self._store.xtrim(self._keys.journal, minid=entry_id, approximate=True, limit=TRIM_PAGE_ENTRIES)
            total += deleted
            if deleted == 0:
                break
        return total

    async def leave(self) -> None:
        """Take this consumer out of the group, unless it still has unfinished entries, which others claim.

        Raises:
            StoreUnavailable: it stays listed, which is harmless.
        """
        with store_errors():
            try:
                mine = await self._store.xpending_range(self._keys.journal, GROUP, min="-", max="+", count=1, consumername=self._consumer)
                if not mine:
                    await self._store.xgroup_delconsumer(self._keys.journal, GROUP, self._consumer)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise

    async def _make_group(self, error: ResponseError) -> None:
        if str(error).startswith("UNBLOCKED"):
            return  # the stream was deleted or replaced while we waited; the next read sees what is there
        if not str(error).startswith("NOGROUP"):
            raise error
        try:
            await self._store.xgroup_create(self._keys.journal, GROUP, id=START, mkstream=True)
        except ResponseError as race:
            if not str(race).startswith("BUSYGROUP"):
                raise


def _raw(found: tuple[bytes, dict[bytes, bytes]]) -> RawEntry:
    entry_id, fields = found
    return RawEntry(entry_id.decode(), fields)


def order_of(entry_id: str) -> tuple[int, int]:
    """What entry ids are sorted by."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


@contextmanager
def store_errors() -> Iterator[None]:
    """Whatever goes wrong inside means that the journal's store cannot be reached."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(what="The journal cannot be reached:", why=f"{reason_of(error)}.") from error
