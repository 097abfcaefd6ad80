"""The serving document: everything a browser needs, nothing about anybody, the same bytes for all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from admission.outlook import outlook
from admission.pace import Signals, plan
from admission.serving import encode_document, serving_document
from flashsale.model import DropState, Flow, LinePicture, SkuStock, Snapshot
from flashsale.settings import load_settings
from tests.unit.snapshots import NOW_MS, snapshot

ROOM = load_settings(environment={}).waiting_room


def document(recovering: str = "", **changes: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encode_document(serving_document(snapshot(**changes), ROOM, recovering=bool(recovering))))
    return decoded


def test_it_holds_what_a_browser_computes_with_and_no_more() -> None:
    found = document()
    assert set(found.pop("pace")) == {"low_per_min", "high_per_min", "free", "free_per_min", "held_after", "held_ms"}
    assert set(found.pop("reach")) == {"units", "units_spread", "mean", "spread", "uncertainty", "undecided"}
    assert found == {
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
        "cut_line": 29,
        "poll": {"floor_ms": ROOM.poll_floor_ms, "ceiling_ms": ROOM.poll_ceiling_ms, "divisor": ROOM.poll_divisor},
        "notice": None,
        "groups": None,
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


def test_the_merchants_words_come_before_ours() -> None:
    assert document(state=DropState.PAUSED)["notice"] == "Paused. Your place is kept; this page goes on by itself."
    assert document(state=DropState.PAUSED, notice="Back at noon")["notice"] == "Back at noon"
    assert "Your place is kept" in document("yes")["notice"]


@pytest.mark.parametrize("state", [DropState.PAUSED, DropState.CLOSED])
def test_a_line_that_stands_has_no_rate(state: DropState) -> None:
    assert document(state=state)["pace"] is None


def test_nothing_is_said_of_stock_and_rate_while_recovering() -> None:
    found = document("yes")
    assert (found["pace"], found["reach"], found["cut_line"]) == (None, None, None)


def test_back_pressure_is_told_as_slowness() -> None:
    busy = snapshot(capacity=10_000, flow=Flow())
    document_now = serving_document(busy, ROOM, pace=plan(busy, Signals(journal_age_ms=20_000)))
    assert document_now.notice == "Admissions are slower just now."
    assert serving_document(busy, ROOM).notice is None


def test_groups_are_told_with_everybodys_line_first_and_its_share_what_is_left() -> None:
    lines = (LinePicture("", 0, 100, 40, 20, "aa", "bb"), LinePicture("vip", 200, 7, None, 3, "", ""))
    groups = document(lines=lines)["groups"]
    assert [(line["group"], line["share_permille"], line["entries"], line["key"]) for line in groups] == [
        ("", 800, 40, "aa"),
        ("vip", 200, 7, None),
    ]
    assert document(lines=lines[:1])["groups"] is None


def test_the_cut_line_is_where_half_the_chance_ends_and_none_when_everybody_is_reached() -> None:
    found = serving_document(snapshot(), ROOM)
    assert found.cut_line is not None
    chances = [outlook(found, place).chance for place in (found.cut_line, found.cut_line + 1)]
    assert chances[0] is not None
    assert chances[1] is not None
    assert chances[0] >= 0.5 > chances[1]
    assert document(skus={"s1": SkuStock(1000, 1000, 0, 0)})["cut_line"] is None


def test_the_cut_line_lies_before_the_first_waiting_when_nothing_is_left() -> None:
    assert document(skus={"s1": SkuStock(10, 0, 0, 10)})["cut_line"] == 19
