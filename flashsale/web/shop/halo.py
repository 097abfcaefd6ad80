"""Makes the lamp: one profile curve becomes the 3-D model and every picture. `python -m flashsale.web.shop.halo` writes them.

Lengths are centimetres; y points up and the table is at 0. A part is a curve turned around the y axis, as on a lathe.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "files"

Point = tuple[float, float]
"""radius and height, or any two coordinates"""
Curve = tuple[Point, Point, Point, Point]
"""a cubic Bézier curve: start, two control points, end"""


def straight(start: Point, end: Point) -> Curve:
    """A straight line as a curve."""
    third = tuple((end[axis] - start[axis]) / 3 for axis in (0, 1))
    return start, (start[0] + third[0], start[1] + third[1]), (end[0] - third[0], end[1] - third[1]), end


FOOT: tuple[Curve, ...] = (
    straight((0.0, 0.0), (7.15, 0.0)),
    ((7.15, 0.0), (7.4, 0.0), (7.5, 0.35), (7.5, 0.9)),
    ((7.5, 0.9), (7.5, 4.6), (1.7, 4.4), (1.55, 9.0)),
    ((1.55, 9.0), (1.5, 10.6), (2.1, 12.0), (3.6, 12.7)),
)
"""what is turned of clay"""
CUP: tuple[Curve, ...] = (
    straight((3.6, 12.7), (3.95, 12.7)),
    straight((3.95, 12.7), (3.95, 13.5)),
    straight((3.95, 13.5), (3.2, 13.5)),
)
"""the brass cup that holds the globe"""
GLOBE_CENTRE, GLOBE_RADIUS = 20.6, 8.0
RING_RADIUS, RING_WIRE, RING_TILT_DEG = 10.4, 0.3, 16.0
HEIGHT = GLOBE_CENTRE + GLOBE_RADIUS


def point_at(curve: Curve, t: float) -> Point:
    """The point of a curve at t, from 0 to 1."""
    a, b, c, d = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    return tuple(a * curve[0][axis] + b * curve[1][axis] + c * curve[2][axis] + d * curve[3][axis] for axis in (0, 1))  # type: ignore[return-value]


def outward_at(curve: Curve, t: float) -> Point:
    """The unit normal of a curve that is walked upwards along the outside."""
    a, b, c = (3 * (1 - t) ** 2, 6 * t * (1 - t), 3 * t * t)
    along = [a * (curve[1][i] - curve[0][i]) + b * (curve[2][i] - curve[1][i]) + c * (curve[3][i] - curve[2][i]) for i in (0, 1)]
    length = math.hypot(*along)
    return along[1] / length, -along[0] / length


# -------------------------------------------------------------------------------------------------------------- the model

GLAZES: Mapping[str, str] = {"moon": "Moon", "clay": "Clay", "ink": "Ink"}
SEGMENTS = 40
FIXED = 32767
"""positions and normals are whole numbers of this part of 1 (KHR_mesh_quantization): small, and the same on every machine"""
METRES_PER_UNIT = 0.3


@dataclass(frozen=True, slots=True)
class Mesh:
    """Points with normals, and triangles of them."""

    name: str
    material: int
    points: list[tuple[float, ...]]
    """x, y, z, then the normal's"""
    triangles: list[tuple[int, int, int]]


def _grid(rows: int, columns: int) -> list[tuple[int, int, int]]:
    """Triangles between neighbouring rows of points, `columns` + 1 in each."""
    found = []
    for row in range(rows - 1):
        for column in range(columns):
            a = row * (columns + 1) + column
            b = a + columns + 1
            found += [(a, b, a + 1), (b, b + 1, a + 1)]
    return found


def turned(name: str, material: int, curves: Iterable[Curve], steps: Callable[[Curve], int], segments: int = SEGMENTS) -> Mesh:
    """Curves turned around the y axis. Where two curves meet, points are double, so that an edge stays sharp."""
    points: list[tuple[float, ...]] = []
    triangles: list[tuple[int, int, int]] = []
    for curve in curves:
        start, rows = len(points), steps(curve) + 1
        for row in range(rows):
            t = row / (rows - 1)
            (radius, height), (out, up) = point_at(curve, t), outward_at(curve, t)
            for column in range(segments + 1):
                angle = math.tau * column / segments
                x, z = math.cos(angle), math.sin(angle)
                points.append((radius * x, height, radius * z, out * x, up, out * z))
        triangles += [(a + start, b + start, c + start) for a, b, c in _grid(rows, segments)]
    return Mesh(name, material, points, triangles)


def globe() -> Mesh:
    """The glass: what of the sphere is above the cup."""
    lowest, rows, segments = -1.15, 18, 40
    points: list[tuple[float, ...]] = []
    for row in range(rows):
        up = lowest + (math.pi / 2 - lowest) * row / (rows - 1)
        for column in range(segments + 1):
            angle = math.tau * column / segments
            normal = math.cos(up) * math.cos(angle), math.sin(up), math.cos(up) * math.sin(angle)
            points.append((GLOBE_RADIUS * normal[0], GLOBE_CENTRE + GLOBE_RADIUS * normal[1], GLOBE_RADIUS * normal[2], *normal))
    return Mesh("globe", 1, points, _grid(rows, segments))


def ring() -> Mesh:
    """The brass ring around the globe, tilted about the z axis."""
    around, wire = 56, 7
    tilt = math.radians(RING_TILT_DEG)
    points: list[tuple[float, ...]] = []
    for row in range(around + 1):
        angle = math.tau * row / around
        for column in range(wire + 1):
            turn = -math.tau * column / wire
            normal = math.cos(turn) * math.cos(angle), math.sin(turn), math.cos(turn) * math.sin(angle)
            flat = (
                RING_RADIUS * math.cos(angle) + RING_WIRE * normal[0],
                RING_WIRE * normal[1],
                RING_RADIUS * math.sin(angle) + RING_WIRE * normal[2],
            )
            (x, y, z), (nx, ny, nz) = _tilted(flat, tilt), _tilted(normal, tilt)
            points.append((x, y + GLOBE_CENTRE, z, nx, ny, nz))
    return Mesh("ring", 2, points, _grid(around + 1, wire))


def _tilted(at: tuple[float, float, float], by: float) -> tuple[float, float, float]:
    return at[0] * math.cos(by) - at[1] * math.sin(by), at[0] * math.sin(by) + at[1] * math.cos(by), at[2]


def _steps(curve: Curve) -> int:
    """A straight line needs no points between its ends; the long curve needs most."""
    (x, y), (p, q), _, (u, v) = curve
    bends = abs((u - x) * (q - y) - (v - y) * (p - x)) > 1e-6
    return max(5, round(1.6 * math.dist((x, y), (u, v)))) if bends else 1


def model() -> bytes:
    """The lamp as a binary glTF 2.0 file: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html, section 4."""
    meshes = [turned("foot", 0, FOOT, _steps), globe(), ring(), turned("cup", 2, CUP, _steps)]
    views: list[dict[str, object]] = []
    accessors: list[dict[str, object]] = []
    described: list[dict[str, object]] = []
    data = b""
    for mesh in meshes:
        vertices = b"".join(_vertex(point) for point in mesh.points)
        indices = b"".join(struct.pack("<3H", *corners) for corners in mesh.triangles)
        indices += bytes(-len(indices) % 4)
        at = len(accessors)
        views += [
            {"buffer": 0, "byteOffset": len(data), "byteLength": len(vertices), "byteStride": 16, "target": 34962},
            {"buffer": 0, "byteOffset": len(data) + len(vertices), "byteLength": len(indices), "target": 34963},
        ]
        shared = {"bufferView": len(views) - 2, "componentType": 5122, "normalized": True, "count": len(mesh.points), "type": "VEC3"}
        whole = [[_fixed(point[axis] / HEIGHT) for axis in range(3)] for point in mesh.points]
        accessors += [
            {
                **shared,
                "byteOffset": 0,
                "min": [min(axis) for axis in zip(*whole, strict=True)],
                "max": [max(axis) for axis in zip(*whole, strict=True)],
            },
            {**shared, "byteOffset": 8},
            {"bufferView": len(views) - 1, "componentType": 5123, "count": 3 * len(mesh.triangles), "type": "SCALAR"},
        ]
        primitive = {"attributes": {"POSITION": at, "NORMAL": at + 1}, "indices": at + 2, "material": mesh.material}
        described.append({"name": mesh.name, "primitives": [primitive]})
        data += vertices + indices
    document = {
        "asset": {"version": "2.0", "generator": "flashsale.web.shop.halo"},
        "extensionsUsed": ["KHR_mesh_quantization"],
        "extensionsRequired": ["KHR_mesh_quantization"],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes)))}],
        "nodes": [{"name": mesh.name, "mesh": at, "scale": [METRES_PER_UNIT] * 3} for at, mesh in enumerate(meshes)],
        "meshes": described,
        "materials": [
            _material("glaze", "#efe7da", roughness=0.32, metal=0.0),
            _material("glass", "#fff3dc", roughness=0.5, metal=0.0) | {"emissiveFactor": [1.0, 0.82, 0.55]},
            _material("brass", "#c79a4b", roughness=0.28, metal=1.0),
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(data)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _material(name: str, colour: str, *, roughness: float, metal: float) -> dict[str, object]:
    linear = [round((int(colour[at : at + 2], 16) / 255) ** 2.2, 4) for at in (1, 3, 5)]
    return {
        "name": name,
        "pbrMetallicRoughness": {"baseColorFactor": [*linear, 1.0], "roughnessFactor": roughness, "metallicFactor": metal},
    }


def _vertex(point: Sequence[float]) -> bytes:
    """Position as a part of the lamp's height, normal, and the padding each needs."""
    position, normal = [_fixed(value / HEIGHT) for value in point[:3]], [_fixed(value) for value in point[3:]]
    return struct.pack("<3h2x3h2x", *position, *normal)


def _fixed(value: float) -> int:
    return max(-FIXED, min(FIXED, round(value * FIXED)))


# ----------------------------------------------------------------------------------------------------------- the pictures

SCALE = 14.0
MIDDLE, TABLE = 220.0, 470.0
"""where the lamp's axis and the table are in a picture"""
FLATNESS = 0.13
"""how round things look from a little above: height of a circle to its width"""


@dataclass(frozen=True, slots=True)
class Glaze:
    """Colours of a glazed foot, from its dark edge to its light middle."""

    edge: str
    body: str
    light: str
    sheen: float
    """how bright its highlight is"""


PAINTS: Mapping[str, Glaze] = {
    "moon": Glaze("#9c9080", "#e2d8c8", "#fffaf0", 0.9),
    "clay": Glaze("#6b2a14", "#b2542e", "#dd8a5e", 0.55),
    "ink": Glaze("#0b101c", "#1d2840", "#4a5f8c", 0.6),
}


def _at(radius: float, height: float) -> str:
    return f"{_number(MIDDLE + radius * SCALE)} {_number(TABLE - height * SCALE)}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def outline(curves: Sequence[Curve]) -> str:
    """The silhouette of a turned part: up its right side and down its left one, with round ends, as an SVG path."""
    sides = [curve for curve in curves if curve[0][0] and curve[3][0]]
    bottom, top = sides[0][0], sides[-1][3]
    path = [f"M{_at(*bottom)}"]
    path += [f"C{_at(*curve[1])} {_at(*curve[2])} {_at(*curve[3])}" for curve in sides]
    path += [_arc(top, sweep=0)]
    path += [
        f"C{_at(-curve[2][0], curve[2][1])} {_at(-curve[1][0], curve[1][1])} {_at(-curve[0][0], curve[0][1])}" for curve in reversed(sides)
    ]
    path += [_arc((-bottom[0], bottom[1]), sweep=0), "Z"]
    return "".join(path)


def _arc(start: Point, *, sweep: int) -> str:
    """Half an ellipse from `start` to the other side of the axis."""
    across = abs(start[0]) * SCALE
    return f"A{_number(across)} {_number(across * FLATNESS)} 0 0 {sweep} {_at(-start[0], start[1])}"


def _stops(*stops: tuple[float, str, float]) -> str:
    """Stops of a gradient: where, which colour, how opaque."""
    return "".join(f'<stop offset="{at:g}" stop-color="{colour}" stop-opacity="{opacity:g}"/>' for at, colour, opacity in stops)


def _definitions(paint: Glaze) -> str:
    brass = _stops((0, "#6f4d17", 1), (0.25, "#c89b49", 1), (0.45, "#f6dfa4", 1), (0.7, "#b98937", 1), (1, "#694713", 1))
    glaze = _stops((0, paint.edge, 1), (0.2, paint.body, 1), (0.4, paint.light, 1), (0.62, paint.body, 1), (1, paint.edge, 1))
    glass = _stops((0, "#fffdf6", 1), (0.45, "#fff3d6", 1), (0.8, "#ffdfa6", 1), (1, "#f3bf76", 1))
    glow = _stops((0, "#ffe9bd", 0.95), (0.36, "#ffd891", 0.5), (0.65, "#ffc56b", 0.16), (1, "#ffb84f", 0))
    lit = _stops((0, "#ffe2a8", 0.75), (0.3, "#ffd58c", 0.12), (1, "#000", 0.16))
    centre = f'cx="{_number(MIDDLE)}" cy="{_number(TABLE - GLOBE_CENTRE * SCALE)}" gradientUnits="userSpaceOnUse"'
    return (
        f'<linearGradient id="glaze">{glaze}</linearGradient>'
        f'<linearGradient id="brass">{brass}</linearGradient>'
        f'<linearGradient id="lit" x2="0" y2="1">{lit}</linearGradient>'
        f'<radialGradient id="glass" {centre} r="{_number(GLOBE_RADIUS * SCALE)}">{glass}</radialGradient>'
        f'<radialGradient id="glow" {centre} r="180">{glow}</radialGradient>'
        '<filter id="soft" x="-50%" y="-50%" width="200%" height="200%"><feGaussianBlur stdDeviation="7"/></filter>'
        '<filter id="shade" x="-50%" y="-200%" width="200%" height="500%"><feGaussianBlur stdDeviation="9"/></filter>'
    )


def _highlight(paint: Glaze) -> str:
    """The window's reflection down the left of the foot."""
    left = [(-5.9, 1.6), (-5.6, 3.4), (-2.2, 4.6), (-1.0, 8.6)]
    right = [(-0.55, 8.8), (-1.2, 5.4), (-3.6, 3.8), (-4.4, 1.4)]
    down, up = (" ".join(_at(*point) for point in side[1:]) for side in (left, right))
    path = f"M{_at(*left[0])}C{down}L{_at(*right[0])}C{up}Z"
    return f'<path d="{path}" fill="#fff" opacity="{paint.sheen:g}" filter="url(#soft)"/>'


def _half_ring(sweep: int, width: float) -> str:
    across, height = RING_RADIUS * SCALE, RING_RADIUS * SCALE * 0.24
    start, end = (
        f"{_number(MIDDLE - across)} {_number(TABLE - GLOBE_CENTRE * SCALE)}",
        f"{_number(MIDDLE + across)} {_number(TABLE - GLOBE_CENTRE * SCALE)}",
    )
    turn = f"rotate({_number(-RING_TILT_DEG)} {_number(MIDDLE)} {_number(TABLE - GLOBE_CENTRE * SCALE)})"
    path = f"M{start}A{_number(across)} {_number(height)} 0 0 {sweep} {end}"
    return f'<path d="{path}" transform="{turn}" fill="none" stroke="url(#brass)" stroke-width="{width:g}" stroke-linecap="round"/>'


def lamp(paint: Glaze) -> str:
    """The lamp, lit, without anything around it."""
    globe_at = f'cx="{_number(MIDDLE)}" cy="{_number(TABLE - GLOBE_CENTRE * SCALE)}"'
    foot = outline(FOOT)
    return (
        f'<ellipse cx="{_number(MIDDLE)}" cy="{_number(TABLE + 8)}" rx="128" ry="13" fill="#1b120a" opacity=".4" filter="url(#shade)"/>'
        f'<ellipse cx="{_number(MIDDLE)}" cy="{_number(TABLE + 12)}" rx="185" ry="26" fill="#ffcf86" opacity=".28" filter="url(#shade)"/>'
        f'<circle {globe_at} r="180" fill="url(#glow)"/>'
        f"{_half_ring(1, 6)}"
        f'<path d="{foot}" fill="url(#glaze)"/><path d="{foot}" fill="url(#lit)"/>{_highlight(paint)}'
        f'<circle {globe_at} r="{_number(GLOBE_RADIUS * SCALE)}" fill="url(#glass)"/>'
        f'<path d="{outline(CUP[1:2])}" fill="url(#brass)"/>'
        f"{_half_ring(0, 8)}"
    )


def picture(paint: Glaze, box: str = "0 0 440 520") -> str:
    """The lamp as an SVG file; `box` is the part of it that is seen."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}"><defs>{_definitions(paint)}</defs>{lamp(paint)}</svg>\n'


def drawing() -> str:
    """The lamp in lines, with its measures."""
    radius, middle = _number(GLOBE_RADIUS * SCALE), TABLE - GLOBE_CENTRE * SCALE
    ring_across = RING_RADIUS * SCALE
    half = ring_across * math.cos(math.radians(RING_TILT_DEG))
    base = FOOT[1][3][0] * SCALE
    left, top = 40, TABLE - HEIGHT * SCALE
    lines = (
        f"M{left} {_number(top)}V{_number(TABLE)}M{left - 7} {_number(top)}h14M{left - 7} {_number(TABLE)}h14"
        f"M{_number(MIDDLE - base)} 498H{_number(MIDDLE + base)}M{_number(MIDDLE - base)} 491v14M{_number(MIDDLE + base)} 491v14"
        f"M{_number(MIDDLE - half)} 38H{_number(MIDDLE + half)}M{_number(MIDDLE - half)} 31v14M{_number(MIDDLE + half)} 31v14"
    )
    turn = f"rotate({_number(-RING_TILT_DEG)} {_number(MIDDLE)} {_number(middle)})"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 520">'
        "<style>svg{color:#5f5243}@media(prefers-color-scheme:dark){svg{color:#b8aa98}}</style>"
        '<g fill="none" stroke="currentColor" stroke-width="1.8" stroke-linejoin="round">'
        f'<path d="{outline(FOOT)}"/><path d="{outline(CUP[1:2])}"/><circle cx="{_number(MIDDLE)}" cy="{_number(middle)}" r="{radius}"/>'
        f'<ellipse cx="{_number(MIDDLE)}" cy="{_number(middle)}" rx="{_number(ring_across)}" ry="{_number(ring_across * 0.24)}"'
        f' transform="{turn}" stroke="#b98937" stroke-width="2.4"/>'
        f'<path d="M{_number(MIDDLE)} 20V{_number(TABLE + 40)}" stroke-dasharray="10 4 2 4" stroke-width="1" opacity=".7"/>'
        f'<path d="{lines}" stroke-width="1.2"/>'
        '</g><g fill="currentColor" font-family="ui-monospace,Menlo,Consolas,monospace" font-size="15">'
        f'<text transform="translate(32 {_number((top + TABLE) / 2)}) rotate(-90)" text-anchor="middle">{HEIGHT * 10:.0f} mm</text>'
        f'<text x="{_number(MIDDLE + 46)}" y="516" text-anchor="middle">⌀ {2 * FOOT[1][3][0] * 10:.0f}</text>'
        f'<text x="{_number(MIDDLE + 46)}" y="32" text-anchor="middle">⌀ {2 * RING_RADIUS * 10:.0f}</text>'
        "</g></svg>\n"
    )


def underside() -> str:
    """What stands under the foot: the rings of the lathe and the stamped number."""
    paint = PAINTS["clay"]
    grooves = "".join(f'<circle cx="220" cy="260" r="{radius}"/>' for radius in range(58, 186, 9))
    glaze = _stops((0, paint.light, 1), (0.7, paint.body, 1), (1, paint.edge, 1))
    text = 'text-anchor="middle" font-family="ui-serif,Georgia,serif" fill="#4b1b0b"'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 520">'
        f'<defs><radialGradient id="under" cx=".38" cy=".3" r=".85">{glaze}</radialGradient>'
        '<filter id="shade" x="-50%" y="-50%" width="200%" height="200%"><feGaussianBlur stdDeviation="12"/></filter></defs>'
        '<circle cx="226" cy="276" r="192" fill="#1b120a" opacity=".35" filter="url(#shade)"/>'
        '<circle cx="220" cy="260" r="195" fill="url(#under)"/>'
        f'<g fill="none" stroke="#5c2410" stroke-opacity=".28" stroke-width="2">{grooves}</g>'
        '<circle cx="220" cy="260" r="92" fill="#c66a42"/>'
        '<circle cx="220" cy="260" r="84" fill="none" stroke="#6b2a14" stroke-width="2.5"/>'
        f'<text x="220" y="240" font-size="24" letter-spacing="5" {text}>HALO</text>'
        f'<text x="220" y="287" font-size="42" {text}>№ 017</text>'
        f'<text x="220" y="314" font-size="14" letter-spacing="2" {text}>FIRST FIRING</text>'
        "</svg>\n"
    )


def files() -> dict[str, bytes]:
    """Every file that is made here, by name."""
    made = {f"halo-{glaze}.svg": picture(paint).encode() for glaze, paint in PAINTS.items()}
    made["halo-ring.svg"] = picture(PAINTS["ink"], "112 60 250 295").encode()
    made["halo-drawing.svg"] = drawing().encode()
    made["halo-number.svg"] = underside().encode()
    made["halo.glb"] = model()
    return made


if __name__ == "__main__":
    for name, body in files().items():
        (FOLDER / name).write_bytes(body)
