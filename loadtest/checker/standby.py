"""Units that are free and still not for everybody: an admitted shopper who finds everything reserved keeps a place in line for what
comes back, and those behind are refused meanwhile.

Whoever was, or may have been, refused counts as waiting from that call on, until a reservation of theirs is known to be made: with
it they wait for nothing more. Those with a higher place than the refused shopper keep nothing from them. The history does not
tell whose turn has passed, nor who could not wait because all was sold, so these count too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from loadtest.checker.model import FOREVER_NS, Claim, History, Operation, Timeline
from loadtest.history import Items, Kind, Step


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody begins to wait for so many units more, or waits for them no longer."""

    at_ns: int
    who: str
    sku: str
    units: int


def demand_before(history: History, places: Mapping[str, int], *, records_complete: bool) -> dict[str, Items]:
    """For each refusal as sold out, by the operation's name: how many units of each SKU had to be free so that it was false.

    That is what was wanted, and the most that may have been kept during the call for shoppers before this one.

    Args:
        history: of the drop.
        places: ticket to place in line; whoever is not there may be anywhere.
        records_complete: the store has lost nothing, so nobody waits again whose reservation was made, and places stay.
    """
    refused = [operation for operation in history.reserves if _is_refusal(operation)]
    begun, over = _wishes(history, _takes(history) if records_complete else {})
    known = places if records_complete else {}
    kept = _sums(begun, refused, known, lambda operation: operation.ended_ns)
    gone = _sums(over, refused, known, lambda operation: operation.invoked_ns - 1)
    return {
        operation.name: tuple((sku, units + kept[operation.name, sku] - gone[operation.name, sku]) for sku, units in operation.items)
        for operation in refused
    }


def _is_refusal(operation: Operation) -> bool:
    return operation.outcome == "sold_out" and not operation.possible


def _who(operation: Operation) -> str:
    return operation.ticket_id or operation.shopper


# ------------------------------------------------------------------------------------------------------- who waits, and when


@dataclass(frozen=True, slots=True)
class Take:
    """A reservation that was made, at some moment between the two."""

    begun_ns: int
    known_ns: int


def _takes(history: History) -> dict[str, dict[str, Take]]:
    """By ticket and reservation id."""
    takes: defaultdict[str, dict[str, Take]] = defaultdict(dict)
    for claim in history.claims.values():
        if claim.ticket_id and (take := _take(claim, history.timeline)):
            takes[claim.ticket_id][claim.reservation_id] = take
    return takes


def _take(claim: Claim, timeline: Timeline) -> Take | None:
    attempts = [operation.invoked_ns for operation in claim.of(Kind.RESERVE) if operation.possible]
    known = [operation.ended_ns for operation in claim.acknowledged]
    if claim.record is not None:
        known.append(timeline.certainly_after(claim.record.reserved_at_ms))
    return Take(min(attempts), min(known)) if attempts and known else None


def _wishes(history: History, takes: Mapping[str, Mapping[str, Take]]) -> tuple[list[Wish], list[Wish]]:
    """Beginnings and ends. Who asks again while waiting waits for the larger number."""
    asked = [operation for operation in history.reserves if _is_refusal(operation) or operation.step is Step.UNKNOWN]
    largest: dict[tuple[str, int, str], int] = {}
    begun = []
    for operation in sorted(asked, key=lambda operation: operation.invoked_ns):
        who = _who(operation)
        until_ns = _until_ns(operation, takes.get(who, {}))
        for sku, units in operation.items:
            known = largest.get((who, until_ns, sku), 0)
            if units > known:
                largest[who, until_ns, sku] = units
                begun.append(Wish(operation.invoked_ns, who, sku, units - known))
    over = [Wish(until_ns, who, sku, units) for (who, until_ns, sku), units in largest.items() if until_ns < FOREVER_NS]
    return begun, sorted(over, key=lambda wish: wish.at_ns)


def _until_ns(operation: Operation, takes: Mapping[str, Take]) -> int:
    """When the shopper certainly waits no longer because of this call.

    A refused call came before the reservation of its own key was made, since afterwards it would have found that; and before
    those that were asked for when it had ended.
    """
    return min(
        (
            take.known_ns
            for reservation_id, take in takes.items()
            if reservation_id == operation.reservation_id or take.begun_ns > operation.ended_ns
        ),
        default=FOREVER_NS,
    )


# --------------------------------------------------------------------------------------------------------- who is before whom


class _Sums:
    """Units wished for, summed up to any place (Fenwick, "A new data structure for cumulative frequency tables", 1994)."""

    def __init__(self, size: int) -> None:
        self._tree = [0] * (size + 1)

    def add(self, rank: int, units: int) -> None:
        at = rank + 1
        while at < len(self._tree):
            self._tree[at] += units
            at += at & -at

    def below(self, rank: int) -> int:
        found = 0
        while rank:
            found += self._tree[rank]
            rank &= rank - 1
        return found


def _sums(
    wishes: Iterable[Wish], refused: Iterable[Operation], places: Mapping[str, int], when: Callable[[Operation], int]
) -> dict[tuple[str, str], int]:
    """By name of the refused operation and SKU: the units of all `wishes` until `when`, of shoppers who may be before this one.

    Args:
        wishes: in order of time.
        refused: the operations asked about.
        places: of those whose place is known.
        when: of an operation.
    """
    ranks = {place: rank for rank, place in enumerate(sorted(set(places.values())), start=1)}
    sums: defaultdict[str, _Sums] = defaultdict(lambda: _Sums(len(ranks) + 1))
    own: defaultdict[tuple[str, str], int] = defaultdict(int)
    found = {}
    coming = iter(wishes)
    wish = next(coming, None)
    for operation in sorted(refused, key=when):
        while wish is not None and wish.at_ns <= when(operation):
            sums[wish.sku].add(ranks[places[wish.who]] if wish.who in places else 0, wish.units)
            own[wish.who, wish.sku] += wish.units
            wish = next(coming, None)
        who = _who(operation)
        for sku, _ in operation.items:
            if who in places:
                found[operation.name, sku] = sums[sku].below(ranks[places[who]])
            else:
                found[operation.name, sku] = sums[sku].below(len(ranks) + 1) - own[who, sku]
    return found
