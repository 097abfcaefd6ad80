"""`flashsale up` from start to stop and again, as its user has it: a process in a folder."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashsale.cli.runtime import read_runtime
from flashsale.settings import Settings
from tests.integration.command_line import Done, Running, command_lines_below, flashsale

WORKERS = 2
READY = "Ctrl-C stops everything"
HEAL_S = 20.0


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path that the stores' own user can reach."""
    path = Path(tempfile.mkdtemp(prefix="flashsale-up-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return folder / "data"


def start(folder: Path, *more: str) -> Running:
    return Running("up", "--data", str(folder / "data"), "--port", "0", "--workers", str(WORKERS), *more, environment={}, folder=folder)


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Running]:
    with start(folder) as running:
        running.wait_for(READY)
        yield running


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the service by --data only."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLASHSALE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")


async def of(data: Path, *words: str) -> Done:
    done = await flashsale(*words, "--data", str(data))
    assert done.code == 0, done.err
    return done


def url_of(data: Path) -> str:
    runtime = read_runtime(data)
    assert runtime is not None
    return runtime.http_url


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


async def until(holds: object, within_s: float = HEAL_S) -> None:
    """Returns when `holds()`; nothing signals what happens in another process."""
    deadline = time.monotonic() + within_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def trial(folder: Path) -> Path:
    path = folder / "trial.toml"
    path.write_text(
        'id = "trial"\nname = "Trial"\ncurrency = "EUR"\nopens_at = "in 0s"\n[[sku]]\nid = "poster"\nallotment = 5\nprice_minor = 100\n'
    )
    return path


@pytest.mark.usefixtures("up")
async def test_everything_from_start_to_audit(folder: Path, data: Path) -> None:
    await of(data, "drop", "create", str(trial(folder)))
    assert [drop["state"] for drop in (await of(data, "drop", "list", "--json")).json] == ["open"]
    assert (await of(data, "drop", "show", "trial", "--json")).json["live"]["sold_out"] is False
    assert (await of(data, "drop", "watch", "trial", "--once", "--json")).json["state"] == "open"
    assert (await of(data, "key", "create", "--scope", "storefront")).out.startswith("fs_live_")
    assert (await of(data, "migrate", "--check", "--json")).json == {"applied": [], "pending": []}
    assert {finding["level"] for finding in (await of(data, "doctor", "--json")).json} == {"ok"}
    assert (await of(data, "audit", "--json")).json == [{"drop_id": "trial", "result": "clean", "drifts": [], "why": ""}]
    assert answers(f"{url_of(data)}/readyz")
    await until(lambda: answers(f"{url_of(data)}/v1/drops/trial/serving"))


@pytest.mark.usefixtures("up")
async def test_a_second_start_in_the_same_folder_says_so(up: Running, data: Path) -> None:
    for port in ("0", url_of(data).rpartition(":")[2]):
        done = await flashsale("up", "--data", str(data), "--port", port)
        assert (done.code, done.out) == (5, "")
        assert f"process {up.process.pid}" in done.err
    assert answers(f"{url_of(data)}/healthz")


async def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = await flashsale("up", "--data", str(tmp_path / "d"), "--port", str(other.getsockname()[1]))
    assert done.code == 5
    assert "--port" in done.err
    assert not (tmp_path / "d" / "valkey").exists()


async def test_no_secret_is_where_others_can_read_it(up: Running, data: Path) -> None:
    for name in ("runtime.json", "signing-keys.json", "stores.json"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600
    lines = command_lines_below(up.process.pid)
    secrets = [key["d"] for key in json.loads((data / "signing-keys.json").read_text())["keys"]]
    assert len(lines) > WORKERS + 3
    assert not [line for line in lines if "://" in line or any(secret in line for secret in secrets)]


@pytest.mark.parametrize("victim", ["serve-worker", "reconcile-worker"])
async def test_a_killed_process_is_started_again(up: Running, data: Path, victim: str) -> None:
    killed = up.children()[victim]
    os.kill(killed, signal.SIGKILL)
    await until(lambda: up.children().get(victim, killed) != killed)
    await until(lambda: answers(f"{url_of(data)}/readyz"))


@pytest.mark.parametrize("victim", ["valkey", "postgres"])
async def test_a_killed_store_is_started_again_on_its_data(up: Running, folder: Path, data: Path, victim: str) -> None:
    drop = folder / f"{victim}.toml"
    drop.write_text(trial(folder).read_text().replace("trial", victim).replace("in 0s", "in 1h"))
    await of(data, "drop", "create", str(drop))
    pid_file = data / victim / "pid"
    killed = int(pid_file.read_text())
    os.kill(killed, signal.SIGKILL)
    await until(lambda: pid_file.exists() and int(pid_file.read_text() or 0) != killed)
    await until(lambda: answers(f"{url_of(data)}/readyz"))
    assert victim in {one["drop_id"] for one in (await of(data, "drop", "list", "--json")).json}
    assert f"{victim} ended unexpectedly" in up.errors


async def test_it_stops_cleanly_and_goes_on_with_its_data(folder: Path) -> None:
    data, keys = folder / "own" / "data", b""
    data.parent.mkdir(mode=0o711)
    for how in (signal.SIGINT, signal.SIGTERM):
        with start(folder / "own") as running:
            running.wait_for(READY)
            if not keys:
                await of(data, "drop", "create", str(trial(folder)))
                keys = (data / "signing-keys.json").read_bytes()
            assert [drop["drop_id"] for drop in (await of(data, "drop", "list", "--json")).json] == ["trial"]
            assert (data / "signing-keys.json").read_bytes() == keys
            assert running.end(how) == 0, running.errors
        assert not (data / "runtime.json").exists()
        assert (await flashsale("drop", "list", "--data", str(data))).code == 2


async def test_ctrl_c_before_it_is_ready_leaves_nothing_running(folder: Path, tmp_path: Path) -> None:
    with Running("up", "--data", str(folder / "early"), "--port", "0", environment={}, folder=tmp_path) as running:
        await until((folder / "early" / "valkey" / "pid").exists)
        below = len(command_lines_below(running.process.pid))
        assert running.end(signal.SIGINT) == 130, running.errors
    assert below > 1
    assert not (folder / "early" / "runtime.json").exists()
    assert not list((folder / "early").glob("*/pid"))
    assert "Traceback" not in running_errors(tmp_path)


def running_errors(folder: Path) -> str:
    return (folder / "stderr.log").read_text(encoding="utf-8")


async def test_serve_and_reconcile_run_on_stores_named_by_url(settings: Settings, folder: Path, tmp_path: Path) -> None:
    await flashsale("signing-key", "create", str(tmp_path / "keys.json"))
    environment = {
        "FLASHSALE_STORE_URL": settings.store.url,
        "FLASHSALE_POSTGRES_URL": settings.postgres.url,
        "FLASHSALE_TOKENS_SIGNING_KEYS_FILE": str(tmp_path / "keys.json"),
        "FLASHSALE_LOG_FORMAT": "json",
    }
    (folder / "serve").mkdir()
    with Running("serve", "--port", "0", "--workers", "1", environment=environment, folder=folder / "serve") as serving:
        await until(lambda: "Serving on" in serving.errors)
        url = serving.errors.partition("Serving on ")[2].split()[0]
        assert answers(f"{url}/readyz")
        assert serving.end() == 0, serving.errors
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = ("reconcile", "--metrics-port", str(port))
    with Running(*words, environment=environment, folder=folder / "serve") as reconciling:
        await until(lambda: "reconciler_started" in reconciling.errors)
        assert "flashsale_refunds_for_people 0.0" in page(f"http://127.0.0.1:{port}/metrics")
        assert reconciling.end() == 0, reconciling.errors
