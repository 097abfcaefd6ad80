"""Invite codes: read however people write them, and by nobody else made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.invites import ALPHABET, CODES_MAX, LINES_MAX, SYMBOLS, USES_MAX, InviteCodes
from admission.tokens import make_signing_keys, rotate_signing_keys

KEYS = make_signing_keys(0)
CODES = InviteCodes(KEYS)
DROP = "sneaker-x"


@given(uses_max=st.integers(1, USES_MAX), line=st.integers(0, LINES_MAX - 1))
def test_a_code_says_what_it_was_made_for(uses_max: int, line: int) -> None:
    [code] = CODES.make_codes(DROP, 1, uses_max=uses_max, line=line)
    claim = CODES.read_code(DROP, code)
    assert claim is not None
    assert (claim.uses_max, claim.line, len(claim.code_id)) == (uses_max, line, 8)


def test_codes_made_together_are_all_different_and_grouped_for_reading() -> None:
    codes = CODES.make_codes(DROP, 500)
    claims = [CODES.read_code(DROP, code) for code in codes]
    assert len({claim.code_id for claim in claims if claim}) == 500
    assert {tuple(map(len, code.split("-"))) for code in codes} == {(5, 5, 5, 5, 5)}
    assert set("".join(codes)) <= set(ALPHABET) | {"-"}


@pytest.mark.parametrize(
    "write",
    [
        str.lower,
        lambda code: code.replace("-", ""),
        lambda code: code.replace("-", " "),
        lambda code: f"  {code}\n",
        lambda code: code.replace("-", "\N{EN DASH}"),
        lambda code: code.replace("0", "O").replace("1", "I"),
        lambda code: code.replace("0", "o").replace("1", "l"),
    ],
)
def test_codes_are_read_as_people_write_them(write: object) -> None:
    assert callable(write)
    for code in CODES.make_codes(DROP, 50, uses_max=3, line=2):
        assert CODES.read_code(DROP, write(code)) == CODES.read_code(DROP, code) is not None


@given(position=st.integers(0, SYMBOLS - 1), step=st.integers(1, 31))
def test_any_other_symbol_at_any_place_is_refused(position: int, step: int) -> None:
    [code] = CODES.make_codes(DROP, 1, uses_max=5, line=1)
    symbols = list(code.replace("-", ""))
    symbols[position] = ALPHABET[(ALPHABET.index(symbols[position]) + step) % 32]
    assert CODES.read_code(DROP, "".join(symbols)) is None


@given(st.text(max_size=80))
def test_whatever_somebody_types_is_no_code(text: str) -> None:
    assert CODES.read_code(DROP, text) is None


@pytest.mark.parametrize(
    "text", ["", "-" * 60, "0" * SYMBOLS, "U" * SYMBOLS, "0" * 10_000, "é" * SYMBOLS, "\N{LATIN SMALL LETTER DOTLESS I}" * SYMBOLS]
)
def test_what_looks_like_a_code_is_none(text: str) -> None:
    assert CODES.read_code(DROP, text) is None


def test_a_code_is_of_one_drop_and_one_service() -> None:
    [code] = CODES.make_codes(DROP, 1)
    assert CODES.read_code("sneaker-y", code) is None
    assert InviteCodes(make_signing_keys(0)).read_code(DROP, code) is None


def test_codes_outlive_a_rotation() -> None:
    [code] = CODES.make_codes(DROP, 1)
    rotated = InviteCodes(rotate_signing_keys(KEYS, 1))
    assert rotated.read_code(DROP, code) == CODES.read_code(DROP, code) is not None
    [newer] = rotated.make_codes(DROP, 1)
    assert CODES.read_code(DROP, newer) is None, "new codes are made with the new key"


@pytest.mark.parametrize(
    ("count", "uses_max", "line"), [(0, 1, 0), (CODES_MAX + 1, 1, 0), (1, 0, 0), (1, USES_MAX + 1, 0), (1, 1, LINES_MAX)]
)
def test_what_a_code_cannot_hold_is_refused(count: int, uses_max: int, line: int) -> None:
    with pytest.raises(ValueError, match="codes of"):
        CODES.make_codes(DROP, count, uses_max=uses_max, line=line)
