"""The next release of the service, as a rolling upgrade meets it: other scripts, and a journal that only it can read.

It is this release with two changes: its journal entries are of version 2, so each script that writes one has another SHA; and
its reconciler reads both versions.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from chaos.process import LabProcess
from flashsale.resources import resource_dir
from flashsale.supervisor import Process

PACKAGES = ("flashsale", "admission", "reconciler", "config", "lua", "web", "widget")
WRITTEN, NEXT_WRITTEN = '"v", "1"', '"v", "2"'
READ, NEXT_READ = "if version != VERSION:", 'if version not in {VERSION, b"2"}:'


def changed_release(folder: Path, changes: Mapping[str, tuple[str, str]]) -> Path:
    """This release in `folder`, which is made, with these changes: file to the text in it and what stands there instead."""
    checkout = resource_dir("lua").parent
    for name in PACKAGES:
        shutil.copytree(checkout / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name, (before, after) in changes.items():
        _change(folder / name, before, after)
    return folder


def next_release(folder: Path) -> Path:
    """The next release in `folder`, which is made."""
    changed_release(folder, {"reconciler/entries.py": (READ, NEXT_READ)})
    scripts = [path for path in (folder / "lua").rglob("*.lua") if WRITTEN in path.read_text(encoding="utf-8")]
    assert scripts, f"no script writes {WRITTEN}"
    for path in scripts:
        _change(path, WRITTEN, NEXT_WRITTEN)
    return folder


def _change(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text, f"{path.name} does not say {before} any more"
    path.write_text(text.replace(before, after), encoding="utf-8")


@asynccontextmanager
async def upgraded(process: LabProcess, release: Path) -> AsyncIterator[None]:
    """The process runs `release` inside the block, and what it ran before afterwards."""
    before = process.description
    try:
        await deployed(process, _of(before, release))
        yield
    finally:
        await deployed(process, before)


async def deployed(process: LabProcess, description: Process) -> None:
    """Stops a process, if it runs, and starts it as described."""
    if process.running:
        await process.stop()
    process.description = description
    await process.start()


def _of(description: Process, release: Path) -> Process:
    """-P: nothing is imported from the folder the process is started in."""
    _, *arguments = description.argv
    return replace(description, argv=[sys.executable, "-P", *arguments], env={**(description.env or {}), "PYTHONPATH": str(release)})
