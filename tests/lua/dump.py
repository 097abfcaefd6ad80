"""The whole state of one drop, decoded: what the tests of the scripts compare."""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

import msgpack

from flashsale.keys import drop_keys

State: TypeAlias = dict[str, Any]

TICKET = (
    "number", "late", "secret_hash", "joined_at_ms", "token_id", "token_issued_at_ms",
    "token_expires_at_ms", "admitted_at_ms", "reservations", "live", "units", "held",
)  # fmt: skip
RESERVATION = (
    "state", "ticket_id", "number", "items", "amount_minor", "reserved_at_ms", "expires_at_ms", "payment_reference", "request_id",
    "confirm_key", "extend_key", "surplus",
)  # fmt: skip
NOT_YET = {"extend_key": "", "surplus": []}
"""What the last positions of a reservation stand for while they are not there."""
TRANSITION = (
    "kind", "reservation_id", "at_ms", "request_id", "ticket_id", "number", "items", "amount_minor", "reserved_at_ms",
    "expires_at_ms", "payment_reference", "reason",
)  # fmt: skip
STOCK_CHANGE = ("change_id", "sku", "delta", "allotment", "at_ms", "reason")
ADJUSTMENT = ("sku", "delta", "drain", "at_ms")
GONE = object()
"""In `changed`: the entry is removed."""


def ask(pipeline: Any, drop_id: str) -> None:
    """Queues the reads that `decode` needs, on a pipeline of either client."""
    keys = drop_keys(drop_id)
    for key in (keys.drop, keys.stock, keys.tickets, keys.reservations, keys.restored, keys.adjustments, keys.stats):
        pipeline.hgetall(key)
    for key in (keys.slots, keys.returning, keys.expiries):
        pipeline.zrange(key, 0, -1, withscores=True)
    for key in (keys.served, keys.journal, keys.dead):
        pipeline.xrange(key)
    pipeline.keys("*")


def decode(drop_id: str, replies: list[Any]) -> State:
    """The state from the replies to `ask`; fails when there is any key besides the drop's."""
    drop, stock, tickets, reservations, restored, adjustments, stats, slots, returning, expiries, served, journal, dead, present = replies
    known = {getattr(drop_keys(drop_id), name).encode() for name in drop_keys(drop_id).__dataclass_fields__}
    assert set(present) <= known | {b"fs:drops"}
    return {
        "drop": {name.decode(): msgpack.unpackb(value) if name == b"skus" else value.decode() for name, value in drop.items()},
        "stock": {name.decode(): int(value) for name, value in stock.items()},
        "tickets": {name.decode(): _record(TICKET, value) for name, value in tickets.items()},
        "reservations": {name.decode(): _record(RESERVATION, value) for name, value in reservations.items()},
        "restored": {int(number): ticket_id.decode() for number, ticket_id in restored.items()},
        "adjustments": {name.decode(): _record(ADJUSTMENT, value) for name, value in adjustments.items()},
        "stats": {name.decode(): int(value) for name, value in stats.items()},
        "slots": {int(member): int(score) for member, score in slots},
        "returning": {int(member): int(score) for member, score in returning},
        "expiries": {member.decode(): int(score) for member, score in expiries},
        "served": [{name.decode(): int(value) for name, value in fields.items()} for _, fields in served],
        "journal": [_entry(fields) for _, fields in journal],
        "dead": dead,
    }


def _record(names: tuple[str, ...], packed: bytes) -> dict[str, Any]:
    values = msgpack.unpackb(packed)
    later = names[len(values) :]
    assert set(later) <= NOT_YET.keys()
    record = dict(zip(names, values, strict=False)) | {name: NOT_YET[name] for name in later}
    if "held" in record:
        record["held"] = dict(record["held"])  # an empty Lua table is packed as an empty array
    return record


def _entry(fields: dict[bytes, bytes]) -> dict[str, Any]:
    assert fields.pop(b"v") == b"1"
    entry: dict[str, Any] = {"sequence": int(fields.pop(b"s"))}
    assert fields.keys() <= {b"e", b"a"} or fields.keys() == {b"d"}
    if b"d" in fields:
        entry["drop"] = msgpack.unpackb(fields[b"d"])
    if b"e" in fields:
        entry["transitions"] = [dict(zip(TRANSITION, told, strict=True)) for told in msgpack.unpackb(fields[b"e"])]
    if b"a" in fields:
        entry["stock_changes"] = [dict(zip(STOCK_CHANGE, told, strict=True)) for told in msgpack.unpackb(fields[b"a"])]
    return entry


def conserved(state: State) -> bool:
    """No unit is lost or made, none is owed, and nothing is on sale that is to be withdrawn."""
    stock = state["stock"]
    return all(
        stock[f"allotment:{sku}"] == stock[f"available:{sku}"] + stock[f"reserved:{sku}"] + stock[f"sold:{sku}"]
        and min(stock[f"{place}:{sku}"] for place in ("available", "reserved", "sold", "draining")) >= 0
        and (stock[f"draining:{sku}"] == 0 or stock[f"available:{sku}"] == 0)
        for sku in state["drop"]["skus"]
    )


def changed(state: State, **sections: Any) -> State:
    """`state` with changes: lists are appended to, records are merged into, `GONE` removes."""
    expected = copy.deepcopy(state)
    for section, changes in sections.items():
        if isinstance(changes, list):
            expected[section] += changes
            continue
        for name, value in changes.items():
            _change(expected[section], name, value)
    return expected


def _change(section: dict[Any, Any], name: Any, value: Any) -> None:
    if value is GONE:
        del section[name]
    elif isinstance(value, dict) and isinstance(section.get(name), dict):
        section[name] |= value
    else:
        section[name] = value
