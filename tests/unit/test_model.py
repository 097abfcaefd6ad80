"""Ids, digests and records: the same input gives the same words for ever."""

from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashsale.drops import decode_drop, digest_of, encode_drop
from flashsale.keys import drop_keys
from flashsale.model import (
    DROP_ID_RE,
    RESERVATION_ID_RE,
    SKU_RE,
    TICKET_ID_RE,
    Drop,
    Reservation,
    ReservationState,
    Sku,
    Ticket,
    digest,
    reservation_id_of,
    secret_hash_of,
    ticket_id_of,
)
from flashsale.reservations import drop_of

DROP = Drop("d-1", "D", "EUR", (Sku("s1", "One", 5, 1_000, 2), Sku("s2", "Two", 3, 50, 2)), 1, 2, 3, 4, 5, 6, 7, 8)
TEXT = st.text(alphabet=string.printable, max_size=12)


def test_ids_never_change() -> None:
    """Stored tickets and reservations are found by them, so another spelling would lose every one."""
    ticket_id = ticket_id_of("d-1", secret_hash_of("secret"))
    assert secret_hash_of("secret") == "K7gNU3sdo-OL0wNhqoVWhr3g6s1xYv72ol_pe_Unols"
    assert ticket_id == f"d-1.t{digest('ticket', 'd-1', secret_hash_of('secret'))}"
    assert TICKET_ID_RE.fullmatch(ticket_id)
    reservation_id = reservation_id_of(ticket_id, "key-1")
    assert RESERVATION_ID_RE.fullmatch(reservation_id)
    assert drop_of(reservation_id) == "d-1"
    assert len(reservation_id) <= 128


def test_other_input_gives_other_ids() -> None:
    ticket_id = ticket_id_of("d", "hash")
    assert ticket_id != ticket_id_of("e", "hash")
    assert ticket_id != ticket_id_of("d", "other")
    assert reservation_id_of(ticket_id, "a") != reservation_id_of(ticket_id, "b")
    assert reservation_id_of(ticket_id, "a") != reservation_id_of(ticket_id_of("d", "other"), "a")


@given(st.lists(TEXT, min_size=1, max_size=4), st.lists(TEXT, min_size=1, max_size=4))
@settings(derandomize=True, database=None)
def test_parts_of_a_digest_cannot_flow_into_one_another(one: list[str], two: list[str]) -> None:
    assert (digest(*one) == digest(*two)) == (one == two)


@pytest.mark.parametrize(
    "text", ["", "not an id", "d.t" + "A" * 22, "d.r" + "A" * 21, "D.r" + "A" * 22, "d.r" + "A" * 22 + "\n", ".r" + "A" * 22]
)
def test_what_is_no_reservation_id_has_no_drop(text: str) -> None:
    with pytest.raises(ValueError, match="not a reservation id"):
        drop_of(text)


@pytest.mark.parametrize("text", ["d", "a-b", "0", "x" * 48])
def test_drop_ids(text: str) -> None:
    assert DROP_ID_RE.fullmatch(text)


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a_b", "a.b", "x" * 49, "{a}", "a\n", "ä"])
def test_no_drop_ids(text: str) -> None:
    assert not DROP_ID_RE.fullmatch(text)


@pytest.mark.parametrize(("text", "good"), [("s1", True), ("S.1_x-y", True), ("", False), (".s", False), ("s 1", False), ("x" * 65, False)])
def test_skus(text: str, good: bool) -> None:  # noqa: FBT001 - a table of cases
    assert bool(SKU_RE.fullmatch(text)) == good


def test_all_keys_of_a_drop_carry_its_hash_tag_and_differ() -> None:
    keys = drop_keys("d-1")
    names = [getattr(keys, name) for name in keys.__dataclass_fields__]
    assert all(name.startswith("fs:{d-1}:") for name in names)
    assert len(set(names)) == len(names)
    assert keys.recorded not in names


def test_a_definition_is_one_text() -> None:
    text = encode_drop(DROP)
    assert decode_drop(text) == decode_drop(text.encode()) == DROP
    assert encode_drop(decode_drop(text)) == text
    assert len(digest_of(text)) == 64


def test_a_drop_without_extensions_has_the_digest_it_had_before_there_were_any() -> None:
    assert "extension_ms" not in encode_drop(DROP)
    longer = replace(DROP, extension_ms=60_000)
    assert decode_drop(encode_drop(longer)) == longer


def test_records_are_read_in_the_order_of_the_ledger() -> None:
    ticket = Ticket.from_wire(("t", [4, 1, 10, "token", 11, 12, 13, 2, 1, 3, {"s1": 3}, 6, "left", "u", "who", 2]))
    assert (ticket.number, ticket.late, ticket.joined_at_ms) == (4, True, 10)
    assert (ticket.token_id, ticket.token_issued_at_ms, ticket.token_expires_at_ms, ticket.admitted_at_ms) == ("token", 11, 12, 13)
    assert (ticket.reservations, ticket.live, ticket.units) == (2, 1, 3)
    assert (ticket.turn, ticket.gone, ticket.holder) == (6, "left", "u")
    record = Reservation.from_wire("d.r1", [2, "t", 4, [["s1", 1]], 1_000, 5, 6, "pay", "q"])
    assert record == Reservation("d.r1", "d", "t", ReservationState.CONFIRMED, (("s1", 1),), 1_000, 5, 6, "pay", number=4)


class TestTicketRecords:
    def test_who_only_waits_has_a_short_record(self) -> None:
        ticket = Ticket.from_record("d.t1", [7, 1, 5_000])
        assert ticket is not None
        assert (ticket.number, ticket.late, ticket.joined_at_ms) == (7, True, 5_000)
        assert (ticket.token_id, ticket.admitted_at_ms, ticket.units, ticket.turn, ticket.gone, ticket.holder) == ("", 0, 0, -1, "", "")

    @pytest.mark.parametrize("left_out", range(5))
    def test_what_is_left_out_at_the_end_is_what_there_is_nothing_to_say_of(self, left_out: int) -> None:
        record = [7, 0, 5_000, "token", 6_000, 9_000, 6_000, 2, 1, 3, {"a": 3}, -1, "", "", "", 0]
        assert Ticket.from_record("d.t1", record[: len(record) - left_out]) == Ticket.from_wire(("d.t1", record))

    def test_a_second_devices_only_names_the_ticket_it_belongs_to(self) -> None:
        assert Ticket.from_record("d.t2", ["d.t1"]) is None
