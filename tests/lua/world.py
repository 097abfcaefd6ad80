"""One drop on a real store, with the clock in the test's hand.

Tests name shoppers and reservations in words ("ann", "r1"): to the scripts ids are only text. A shopper's secret hash is
"ann-secret", the token "ann-token". Times are milliseconds after the opening; `t` turns them into the store's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
from redis.asyncio import Redis

from flashsale.drops import DropStore
from flashsale.keys import drop_keys
from flashsale.model import LINE_STRIDE, Drop, Group, OpenDropOutcome, Sku
from flashsale.resources import resource_dir
from flashsale.scripts import Script, Scripts, read_scripts
from flashsale.settings import Settings, load_settings
from tests.lua.dump import State, ask, decode
from tests.stores import PATIENCE

LIBRARY: dict[str, Script] = read_scripts(resource_dir("lua"))
DROP_ID = "d"
KEYS = drop_keys(DROP_ID)
OPENS_AT_MS = 1_800_000_000_000
BEAT_MS = 100
TOKEN_TTL_MS = 120_000
RESERVATION_TTL_MS = 60_000
CLAIM_WINDOW_MS = 5_000
STRIDE = LINE_STRIDE
"""Place 0 of line 1."""
DRAW_SECRET = bytes(range(32))

SKUS = (Sku("s1", "One", 5, 1_000, 2), Sku("s2", "Two", 3, 500, 2))
SINGLE = (Sku("s1", "One", 1, 1_000, 1),)


def t(after_ms: int) -> int:
    """The store's time `after_ms` after the opening."""
    return OPENS_AT_MS + after_ms


DROP = Drop(
    drop_id=DROP_ID,
    name="D",
    currency="EUR",
    skus=SKUS,
    joins_at_ms=t(-60_000),
    opens_at_ms=t(0),
    closes_at_ms=t(600_000),
    rate_per_min=60_000,
    capacity=50,
    claim_window_ms=CLAIM_WINDOW_MS,
    reservation_ttl_ms=RESERVATION_TTL_MS,
    limit_per_shopper=3,
)


def settings_of_tests(**room: int) -> Settings:
    """The default settings with small limits; `room` changes those of the waiting room."""
    return load_settings(
        environment={},
        overrides={
            "store": PATIENCE,
            "tokens": {"ttl_ms": TOKEN_TTL_MS},
            "waiting_room": {"tickets_max": 100, "reservations_per_shopper_max": 3} | room,
        },
    )


class World:
    """Calls scripts on one drop and shows the whole state."""

    def __init__(self, client: Redis, settings: Settings | None = None) -> None:
        settings = settings or settings_of_tests()
        self.client = client
        self.scripts = Scripts(client, LIBRARY, settings.store, settings.batch)
        self.drops = DropStore(self.scripts, settings)
        self.epoch = 1
        self.seen = 0
        """the sequence sent along with every call"""
        self.told = 0
        """the sequence of the last reply"""
        self.at(-10_000)

    def at(self, after_ms: int) -> None:
        """Sets the clock."""
        self.scripts.clock_ms = t(after_ms)

    async def open(self, **changes: Any) -> OpenDropOutcome:
        """Gives the drop to the store, with `changes` to its definition."""
        drop = dataclasses.replace(DROP, **changes)
        return await self.drops.open(drop, draw_secret=DRAW_SECRET if drop.order == "draw" else b"", injected_clock=True)

    async def state(self) -> State:
        """Everything the store holds of the drop."""
        async with self.client.pipeline(transaction=False) as pipeline:
            ask(pipeline, DROP_ID)
            return decode(DROP_ID, await pipeline.execute())

    async def digest(self) -> bytes:
        """The server's digest of all data, byte for byte."""
        found: bytes = await self.command("DEBUG", "DIGEST")
        return found

    async def command(self, *words: str | bytes | int) -> Any:
        """Any command of the server."""
        return await self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    def envelope(self) -> bytes:
        """The first argument of every script but open_drop and fence."""
        packed: bytes = msgpack.packb((self.epoch, self.scripts.clock_ms, self.seen))
        return packed

    def arguments(self, script: str, *arguments: Any) -> list[bytes | int]:
        """What the script gets: the envelope where it takes one, and `arguments`, packed where they are structured."""
        packed = [argument if isinstance(argument, bytes | int) else msgpack.packb(argument) for argument in arguments]
        return [self.envelope(), *packed] if script in ENVELOPED else packed

    async def act(self, script: str, *arguments: Any) -> tuple[str, int, Any]:
        """Calls a script as it is, structured arguments packed: (word, number, results)."""
        reply = msgpack.unpackb(await self.scripts.run(script, DROP_ID, *self.arguments(script, *arguments)), strict_map_key=False)
        if script not in ENVELOPED:
            return reply[0], reply[1], reply
        if reply[0] == "done":
            self.told = reply[3]
        return reply[0], reply[1], reply[2]

    async def _results(self, script: str, *arguments: Any) -> Any:
        word, _, results = await self.act(script, *arguments)
        assert word == "done", word
        return results

    async def join(self, *names: str) -> list[Any]:
        """Joins shoppers in one call."""
        results: list[Any] = await self._results("join", [joining(name) for name in names])
        return results

    async def join_with(self, *requests: list[Any]) -> list[Any]:
        """Joins in one call; see `joining`."""
        results: list[Any] = await self._results("join", list(requests))
        return results

    async def beat(
        self,
        rate_per_min: int = -1,
        weights: tuple[int, ...] = (),
        units_per_claim: int = 0,
        door: int = 0,
        sample: str = "",
        stays: tuple[int, ...] = (),
    ) -> str:
        """One beat of the inlet; the outcome."""
        outcome: str = (await self._results("advance", [BEAT_MS, rate_per_min, weights, units_per_claim, door, sample, stays]))[0]
        return outcome

    async def leave(self, name: str, word: str = "left", why: str = "", place: int = -1, queue: int = -1) -> list[Any]:
        """Gives a place up: (outcome, place)."""
        results: list[Any] = await self._results("leave", leaving(name, word, why, place, queue))
        return results

    async def draw(self, *step: Any) -> list[Any]:
        """A step of the draw: (outcome, closed at, roots, keys)."""
        results: list[Any] = await self._results("draw", list(step))
        return results

    async def let_in(self, *names: str, token: str = "token") -> None:
        """Exchanges tickets for tokens; all are admitted."""
        assert {result[0] for result in await self.admit(*names, token=token)} == {"admitted"}

    async def admit(self, *names: str, token: str = "token") -> list[Any]:
        """Exchanges tickets for tokens in one call."""
        results: list[Any] = await self._results("admit", [admission(name, token) for name in names])
        return results

    async def reserve(self, *requests: list[Any]) -> list[Any]:
        """Reserves in one call; see `reserving`."""
        results: list[Any] = await self._results("reserve", list(requests))
        return results

    async def confirm(self, reservation: str, reference: str = "pay", amount_minor: int = 1_500, key: str = "") -> list[Any]:
        """Pays one reservation; its result."""
        result: list[Any] = (await self._results("confirm", [paying(reservation, reference, amount_minor, key)]))[0]
        return result

    async def release(self, reservation: str, *, paid_too: bool = False) -> list[Any]:
        """Gives one reservation back, or cancels an order; its result."""
        result: list[Any] = (await self._results("release", [releasing(reservation, paid_too=paid_too)]))[0]
        return result

    async def extend(self, reservation: str, extension_ms: int = 30_000, key: str = "k-extend") -> list[Any]:
        """Gives one reservation more time; its result."""
        result: list[Any] = (await self._results("extend", [extending(reservation, extension_ms, key)]))[0]
        return result

    async def adjust(self, adjustment: str, sku: str, delta: int, *, drain: bool = False) -> list[Any]:
        """Adds or withdraws units: (outcome, allotment, available, reserved, sold, draining)."""
        result: list[Any] = await self._results("adjust_stock", [adjustment, sku, delta, int(drain)])
        return result

    async def fence(self, reason: str = "test", epoch: int = 1, sequence: int = 0) -> str:
        """Closes the drop to every script; the outcome."""
        return (await self.act("fence", [epoch, sequence, reason]))[0]

    async def expire(self, batch_size_max: int = 100) -> int:
        """Ends overdue reservations; how many."""
        ended: int = (await self._results("expire", batch_size_max))[1]
        return ended

    async def steer(self, word: str, value: int | str = 0) -> list[Any]:
        """The merchant's hand: (outcome, state)."""
        results: list[Any] = await self._results("steer_drop", [word, value])
        return results

    async def close(self) -> list[Any]:
        """Ends the drop: (outcome, closed at)."""
        results: list[Any] = await self._results("close_drop")
        return results


def secret_of(name: str) -> str:
    """What stands for the hash of a shopper's secret: 32 bytes."""
    return f"{name}-secret".ljust(32, ".")


def joining(name: str, **options: Any) -> list[Any]:
    """A request of join; `options` as the script's header has them."""
    return [name, secret_of(name), *([options] if options else [])]


def admission(name: str, token: str = "token", place: int = -1, queue: int = -1, mark: str | None = None) -> list[Any]:
    """A request of admit; with the place the caller takes the ticket to have, and that place in the order of the line's draw."""
    return [name, f"{name}-{token}", *([place, queue, _mark(place) if mark is None else mark] if place >= 0 else [])]


def leaving(name: str, word: str = "left", why: str = "", place: int = -1, queue: int = -1, mark: str | None = None) -> list[Any]:
    """A request of leave."""
    return [name, word, why, place, queue, *([_mark(place) if mark is None else mark] if place >= 0 else [])]


def _mark(place: int) -> str:
    """Of the draw that `drawn` reveals for the line of a place."""
    at = place // LINE_STRIDE
    return digits("key", at + 1)[at][:16]


def reserving(name: str, reservation: str, token: str = "token", **items: int) -> list[Any]:
    """A request of reserve; `items` are SKU = quantity."""
    return [reservation, name, f"{name}-{token}", f"q-{reservation}", [list(item) for item in sorted(items.items())]]


def paying(reservation: str, reference: str = "pay", amount_minor: int = 1_500, key: str = "") -> list[Any]:
    """A request of confirm; without an Idempotency-Key, as a webhook makes it, unless given."""
    return [reservation, reference, amount_minor, "q-confirm", key]


def releasing(reservation: str, *, paid_too: bool = False) -> list[Any]:
    """A request of release."""
    return [reservation, "q-release", "shopper", int(paid_too)]


def extending(reservation: str, extension_ms: int = 30_000, key: str = "k-extend") -> list[Any]:
    """A request of extend."""
    return [reservation, key, "q-extend", extension_ms]


def restoring(name: str, reservation: str, epoch: int = 0, number: int = 0, **items: int) -> list[Any]:
    """A request of restore: the receipt of a reservation made a second after the opening."""
    request = [reservation, name, f"q-{reservation}", epoch, number, [list(item) for item in sorted(items.items())]]
    return [*request, 1_500, t(1_000), t(1_000 + RESERVATION_TTL_MS)]


# ------------------------------------------------------------------------------------------------ where tests start from


async def scheduled(world: World) -> None:
    """Given to the store; joining begins later."""
    await world.open()
    world.at(-100_000)


async def waiting(world: World) -> None:
    """People may join; the opening comes later."""
    await world.open()
    world.at(-5_000)


async def joined(world: World) -> None:
    """Ann and bob wait for the opening."""
    await waiting(world)
    await world.join("ann", "bob")


async def served(world: World) -> None:
    """The drop is open; ann and bob are called and have not come yet."""
    await joined(world)
    await serve(world)


async def serve(world: World) -> None:
    """Two beats around the opening, so that everyone who waits is called."""
    world.at(-BEAT_MS)
    assert await world.beat() == "advanced"
    world.at(BEAT_MS)
    assert await world.beat() == "advanced"


def digits(name: str, lines: int = 1) -> list[str]:
    """What stands for the roots or keys of that many lines: 64 hex digits each."""
    return [f"{name}{line}".encode().hex().ljust(64, "0") for line in range(lines)]


BEACON = {"kind": "drand", "value": "ab" * 32, "round": 7}


async def draw(world: World, lines: int = 1) -> None:
    """Makes the draw, whose entries have to be fixed."""
    assert (await world.draw("close", digits("root", lines)))[0] == "closed"
    assert (await world.draw("reveal", digits("root", lines), digits("key", lines), BEACON))[0] == "revealed"


async def undrawn(world: World) -> None:
    """A drop with a draw is open; ann, bob and carl are in it, and it has not been made."""
    await world.open(order="draw")
    world.at(-5_000)
    await world.join("ann", "bob", "carl")
    world.at(BEAT_MS)
    await world.beat()


async def drawn(world: World) -> None:
    """The draw has put carl first, then ann, then bob; dora came after it. Nobody is called yet."""
    await undrawn(world)
    await draw(world)
    await world.join("dora")


QUEUE = {"ann": (0, 1), "bob": (1, 2), "carl": (2, 0)}
"""In `drawn`: place and place in the queue."""


async def called(world: World) -> None:
    """Those drawn and dora are called."""
    await drawn(world)
    world.at(2 * BEAT_MS)
    await world.beat()


async def grouped(world: World) -> None:
    """Open, with a line for everybody and one for vips. Ann and bob wait in the first, vic and val in the other."""
    await world.open(groups=(Group("vip", "VIP", 200),))
    world.at(-5_000)
    await world.join_with(joining("ann"), joining("bob"), joining("vic", line=1), joining("val", line=1))
    world.at(-BEAT_MS)
    await world.beat()


async def all_reserved(world: World) -> None:
    """One unit in all, and ann holds it as r1; bob and carl have looked for it and wait."""
    await world.open(skus=SINGLE, limit_per_shopper=1)
    world.at(-5_000)
    await world.join("ann", "bob", "carl")
    await serve(world)
    world.at(200)
    await world.let_in("ann", "bob", "carl")
    world.at(1_000)
    results = await world.reserve(reserving("ann", "r1", s1=1), reserving("carl", "r3", s1=1), reserving("bob", "r2", s1=1))
    assert [result[0] for result in results] == ["reserved", "sold_out", "sold_out"]


async def admitted(world: World) -> None:
    """Ann and bob have their tokens."""
    await served(world)
    world.at(200)
    assert [result[0] for result in await world.admit("ann", "bob")] == ["admitted", "admitted"]


async def reserved(world: World) -> None:
    """Ann holds r1: one of each SKU."""
    await admitted(world)
    world.at(1_000)
    [result] = await world.reserve(reserving("ann", "r1", s1=1, s2=1))
    assert result[0] == "reserved"


async def confirmed(world: World) -> None:
    """Ann has paid r1."""
    await reserved(world)
    world.at(2_000)
    assert (await world.confirm("r1"))[0] == "confirmed"


async def confirmed_with_key(world: World) -> None:
    """Ann has paid r1, and the caller gave the Idempotency-Key k."""
    await reserved(world)
    world.at(2_000)
    assert (await world.confirm("r1", key="k"))[0] == "confirmed"


async def released(world: World) -> None:
    """Ann has given r1 back."""
    await reserved(world)
    world.at(2_000)
    assert (await world.release("r1"))[0] == "released"


async def cancelled(world: World) -> None:
    """Ann has paid r1, and the order was taken back."""
    await confirmed(world)
    world.at(3_000)
    assert (await world.release("r1", paid_too=True))[0] == "cancelled"


async def extended(world: World) -> None:
    """Ann's r1 has half a minute more."""
    await reserved(world)
    world.at(2_000)
    assert (await world.extend("r1"))[0] == "extended"


async def draining(world: World) -> None:
    """Ann holds r1, one of each SKU; all five units of s1 are being withdrawn, and hers is the one that is left."""
    await reserved(world)
    assert (await world.adjust("a1", "s1", -5, drain=True))[0] == "draining"


async def expired(world: World) -> None:
    """Ann's r1 has run out."""
    await reserved(world)
    world.at(1_000 + RESERVATION_TTL_MS)
    assert await world.expire() == 1


async def last_unit_reserved(world: World) -> None:
    """One unit in all, and ann holds it as r1; bob is admitted."""
    await world.open(skus=SINGLE, limit_per_shopper=1)
    world.at(-5_000)
    await world.join("ann", "bob")
    await serve(world)
    world.at(200)
    await world.admit("ann", "bob")
    world.at(1_000)
    [result] = await world.reserve(reserving("ann", "r1", s1=1))
    assert result[0] == "reserved"


async def all_sold(world: World) -> None:
    """The only unit is sold."""
    await last_unit_reserved(world)
    assert (await world.confirm("r1", amount_minor=1_000))[0] == "confirmed"


async def refund_due(world: World) -> None:
    """Ann's r1 ran out, bob took the unit as r2, and then ann's payment came."""
    await last_unit_reserved(world)
    world.at(1_000 + RESERVATION_TTL_MS)
    assert await world.expire() == 1
    await world.reserve(reserving("bob", "r2", s1=1))
    assert (await world.confirm("r1", amount_minor=1_000))[0] == "refund_due"


async def paused(world: World) -> None:
    """Ann and bob have tokens, and the drop is paused; carl has joined since and is not served."""
    await admitted(world)
    await world.join("carl")
    await world.steer("pause")


async def closed(world: World) -> None:
    """Ann holds r1 and the drop has ended."""
    await reserved(world)
    await world.close()


async def busy(world: World) -> None:
    """A state in which every script but open_drop has something to change; see `VALID`.

    Dave was alone in the draw and gave up before it; ann, bob and carl came after it, and all are called. r1 is overdue, r0 is live.
    """
    await world.open(order="draw")
    world.at(-5_000)
    await world.join("dave")
    assert await world.leave("dave") == ["left", 0]
    world.at(-BEAT_MS)
    await world.beat()
    world.at(50)
    await world.join("ann", "bob", "carl")
    await draw(world)
    world.at(BEAT_MS)
    await world.beat()
    world.at(200)
    await world.let_in("ann", "bob")
    world.at(1_000)
    await world.reserve(reserving("ann", "r1", s1=1, s2=1))
    world.at(2_000)
    await world.reserve(reserving("bob", "r0", s1=1))
    world.at(1_000 + RESERVATION_TTL_MS)


ENVELOPED = frozenset(name for name, script in LIBRARY.items() if script.arguments[0] == "envelope")
"""Scripts that are told the epoch, the clock and the sequence."""
VALID: dict[str, tuple[Any, ...]] = {
    "join": ([joining("dora")],),
    "admit": ([admission("carl")],),
    "leave": (leaving("carl"),),
    "draw": (["gone", [0], [0]],),
    "advance": ([BEAT_MS, 60_000],),
    "reserve": ([reserving("bob", "r2", s1=1, s2=1)],),
    "confirm": ([paying("r1", key="k-confirm")],),
    "release": ([releasing("r1")],),
    "extend": ([extending("r0")],),
    "expire": (100,),
    "steer_drop": (["capacity", 9],),
    "close_drop": (),
    "adjust_stock": (["a1", "s1", -4, 1],),
    "repair": (["fix", [["tell", "r1"]]],),
    "restore": ([restoring("dora", "r9", s1=1)],),
    "inspect": ([["ann"], ["r1"]],),
}
"""Arguments (after the envelope) with which each script does its work in the state `busy`."""


async def forgotten(world: World) -> None:
    """The store has lost the drop's stock."""
    await reserved(world)
    await world.client.delete(KEYS.stock)


async def forgotten_rules(world: World) -> None:
    """The store has lost the drop's rules."""
    await reserved(world)
    await world.client.delete(KEYS.drop)
