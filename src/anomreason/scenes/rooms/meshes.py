"""Triangle meshes: parts with a finish, read from the vendored models, built, moved, cut and copied.

Lengths are metres; a mesh stands on z = 0 with its front towards -y.

    >>> [part.name for part in model("basketball")]
    ['Material']
    >>> box("top", (0, 0, 0.72), (1.2, 0.8, 0.04), Finish((0.4, 0.2, 0.1))).vertices.shape
    (8, 3)
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomreason.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Colour = tuple[float, float, float]
"""Linear red, green, blue, 0..1."""


@dataclass(frozen=True)
class Finish:
    """What a surface is made of, as far as light is concerned."""

    colour: Colour
    roughness: float = 0.6
    metal: float = 0.0
    opacity: float = 1.0
    emission: Colour | None = None
    """Radiance that it gives off; None for everything but lamps and windows."""
    mirror: bool = False
    texture: bytes | NDArray[np.uint8] | None = field(default=None, repr=False)
    """An encoded image or (height, width, 3); it stands in for the colour."""


@dataclass(frozen=True, eq=False)
class MeshPart:
    """Triangles of one finish."""

    name: str
    vertices: Floats
    """(n, 3)"""
    faces: Ints
    """(m, 3)"""
    finish: Finish
    uv: Floats | None = None
    """(m, 3, 2), one for each corner; None when nothing is textured."""
    pieces: Ints | None = None
    """(m,): the number of the connected piece a face belongs to; None: one piece."""
    smooth: bool = True
    """False: every edge is seen."""

    @property
    def corners(self) -> Floats:
        """(m, 3, 3)"""
        return self.vertices[self.faces]


Mesh = tuple[MeshPart, ...]


@lru_cache(maxsize=128)
def model(name: str) -> Mesh:
    """A vendored model by its file name without ending. Raises UsageError when there is no such model."""
    path = files(__package__) / "models" / f"{name}.npz"
    if not path.is_file():
        raise UsageError(f"no model {name!r} in scenes/rooms/models; correct the column `model` of rooms/things.toml")
    with np.load(io.BytesIO(path.read_bytes())) as data:
        about = json.loads(bytes(data["about"]))
        parts = tuple(_read_part(data, i, entry, np.array(about["size"])) for i, entry in enumerate(about["parts"]))
    return tuple(replace(part, vertices=part.vertices - [0, 0, bounds(parts)[0, 2]]) for part in parts)


def _read_part(data: Any, i: int, entry: dict[str, Any], size: Floats) -> MeshPart:
    texture = bytes(data[f"t{i}"]) if entry["textured"] else None
    red, green, blue = entry["colour"]
    return MeshPart(
        name=entry["name"],
        vertices=(data[f"v{i}"] / 65000.0 - [0.5, 0.5, 0.0]) * size,
        faces=data[f"f{i}"].astype(np.int64),
        finish=Finish((red, green, blue), entry["roughness"], entry["metal"], entry["opacity"], texture=texture),
        uv=data[f"uv{i}"].astype(float) if entry["textured"] else None,
        pieces=data[f"c{i}"].astype(np.int64),
    )


def bounds(mesh: Iterable[MeshPart]) -> Floats:
    """(2, 3): lowest and highest corner. Parts without triangles do not count."""
    used = [part.vertices[part.faces].reshape(-1, 3) for part in mesh if len(part.faces)]
    points = np.concatenate(used)
    return np.stack([points.min(axis=0), points.max(axis=0)])


def transformed(mesh: Mesh, matrix: Floats) -> Mesh:
    """The mesh under a 4 x 4 matrix."""
    return tuple(replace(p, vertices=p.vertices @ matrix[:3, :3].T + matrix[:3, 3]) for p in mesh)


def refinished(mesh: Mesh, change: Callable[[MeshPart], Finish]) -> Mesh:
    return tuple(replace(part, finish=change(part)) for part in mesh)


def kept(part: MeshPart, mask: NDArray[np.bool_]) -> MeshPart:
    """The part with only the faces of the mask."""
    return replace(
        part,
        faces=part.faces[mask],
        uv=None if part.uv is None else part.uv[mask],
        pieces=None if part.pieces is None else part.pieces[mask],
    )


def selected(mesh: Mesh, box: Floats, names: tuple[str, ...] = ()) -> list[NDArray[np.bool_]]:
    """For each part the faces of those connected pieces that lie wholly in the box.

    box: (2, 3) in fractions of the mesh's own bounding box. names: only parts of these names (empty: all).
    """
    low, high = bounds(mesh)
    inner = low + box * (high - low)
    out = []
    for part in mesh:
        mask = np.zeros(len(part.faces), dtype=bool)
        if not names or part.name in names:
            pieces = np.zeros(len(part.faces), np.int64) if part.pieces is None else part.pieces
            corners = part.corners
            inside = ((corners >= inner[0] - 1e-6) & (corners <= inner[1] + 1e-6)).all(axis=(1, 2))
            whole = np.ones(int(pieces.max(initial=0)) + 1, dtype=bool)
            np.logical_and.at(whole, pieces, inside)
            mask = whole[pieces]
        out.append(mask)
    return out


def split_off(mesh: Mesh, masks: list[NDArray[np.bool_]]) -> tuple[Mesh, Mesh]:
    """(the faces of the masks, the rest), parts without faces left out."""
    taken = tuple(kept(p, m) for p, m in zip(mesh, masks, strict=True) if m.any())
    rest = tuple(kept(p, ~m) for p, m in zip(mesh, masks, strict=True) if not m.all())
    return taken, rest


def clipped(mesh: Mesh, axis: int, at: float, above: bool) -> Mesh:
    """What lies on one side of a plane across an axis; triangles on the plane are cut."""
    out = (_clip_part(part, axis, at, 1.0 if above else -1.0) for part in mesh)
    return tuple(part for part in out if len(part.faces))


def _clip_part(part: MeshPart, axis: int, at: float, sign: float) -> MeshPart:
    """Cuts each triangle against the plane; corners carry position and uv together."""
    uv = np.zeros((len(part.faces), 3, 2)) if part.uv is None else part.uv
    corners = np.concatenate([part.corners, uv], axis=2)  # (faces, 3, 5)
    pieces = np.zeros(len(part.faces), np.int64) if part.pieces is None else part.pieces
    side = (corners[:, :, axis] - at) * sign
    whole = (side >= 0).all(axis=1)
    out, labels = [corners[whole]], [pieces[whole]]
    for i in np.flatnonzero(~whole & (side > 0).any(axis=1)):
        polygon = _cut(corners[i], side[i])
        fan = [np.stack([polygon[0], polygon[j], polygon[j + 1]]) for j in range(1, len(polygon) - 1)]
        out.append(np.stack(fan))
        labels.append(np.full(len(fan), pieces[i]))
    every = np.concatenate(out)
    faces = np.arange(len(every) * 3).reshape(-1, 3)
    vertices, back = np.unique(np.round(every[:, :, :3].reshape(-1, 3), 6), axis=0, return_inverse=True)
    return replace(
        part,
        vertices=vertices,
        faces=back.reshape(-1)[faces],
        uv=None if part.uv is None else every[:, :, 3:],
        pieces=np.concatenate(labels),
    )


def _cut(corners: Floats, side: Floats) -> list[Floats]:
    polygon = []
    for j in range(3):
        k = (j + 1) % 3
        if side[j] >= 0:
            polygon.append(corners[j])
        if side[j] * side[k] < 0:
            t = side[j] / (side[j] - side[k])
            polygon.append(corners[j] + t * (corners[k] - corners[j]))
    return polygon


@lru_cache(maxsize=512)
def normals(part: MeshPart, crease: float = 40.0) -> Floats:
    """(m, 3, 3): a normal for each corner, smooth across edges that bend by less than `crease` degrees."""
    corners = part.corners
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(face, axis=1, keepdims=True)
    unit = face / np.maximum(length, 1e-15)
    if not part.smooth:
        return np.repeat(unit[:, None], 3, axis=1)
    order = np.argsort(part.faces.ravel(), kind="stable")  # corners by vertex
    vertex = part.faces.ravel()[order]
    total = face[order // 3].copy()
    for shift in range(1, 24):  # pairs of corners of one vertex; a valence above 24 is cut off
        same = np.flatnonzero(vertex[shift:] == vertex[:-shift])
        if not len(same):
            break
        a, b = order[same] // 3, order[same + shift] // 3
        near = (unit[a] * unit[b]).sum(axis=1) > np.cos(np.radians(crease))
        total[same[near]] += face[b[near]]
        total[same[near] + shift] += face[a[near]]
    out = np.empty_like(total)
    out[order] = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-15)
    return out.reshape(-1, 3, 3)


Triple = tuple[float, float, float]

_BOX = np.array([[0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4],
                 [2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6], [1, 3, 5], [3, 7, 5]])  # fmt: skip


def box(name: str, middle: Triple, size: Triple, finish: Finish) -> MeshPart:
    """A box around its middle."""
    signs = np.array([[x, y, z] for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
    return MeshPart(name, signs * np.array(size) + np.array(middle), _BOX, finish, smooth=False)


def soft_box(name: str, middle: Triple, size: Triple, finish: Finish, power: float = 4.0) -> MeshPart:
    """A box with round edges, like a cushion: a superellipsoid."""
    rows, columns = 16, 32
    v = np.linspace(-np.pi / 2, np.pi / 2, rows + 1)[:, None]
    u = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]

    def bend(x: Floats) -> Floats:
        return np.sign(x) * np.abs(x) ** (2 / power)

    x = bend(np.cos(v)) * bend(np.cos(u))
    y = bend(np.cos(v)) * bend(np.sin(u))
    z = bend(np.sin(v)) * np.ones_like(u)
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3) / 2 * np.array(size) + np.array(middle)
    return MeshPart(name, points, grid(rows, columns), finish)


def turned(name: str, profile: Sequence[tuple[float, float]], finish: Finish) -> MeshPart:
    """A turned body: (radius, height) from below to above, around the z axis."""
    columns = 32
    u = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    rings = [np.stack([r * np.cos(u), r * np.sin(u), np.full(columns, h)], axis=1) for r, h in profile]
    return MeshPart(name, np.concatenate(rings), grid(len(profile) - 1, columns), finish)


def grid(rows: int, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Triangles of a grid of (rows + 1) rings that closes sideways."""
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])


def disc(name: str, radius: float, finish: Finish, middle: Triple = (0, 0, 0), columns: int = 32) -> MeshPart:
    """A flat round face that looks up; a texture covers its square."""
    u = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    rim = np.stack([np.cos(u), np.sin(u), np.zeros(columns)], axis=1) * radius
    points = np.concatenate([np.zeros((1, 3)), rim]) + np.array(middle)
    faces = np.array([[0, 1 + k, 1 + (k + 1) % columns] for k in range(columns)])
    flat = (points - np.array(middle))[:, :2] / (2 * radius) + 0.5
    return MeshPart(name, points, faces, finish, uv=flat[faces], smooth=False)


def sheet(name: str, corner: Triple, along: Triple, up: Triple, finish: Finish, repeat: float = 1.0) -> MeshPart:
    """A flat rectangle from a corner; a texture's left lower corner lies there, repeated `repeat` times."""
    start, a, b = (np.array(x, dtype=float) for x in (corner, along, up))
    points = np.stack([start, start + a, start + a + b, start + b])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    sides = np.array([np.linalg.norm(a), np.linalg.norm(b)])
    scale = repeat * (sides / sides.max() if repeat != 1.0 else np.ones(2))
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * scale
    return MeshPart(name, points, faces, finish, uv=uv[faces], smooth=False)


def rod(name: str, start: Triple, end: Triple, radius: float, finish: Finish) -> MeshPart:
    """A round rod between two points."""
    a, b = np.array(start, dtype=float), np.array(end, dtype=float)
    length = float(np.linalg.norm(b - a))
    body = turned(name, [(1e-5, 0), (radius, 0), (radius, length), (1e-5, length)], finish)
    z = (b - a) / length
    x = np.cross(z, [0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0])
    x /= np.linalg.norm(x)
    turn = np.stack([x, np.cross(z, x), z], axis=1)
    return MeshPart(name, body.vertices @ turn.T + a, body.faces, finish)
