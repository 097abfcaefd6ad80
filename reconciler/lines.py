"""The lines of a drop as a recovery puts them back: who has joined, who was called, what was drawn. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgpack
import msgspec

from admission.draw import Draw
from flashsale.model import Drop, LinePicture, Snapshot, line_of, number_of, place_of
from reconciler.entries import Drawn


@dataclass(frozen=True, slots=True)
class RecordedDraw:
    """What Postgres knows of a drop's draw."""

    secret: bytes
    drawn: Drawn | None


class _DrawnJson(msgspec.Struct):
    at_ms: int
    lines: list[dict[str, Any]]
    beacon: dict[str, Any]


def read_draw(row: Any) -> RecordedDraw | None:
    """The draw of a row of `draw_get`; None for a drop that goes by arrival."""
    if row is None:
        return None
    if row["drawn"] is None:
        return RecordedDraw(bytes(row["secret"]), None)
    told = msgspec.json.decode(row["drawn"], type=_DrawnJson)
    lines = [(line["group"], line["entries"], line["root"], line["key"]) for line in told.lines]
    return RecordedDraw(bytes(row["secret"]), msgspec.convert((told.at_ms, lines, told.beacon), type=Drawn))


def lines_now(drop: Drop, held: Mapping[str, str], picture: Snapshot | None, drawn: Drawn | None) -> list[LinePicture]:
    """Each line as far as anybody knows: the draw from Postgres, the rest from the store if it may be believed, else the picture.

    Args:
        held: the fields of the drop that the store still has and that may be believed; texts with surrogates.
    """
    groups = [("", 0), *((group.group_id, group.share_permille) for group in drop.groups)]
    known = _held(held) or (picture.lines if picture else ())
    lines = []
    for at, (group, share) in enumerate(groups):
        line = known[at] if at < len(known) else LinePicture(group, share, 0, None, 0, "", "")
        if drawn is not None and at < len(drawn.lines):
            told = drawn.lines[at]
            line = replace(line, entries=told.entries, key=told.key, root=told.root, joined=max(line.joined, told.entries))
        lines.append(line)
    return lines


def _held(held: Mapping[str, str]) -> tuple[LinePicture, ...]:
    if "joined" not in held:
        return ()
    entries = held.get("entries", "")
    first = LinePicture(
        "",
        0,
        int(held["joined"]),
        int(entries) if entries else None,
        int(held.get("serving_number", 0)),
        held.get("key", ""),
        held.get("root", ""),
    )
    packed = held.get("lines", "").encode("utf-8", "surrogateescape")
    others = msgpack.unpackb(packed) if packed else []
    return (
        first,
        *(
            LinePicture(group, share, joined, None if fixed < 0 else fixed, serving, key, root)
            for group, share, joined, fixed, serving, key, root, _ in others
        ),
    )


def line_fields(lines: Sequence[LinePicture], ranges: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The fields of the drop's hash for its lines.

    Args:
        ranges: for each line, the numbers that may be taken up again with a receipt: from (inclusive), to (exclusive).
    """
    first, others = lines[0], lines[1:]
    fields: dict[str, Any] = {
        "joined": first.joined,
        "entries": "" if first.entries is None else first.entries,
        "serving_number": first.serving_number,
        "key": first.key,
        "root": first.root,
        "restore_from": ranges[0][0],
        "restore_to": ranges[0][1],
    }
    if others:
        fields["lines"] = msgpack.packb(
            [
                (
                    line.group,
                    line.share_permille,
                    line.joined,
                    -1 if line.entries is None else line.entries,
                    line.serving_number,
                    line.key,
                    line.root,
                    0,
                )
                for line in others
            ]
        )
        fields["restore_lines"] = msgpack.packb(list(ranges[1:]))
    return fields


class Entrants:
    """Which place was given to whom the draw put where: the way back from an order's place in the queue."""

    def __init__(self, lines: Sequence[LinePicture]) -> None:
        self._draws = {at: Draw(bytes.fromhex(line.key), line.entries) for at, line in enumerate(lines) if line.key and line.entries}
        for draw in self._draws.values():
            for _ in draw.prepare():
                pass

    def place(self, queue_place: int) -> int:
        """The place as it was given at joining."""
        line, number = line_of(queue_place), number_of(queue_place)
        draw = self._draws.get(line)
        if draw is None or number >= draw.entries:
            return queue_place
        return place_of(line, draw.entry_number(number))
