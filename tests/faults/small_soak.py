"""`flashsale soak` with a schedule as small as can be: a few shoppers, two gentle faults.

python -m tests.faults.small_soak --seed 7 --round 1
"""

from __future__ import annotations

import sys

from chaos import faults, schedule
from flashsale.cli.main import run

FAULTS = ("flush_scripts", "freeze_worker", "kill_clients", "lose_confirm_replies")

if __name__ == "__main__":
    for name in faults.FAULTS.keys() - FAULTS:
        del faults.FAULTS[name]
    schedule.ROUND_S = 6.0
    schedule.OPENS_IN_S = 1.0
    schedule.STRIKES_MIN = schedule.STRIKES_MAX = 2
    schedule.STRIKES_WITHIN_S = 2.0
    schedule.SPAN_S_MAX = 0.4
    schedule.SHOPPERS_MIN = schedule.SHOPPERS_MAX = 24
    schedule.UNITS_MIN = schedule.UNITS_MAX = 12
    sys.exit(run(["soak", *sys.argv[1:]]))
