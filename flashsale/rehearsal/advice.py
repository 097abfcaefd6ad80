"""What follows from a rehearsal for the merchant: rate, capacity, workers, and warnings in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from flashsale.charts import shown
from flashsale.model import Drop
from flashsale.rehearsal.behaviour import Behaviour
from flashsale.rehearsal.findings import Findings
from flashsale.settings import Settings

ENOUGH = 0.95
"""A limit is large enough when the line moves at this part of what it would without the limit."""
POLLS_PER_S, JOINS_PER_S, ADMISSIONS_PER_S, RESERVATIONS_PER_S = 140_000, 17_000, 11_000, 12_000
"""What one worker answers over HTTP, one request at a time: by `flashsale bench` on two shared cores in November 2026, in round numbers."""
LOAD_MAX = 0.5
"""Workers should be busy for half of the time in the busiest second."""
WORKERS_MIN = 2
"""so that one may fail"""
JITTER = 1.3


class Warn(msgspec.Struct, frozen=True):
    """Something in the drop's rules that will hurt."""

    name: str
    text: str


class Advice(msgspec.Struct, frozen=True):
    """What to set."""

    limited_by: str
    """what the line waits for: `rate`, `capacity` or `people` (nobody has to wait)"""
    capacity: int
    """the smallest that leaves the drop's rate whole"""
    rate_per_min: int
    """the smallest that leaves the drop's capacity in use"""
    workers: int
    worker_load: float
    """of one worker in the busiest second: 1 is all of its time"""
    warnings: tuple[Warn, ...]


def advise(findings: Findings, drop: Drop, behaviour: Behaviour, settings: Settings) -> Advice:
    """The advice.

    Little's law ties the limits together: people inside = people let in a second x seconds each keeps a slot.
    """
    slot_min = max(1, findings.slot_ms) / 60_000
    capacity = max(1, min(math.ceil(ENOUGH * drop.rate_per_min * slot_min), max(1, findings.admitted)))
    rate_per_min = max(1, math.ceil(ENOUGH * drop.capacity / slot_min))
    load = _load(findings)
    return Advice(
        limited_by=_limit(findings, drop, slot_min),
        capacity=capacity,
        rate_per_min=rate_per_min,
        workers=max(WORKERS_MIN, math.ceil(load / LOAD_MAX)),
        worker_load=load,
        warnings=tuple(_warnings(findings, drop, behaviour, settings, capacity)),
    )


def _limit(findings: Findings, drop: Drop, slot_min: float) -> str:
    if findings.admitted <= drop.capacity and findings.wait is not None and findings.wait.p90_ms < 10_000:
        return "people"
    return "rate" if drop.rate_per_min * slot_min < drop.capacity else "capacity"


def _load(findings: Findings) -> float:
    """As if the busiest seconds of all kinds were the same."""
    loads = findings.loads
    return (
        loads.polls_per_s / POLLS_PER_S
        + loads.joins_per_s / JOINS_PER_S
        + loads.admissions_per_s / ADMISSIONS_PER_S
        + loads.reservations_per_s / RESERVATIONS_PER_S
    )


def _warnings(findings: Findings, drop: Drop, behaviour: Behaviour, settings: Settings, capacity: int) -> Iterator[Warn]:
    ceiling_ms = settings.waiting_room.poll_ceiling_ms * JITTER
    if drop.claim_window_ms < ceiling_ms:
        yield Warn(
            "claim_window",
            f"The claim window ({_time(drop.claim_window_ms)}) is shorter than the longest pause between two looks "
            f"({_time(ceiling_ms)}): when the line speeds up, some are passed before they look. They are still let in, from its head.",
        )
    if drop.claim_window_ms < behaviour.session_ms:
        yield Warn(
            "choosing",
            f"The claim window ({_time(drop.claim_window_ms)}) is shorter than a session ({_time(behaviour.session_ms)}): "
            "many lose their slots while they choose, and more people are inside than the capacity says.",
        )
    if findings.taken_ms is not None and drop.reservation_ttl_ms > findings.taken_ms:
        yield Warn(
            "reservation_ttl",
            f"A reservation lasts {_time(drop.reservation_ttl_ms)}, longer than it takes until everything is reserved "
            f"({_time(findings.taken_ms)}): what is not paid comes back when most people have gone.",
        )
    if drop.capacity < capacity:
        yield Warn(
            "capacity",
            f"The capacity ({drop.capacity:,}) holds the line up: the rate of {drop.rate_per_min:,} a minute needs {capacity:,}.",
        )
    if findings.units_sold < findings.units:
        yield Warn("unsold", f"{findings.units - findings.units_sold:,} of {findings.units:,} units were left: too few came to buy them.")
    if findings.no_room:
        yield Warn("no_room", f"{findings.no_room:,} people found the room full; waiting_room.tickets_max is the limit.")
    if findings.units_sold < findings.units and findings.empty_handed:
        yield Warn(
            "closing",
            f"The drop closed while {findings.empty_handed:,} people were waiting and something was left: move closes_at, or let more in.",
        )


def _time(value_ms: float) -> str:
    return shown(value_ms, "time")
