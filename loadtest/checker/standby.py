"""Units that are free and still not for everybody: an admitted shopper who finds everything reserved keeps a place in line for what
comes back, and those behind are refused meanwhile.

The history does not tell who is before whom, so whoever was, or may have been, refused before counts as before.
"""

from __future__ import annotations

from collections import defaultdict

from loadtest.checker.model import History, Operation
from loadtest.history import Items, Step


def demand_before(history: History) -> dict[str, Items]:
    """For each refusal as sold out, by the operation's name: how many units of each SKU had to be free so that it was false.

    That is what was wanted, and the most that may have been kept for other shoppers who had been refused before it ended.
    """
    refused = sorted((one for one in history.reserves if _is_refusal(one)), key=lambda one: one.ended_ns)
    waiting = sorted((one for one in history.reserves if _is_refusal(one) or one.step is Step.UNKNOWN), key=lambda one: one.invoked_ns)
    wishes: defaultdict[str, dict[str, int]] = defaultdict(dict)
    kept: defaultdict[str, int] = defaultdict(int)
    found: dict[str, Items] = {}
    known = 0
    for operation in refused:
        while known < len(waiting) and waiting[known].invoked_ns <= operation.ended_ns:
            for sku, units in waiting[known].items:
                wish = wishes[sku]
                more = max(0, units - wish.get(who := _who(waiting[known]), 0))
                wish[who], kept[sku] = wish.get(who, 0) + more, kept[sku] + more
            known += 1
        own = _who(operation)
        found[operation.name] = tuple((sku, units + kept[sku] - wishes[sku].get(own, 0)) for sku, units in operation.items)
    return found


def _is_refusal(operation: Operation) -> bool:
    return operation.outcome == "sold_out" and not operation.possible


def _who(operation: Operation) -> str:
    return operation.ticket_id or operation.shopper
