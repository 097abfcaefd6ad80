"""The admission log: its chain, its signed head, and what its entries say."""

from __future__ import annotations

import hashlib
import json

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.log import (
    Called,
    Claimed,
    Cut,
    Entry,
    HeadSigner,
    Left,
    Removed,
    Returned,
    SignedHead,
    Unknown,
    canonical,
    event_of,
    extend,
    first_head,
    verify_head,
)
from admission.receipts import ReceiptVerifier
from admission.tokens import make_signing_keys, rotate_signing_keys

NOW_MS = 1_800_000_000_000
KEYS = make_signing_keys(NOW_MS)
PUBLIC = ReceiptVerifier.of(KEYS).public_keys
DROP = "trial"


def entry(entry_id: str = "1-0", **fields: bytes | str | int) -> Entry:
    return Entry(
        entry_id,
        tuple((name.rstrip("_").encode(), value if isinstance(value, bytes) else str(value).encode()) for name, value in fields.items()),
    )


def packed(*numbers: int) -> bytes:
    data: bytes = msgpack.packb(numbers)
    return data


CALLED = entry("5-0", at_ms=NOW_MS, from_=0, to=3)
CLAIMED = entry("6-0", at_ms=NOW_MS + 5, k="claimed", p=packed(1, 0), w=packed(5, 4))
ENTRIES = [CALLED, CLAIMED, entry("7-0", at_ms=NOW_MS + 9, k="left", p=packed(2), why="left")]


# ------------------------------------------------------------------------------------------------------------------- chain


def test_the_canonical_bytes_are_as_documented() -> None:
    assert canonical(CALLED) == b'["5-0",["at_ms","1800000000000"],["from","0"],["to","3"]]'
    assert canonical(CLAIMED) == b'["6-0",["at_ms","1800000000005"],["k","claimed"],["p",{"b64":"kgEA"}],["w",{"b64":"kgUE"}]]'


def test_the_chain_is_as_documented() -> None:
    digest = hashlib.sha256(b"trial").digest()
    for one in ENTRIES:
        digest = hashlib.sha256(digest + canonical(one)).digest()
    assert extend(first_head(DROP), ENTRIES) == (3, digest, "7-0")


@given(st.integers(0, 3))
def test_a_chain_goes_on_from_any_head(cut: int) -> None:
    assert extend(extend(first_head(DROP), ENTRIES[:cut]), ENTRIES[cut:]) == extend(first_head(DROP), ENTRIES)


FIELDS = st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=3).map(tuple)
SOME_ENTRIES = st.builds(Entry, st.sampled_from(["1-0", "2-0", "10-1"]), FIELDS)


@given(SOME_ENTRIES, SOME_ENTRIES)
def test_two_entries_never_have_the_same_bytes(one: Entry, other: Entry) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)
    assert json.dumps(json.loads(canonical(one)), separators=(",", ":")).encode() == canonical(one)


@pytest.mark.parametrize(
    "changed",
    [
        ENTRIES[:2],
        ENTRIES[1:],
        [ENTRIES[1], ENTRIES[0], ENTRIES[2]],
        [*ENTRIES, ENTRIES[2]],
        [CALLED._replace(fields=(*CALLED.fields[:2], (b"to", b"4"))), *ENTRIES[1:]],
        [CALLED._replace(entry_id="4-0"), *ENTRIES[1:]],
    ],
    ids=["taken off the end", "taken off the beginning", "swapped", "added", "changed", "moved in time"],
)
def test_whatever_is_changed_changes_the_head(changed: list[Entry]) -> None:
    assert extend(first_head(DROP), changed).head != extend(first_head(DROP), ENTRIES).head


def test_the_same_entries_of_another_drop_have_another_head() -> None:
    assert extend(first_head("other"), ENTRIES).head != extend(first_head(DROP), ENTRIES).head


# ----------------------------------------------------------------------------------------------------------------- signing

SIGNED = HeadSigner(KEYS).sign(DROP, extend(first_head(DROP), ENTRIES), NOW_MS)


def test_a_signed_head_is_verified_also_after_a_rotation_and_through_json() -> None:
    rotated = ReceiptVerifier.of(rotate_signing_keys(KEYS, NOW_MS)).public_keys
    verify_head(DROP, SIGNED, PUBLIC)
    verify_head(DROP, msgspec.json.decode(msgspec.json.encode(SIGNED), type=SignedHead), rotated)


@pytest.mark.parametrize(
    "changes", [{"entries": 4}, {"head": "00" * 32}, {"at_ms": NOW_MS + 1}, {"signature": "AAAA"}, {"signature": "not base64url!"}]
)
def test_a_changed_head_is_noticed(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="does not match"):
        verify_head(DROP, msgspec.structs.replace(SIGNED, **changes), PUBLIC)


def test_a_head_of_another_drop_or_key_is_noticed() -> None:
    with pytest.raises(ValueError, match="does not match"):
        verify_head("other", SIGNED, PUBLIC)
    with pytest.raises(ValueError, match="not one of the service's receipt keys"):
        verify_head(DROP, SIGNED, ReceiptVerifier.of(make_signing_keys(NOW_MS)).public_keys)


# ------------------------------------------------------------------------------------------------------------------ events


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (CALLED, Called(NOW_MS, 0, 3)),
        (CLAIMED, Claimed(NOW_MS + 5, (1, 0), (5, 4))),
        (entry(at_ms=1, k="claimed", p=packed(7), w=packed(-1)), Claimed(1, (7,), (-1,))),
        (entry(at_ms=1, k="returned", p=packed(7)), Returned(1, (7,))),
        (entry(at_ms=1, k="left", p=packed(7)), Left(1, (7,))),
        (entry(at_ms=1, k="left", p=packed(7), why="", entry="1"), Left(1, (7,), undrawn=True)),
        (entry(at_ms=1, k="removed", p=packed(7), why="a bot"), Removed(1, (7,), "a bot")),
        (entry(at_ms=1, k="removed", p=packed(7), why="a bot", entry="1"), Removed(1, (7,), "a bot", undrawn=True)),
        (entry(at_ms=1, k="cut", p=packed(7, 1_000_000_003), why="sold_out"), Cut(1, (7, 1_000_000_003), "sold_out")),
    ],
)
def test_entries_are_read(written: Entry, read: object) -> None:
    assert event_of(written) == read


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (entry(at_ms=1, k="danced", p=packed(1)), "danced"),
        (entry(at_ms=1, k="claimed", p=packed(1), w=packed(1, 2)), "claimed"),
        (entry(at_ms=1, k="claimed", p=packed(1), w=packed(-2)), "claimed"),
        (entry(at_ms=1, k="left", p=b"\xc1"), "left"),
        (entry(at_ms=1, k="left", p=msgpack.packb(["a"])), "left"),
        (entry(at_ms=1, k="left", p=packed(-1)), "left"),
        (entry(at_ms=1, k="left"), "left"),
        (entry(at_ms="soon", k="left", p=packed(1)), "left"),
        (entry(at_ms=1, from_=3, to=3), "?"),
        (entry(at_ms=1, from_=-1, to=3), "?"),
        (entry(at_ms=1), "?"),
        (entry(), "?"),
    ],
)
def test_what_cannot_be_read_is_told_as_unknown_and_stays_in_the_chain(written: Entry, kind: str) -> None:
    assert event_of(written) == Unknown(kind)
    assert extend(first_head(DROP), [written]).entries == 1


@given(SOME_ENTRIES)
def test_no_entry_makes_the_reader_fail(one: Entry) -> None:
    event_of(one)
