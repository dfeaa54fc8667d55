"""The shell of a room: floor, walls, ceiling, the light that comes in, and the position of the camera.

>>> len(shell("study", 3.6, 3.8, 2.6, np.random.default_rng(1), evening=False)) > 6
True
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from anomreason.scenes.rooms import textures as textures
from anomreason.scenes.rooms.meshes import Finish, Mesh, MeshPart, box, rod, sheet
from anomreason.scenes.rooms.render import DirectionalLight
from anomreason.scenes.rooms.room import REAR, table

OPENING = (0.15, 2.5)
"""Lower and upper edge of the glass door in the wall behind the camera."""
PILLAR = 0.62
"""What is left of that wall on both sides: mirrors show it more often than the bright door."""


def shell(place: str, width: float, depth: float, height: float, rng: np.random.Generator, evening: bool) -> Mesh:
    """Floor, walls, ceiling, skirting; and behind the camera a glass door and a bright side window."""
    floor = Finish((0.4, 0.3, 0.2), 0.3 if place in ("bathroom", "kitchen") else 0.45, texture=_floor(place, rng))
    wall = Finish((0.7, 0.7, 0.66), 0.9, texture=_wall(place, rng))
    ceiling = Finish((0.78, 0.77, 0.75), 0.95)
    half, long = width / 2, depth + REAR
    door = (half - PILLAR, *OPENING)
    parts = [
        sheet("floor", (-half, -REAR, 0), (width, 0, 0), (0, long, 0), floor, repeat=long / 2.2),
        sheet("ceiling", (-half, -REAR, height), (width, 0, 0), (0, long, 0), ceiling),
        sheet("wall", (-half, depth, 0), (width, 0, 0), (0, 0, height), wall, repeat=width / 2.0),
        sheet("wall", (-half, -REAR, 0), (0, long, 0), (0, 0, height), wall, repeat=long / 2.0),
        sheet("wall", (half, -REAR, 0), (0, long, 0), (0, 0, height), wall, repeat=long / 2.0),
        sheet("wall", (-half, -REAR, 0), (half - door[0], 0, 0), (0, 0, height), wall),
        sheet("wall", (door[0], -REAR, 0), (half - door[0], 0, 0), (0, 0, height), wall),
        sheet("wall", (-door[0], -REAR, 0), (2 * door[0], 0, 0), (0, 0, door[1]), wall),
        sheet("wall", (-door[0], -REAR, door[2]), (2 * door[0], 0, 0), (0, 0, height - door[2]), wall),
        *_door_frame(door),
        *_curtains(half, height, rng),
        *_skirting(width, depth),
        *_windows(width, rng, evening),
    ]
    return tuple(parts)


def _pick(name: str, rng: np.random.Generator) -> Any:
    """A colour of the table `shell` in things.toml."""
    colours = table().more["shell"][name]
    return colours[int(rng.integers(len(colours)))]


def _floor(place: str, rng: np.random.Generator) -> Any:
    if place in ("bathroom", "kitchen"):
        return textures.tiles(rng, _pick("tiles", rng))
    if place in ("bedroom", "study") and rng.random() < 0.4:
        return textures.carpet(rng, _pick("carpets", rng))
    return textures.boards(rng, _pick("woods", rng))


def _wall(place: str, rng: np.random.Generator) -> Any:
    colour = _pick("walls", rng)
    if place == "bathroom":
        return textures.tiles(rng, (_pick("bath_walls", rng),), 8, (205, 205, 200))
    return textures.wallpaper(rng, colour) if rng.random() < 0.25 else textures.plaster(rng, colour)


def _door_frame(door: tuple[float, float, float]) -> list[MeshPart]:
    """Posts and a rail of the glass door: (half width, lower edge, upper edge)."""
    paint, middle, tall = Finish((0.72, 0.72, 0.7), 0.4), (door[1] + door[2]) / 2, door[2] - door[1]
    posts = [box("post", (x * door[0], -REAR, middle), (0.07, 0.05, tall), paint) for x in (-0.97, -0.33, 0.33, 0.97)]
    return [*posts, box("rail", (0, -REAR, 0.95), (2 * door[0], 0.05, 0.06), paint)]


def _curtains(half: float, height: float, rng: np.random.Generator) -> list[MeshPart]:
    """Drawn back to both sides of the glass door, in folds."""
    cloth = Finish(tuple(_pick("curtains", rng)), 0.95)
    folds = np.linspace(half - PILLAR - 0.12, half - 0.16, 7)
    return [
        rod("curtain", (side * x, -REAR + 0.1, 0.04), (side * x, -REAR + 0.1, height - 0.14), 0.045, cloth)
        for x in folds.tolist()
        for side in (-1, 1)
    ]


def _skirting(width: float, depth: float) -> list[MeshPart]:
    paint, half, long = Finish((0.74, 0.73, 0.7), 0.5), width / 2, depth + REAR
    middle = (depth - REAR) / 2
    return [
        box("skirting", (0, depth - 0.005, 0.04), (width, 0.01, 0.08), paint),
        box("skirting", (-half + 0.005, middle, 0.04), (0.01, long, 0.08), paint),
        box("skirting", (half - 0.005, middle, 0.04), (0.01, long, 0.08), paint),
    ]


def _windows(width: float, rng: np.random.Generator, evening: bool) -> list[MeshPart]:
    """Light that comes in from behind the camera: a wide side window, and one above for what it leaves dark."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    tint = np.array([0.30, 0.38, 0.6]) * 0.28 if evening else np.array([1.0, 1.03, 1.08])
    strong = Finish((0.02, 0.02, 0.02), emission=tuple((tint * 6.0).tolist()))
    weak = Finish((0.02, 0.02, 0.02), emission=tuple((tint * 2.4).tolist()))
    x = width / 2 - 0.01
    across = (0, 1.7, 0) if side < 0 else (0, -1.7, 0)
    start = (side * x, -2.05 if side < 0 else -0.35, 0.75)
    over = sheet("panel", (-1.1, -1.9, 2.58), (0, 1.0, 0), (2.2, 0, 0), weak)
    return [sheet("side window", start, across, (0, 0, 1.55), strong), over]


def sun(rng: np.random.Generator) -> DirectionalLight:
    """Sunlight through the glass door behind the camera."""
    turn = float(rng.choice([-1, 1]) * rng.uniform(0.12, 0.34))
    low = float(rng.uniform(0.26, 0.37))
    x, y, z = np.sin(turn) * np.cos(low), np.cos(turn) * np.cos(low), -np.sin(low)
    warm = float(rng.uniform(0.0, 1.0))
    return DirectionalLight((float(x), float(y), float(z)), (7.6, 7.2 - 0.5 * warm, 6.3 - 1.4 * warm))


def camera(width: float, depth: float, rng: np.random.Generator) -> tuple[Any, Any, float]:
    """(eye, target, angle of view): from the middle of the near side, or from its left or right."""
    side = float(rng.uniform(-0.3, 0.3)) * width
    eye = (side, float(rng.uniform(-1.35, -0.75)), float(rng.uniform(1.35, 1.65)))
    target = (
        -side * float(rng.uniform(0.1, 0.5)) + float(rng.normal(0, 0.1)),
        depth * 0.72,
        float(rng.uniform(0.75, 0.9)),
    )
    return eye, target, float(rng.uniform(54, 59))


def at_night(mesh: Mesh) -> Mesh:
    """Windows at night: the view outside is nearly dark. Lamps stay as they are."""

    def darker(finish: Finish) -> Finish:
        if finish.texture is None or finish.emission is None:
            return finish
        return replace(finish, emission=(0.018, 0.026, 0.06))

    return tuple(replace(part, finish=darker(part.finish)) for part in mesh)
