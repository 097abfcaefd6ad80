"""The report after a drop, from a log and samples whose story is known."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.calibration import Look, score_chance, score_eta
from admission.draw import Draw
from admission.log import Called, Claimed, Cut, Event, Left, Removed, Unknown
from admission.ranking import Quantiles
from admission.report import report
from admission.report_shapes import DropReport, Figure, LineTotals, Section
from admission.serving import ServingDocument
from flashsale.model import DropState, place_of
from tests.report_stage import DROP, OPENS_AT_MS, PlayedDrop, Told, document, tell, totals

PLAYED = PlayedDrop()
REPORT = report(PLAYED.events, PLAYED.samples, DROP, PLAYED.totals, tell)


def called(at_ms: int, start: int, stop: int) -> Called:
    return Called(OPENS_AT_MS + at_ms, start, stop)


def claimed(at_ms: int, *places: int) -> Claimed:
    return Claimed(OPENS_AT_MS + at_ms, places, (500,) * len(places))


# ------------------------------------------------------------------------------------------------------------------ counts


def test_the_log_is_counted() -> None:
    whole = REPORT.whole
    calls = sum(isinstance(event, Called) for event in PLAYED.events)
    assert (whole.joined, whole.called, whole.claimed, whole.called_again) == (750, calls, 300, 1)
    assert (whole.never_came, whole.left, whole.removed) == (calls - 300, 1, {"a bot": 2})
    assert whole.cut is not None
    assert (whole.cut.number, whole.cut.places, whole.cut.why) == (calls, 750 - calls, "sold_out")
    assert (whole.calls.inversions, whole.calls.kendall_tau) == (0, 1.0)
    assert whole.claims.inversions > 0
    assert whole.claims.kendall_tau is not None
    assert 0.8 < whole.claims.kendall_tau < 1
    assert (REPORT.final, REPORT.lines, REPORT.log.claims) == (True, (), True)
    assert whole.wait_to_claim is not None
    assert whole.wait_to_claim.count == 300


def test_whoever_left_before_the_call_was_not_called() -> None:
    whole = report([Left(OPENS_AT_MS, (1,)), called(10, 0, 4), claimed(20, 0), Left(OPENS_AT_MS + 30, (2,))], [], DROP, totals(9, 9)).whole
    assert (whole.called, whole.claimed, whole.left, whole.never_came) == (3, 1, 2, 1)
    assert whole.wait_to_call == Quantiles(3, 10, 10, 10, 10, 10)


def test_whoever_left_before_the_draw_was_not_called() -> None:
    """Entries 0 to 9 leave, wherever the draw put them afterwards; the first half of the line is called, and comes."""
    draw = Draw(b"k" * 32, 40)
    gone = {draw.queue_number(entry) for entry in range(10)}
    called_now = set(range(20)) - gone
    events: list[Event] = [Left(OPENS_AT_MS, tuple(range(10)), undrawn=True), called(10, 0, 20), claimed(20, *called_now)]
    whole = report(events, [], DROP, totals(40, 40), draws=(draw,)).whole
    assert (whole.called, whole.claimed, whole.left, whole.never_came) == (len(called_now), len(called_now), 10, 0)


def test_a_line_that_went_on_was_not_cut() -> None:
    events: list[Event] = [called(1, 0, 4), Cut(OPENS_AT_MS + 2, (4,), "sold_out"), called(3, 4, 6)]
    assert report(events, [], DROP, totals(9, 9)).whole.cut is None
    again = report([*events, Cut(OPENS_AT_MS + 4, (6,), "sold_out")], [], DROP, totals(9, 9)).whole.cut
    assert again is not None
    assert again.number == 6


def test_an_overtake_is_found() -> None:
    whole = report([called(1, 2, 4), called(2, 0, 2), called(3, 4, 5)], [], DROP, totals(9, 9)).whole
    assert whole.calls.inversions == 4
    assert whole.calls.kendall_tau == pytest.approx(1 - 2 * 4 / 10)


def test_a_log_without_claims_takes_the_drops_total() -> None:
    made = report([called(1, 0, 5)], [], DROP, totals(9, 9, admitted=3))
    assert (made.whole.claimed, made.whole.never_came, made.log.claims, made.rate[0].count) == (3, 2, False, 5)


def test_who_came_twice_to_find_a_slot_came_and_says_nothing_of_how_soon() -> None:
    whole = report([called(1, 0, 5), Claimed(OPENS_AT_MS + 9, (0, 1), (7, -1))], [], DROP, totals(9, 9)).whole
    assert (whole.claimed, whole.wait_to_claim and (whole.wait_to_claim.count, whole.wait_to_claim.p10_ms)) == (2, (1, 7))


def test_an_empty_log_makes_a_report() -> None:
    made = report([], [], DROP, totals(0, 0, DropState.OPEN), tell)
    assert (made.whole.called, made.whole.wait_to_call, made.whole.calls.kendall_tau, made.moments, made.rate, made.final) == (
        0,
        None,
        None,
        (),
        (),
        False,
    )
    assert (made.eta, made.chance, made.stock.half_sold_ms) == (None, None, None)


def test_what_is_unknown_is_told() -> None:
    assert report([Unknown("danced"), Unknown("danced")], [], DROP, totals(0, 0)).log.unknown == {"danced": 2}


def test_lines_are_told_apart_and_not_compared_with_one_another() -> None:
    vip = place_of(1, 0)
    events: list[Event] = [
        called(1, vip, vip + 2),
        called(2, 0, 3),
        called(3, vip + 2, vip + 4),
        claimed(4, vip + 1, 0, vip),
        Removed(OPENS_AT_MS, (vip + 3,), "bot"),
        Cut(OPENS_AT_MS + 5, (3, vip + 4), "sold_out"),
    ]
    made = report(events, [], DROP, totals(0, 0, lines=(LineTotals("", 10, 10), LineTotals("vip", 6, 5))))
    line, group = made.lines
    assert [(one.group, one.joined, one.called, one.claimed, one.calls.inversions) for one in (line, group)] == [
        ("", 10, 3, 1, 0),
        ("vip", 6, 4, 2, 0),
    ]
    assert (line.cut and line.cut.places, group.cut and group.cut.places, made.whole.cut and made.whole.cut.places) == (7, 2, 9)
    assert (group.claims.inversions, made.whole.claims.inversions, made.whole.calls.kendall_tau) == (1, 1, 1.0)
    assert (made.whole.joined, made.whole.called, made.whole.claimed, made.whole.removed) == (16, 7, 3, {"bot": 1})


# -------------------------------------------------------------------------------------------------------------------- time


def test_waits_are_from_the_opening_or_from_joining_after_it() -> None:
    samples = [document(at_ms, joined=2 + at_ms // 1_000, entries=2) for at_ms in range(0, 10_000, 2_000)]
    # Numbers 2 and 3 came within the first two seconds, 4 and 5 within the next two.
    made = report([called(6_000, 0, 3), called(9_000, 3, 6)], samples, DROP, totals(12, 2))
    waits = sorted((one.from_ms, one.count) for one in made.waits if one.count)
    assert waits == [(4_000, 1), (5_000, 2), (6_000, 2), (7_000, 1)]
    assert made.whole.wait_to_call is not None
    assert made.whole.wait_to_call.count == 6


def test_whoever_came_late_without_a_sample_has_no_known_wait() -> None:
    made = report([called(6_000, 0, 6)], [], DROP, totals(12, 2))
    assert made.whole.wait_to_call is not None
    assert made.whole.wait_to_call.count == 2


def test_stock_is_timed_by_the_samples() -> None:
    def at(ms: int, available: int, reserved: int) -> ServingDocument:
        return document(ms, available={"poster": available}, reserved={"poster": reserved})

    samples = [at(0, 300, 0), at(2_000, 180, 20), at(4_000, 120, 30), at(6_000, 0, 80), at(8_000, 0, 0), at(10_000, 10, 0)]
    made = report([], samples, DROP, totals(9, 9, available=10, sold=290))
    assert (made.stock.half_sold_ms, made.stock.all_taken_ms, made.stock.all_sold_ms) == (4_000, 6_000, 8_000)


def test_moments_cover_the_drop_and_end_at_its_totals() -> None:
    first, last = REPORT.moments[0], REPORT.moments[-1]
    assert len(REPORT.moments) <= 240
    assert first.since_opening_ms < 0 < last.since_opening_ms
    assert (first.called, first.joined) == (0, 600)
    assert (last.called, last.claimed) == (REPORT.whole.called, 300)
    assert all(one.available is not None and one.available + (one.reserved or 0) + (one.sold or 0) == 300 for one in REPORT.moments)


def test_moments_go_on_until_the_last_unit_has_moved() -> None:
    """A sale long after the last call was not drawn."""
    left = [(0, 300, 0), (2_000, 299, 1), (4_000, 299, 1), (60_000, 299, 0), (90_000, 299, 0)]
    samples = [document(ms, joined=9, entries=9, available={"poster": units}, reserved={"poster": held}) for ms, units, held in left]
    last = report([called(1_000, 0, 1)], samples, DROP, totals(9, 9, available=299, sold=1)).moments[-1]
    assert (last.since_opening_ms, last.available, last.reserved, last.sold) == (60_000, 299, 0, 1)


def test_admissions_are_all_in_the_rate() -> None:
    assert sum(one.count for one in REPORT.rate) == 300
    assert all(one.per_min == pytest.approx(one.count * 60_000 / (one.to_ms - one.from_ms)) for one in REPORT.rate)


# ----------------------------------------------------------------------------------------------------------------- honesty


def test_looks_are_held_against_what_happened() -> None:
    samples = [document(0, joined=4, entries=4), document(2_000, joined=4, entries=4), document(4_000, state="paused")]
    asked: list[tuple[int, int]] = []

    def oracle(shown: ServingDocument, place: int) -> Told:
        asked.append((shown.now_ms - OPENS_AT_MS, place))
        return Told((500, 1_500), 0.9 if place < 2 else 0.1)

    events = [called(1_000, 0, 1), called(3_000, 1, 2), called(9_000, 2, 3)]
    made = report(events, samples, DROP, totals(4, 4), oracle)
    assert asked == [(0, 0), (0, 1), (0, 2), (0, 3), (2_000, 1), (2_000, 2), (2_000, 3)]
    assert made.eta is not None
    # Waits were 1, 3 and 9 s, then 1 and 7 s; place 3 was never called.
    assert (made.eta.looks, made.eta.share_early, made.eta.share_late) == (5, 0, 0.6)
    assert made.eta.share_within == pytest.approx(0.4)
    assert made.eta.median_width == pytest.approx(1_000 / 3_000)
    assert made.chance is not None
    assert [(one.looks, round(one.said, 9), one.happened) for one in made.chance.deciles] == [(4, 0.1, 0.5), (3, 0.9, 1.0)]
    assert made.chance.worst_gap is None


def test_chances_are_not_scored_while_nobody_knows_the_end() -> None:
    made = report(PLAYED.events, PLAYED.samples, DROP, totals(750, 600, DropState.OPEN, available=1), tell)
    assert made.eta is not None
    assert made.chance is None


def test_a_place_behind_the_cut_was_not_reached_although_it_was_called() -> None:
    events: list[Event] = [called(1_000, 0, 4), claimed(1_500, 0), Cut(OPENS_AT_MS + 2_000, (2,), "sold_out")]
    made = report(events, [document(0, joined=4, entries=4)], DROP, totals(4, 4), lambda _shown, _place: Told(None, 0.5))
    assert made.chance is not None
    assert [(one.looks, one.happened) for one in made.chance.deciles] == [(4, 0.5)]
    assert made.eta is None


LOOKS = st.lists(
    st.builds(
        Look,
        eta_ms=st.none() | st.tuples(st.integers(0, 50), st.integers(50, 100)),
        waited_ms=st.none() | st.integers(0, 150),
        chance=st.none() | st.floats(0, 1),
        reached=st.booleans(),
    ),
    max_size=60,
)


@given(LOOKS)
def test_scores_are_those_of_every_look_by_itself(looks: list[Look]) -> None:
    told = [(look.eta_ms, look.waited_ms) for look in looks if look.eta_ms is not None and look.waited_ms is not None]
    eta = score_eta(looks)
    assert (eta is None) == (not told)
    if eta is not None:
        assert eta.share_within * len(told) == pytest.approx(sum(low <= waited <= high for (low, high), waited in told))
        assert eta.share_within + eta.share_early + eta.share_late == pytest.approx(1)
        assert (sum(one.looks for one in eta.by_wait), sum(one.within for one in eta.by_wait)) == (
            len(told),
            round(eta.share_within * len(told)),
        )
    said = [(look.chance, look.reached) for look in looks if look.chance is not None]
    chance = score_chance(looks)
    assert (chance is None) == (not said)
    if chance is not None:
        assert chance.brier * len(said) == pytest.approx(sum((one - reached) ** 2 for one, reached in said))
        assert sum(one.looks * one.happened for one in chance.deciles) == pytest.approx(sum(reached for _, reached in said))
        assert sum(one.looks * one.said for one in chance.deciles) == pytest.approx(sum(one for one, _ in said))


# ------------------------------------------------------------------------------------------------------------------ others


def test_a_report_goes_through_json_with_what_others_add() -> None:
    more = Section("rehearsal", "Rehearsal", (Figure("rate", "recommended rate", 300, "300 a minute"),))
    made = report(PLAYED.events, PLAYED.samples, DROP, PLAYED.totals, tell, (more,))
    assert msgspec.json.decode(msgspec.json.encode(made), type=DropReport) == made
    assert made.sections == (more,)


def test_the_same_drop_gives_the_same_report() -> None:
    again = PlayedDrop()
    assert report(again.events, again.samples, DROP, again.totals, tell) == REPORT
