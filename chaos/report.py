"""What breaking the service came to, row by row: `faults.json` for machines, `faults.html` for people."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template

import msgspec

from chaos.rows import ROWS

HELD, LATE, BROKEN, KNOWN, NOT_RUN, UNTESTED = "held", "late", "broken", "known gap", "not run", "not tested"
_WORST_FIRST = (BROKEN, LATE, KNOWN, NOT_RUN, HELD)


class Finding(msgspec.Struct, frozen=True):
    """What one test of a row came to."""

    row: int
    fault: str
    expected: str
    seen: str
    seed: int
    verdict: str
    """`held`, `late` (all was right in the end, and took too long), `broken`, `known gap` (it fails as is known), `not run` this
    time, or `not tested` at all"""
    seconds: float = 0.0
    moved_s: float | None = None
    """from the end of the last fault until the line moved; None where that was not measured"""
    caught_up_s: float | None = None
    """from the end of the last fault until everything from before was finished"""


def one_each(found: Sequence[Finding]) -> list[Finding]:
    """One finding for every row of the table: those of its tests together, or why there is none."""
    rows = []
    for row in ROWS:
        own = [finding for finding in found if finding.row == row.number]
        if not own:
            rows.append(Finding(row.number, row.fault, row.expected, row.untested, 0, UNTESTED if row.untested else NOT_RUN))
            continue
        rows.append(
            Finding(
                row.number,
                row.fault,
                row.expected,
                " ".join(finding.seen for finding in own if finding.seen),
                own[0].seed,
                min((finding.verdict for finding in own), key=_WORST_FIRST.index),
                round(sum(finding.seconds for finding in own), 1),
                max((finding.moved_s for finding in own if finding.moved_s is not None), default=None),
                max((finding.caught_up_s for finding in own if finding.caught_up_s is not None), default=None),
            )
        )
    return rows


def write_report(folder: Path, found: Sequence[Finding]) -> None:
    """Writes `faults.json` and `faults.html` into `folder`, which is made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = one_each(found)
    (folder / "faults.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    (folder / "faults.html").write_text(page(rows), encoding="utf-8")


def page(rows: Sequence[Finding]) -> str:
    """One page that needs nothing else."""
    counts = {verdict: sum(1 for row in rows if row.verdict == verdict) for verdict in (HELD, KNOWN, LATE, BROKEN, NOT_RUN, UNTESTED)}
    badges = "".join(f'<span class="{_css(verdict)}"><b>{count}</b> {verdict}</span>' for verdict, count in counts.items() if count)
    return _PAGE.substitute(badges=badges, rows="\n".join(_line(row) for row in rows))


def _line(row: Finding) -> str:
    took = f"{row.seconds:.1f} s" if row.seconds else ""
    seed = f"seed {row.seed}" if row.seconds else ""
    recovered = f"<br>caught up in {row.caught_up_s:.1f} s" if row.caught_up_s is not None else ""
    fault, expected, seen = (html.escape(text) for text in (row.fault, row.expected, row.seen))
    return (
        f'<tr id="row-{row.row}"><th scope="row">{row.row}</th>'
        f"<td><strong>{fault}</strong></td><td>{expected}</td><td>{seen}</td>"
        f'<td><span class="{_css(row.verdict)}">{row.verdict}</span><small>{took}<br>{seed}{recovered}</small></td></tr>'
    )


def _css(verdict: str) -> str:
    return verdict.replace(" ", "-")


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Faults</title>
<style>
:root {
  --paper: #fbfaf7; --ink: #22252b; --quiet: #676d78; --line: #e3e0d8; --row: #fff;
  --held: #1a7f4b; --gap: #a36200; --broken: #c22f3d; --untested: #747b87;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --ink: #e6e7ea; --quiet: #9aa1ad; --line: #2b2f36; --row: #1b1e23;
    --held: #54c88b; --gap: #e2a44a; --broken: #ff7b86; --untested: #8b93a0;
  }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 82rem; padding: 3rem 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { margin: 0 0 .3rem; font-size: 1.9rem; letter-spacing: -.02em }
p { margin: 0 0 1.4rem; max-width: 46rem; color: var(--quiet) }
.badges span, td span { border: 1px solid currentColor; border-radius: 99px; padding: .05rem .6rem; white-space: nowrap }
.held { color: var(--held) } .known-gap { color: var(--gap) } .broken, .late { color: var(--broken) }
.not-run, .not-tested { color: var(--untested) }
.badges span { display: inline-block; margin: 0 .5rem 1.6rem 0; padding: .3rem .8rem }
.scroll { overflow-x: auto }
table { width: 100%; min-width: 50rem; border-collapse: collapse; background: var(--row); border: 1px solid var(--line) }
th, td { padding: .7rem .9rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line) }
thead th { border-top: 0; color: var(--quiet); font-weight: 500 }
tbody th { color: var(--quiet); font-weight: 500; font-variant-numeric: tabular-nums }
td:nth-child(2) { width: 22% } td:nth-child(3) { width: 26% }
tr:target { outline: 2px solid var(--gap) }
small { display: block; margin-top: .35rem; color: var(--quiet) }
</style>
</head>
<body>
<h1>Faults</h1>
<p>Every row breaks one thing in a running service of real processes and real stores, and says what was seen. A row holds only
if exactly the expected thing happened and every invariant held afterwards.</p>
<div class="badges">$badges</div>
<div class="scroll"><table>
<thead><tr><th>Row</th><th>Fault</th><th>Expected</th><th>Seen</th><th>Verdict</th></tr></thead>
<tbody>
$rows
</tbody>
</table></div>
</body>
</html>
""")
