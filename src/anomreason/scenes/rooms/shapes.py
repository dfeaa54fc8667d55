"""Simple bodies for furniture made on the spot: boxes, turned bodies, rods and flat pictures.

Knows nothing of what is built from them. Lengths are metres, z is up.

    >>> box("top", (0, 0, 0.72), (1.2, 0.8, 0.04), Finish((0.4, 0.2, 0.1))).vertices.shape
    (8, 3)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anomreason.scenes.rooms.furniture import Finish, Floats, Part

Triple = tuple[float, float, float]

_BOX = np.array([[0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4],
                 [2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6], [1, 3, 5], [3, 7, 5]])  # fmt: skip


def box(name: str, middle: Triple, size: Triple, finish: Finish) -> Part:
    """A box around its middle."""
    signs = np.array([[x, y, z] for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
    return Part(name, signs * np.array(size) + np.array(middle), _BOX, finish, smooth=False)


def soft_box(name: str, middle: Triple, size: Triple, finish: Finish, power: float = 4.0) -> Part:
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
    return Part(name, points, _grid(rows, columns), finish)


def turned(name: str, profile: Sequence[tuple[float, float]], finish: Finish, middle: Triple = (0, 0, 0)) -> Part:
    """A turned body: (radius, height) from below to above, around the z axis."""
    columns = 32
    u = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    rings = [np.stack([r * np.cos(u), r * np.sin(u), np.full(columns, h)], axis=1) for r, h in profile]
    return Part(name, np.concatenate(rings) + np.array(middle), _grid(len(profile) - 1, columns), finish)


def _grid(rows: int, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Triangles of a grid of (rows + 1) rings that closes sideways."""
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])


def disc(name: str, radius: float, finish: Finish, middle: Triple = (0, 0, 0), columns: int = 32) -> Part:
    """A flat round face that looks up; a texture covers its square."""
    u = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    rim = np.stack([np.cos(u), np.sin(u), np.zeros(columns)], axis=1) * radius
    points = np.concatenate([np.zeros((1, 3)), rim]) + np.array(middle)
    faces = np.array([[0, 1 + k, 1 + (k + 1) % columns] for k in range(columns)])
    flat = (points - np.array(middle))[:, :2] / (2 * radius) + 0.5
    return Part(name, points, faces, finish, uv=flat[faces], smooth=False)


def sheet(name: str, corner: Triple, along: Triple, up: Triple, finish: Finish, repeat: float = 1.0) -> Part:
    """A flat rectangle from a corner; a texture's left lower corner lies there, repeated `repeat` times."""
    start, a, b = (np.array(x, dtype=float) for x in (corner, along, up))
    points = np.stack([start, start + a, start + a + b, start + b])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    sides = np.array([np.linalg.norm(a), np.linalg.norm(b)])
    scale = repeat * (sides / sides.max() if repeat != 1.0 else np.ones(2))
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * scale
    return Part(name, points, faces, finish, uv=uv[faces], smooth=False)


def rod(name: str, start: Triple, end: Triple, radius: float, finish: Finish, tip: float | None = None) -> Part:
    """A round rod between two points; `tip` is the radius at its end."""
    a, b = np.array(start, dtype=float), np.array(end, dtype=float)
    length = float(np.linalg.norm(b - a))
    last = radius if tip is None else tip
    body = turned(name, [(1e-5, 0), (radius, 0), (last, length), (1e-5, length)], finish)
    z = (b - a) / length
    x = np.cross(z, [0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0])
    x /= np.linalg.norm(x)
    turn = np.stack([x, np.cross(z, x), z], axis=1)
    return Part(name, body.vertices @ turn.T + a, body.faces, finish)
