"""How people behave at a drop: a model with few numbers, and the crowd that follows from it and a seed. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from flashsale.model import Drop, Sku

SESSION_SHARES = (0.3, 0.7)
"""Of a buyer's time inside, choosing takes a part between these; the rest is paying."""
SILENT_AT_ONCE = 1 / 3
"""of those who do not come: they close the tab as soon as they have a place"""
SILENT_WITHIN_MS = 600_000
"""The others close it some time until so long after the opening."""
GIVES_UP_WITHIN_MS = 300_000


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """What the crowd does. Shares are from 0 to 1."""

    shoppers: int
    no_show: float = 0.3
    """of all who join: gone without a word when their turn comes"""
    buy: float = 0.6
    """of those who are let in"""
    session_ms: int = 45_000
    """median time inside, from the admission token to having paid or left"""
    session_spread: float = 0.5
    """standard deviation of its logarithm"""
    arrivals_ms: int = 600_000
    """before the opening people come within this time, more and more of them towards the end; 0: all in the last instant"""
    late: float = 0.1
    """of all: come after the opening"""
    late_ms: int = 60_000
    """mean delay of those"""
    gives_up: float = 0.02
    """of all: press leave while they wait"""
    second_unit: float = 0.2
    """of buyers: take two where the limit allows"""
    abandons: float = 0.05
    """of reservations: never paid and never given back, so that they expire"""
    payment_fails: float = 0.03
    """of reservations: given back because the payment failed"""
    says_goodbye: float = 0.5
    """of those who come and buy nothing: leave by the button; the slots of the others lapse"""
    in_group: float = 0.1
    """of all, for each priority group"""


class Ending(IntEnum):
    """What becomes of a reservation."""

    PAID = 0
    FAILED = 1
    ABANDONED = 2


@dataclass(frozen=True, slots=True)
class Shopper:
    """One person's intentions. Times are from the opening, so those before it are negative."""

    arrives_ms: int
    comes: bool = True
    """when the turn has come"""
    silent_ms: int | None = None
    """closes the tab then"""
    gives_up_ms: int | None = None
    """presses leave then, when still waiting"""
    choosing_ms: int = 0
    paying_ms: int = 0
    items: tuple[tuple[str, int], ...] = ()
    """(SKU, quantity); empty for who buys nothing"""
    ending: Ending = Ending.PAID
    says_goodbye: bool = True
    line: int = 0


def crowd(behaviour: Behaviour, drop: Drop, seed: int) -> list[Shopper]:
    """Everybody, in order of arrival. The same behaviour, drop and seed give the same crowd."""
    chance = random.Random(seed)  # noqa: S311 - a rehearsal has to repeat
    weights = [sku.allotment for sku in drop.skus]
    shoppers = [_shopper(behaviour, drop, weights, chance) for _ in range(behaviour.shoppers)]
    return sorted(shoppers, key=lambda shopper: shopper.arrives_ms)


def _shopper(behaviour: Behaviour, drop: Drop, weights: Sequence[int], chance: random.Random) -> Shopper:
    arrives_ms = _arrival_ms(behaviour, chance)
    comes = chance.random() >= behaviour.no_show
    session_ms = behaviour.session_ms * math.exp(chance.gauss(0, behaviour.session_spread))
    buys = chance.random() < behaviour.buy
    choosing_ms = session_ms * chance.uniform(*SESSION_SHARES) if buys else session_ms
    return Shopper(
        arrives_ms=arrives_ms,
        comes=comes,
        silent_ms=None if comes else _silent_ms(arrives_ms, chance),
        gives_up_ms=max(0, arrives_ms) + chance.randrange(GIVES_UP_WITHIN_MS) if chance.random() < behaviour.gives_up else None,
        choosing_ms=round(choosing_ms),
        paying_ms=round(session_ms - choosing_ms),
        items=_items(drop, weights, chance, behaviour.second_unit) if buys else (),
        ending=_ending(behaviour, chance),
        says_goodbye=chance.random() < behaviour.says_goodbye,
        line=_line(len(drop.groups), behaviour.in_group, chance),
    )


def _arrival_ms(behaviour: Behaviour, chance: random.Random) -> int:
    if chance.random() < behaviour.late:
        return 1 + round(chance.expovariate(1 / max(1, behaviour.late_ms)))
    return -1 - round(behaviour.arrivals_ms * chance.random() ** 2)


def _silent_ms(arrives_ms: int, chance: random.Random) -> int:
    if chance.random() < SILENT_AT_ONCE:
        return arrives_ms
    return round(chance.uniform(arrives_ms, max(arrives_ms, 0) + SILENT_WITHIN_MS))


def _items(drop: Drop, weights: Sequence[int], chance: random.Random, second_unit: float) -> tuple[tuple[str, int], ...]:
    sku: Sku = chance.choices(drop.skus, weights)[0]
    two = chance.random() < second_unit and min(sku.limit_per_shopper, drop.limit_per_shopper) > 1
    return ((sku.sku, 2 if two else 1),)


def _ending(behaviour: Behaviour, chance: random.Random) -> Ending:
    roll = chance.random()
    if roll < behaviour.abandons:
        return Ending.ABANDONED
    return Ending.FAILED if roll < behaviour.abandons + behaviour.payment_fails else Ending.PAID


def _line(groups: int, share: float, chance: random.Random) -> int:
    at = int(chance.random() / share) if share > 0 else groups
    return at + 1 if at < groups else 0
