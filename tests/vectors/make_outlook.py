"""Writes outlook.json: documents, places, and what they are told. Run it after a change that is meant; the diff shows what changes.

python -m tests.vectors.make_outlook
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from admission.outlook import LineView, PaceRange, Reach, outlook
from admission.serving import PollAdvice, ServingDocument
from flashsale.model import place_of

FILE = Path(__file__).with_name("outlook.json")
NOW_MS = 1_800_000_000_000

PACE = PaceRange(low_per_min=90.5, high_per_min=140.25, free=12, free_per_min=600, held_after=300, held_ms=45_000)
REACH = Reach(units=180.5, units_spread=4.2, mean=0.52, spread=0.71, uncertainty=0.04, undecided=33.3)
GROUPS = (
    LineView(group="", joined=900, entries=800, key="00", serving_number=100, share_permille=700),
    LineView(group="vip", joined=60, entries=50, key="01", serving_number=20, share_permille=200),
    LineView(group="staff", joined=5, entries=5, key="02", serving_number=5, share_permille=100),
)


def document(**changes: Any) -> ServingDocument:
    """A drop that goes on, with `changes`."""
    usual: dict[str, Any] = {
        "drop": "d", "epoch": 1, "state": "open", "now_ms": NOW_MS, "opens_at_ms": NOW_MS - 60_000, "closes_at_ms": NOW_MS + 600_000,
        "joined": 1000, "entries": 800, "key": "00", "serving_number": 100, "rate_per_min": 600, "available": {"s": 150},
        "reserved": {"s": 40}, "sold_out": False, "cut_line": None, "poll": PollAdvice(2000, 30_000, 20), "notice": None, "groups": None,
        "pace": PACE, "reach": REACH,
    }  # fmt: skip
    return ServingDocument(**(usual | changes))


DOCUMENTS: dict[str, ServingDocument] = {
    "open": document(),
    "before the opening": document(state="waiting", opens_at_ms=NOW_MS + 90_000, serving_number=0),
    "scheduled": document(state="scheduled", opens_at_ms=NOW_MS + 3_600_000, serving_number=0, joined=0),
    "paused": document(state="paused", pace=None),
    "recovering": document(state="recovering", pace=None, reach=None),
    "closed": document(state="closed", pace=None, reach=None),
    "sold out": document(sold_out=True, available={"s": 0}, reserved={"s": 0}),
    "nothing known": document(pace=None, reach=None),
    "rate is nil": document(pace=msgspec.structs.replace(PACE, low_per_min=0.0, high_per_min=0.0, free_per_min=0)),
    "all at once": document(pace=msgspec.structs.replace(PACE, free=5000)),
    "no spread": document(reach=Reach(units=10.0, units_spread=0.0, mean=1.0, spread=0.0, uncertainty=0.0, undecided=0.0)),
    "nothing left": document(reach=msgspec.structs.replace(REACH, units=0.0)),
    "nothing left but what may come back": document(reach=msgspec.structs.replace(REACH, units=0.4)),
    "plenty": document(reach=msgspec.structs.replace(REACH, units=100_000.0)),
    "groups": document(groups=GROUPS, joined=900),
    "a group without a share": document(groups=(GROUPS[0], msgspec.structs.replace(GROUPS[1], share_permille=0)), joined=900),
}
PLACES = (0, 99, 100, 101, 111, 112, 150, 399, 400, 450, 999, 2_000)
IN_GROUPS = (place_of(1, 0), place_of(1, 20), place_of(1, 59), place_of(1, 200), place_of(2, 5), place_of(7, 0))


def cases() -> list[dict[str, Any]]:
    """Every document with every place, and with none."""
    found: list[dict[str, Any]] = []
    for name, shown in DOCUMENTS.items():
        found += [_case(name, None, line) for line in (0, 1)]
        found += [_case(name, place, 0) for place in (*PLACES, *(IN_GROUPS if shown.groups else IN_GROUPS[:1]))]
    return found


def _case(name: str, place: int | None, line: int) -> dict[str, Any]:
    told = outlook(DOCUMENTS[name], place, line=line)
    said = {"position": told.position, "eta_ms": told.eta_ms, "chance": told.chance}
    return {"document": name, "place": place, "line": line, **said}


def contents() -> dict[str, Any]:
    """What the file holds."""
    made = {"documents": {name: msgspec.to_builtins(shown) for name, shown in DOCUMENTS.items()}, "cases": cases()}
    return dict(json.loads(json.dumps(made)))


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(case) for case in contents()["cases"])
    documents = ",\n".join(f"{json.dumps(name)}: {json.dumps(shown)}" for name, shown in contents()["documents"].items())
    FILE.write_text(f'{{"documents": {{\n{documents}\n}}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
