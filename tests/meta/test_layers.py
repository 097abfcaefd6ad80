"""The layers hold, and the contracts that hold them would notice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("flashsale", "admission", "reconciler", "loadtest", "chaos")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the packages below `root`, whatever is installed."""
    return subprocess.run(
        [sys.executable, "-P", "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_every_contract_is_kept() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("flashsale/model.py", "flashsale.settings", "Layers"),
        ("flashsale/connections/checks.py", "flashsale.drops", "Layers"),
        ("flashsale/supervisor.py", "flashsale.embedded.stores", "Layers"),
        ("reconciler/orders.py", "flashsale.web", "Layers"),
        ("admission/tokens.py", "flashsale.cli.main", "Layers"),
        ("reconciler/reaper.py", "flashsale.reservations", "do not know one another"),
        ("flashsale/drops.py", "asyncpg", "asyncpg only in"),
        ("flashsale/connections/checks.py", "asyncpg", "asyncpg only in"),
        ("flashsale/embedded/postgres.py", "asyncpg", "asyncpg only in"),
        ("admission/tokens.py", "redis", "redis only in"),
        ("flashsale/connections/database.py", "redis", "redis only in"),
        ("reconciler/orders.py", "redis.asyncio", "redis only in"),
        ("flashsale/reservations.py", "aiohttp", "HTTP only in"),
        ("loadtest/shopper.py", "flashsale.model", "The crowd knows"),
        ("reconciler/journal.py", "chaos.proxy", "knows nothing of what breaks it"),
        ("flashsale/supervisor.py", "chaos.proxy", "knows nothing of what breaks it"),
    ],
)
def test_a_broken_layer_is_noticed(copy: Path, module: str, imported: str, contract: str) -> None:
    path = copy / module
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\nimport {imported}\n", encoding="utf-8")
    try:
        done = lint_imports(copy)
    finally:
        path.write_text(text, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert any(contract in line for line in broken), done.stdout
    assert re.search(rf"{module.removesuffix('.py').replace('/', '.')} -> {imported.split('.', maxsplit=1)[0]}", done.stdout)
