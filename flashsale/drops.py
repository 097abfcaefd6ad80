"""Drops: their definitions in Postgres, their live state in the store, and the merchant's hand on them."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgpack
import msgspec

from flashsale.errors import Busy, DropNotFound, FlashsaleError, Recovering, ScriptError, StoreUnavailable, StoreUnknown
from flashsale.model import (
    AdjustStockOutcome,
    BeatPlan,
    CloseDropOutcome,
    DrawOutcome,
    Drop,
    DropState,
    Durability,
    EntriesRun,
    FenceOutcome,
    Inspection,
    OpenDropOutcome,
    Reservation,
    SkuStock,
    Snapshot,
    SteerOutcome,
    Ticket,
)
from flashsale.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flashsale.connections.database import Database
    from flashsale.settings import Settings

FIRST_EPOCH = 1
DRAW_SECRET_BYTES = 32
ROLLED_BACK = "rolled_back"
"""Reason of a fence: the store has gone back in time."""


class DropExists(FlashsaleError):
    """A drop of that id exists with another definition."""

    code = "drop_exists"


@dataclass(frozen=True, slots=True)
class DropRow:
    """A drop as Postgres knows it."""

    drop: Drop
    state: DropState
    epoch: int
    """0 until the store has been given the drop"""
    opened_in_store: bool
    allotments: Mapping[str, int]
    """by SKU, with what was added and withdrawn since the drop was made"""


@dataclass(frozen=True, slots=True)
class Creation:
    """What creating a drop came to."""

    is_new: bool
    """False: exactly this drop was recorded already"""
    in_store: bool
    """False: the store could not be given it, and the reconciler does that when the store answers"""


@dataclass(frozen=True, slots=True)
class StockAdjustment:
    """What adding or withdrawing units came to."""

    outcome: AdjustStockOutcome
    stock: SkuStock | None
    """the SKU's units afterwards; None when the drop has no such SKU"""


def encode_drop(drop: Drop) -> str:
    """The definition as canonical JSON: the same drop always gives the same text.

    What a drop does not use is left out where an earlier version did not know it, so that an older drop keeps its digest.
    """
    fields = msgspec.to_builtins(drop)
    for name, unused in (
        ("extension_ms", 0),
        ("order", "arrival"),
        ("beacon", "none"),
        ("groups", ()),
        ("invites", "none"),
        ("identity", "none"),
        ("origins", ()),
        ("return_urls", ()),
    ):
        if getattr(drop, name) == unused:
            del fields[name]
    return msgspec.json.encode(fields, order="deterministic").decode()


def decode_drop(text: str | bytes) -> Drop:
    """The drop of `encode_drop`."""
    return msgspec.json.decode(text, type=Drop)


def digest_of(definition: str) -> str:
    """Hex SHA-256 of a definition, to tell a repeated creation from another drop of the same name."""
    return hashlib.sha256(definition.encode()).hexdigest()


class DropStore:
    """The drops in the store. Needs no Postgres, so it works through a whole drop without one."""

    def __init__(self, scripts: Scripts, settings: Settings) -> None:
        self._scripts = scripts
        self._settings = settings

    async def ids(self) -> set[str]:
        """Ids of all drops in the store."""
        return await self._scripts.drop_ids()

    async def open(
        self, drop: Drop, epoch: int = FIRST_EPOCH, *, draw_secret: bytes = b"", injected_clock: bool = False
    ) -> OpenDropOutcome:
        """Gives a drop to the store. Repeating it is harmless.

        Args:
            draw_secret: of a drop with a draw: 32 bytes, of which the commitment is published.
            injected_clock: the drop takes its time from `Scripts.clock_ms`; for tests and rehearsals only.

        Raises:
            UnsafeStore: the store does not keep the drop's durability.
            StoreUnavailable, StoreUnknown: see `Scripts.call`.
        """
        await self.require_durability(drop)
        definition = encode_drop(drop)
        self._scripts.forget_durability(drop.drop_id)
        reply = await self._scripts.run(
            "open_drop", drop.drop_id, self._wire(drop, definition, epoch, draw_secret, injected_clock=injected_clock)
        )
        word, held_epoch = msgpack.unpackb(reply)
        await self._scripts.add_drop_id(drop.drop_id)
        self._scripts.learn_epoch(drop.drop_id, held_epoch)
        return OpenDropOutcome(word)

    def rules_of(self, drop: Drop) -> dict[str, int]:
        """The rules of a drop as the store keeps them, by the names of its fields; all but the epoch."""
        room = self._settings.waiting_room
        return {
            "joins_at_ms": drop.joins_at_ms,
            "opens_at_ms": drop.opens_at_ms,
            "closes_at_ms": drop.closes_at_ms,
            "rate_per_min": drop.rate_per_min,
            "capacity": drop.capacity,
            "claim_window_ms": drop.claim_window_ms,
            "reservation_ttl_ms": drop.reservation_ttl_ms,
            "token_ttl_ms": self._settings.tokens.ttl_ms,
            "limit_per_shopper": drop.limit_per_shopper,
            "tickets_max": room.tickets_max,
            "reservations_per_shopper_max": room.reservations_per_shopper_max,
        }

    def _wire(self, drop: Drop, definition: str, epoch: int, draw_secret: bytes, *, injected_clock: bool) -> bytes:
        rules: dict[str, Any] = {"epoch": epoch, **self.rules_of(drop)}
        if injected_clock:
            rules["clock"] = "injected"
        skus = [(sku.sku, sku.allotment, sku.allotment, 0, sku.price_minor, sku.limit_per_shopper) for sku in drop.skus]
        groups = [(group.group_id, group.share_permille) for group in drop.groups]
        packed: bytes = msgpack.packb((digest_of(definition), definition, rules, skus, (drop.order, draw_secret.hex(), groups)))
        return packed

    async def require_durability(self, drop: Drop) -> None:
        """Returns when the store keeps the drop's durability. Raises UnsafeStore, StoreUnavailable."""
        await self._scripts.require_durability(drop.drop_id, Durability(drop.durability))

    async def inspect(self, drop_id: str, tickets: tuple[str, ...] = (), reservations: tuple[str, ...] = ()) -> Inspection:
        """One consistent look at a drop, with the records of the given tickets and reservations.

        Raises:
            Recovering: the store does not hold the drop.
            ScriptError: what it holds cannot be read.
            StoreUnavailable, StoreUnknown: see `Scripts.call`.
        """
        now_ms, found = await self._scripts.call("inspect", drop_id, msgpack.packb((tickets, reservations)))
        _, definition, wire, stats, journal_length, ticket_records, reservation_records = found
        snapshot = Snapshot.from_wire(drop_id, now_ms, wire)
        self._scripts.learn_epoch(drop_id, snapshot.epoch)
        return Inspection(
            snapshot=snapshot,
            definition=_read_definition(drop_id, definition),
            stats={name: int(total) for name, total in zip(stats[::2], stats[1::2], strict=True)},
            journal_length=journal_length,
            tickets=tuple(Ticket.from_wire(record) if record else None for record in ticket_records),
            reservations=tuple(
                Reservation.from_wire(reservation_id, record) if record else None
                for reservation_id, record in zip(reservations, reservation_records, strict=True)
            ),
        )

    async def advance(self, drop_id: str, beat_ms: int, plan: BeatPlan | None = None) -> tuple[bool, Snapshot]:
        """One beat of the inlet: (whether this call did the beat's work, the drop as it is now).

        Args:
            plan: how many to call; without one, the drop's own rate, and everybody called is expected to come.

        Raises: as `inspect` does.
        """
        told = plan or BeatPlan()
        counts = (told.weights_permille, told.units_per_claim_permille, told.door)
        pace = (beat_ms, told.rate_per_min, *counts, told.sample, told.stays_permille)
        now_ms, (word, wire) = await self._scripts.call("advance", drop_id, msgpack.packb(pace, use_bin_type=False))
        snapshot = Snapshot.from_wire(drop_id, now_ms, wire)
        self._scripts.learn_epoch(drop_id, snapshot.epoch)
        return word == "advanced", snapshot

    async def draw(self, drop_id: str, *step: Any) -> tuple[DrawOutcome, int, list[str], list[str]]:
        """A step of the draw, as `draw.lua` takes it: (outcome, when the entries were closed, roots, keys). Raises as `inspect` does."""
        _, (word, closed_at_ms, roots, keys) = await self._scripts.call("draw", drop_id, msgpack.packb(step))
        return DrawOutcome(word), closed_at_ms, roots, keys

    async def draw_record(self, drop_id: str) -> tuple[str, dict[str, Any]]:
        """The draw's secret in hex, and what its beacon said; for whoever makes the draw or tells of it after the reveal.

        Raises:
            StoreUnavailable, StoreUnknown: see `Scripts.call`.
        """
        secret, beacon = await self._scripts.read(drop_id, "HMGET", "drop", "draw_secret", "beacon")
        return (secret or b"").decode(), msgpack.unpackb(beacon) if beacon else {}

    async def entries_page(self, drop_id: str, after: str, count: int) -> list[EntriesRun]:
        """The next entries of the draw, in order of joining. Raises as `draw_record` does."""
        found = await self._scripts.read(drop_id, "XRANGE", "entries", f"({after}" if after else "-", "+", "COUNT", count)
        return [
            EntriesRun(entry_id.decode(), int(fields[b"l"]), int(fields[b"n"]), fields[b"h"], b"again" in fields)
            for entry_id, fields in found
        ]

    async def leaving(self, drop_id: str, count: int) -> list[int]:
        """Places given up before the draw, at most `count`. Raises as `draw_record` does."""
        return [int(place) for place in await self._scripts.read(drop_id, "ZRANGE", "leaving", 0, count - 1)]

    async def signal(self, drop_id: str, factor_permille: int, ttl_ms: int) -> None:
        """What the storefront can take of the rate, for `ttl_ms`. Raises as `inspect` does."""
        await self._scripts.call("steer_drop", drop_id, msgpack.packb(("signal", factor_permille, ttl_ms)))

    async def steer(self, drop_id: str, word: str, value: int | str = 0) -> tuple[SteerOutcome, DropState]:
        """Pause, resume, open before time, or set `rate_per_min`, `capacity`, `notice` or `joining`. Raises as `inspect` does."""
        _, (outcome, state) = await self._scripts.call("steer_drop", drop_id, msgpack.packb((word, value)))
        return SteerOutcome(outcome), DropState(state)

    async def pause(self, drop_id: str) -> bool:
        """Pauses a drop; True when it was open until now. Raises as `inspect` does."""
        outcome, _ = await self.steer(drop_id, "pause")
        return outcome is SteerOutcome.DONE

    async def adjust_stock(self, drop_id: str, adjustment_id: str, sku: str, delta: int, *, drain: bool) -> StockAdjustment:
        """Adds units to a SKU, or withdraws them. The same id again is the same adjustment.

        Postgres must have been told of added units before (`flashsale.stock`): its allotment is never below the store's.

        Args:
            delta: units; negative to withdraw.
            drain: what reservations hold is withdrawn as they end unpaid; without it, withdrawing it is refused.

        Raises: as `inspect` does.
        """
        packed = msgpack.packb((adjustment_id, sku, delta, int(drain)))
        _, (word, *units) = await self._scripts.call("adjust_stock", drop_id, packed)
        return StockAdjustment(AdjustStockOutcome(word), SkuStock(*units) if units else None)

    async def fence(self, drop_id: str, epoch: int, reason: str, sequence: int = 0) -> FenceOutcome:
        """Closes a drop to every script until it has been recovered.

        Args:
            epoch: the one the caller knows; a store of an earlier one is fenced off in any case.
            sequence: the change the caller knows of; in the same epoch the drop is fenced off only when the store has not come
                as far. 0 fences it in any case.

        Raises:
            StoreUnavailable, StoreUnknown: see `Scripts.call`.
        """
        word, _, _ = msgpack.unpackb(await self._scripts.run("fence", drop_id, msgpack.packb((epoch, sequence, reason))))
        return FenceOutcome(word)

    async def fence_behind(self, drop_id: str) -> None:
        """Closes a drop whose store has not come as far as this process has seen. Raises as `fence` does."""
        epoch, sequence = self._scripts.seen(drop_id)
        if epoch and sequence:
            await self.fence(drop_id, epoch, ROLLED_BACK, sequence)

    async def close(self, drop_id: str) -> CloseDropOutcome:
        """Ends the drop. Raises as `inspect` does."""
        _, (outcome, _) = await self._scripts.call("close_drop", drop_id)
        return CloseDropOutcome(outcome)


class DropCatalog:
    """The drops in Postgres: where a definition lives for good."""

    def __init__(self, database: Database, store: DropStore) -> None:
        self._database = database
        self._store = store

    async def create(self, drop: Drop) -> Creation:
        """Records the drop and gives it to the store. When the store cannot be reached the drop is recorded all the same.

        Raises:
            UnsafeStore: the store does not keep the drop's durability; nothing was recorded.
            DropExists: another definition has that id.
            DatabaseUnavailable: Postgres cannot be reached; nothing was recorded.
        """
        with suppress(StoreUnavailable):
            await self._store.require_durability(drop)
        definition = encode_drop(drop)
        async with self._database.transaction() as transaction:
            created = await transaction.fetchval(
                "drop_insert",
                drop.drop_id,
                drop.tenant,
                drop.name,
                definition,
                drop.joins_at_ms,
                drop.opens_at_ms,
                drop.closes_at_ms,
            )
            if created:
                await transaction.execute(
                    "drop_skus_insert",
                    drop.drop_id,
                    [sku.sku for sku in drop.skus],
                    [sku.name for sku in drop.skus],
                    [sku.allotment for sku in drop.skus],
                    [sku.price_minor for sku in drop.skus],
                    [sku.limit_per_shopper for sku in drop.skus],
                )
                if drop.order == "draw":
                    await transaction.execute("draw_insert", drop.drop_id, secrets.token_bytes(DRAW_SECRET_BYTES))
        if not created and encode_drop((await self.get(drop.drop_id)).drop) != definition:
            raise DropExists(
                what=f"A drop called {drop.drop_id} exists with another definition.",
                todo="Choose another id, or look at the present one with 'flashsale drop show'.",
            )
        try:
            await self.open_in_store(drop.drop_id)
        except (StoreUnavailable, StoreUnknown, Busy):
            return Creation(bool(created), in_store=False)
        return Creation(bool(created), in_store=True)

    async def get(self, drop_id: str) -> DropRow:
        """The drop as recorded.

        Raises:
            DropNotFound: there is none.
            DatabaseUnavailable: Postgres cannot be reached.
        """
        row = await self._database.fetchrow("drop_get", drop_id)
        if row is None:
            raise DropNotFound(what=f"There is no drop called {drop_id}.", todo="'flashsale drop list' shows the drops there are.")
        return _row(row)

    async def list(self, tenant: str | None = None) -> list[DropRow]:
        """All drops, newest opening first. Raises DatabaseUnavailable."""
        return [_row(row) for row in await self._database.fetch("drop_list", tenant)]

    async def open_in_store(self, drop_id: str) -> None:
        """Gives a recorded drop to the store once. Repeating it is harmless.

        A drop of which Postgres has heard was in a store before, although that could not be noted then. It is only noted now:
        if that store is lost, the drop has to be recovered, and not to begin anew with all its units.

        Raises:
            Recovering: the store has a drop of that id with another definition.
            StoreUnavailable, StoreUnknown, DatabaseUnavailable, DropNotFound.
        """
        row = await self.get(drop_id)
        if row.opened_in_store:
            return
        epoch = row.epoch or FIRST_EPOCH
        has_happened = await self._database.fetchval("drop_has_happened", drop_id)
        draw = await self._database.fetchrow("draw_get", drop_id)
        secret = bytes(draw["secret"]) if draw else b""
        if not has_happened and await self._store.open(row.drop, epoch, draw_secret=secret) is OpenDropOutcome.EXISTS:
            raise Recovering(
                what=f"The store already holds another drop called {drop_id}.",
                todo="Is this store used by another installation? Each needs a store of its own.",
            )
        await self._database.execute("drop_opened_in_store", drop_id, epoch)


def _read_definition(drop_id: str, text: str) -> Drop:
    try:
        return decode_drop(text)
    except msgspec.MsgspecError as error:
        raise ScriptError(what=f"The definition of the drop {drop_id} in the store cannot be read:", why=f"{error}.") from None


def _row(row: Any) -> DropRow:
    definition = row["definition"]
    drop = decode_drop(definition) if isinstance(definition, str | bytes) else msgspec.convert(definition, Drop)
    return DropRow(drop, DropState(row["state"]), row["epoch"], row["opened_in_store"], dict(row["allotments"]))
