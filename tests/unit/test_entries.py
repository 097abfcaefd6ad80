"""Journal entries are read strictly: what cannot be understood is told as such and never guessed."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from flashsale.model import DropState, Transition
from reconciler.entries import INTEGER_MAX, DropEvent, Entry, StockChange, UnreadableEntry, read_entry

TRANSITION = ["surplus", "d.r1", 5, "q", "d.t1", 0, [["s1", 1]], 7, 1, 9, "pay", "paid_twice"]
CHANGE = ["drain:1:8:s1", "s1", -1, 4, 5, "drained"]


def entry(**fields: Any) -> dict[bytes, bytes]:
    """The fields of an entry on the wire; structured ones are packed."""
    packed = {name: value if isinstance(value, bytes) else msgpack.packb(value) for name, value in fields.items()}
    return {b"v": b"1"} | {name.encode(): value for name, value in packed.items()}


def understood(fields: dict[bytes, bytes]) -> Entry:
    read = read_entry("1-0", fields)
    assert isinstance(read, Entry), read
    return read


def test_transitions_and_stock_changes_of_one_call_come_together() -> None:
    read = understood(entry(s=b"8", e=[TRANSITION], a=[CHANGE]))
    assert read.sequence == 8
    assert [(tr.kind, tr.amount_minor, tr.payment_reference) for tr in read.transitions] == [(Transition.SURPLUS, 7, "pay")]
    assert read.stock_changes == (StockChange("drain:1:8:s1", "s1", -1, 4, 5, "drained"),)
    assert read.event is None


def test_a_drop_event() -> None:
    assert understood(entry(s=b"2", d=["open", 5])).event == DropEvent(DropState.OPEN, 5)


def test_an_entry_without_a_sequence_is_of_none() -> None:
    """Entries written before changes were counted."""
    assert understood(entry(e=[TRANSITION])).sequence == 0


def test_an_entry_tells_of_which_epoch_it_is() -> None:
    assert understood(entry(s=b"8", epoch=b"2", e=[TRANSITION])).epoch == 2
    assert understood(entry(s=b"8", e=[TRANSITION])).epoch == 0, "an earlier release wrote it"


@pytest.mark.parametrize("kind", list(Transition))
def test_every_kind_of_transition_is_known(kind: Transition) -> None:
    assert understood(entry(s=b"1", e=[[kind.value, *TRANSITION[1:]]])).transitions[0].kind is kind


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="nothing told"),
        pytest.param({"s": b"8"}, id="only a sequence"),
        pytest.param({"epoch": str(INTEGER_MAX + 1).encode(), "a": [CHANGE]}, id="an epoch that loses bits"),
        pytest.param({"epoch": b"-1", "a": [CHANGE]}, id="an epoch below nothing"),
        pytest.param({"e": [["sold", *TRANSITION[1:]]]}, id="another kind"),
        pytest.param({"e": [TRANSITION[:-1]]}, id="a transition cut short"),
        pytest.param({"e": [[*TRANSITION, ""]]}, id="a transition with more"),
        pytest.param({"e": b"\xc1"}, id="no msgpack"),
        pytest.param({"a": [CHANGE[:-1]]}, id="a change cut short"),
        pytest.param({"a": [[*CHANGE, 1]]}, id="a change with more"),
        pytest.param({"a": [["x", "s1", 1.5, 4, 5, "added"]]}, id="half a unit"),
        pytest.param({"a": [["x", "s1", 1, -1, 5, "added"]]}, id="an allotment below nothing"),
        pytest.param({"a": [["x", "s1", INTEGER_MAX + 1, 4, 5, "added"]]}, id="a delta that loses bits"),
        pytest.param({"a": [CHANGE], "e": b""}, id="one part of two unreadable"),
        pytest.param({"d": ["ended", 5]}, id="another state"),
        pytest.param({"s": b"-1", "a": [CHANGE]}, id="a sequence below nothing"),
        pytest.param({"s": b"1e+8", "a": [CHANGE]}, id="a sequence that is no whole number"),
        pytest.param({"s": b"", "a": [CHANGE]}, id="an empty sequence"),
        pytest.param({"s": str(INTEGER_MAX + 1).encode(), "a": [CHANGE]}, id="a sequence that loses bits"),
        pytest.param({"s": b"9" * 5_000, "a": [CHANGE]}, id="a sequence without end"),
    ],
)
def test_what_cannot_be_understood_is_told_as_such(fields: dict[str, Any]) -> None:
    read = read_entry("1-0", entry(**fields))
    assert isinstance(read, UnreadableEntry)
    assert read.entry_id == "1-0"
    assert 0 < len(read.why) < 500


@pytest.mark.parametrize("version", [None, b"2", b""])
def test_another_version_is_not_guessed(version: bytes | None) -> None:
    fields = entry(s=b"1", e=[TRANSITION])
    del fields[b"v"]
    assert isinstance(read_entry("1-0", fields | ({b"v": version} if version is not None else {})), UnreadableEntry)


@pytest.mark.parametrize(
    ("version", "later"), [(b"2", True), (b"10", True), (b"0", False), (b"1x", False), (b"-2", False), (b"99999", False)]
)
def test_only_a_version_still_to_come_waits_for_its_release(version: bytes, later: bool) -> None:  # noqa: FBT001 - a table
    read = read_entry("1-0", entry(s=b"1", e=[TRANSITION]) | {b"v": version})
    assert isinstance(read, UnreadableEntry)
    assert read.later_version is later
