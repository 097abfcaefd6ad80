"""A rehearsal as one HTML page. Pure."""

from __future__ import annotations

from flashsale.rehearsal.rehearse import Rehearsal
from flashsale.report_charts import charts_of
from flashsale.report_page import page
from flashsale.report_words import sections_of, summary


def described(made: Rehearsal) -> str:
    """What was assumed, in one sentence."""
    behaviour = made.behaviour
    return (
        f"{behaviour.shoppers:,} shoppers, {behaviour.no_show:.0%} do not come, {behaviour.buy:.0%} of those let in want to buy, "
        f"sessions of {behaviour.session_ms / 1000:.0f} s, seed {made.seed}. A model of people: nothing here is a promise."
    )


def rehearsal_page(made: Rehearsal) -> str:
    """The page: what the rehearsal adds comes first, then the report as after a real drop."""
    report = made.report
    own = list(report.sections)
    rest = [section for section in sections_of(report) if section not in own]
    return page(f"{report.name}: rehearsal", described(made), summary(report), [*own, *rest], charts_of(report))
