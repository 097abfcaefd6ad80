"""The draw: the shuffle everybody can repeat, the key it follows from, and the tree of entries behind the key."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.draw import (
    CHUNK_LEAVES,
    ENTRIES_MAX,
    PREPARED_ENTRIES_MAX,
    Draw,
    EntriesTree,
    commitment_of,
    draw_key,
)
from admission.merkle import leaf_hash, merkle_levels
from loadtest.bench.fairness import CHI_SQUARE_99, chi_square, decile_table
from tests.vectors import make_draw

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "draw.json").read_text(encoding="utf-8"))
SMALL_VECTORS = [one for one in VECTORS if one["entries"] < make_draw.MILLION]
SIZES_AROUND_A_CHUNK = [0, 1, 2, 3, 7, 1023, 1024, 1025, 2047, 2048, 2049, 3 * 1024 + 700, 5 * 1024]


def prepared(key: bytes, entries: int) -> Draw:
    draw = Draw(key, entries)
    for _ in draw.prepare():
        pass
    return draw


def hashes(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest() for number in range(count)]


# ---------------------------------------------------------------------------------------------------------- the shuffle


@pytest.mark.parametrize("vector", SMALL_VECTORS, ids=lambda vector: f"{vector['entries']}-{vector['key'][:4]}")
@pytest.mark.parametrize("make", [Draw, prepared])
def test_it_is_the_shuffle_of_the_specification(vector: dict[str, Any], make: type[Draw]) -> None:
    draw, pairs = make(bytes.fromhex(vector["key"]), vector["entries"]), vector["pairs"]
    assert [[entry, draw.queue_number(entry)] for entry, _ in pairs] == pairs
    assert [[draw.entry_number(place), place] for _, place in pairs] == pairs


@pytest.mark.parametrize("make", [Draw, prepared])
def test_it_is_the_shuffle_of_the_specification_for_a_million(make: type[Draw]) -> None:
    [vector] = [one for one in VECTORS if one["entries"] == make_draw.MILLION]
    draw = make(bytes.fromhex(vector["key"]), make_draw.MILLION)
    assert [[entry, draw.queue_number(entry)] for entry, _ in vector["pairs"]] == vector["pairs"]
    assert [[draw.entry_number(place), place] for _, place in vector["pairs"]] == vector["pairs"]


def test_a_consensus_client_draws_the_same() -> None:
    """Lists as TestShuffleList_OK of prysm has them: which entry has place 0, which has place 1, and so on."""
    for first, entry_at in ((1, [0, 7, 8, 6, 3, 9, 4, 5, 2, 1]), (2, [0, 5, 2, 1, 6, 8, 7, 3, 4, 9])):
        draw = Draw(bytes([first, 128, 12]) + bytes(29), 10)
        assert [draw.entry_number(place) for place in range(10)] == entry_at


def test_the_specifications_own_code_draws_the_same() -> None:
    """A list before and after, as it wrote them for the tests of protolambda/eth2-shuffle."""
    before = [8, 7, 5, 9, 2, 3, 6, 1, 4, 0]
    for key, after in (
        ("df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119", [2, 6, 9, 5, 7, 3, 4, 8, 1, 0]),
        ("67abdd721024f0ff4e0b3f4c2fc13bc5bad42d0b7851d456d88d203d15aaa450", [1, 6, 8, 7, 2, 3, 0, 5, 4, 9]),
    ):
        draw = Draw(bytes.fromhex(key), 10)
        assert [after[draw.queue_number(entry)] for entry in range(10)] == before


def test_the_vectors_are_what_their_script_makes() -> None:
    for vector in VECTORS:
        if vector["entries"] <= 1000:
            assert vector["pairs"] == [
                list(pair) for pair in enumerate(make_draw.shuffled(vector["entries"], bytes.fromhex(vector["key"])))
            ]


@given(key=st.binary(min_size=32, max_size=32), entries=st.integers(1, 700))
def test_everybody_has_one_place_and_every_place_one_entry(key: bytes, entries: int) -> None:
    draw = prepared(key, entries)
    places = [draw.queue_number(entry) for entry in range(entries)]
    assert sorted(places) == list(range(entries))
    assert [draw.entry_number(place) for place in places] == list(range(entries))


@given(key=st.binary(min_size=32, max_size=32), entries=st.integers(1, ENTRIES_MAX), data=st.data())
def test_the_inverse_is_the_inverse_at_any_size(key: bytes, entries: int, data: st.DataObject) -> None:
    entry = data.draw(st.integers(0, entries - 1))
    draw = Draw(key, entries)
    assert draw.entry_number(draw.queue_number(entry)) == entry


def test_preparing_lets_others_run_in_between() -> None:
    draw = Draw(bytes(32), make_draw.MILLION)
    slices = draw.prepare()
    next(slices)
    assert not draw.prepared, "half a table must not be walked through"
    assert draw.queue_number(7) == Draw(bytes(32), make_draw.MILLION).queue_number(7)
    assert sum(1 for _ in slices) + 1 == 90 * 4, "a slice is a thousand hashes at most"
    assert draw.prepared


def test_a_draw_too_large_for_tables_works_without() -> None:
    draw = Draw(bytes(32), PREPARED_ENTRIES_MAX + 1)
    assert list(draw.prepare()) == []
    assert draw.entry_number(draw.queue_number(PREPARED_ENTRIES_MAX)) == PREPARED_ENTRIES_MAX


@pytest.mark.parametrize("number", [-1, 10, 11])
@pytest.mark.parametrize("make", [Draw, prepared])
def test_a_number_outside_the_draw_has_no_place(make: type[Draw], number: int) -> None:
    draw = make(bytes(32), 10)
    with pytest.raises(ValueError, match="no number"):
        draw.queue_number(number)
    with pytest.raises(ValueError, match="no number"):
        draw.entry_number(number)


@pytest.mark.parametrize(("key", "entries"), [(b"short", 1), (bytes(32), -1), (bytes(32), ENTRIES_MAX + 1)])
def test_what_is_no_draw_is_refused(key: bytes, entries: int) -> None:
    with pytest.raises(ValueError, match="draw"):
        Draw(key, entries)


def test_a_draw_of_nobody_is_one() -> None:
    draw = prepared(bytes(32), 0)
    assert draw.prepared, "or it would be prepared again with every beat"
    with pytest.raises(ValueError, match="no number"):
        draw.queue_number(0)


def test_coming_early_gives_no_better_place() -> None:
    table = decile_table(random.Random(20), draws=40, entries=2_000)
    assert chi_square(table) < CHI_SQUARE_99


def test_the_statistic_notices_an_early_decile_that_does_better() -> None:
    even = [[800] * 10 for _ in range(10)]
    assert chi_square(even) == 0
    assert chi_square([[1_200, *[800] * 8, 400], *even[1:]]) > CHI_SQUARE_99


# -------------------------------------------------------------------------------------------------------------- the key


def test_the_key_hangs_on_everything() -> None:
    secret, root = bytes(range(32)), hashlib.sha256(b"root").digest()
    key = draw_key(secret, root, 1_000, b"")
    assert key == hashlib.sha256(secret + root + b"\x00\x00\x00\x00\x00\x00\x03\xe8").digest()
    assert draw_key(secret, root, 1_000, b"\x01") == hashlib.sha256(secret + root + (1_000).to_bytes(8, "big") + b"\x01").digest()
    assert len({key, draw_key(bytes(32), root, 1_000, b""), draw_key(secret, bytes(32), 1_000, b""), draw_key(secret, root, 999, b"")}) == 4


def test_the_commitment_is_the_secrets_hash() -> None:
    assert commitment_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


# ------------------------------------------------------------------------------------------------------------- the tree


def whole_root(count: int) -> bytes:
    levels = merkle_levels([leaf_hash(one) for one in hashes(count)])
    return levels[-1][0] if count else hashlib.sha256(b"").digest()


def tree_of(count: int, page: int) -> EntriesTree:
    tree, entries = EntriesTree(), hashes(count)
    for first in range(0, count, page):
        tree.add(entries[first : first + page])
    return tree


@pytest.mark.parametrize("count", SIZES_AROUND_A_CHUNK)
def test_the_root_is_that_of_the_whole_tree(count: int) -> None:
    tree = tree_of(count, 500)
    assert len(tree) == count
    assert tree.root() == whole_root(count)
    assert len(tree.chunk_roots) == -(-count // CHUNK_LEAVES)


@given(count=st.integers(0, 2_600), page=st.integers(1, 1_500))
def test_pages_do_not_matter(count: int, page: int) -> None:
    assert tree_of(count, page).root() == whole_root(count)


def test_an_entry_is_a_hash() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        EntriesTree().add([b"43 characters are its text, not its bytes"])
