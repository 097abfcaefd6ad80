"""The rehearsal through the real scripts: the reference cases, the same answer twice, and the command."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from flashsale.drop_files import parse_drop
from flashsale.model import Drop, Group
from flashsale.rehearsal.behaviour import Behaviour
from flashsale.rehearsal.rehearse import Rehearsal, rehearse
from flashsale.rehearsal.stage import OPENS_AT_MS, Stage, private_stage
from loadtest.bench.reference import SILENT_SHARES, closed_tabs, throughput
from tests.integration.command_line import flashsale

CROWD = Behaviour(shoppers=400, arrivals_ms=20_000, session_ms=10_000)
FILE = """
id = "shoe"
name = "Shoe"
currency = "EUR"
opens_at = "in 10m"
rate_per_min = 600
capacity = 30
order = "draw"
claim_window = "30s"
reservation_ttl = "30s"
limit_per_shopper = 2

[[sku]]
id = "white"
name = "White"
allotment = 60
price_minor = 9900

[[sku]]
id = "black"
name = "Black"
allotment = 40
price_minor = 9900
"""


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with private_stage() as ready:
        yield ready


def shoe(**changes: object) -> Drop:
    return replace(parse_drop(FILE, source="shoe.toml", now_ms=OPENS_AT_MS), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("silent", SILENT_SHARES)
async def test_people_who_leave_without_a_word_cost_the_others_next_to_nothing(stage: Stage, silent: float) -> None:
    case = await throughput(stage, silent)
    assert case.ratio <= 1.05, case


async def test_the_line_never_stands_still_behind_closed_tabs(stage: Stage) -> None:
    case = await closed_tabs(stage)
    assert case.longest_stand_ms <= 2 * case.beat_ms, case
    assert case.first_in_ms <= 1.1 * case.floor_ms, case


async def test_every_unit_and_every_visitor_is_accounted_for(stage: Stage) -> None:
    made = await rehearse(stage, shoe(), CROWD, 1)
    found, report = made.findings, made.report
    assert found.units_sold == found.units == 100
    assert found.shoppers == found.bought + found.bought_nothing + found.empty_handed + found.gone
    assert found.admitted == report.whole.claimed
    assert report.whole.calls.inversions == 0
    assert report.final
    assert [section.name for section in report.sections] == ["people", "loads", "advice"]


async def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(stage: Stage) -> None:
    first, again, other = [encoded(await rehearse(stage, shoe(), CROWD, seed)) for seed in (1, 1, 2)]
    assert first == again
    assert first != other


def encoded(made: Rehearsal) -> bytes:
    return msgspec.json.encode(made)


async def test_the_recommended_capacity_takes_next_to_nothing_from_the_best(stage: Stage) -> None:
    drop, crowd = shoe(limit_per_shopper=1), Behaviour(shoppers=1200, arrivals_ms=20_000, session_ms=20_000, late=0.0)
    drop = replace(drop, claim_window_ms=60_000, skus=tuple(replace(sku, allotment=150) for sku in drop.skus))
    made = await rehearse(stage, drop, crowd, 1)
    assert made.advice.limited_by == "capacity"
    assert [warning.name for warning in made.advice.warnings] == ["capacity"]
    advised = await rehearse(stage, replace(drop, capacity=made.advice.capacity), crowd, 1)
    best = await rehearse(stage, replace(drop, capacity=10 * made.advice.capacity), crowd, 1)
    half, half_of_best = advised.findings.wait, best.findings.wait
    assert half is not None
    assert half_of_best is not None
    assert half.p50_ms <= 1.1 * half_of_best.p50_ms


async def test_groups_and_arrival_order_are_rehearsed_too(stage: Stage) -> None:
    made = await rehearse(stage, shoe(order="arrival", groups=(Group("vip", "Vip", 300),)), CROWD, 3)
    assert [line.group for line in made.report.lines] == ["", "vip"]
    assert made.report.whole.calls.inversions == 0
    assert made.findings.units_sold == 100


async def test_a_drop_that_nobody_empties_is_closed_and_says_so(stage: Stage) -> None:
    made = await rehearse(stage, shoe(), Behaviour(shoppers=40, arrivals_ms=5_000, session_ms=5_000), 1)
    assert made.findings.sold_out_ms is None
    assert "unsold" in [warning.name for warning in made.advice.warnings]
    assert made.report.state == "closed"


async def test_the_command_tells_people_and_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file, page = tmp_path / "shoe.toml", tmp_path / "shoe.html"
    file.write_text(FILE, encoding="utf-8")
    options = ("--shoppers", "200", "--arrivals", "10s", "--session", "10s")
    done = await flashsale("rehearse", str(file), *options, "--html", str(page))
    assert done.code == 0, done.err
    assert "everything taken after" in done.out
    assert "What to set" in page.read_text(encoding="utf-8")
    done = await flashsale("rehearse", str(file), *options, "--json")
    assert json.loads(done.out)["findings"]["units"] == 100


@pytest.mark.parametrize("wrong", [("--session", "soon"), ("--no-show", "1.5"), ("--shoppers", "0")])
async def test_the_command_refuses_what_it_cannot_play(tmp_path: Path, wrong: tuple[str, str]) -> None:
    file = tmp_path / "shoe.toml"
    file.write_text(FILE, encoding="utf-8")
    assert (await flashsale("rehearse", str(file), *wrong)).code == 2


async def test_a_page_that_cannot_be_written_is_told_before_anything_is_played(tmp_path: Path) -> None:
    file = tmp_path / "shoe.toml"
    file.write_text(FILE, encoding="utf-8")
    done = await flashsale("rehearse", str(file), "--html", str(tmp_path / "none" / "page.html"))
    assert done.code == 2
    assert not done.out


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = await flashsale("rehearse", str(tmp_path / "none.toml"))
    assert done.code == 2
    assert "none.toml" in done.err
