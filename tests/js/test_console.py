"""What the console makes of numbers, before any of it is drawn."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import flashsale.web
from tests.node import NODE, needs_node

CONSOLE = Path(flashsale.web.__file__).parent / "console"
RUNNER = Path(__file__).with_name("run_console.mjs")
MINUTE_MS = 60_000

pytestmark = needs_node


def said(*asked: list[Any]) -> list[Any]:
    """What the modules answer to `[module, function, *arguments]` each."""
    given = json.dumps({"folder": str(CONSOLE), "asked": asked})
    argv = [str(NODE), "--no-warnings", str(RUNNER)]
    done = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[Any] = json.loads(done.stdout)
    return found


def test_numbers_and_times_are_written_for_people() -> None:
    assert said(
        ["format", "count", 12_345],
        ["format", "count", None],
        ["format", "percent", 1, 1000],
        ["format", "percent", 999, 1000],
        ["format", "percent", 0, 1000],
        ["format", "percent", 1, 0],
        ["format", "money", 123_456, "EUR"],
        ["format", "money", 1_234, "JPY"],
        ["format", "money", 1_234, "nonsense"],
        ["format", "span", 340],
        ["format", "span", 200_000],
        ["format", "span", 7_500_000],
        ["format", "span", 86_400_000],
        ["format", "countdown", 249_000],
        ["format", "countdown", 3_849_001],
        ["format", "countdown", -5],
    ) == [
        "12,345", "—", "<1\xa0%", ">99\xa0%", "0\xa0%", "—", "€1,234.56", "¥1,234", "1,234 nonsense",
        "0.3 s", "3 min 20 s", "2 h 5 min", "1 d", "4:09", "1:04:10", "0:00",
    ]  # fmt: skip


def test_a_command_can_be_pasted_into_a_shell() -> None:
    assert said(
        ["commands", "dropCommand", "pause", "launch"],
        ["commands", "messageCommand", "launch", "It's nearly gone; $HOME"],
        ["commands", "messageCommand", "launch", "--clear"],
        ["commands", "messageCommand", "launch", ""],
    ) == [
        "flashsale drop pause launch",
        "flashsale drop message launch 'It'\\''s nearly gone; $HOME'",
        "flashsale drop message launch -- --clear",
        "flashsale drop message launch --clear",
    ]


def sample(at_ms: int, admitted: int | None = 0) -> dict[str, Any]:
    return {"t": at_ms, "admitted": admitted, "rate": 60, "waiting": 5, "inside": 1, "reserved": 2, "sold": 3, "allotment": 10}


def test_the_history_is_bounded_in_age_and_number() -> None:
    seconds = [sample(at * 1000) for at in range(2_000)]
    crowded = [sample(at * 10) for at in range(5_000)]
    old, many = said(["history", "History", seconds, "samples"], ["history", "History", crowded, "samples"])
    assert (old[0]["t"], old[-1]["t"]) == (1_999_000 - 15 * MINUTE_MS, 1_999_000)
    assert len(many) == 1_000


def test_admissions_are_counted_by_the_minute_and_nothing_is_made_up_for_time_not_seen() -> None:
    seen = [sample(at * 1000, at * 2) for at in range(31)] + [sample(at * 1000, 500 + at * 2) for at in range(60, 91)]
    columns, last, line = said(
        ["history", "History", seen, "perMinute", "admitted", 0, 10_000],
        ["history", "History", seen, "lastMinute", "admitted"],
        ["history", "History", seen, "line", "waiting", 0],
    )
    assert columns == [[at * 1000, at * 1000 + 10_000, 120] for at in (0, 10, 20, 60, 70, 80)]
    assert last == 120
    assert [30_000, None] in line
    assert len(line) == len(seen) + 1


def test_nothing_is_said_of_a_minute_that_has_hardly_been_seen() -> None:
    assert said(
        ["history", "History", [], "lastMinute", "admitted"], ["history", "History", [sample(0), sample(1000)], "lastMinute", "admitted"]
    ) == [
        None,
        None,
    ]


def test_a_total_that_falls_after_a_recovery_counts_as_none() -> None:
    (columns,) = said(
        ["history", "History", [sample(0, 50), sample(1000, 0), sample(2000, 3), sample(10_000)], "perMinute", "admitted", 0, 3000]
    )
    assert columns == [[0, 3000, 90]]


def live(**changes: Any) -> dict[str, Any]:
    units = {"sku": "poster", "allotment": 10, "available": 4, "reserved": 2, "sold": 4, "draining": 0}
    plain = {
        "state": "open",
        "waiting": 3,
        "rate_per_min": 60,
        "capacity": 5,
        "inside": 2,
        "joining": "open",
        "postgres": "up",
        "skus": [units],
    }
    return plain | changes


def test_what_holds_the_line_up_is_said() -> None:
    taken = {"sku": "poster", "allotment": 10, "available": 0, "reserved": 1, "sold": 9, "draining": 0}
    assert said(
        ["reading", "limitOf", live()],
        ["reading", "limitOf", live(inside=5)],
        ["reading", "limitOf", live(waiting=0)],
        ["reading", "limitOf", live(skus=[taken])],
        ["reading", "limitOf", live(skus=[taken | {"reserved": 0, "sold": 10}])],
    ) == [
        "The rate is the limit: 60 a minute.",
        "Capacity is the limit: every place inside is taken.",
        "Nobody is waiting.",
        "Everything is taken; 1 reserved unit may come back.",
        "Everything is sold.",
    ]


def test_what_needs_somebody_comes_first_and_names_the_command() -> None:
    quiet, late, away, lost, due = said(
        ["reading", "attention", {"drop": "launch"}, live()],
        ["reading", "attention", {"drop": "launch"}, live(state="paused", journal={"oldest_ms": 20_000})],
        ["reading", "attention", {"drop": "launch"}, live(postgres="away", journal={"oldest_ms": 20_000})],
        ["reading", "attention", {"drop": "launch"}, live(state="recovering", joining="closed")],
        ["reading", "attention", {"drop": "launch"}, live(orders={"refund_due": 1})],
    )
    assert quiet == []
    assert [one["words"] for one in due] == ["1 payment came too late for units and goes back."]
    assert [(one["key"], one["level"]) for one in late] == [("journal", "bad"), ("paused", "warn")]
    assert late[1]["command"] == "flashsale drop resume launch"
    assert [one["key"] for one in away] == ["postgres"], "a late journal follows from it"
    assert [one["key"] for one in lost] == ["recovering", "joining"]
    assert lost[0]["command"] == "flashsale recover launch"


def test_what_the_auditor_found_is_said_first() -> None:
    audit = {"result": "drift", "drifts": [{"units": -2}, {"units": 1}], "paused_at_ms": None, "audited_at_ms": 0}
    found, clean = said(
        ["reading", "attention", {"drop": "launch"}, live(audit=audit, now_ms=0, postgres="away")],
        ["reading", "attention", {"drop": "launch"}, live(audit=audit | {"result": "clean", "drifts": []})],
    )
    assert [one["key"] for one in found] == ["drift", "postgres"]
    assert "do not add up by 3 units." in found[0]["words"]
    assert found[0]["command"] == "flashsale audit launch"
    assert clean == []


def test_the_services_own_errors_stand_before_what_callers_did() -> None:
    (found,) = said(["reading", "refusals", {"sold_out": 40, "busy": 2, "something_new": 5, "paused": 0}])
    assert [(one["code"], one["words"], one["ours"]) for one in found] == [
        ("busy", "refused because of too much load", True),
        ("sold_out", "asked for more units than were available", False),
        ("something_new", "something new", False),
    ]


def test_ages_and_steps_are_round() -> None:
    bands = [{"up_to_s": upto, "count": count} for upto, count in ((60, 3), (120, 0), (180, 1))]
    assert said(
        ["reading", "ages", bands], ["charts", "roundStep", 940], ["charts", "roundStep", 3], ["charts", "timeTicks", 0, 900_000, 400]
    ) == [
        [{"label": "up to 1 min", "count": 3}, {"label": "1 min to 2 min", "count": 0}, {"label": "2 min to 3 min", "count": 1}],
        250,
        1,
        [0, 300_000, 600_000, 900_000],
    ]


def test_the_key_figures_of_a_report_are_told_without_samples_too() -> None:
    report = {
        "whole": {"joined": 50, "called": 40, "claimed": 38, "left": 1, "calls": {"inversions": 0}, "wait_to_call": None},
        "stock": {"allotment": 20, "sold": 20, "half_sold_ms": None, "all_taken_ms": 61_000, "all_sold_ms": None},
        "eta": None,
    }
    (figures,) = said(["report", "keyFigures", report])
    assert [figure[:2] for figure in figures] == [
        ["Sold", "20"],
        ["Everything taken after", "1 min 1 s"],
        ["Joined", "50"],
        ["Came", "38"],
        ["Half were called within", "—"],
        ["Overtakes", "0"],
        ["Waits within the range told", "—"],
    ]
