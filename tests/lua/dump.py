"""The whole state of one drop, decoded: what the tests of the scripts compare."""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

import msgpack

from flashsale.keys import drop_keys

State: TypeAlias = dict[str, Any]

TICKET = (
    "place", "late", "joined_at_ms", "token_id", "token_issued_at_ms", "token_expires_at_ms", "admitted_at_ms", "reservations",
    "live", "units", "held", "turn", "gone", "holder", "identity", "shared",
)  # fmt: skip
NEVER_ADMITTED: dict[str, Any] = {
    "token_id": "", "token_issued_at_ms": 0, "token_expires_at_ms": 0, "admitted_at_ms": 0, "reservations": 0, "live": 0, "units": 0,
    "held": {},
}  # fmt: skip
NOTHING_SPECIAL: dict[str, Any] = {"turn": -1, "gone": "", "holder": "", "identity": "", "shared": 0}
"""What the positions of a ticket stand for while they are not there."""
LINE = ("group", "share", "joined", "entries", "serving", "key", "root", "credit")
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
HASHES = (
    "drop", "stock", "tickets", "identities", "codes", "reservations", "restored", "adjustments", "stats", "wants", "flow",
)  # fmt: skip
SORTED_SETS = ("called", "slots", "returning", "leaving", "gone", "standby", "offers", "expiries")
STREAMS = ("entries", "served", "samples", "journal", "dead")
GONE = object()
"""In `changed`: the entry is removed."""


def ask(pipeline: Any, drop_id: str) -> None:
    """Queues the reads that `decode` needs, on a pipeline of either client."""
    keys = drop_keys(drop_id)
    for name in HASHES:
        pipeline.hgetall(getattr(keys, name))
    for name in SORTED_SETS:
        pipeline.zrange(getattr(keys, name), 0, -1, withscores=True)
    for name in STREAMS:
        pipeline.xrange(getattr(keys, name))
    pipeline.keys("*")


def decode(drop_id: str, replies: list[Any]) -> State:
    """The state from the replies to `ask`; fails when there is any key besides the drop's."""
    *replies, present = replies
    raw = dict(zip((*HASHES, *SORTED_SETS, *STREAMS), replies, strict=True))
    known = {getattr(drop_keys(drop_id), name).encode() for name in drop_keys(drop_id).__dataclass_fields__}
    assert set(present) <= known | {b"fs:drops"}
    records = {name.decode(): msgpack.unpackb(value) for name, value in raw["tickets"].items()}
    return {
        "drop": {name.decode(): _field(name, value) for name, value in raw["drop"].items()},
        "stock": {name.decode(): int(value) for name, value in raw["stock"].items()},
        "tickets": {name: _ticket(record) for name, record in records.items() if len(record) > 1},
        "aliases": {name: record[0] for name, record in records.items() if len(record) == 1},
        "identities": {name.decode(): value.decode() for name, value in raw["identities"].items()},
        "codes": {name.decode(): int(value) for name, value in raw["codes"].items()},
        "reservations": {name.decode(): _record(RESERVATION, value) for name, value in raw["reservations"].items()},
        "restored": {int(number): ticket_id.decode() for number, ticket_id in raw["restored"].items()},
        "adjustments": {name.decode(): _record(ADJUSTMENT, value) for name, value in raw["adjustments"].items()},
        "stats": {name.decode(): int(value) for name, value in raw["stats"].items()},
        "wants": {int(place): msgpack.unpackb(value)[1] for place, value in raw["wants"].items()},
        "asked": {int(place): msgpack.unpackb(value)[0] for place, value in raw["wants"].items()},
        "flow": {
            name.decode(): msgpack.unpackb(value) if name in (b"progress", b"wanted") else int(value) for name, value in raw["flow"].items()
        },
        "expiries": {member.decode(): int(score) for member, score in raw["expiries"]},
        **{name: {int(member): int(score) for member, score in raw[name]} for name in SORTED_SETS if name != "expiries"},
        "entries": [_run(fields) for _, fields in raw["entries"]],
        "served": [_logged(fields) for _, fields in raw["served"]],
        "samples": [fields[b"d"] for _, fields in raw["samples"]],
        "journal": [_entry(fields) for _, fields in raw["journal"]],
        "dead": raw["dead"],
    }


def _field(name: bytes, value: bytes) -> Any:
    if name == b"lines" and value:
        return [dict(zip(LINE, line, strict=True)) for line in msgpack.unpackb(value)]
    return msgpack.unpackb(value) if name in (b"skus", b"beacon") else value.decode()


def _ticket(values: list[Any]) -> dict[str, Any]:
    """The whole record; fails when the packed one is longer than it has to be."""
    record = {**NEVER_ADMITTED, **NOTHING_SPECIAL, **dict(zip(TICKET, values, strict=False))}
    record["held"] = dict(record["held"])  # an empty Lua table is packed as an empty array
    short = len(TICKET)
    while short > 11 and record[TICKET[short - 1]] == NOTHING_SPECIAL[TICKET[short - 1]]:
        short -= 1
    if short == 11 and all(record[name] == value for name, value in NEVER_ADMITTED.items()):
        short = 3
    assert len(values) == short, values
    return record


def _record(names: tuple[str, ...], packed: bytes) -> dict[str, Any]:
    values = msgpack.unpackb(packed)
    later = names[len(values) :]
    assert set(later) <= NOT_YET.keys()
    return dict(zip(names, values, strict=False)) | {name: NOT_YET[name] for name in later}


def _run(fields: dict[bytes, bytes]) -> dict[str, Any]:
    hashes = fields[b"h"]
    assert len(hashes) % 32 == 0
    run = {name.decode(): int(value) for name, value in fields.items() if name != b"h"}
    return run | {"h": [hashes[at : at + 32].decode() for at in range(0, len(hashes), 32)]}


def _logged(fields: dict[bytes, bytes]) -> dict[str, Any]:
    packed, texts = {b"p", b"w"}, {b"k", b"why"}
    return {
        name.decode(): msgpack.unpackb(value) if name in packed else value.decode() if name in texts else int(value)
        for name, value in fields.items()
    }


def _entry(fields: dict[bytes, bytes]) -> dict[str, Any]:
    assert fields.pop(b"v") == b"1"
    entry: dict[str, Any] = {"sequence": int(fields.pop(b"s"))}
    assert (b"epoch" in fields) is fields.keys().isdisjoint({b"d", b"w"})
    fields.pop(b"epoch", None)
    assert fields.keys() <= {b"e", b"a"} or fields.keys() in ({b"d"}, {b"w"})
    if b"w" in fields:
        entry["draw"] = msgpack.unpackb(fields[b"w"])
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
