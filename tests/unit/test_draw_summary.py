"""The draw is made again from what it was made of; whatever was changed about it shows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from admission.draw import Draw, EntriesTree, commitment_of, draw_key
from admission.tokens import b64encode
from flashsale.cli.draw_summary import DrawRecords, draw_faults, draw_summary
from flashsale.model import DropState, LinePicture, Snapshot, ticket_id_of
from reconciler.entries import Drawn, DrawnLine
from reconciler.lines import RecordedDraw

DROP = "d"
SECRET = hashlib.sha256(b"secret").digest()
HASHES = [hashlib.sha256(b"%d" % number).digest() for number in range(7)]
TICKETS = [ticket_id_of(DROP, b64encode(one)) for one in HASHES]
OTHER = hashlib.sha256(b"other").hexdigest()


def made(epoch: int = 1) -> DrawRecords:
    tree = EntriesTree()
    tree.add(HASHES)
    key = draw_key(SECRET, tree.root(), len(HASHES), b"")
    line = LinePicture("", 0, 9, len(HASHES), 3, key.hex(), tree.root().hex())
    return DrawRecords(
        snapshot=_snapshot(line, epoch),
        draws=(Draw(key, len(HASHES)),),
        secret=SECRET,
        beacon=b"",
        roots=(tree.root(),),
        tickets=dict(enumerate(TICKETS)),
        recorded=RecordedDraw(SECRET, Drawn(5, (DrawnLine("", len(HASHES), line.root, line.key),), {})),
    )


def _snapshot(line: LinePicture, epoch: int) -> Snapshot:
    return Snapshot(
        DROP, 0, DropState.OPEN, epoch, 0, 0, 0, 0, 0, 9, line.entries, line.key, 3, 0, 0, 0, 0, 0, "", "", {}, lines=(line,)
    )  # fmt: skip


def lots_of(records: DrawRecords) -> dict[str, tuple[int, int]]:
    draw = records.draws[0]
    assert draw is not None
    return {ticket_id: (entry, draw.queue_number(entry)) for entry, ticket_id in enumerate(TICKETS)}


def with_line(records: DrawRecords, **changes: Any) -> DrawRecords:
    line = replace(records.snapshot.lines[0], **changes)
    return replace(records, snapshot=replace(records.snapshot, lines=(line,)))


def test_nothing_is_wrong_with_a_draw_that_follows() -> None:
    records = made()
    assert draw_faults(records, commitment_of(SECRET), lots_of(records)) == []
    summary = draw_summary(records, commitment_of(SECRET), lots_of(records))
    assert (summary["entries_drawn"], summary["lots_checked"], summary["draw_faults"]) == (7, 7, 0)


def test_without_a_draw_there_is_nothing_to_check() -> None:
    assert draw_summary(None, "", {})["draw_faults"] == 0


def test_another_secret_than_the_one_committed_to() -> None:
    assert len(draw_faults(made(), OTHER, {})) == 1


@pytest.mark.parametrize("name", ["root", "key"])
def test_a_root_or_a_key_that_does_not_follow(name: str) -> None:
    faults = draw_faults(with_line(made(), **{name: OTHER}), "", {})
    assert any(name in fault for fault in faults)
    assert "Postgres knows another draw than the store" in faults


def test_an_entry_that_was_changed_after_the_draw() -> None:
    records = replace(made(), roots=(hashlib.sha256(b"changed").digest(),))
    assert draw_faults(records, "", {}) == ["the root of everybody's line is not that of its entries"]


@pytest.mark.parametrize("recorded", [None, RecordedDraw(SECRET, None)])
def test_a_draw_that_postgres_has_not_heard_of(recorded: RecordedDraw | None) -> None:
    assert draw_faults(replace(made(), recorded=recorded), "", {}) == ["Postgres does not know the draw"]


def test_a_shopper_served_by_another_number_or_under_somebody_elses_entry() -> None:
    records = made()
    lots = lots_of(records)
    entry, number = lots[TICKETS[2]]
    assert len(draw_faults(records, "", {**lots, TICKETS[2]: (entry, number + 1)})) == 1
    assert len(draw_faults(records, "", {TICKETS[2]: lots[TICKETS[3]]})) == 1


def test_after_a_loss_the_entries_may_have_holes_but_numbers_still_follow() -> None:
    records = replace(made(epoch=2), roots=(hashlib.sha256(b"with holes").digest(),), tickets={})
    lots = lots_of(records)
    assert draw_faults(records, "", lots) == []
    assert len(draw_faults(records, "", {TICKETS[0]: (0, lots[TICKETS[0]][1] + 1)})) == 1
