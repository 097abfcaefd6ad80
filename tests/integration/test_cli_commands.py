"""Commands against running stores: what they do, what they print where, and what they end with."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from flashsale.cli import checks
from flashsale.cli.checks import require_safe_stores
from flashsale.cli.environment import environment_of
from flashsale.connections.database import Database, create_database_if_missing
from flashsale.embedded.stores import EmbeddedStores
from flashsale.keys import drop_keys
from flashsale.settings import Settings, load_settings
from tests.integration.command_line import Done, find_by_environment, flashsale

NOWHERE = "postgresql://somebody:hunter2@127.0.0.1:1/flashsale"


def drop_file(folder: Path, drop_id: str = "trial", opens: str = "in 1h", **more: object) -> Path:
    path = folder / f"{drop_id}.toml"
    lines = [f'id = "{drop_id}"', 'name = "A [bold] trial"', 'currency = "EUR"', f'opens_at = "{opens}"']
    lines += [f"{name} = {json.dumps(value)}" for name, value in more.items()]
    path.write_text("\n".join([*lines, "[[sku]]", 'id = "poster"', "allotment = 50", "price_minor = 1900"]), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _environment(settings: Settings, store: Redis, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_by_environment(settings, tmp_path, monkeypatch)


@pytest.fixture
async def trial(tmp_path: Path) -> Path:
    path = drop_file(tmp_path)
    assert (await flashsale("drop", "create", str(path))).code == 0
    return path


# ------------------------------------------------------------------------------------------------------------------ drops


async def test_a_drop_is_created_listed_and_shown(tmp_path: Path) -> None:
    created = await flashsale("drop", "create", str(drop_file(tmp_path)), "--json")
    assert created.code == 0
    assert (created.json["outcome"], created.json["in_store"], created.json["definition"]["drop_id"]) == ("created", True, "trial")
    [listed] = (await flashsale("drop", "list", "--json")).json
    assert listed | {"joins_at_ms": 0, "opens_at_ms": 0, "closes_at_ms": 0} == {
        "drop_id": "trial",
        "name": "A [bold] trial",
        "state": "scheduled",
        "in_store": True,
        "joins_at_ms": 0,
        "opens_at_ms": 0,
        "closes_at_ms": 0,
        "allotment": 50,
        "available": 50,
        "reserved": 0,
        "sold": 0,
    }
    shown = (await flashsale("drop", "show", "trial", "--json")).json
    assert shown["definition"] == created.json["definition"]
    assert shown["live"]["skus"] == {"poster": {"allotment": 50, "available": 50, "reserved": 0, "sold": 0, "draining": 0}}
    for words in (("list",), ("show", "trial")):
        done = await flashsale("drop", *words)
        assert (done.code, done.err) == (0, "")
        assert "trial" in done.out
        assert "A [bold] trial" in done.out


async def test_the_same_file_twice_is_one_drop_and_another_is_refused(tmp_path: Path) -> None:
    text = drop_file(tmp_path).read_text().replace('"in 1h"', '"2027-01-01T10:00:00Z"')
    path = tmp_path / "drop.toml"
    path.write_text(text)
    outcomes = [(await flashsale("drop", "create", str(path), "--json")).json["outcome"] for _ in range(2)]
    assert outcomes == ["created", "existed"]
    path.write_text(text.replace("50", "60"))
    refused = await flashsale("drop", "create", str(path))
    assert (refused.code, refused.out) == (4, "")
    assert "another definition" in refused.err


async def test_a_dry_run_creates_nothing(tmp_path: Path) -> None:
    done = await flashsale("drop", "create", str(drop_file(tmp_path)), "--dry-run")
    assert done.code == 0
    assert "50 units in 1 SKU" in done.out
    assert (await flashsale("drop", "list", "--json")).json == []


@pytest.mark.parametrize("name", ["trial", "launch"])
async def test_an_example_is_printed_and_can_be_created(name: str, tmp_path: Path) -> None:
    printed = await flashsale("drop", "example", name)
    (tmp_path / "example.toml").write_text(printed.out)
    assert (await flashsale("drop", "create", "example.toml", "--dry-run", "--json")).json["drop_id"] == name


async def test_every_problem_of_a_file_is_on_stderr_with_its_line(tmp_path: Path) -> None:
    path = drop_file(tmp_path, capacity=0, rate=5)
    done = await flashsale("drop", "create", str(path))
    assert (done.code, done.out) == (2, "")
    assert "has 2 problems" in done.err
    assert f"{path}:5: capacity:" in done.err
    assert f"{path}:6: rate:" in done.err
    assert (await flashsale("drop", "create", "absent.toml")).code == 2


@pytest.mark.usefixtures("trial")
async def test_a_drop_is_steered() -> None:
    async def state(word: str) -> tuple[int, str | None]:
        done = await flashsale("drop", word, "trial", "--json")
        return done.code, json.loads(done.out)["state"] if done.out else None

    assert await state("pause") == (4, None)
    assert await state("open") == (0, "open")
    assert await state("open") == (0, "open")
    assert await state("pause") == (0, "paused")
    assert await state("resume") == (0, "open")


@pytest.mark.usefixtures("trial")
async def test_closing_needs_a_yes() -> None:
    refused = await flashsale("drop", "close", "trial")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert (await flashsale("drop", "show", "trial", "--json")).json["state"] == "scheduled"
    assert (await flashsale("drop", "close", "trial", "--yes", "--json")).json == {
        "drop_id": "trial",
        "outcome": "closed",
        "state": "closed",
    }
    assert (await flashsale("drop", "close", "trial", "--yes", "--json")).json["outcome"] == "replayed"


@pytest.mark.parametrize("word", ["show", "open", "pause", "resume", "watch"])
async def test_a_drop_that_does_not_exist_is_refused(word: str) -> None:
    done = await flashsale("drop", word, "nobody")
    assert (done.code, done.out) == (4, "")
    assert "There is no drop called nobody." in done.err
    assert (await flashsale("drop", word, "No Such{Drop}")).code == 2


async def test_a_drop_the_store_has_lost_is_shown_from_postgres(trial: Path, store: Redis) -> None:
    [before] = (await flashsale("drop", "list", "--json")).json
    assert (await flashsale("drop", "stock", trial.stem, "poster", "--add", "20")).code == 0
    units = (await flashsale("drop", "show", trial.stem, "--json")).json["units"]
    await store.flushall()
    shown = await flashsale("drop", "show", trial.stem, "--json")
    assert (shown.code, shown.json["in_store"], shown.json["live"]) == (0, False, None)
    assert shown.json["units"] == units
    [listed] = (await flashsale("drop", "list", "--json")).json
    assert (listed["in_store"], listed["allotment"]) == (False, before["allotment"] + 20)
    assert str(units["poster"]) in (await flashsale("drop", "show", trial.stem)).out
    lost = await flashsale("drop", "pause", trial.stem)
    assert lost.code == 4
    assert "The store has lost the drop trial." in lost.err


@pytest.mark.parametrize(("limit", "words"), [(1, " 1 unit a shopper"), (2, " 2 units a shopper")])
async def test_one_unit_is_said_as_one(tmp_path: Path, limit: int, words: str) -> None:
    assert (await flashsale("drop", "create", str(drop_file(tmp_path, limit_per_shopper=limit)))).code == 0
    assert words in (await flashsale("drop", "show", "trial")).out


@pytest.mark.usefixtures("trial")
async def test_a_drop_runs_and_is_seen_without_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHSALE_POSTGRES_URL", NOWHERE)
    listed = await flashsale("drop", "list", "--json")
    assert (listed.code, [drop["drop_id"] for drop in listed.json]) == (0, ["trial"])
    assert "warning" in listed.err
    assert (await flashsale("drop", "open", "trial")).code == 0
    picture = (await flashsale("drop", "watch", "trial", "--once", "--json")).json
    assert (picture["state"], picture["orders"]) == ("open", None)
    created = await flashsale("key", "create", "--scope", "storefront")
    assert (created.code, created.out) == (3, "")
    assert "hunter2" not in listed.err + created.err


# ------------------------------------------------------------------------------------------------------------------ watch


@pytest.mark.usefixtures("trial")
async def test_one_look() -> None:
    picture = (await flashsale("drop", "watch", "trial", "--once", "--json")).json
    assert picture["drop_id"] == "trial"
    assert {"joined", "waiting", "serving_number", "admitted", "active", "capacity", "refused", "orders"} <= picture.keys()
    line = await flashsale("drop", "watch", "trial", "--once")
    assert " scheduled joined=0 " in line.out


async def test_watching_ends_when_the_drop_is_closed(tmp_path: Path) -> None:
    assert (await flashsale("drop", "create", str(drop_file(tmp_path, "short", "in 0s")))).code == 0
    watching = asyncio.create_task(asyncio.to_thread(_watch_in_process, tmp_path))
    assert (await flashsale("drop", "close", "short", "--yes")).code == 0
    code, lines = await watching
    assert code == 0
    assert lines[-1]["state"] == "closed"
    assert [line["at_ms"] for line in lines] == sorted(line["at_ms"] for line in lines)


def _watch_in_process(folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """As a process: the output of two commands in this one would mix."""
    done = subprocess.run(
        [sys.executable, "-m", "flashsale", "drop", "watch", "short", "--json", "--interval", "0.1"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


# ------------------------------------------------------------------------------------------------------------------- keys


async def test_a_key_is_shown_once_and_never_again() -> None:
    made = await flashsale("key", "create", "--scope", "storefront", "--scope", "merchant", "--label", "shop", "--expires", "30d")
    assert made.code == 0
    secret = made.out.removesuffix("\n")
    assert secret.startswith("fs_live_")
    assert "\n" not in secret
    [listed] = (await flashsale("key", "list", "--json")).json
    assert (listed["scopes"], listed["label"], listed["revoked_at_ms"]) == (["merchant", "storefront"], "shop", None)
    assert 29 < (listed["expires_at_ms"] - time.time() * 1000) / 86_400_000 < 31
    assert listed["key_id"] in secret
    everything = made.err + (await flashsale("key", "list")).out + json.dumps(listed)
    assert secret[-40:] not in everything


async def test_a_key_is_revoked_by_its_id_only() -> None:
    secret = (await flashsale("key", "create", "--scope", "storefront")).out.strip()
    refused = await flashsale("key", "revoke", secret)
    assert refused.code == 2
    assert secret not in refused.err
    [listed] = (await flashsale("key", "list", "--json")).json
    assert (await flashsale("key", "revoke", listed["key_id"])).code == 0
    assert (await flashsale("key", "list", "--json")).json[0]["revoked_at_ms"] is not None
    assert (await flashsale("key", "revoke", "AAAAAAAAAAAA")).code == 4


@pytest.mark.parametrize("wrong", [("--scope", "everything"), (), ("--scope", "storefront", "--expires", "soon")])
async def test_a_wrong_key_is_not_made(wrong: tuple[str, ...]) -> None:
    assert (await flashsale("key", "create", *wrong)).code == 2
    assert (await flashsale("key", "list", "--json")).json == []


async def test_signing_keys_are_made_rotated_and_never_printed(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    outputs = [await flashsale("signing-key", "create", str(file))]
    first = json.loads(file.read_text())["keys"]
    outputs += [await flashsale("signing-key", word, str(file)) for word in ("rotate", "list")]
    listed = await flashsale("signing-key", "list", str(file), "--json")
    after = json.loads(file.read_text())["keys"]
    assert [done.code for done in [*outputs, listed]] == [0, 0, 0, 0]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [(key["purpose"], key["active"]) for key in listed.json] == [
        ("admission", False), ("receipt", False), ("admission", True), ("receipt", True),
    ]  # fmt: skip
    assert [key["d"] for key in after[:2]] == [key["d"] for key in first]
    assert not any(key["d"] in done.out + done.err for key in after for done in [*outputs, listed])
    assert (await flashsale("signing-key", "create", str(file))).code == 4
    file.write_text('{"keys": "' + after[0]["d"] + '"}')
    broken = await flashsale("signing-key", "rotate", str(file))
    assert broken.code == 2
    assert after[0]["d"] not in broken.err


@pytest.mark.parametrize(
    ("mode", "given", "refused"),
    [
        (0o600, None, False),
        (0o400, None, False),
        (0o640, None, True),
        (0o602, None, True),
        (0o440, "by another account", False),
        (0o440, "read-only", False),
        (0o460, "by another account", True),
        (0o444, "read-only", True),
    ],
)
async def test_signing_keys_are_read_from_a_private_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, given: str | None, *, refused: bool
) -> None:
    file = tmp_path / "keys.json"
    await flashsale("signing-key", "create", str(file))
    file.chmod(mode)
    if given == "by another account":
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    if given == "read-only":
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    done = await flashsale("signing-key", "list", str(file))
    assert (done.code, "may be read by others" in done.err) == ((2, True) if refused else (0, False)), done.err


# ----------------------------------------------------------------------------------------------------------------- checks


async def test_an_audit_is_clean_or_says_what_is_not(trial: Path, store: Redis, database: Database) -> None:
    clean = await flashsale("audit", "--json")
    assert (clean.code, clean.json) == (0, [{"drop_id": "trial", "result": "clean", "drifts": [], "why": ""}])
    await store.hincrby(drop_keys(trial.stem).stock, "available:poster", 3)
    drift = await flashsale("audit", trial.stem, "--json")
    assert drift.code == 1
    assert drift.json[0]["result"] == "drift"
    [found] = drift.json[0]["drifts"]
    assert (found["kind"], found["sku"], found["units"]) == ("store_sum", "poster", 3)
    assert (await flashsale("audit", trial.stem)).code == 1


async def test_a_drop_in_trouble_keeps_no_other_from_being_audited(trial: Path, store: Redis, tmp_path: Path) -> None:
    assert (await flashsale("drop", "create", str(drop_file(tmp_path, "autumn")))).code == 0
    await store.delete(drop_keys("autumn").drop)
    done = await flashsale("audit", "--json")
    assert [(drop["drop_id"], drop["result"]) for drop in done.json] == [("autumn", "failed"), ("trial", "clean")]
    assert done.code == 4
    assert "flashsale recover autumn --dry-run" in done.err
    await store.hincrby(drop_keys(trial.stem).stock, "available:poster", 3)
    done = await flashsale("audit")
    assert done.code == 1
    assert "autumn" in done.out
    assert (await flashsale("audit", "autumn")).code == 4


async def test_the_doctor_looks_at_everything(trial: Path, store: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await flashsale("signing-key", "create", "keys.json")
    monkeypatch.setenv("FLASHSALE_TOKENS_SIGNING_KEYS_FILE", str(tmp_path / "keys.json"))
    healthy = await flashsale("doctor", "--json")
    assert healthy.code == 0
    levels = {finding["name"]: finding["level"] for finding in healthy.json}
    assert {"settings", "signing_keys", "store.version", "store.persistence", "postgres.version", "postgres.migrations"} <= levels.keys()
    assert f"journal.{trial.stem}" in levels
    assert "unsafe" not in levels.values()
    await store.xadd(drop_keys(trial.stem).dead, {"reason": "unknown"})
    (tmp_path / "keys.json").chmod(0o644)
    ill = await flashsale("doctor", "--json")
    assert ill.code == 1
    assert {finding["name"] for finding in ill.json if finding["level"] == "unsafe"} == {"signing_keys", f"dead_letters.{trial.stem}"}
    assert all(finding["todo"] for finding in ill.json if finding["level"] != "ok")
    (tmp_path / "keys.json").chmod(0o600)
    monkeypatch.setenv("FLASHSALE_POSTGRES_URL", NOWHERE)
    away = await flashsale("doctor")
    assert away.code == 3
    assert "hunter2" not in away.out + away.err


async def test_the_doctor_names_drops_the_store_was_not_given(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as away:
        away.setenv("FLASHSALE_STORE_URL", "redis://127.0.0.1:1/0")
        created = await flashsale("drop", "create", str(drop_file(tmp_path)), "--json")
    assert (created.code, created.json["outcome"], created.json["in_store"]) == (0, "created", False)
    assert "gives it to the store" in created.err
    findings = {finding["name"]: finding["level"] for finding in (await flashsale("doctor", "--json")).json}
    assert findings["drop.trial"] == "warn"
    early = await flashsale("drop", "pause", "trial")
    assert early.code == 4
    assert "has not been given it yet" in early.err
    [listed] = (await flashsale("drop", "list", "--json")).json
    assert (listed["in_store"], listed["available"]) == (False, None)


@pytest.fixture
async def evicting(store: Redis, stores: EmbeddedStores) -> object:
    await store.config_set("maxmemory-policy", "allkeys-lru")
    yield
    await store.config_set("maxmemory-policy", "noeviction")


@pytest.mark.usefixtures("evicting")
async def test_an_unsafe_store_is_refused_with_what_to_change() -> None:
    done = await flashsale("reconcile")
    assert (done.code, done.out) == (4, "")
    assert "Set maxmemory-policy noeviction." in done.err


async def test_without_postgres_a_start_goes_on_after_a_while(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checks, "RETRY_S", 0.01)
    away = load_settings(environment=environment_of(settings) | {"FLASHSALE_POSTGRES_URL": NOWHERE})
    assert await require_safe_stores(settings, wait_s=0.05) is True
    assert await require_safe_stores(away, wait_s=0.05) is False
    said = capsys.readouterr().err
    assert said.count("Waiting up to") == 1
    assert "Starting without it" in said
    assert "hunter2" not in said


async def test_without_signing_keys_or_store_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    done = await flashsale("serve")
    assert done.code == 2
    assert "flashsale signing-key" in done.err
    monkeypatch.setattr(checks, "WAIT_S", 0.0)
    monkeypatch.setenv("FLASHSALE_STORE_DEADLINE_MS", "50")
    monkeypatch.setenv("FLASHSALE_STORE_URL", "redis://:hunter2@127.0.0.1:1/0")
    for words in (("drop", "pause", "trial"), ("drop", "watch", "trial"), ("audit",), ("reconcile",)):
        done = await flashsale(*words)
        assert (done.code, done.out) == (3, "")
        assert "flashsale doctor" in done.err
        assert "hunter2" not in done.err
    assert (await flashsale("drop", "list", "--json")).json == []


async def test_what_is_pending_is_said_and_applied(stores: EmbeddedStores, monkeypatch: pytest.MonkeyPatch) -> None:
    await create_database_if_missing(stores.postgres.url, "command_line")
    monkeypatch.setenv("FLASHSALE_POSTGRES_URL", stores.postgres.url_for(database="command_line"))
    steps = [await flashsale("migrate", *words, "--json") for words in (("--check",), (), ("--check",))]
    assert [step.code for step in steps] == [1, 0, 0]
    assert steps[0].json["pending"] == steps[1].json["applied"] != []
    unmigrated = stores.postgres.url_for(database="postgres")
    monkeypatch.setenv("FLASHSALE_POSTGRES_URL", unmigrated)
    assert "flashsale migrate" in (await flashsale("key", "list")).err


# --------------------------------------------------------------------------------------------------------------- manners


@pytest.mark.parametrize(
    ("words", "meant"), [(("dorp",), "'drop'"), (("drop", "crate"), "'create'"), (("drop", "list", "--jsno"), "--json"), (("upp",), "'up'")]
)
async def test_a_typo_gets_the_nearest_word(words: tuple[str, ...], meant: str) -> None:
    done = await flashsale(*words)
    assert (done.code, done.out) == (2, "")
    assert meant in done.err


async def test_a_wrong_setting_is_told_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHSALE_HTTP_PORT", "hunter2")
    done = await flashsale("drop", "list")
    assert done.code == 2
    assert "FLASHSALE_HTTP_PORT" in done.err
    assert "hunter2" not in done.err


async def test_a_defect_has_no_traceback_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError("hunter2")

    monkeypatch.setattr("flashsale.cli.target.find_target", broken)
    done = await flashsale("drop", "list")
    assert done.code == 70
    assert "Traceback" not in done.err
    assert "hunter2" not in done.err
    assert "Traceback" in (await flashsale("drop", "list", "--debug")).err


async def test_output_for_programs_has_no_colours(trial: Path) -> None:
    outputs: list[Done] = [
        await flashsale(*words) for words in (("drop", "list"), ("drop", "show", trial.stem), ("doctor",), ("drop", "pause", trial.stem))
    ]
    assert "\x1b" not in "".join(done.out + done.err for done in outputs)


async def test_settings_survive_the_way_to_a_child(settings: Settings) -> None:
    changed = load_settings(
        environment={}, overrides={"http": {"cors_origins": ["https://a.example", "x"], "trusted_proxies": []}, "log": {"level": "error"}}
    )
    assert load_settings(environment=environment_of(changed)) == changed
    assert load_settings(environment=environment_of(settings)) == settings


@pytest.fixture(autouse=True)
def _no_other_installation(tmp_path: Path) -> Iterator[None]:
    yield
    assert not (tmp_path / ".flashsale").exists()


# ------------------------------------------------------------------------------------------------------------- durability


async def test_a_drop_the_store_cannot_keep_is_not_created(tmp_path: Path, store: Redis) -> None:
    refused = await flashsale("drop", "create", str(drop_file(tmp_path, durability="replica")))
    assert refused.code != 0
    assert "no connected replica" in refused.err
    assert "durability 'disk'" in refused.err
    assert (await flashsale("drop", "list", "--json")).json == []


async def test_the_doctor_and_a_start_name_drops_whose_durability_is_not_kept(
    trial: Path, store: Redis, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "durability" in {finding["name"] for finding in (await flashsale("doctor", "--json")).json}
    await store.config_set("appendfsync", "everysec")
    try:
        ill = await flashsale("doctor", "--json")
        await require_safe_stores(settings)
    finally:
        await store.config_set("appendfsync", "always")
    [found] = [finding for finding in ill.json if finding["name"] == f"durability.{trial.stem}"]
    assert (found["level"], ill.code) == ("unsafe", 1)
    assert found["todo"].startswith("Set appendfsync always")
    assert f"durability.{trial.stem}" in capsys.readouterr().err
