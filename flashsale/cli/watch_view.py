"""How a drop looks in a terminal of eighty columns: pure, from pictures to text."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from flashsale.cli.output import moment, span
from flashsale.cli.paused import why_paused
from flashsale.cli.shapes import Orders, Picture
from flashsale.model import SkuStock

SKUS_SHOWN_MAX = 8
BAR_CELLS = 20
SKU_CELLS = 16
HISTORY_PICTURES = 30
LATEST_PICTURES = 5
JOURNAL_LATE_MS = 2_000
"""Older than this the reconciler is behind, and the number turns yellow."""

_SPARKS = "▁▂▃▄▅▆▇█"
_STATE_STYLES = {"open": "bold green", "paused": "bold yellow", "closed": "bold", "waiting": "bold cyan", "scheduled": "bold blue"}
_SOLD, _RESERVED, _AVAILABLE = _KINDS = (("█", "green"), ("▓", "yellow"), ("░", "bright_black"))


class History:
    """What the last pictures tell together: how fast people are admitted."""

    def __init__(self) -> None:
        self._admitted: deque[tuple[int, int]] = deque(maxlen=HISTORY_PICTURES + 1)
        self.active_most = 0
        self.journal_most_ms = 0

    def add(self, picture: Picture) -> None:
        """Remembers a picture."""
        self._admitted.append((picture.at_ms, picture.admitted))
        self.active_most = max(self.active_most, picture.active)
        self.journal_most_ms = max(self.journal_most_ms, picture.journal_oldest_unfinished_ms or 0)

    def admitted_per_s(self) -> list[float]:
        """Between each two pictures, oldest first."""
        pairs = zip(self._admitted, list(self._admitted)[1:], strict=False)
        return [(after - before) * 1000 / max(1, later - earlier) for (earlier, before), (later, after) in pairs]


def view(picture: Picture, name: str, history: History, notes: Sequence[str] = ()) -> RenderableType:
    """The whole view.

    Args:
        picture: the drop now.
        name: the drop's name for people.
        history: the pictures before it.
        notes: warnings, for example that the store does not answer.
    """
    rows = Table.grid(padding=(0, 1), expand=False)
    rows.add_column(style="dim", width=12)
    rows.add_column(overflow="fold")
    rows.add_row("line", _line(picture))
    rows.add_row("admissions", _admissions(picture, history))
    rows.add_row("stock", _stock(picture.skus))
    rows.add_row("reservations", _reservations(picture))
    rows.add_row("refused", _counts(picture.refused) or Text("nobody", style="dim"))
    rows.add_row("orders", _orders(picture))
    parts: list[RenderableType] = [_head(picture, name), Rule(style="bright_black"), rows]
    if picture.notice:
        parts.append(Text(f"notice       {picture.notice}", style="italic"))
    if why := why_paused(picture):
        parts.append(Text(f"! {why}", style="bold yellow"))
    parts += [Text(f"! {note}", style="yellow") for note in notes]
    return Group(*parts)


def countdown(picture: Picture) -> str:
    """What happens next, and when."""
    match picture.state:
        case "scheduled":
            return f"people join in {span(max(0, picture.joins_at_ms - picture.at_ms))}"
        case "waiting":
            return f"opens in {span(max(0, picture.opens_at_ms - picture.at_ms))}"
        case "closed":
            return f"since {moment(picture.closes_at_ms)[11:]}"
        case _:
            return f"closes in {span(max(0, picture.closes_at_ms - picture.at_ms))}"


def _head(picture: Picture, name: str) -> RenderableType:
    head = Table.grid(expand=True)
    head.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    head.add_column(no_wrap=True, justify="right")
    state = Text(picture.state, style=_STATE_STYLES.get(picture.state, "bold"))
    if picture.sold_out:
        state.append(" · sold out", style="bold magenta")
    head.add_row(Text.assemble((picture.drop_id, "bold"), "  ", (name, "dim")), Text.assemble("  ", state, " · ", countdown(picture)))
    return head


def _line(picture: Picture) -> Text:
    return Text.assemble(
        (f"{picture.joined:,}", "bold"), " joined  ",
        (f"{picture.waiting:,}", "bold"), " waiting  serving number ",
        (f"{picture.serving_number:,}", "bold"),
    )  # fmt: skip


def _admissions(picture: Picture, history: History) -> Text:
    rates = history.admitted_per_s()
    text = Text.assemble(
        (f"{picture.admitted:,}", "bold"), " admitted  ",
        (f"{picture.active:,}", "bold"), f" of {picture.capacity:,} slots  ",
        f"{picture.rate_per_min:,}/min",
    )  # fmt: skip
    if any(rates):
        latest = rates[-LATEST_PICTURES:]
        text.append(f"\n{sparkline(rates)} {sum(latest) / len(latest):,.0f}/s", style="cyan")
    return text


def sparkline(values: Sequence[float]) -> str:
    """The values as little columns, the highest as high as a line."""
    top = max([*values, 0.0]) or 1.0
    return "".join(_SPARKS[min(len(_SPARKS) - 1, round(max(0.0, value) / top * (len(_SPARKS) - 1)))] for value in values)


def _stock(skus: Mapping[str, SkuStock]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", width=SKU_CELLS)
    table.add_column(no_wrap=True)
    for _, style in (_SOLD, _RESERVED, ("", "")):
        table.add_column(no_wrap=True, justify="right", style=style)
    legend = (Text(f"{glyph} {word}", style="dim") for (glyph, _), word in zip(_KINDS, ("sold", "reserved", "available"), strict=True))
    table.add_row("", "", *legend)
    for sku, stock in list(skus.items())[:SKUS_SHOWN_MAX]:
        table.add_row(sku, bar(stock), f"{stock.sold:,}", f"{stock.reserved:,}", f"{stock.available:,}")
    more = len(skus) - SKUS_SHOWN_MAX
    return table if more <= 0 else Group(table, Text(f"and {more} more SKUs", style="dim"))


def bar(stock: SkuStock, cells: int = BAR_CELLS) -> Text:
    """Where the units are. A kind of which there is a unit has at least one cell."""
    units = (stock.sold, stock.reserved, stock.available)
    total = max(1, sum(units))
    lengths = [max(1, round(unit * cells / total)) if unit else 0 for unit in units]
    lengths[lengths.index(max(lengths))] += cells - sum(lengths)
    return Text.assemble(*((glyph * length, style) for (glyph, style), length in zip(_KINDS, lengths, strict=True)))


def _reservations(picture: Picture) -> Text:
    text = Text.assemble((f"{picture.reservations_live:,}", "bold"), " live")
    if picture.expired_units:
        text.append(f"  {picture.expired_units:,} units came back", style="dim")
    return text


def _orders(picture: Picture) -> Text:
    if picture.orders is None:
        text = Text("Postgres does not answer; orders wait in the journal", style="yellow")
    else:
        text = _counts(order_counts(picture.orders)) or Text("none yet", style="dim")
    age_ms = picture.journal_oldest_unfinished_ms
    if age_ms is None:
        text.append("  journal done", style="dim")
    else:
        text.append(f"  journal {span(age_ms)} behind", style="yellow" if age_ms > JOURNAL_LATE_MS else "dim")
    return text


def order_counts(orders: Orders) -> dict[str, int]:
    """Orders by state, without the states that have none."""
    found = {name: getattr(orders, name) for name in Orders.__struct_fields__}
    return {name: count for name, count in found.items() if count}


def _counts(counts: Mapping[str, int]) -> Text:
    parts = [Text.assemble((f"{count:,}", "bold"), f" {name}") for name, count in counts.items()]
    return Text("  ").join(parts)


def plain_line(picture: Picture) -> str:
    """One line for a log or a pipe."""
    stock = picture.skus.values()
    words = {
        "joined": picture.joined,
        "waiting": picture.waiting,
        "serving": picture.serving_number,
        "admitted": picture.admitted,
        "active": f"{picture.active}/{picture.capacity}",
        "available": sum(one.available for one in stock),
        "reserved": sum(one.reserved for one in stock),
        "sold": sum(one.sold for one in stock),
        "refused": sum(picture.refused.values()),
        "orders": "?" if picture.orders is None else sum(order_counts(picture.orders).values()),
        "paid": "?" if picture.orders is None else picture.orders.paid,
        "journal_ms": picture.journal_oldest_unfinished_ms or 0,
    }
    return f"{moment(picture.at_ms)} {picture.state} " + " ".join(f"{name}={value}" for name, value in words.items())


def closing_words(picture: Picture, history: History) -> RenderableType:
    """The summary at the end."""
    stock = picture.skus.values()
    allotment, sold = sum(one.allotment for one in stock), sum(one.sold for one in stock)
    lines = [
        f"[bold]{picture.drop_id}[/] is {picture.state}: [bold]{sold:,}[/] of {allotment:,} units sold.",
        f"{picture.admitted:,} of {picture.joined:,} people admitted, at most {history.active_most:,} at once while watching.",
        f"{sum(picture.refused.values()):,} requests were refused; {picture.expired_units:,} units came back unpaid.",
    ]
    if picture.orders is not None:
        lines.append(
            f"Orders in Postgres: {', '.join(f'{count:,} {name}' for name, count in order_counts(picture.orders).items()) or 'none'}."
        )
    if picture.reservations_live:
        lines.append(f"{picture.reservations_live:,} reservations are still being paid; 'flashsale audit' proves the totals.")
    return Group(*(Text.from_markup(line) for line in lines))
