"""What shoppers and misfortune do in a shop. With the scripts as they are, no promise is broken by any of it."""

from __future__ import annotations

import asyncio
import random

from flashsale.connections.database import Database
from flashsale.errors import DatabaseUnavailable
from flashsale.model import Sku
from loadtest.checker.model import Rules, Window
from loadtest.history import Items
from reconciler.consumer import JournalConsumer
from reconciler.journal import Journal
from reconciler.orders import Batch, OrderRecorder, Recorded
from tests.checker.shop import DROP_ID, EXTENSION_MS, KEYS, SHOPPERS, Shop, t
from tests.integration.reconciler_stage import make_consumer
from tests.lua.world import RESERVATION_TTL_MS

ONE = (("s1", 1),)
BOTH = (("s1", 1), ("s2", 1))
SINGLE = (Sku("s1", "One", 1, 1_000, 1),)
EXPIRED_MS = 1_000 + RESERVATION_TTL_MS
RESERVATIONS_MAX = 3
"""of one shopper, as the shop's settings have it"""


async def busy_drop(shop: Shop) -> None:
    """More wishes than units, lost answers, and every way a reservation can end."""
    await shop.open()
    shop.lost = 0.3
    await asyncio.gather(*(_visit(shop, number, shopper) for number, shopper in enumerate(SHOPPERS[:8])))
    shop.at(EXPIRED_MS)
    await shop.expire()
    await asyncio.gather(*(shop.pay(shop.rid(shopper), ONE) for shopper in SHOPPERS[:8:4]))  # too late, or not
    shop.at(EXPIRED_MS + 1_000)
    await asyncio.gather(*(_buy(shop, shopper) for shopper in SHOPPERS[8:]))
    shop.at(2 * EXPIRED_MS)
    await shop.expire()
    await shop.come_to_rest()


async def _visit(shop: Shop, number: int, shopper: str) -> None:
    items = BOTH if number % 3 == 2 else ONE
    rid = await shop.reserve(shopper, **dict(items))
    if rid is None or number % 4 == 0:
        return
    if number % 4 == 1:
        await shop.release(rid)
        await shop.release(rid)
        return
    await shop.pay(rid, items, more=1)
    await shop.pay(rid, items)
    await shop.pay(rid, items, reference=f"again-{rid}")
    if number == 7:
        await shop.cancel(rid)


async def _buy(shop: Shop, shopper: str) -> None:
    rid = await shop.reserve(shopper, s1=1)
    if rid:
        await shop.pay(rid, ONE)


async def whatever(shop: Shop, seed: int) -> None:
    """Shoppers and a merchant do what a seed says, side by side, in two crowds with an expiry between them."""
    chance = random.Random(seed)
    await shop.open()
    shop.lost = chance.uniform(0, 0.5)
    now_ms = 1_000
    for crowd in (SHOPPERS[:7], SHOPPERS[7:]):
        shop.at(now_ms)
        people = [_wanderer(shop, shopper, random.Random(f"{seed} {shopper}")) for shopper in crowd]
        await asyncio.gather(*people, *(_merchant(shop, number, random.Random(f"{seed} {now_ms}")) for number in range(2)))
        shop.at(now_ms + RESERVATION_TTL_MS)
        await shop.expire()
        for rid, items in list(shop.unpaid.items()):
            if chance.random() < 0.5:
                await shop.pay(rid, items)
        now_ms += RESERVATION_TTL_MS + EXTENSION_MS
        shop.at(now_ms)
        await shop.expire()
    await shop.come_to_rest()


async def _wanderer(shop: Shop, shopper: str, chance: random.Random) -> None:
    for attempt in range(chance.randint(1, 3)):
        items = chance.choice((ONE, ONE, BOTH, (("s1", 2),), (("s2", 1),)))
        rid = await shop.reserve(shopper, attempt, **dict(items))
        if rid is None:
            continue
        shop.unpaid[rid] = items
        for deed in chance.choices(("pay", "pay", "pay again", "pay wrongly", "release", "extend", "cancel"), k=chance.randrange(4)):
            await _do(shop, deed, rid, items)


async def _do(shop: Shop, deed: str, rid: str, items: Items) -> None:
    match deed:
        case "pay":
            await shop.pay(rid, items)
        case "pay again":
            await shop.pay(rid, items, reference=f"again-{rid}")
        case "pay wrongly":
            await shop.pay(rid, items, reference=f"wrong-{rid}", more=1)
        case "release":
            await shop.release(rid)
        case "extend":
            await shop.extend(rid)
        case _:
            await shop.cancel(rid)


async def _merchant(shop: Shop, number: int, chance: random.Random) -> None:
    await shop.adjust(f"change-{number}-{chance.random()}", chance.choice(("s1", "s2")), chance.choice((-1, 1, 2)))


async def greedy_shopper(shop: Shop) -> None:
    """One shopper wants more than the limit, in one reservation after another."""
    await shop.open()
    for attempt in range(3):
        await shop.reserve("shopper0", attempt, s1=2)
    await shop.come_to_rest()


async def limit_comes_back(shop: Shop) -> None:
    """One shopper gives the only unit they may have back, and takes it again, until so many reservations are too many."""
    await shop.open(skus=SINGLE, limit_per_shopper=1)
    for attempt in range(RESERVATIONS_MAX):
        held = await shop.reserve("shopper0", attempt, s1=1)
        if held:
            await shop.release(held)
    assert await shop.reserve("shopper0", RESERVATIONS_MAX, s1=1) is None
    await shop.come_to_rest()


async def last_unit_whose_answer_is_lost(shop: Shop) -> None:
    """The shopper who took the last unit hears nothing, and asks again."""
    await shop.open(skus=SINGLE, limit_per_shopper=1)
    shop.lost = 1.0
    await shop.reserve("shopper0", s1=1)
    shop.lost = 0.0
    shop.at(2_000)
    await shop.reserve("shopper0", s1=1)
    await shop.come_to_rest()


async def asked_again(shop: Shop) -> None:
    """The answer is lost, asked for again, and the shopper clicks once more."""
    await shop.open()
    shop.lost = 1.0
    await shop.reserve("shopper0", s1=1)
    shop.lost = 0.0
    await shop.reserve("shopper0", s1=1)
    await shop.reserve("shopper0", s1=1)
    await shop.come_to_rest()


async def unit_comes_back(shop: Shop) -> None:
    """Two shoppers wait for the only unit, the later one asked first; it comes back twice."""
    await shop.open(skus=SINGLE, limit_per_shopper=1)
    held = await shop.reserve("shopper0", s1=1)
    for shopper in ("shopper2", "shopper1"):
        await shop.reserve(shopper, s1=1)
    for attempt, shopper in enumerate(("shopper1", "shopper2"), start=1):
        if held:
            await shop.release(held)
        await shop.reserve("shopper3", attempt, s1=1)
        held = await shop.reserve(shopper, attempt, s1=1)
    await shop.come_to_rest()


async def paid_when_all_is_gone(shop: Shop) -> None:
    """A payment comes after its reservation's end, when another has the unit."""
    await shop.open(skus=SINGLE, limit_per_shopper=1)
    rid = await shop.reserve("shopper0", s1=1)
    shop.at(EXPIRED_MS)
    await shop.expire()
    other = await shop.reserve("shopper1", s1=1)
    assert rid
    assert other
    await shop.pay(other, ONE)
    await shop.pay(rid, ONE)
    await shop.come_to_rest()


async def two_payments(shop: Shop) -> None:
    """One reservation is paid twice."""
    await shop.open()
    rid = await shop.reserve("shopper0", s1=1)
    assert rid
    await shop.pay(rid, ONE)
    await shop.pay(rid, ONE, reference="another")
    await shop.come_to_rest()


async def merchant_changes_stock(shop: Shop) -> None:
    """Units are added when all are gone, and withdrawn; answers get lost, so that each change is asked for twice."""
    await shop.open(skus=SINGLE, limit_per_shopper=1)
    assert await shop.reserve("shopper0", s1=1)
    await shop.reserve("shopper1", s1=1)
    shop.lost = 1.0
    await shop.adjust("more", "s1", 2)
    shop.lost = 0.0
    await shop.adjust("more", "s1", 2)
    await asyncio.gather(*(_buy(shop, shopper) for shopper in SHOPPERS[2:4]))
    await shop.adjust("fewer", "s1", -1)
    shop.at(EXPIRED_MS)
    await shop.expire()
    await shop.adjust("fewer again", "s1", -1)
    await _buy(shop, "shopper4")
    await shop.come_to_rest()


async def one_more_minute(shop: Shop) -> None:
    """A shopper asks for more time, once and again, and pays in it; another lets it pass."""
    await shop.open()
    rids = [await shop.reserve(shopper, s1=1) for shopper in SHOPPERS[:2]]
    for rid in rids:
        assert rid
        await shop.extend(rid)
        await shop.extend(rid, key=f"again-{rid}")
    shop.at(EXPIRED_MS + 1_000)
    await shop.expire()
    assert rids[0]
    await shop.pay(rids[0], ONE)
    shop.at(EXPIRED_MS + EXTENSION_MS)
    await shop.expire()
    await shop.come_to_rest()


async def reaper_in_a_hurry(shop: Shop) -> None:
    """The reaper looks shortly before the expiry."""
    await shop.open()
    await shop.reserve("shopper0", s1=1)
    shop.at(EXPIRED_MS - 5_000)
    await shop.expire()
    await shop.come_to_rest()


async def expiry_left_behind(shop: Shop) -> None:
    """An entry stays among the expiries although its reservation is sold."""
    await shop.open()
    rid = await shop.reserve("shopper0", s1=1)
    assert rid
    await shop.pay(rid, ONE)
    await shop.store.zadd(KEYS.expiries, {rid: t(2_000)})
    shop.at(EXPIRED_MS)
    await shop.expire()
    await shop.come_to_rest()


async def units_unreadable(shop: Shop) -> None:
    """The number of available units is missing for a while."""
    await shop.open()
    for shopper in SHOPPERS[:3]:
        await shop.reserve(shopper, s1=1)
    available = await shop.store.hget(KEYS.stock, "available:s1")
    assert available is not None
    await shop.store.hdel(KEYS.stock, "available:s1")
    for shopper in SHOPPERS[3:9]:
        await shop.reserve(shopper, s1=1)
    await shop.store.hsetnx(KEYS.stock, "available:s1", available)
    await shop.come_to_rest()


async def earlier_epoch_comes_back(shop: Shop) -> None:
    """A store of the epoch before answers workers who have seen the next one; then the right one is back."""
    await shop.open(skus=SINGLE, limit_per_shopper=1)
    before = await shop.picture()
    await shop.store.hset(KEYS.drop, "epoch", "2")
    shop.world.epoch = 2
    assert await shop.reserve("shopper0", s1=1)
    right = await shop.picture()
    await shop.go_back_to(before)
    shop.at(2_000)
    await shop.reserve("shopper1", s1=1)
    await shop.go_back_to(right)
    await shop.come_to_rest()


async def store_forgets_a_sale(shop: Shop) -> Rules:
    """The store loses a sale that Postgres has, and nobody who has seen it is there; the unit is sold again."""
    await shop.open(skus=SINGLE, limit_per_shopper=1)
    before = await shop.picture()
    rid = await shop.reserve("shopper0", s1=1)
    assert rid
    await shop.pay(rid, ONE)
    await shop.come_to_rest()
    shop.at(2_000)
    await shop.go_back_to(before)
    shop.at(3_000)
    rid = await shop.reserve("shopper1", s1=1)
    assert rid
    await shop.pay(rid, ONE)
    await shop.come_to_rest()
    return Rules(losses=(Window(t(2_000), t(2_000)),))


class _Dying(OrderRecorder):
    """Dies before it commits anything."""

    def __init__(self, database: Database, stop: asyncio.Event) -> None:
        super().__init__(database)
        self._stop = stop

    async def record(self, batch: Batch, *, may_refuse: bool = True) -> Recorded:
        self._stop.set()
        raise DatabaseUnavailable(what="The process has died.")


async def reconciler_dies_before_its_commit(shop: Shop, dying: JournalConsumer | None = None) -> None:
    """One reconciler reads a sale and dies; another takes over."""
    await shop.open()
    rid = await shop.reserve("shopper0", s1=1)
    assert rid
    await shop.pay(rid, ONE)
    stop = asyncio.Event()
    dying = dying or make_consumer(shop.store, shop.database, DROP_ID)
    dying._recorder = _Dying(shop.database, stop)
    await dying.run(stop)
    await _take_over(shop)


async def _take_over(shop: Shop) -> None:
    """Another consumer works until nothing is left unfinished."""
    stop, journal = asyncio.Event(), Journal(shop.store, DROP_ID, "looking")
    working = asyncio.create_task(make_consumer(shop.store, shop.database, DROP_ID).run(stop))
    async with asyncio.timeout(30):
        while await journal.oldest_unfinished_ms() is not None:
            await asyncio.wait({working}, timeout=0.01)
    stop.set()
    await working
