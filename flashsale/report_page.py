"""A report as one HTML page that needs nothing else: no script, no resource from outside. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from admission.report_shapes import DropReport, Figure, Section
from flashsale.charts import STYLE as CHART_STYLE
from flashsale.charts import Chart, figure
from flashsale.report_charts import charts_of
from flashsale.report_words import sections_of, subtitle, summary

_STYLE = """
:root { color-scheme: light dark;
  --ink: light-dark(#16181d, #f1f2f4); --quiet: light-dark(#5b626f, #9aa3b2); --ground: light-dark(#f4f5f7, #101216);
  --card: light-dark(#fff, #1a1d23); --line: light-dark(#dfe2e7, #2c313a);
  --c0: light-dark(#0b5fff, #7aa7ff); --c1: light-dark(#c2410c, #ff9d5c); --c2: light-dark(#047857, #4fd1a5);
  --c3: light-dark(#9333a3, #e08bf0); --c4: light-dark(#8a6d00, #e5c453); }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.15; margin: 0; letter-spacing: -.02em; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
.quiet { color: var(--quiet); margin: .35rem 0 0; }
.first, .charts { display: grid; gap: 1rem; margin-top: 1.25rem; }
.first { grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.sections { columns: 2 26rem; column-gap: 1rem; margin-top: 1rem; } .sections .card { margin-bottom: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1rem 1.15rem;
  min-width: 0; break-inside: avoid; }
.first b { display: block; font-size: 1.7rem; line-height: 1.2; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
dl { margin: 0; }
dl div { display: grid; grid-template-columns: 1fr auto; gap: 0 1rem; border-top: 1px solid var(--line); padding: .35rem 0; }
dt { min-width: 0; }
dd { margin: 0; font-variant-numeric: tabular-nums; text-align: right; font-weight: 600; overflow-wrap: anywhere; }
dl .wide { grid-template-columns: 1fr; }
dl .wide dd { text-align: left; font-weight: 500; }
dd.note { grid-column: 1 / -1; text-align: left; font-weight: 400; font-size: .875rem; color: var(--quiet); }
details { margin-top: .5rem; font-size: .85rem; }
summary { cursor: pointer; color: var(--quiet); }
details table { border-collapse: collapse; margin: .5rem 0; display: block; max-height: 18rem; overflow: auto; }
caption { text-align: left; font-weight: 600; }
th, td { text-align: right; padding: .1rem 1rem .1rem 0; font-variant-numeric: tabular-nums; font-weight: 400; }
th { color: var(--quiet); }
@media (max-width: 30rem) {
  main { padding: 1.25rem .75rem 3rem; } .card { padding: .85rem; }
  .first { grid-template-columns: 1fr 1fr; gap: .75rem; } .first b { font-size: 1.35rem; }
}
@media print {
  :root { color-scheme: light; }
  body { background: none; font-size: 11pt; } main { max-width: none; padding: 0; }
  .first { grid-template-columns: repeat(4, 1fr); } .first b { font-size: 1.3rem; }
  .charts { grid-template-columns: 1fr 1fr; } .sections { columns: 2; }
  .card { border-radius: 0; } details { display: none; }
}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_WIDE_LENGTH = 24


def report_page(report: DropReport, more_charts: Sequence[Chart] = ()) -> str:
    """The page of a drop's report; `more_charts` come after its own."""
    return page(f"{report.name}: report", subtitle(report), summary(report), sections_of(report), [*charts_of(report), *more_charts])


def page(title: str, under: str, first: Iterable[Figure], sections: Iterable[Section], charts: Iterable[Chart]) -> str:
    """A page of figures, charts and sections.

    Args:
        title: its heading.
        under: a sentence below it.
        first: the few numbers to look at first.
        sections: all numbers.
        charts: drawn between them.
    """
    cards = "".join(f'<div class="card"><span class="quiet">{escape(one.label)}</span><b>{escape(one.shown)}</b></div>' for one in first)
    drawn = "".join(f'<div class="card">{figure(chart)}</div>' for chart in charts)
    told = "".join(map(_section, sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}{CHART_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="quiet">{escape(under)}</p>
<div class="first">{cards}</div>
<div class="charts">{drawn}</div>
<div class="sections">{told}</div>
</main>
</body>
</html>
"""


def _section(section: Section) -> str:
    rows = "".join(map(_row, section.figures))
    note = f'<p class="quiet">{escape(section.note)}</p>' if section.note else ""
    name = escape(section.name, quote=True)
    return f'<section class="card" aria-labelledby="s-{name}"><h2 id="s-{name}">{escape(section.title)}</h2><dl>{rows}</dl>{note}</section>'


def _row(one: Figure) -> str:
    note = f'<dd class="note">{escape(one.note)}</dd>' if one.note else ""
    wide = ' class="wide"' if len(one.shown) > _WIDE_LENGTH else ""
    return f"<div{wide}><dt>{escape(one.label)}</dt><dd>{escape(one.shown)}</dd>{note}</div>"
