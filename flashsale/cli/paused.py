"""What to say of a drop that does not add up, wherever drops are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashsale.cli.output import moment

if TYPE_CHECKING:
    from flashsale.cli.shapes import Picture


def why_paused(picture: Picture) -> str:
    """Why the auditor paused the drop and what to do, or what it found; empty when there is nothing to say."""
    audit = picture.audit
    if audit is None:
        return ""
    steps = f"'flashsale audit {picture.drop_id}' says what is wrong, 'flashsale repair {picture.drop_id}' what can be put right"
    if audit.result == "drift":
        units = sum(abs(drift.units) for drift in audit.drifts)
        paused = f" The auditor paused it at {moment(audit.paused_at_ms)}." if audit.paused_at_ms and picture.state == "paused" else ""
        return f"Store and Postgres do not add up ({units:,} units).{paused} {steps}; then 'flashsale drop resume {picture.drop_id}'."
    return ""
