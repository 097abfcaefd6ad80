"""What simulated shoppers are like, and the arithmetic every honest client does. Pure: the same seed, the same people."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Items = tuple[tuple[str, int], ...]
"""(SKU, quantity) in ascending order of SKU, each SKU once"""

JITTER = 0.3
"""Polls are spread by this share, up and down, as the contract asks."""


class Intent(StrEnum):
    """What a shopper does with a reservation."""

    PAY = "pay"
    """pays; the shop's backend confirms it through the storefront API"""
    PAY_BY_WEBHOOK = "pay_by_webhook"
    """pays; the payment provider tells the service"""
    PAY_LATE = "pay_late"
    """pays after the reservation has expired"""
    HOLD = "hold"
    """does nothing, so the reservation expires"""
    RELEASE = "release"
    """gives it back"""


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a crowd does what: shares from 0 to 1. The defaults are a lively but believable crowd."""

    late: float = 0.3
    """join after the opening"""
    joins_twice: float = 0.08
    """join again with the same secret, as a reload does"""
    no_show: float = 0.12
    """join and never come back"""
    impatient: float = 0.25
    """leave when everything is reserved although some may come back; the others wait until the last unit is sold"""
    lost_answer: float = 0.05
    """lose the answer to a reservation and repeat it with the same Idempotency-Key"""
    over_limit: float = 0.05
    """ask for more than the limit allows once they hold something"""
    forged_token: float = 0.02
    """try a made-up admission token first"""
    second_unit: float = 0.25
    """want two units instead of one"""
    second_sku: float = 0.1
    """want one of each of two SKUs, all or nothing"""
    hold: float = 0.07
    release: float = 0.04
    pay_late: float = 0.01
    webhook: float = 0.25
    """of the others, pay through the provider's webhook"""
    extends: float = 0.0
    """ask for more time before they go on"""
    pays_twice: float = 0.0
    """pay a second time, by another payment; needs the storefront's key, as the next does"""
    regrets: float = 0.0
    """have the paid order taken back"""


@dataclass(frozen=True, slots=True)
class Ware:
    """A SKU on sale, as the drop's description tells."""

    sku: str
    limit: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one shopper has decided beforehand."""

    number: int
    secret: str
    late: bool
    joins_at: float
    """0 to 1: when in its time span (before or after the opening) it joins"""
    joins_twice: bool
    no_show: bool
    polls_before_leaving: int
    """a no-show's"""
    impatient: bool
    forged_token: bool
    lost_answer: bool
    over_limit: bool
    wanted: Items
    intent: Intent
    choosing_s: float
    """between admission and reserving"""
    paying_s: float
    """between reserving and what follows"""
    extends: bool
    pays_twice: bool
    regrets: bool

    @property
    def secret_hash(self) -> str:
        """What is sent when joining."""
        return secret_hash_of(self.secret)


def secret_hash_of(secret: str) -> str:
    """base64url SHA-256 of the secret's ASCII text, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(secret.encode("ascii")).digest()).decode().rstrip("=")


def reservation_id_of(ticket_id: str, idempotency_key: str) -> str:
    """The reservation a key stands for: 128 bits of SHA-256 over the length-prefixed words, as base64url.

    It follows from what the shopper knows, so that a call whose answer was lost has a name, too.
    """
    drop_id, digest = ticket_id.rpartition(".")[0], hashlib.sha256()
    for word in ("reservation", ticket_id, idempotency_key):
        digest.update(b"%d:%b" % (len(word.encode()), word.encode()))
    return f"{drop_id}.r{base64.urlsafe_b64encode(digest.digest()[:16]).decode().rstrip('=')}"


def plan_shopper(seed: int, number: int, wares: Sequence[Ware], limit: int, habits: Habits | None = None) -> Plan:
    """Shopper `number` of the crowd `seed`. Its decisions depend on nothing else, so a crowd of any size repeats.

    Args:
        seed: of the crowd.
        number: of the shopper in it, from 0.
        wares: what is on sale, in ascending order of SKU.
        limit: units one shopper may have in all.
        habits: of the crowd.
    """
    habits = habits or Habits()
    chance = random.Random(f"{seed}:{number}")
    return Plan(
        number=number,
        secret=base64.urlsafe_b64encode(chance.randbytes(32)).decode().rstrip("="),
        late=chance.random() < habits.late,
        joins_at=chance.random(),
        joins_twice=chance.random() < habits.joins_twice,
        no_show=chance.random() < habits.no_show,
        polls_before_leaving=chance.randrange(3),
        impatient=chance.random() < habits.impatient,
        forged_token=chance.random() < habits.forged_token,
        lost_answer=chance.random() < habits.lost_answer,
        over_limit=chance.random() < habits.over_limit,
        wanted=_wanted(chance, wares, limit, habits),
        intent=_intent(chance, habits),
        choosing_s=chance.uniform(0.1, 1.0),
        paying_s=chance.uniform(0.2, 1.5),
        extends=chance.random() < habits.extends,
        pays_twice=chance.random() < habits.pays_twice,
        regrets=chance.random() < habits.regrets,
    )


def _wanted(chance: random.Random, wares: Sequence[Ware], limit: int, habits: Habits) -> Items:
    first, roll = chance.choice(wares), chance.random()
    if roll < habits.second_sku and len(wares) > 1 and limit > 1:
        other = chance.choice([ware for ware in wares if ware is not first])
        return tuple(sorted(((first.sku, 1), (other.sku, 1))))
    two = roll < habits.second_sku + habits.second_unit and min(first.limit, limit) > 1
    return ((first.sku, 2 if two else 1),)


def _intent(chance: random.Random, habits: Habits) -> Intent:
    roll, pays_by = chance.random(), chance.random()
    for intent, share in ((Intent.HOLD, habits.hold), (Intent.RELEASE, habits.release), (Intent.PAY_LATE, habits.pay_late)):
        if roll < share:
            return intent
        roll -= share
    return Intent.PAY_BY_WEBHOOK if pays_by < habits.webhook else Intent.PAY


def settle_for(wanted: Items, available: Mapping[str, int]) -> Items:
    """What a shopper takes when the wish cannot be met: what is left of it, else one of whatever is left, else nothing."""
    partly = tuple((sku, min(quantity, available.get(sku, 0))) for sku, quantity in wanted if available.get(sku, 0) > 0)
    if partly:
        return partly
    anything = sorted(sku for sku, units in available.items() if units > 0)
    return ((anything[0], 1),) if anything else ()


def epoch_of(receipt: str) -> int:
    """The drop's epoch when a receipt was given, as its payload says. A later one in the serving document: data has been lost."""
    payload = receipt.split(".")[1]
    return int(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["epoch"])


def position(queue_number: int, document: Mapping[str, Any]) -> int:
    """People ahead, or -1 when this number has been served."""
    serving = int(document["serving_number"])
    return queue_number - serving if queue_number >= serving else -1


def wait_ms(queue_number: int | None, document: Mapping[str, Any]) -> float:
    """The wait a client reckons from the serving document: until the opening, then the line at its rate.

    Whoever has no queue number yet waits for the opening, which brings the draw.
    """
    until_opening_ms = max(0, document["opens_at_ms"] - document["now_ms"])
    ahead = 0 if queue_number is None else max(0, position(queue_number, document) + 1)
    return float(until_opening_ms + ahead * 60_000 / max(1, document["rate_per_min"]))


def poll_after_s(queue_number: int | None, document: Mapping[str, Any], roll: float) -> float:
    """When to look again: clamp(floor, ceiling, wait / divisor), ± 30 % by `roll` from 0 to 1."""
    poll = document["poll"]
    interval_ms = min(max(wait_ms(queue_number, document) / poll["divisor"], poll["floor_ms"]), poll["ceiling_ms"])
    return float(interval_ms / 1000 * (1 - JITTER + 2 * JITTER * roll))
