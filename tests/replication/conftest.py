"""Stores of several servers. One that a test breaks is that test's own.

Tests with the marker `faults` are left out of `make test`; `make replication` runs them all.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chaos.topologies import ClusterStores, SentinelStores


@pytest.fixture(scope="session")
def topology_folders(stores_folder: Path) -> Iterator[Path]:
    """New folders, with short names that the servers' own user can reach."""
    return (_made(stores_folder / f"t{number}") for number in itertools.count())


def _made(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="session")
async def cluster(topology_folders: Iterator[Path]) -> AsyncIterator[ClusterStores]:
    """Three nodes that share the slots. Leave them running; slots may be moved."""
    async with ClusterStores(next(topology_folders)) as running:
        yield running


@pytest.fixture
async def sentinel(topology_folders: Iterator[Path]) -> AsyncIterator[SentinelStores]:
    """A primary, a replica in step, and one Sentinel, of this test's own."""
    async with SentinelStores(next(topology_folders)) as running:
        yield running
