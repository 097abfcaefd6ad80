"""Making the report on a drop: what it needs is read from the store, and worked out beside the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, BinaryIO

from msgspec.structs import replace

from admission.drawing import draws_of
from admission.outlook import outlook
from admission.report import report as report_on
from admission.report_shapes import Totals
from flashsale.admission_log import LOG_ENTRIES_MAX, read_log, read_samples

if TYPE_CHECKING:
    from admission.report_shapes import DropReport
    from flashsale.connections.calls import StoreCalls
    from flashsale.model import Inspection


async def make_report(inspection: Inspection, calls: StoreCalls, copy: BinaryIO | None = None) -> DropReport:
    """The report on the drop that `inspection` shows, as it stands.

    Args:
        inspection: a look at the drop.
        calls: to the store.
        copy: gets the admission log, see `read_log`.

    Raises: as `read_log` does.
    """
    drop_id = inspection.definition.drop_id
    events, head = await read_log(calls, drop_id, copy)
    samples = await read_samples(calls, drop_id)
    totals, draws = Totals.of(inspection.snapshot), draws_of(inspection.snapshot)
    made = await asyncio.to_thread(report_on, events, samples, inspection.definition, totals, outlook, draws=draws)
    return replace(made, log=replace(made.log, head=head.head.hex(), complete=head.entries < LOG_ENTRIES_MAX))
