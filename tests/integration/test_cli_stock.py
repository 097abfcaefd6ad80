"""`drop stock`, `audit` and `repair` as a user has them, on real stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flashsale.keys import drop_keys
from flashsale.stock import StockLedger
from tests.integration.command_line import find_by_environment, flashsale
from tests.integration.drop_stage import DROP_ID, HELD, KEYS, DropStage
from tests.integration.reconciler_stage import make_consumer
from tests.integration.test_cli_commands import drop_file

if TYPE_CHECKING:
    from flashsale.connections.database import Database
    from flashsale.settings import Settings
    from tests.integration.reconciler_stage import Store

TRIAL = "trial"


@pytest.fixture(autouse=True)
def _environment(settings: Settings, store: Store, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_by_environment(settings, tmp_path, monkeypatch)


@pytest.fixture
async def trial(tmp_path: Path) -> None:
    """50 posters."""
    assert (await flashsale("drop", "create", str(drop_file(tmp_path, TRIAL)))).code == 0


@pytest.fixture
async def stage(store: Store, database: Database) -> DropStage:
    stage = DropStage(store, database)
    await stage.set_up()
    return stage


async def stock(*arguments: str) -> tuple[int, dict[str, int]]:
    done = await flashsale("drop", "stock", *arguments, "--json")
    return done.code, done.json["stock"]


@pytest.mark.usefixtures("trial")
async def test_units_are_added_and_withdrawn_and_every_view_follows(store: Store, database: Database) -> None:
    assert await stock(TRIAL, "poster", "--add", "20", "--id", "a") == (
        0,
        {"allotment": 70, "available": 70, "reserved": 0, "sold": 0, "draining": 0},
    )
    code, units = await stock(TRIAL, "poster", "--withdraw", "5", "--id", "b")
    assert (code, units["allotment"]) == (0, 65)
    again = await flashsale("drop", "stock", TRIAL, "poster", "--withdraw", "5", "--id", "b")
    assert again.code == 0
    assert "made before" in again.err
    await make_consumer(store, database, TRIAL).drain()
    shown = (await flashsale("drop", "stock", TRIAL, "--json")).json
    assert shown["skus"]["poster"]["allotment"] == 65
    assert shown["allotments"] == {"poster": 50}
    assert sorted((change["change_id"], change["delta"], change["reason"], change["state"]) for change in shown["changes"]) == [
        ("a", 20, "added", "told"),
        ("b", -5, "withdrawn", "told"),
    ]
    text = await flashsale("drop", "stock", TRIAL)
    assert "+20" in text.out
    assert " 65 " in (await flashsale("drop", "show", TRIAL)).out
    [listed] = (await flashsale("drop", "list", "--json")).json
    assert listed["allotment"] == 65
    assert (await flashsale("audit", TRIAL)).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("poster", "--withdraw", "51"), 4, "50 are free and 0 are in reservations"),
        (("poster", "--withdraw", "51", "--drain"), 4, "50 are free"),
        (("mug", "--add", "1"), 4, "no SKU mug"),
        (("mug", "--withdraw", "1"), 4, "no SKU mug"),
        (("poster", "--add", "9999999"), 4, "too many"),
        (("poster", "--add", "99999999"), 2, "too many"),
        (("poster", "--add", "1", "--withdraw", "1"), 2, "either added or withdrawn"),
        (("poster", "--add", "1", "--drain"), 2, "--drain"),
        (("poster",), 2, "Nothing was said"),
        (("--add", "1"), 2, "which SKU"),
    ],
)
@pytest.mark.usefixtures("trial")
async def test_a_refusal_says_why_and_changes_nothing(
    store: Store, database: Database, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = await flashsale("drop", "stock", TRIAL, *arguments)
    assert (done.code, words in " ".join(done.err.split())) == (code, True), done.err
    assert (await store.hget(drop_keys(TRIAL).stock, "allotment:poster")) == b"50"
    [row] = await database.fetch("stock_allotments", TRIAL)
    assert row["allotment"] == 50


@pytest.mark.usefixtures("trial")
async def test_an_id_of_another_change_is_refused() -> None:
    assert (await stock(TRIAL, "poster", "--add", "2", "--id", "x"))[0] == 0
    done = await flashsale("drop", "stock", TRIAL, "poster", "--add", "3", "--id", "x")
    assert done.code == 4
    assert "another change" in done.err.lower()


async def test_draining_is_offered_and_shown(stage: DropStage) -> None:
    refused = await flashsale("drop", "stock", DROP_ID, "s1", "--withdraw", "4")
    assert refused.code == 4
    assert "--drain" in refused.err
    drained = await flashsale("drop", "stock", DROP_ID, "s1", "--withdraw", "4", "--drain", "--json")
    assert (drained.code, drained.json["outcome"], drained.json["stock"]["draining"]) == (0, "draining", 2)
    await stage.world.release(HELD)
    await stage.record()
    [after] = [row["allotment"] for row in await stage.database.fetch("stock_allotments", DROP_ID) if row["sku"] == "s1"]
    assert after == 1
    assert (await flashsale("audit", DROP_ID)).code == 0


async def test_an_audit_names_what_is_wrong_and_repair_shows_it_before_it_does_it(stage: DropStage) -> None:
    assert (await flashsale("repair", DROP_ID)).code == 0
    await stage.count("available:s1", 3)
    await stage.store.zrem(KEYS.expiries, HELD)
    audited = await flashsale("audit", DROP_ID, "--json")
    assert audited.code == 1
    [drop] = audited.json
    assert drop["result"] == "drift"
    assert {(drift["kind"], drift["units"], tuple(drift["ids"])) for drift in drop["drifts"]} == {
        ("store_sum", 3, ()),
        ("expiry_missing", 2, (HELD,)),
    }
    text = await flashsale("audit", DROP_ID)
    assert HELD in text.out
    assert f"flashsale repair {DROP_ID}" in text.err
    planned = await flashsale("repair", DROP_ID)
    assert planned.code == 1
    assert "available 5 → 2" in planned.out
    assert "Nothing was changed" in planned.err
    assert await stage.units("s1") == (5, 5, 2, 1)
    done = await flashsale("repair", DROP_ID, "--yes", "--json")
    assert (done.code, done.json["outcome"], done.json["result"]) == (0, "repaired", "clean")
    assert (await flashsale("audit", DROP_ID)).code == 0


async def test_what_cannot_be_repaired_safely_points_to_recover(stage: DropStage) -> None:
    await stage.store.hdel(KEYS.reservations, HELD)
    done = await flashsale("repair", DROP_ID, "--yes")
    assert done.code == 1
    assert f"flashsale recover {DROP_ID}" in done.err


async def test_show_says_why_the_auditor_paused_a_drop(stage: DropStage) -> None:
    await stage.world.drops.pause(DROP_ID)
    findings = '[{"kind":"sold","sku":"s1","law":"both: the same units sold","units":3,"ids":[],"ids_total":0}]'
    await stage.database.execute("audit_record", DROP_ID, "drift", findings, True)
    shown = await flashsale("drop", "show", DROP_ID)
    assert "do not add up (3 units). The auditor paused it" in " ".join(shown.err.split())
    assert f"flashsale drop resume {DROP_ID}" in shown.err
    live = (await flashsale("drop", "show", DROP_ID, "--json")).json["live"]
    assert live["audit"]["result"] == "drift"
    assert live["audit"]["paused_at_ms"]


async def test_the_ledger_says_what_postgres_gave_and_the_store_has_not(stage: DropStage) -> None:
    await stage.database.fetchval("stock_change_give", DROP_ID, "cut", "s1", 4)
    text = await flashsale("drop", "stock", DROP_ID)
    assert "not in the store yet" in text.out
    assert (await StockLedger(stage.database, stage.world.drops).change(DROP_ID, "cut", "s1", 4)).outcome == "adjusted"
