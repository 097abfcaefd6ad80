"""What is shipped: the locks, the wheel's contents, and the wheel at work on a machine that has nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

import flashsale

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WIDGET = ROOT / "widget" / "dist"
LOCKS = ("build", "dev", "embedded", "runtime")
INSTALL_TIMEOUT_S = 240
DEMO_TIMEOUT_S = 120


def run(argv: Sequence[str | Path], *, cwd: Path, home: Path | None = None, timeout_s: float) -> str:
    """What the command prints; the test fails with everything it said when the command does."""
    environment = dict(os.environ)
    if home is not None:
        # Nothing of this checkout, this environment or this user may help.
        environment = {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, argv))} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


# ---------------------------------------------------------------------------------------------------------------- locks


def locked(name: str) -> dict[str, str]:
    """Package to version."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    return {found[1]: found[2] for found in re.finditer(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE)}


def wanted(*extras: str) -> set[str]:
    names = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        names += PROJECT["project"]["optional-dependencies"][extra]
    return {re.split(r"[<>=~!;\[ ]", name)[0].lower().replace("_", "-") for name in names}


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_has_a_version_and_hashes_and_names_no_host(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"\n(?=[a-z])", text) if not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+ (;.* )?\\\n", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_the_locks_hold_what_the_project_asks_for() -> None:
    assert wanted() <= set(locked("runtime"))
    assert wanted("embedded") <= set(locked("embedded"))
    assert wanted("embedded", "loadtest", "dev") <= set(locked("dev"))


def test_production_carries_no_store_and_no_tool() -> None:
    assert not (wanted("embedded", "loadtest", "dev") - wanted()) & set(locked("runtime"))


def test_the_locks_agree() -> None:
    everything = locked("dev")
    for name in LOCKS:
        assert locked(name).items() <= everything.items(), f"{name}.lock has other versions than dev.lock: make lock"


def test_the_lock_serves_the_oldest_python() -> None:
    # redis needs it below Python 3.11.3, which Debian 12 has; a lock written by a newer one would leave it out.
    for name in ("dev", "embedded", "runtime"):
        assert "async-timeout" in locked(name)


# ------------------------------------------------------------------------------------------------------------ the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], cwd=folder, timeout_s=100)
    (built,) = folder.glob("*.whl")
    return built


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_every_file_the_service_reads(wheel: Path) -> None:
    shipped = files_of(wheel)
    expected = {
        *(f"flashsale/_lua/{path.relative_to(ROOT / 'lua')}" for path in (ROOT / "lua").rglob("*") if path.is_file()),
        *(f"flashsale/_config/{path.relative_to(ROOT / 'config')}" for path in (ROOT / "config").rglob("*") if path.is_file()),
        *(f"flashsale/_web/{path.relative_to(ROOT / 'web')}" for path in (ROOT / "web").rglob("*") if path.is_file()),
        *(f"flashsale/_widget/{path.relative_to(WIDGET)}" for path in WIDGET.rglob("*") if path.is_file()),
        *(str(path.relative_to(ROOT)) for path in (ROOT / "reconciler" / "sql").rglob("*.sql")),
    }
    for package in ("flashsale", "admission", "reconciler", "loadtest", "chaos"):
        expected |= {
            str(path.relative_to(ROOT))
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
        }
    assert expected <= shipped, sorted(expected - shipped)


def test_the_wheel_carries_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in files_of(wheel)}
    assert tops == {"flashsale", "admission", "reconciler", "loadtest", "chaos", f"flashsale-{flashsale.__version__}.dist-info"}
    assert not [name for name in files_of(wheel) if "__pycache__" in name or name.endswith(".pyc")]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `flashsale` command of a fresh environment that has the lock's packages and the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    pip: list[str | Path] = [
        folder / "venv" / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    lock = ROOT / "requirements" / "embedded.lock"
    run([*pip, "--only-binary", ":all:", "--require-hashes", "-r", lock], cwd=folder, timeout_s=INSTALL_TIMEOUT_S)
    run([*pip, "--no-deps", "--no-index", wheel], cwd=folder, timeout_s=60)
    return folder / "venv" / "bin" / "flashsale"


@pytest.fixture
def nowhere(tmp_path: Path) -> tuple[Path, Path]:
    """An empty folder to stand in, and an empty home."""
    folder, home = tmp_path / "here", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    return folder, home


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_TIMEOUT_S + 100)
def test_the_installed_command_explains_itself(installed: Path, nowhere: tuple[Path, Path]) -> None:
    folder, home = nowhere
    said = run([installed, "--help"], cwd=folder, home=home, timeout_s=20)
    assert "flashsale demo" in said
    assert run([installed, "--version"], cwd=folder, home=home, timeout_s=20).strip().endswith(flashsale.__version__)


@pytest.mark.slow
@pytest.mark.timeout(DEMO_TIMEOUT_S + INSTALL_TIMEOUT_S + 100)
def test_the_installed_demo_sells_every_unit_once(installed: Path, nowhere: tuple[Path, Path]) -> None:
    folder, home = nowhere
    options = ["--headless", "--shoppers", "60", "--units", "10", "--seed", "7", "--report", "x.json"]
    run([installed, "demo", *options], cwd=folder, home=home, timeout_s=DEMO_TIMEOUT_S)
    report = msgspec.json.decode((folder / "x.json").read_bytes())
    must_be_zero = ("oversold_units", "undersold_units", "lost_orders", "duplicate_orders", "overtakes", "http_5xx")
    assert {name: report[name] for name in must_be_zero} == dict.fromkeys(must_be_zero, 0)
    assert (report["shoppers"], report["units"], report["seed"], report["audit"]) == (60, 10, 7, "clean")
    assert report["joined"] > 0
    assert 0 < report["orders_in_postgres"]["paid"] <= 10
    assert [path.name for path in folder.iterdir()] == ["x.json"], "the demo leaves only what it was asked for"
