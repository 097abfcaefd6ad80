"""Drop files: a drop as a merchant writes it in TOML, read with every problem reported at once.

See `config/drops/` for examples. A time has a zone (`2026-12-01T10:00:00+01:00`) or counts from now (`"in 30s"`); a
duration is a number with a unit (`"90s"`, `"1h 30m"`); money is in the smallest unit of the currency.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flashsale import drop_values
from flashsale.drop_values import DAY_MS, EXAMPLE_TIME, HOUR_MS, MINUTE_MS, SECOND_MS, Wrong
from flashsale.errors import FlashsaleError
from flashsale.model import ALLOTMENT_MAX, QUANTITY_MAX, SKUS_PER_DROP_MAX, Drop, Group, Sku
from flashsale.toml_lines import Path, line_index

Value = TypeVar("Value")

FILE_BYTES_MAX = 262_144
NAME_LENGTH_MAX = 120
DESCRIPTION_LENGTH_MAX = 2_000
RATE_PER_MIN_MAX = 1_000_000
CAPACITY_MAX = 1_000_000
EXTENSION_MIN_MS, EXTENSION_MAX_MS = 10 * SECOND_MS, 60 * MINUTE_MS
RESERVATION_TTL_MIN_MS, RESERVATION_TTL_MAX_MS = 10 * SECOND_MS, 60 * MINUTE_MS
CLAIM_WINDOW_MIN_MS, CLAIM_WINDOW_MAX_MS = 5 * SECOND_MS, 10 * MINUTE_MS
OPEN_FOR_MAX_MS = 7 * DAY_MS
JOIN_AHEAD_MAX_MS = 7 * DAY_MS
GROUPS_MAX = 7
GROUP_SHARES_MAX_PERMILLE = 900
"""of the admission rate, all groups together: whoever is in none must not wait for ever"""
OPENS_AHEAD_MAX_MS = 400 * DAY_MS
"""A year and a month: a later opening is a slip of the pen."""

JOIN_AHEAD_MS = 30 * MINUTE_MS
OPEN_FOR_MS = 2 * HOUR_MS
RATE_PER_MIN = 600
CAPACITY = 200
CLAIM_WINDOW_MS = 60 * SECOND_MS
RESERVATION_TTL_MS = 5 * MINUTE_MS
LIMIT_PER_SHOPPER = 1
ORDER = "draw"

DROP_KEYS = (
    "id", "name", "description", "currency", "joins_at", "opens_at", "closes_at", "rate_per_min", "capacity", "claim_window",
    "reservation_ttl", "extension", "limit_per_shopper", "durability", "order", "beacon", "invites",
    "identity", "storefront", "group", "sku",
)  # fmt: skip
STOREFRONT_KEYS = ("origins", "return_urls")
GROUP_KEYS = ("id", "name", "share")
SKU_KEYS = ("id", "name", "allotment", "price_minor", "limit_per_shopper", "media")
_MEANT = {
    "drop": "id", "drop_id": "id", "slug": "id", "title": "name", "opens": "opens_at", "start": "opens_at", "starts_at": "opens_at",
    "end": "closes_at", "ends_at": "closes_at", "ttl": "reservation_ttl", "hold": "reservation_ttl", "rate": "rate_per_min",
    "limit": "limit_per_shopper", "max_per_shopper": "limit_per_shopper", "price": "price_minor", "units": "allotment",
    "stock": "allotment", "quantity": "allotment", "image": "media", "items": "sku", "skus": "sku", "products": "sku",
    "groups": "group", "priority": "group", "rate_share": "share", "codes": "invites", "invite": "invites", "invite_codes": "invites",
    "lottery": "order", "draw": "order", "login": "identity", "shop": "storefront", "cors": "origins", "cors_origins": "origins",
    "origin": "origins", "return_url": "return_urls", "returns": "return_urls",
}  # fmt: skip
"""What people write, and what it is called here."""

_NAMED = {"sku": "SKU", "group": "group"}
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a drop file."""

    line: int
    """from 1"""
    key: str
    """as a path: `opens_at`, `sku[1].allotment`; empty for the whole file"""
    what: str
    todo: str
    """what to do, with an example of right"""


class DropFileError(FlashsaleError):
    """A drop file is not valid. Nothing was created."""

    code = "drop_file"

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"{source}:{p.line}: {p.key + ': ' if p.key else ''}{p.what}\n    {p.todo}" for p in problems]
        super().__init__(what=f"{source} has {count}:", why="\n".join(lines), todo="Nothing was created. Correct the file and try again.")


def parse_drop(text: str, *, source: str, now_ms: int) -> Drop:
    """The drop that the TOML document `text` describes.

    Args:
        source: the file's name, for messages.
        now_ms: the present, for `"in 30s"` and for what must not be in the past.

    Raises:
        DropFileError: says everything that is wrong, each with its line.
    """
    if len(text.encode()) > FILE_BYTES_MAX:
        raise DropFileError(source, (Problem(1, "", "The file is too long.", f"A drop file has at most {FILE_BYTES_MAX} bytes."),))
    try:
        tree = tomllib.loads(text)
        lines = line_index(text)
    except (ValueError, RecursionError) as error:
        # Besides its own error, tomllib lets through that a number is too long or the nesting too deep.
        raise DropFileError(source, (_not_toml(str(error), text),)) from None
    return _read(tree, lines, source, now_ms)


def drop_of(tree: dict[str, Any], *, source: str, now_ms: int) -> Drop:
    """The drop that `tree` describes, which is a drop file in another notation, such as JSON; times are texts there.

    Raises:
        DropFileError: as `parse_drop` does, without lines.
    """
    return _read(tree, {}, source, now_ms)


def _read(tree: dict[str, Any], lines: Mapping[Path, int], source: str, now_ms: int) -> Drop:
    reader = _DropReader(tree, lines, now_ms)
    drop = reader.read()
    if reader.problems:
        raise DropFileError(source, tuple(sorted(reader.problems, key=lambda problem: problem.line)))
    return drop


def _not_toml(message: str, text: str) -> Problem:
    at = _AT_LINE.search(message)
    line = int(at[1]) if at else max(1, len(text.splitlines()))
    return Problem(
        line, "", f"This is not TOML: {_AT_LINE.sub('', message).strip()}.", 'A line looks like name = "Sneaker X"; text stands in quotes.'
    )


class _Table:
    """One table of the file: takes values out of it and notes what is wrong with them."""

    def __init__(self, values: Mapping[str, Any], path: Path, lines: Mapping[Path, int], problems: list[Problem]) -> None:
        self._values = values
        self._path = path
        self._lines = lines
        self._problems = problems

    def note(self, key: str, what: str, todo: str) -> None:
        path = (*self._path, key) if key else self._path
        line = next((self._lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in self._lines), 1)
        self._problems.append(Problem(line, _dotted(path), what, todo))

    def has(self, key: str) -> bool:
        return key in self._values

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self._values:
            if key not in known:
                close = difflib.get_close_matches(key.lower(), known, 1)
                meant = _MEANT.get(key.lower(), close[0] if close else None)
                todo = f"Did you mean {meant}?" if meant in known else f"There are {', '.join(known)}."
                self.note(key, "There is no such key.", todo)

    def take(self, key: str, check: Callable[[Any], Value | Wrong], instead: Value, *, required: str = "") -> Value:
        """The checked value of `key`; `instead` when it is missing or wrong.

        Args:
            required: an example; without one the key may be left out.
        """
        if key not in self._values:
            if required:
                self.note(key, "It is missing.", f"For example: {required}")
            return instead
        value = check(self._values[key])
        if isinstance(value, Wrong):
            self.note(key, value.what, value.todo)
            return instead
        return value


class _DropReader:
    """Reads one file; `problems` grows meanwhile."""

    def __init__(self, tree: dict[str, Any], lines: Mapping[Path, int], now_ms: int) -> None:
        self.problems: list[Problem] = []
        self._tree = tree
        self._lines = lines
        self._now_ms = now_ms
        self._top = _Table(tree, (), lines, self.problems)

    def read(self) -> Drop:
        """The drop; it means nothing when there are problems."""
        top = self._top
        top.refuse_unknown(DROP_KEYS)
        joins_at_ms, opens_at_ms, closes_at_ms = self._times()
        order, beacon = self._order()
        invites, identity, groups = self._who()
        origins, return_urls = self._storefront()
        limit = top.take("limit_per_shopper", drop_values.whole(1, QUANTITY_MAX, "limit_per_shopper = 2"), LIMIT_PER_SHOPPER)
        return Drop(
            drop_id=top.take("id", drop_values.drop_id, "", required='id = "sneaker-x"'),
            name=top.take("name", drop_values.text_of(NAME_LENGTH_MAX, 'name = "Sneaker X"'), "", required='name = "Sneaker X"'),
            currency=top.take("currency", drop_values.currency, "XXX", required='currency = "EUR"'),
            skus=self._skus(limit),
            joins_at_ms=joins_at_ms,
            opens_at_ms=opens_at_ms,
            closes_at_ms=closes_at_ms,
            rate_per_min=top.take("rate_per_min", drop_values.whole(1, RATE_PER_MIN_MAX, "rate_per_min = 600"), RATE_PER_MIN),
            capacity=top.take("capacity", drop_values.whole(1, CAPACITY_MAX, "capacity = 200"), CAPACITY),
            claim_window_ms=top.take(
                "claim_window", drop_values.duration(CLAIM_WINDOW_MIN_MS, CLAIM_WINDOW_MAX_MS, "60s"), CLAIM_WINDOW_MS
            ),
            reservation_ttl_ms=top.take(
                "reservation_ttl", drop_values.duration(RESERVATION_TTL_MIN_MS, RESERVATION_TTL_MAX_MS, "5m"), RESERVATION_TTL_MS
            ),
            extension_ms=top.take("extension", drop_values.duration(EXTENSION_MIN_MS, EXTENSION_MAX_MS, "5m"), 0),
            limit_per_shopper=limit,
            durability=top.take("durability", drop_values.durability, "disk"),
            description=top.take(
                "description", drop_values.text_of(DESCRIPTION_LENGTH_MAX, 'description = "…"', empty=True, lines=True), ""
            ),
            order=order,
            beacon=beacon,
            groups=groups,
            invites=invites,
            identity=identity,
            origins=origins,
            return_urls=return_urls,
        )

    # ---- times

    def _times(self) -> tuple[int, int, int]:
        top, check = self._top, drop_values.moment(self._now_ms)
        before = len(self.problems)
        opens = top.take("opens_at", check, 0, required=EXAMPLE_TIME)
        joins = top.take("joins_at", check, opens - JOIN_AHEAD_MS)
        closes = top.take("closes_at", check, opens + OPEN_FOR_MS)
        if len(self.problems) == before:
            self._check_times(joins, opens, closes)
        return joins, opens, closes

    def _check_times(self, joins: int, opens: int, closes: int) -> None:
        top = self._top
        if opens < self._now_ms:
            top.note("opens_at", "It is in the past.", 'Choose a time to come; opens_at = "in 0s" opens at once.')
        elif opens > self._now_ms + OPENS_AHEAD_MAX_MS:
            top.note("opens_at", "It is more than a year ahead.", "Is the year right?")
        if joins > opens:
            top.note(
                "joins_at",
                "People may join only after the opening.",
                "Let joins_at be before opens_at, or leave it out for 30 minutes ahead.",
            )
        elif opens - joins > JOIN_AHEAD_MAX_MS:
            top.note("joins_at", "It is more than 7 days before the opening.", "Let people join later; a line of days helps nobody.")
        if closes <= opens:
            top.note("closes_at", "It is not after the opening.", "Let closes_at be after opens_at, or leave it out for 2 hours.")
        elif closes - opens > OPEN_FOR_MAX_MS:
            top.note("closes_at", "It is more than 7 days after the opening.", "A drop is open for at most 7 days.")

    # ---- the line

    def _order(self) -> tuple[str, str]:
        top = self._top
        order = top.take("order", drop_values.one_of(drop_values.ORDERS, 'order = "draw"'), ORDER)
        beacon = top.take("beacon", drop_values.one_of(drop_values.BEACONS, 'beacon = "drand"'), "none")
        if beacon != "none" and order != "draw":
            top.note("beacon", "A beacon is for a draw, and this drop has none.", 'Leave it out, or say order = "draw".')
        return order, beacon

    def _who(self) -> tuple[str, str, tuple[Group, ...]]:
        top = self._top
        invites = top.take("invites", drop_values.one_of(drop_values.ASKED_FOR, 'invites = "required"'), "none")
        identity = top.take("identity", drop_values.one_of(drop_values.ASKED_FOR, 'identity = "required"'), "none")
        groups = self._groups()
        if groups and invites == identity == "none":
            top.note(
                "group",
                "Nobody could get into a group: an invite code or an identity leads there, and the drop takes neither.",
                'Say invites = "accepted" or identity = "accepted".',
            )
        return invites, identity, groups

    def _groups(self) -> tuple[Group, ...]:
        tables = self._tree.get("group", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._top.note("group", "Each group is a table of its own.", 'Add a table: [[group]] with id = "vip", share = 0.2.')
            return ()
        if len(tables) > GROUPS_MAX:
            self._top.note("group", f"There are {len(tables)} groups.", f"A drop has at most {GROUPS_MAX}.")
        groups = tuple(self._group(table, position) for position, table in enumerate(tables))
        self._refuse_same_ids("group", [group.group_id for group in groups])
        together = sum(group.share_permille for group in groups)
        if together > GROUP_SHARES_MAX_PERMILLE:
            self._top.note(
                "group",
                f"The shares of all groups together are {together / 1000:g}.",
                f"Let them be at most {GROUP_SHARES_MAX_PERMILLE / 1000:g}, so that whoever is in none gets on as well.",
            )
        return groups

    def _group(self, values: dict[str, Any], position: int) -> Group:
        table = _Table(values, ("group", position), self._lines, self.problems)
        table.refuse_unknown(GROUP_KEYS)
        group_id = table.take("id", drop_values.group_id, "", required='id = "vip"')
        return Group(
            group_id=group_id,
            name=table.take("name", drop_values.text_of(NAME_LENGTH_MAX, 'name = "Members"'), group_id),
            share_permille=table.take("share", drop_values.share_permille, 0, required="share = 0.2"),
        )

    def _refuse_same_ids(self, kind: str, ids: list[str]) -> None:
        """Notes ids that were there before; capitals make no difference."""
        first: dict[str, int] = {}
        for position, one in enumerate(ids):
            folded = one.casefold()
            if folded and folded in first:
                where = self._lines.get((kind, first[folded]), 0)
                table = _Table({}, (kind, position), self._lines, self.problems)
                table.note(
                    "id",
                    f"The {_NAMED[kind]} of line {where} has this id too; capitals make no difference.",
                    f"Give each {_NAMED[kind]} an id of its own.",
                )
            first.setdefault(folded, position)

    # ---- the storefront

    def _storefront(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of pages that may call, and of pages to come back to."""
        values = self._tree.get("storefront", {})
        if not isinstance(values, dict):
            self._top.note("storefront", "It is a table.", 'Write: [storefront], and below it origins = ["https://shop.example"].')
            return (), ()
        table = _Table(values, ("storefront",), self._lines, self.problems)
        table.refuse_unknown(STOREFRONT_KEYS)
        return table.take("origins", drop_values.origins, ()), table.take("return_urls", drop_values.return_urls, ())

    # ---- SKUs

    def _skus(self, drop_limit: int) -> tuple[Sku, ...]:
        tables = self._tree.get("sku")
        example = 'Add a table: [[sku]] with id = "m", name = "Size M", allotment = 100, price_minor = 12900.'
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            self._top.note("sku", "A drop has at least one SKU, each a table of its own.", example)
            return ()
        if len(tables) > SKUS_PER_DROP_MAX:
            self._top.note("sku", f"There are {len(tables)} SKUs.", f"A drop has at most {SKUS_PER_DROP_MAX}; make two drops of it.")
        skus = tuple(self._sku(table, position, drop_limit) for position, table in enumerate(tables))
        self._check_together(skus)
        return skus

    def _sku(self, values: dict[str, Any], position: int, drop_limit: int) -> Sku:
        table = _Table(values, ("sku", position), self._lines, self.problems)
        table.refuse_unknown(SKU_KEYS)
        sku = table.take("id", drop_values.sku_id, "", required='id = "sneaker-x-42"')
        limit = table.take("limit_per_shopper", drop_values.whole(1, QUANTITY_MAX, "limit_per_shopper = 1"), drop_limit)
        if limit > drop_limit:
            table.note(
                "limit_per_shopper", f"It is above the drop's limit of {drop_limit}.", "Lower it, or raise the drop's limit_per_shopper."
            )
        return Sku(
            sku=sku,
            name=table.take("name", drop_values.text_of(NAME_LENGTH_MAX, 'name = "Size 42"'), sku),
            allotment=table.take("allotment", drop_values.whole(1, ALLOTMENT_MAX, "allotment = 100"), 0, required="allotment = 100"),
            price_minor=table.take("price_minor", drop_values.price, 0, required="price_minor = 12900  (129.00 in a currency with cents)"),
            limit_per_shopper=limit,
            media=table.take("media", drop_values.media, ""),
        )

    def _check_together(self, skus: tuple[Sku, ...]) -> None:
        self._refuse_same_ids("sku", [sku.sku for sku in skus])
        total = sum(sku.allotment for sku in skus)
        if total > ALLOTMENT_MAX:
            self._top.note("sku", f"All SKUs together have {total:,} units.", f"A drop has at most {ALLOTMENT_MAX:,}.")


def _dotted(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
