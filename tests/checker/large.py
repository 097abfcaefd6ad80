"""A history as large as a drop's crowd, and what checking it takes.

    python -m tests.checker.large                       # 50,000 shoppers
    python -m tests.checker.large --shoppers 5000 --oversold 20

Nothing is asserted about time: it prints what it measured as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

from loadtest.checker.bounds import check_bounds
from loadtest.checker.model import Rules, understand
from loadtest.checker.state import FinalState
from loadtest.checker.verdict import check
from loadtest.history import Event
from tests.checker.simulator import Flaw, Simulation, Size

SHOPPERS = 50_000
SHOPPERS_A_UNIT = 12
"""of the SKU there is most of, about"""
MS_A_SHOPPER = 20


def large(shoppers: int, *, oversold: int = 0, lost: float = 0.1, seed: int = 1) -> tuple[list[Event], FinalState]:
    """The history of a correct service, but for so many units that it gave away although there were none.

    Args:
        shoppers: how many.
        oversold: reservations that get units although there are none.
        lost: share of calls that get no answer, among them those whose caller crashes.
        seed: the same history each time.
    """
    size = Size(shoppers, units_max=max(1, shoppers // SHOPPERS_A_UNIT), skus=4, span_ms=MS_A_SHOPPER * shoppers, lost=lost)
    simulation = Simulation(seed, size, Flaw.STOCK_IGNORED if oversold else None)
    simulation.service.fired_max = oversold
    events, state = simulation.run()
    assert simulation.service.fired == oversold, "the units were never short"
    return events, state


def main() -> None:
    """Measures one history."""
    parser = argparse.ArgumentParser(prog="python -m tests.checker.large", description="What checking a large history takes.")
    parser.add_argument("--shoppers", type=int, default=SHOPPERS)
    parser.add_argument("--oversold", type=int, default=0, help="units given away that there are not")
    parser.add_argument("--lost", type=float, default=0.1, help="share of calls without an answer")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    events, state = large(options.shoppers, oversold=options.oversold, lost=options.lost, seed=options.seed)
    simulated_mb, began = _peak_mb(), time.process_time()
    bounds = {violation.name for violation in check_bounds(understand(events, state, Rules()), state, Rules())}
    bounded = time.process_time()
    verdict = check(events, state)
    found = {
        "shoppers": options.shoppers,
        "events": verdict.events,
        "operations": verdict.operations,
        "unknown": verdict.unknown,
        "reservations": verdict.reservations,
        "bounds_cpu_s": round(bounded - began, 1),
        "all_checks_cpu_s": round(time.process_time() - bounded, 1),
        "memory_of_the_history_mb": simulated_mb,
        "memory_in_all_mb": _peak_mb(),
        "found_by_bounds": sorted(bounds),
        "found_by_all": verdict.violations,
    }
    print(json.dumps(found, indent=2))


def _peak_mb() -> int:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
