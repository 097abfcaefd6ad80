"""The crowd's own arithmetic of the draw: the same as the service's and the published vectors, made without its code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from admission.draw import Draw
from loadtest.draw import Lot, shuffled_index

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "draw.json").read_text(encoding="ascii"))
KEY = hashlib.sha256(b"a key").digest()


def document(entries: int, key: bytes | None = KEY) -> dict[str, Any]:
    return {"entries": entries, "key": key.hex() if key else None}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['entries']}-{vector['key'][:8]}")
def test_it_agrees_with_the_vectors(vector: dict[str, Any]) -> None:
    key = bytes.fromhex(vector["key"])
    pairs = vector["pairs"][:50]
    assert [[entry, shuffled_index(entry, vector["entries"], key)] for entry, _ in pairs] == pairs


@pytest.mark.parametrize("entries", [1, 2, 7, 300, 1000])
def test_it_agrees_with_the_service(entries: int) -> None:
    draw = Draw(KEY, entries)
    found = [shuffled_index(entry, entries, KEY) for entry in range(entries)]
    assert found == [draw.queue_number(entry) for entry in range(entries)]
    assert sorted(found) == list(range(entries))


@pytest.mark.parametrize("entry", [-1, 5])
def test_an_entry_that_is_not_there_has_no_number(entry: int) -> None:
    with pytest.raises(ValueError, match="no entry"):
        shuffled_index(entry, 5, KEY)


class TestLot:
    def test_nobody_knows_the_queue_number_before_the_draw(self) -> None:
        lot = Lot({"entry_number": 3}, draws=True)
        assert lot.drawn_by(document(10, key=None)) is None
        assert lot.drawn_by(document(10)) == shuffled_index(3, 10, KEY)

    def test_where_nothing_is_drawn_the_order_of_arrival_is_the_queue(self) -> None:
        assert Lot({"entry_number": 3}, draws=False).drawn_by(document(10, key=None)) == 3

    def test_a_late_shopper_has_its_number_at_once(self) -> None:
        assert Lot({"queue_number": 12}, draws=True).drawn_by(document(10)) == 12

    def test_what_the_service_told_does_not_stand_against_the_key(self) -> None:
        lot = Lot({"entry_number": 3, "queue_number": 99}, draws=True)
        assert lot.drawn_by(document(10)) == shuffled_index(3, 10, KEY)
        assert lot.told == 99

    def test_a_draw_made_anew_after_a_loss_counts(self) -> None:
        lot, other = Lot({"entry_number": 3}, draws=True), hashlib.sha256(b"another").digest()
        lot.drawn_by(document(100))
        assert lot.drawn_by(document(100, other)) == shuffled_index(3, 100, other)

    def test_an_entry_given_back_behind_the_drawn_ones_keeps_its_number(self) -> None:
        assert Lot({"entry_number": 11}, draws=True).drawn_by(document(10)) == 11
