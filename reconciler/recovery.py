"""Recovery: a drop that the store has lost, or of which it has forgotten a part, is put together again from Postgres.

The order of the steps makes it safe at every moment. The drop is closed first, so that nothing new happens. What is left of
its journal goes to Postgres before Postgres is read, so that Postgres knows all that is still known. Then the script
`rebuild` takes the orders chunk by chunk and opens the drop in a new epoch only when every unit is accounted for. Whoever
interrupts leaves a drop that is closed; the next attempt begins anew.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgpack

from flashsale.drops import digest_of, encode_drop
from flashsale.errors import DropNotFound, FlashsaleError, Recovering, ScriptError
from flashsale.keys import drop_keys
from flashsale.model import LINE_STRIDE, DropState, LinePicture, OrderState, RebuildOutcome, ReservationState, SkuStock, Ticket, line_of
from flashsale.recorded import RecordedDrop, encode_picture, recorded_drop
from reconciler.journal import store_errors
from reconciler.lines import Entrants, RecordedDraw, line_fields, lines_now, read_draw

if TYPE_CHECKING:
    from flashsale.connections.database import Database, Session
    from flashsale.drops import DropStore
    from flashsale.model import Snapshot
    from flashsale.scripts import Scripts
    from reconciler.consumer import JournalConsumer
    from reconciler.journal import Journal, Store

LOCK_CLASS = 0x666C7368
CHUNK_ORDERS = 100
"""orders a call brings back: about a millisecond of the store"""
LOADS_IN_FLIGHT_MAX = 4
"""so that one sync of the disk serves several calls; others' calls come in between"""
CHUNK_ADJUSTMENTS = 500
ORDERS_AT_ONCE = 1000
DRAIN_LOOK_S = 0.05
DRAIN_TIMEOUT_S = 120.0
PLACES_MARGIN_MIN = 20
PLACES_MARGIN_SHARE = 20
"""One in so many places on top of those known: given in the second between the last picture and the loss."""
TICKETS_AT_ONCE = 1000
LOG_LOOK_BACK = 1000
"""entries of the admission log among which the last call is looked for"""
SURPLUS_MAX = 16
"""references of payments that go back, for each reservation: as many as the store remembers"""
EXTENDED_BEFORE = "(forgotten)"
"""Stands for the Idempotency-Key of an extension, which Postgres does not know."""
NO_UNITS = "no_units_after_recovery"
"""Reason of a release: the reservation was made in a store that had gone back in time, and its units are another's."""

STORE_STATE: Mapping[OrderState, ReservationState] = {
    OrderState.PENDING: ReservationState.RESERVED,
    OrderState.PAID: ReservationState.CONFIRMED,
    OrderState.CANCELLED: ReservationState.RELEASED,
    OrderState.EXPIRED: ReservationState.EXPIRED,
    OrderState.REFUND_DUE: ReservationState.REFUND_DUE,
    OrderState.REFUNDED: ReservationState.REFUND_DUE,
}

Progress = Callable[[int, int], None]
"""Told how many orders are back, of how many."""


class RecoveryOvertaken(FlashsaleError):
    """Another recovery of the drop is at work."""

    code = "recovery_overtaken"


class RecoveryUnbalanced(FlashsaleError):
    """What Postgres holds of the drop does not add up, so it stays closed."""

    code = "recovery_unbalanced"


class RecoveryHeldUp(FlashsaleError):
    """The journal did not get into Postgres."""

    code = "recovery_held_up"


class Condition(StrEnum):
    """What is the matter with a drop in the store."""

    SOUND = "sound"
    MISSING = "missing"
    """the store does not have it"""
    BEHIND = "behind"
    """the store has it as it was earlier"""
    FENCED = "fenced"
    """somebody has closed it; the reason says why"""
    DAMAGED = "damaged"
    """a part of it is missing or cannot be read"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found."""

    condition: Condition
    recorded: RecordedDrop
    held_epoch: int
    """0 when the store has no epoch of it"""
    held_sequence: int
    fenced: str
    fields: Mapping[str, str]
    """the drop's hash in the store"""
    draining: Mapping[str, tuple[int, int]]
    """by SKU: units that were to be withdrawn, and the allotment at that time"""
    served: tuple[int, int]
    """queue numbers below the first were served by the time of the second (ms), as the store still tells"""

    @property
    def changes_behind(self) -> int:
        """Changes the store has forgotten for certain; it may be more."""
        return max(0, self.recorded.sequence - self.held_sequence) if self.condition is not Condition.MISSING else 0

    @property
    def next_epoch(self) -> int:
        """The one a recovery begins."""
        return max(self.recorded.epoch, self.held_epoch) + 1

    @property
    def rolled_back(self) -> bool:
        """Whether the store's rules and line are older than those Postgres remembers."""
        return (self.held_epoch, self.held_sequence) < (self.recorded.epoch, self.recorded.sequence)


@dataclass(frozen=True, slots=True)
class SkuPlan:
    """Where the units of a SKU will be."""

    sku: str
    allotment: int
    sold: int
    unknown_sold: int
    """of those, units that are counted without an order that is paid"""
    reserved: int
    price_minor: int
    limit_per_shopper: int
    draining: int

    @property
    def available(self) -> int:
        """What can be bought again; negative when more is held than there is."""
        return self.allotment - self.sold - self.reserved


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recovery does."""

    finding: Finding
    skus: tuple[SkuPlan, ...]
    orders: int
    live: int
    overdue: int
    """of those, expired meanwhile; their units come back seconds after the drop has opened"""
    refused: frozenset[str]
    """live reservations whose units are another's; they are released"""
    lines: tuple[LinePicture, ...]
    """as they are to be"""
    draw: RecordedDraw | None
    state: DropState
    """as it is written down; what it comes to follows from the time"""

    @property
    def state_now(self) -> DropState:
        """What people will find, by this machine's clock."""
        return _state_at(self.finding, self.state, time.time_ns() // 1_000_000)

    @property
    def joined(self) -> int:
        """Places that count as given."""
        return sum(line.joined for line in self.lines)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery did."""

    plan: Plan
    epoch: int
    state: DropState
    ready_ms: int
    """from the first look until the drop was open again"""


class Recovery:
    """Recovers drops of one installation."""

    def __init__(
        self,
        database: Database,
        store: Store,
        scripts: Scripts,
        drops: DropStore,
        follow: Callable[[str], tuple[Journal, JournalConsumer]],
    ) -> None:
        """Put it together.

        Args:
            database: what is still known.
            store: the hot store's client.
            scripts: the scripts on it.
            drops: the drops in it.
            follow: a journal of a drop and a consumer that takes over from others at once, to drain it.
        """
        self._database = database
        self._store: Any = store  # its annotations mix str and bytes
        self._scripts = scripts
        self._drops = drops
        self._follow = follow

    async def find(self, drop_id: str) -> Finding:
        """What is the matter with the drop.

        Raises:
            DropNotFound: Postgres has no drop of that name that the store was ever given.
            DatabaseUnavailable, StoreUnavailable, StoreUnknown: one of the stores does not answer.
        """
        recorded = await recorded_drop(self._database, drop_id)
        if recorded is None:
            raise DropNotFound(
                what=f"Postgres knows no drop called {drop_id} that the store was given.",
                todo="'flashsale drop list' shows the drops there are.",
            )
        keys = drop_keys(drop_id)
        with store_errors():
            fields = {name.decode(): _text(value) for name, value in (await self._store.hgetall(keys.drop)).items()}
            stock = {name.decode(): value for name, value in (await self._store.hgetall(keys.stock)).items()}
            told = await self._store.xrevrange(keys.served, count=LOG_LOOK_BACK)
        epoch, sequence = _number(fields.get("epoch")), _number(fields.get("sequence"))
        found = Finding(
            condition=Condition.SOUND,
            recorded=recorded,
            held_epoch=epoch,
            held_sequence=sequence,
            fenced=fields.get("fenced", ""),
            fields=fields,
            draining=_draining(recorded, stock),
            served=_last_raise([fields for _, fields in told]),
        )
        return replace(found, condition=await self._condition(drop_id, found))

    async def _condition(self, drop_id: str, found: Finding) -> Condition:
        if not found.held_epoch:
            return Condition.MISSING
        if found.rolled_back and found.fenced != REBUILDING:
            return Condition.BEHIND
        if found.fenced:
            return Condition.FENCED
        try:
            await self._drops.inspect(drop_id)
        except (Recovering, ScriptError):
            return Condition.DAMAGED
        return Condition.SOUND

    async def plan(self, drop_id: str) -> Plan:
        """What a recovery would do now. Raises as `find` does."""
        async with self._database.acquire() as session:
            return await self._plan(session, await self.find(drop_id), keep_paused=False)

    async def recover(
        self, drop_id: str, told: Progress = lambda _done, _all: None, *, keep_paused: bool = False, although_sound: bool = False
    ) -> Recovered | None:
        """Puts the drop together again and opens it; None when nothing is the matter with it.

        Args:
            told: hears of the progress.
            keep_paused: the drop is paused afterwards, so that somebody may look before it goes on.
            although_sound: rebuild it in any case: Postgres may know orders whose reservations the store has never had.

        Raises:
            RecoveryOvertaken: another recovery of this drop is at work.
            RecoveryUnbalanced: Postgres contradicts itself; the drop stays closed.
            RecoveryHeldUp: what is left of the journal could not be recorded; the drop stays closed.
            DropNotFound, DatabaseUnavailable, StoreUnavailable, StoreUnknown: see `find`; run it again.
        """
        began_at = time.monotonic()
        async with self._locked(drop_id):
            finding = await self.find(drop_id)
            if finding.condition is Condition.SOUND and not although_sound:
                return None
            await self._close(drop_id, finding)
            await self._drain(drop_id)
            plan, epoch = await self._rebuild(drop_id, told, keep_paused=keep_paused)
        ready_ms = round((time.monotonic() - began_at) * 1000)
        return Recovered(replace(plan, finding=finding), epoch, plan.state_now, ready_ms)

    @asynccontextmanager
    async def _locked(self, drop_id: str) -> AsyncIterator[None]:
        """Only for thrift: what keeps two recoveries apart is the attempt's id, which the script compares."""
        async with self._database.acquire() as session:
            if not await session.fetchval("recovery_lock", LOCK_CLASS, drop_id):
                raise RecoveryOvertaken(
                    what=f"The drop {drop_id} is being recovered by another process.", todo="Wait for it, then look again."
                )
            try:
                yield
            finally:
                await session.fetchval("recovery_unlock", LOCK_CLASS, drop_id)

    async def _close(self, drop_id: str, finding: Finding) -> None:
        if finding.condition is not Condition.MISSING and not finding.fenced:
            await self._drops.fence(drop_id, finding.held_epoch, finding.condition.value)

    async def _drain(self, drop_id: str) -> None:
        """What the old epoch's journal still holds goes to Postgres; what is there already is absorbed."""
        journal, consumer = self._follow(drop_id)
        stop = asyncio.Event()
        working = asyncio.create_task(consumer.run(stop))
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while not working.done() and await journal.oldest_unfinished_ms() is not None:
                    await asyncio.wait({working}, timeout=DRAIN_LOOK_S)
        except TimeoutError:
            raise RecoveryHeldUp(
                what=f"The journal of {drop_id} did not get into Postgres within {DRAIN_TIMEOUT_S:.0f} s.",
                why="Until it has, Postgres does not know all that is still known.",
                todo="See what 'flashsale doctor' says of Postgres, then run this again. The drop stays closed.",
            ) from None
        finally:
            stop.set()
            await working

    async def _rebuild(self, drop_id: str, told: Progress, *, keep_paused: bool) -> tuple[Plan, int]:
        attempt = secrets.token_hex(8)
        finding = await self.find(drop_id)
        async with self._database.acquire() as session:
            # Whatever still has entries of earlier epochs in hand comes too late from here on; what came before is in the view.
            # And should the store be replaced by a copy of an earlier epoch right now, that is noticed.
            epoch = finding.next_epoch
            await session.fetchval("drop_epoch_raise", drop_id, epoch)
            finding = await self._up_to_date(drop_id, finding)
            # One view of Postgres for the plan and all orders.
            async with session.transaction(snapshot=True):
                plan = await self._plan(session, finding, keep_paused=keep_paused)
                fields = self._fields(plan)
                await self._step(drop_id, attempt, "begin", finding.held_epoch, fields, _units(plan))
                await self._keep_line(drop_id, attempt, int(fields["restore_from"]))
                for chunk in _chunks(await session.fetch("recovery_stock_changes", drop_id), CHUNK_ADJUSTMENTS):
                    await self._step(drop_id, attempt, "load", [], [tuple(row) for row in chunk])
                await self._load(session, drop_id, attempt, plan, told)
        await self._step(drop_id, attempt, "finish", epoch, plan.state.value, _accounted(plan), plan.orders, plan.live, _served(plan))
        await self._scripts.add_drop_id(drop_id)
        self._scripts.learn_epoch(drop_id, epoch)
        return plan, epoch

    async def _up_to_date(self, drop_id: str, finding: Finding) -> Finding:
        """With what was recorded since it was looked at: the new epoch counts on from there."""
        recorded = await recorded_drop(self._database, drop_id)
        assert recorded is not None
        return replace(finding, recorded=replace(finding.recorded, sequence=recorded.sequence))

    def _fields(self, plan: Plan) -> dict[str, bytes]:
        """The drop's hash as it is to be: the definition's rules, over them what is remembered, over that what the store kept."""
        finding, recorded = plan.finding, plan.finding.recorded
        definition = encode_drop(recorded.drop)
        fields: dict[str, Any] = {"notice": "", "admitted": 0}
        fields |= {"digest": digest_of(definition), "definition": definition} | self._drops.rules_of(recorded.drop)
        fields |= _pictured(recorded.picture)
        if not finding.rolled_back or recorded.picture is None:
            fields |= {name: finding.fields[name] for name in _KEPT if name in finding.fields}
        fields |= _counters(plan) | _draw_fields(plan) | line_fields(plan.lines, _ranges(plan))
        fields |= _times(plan, fields)
        return {name: value if isinstance(value, bytes) else _bytes(str(value)) for name, value in fields.items()}

    async def _step(self, drop_id: str, attempt: str, word: str, *rest: Any) -> None:
        # The scripts know no binary type: texts are bytes.
        packed: bytes = msgpack.packb((attempt, self._scripts.clock_ms, word, *rest), use_bin_type=False)
        outcome, _, why = msgpack.unpackb(await self._scripts.run("rebuild", drop_id, packed))
        if outcome == RebuildOutcome.SUPERSEDED:
            raise RecoveryOvertaken(
                what=f"The drop {drop_id} is being recovered by another process, or was just now.", todo="Look again in a moment."
            )
        if outcome == RebuildOutcome.UNBALANCED:
            raise RecoveryUnbalanced(
                what=f"The drop {drop_id} does not add up after it was rebuilt ({why}), so it stays closed.",
                why="Postgres holds orders for more or fewer units than it counts.",
                todo=f"Run 'flashsale audit {drop_id}', and keep both stores as they are until it is understood.",
            )

    async def _keep_line(self, drop_id: str, attempt: str, restore_from: int) -> None:
        """Tickets the store still has keep their numbers, and count nothing but what is loaded after this."""
        cursor = 0
        while True:
            with store_errors():
                cursor, page = await self._store.hscan(drop_keys(drop_id).tickets, cursor, count=TICKETS_AT_ONCE)
            tickets = {name.decode(): msgpack.unpackb(packed, strict_map_key=False) for name, packed in page.items()}
            concerned = [name for name, record in tickets.items() if _is_concerned(Ticket.from_record(name, record), restore_from)]
            for chunk in _chunks(concerned, TICKETS_AT_ONCE):
                await self._step(drop_id, attempt, "keep", chunk)
            if not cursor:
                return

    async def _load(self, session: Session, drop_id: str, attempt: str, plan: Plan, told: Progress) -> None:
        """Brings all orders back, a few calls at a time. The first call that fails ends it."""
        loading: set[asyncio.Task[int]] = set()
        done = 0

        async def load(shoppers: list[tuple[str, int, list[Any], int]]) -> int:
            await self._step(drop_id, attempt, "load", shoppers, [])
            return sum(len(orders) for _, _, orders, _ in shoppers)

        async def finished(left_max: int) -> int:
            back = 0
            while len(loading) > left_max:
                ended, _ = await asyncio.wait(loading, return_when=asyncio.FIRST_COMPLETED)
                loading.difference_update(ended)
                back += sum(task.result() for task in ended)
            return back

        try:
            async for shoppers in self._shoppers(session, drop_id, plan):
                loading.add(asyncio.create_task(load(shoppers)))
                done += await finished(LOADS_IN_FLIGHT_MAX - 1)
                told(done, plan.orders)
            told(done + await finished(0), plan.orders)
        finally:
            for task in loading:
                task.cancel()
            await asyncio.gather(*loading, return_exceptions=True)

    async def _shoppers(self, session: Session, drop_id: str, plan: Plan) -> AsyncIterator[list[tuple[str, int, list[Any], int]]]:
        """Shoppers with all their orders, in chunks of about `CHUNK_ORDERS` orders."""
        entrants = Entrants(plan.lines)
        chunk: list[tuple[str, int, list[Any], int]] = []
        size, ttl_ms = 0, int(self._fields(plan)["reservation_ttl_ms"])
        async for row in session.rows("recovery_orders", drop_id, prefetch=ORDERS_AT_ONCE):
            if not chunk or chunk[-1][0] != row["ticket_id"]:
                if size >= CHUNK_ORDERS:
                    yield chunk
                    chunk, size = [], 0
                chunk.append((row["ticket_id"], row["queue_number"], [], entrants.place(row["queue_number"])))
            chunk[-1][2].append(_order(row, plan.refused, ttl_ms))
            size += 1
        if chunk:
            yield chunk

    async def _plan(self, session: Session, finding: Finding, *, keep_paused: bool) -> Plan:
        drop = finding.recorded.drop
        rows = {row["sku"]: row for row in await session.fetch("recovery_skus", drop.drop_id)}
        totals = await session.fetchrow("recovery_totals", drop.drop_id, time.time_ns() // 1_000_000)
        assert totals is not None
        skus = tuple(_sku_plan(rows[sku.sku], finding.draining.get(sku.sku, (0, 0))) for sku in drop.skus)
        draw = read_draw(await session.fetchrow("draw_get", drop.drop_id))
        highest = {row["line"]: row["number"] for row in await session.fetch("recovery_highest", drop.drop_id, LINE_STRIDE)}
        refused: dict[str, dict[str, int]] = {}
        if any(sku.available < 0 for sku in skus):
            pending = await session.fetch("recovery_pending", drop.drop_id)
            refused = unfit(
                [(row["reservation_id"], dict(zip(row["skus"], row["quantities"], strict=True))) for row in pending],
                {sku.sku: sku.allotment - sku.sold for sku in skus},
            )
            skus = tuple(replace(sku, reserved=sku.reserved - sum(items.get(sku.sku, 0) for items in refused.values())) for sku in skus)
        return Plan(
            finding=finding,
            skus=skus,
            orders=totals["orders"],
            live=totals["pending"] - len(refused),
            overdue=totals["overdue"],
            refused=frozenset(refused),
            lines=_lines(finding, draw, highest),
            draw=draw,
            state=_state(finding, keep_paused=keep_paused),
        )


REBUILDING = "rebuilding"
"""The fence of a drop whose rebuilding has begun."""


def unfit(pending: Sequence[tuple[str, Mapping[str, int]]], free: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Reservations that cannot all be honoured, with their items: whoever came first keeps theirs, all of it or nothing.

    Args:
        pending: (reservation id, SKU to quantity), in the order they were made.
        free: units of each SKU that are not sold.
    """
    left = dict(free)
    refused: dict[str, dict[str, int]] = {}
    for reservation_id, items in pending:
        if all(left.get(sku, 0) >= quantity for sku, quantity in items.items()):
            for sku, quantity in items.items():
                left[sku] -= quantity
        else:
            refused[reservation_id] = dict(items)
    return refused


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    """What `_text` was made of."""
    return text.encode("utf-8", "surrogateescape")


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _draining(recorded: RecordedDrop, stock: Mapping[str, bytes]) -> dict[str, tuple[int, int]]:
    """Units to be withdrawn, from the store if it still says so, else from the last picture."""
    if stock:
        return {
            sku.sku: (_number(_text(stock.get(f"draining:{sku.sku}", b"0"))), _number(_text(stock.get(f"allotment:{sku.sku}", b"0"))))
            for sku in recorded.drop.skus
        }
    pictured: Mapping[str, SkuStock] = recorded.picture.skus if recorded.picture else {}
    return {sku: (units.draining, units.allotment) for sku, units in pictured.items()}


def _sku_plan(row: Any, draining: tuple[int, int]) -> SkuPlan:
    units, of_allotment = draining
    withdrawn_since = max(0, of_allotment - row["allotment"])
    return SkuPlan(
        sku=row["sku"],
        allotment=row["allotment"],
        sold=max(row["sold"], row["paid_units"]),
        unknown_sold=max(0, row["sold"] - row["paid_units"]),
        reserved=row["pending_units"],
        price_minor=row["price_minor"],
        limit_per_shopper=row["limit_per_shopper"],
        draining=max(0, units - withdrawn_since),
    )


def _state(finding: Finding, *, keep_paused: bool) -> DropState:
    """The state the drop had, from whoever knows it longer."""
    held, recorded = finding.fields.get("state", ""), finding.recorded
    held_at_ms = _number(finding.fields.get("state_at_ms"))
    state = DropState(held) if held in set(DropState) and held_at_ms > recorded.state_at_ms else recorded.state
    is_open = _state_at(finding, state, time.time_ns() // 1_000_000) is DropState.OPEN
    return DropState.PAUSED if keep_paused and is_open else state


def _state_at(finding: Finding, state: DropState, now_ms: int) -> DropState:
    """As `include/drop.lua` has it."""
    if state is DropState.CLOSED or now_ms >= _picture_or_drop(finding, "closes_at_ms"):
        return DropState.CLOSED
    if state in {DropState.PAUSED, DropState.OPEN}:
        return state
    if now_ms >= _picture_or_drop(finding, "opens_at_ms"):
        return DropState.OPEN
    return DropState.WAITING if now_ms >= _picture_or_drop(finding, "joins_at_ms") else DropState.SCHEDULED


def _picture_or_drop(finding: Finding, name: str) -> int:
    source: Snapshot | Any = finding.recorded.picture or finding.recorded.drop
    return int(getattr(source, name))


def _lines(finding: Finding, draw: RecordedDraw | None, highest: Mapping[int, int]) -> tuple[LinePicture, ...]:
    """The lines with all places that anybody knows of and, when the store has forgotten some, a few more."""
    recorded = finding.recorded
    believed = finding.fields if not finding.rolled_back or recorded.picture is None else {}
    lines = []
    for at, line in enumerate(lines_now(recorded.drop, believed, recorded.picture, draw.drawn if draw else None)):
        held = _number(finding.fields.get("joined")) if at == 0 else 0
        served = _number(finding.fields.get("serving_number")) if at == 0 else 0
        known = max(line.joined, held, highest.get(at, -1) + 1)
        if finding.fenced != REBUILDING and finding.rolled_back:
            known += max(PLACES_MARGIN_MIN, known // PLACES_MARGIN_SHARE)
        # Whoever has reserved was served, and with them all who came before.
        lines.append(replace(line, joined=known, serving_number=max(line.serving_number, served, highest.get(at, -1) + 1)))
    return tuple(lines)


def _ranges(plan: Plan) -> list[tuple[int, int]]:
    """Numbers that nobody has taken up since an earlier loss may still be, with a receipt."""
    held = plan.finding.fields
    first = _number(held.get("restore_from", held.get("joined")))
    return [(first if at == 0 else 0, line.joined) for at, line in enumerate(plan.lines)]


def _draw_fields(plan: Plan) -> dict[str, Any]:
    """What decides who is served: the order, its secret, and the draw if it was made."""
    finding, draw, held = plan.finding, plan.draw, plan.finding.fields
    fields: dict[str, Any] = {"order": finding.recorded.drop.order, "draw_secret": draw.secret.hex() if draw else ""}
    fields |= {name: held[name] for name in ("joining", "closed_entries_at_ms", "drawn_at_ms", "beacon") if name in held}
    if draw is not None and draw.drawn is not None:
        fields |= {"drawn_at_ms": draw.drawn.at_ms, "beacon": msgpack.packb(draw.drawn.beacon)}
    return fields


def _times(plan: Plan, fields: Mapping[str, Any]) -> dict[str, int]:
    """A drop that was opened before its time was open from then on, whatever an earlier picture says."""
    opens_at_ms, joins_at_ms = int(fields["opens_at_ms"]), int(fields["joins_at_ms"])
    if plan.state in {DropState.OPEN, DropState.PAUSED} and fields["state_at_ms"]:
        opens_at_ms = min(opens_at_ms, int(fields["state_at_ms"]))
    return {"opens_at_ms": opens_at_ms, "joins_at_ms": min(joins_at_ms, opens_at_ms)}


def _counters(plan: Plan) -> dict[str, Any]:
    """What follows from how far the drop had come."""
    finding, recorded, held = plan.finding, plan.finding.recorded, plan.finding.fields
    return {
        "epoch": finding.next_epoch,
        "sequence": max(recorded.sequence, finding.held_sequence),
        "state": plan.state.value,
        "state_at_ms": max(recorded.state_at_ms, _number(held.get("state_at_ms"))),
        "clock": held.get("clock", "store"),
        "beat": 0,
        "credit": 0,
        "advanced_at_ms": 0,
    }


_KEPT = (
    "joins_at_ms", "opens_at_ms", "closes_at_ms", "rate_per_min", "capacity", "claim_window_ms", "reservation_ttl_ms", "token_ttl_ms",
    "limit_per_shopper", "tickets_max", "reservations_per_shopper_max", "admitted", "notice",
    "digest", "definition",
)  # fmt: skip
_PICTURED = ("joins_at_ms", "opens_at_ms", "closes_at_ms", "rate_per_min", "capacity", "admitted", "notice")


def _pictured(picture: Snapshot | None) -> dict[str, Any]:
    if picture is None:
        return {}
    return {name: getattr(picture, name) for name in _PICTURED}


def _units(plan: Plan) -> list[tuple[Any, ...]]:
    return [(sku.sku, sku.allotment, sku.unknown_sold, sku.price_minor, sku.limit_per_shopper) for sku in plan.skus]


def _accounted(plan: Plan) -> list[tuple[Any, ...]]:
    return [(sku.sku, sku.reserved, sku.sold, min(sku.draining, sku.available + sku.reserved)) for sku in plan.skus]


def _last_raise(newest_first: Sequence[Mapping[bytes, bytes]]) -> tuple[int, int]:
    """Up to which number everybody's line was called, and when; zeros when nobody knows."""
    raises = (told for told in newest_first if b"to" in told and line_of(int(told[b"to"])) == 0)
    last = next(raises, None)
    return (int(last[b"to"]), int(last[b"at_ms"])) if last else (0, 0)


def _served(plan: Plan) -> tuple[int, int]:
    """From which number on nobody knows when it was served; after the last raise that is known, the opening and the draw."""
    number, at_ms = plan.finding.served
    drawn_at_ms = plan.draw.drawn.at_ms if plan.draw is not None and plan.draw.drawn is not None else 0
    return number, max(at_ms, _picture_or_drop(plan.finding, "opens_at_ms"), drawn_at_ms)


def _is_concerned(ticket: Ticket | None, restore_from: int) -> bool:
    """Whether a ticket's number may be taken up with a receipt, or it has counted anything; a second device's has done neither."""
    if ticket is None:
        return False
    return ticket.number >= restore_from or any((ticket.reservations, ticket.live, ticket.units))


def _order(row: Any, refused: frozenset[str], ttl_ms: int) -> tuple[Any, ...]:
    state, reason = STORE_STATE[OrderState(row["state"])], ""
    if row["reservation_id"] in refused:
        state, reason = ReservationState.RELEASED, NO_UNITS
    items = list(zip(row["skus"], row["quantities"], strict=True))
    times = (row["reserved_at_ms"], row["expires_at_ms"])
    # Besides an extension only a receipt after an earlier loss makes one last longer than the rule; that was a favour as well.
    extend_key = EXTENDED_BEFORE if row["expires_at_ms"] - row["reserved_at_ms"] > ttl_ms else ""
    surplus = [reference for reference in row["going_back"] if reference != row["payment_reference"]][:SURPLUS_MAX]
    known = (row["reservation_id"], int(state), items, row["amount_minor"], *times, row["payment_reference"], row["request_id"])
    return (*known, reason, extend_key, surplus)


def _chunks(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [rows[at : at + size] for at in range(0, len(rows), size)]


async def note_picture(database: Database, drop_id: str, snapshot: Snapshot, sequence: int) -> None:
    """Keep the picture of a drop and how far it had come. Raises DatabaseUnavailable."""
    await database.execute("drop_picture_note", drop_id, encode_picture(snapshot), sequence)
