"""The shop's built and made files are what their sources say."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
from pathlib import Path

import pytest

from flashsale.web.shop import halo
from flashsale.web.shop.shop import FILES
from tests.node import NODE, needs_node

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "flashsale" / "web" / "shop" / "viewer" / "build.mjs"
VIEWER_GZIP_BYTES_MAX = 220_000
MODEL_BYTES_MAX = 80_000


@needs_node
@pytest.mark.skipif(not (ROOT / "node_modules" / "three").is_dir(), reason="node_modules is not set up: make setup")
def test_the_viewer_is_built_from_its_source(tmp_path: Path) -> None:
    built = tmp_path / "viewer.js"
    done = subprocess.run([str(NODE), str(BUILD), str(built)], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    committed = (FILES / "shop-viewer.js").read_bytes()
    assert committed == built.read_bytes(), f"Run: node {BUILD.relative_to(ROOT)}"
    assert len(gzip.compress(committed, 9)) <= VIEWER_GZIP_BYTES_MAX


@pytest.mark.parametrize("name", sorted(halo.files()))
def test_the_lamp_is_made_from_its_curve(name: str) -> None:
    assert (FILES / name).read_bytes() == halo.files()[name], "Run: python -m flashsale.web.shop.halo"


def test_the_model_is_a_small_whole_gltf_file() -> None:
    body = halo.model()
    assert len(body) <= MODEL_BYTES_MAX
    magic, version, length, text_length, kind = struct.unpack_from("<4sIII4s", body)
    assert (magic, version, length, kind) == (b"glTF", 2, len(body), b"JSON")
    document = json.loads(body[20 : 20 + text_length])
    data_length, kind = struct.unpack_from("<I4s", body, 20 + text_length)
    assert (kind, data_length) == (b"BIN\0", document["buffers"][0]["byteLength"])
    data = body[28 + text_length :]
    for mesh in document["meshes"]:
        primitive = mesh["primitives"][0]
        points, corners = (
            document["accessors"][primitive[at]["POSITION"] if at == "attributes" else primitive[at]] for at in ("attributes", "indices")
        )
        view = document["bufferViews"][corners["bufferView"]]
        used = struct.unpack_from(f"<{corners['count']}H", data, view["byteOffset"])
        assert set(used) == set(range(points["count"])), f"{mesh['name']} has points of no triangle, or the reverse"


def test_every_triangle_faces_outward() -> None:
    meshes = [halo.turned("foot", 0, halo.FOOT, lambda _curve: 4), halo.globe(), halo.ring()]
    for mesh in meshes:
        for corners in mesh.triangles:
            (ax, ay, az, *normal), (bx, by, bz, *_), (cx, cy, cz, *_) = (mesh.points[corner] for corner in corners)
            one, other = (bx - ax, by - ay, bz - az), (cx - ax, cy - ay, cz - az)
            across = [one[(i + 1) % 3] * other[(i + 2) % 3] - one[(i + 2) % 3] * other[(i + 1) % 3] for i in range(3)]
            assert sum(map(float.__mul__, across, normal)) > -1e-9, mesh.name
