"""The serving document: everything a browser needs, nothing about anybody, the same bytes for all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from admission.serving import encode_document, serving_document
from flashsale.model import DropState, SkuStock, Snapshot
from flashsale.settings import load_settings

NOW_MS = 1_800_000_000_000
ROOM = load_settings(environment={}).waiting_room


def snapshot(**changes: Any) -> Snapshot:
    wire = [
        "open", 2, NOW_MS - 9_000, NOW_MS - 1_000, NOW_MS + 600_000, 600, 10, 100, "40", "", 20, 10, 5, 1, 3, 0, "", "digest",
        [["s1", 10, 4, 3, 3], ["s2", 5, 0, 0, 5]],
    ]  # fmt: skip
    found = Snapshot.from_wire("d", NOW_MS, wire)
    return type(found)(**({name: getattr(found, name) for name in found.__dataclass_fields__} | changes))


def document(recovering: str = "", **changes: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encode_document(serving_document(snapshot(**changes), ROOM, recovering=bool(recovering))))
    return decoded


def test_it_holds_what_a_browser_computes_with_and_no_more() -> None:
    assert document() == {
        "drop": "d",
        "epoch": 2,
        "state": "open",
        "now_ms": NOW_MS,
        "opens_at_ms": NOW_MS - 1_000,
        "closes_at_ms": NOW_MS + 600_000,
        "joined": 100,
        "entries": 40,
        "key": None,
        "serving_number": 20,
        "rate_per_min": 600,
        "available": {"s1": 4, "s2": 0},
        "reserved": {"s1": 3, "s2": 0},
        "sold_out": False,
        "cut_line": None,
        "poll": {"floor_ms": ROOM.poll_floor_ms, "ceiling_ms": ROOM.poll_ceiling_ms, "divisor": ROOM.poll_divisor},
        "notice": None,
    }


def test_entries_count_on_until_the_opening_fixes_them() -> None:
    assert document(entries=None)["entries"] == 100
    assert document(entries=0)["entries"] == 0


@pytest.mark.parametrize("state", list(DropState))
def test_each_state_is_told(state: DropState) -> None:
    assert document(state=state)["state"] == state.value


def test_recovering_hides_the_last_state() -> None:
    assert document(recovering="yes", state=DropState.OPEN)["state"] == "recovering"


def test_key_and_notice_appear_once_there_are_any() -> None:
    found = document(key="abcd", notice="Back in five minutes")
    assert (found["key"], found["notice"]) == ("abcd", "Back in five minutes")


def test_sold_out_only_when_no_unit_could_come_back() -> None:
    assert document(skus={"s1": SkuStock(5, 0, 1, 4)})["sold_out"] is False
    assert document(skus={"s1": SkuStock(5, 0, 0, 5)})["sold_out"] is True


def test_the_same_picture_gives_the_same_bytes() -> None:
    assert encode_document(serving_document(snapshot(), ROOM)) == encode_document(serving_document(snapshot(), ROOM))


def test_a_snapshot_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="unpack"):
        Snapshot.from_wire("d", NOW_MS, ["open", 2])
