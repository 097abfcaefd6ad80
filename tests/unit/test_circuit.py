"""The circuit alone: when it opens, who may probe, when it closes."""

from __future__ import annotations

import pytest

from flashsale.connections.circuit import PROBE_JITTER, PROBE_PAUSE_MAX_S, PROBE_PAUSE_MIN_S, Circuit, Permit


class Hand:
    """A circuit with the clock in the test's hand, and what it told."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.told: list[bool] = []
        self.circuit = Circuit(lambda: self.now_s, self.told.append)


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_it_lets_calls_through_and_stays_closed_while_they_are_answered(hand: Hand) -> None:
    for _ in range(3):
        assert hand.circuit.permit() is Permit.CALL
        hand.circuit.heard()
    assert hand.told == []


def test_one_call_in_vain_opens_it_and_one_answer_closes_it(hand: Hand) -> None:
    hand.circuit.silent(since=99.0)
    hand.circuit.silent(since=99.5)
    assert hand.circuit.permit() is Permit.REFUSED
    hand.circuit.heard()
    hand.circuit.heard()
    assert hand.circuit.permit() is Permit.CALL
    assert hand.told == [True, False]


def test_a_lost_call_does_not_count_when_others_were_answered_meanwhile(hand: Hand) -> None:
    hand.circuit.heard()
    hand.now_s += 1
    hand.circuit.silent(since=99.5)
    assert not hand.circuit.is_open
    hand.circuit.silent(since=100.5)
    assert hand.circuit.is_open


def test_one_probe_at_a_time_goes_out_and_not_at_once(hand: Hand) -> None:
    hand.circuit.silent(since=99.0)
    assert hand.circuit.permit() is Permit.REFUSED
    hand.now_s += PROBE_PAUSE_MIN_S
    assert [hand.circuit.permit() for _ in range(3)] == [Permit.PROBE, Permit.REFUSED, Permit.REFUSED]
    hand.now_s += 100
    assert hand.circuit.permit() is Permit.REFUSED, "the probe is still out"
    hand.circuit.missed()
    assert hand.circuit.permit() is Permit.REFUSED
    hand.now_s += PROBE_PAUSE_MAX_S
    assert hand.circuit.permit() is Permit.PROBE


def test_probes_become_rarer_up_to_a_limit_and_begin_anew_the_next_time(hand: Hand) -> None:
    def pause_s() -> float:
        begun = hand.now_s
        while hand.circuit.permit() is Permit.REFUSED:
            hand.now_s += 0.001
        hand.circuit.missed()
        return hand.now_s - begun

    hand.circuit.silent(since=99.0)
    pauses = [pause_s() for _ in range(12)]
    assert pauses[0] <= PROBE_PAUSE_MIN_S + 0.002
    assert all(PROBE_PAUSE_MAX_S * (1 - PROBE_JITTER) <= pause <= PROBE_PAUSE_MAX_S + 0.002 for pause in pauses[6:])
    assert len({round(pause, 3) for pause in pauses[6:]}) > 1, "workers do not ask together"
    hand.circuit.heard()
    hand.now_s += 1
    hand.circuit.silent(since=hand.now_s)
    assert pause_s() <= PROBE_PAUSE_MIN_S + 0.002
