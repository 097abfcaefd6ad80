"""The end of the demo for people: one card with what was promised and what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flashsale.cli.output import program

WIDTH_MAX = 92
_BAR_CELLS = 60

_PROMISES = (
    ("oversold_units", "units oversold", "beyond the allotment, in store or Postgres"),
    ("undersold_units", "units undersold", "left over although somebody was sent away"),
    ("lost_orders", "orders lost", "acknowledged to a shopper and not in Postgres"),
    ("duplicate_orders", "orders twice", "more than one order for the same payment"),
    ("overtakes", "overtakes", "served before somebody who was ahead in line"),
    ("draw_faults", "draw faults", "key, entry or queue number that does not follow"),
    ("http_5xx", "server errors", "answers of 500 and above"),
)

_NEXT = (
    ("up", "keep a service running here"),
    ("drop create config/drops/trial.toml", "schedule a drop on it"),
    ("demo --shoppers 5000 --seed 2", "another, larger crowd"),
)


def show_card(console: Console, report: Mapping[str, Any], faults: Sequence[str]) -> None:
    """Prints the card; plain lines without a frame when nobody looks."""
    if not console.is_terminal:
        for line in plain_lines(report, faults):
            console.print(line, markup=False)
        return
    clean = not faults
    title = Text(" Everything adds up ", "bold black on green") if clean else Text(" It does not add up ", "bold white on red")
    body = Group(_sales(report), Text(), _promises(report), Text(), _line(report), *([] if clean else [Text(), _faults(faults)]))
    console.print(
        Panel(
            Padding(body, (1, 2)),
            title=title,
            subtitle=Text(f"{report['seconds']:.0f} s · seed {report['seed']} · {report['drop']}", "dim"),
            box=box.ROUNDED,
            border_style="green" if clean else "red",
            width=min(WIDTH_MAX, console.width),
        )
    )
    if clean:
        console.print(_next_steps())


def _sales(report: Mapping[str, Any]) -> Group:
    sold, units = report["sold_units"], report["units"]
    cells = round(_BAR_CELLS * sold / units) if units else 0
    bar = Text("█" * cells, "green") + Text("░" * (_BAR_CELLS - cells), "dim")
    orders = report["orders_in_postgres"]
    return Group(
        Text.assemble(
            ("Sold ", "bold"),
            (f"{sold:,} of {units:,}", "bold green" if sold == units else "bold yellow"),
            " units in ",
            f"{orders['paid']:,} orders",
        ),
        bar,
        Text(
            f"{report['joined']:,} joined, {report['admitted']:,} admitted; "
            f"{report['reserved_units']:,} units reserved, {report['expired_units']:,} came back unpaid",
            "dim",
        ),
    )


def _promises(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(width=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(style="dim", no_wrap=True)
    for name, label, meaning in _PROMISES:
        kept = not report[name]
        table.add_row(Text("✔", "green") if kept else Text("✘", "bold red"), f"{report[name]:,}", label, meaning)
    clean = report["audit"] == "clean"
    mark = Text("✔", "green") if clean else Text("✘", "bold red")
    table.add_row(mark, "", f"audit {report['audit']}", "the store and Postgres agree on every unit")
    return table


def _line(report: Mapping[str, Any]) -> Text:
    wait, answers = report["wait_ms"], report["answer_ms"].get("reserve", {})
    text = Text.assemble(
        ("Time in line  ", "bold"),
        f"half within {_seconds(wait['p50'])}, 95 % within {_seconds(wait['p95'])}, 99 % within {_seconds(wait['p99'])}\n",
        ("Reserving     ", "bold"),
        f"half within {answers.get('p50', 0):.0f} ms, 99 % within {answers.get('p99', 0):.0f} ms",
    )
    if entries := report["entries_drawn"]:
        text.append(f"\nDraw          {entries:,} entries drawn; {report['lots_checked']:,} shoppers were served by their lot", "dim")
    if no_shows := report["no_shows"]:
        text.append(f"\nNo-shows      {no_shows:,} never came when it was their turn; their slots went on", "dim")
    return text


def _next_steps() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    table.add_column(style="bold")
    table.add_column(style="dim")
    for command, meaning in _NEXT:
        table.add_row(f"{program()} {command}", meaning)
    return table


def _faults(faults: Sequence[str]) -> Text:
    return Text("\n".join(f"✘ {fault}" for fault in faults), "red")


def plain_lines(report: Mapping[str, Any], faults: Sequence[str]) -> list[str]:
    """The same in plain lines."""
    wait, paid = report["wait_ms"], report["orders_in_postgres"]["paid"]
    return [
        f"sold {report['sold_units']} of {report['units']} units in {paid} orders, {report['joined']} shoppers joined",
        f"took {report['seconds']:.0f} s, seed {report['seed']}",
        ", ".join(f"{report[name]} {label}" for name, label, _ in _PROMISES),
        f"time in line: p50 {_seconds(wait['p50'])}, p95 {_seconds(wait['p95'])}, p99 {_seconds(wait['p99'])}",
        *([f"draw of {report['entries_drawn']} entries, {report['lots_checked']} lots checked"] if report["entries_drawn"] else []),
        f"audit: {report['audit']}",
        *(f"NOT OK: {fault}" for fault in faults),
    ]


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f} s"
