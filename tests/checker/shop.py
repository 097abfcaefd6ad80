"""The real scripts on a real store, called by shoppers who write a history; answers get lost on the way to them.

Replies are lost here, after the script has run: what its caller then sees is the same as when a connection breaks.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from flashsale.connections.database import Database
from flashsale.drops import DropStore, encode_drop
from flashsale.keys import drop_keys
from flashsale.model import ReservationState
from flashsale.scripts import Script, Scripts
from loadtest.checker.model import Rules
from loadtest.checker.stores import read_final_state
from loadtest.checker.verdict import Verdict, check
from loadtest.history import Call, Ending, Items, Kind, Recorder, Step, read_history
from tests.integration.reconciler_stage import make_consumer
from tests.lua.world import DROP, DROP_ID, KEYS, World, extending, paying, releasing, serve, settings_of_tests, t

REPEATS_MAX = 5
EXTENSION_MS = 30_000
SHOPPERS = tuple(f"shopper{number}" for number in range(14))
PRICES = {sku.sku: sku.price_minor for sku in DROP.skus}
_DONE = frozenset({"reserved", "replayed", "released", "confirmed", "extended", "cancelled"})


class Shop:
    """One drop, its shoppers, and what they saw."""

    def __init__(self, store: Redis, database: Database, path: Path, scripts: dict[str, Script]) -> None:
        self.store = store
        self.database = database
        self.sound = World(store)
        """the scripts as they are, for setting up and looking"""
        self.world = World(store)
        settings = settings_of_tests()
        self.world.scripts = Scripts(store, scripts, settings.store, settings.batch)
        self.world.drops = DropStore(self.world.scripts, settings)
        self.path = path
        self.recorder = Recorder(path, wall_ms=lambda: self.world.scripts.clock_ms)
        self.lost = 0.0
        """share of answers that never arrive"""
        self.unpaid: dict[str, Items] = {}
        """reservations somebody may still pay for"""

    async def open(self, **changes: Any) -> None:
        """The drop is open in both stores, and everybody has a token."""
        drop = dataclasses.replace(DROP, **changes)
        await self.database.fetch(
            "drop_insert",
            DROP_ID,
            drop.tenant,
            drop.name,
            encode_drop(drop),
            drop.joins_at_ms,
            drop.opens_at_ms,
            drop.closes_at_ms,
        )
        columns = ("sku", "name", "allotment", "price_minor", "limit_per_shopper")
        await self.database.fetch("drop_skus_insert", DROP_ID, *([getattr(sku, name) for sku in drop.skus] for name in columns))
        await self.sound.open(**changes)
        self.at(-5_000)
        await self.sound.join(*SHOPPERS)
        await serve(self.sound)
        self.at(200)
        assert {result[0] for result in await self.sound.admit(*SHOPPERS)} == {"admitted"}
        self.at(1_000)

    def at(self, after_ms: int) -> None:
        """Sets both clocks."""
        self.world.at(after_ms)
        self.sound.at(after_ms)

    # --------------------------------------------------------------------------------------------------- what people do

    async def reserve(self, shopper: str, attempt: int = 0, **items: int) -> str | None:
        """A reservation's id when it was acknowledged."""
        rid, asked = self.rid(shopper, attempt), tuple(sorted(items.items()))
        request = [rid, shopper, f"{shopper}-token", f"q-{rid}", [list(item) for item in asked]]
        call = Call(Kind.RESERVE, shopper, DROP_ID, f"{shopper}-{attempt}", asked, ticket_id=shopper, reservation_id=rid)
        return rid if await self._until_answered(call, "reserve", request) else None

    async def release(self, rid: str) -> bool:
        """Gives it back."""
        return await self._until_answered(self._about(Kind.RELEASE, rid), "release", releasing(rid))

    async def cancel(self, rid: str) -> bool:
        """Undoes a sale, as a merchant does."""
        return await self._until_answered(self._about(Kind.CANCEL_ORDER, rid), "release", releasing(rid, paid_too=True))

    async def pay(self, rid: str, items: Items, reference: str = "", *, more: int = 0) -> bool:
        """Confirms a payment of the price and `more`."""
        reference, amount_minor = reference or f"pay-{rid}", sum(PRICES[sku] * quantity for sku, quantity in items) + more
        call = self._about(Kind.CONFIRM, rid, key=f"key-{reference}", payment_reference=reference, amount_minor=amount_minor)
        return await self._until_answered(call, "confirm", paying(rid, reference, amount_minor, call.key))

    async def extend(self, rid: str, key: str = "") -> bool:
        """Asks for more time."""
        call = self._about(Kind.EXTEND, rid, key=key or f"extend-{rid}")
        return await self._until_answered(call, "extend", extending(rid, EXTENSION_MS, call.key))

    async def adjust(self, change: str, sku: str, delta: int) -> bool:
        """The merchant adds units, or withdraws them."""
        call = Call(Kind.ADJUST_STOCK, drop=DROP_ID, key=change, items=((sku, 1),), delta=delta)
        for attempt in range(REPEATS_MAX):
            op = self.recorder.invoke(call)
            _, _, [outcome, *_] = await self.world.act("adjust_stock", [change, sku, delta, 0])
            if _roll(call, attempt) < self.lost:
                self.recorder.end(op, Ending(Step.UNKNOWN, "lost"))
                continue
            done = outcome in ("adjusted", "replayed")
            self.recorder.end(op, Ending(Step.OK if done else Step.FAIL, outcome))
            return done
        return False

    async def expire(self) -> int:
        """What the reaper does."""
        [_, ended] = (await self.world.act("expire", 100))[2]
        return int(ended)

    @staticmethod
    def rid(shopper: str, attempt: int = 0) -> str:
        """What the shopper's reservation is called."""
        return f"{DROP_ID}.r{shopper}-{attempt}"

    def _about(self, kind: Kind, rid: str, **more: Any) -> Call:
        return Call(kind, drop=DROP_ID, reservation_id=rid, **more)

    async def _until_answered(self, call: Call, script: str, request: list[Any]) -> bool:
        """Whether it was done; asked again while the answer is lost."""
        for attempt in range(REPEATS_MAX):
            op = self.recorder.invoke(call)
            word, _, results = await self.world.act(script, [request])
            if _roll(call, attempt) < self.lost:
                self.recorder.end(op, Ending(Step.UNKNOWN, "lost"))
                continue
            ending = _ending(call, word, results)
            self.recorder.end(op, ending)
            return ending.step is Step.OK
        return False

    # ------------------------------------------------------------------------------------------------ what befalls stores

    async def picture(self) -> dict[str, bytes]:
        """Everything the store holds of the drop, as a snapshot on disk would."""
        pictures = {getattr(KEYS, name): await self.store.dump(getattr(KEYS, name)) for name in drop_keys(DROP_ID).__dataclass_fields__}
        return {key: picture for key, picture in pictures.items() if picture is not None}

    async def go_back_to(self, picture: dict[str, bytes]) -> None:
        """The store is as it was when the picture was taken."""
        await self.store.delete(*(getattr(KEYS, name) for name in drop_keys(DROP_ID).__dataclass_fields__))
        for key, value in picture.items():
            await self.store.restore(key, 0, value)

    # --------------------------------------------------------------------------------------------------------- the end

    async def come_to_rest(self) -> None:
        """Everything in the journal is in Postgres."""
        await make_consumer(self.store, self.database, DROP_ID).drain()

    async def verdict(self, rules: Rules | None = None) -> Verdict:
        """What the history proves."""
        self.recorder.close()
        state = await read_final_state(self.store, self.database, self.sound.drops, DROP_ID)
        return check(read_history(self.path), state, rules)


def _roll(call: Call, attempt: int) -> float:
    """From 0 to 1, the same for the same attempt whatever runs beside it."""
    return random.Random(f"{call.kind} {call.reservation_id} {call.key} {call.payment_reference} {call.amount_minor} {attempt}").random()


def _ending(call: Call, word: str, results: Any) -> Ending:
    if word == "recovering":
        return Ending(Step.FAIL, "recovering")
    [(outcome, *told)] = results
    done = outcome in _DONE and (outcome, call.kind) != ("confirmed", Kind.RELEASE)
    if len(told) < 4:
        return Ending(Step.FAIL, outcome)
    return Ending(
        Step.OK if done else Step.FAIL,
        outcome,
        state=ReservationState(told[0]).name.lower(),
        reservation_id=call.reservation_id,
        amount_minor=told[1],
        reserved_at_ms=told[2],
        expires_at_ms=told[3],
    )


Workload = Callable[[Shop], Awaitable[Rules | None]]
"""plays something out in a shop and leaves it at rest; answers what the checker has to know of it"""

__all__ = ["DROP_ID", "KEYS", "PRICES", "SHOPPERS", "Shop", "Workload", "t"]
