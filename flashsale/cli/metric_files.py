"""The folder in which the processes of one machine share their metrics, so that scraping any worker shows all.

prometheus-client writes one file per process and kind there. Files of counters stay when a process ends, because what it
counted happened; files of its gauges must go, or a dead reconciler's last word would be shown for ever.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flashsale.metrics import MULTIPROC_VARIABLE

_LIVE_GAUGE = re.compile(r"gauge_live[a-z]*_(\d+)\.db")


@contextmanager
def shared_metrics() -> Iterator[dict[str, str]]:
    """The variable that names a folder for this run: the one that is set already, or a fresh one that is gone afterwards."""
    if os.environ.get(MULTIPROC_VARIABLE):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="flashsale-metrics-", ignore_cleanup_errors=True) as name:
        yield {MULTIPROC_VARIABLE: name}


def forget_dead_processes() -> None:
    """Removes the gauges of processes that are gone; each process of ours does this when it starts."""
    folder = os.environ.get(MULTIPROC_VARIABLE)
    for path in Path(folder).glob("gauge_live*_*.db") if folder else ():
        found = _LIVE_GAUGE.fullmatch(path.name)
        if found and not _is_alive(int(found[1])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
