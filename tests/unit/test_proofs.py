"""Proofs of entries: every path leads to the root, whatever the number of entries."""

from __future__ import annotations

import hashlib

import pytest

from admission.drawing import Entries
from admission.merkle import audit_path, leaf_hash, merkle_levels, root_from_path
from admission.proofs import CHUNKS_KEPT, Proofs
from admission.tokens import b64decode
from flashsale.model import LinePicture, Snapshot
from tests.unit.snapshots import snapshot

SIZES_AROUND_A_CHUNK = [1, 2, 3, 7, 1023, 1024, 1025, 2047, 2048, 2049, 3 * 1024 + 700, 5 * 1024]


def hashes(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest() for number in range(count)]


def levels_of(count: int) -> list[list[bytes]]:
    return merkle_levels([leaf_hash(one) for one in hashes(count)])


def closed(**counts: int) -> Snapshot:
    """A drop whose entries are closed, so many in each line; `everybody` is the line of no group."""
    lines = [
        LinePicture("" if group == "everybody" else group, 0, count, count, 0, "", levels_of(count)[-1][0].hex())
        for group, count in counts.items()
    ]
    return snapshot(lines=tuple(lines))


async def proofs_of(drop: Snapshot) -> Proofs:
    entries = Entries([line.entries or 0 for line in drop.lines])
    for at, line in enumerate(drop.lines):
        entries.put(at, 0, b"".join(hashes(line.entries or 0)))
    proofs = Proofs(drop, entries)
    await proofs.index()
    return proofs


@pytest.mark.parametrize("count", SIZES_AROUND_A_CHUNK)
async def test_every_path_leads_to_the_root(count: int) -> None:
    proofs, levels = await proofs_of(closed(everybody=count)), levels_of(count)
    for number in {0, 1, count // 2, count - 2, count - 1, min(count - 1, 1_023), min(count - 1, 1_024)} & set(range(count)):
        proof = proofs.proof("", number)
        assert proof is not None
        assert (proof.entry_number, proof.entries, b64decode(proof.secret_hash)) == (number, count, hashes(count)[number])
        path = [bytes.fromhex(node) for node in proof.path]
        assert path == audit_path(levels, number)
        assert root_from_path(leaf_hash(hashes(count)[number]), number, count, path) == levels[-1][0]


async def test_each_line_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admission.proofs.CHUNKS_KEPT", 1)
    drop = closed(everybody=1_500, vip=40)
    proofs = await proofs_of(drop)
    assert proofs.fit(drop)
    assert not proofs.fit(closed(everybody=1_500, vip=41))
    for _ in range(2):
        for group, count in (("", 1_500), ("vip", 40)):
            proof = proofs.proof(group, 7)
            assert proof is not None
            assert (proof.group, list(map(bytes.fromhex, proof.path))) == (group, audit_path(levels_of(count), 7))


async def test_there_are_no_others() -> None:
    proofs = await proofs_of(closed(everybody=3, vip=1))
    assert [proofs.proof(*asked) for asked in (("", 3), ("", -1), ("vip", 1), ("press", 0))] == [None] * 4


async def test_not_more_trees_are_kept_than_said() -> None:
    proofs = await proofs_of(closed(everybody=(CHUNKS_KEPT + 3) * 1024))
    for chunk in range(CHUNKS_KEPT + 3):
        proofs.proof("", chunk * 1024)
    assert list(proofs._chunks) == [(0, chunk) for chunk in range(3, CHUNKS_KEPT + 3)]
