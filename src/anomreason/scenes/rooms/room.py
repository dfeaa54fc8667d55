"""A furnished room: its objects, light and camera, and how much of each object the camera sees.

x is to the right, y away from the camera, z up, in metres; the back wall is at y = depth and the camera near y = 0.
Owner maps hold 0 for the room itself and 1 + index for an object.

    >>> turn(np.pi / 2)[:2, :2].round().tolist()
    [[0.0, -1.0], [1.0, 0.0]]
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, model_validator

from anomreason.anomaly import Text
from anomreason.scenes.rooms import furniture
from anomreason.scenes.rooms.meshes import Colour, Finish, Floats, Mesh, bounds, model, transformed
from anomreason.scenes.rooms.render import DirectionalLight, Owners, RenderScene
from anomreason.scenes.scene import Mask, box_of
from anomreason.scenes.table import ObjectTable, TablePart, Thing, load_table

REAR = 2.4
"""How far the room goes on behind the camera's side, y = 0."""


class RoomPart(TablePart):
    """A part found by the names of the model's own parts, or by a box in which its pieces lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: tuple[Text, ...] = ()
    """Beginnings of the names of the model's parts; empty for all."""
    within: tuple[float, float, float, float, float, float] = (0, 0, 0, 1, 1, 1)
    """x0, y0, z0, x1, y1, z1 in fractions of the model: only pieces wholly inside."""
    gone: str = ""
    """How the text says it: `its seat`; empty when it is never taken away."""
    again: str = ""
    """How the text says a second one: `a second back`; empty when it is never doubled."""
    cut: bool = False
    """Whether the box cuts through pieces instead of taking only whole ones."""
    shift: tuple[float, float, float] = (0, 0, 0)
    """Where the second one goes, in fractions of the model's size."""
    turned: float = 0.0
    """By how many degrees the second one is turned about the upright axis."""


class RoomThing(Thing):
    """One object of the rooms world."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = ""
    """A file in rooms/ without its ending."""
    make: str = ""
    """Or what `made` calls it."""
    size: tuple[float, float, float] | None = None
    """Width, depth, height in cm of what is made; None for a model, which has its own."""
    colours: tuple[Text, ...] = ()
    """The colours in which it is made; the text then names the one drawn."""
    group: Text
    """What the layout knows it as: `sofa`, `bed`, `top`."""
    parts: tuple[RoomPart, ...] = ()
    top: bool = False
    """Whether things may stand on its highest face."""
    soft: bool = False
    """Upholstered or of cloth: never of metal."""
    paint: tuple[Text, ...] = ()
    """Names of its parts that such a colour goes to; empty for all."""
    can: tuple[Literal["float", "giant", "tiny", "flip", "lie", "fuse", "split", "pierce", "legs"], ...] = ()
    """What may be done to it."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.model) == bool(self.make) or bool(self.make) != bool(self.size):
            raise ValueError("needs either model, or make together with size")
        return self


@lru_cache(maxsize=1)
def table() -> ObjectTable[RoomThing]:
    """The rows of rooms/things.toml."""
    return load_table("rooms/things.toml", RoomThing)


@dataclass(frozen=True, eq=False)
class RoomItem:
    """One thing in the room."""

    thing: RoomThing
    mesh: Mesh
    """In its own coordinates: standing on z = 0, front towards -y."""
    pose: Floats
    """(4, 4): to the room."""
    colour: str
    on: int | None = None
    """Index of what carries it; None for the room itself."""
    where: str = ""
    """Where it is, as the texts say it: `against the back wall`."""

    @cached_property
    def body(self) -> Mesh:
        return transformed(self.mesh, self.pose)

    @cached_property
    def box(self) -> Floats:
        """(2, 3)"""
        return bounds(self.body)

    @property
    def phrase(self) -> str:
        return f"{self.colour} {self.thing.name}" if self.colour else self.thing.name

    def moved(self, matrix: Floats) -> RoomItem:
        """The same thing elsewhere: the matrix acts in room coordinates."""
        return replace(self, pose=matrix @ self.pose)


@dataclass(frozen=True, eq=False)
class Room:
    """A whole scene."""

    place: str
    width: float
    depth: float
    height: float
    items: tuple[RoomItem, ...]
    shell: Mesh
    """Floor, walls, ceiling and what lights the room from outside of the image."""
    suns: tuple[DirectionalLight, ...]
    sky: Colour
    evening: bool
    """Whether the lamps are lit."""
    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    view: float
    seed: int
    """Of the sampler: the same for a scene and its twins."""

    def stage(self, without: Collection[int] = (), dark: Collection[int] = ()) -> RenderScene:
        """For the renderer. without: items left out; dark: lamps that give no light although it is evening."""
        bodies: list[tuple[int, Mesh]] = [(0, self.shell)]
        for i, item in enumerate(self.items):
            if i not in without:
                off = not self.evening or i in dark
                bodies.append((i + 1, unlit(item.body) if off and "lit" in item.thing.does else item.body))
        return RenderScene(tuple(bodies), self.suns, self.sky, self.eye, self.target, self.view)

    def with_item(self, i: int, item: RoomItem) -> Room:
        return replace(self, items=(*self.items[:i], item, *self.items[i + 1 :]))

    def carried(self, i: int) -> tuple[int, ...]:
        """Indices of what stands on item i."""
        return tuple(j for j, item in enumerate(self.items) if item.on == i)


def unlit(mesh: Mesh) -> Mesh:
    return tuple(replace(p, finish=replace(p.finish, emission=None)) if p.finish.emission else p for p in mesh)


def turn(angle: float, axis: int = 2) -> Floats:
    """(4, 4): by an angle in radians about the x, y or z axis."""
    c, s = np.cos(angle), np.sin(angle)
    out = np.eye(4)
    a, b = ((1, 2), (2, 0), (0, 1))[axis]
    out[a, a], out[a, b], out[b, a], out[b, b] = c, -s, s, c
    return out


def shift(x: float, y: float, z: float) -> Floats:
    """(4, 4)"""
    out = np.eye(4)
    out[:3, 3] = x, y, z
    return out


def scaled(factor: float) -> Floats:
    """(4, 4)"""
    return np.diag([factor, factor, factor, 1.0])


def paint(colour: str) -> Finish:
    """By the word that the texts use; `oak` for an unknown one."""
    paints = table().more["paints"]
    (red, green, blue), roughness = paints.get(colour, paints["oak"])
    return Finish((red, green, blue), roughness)


def build(thing: RoomThing, rng: np.random.Generator) -> tuple[Mesh, str]:
    """(mesh, the word for its colour)."""
    colour = str(rng.choice(thing.colours)) if thing.colours else thing.colour
    if thing.model:
        return model(thing.model), colour
    width, depth, height = (length / 100 for length in thing.size or (100, 100, 100))
    return furniture.make(thing.make, (width, depth, height), paint(colour), rng), colour


def project(room: Room, points: Floats) -> Floats:
    """(n, 3): x and y in fractions of the image from its upper left, and the distance along the view."""
    eye, target = np.array(room.eye), np.array(room.target)
    ahead = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(ahead, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, ahead)
    local = (points - eye) @ np.stack([right, up, ahead], axis=1)
    away = np.maximum(local[:, 2], 1e-3)
    half = np.tan(np.radians(room.view) / 2)
    return np.stack([0.5 + local[:, 0] / away / half / 2, 0.5 - local[:, 1] / away / half / 2, local[:, 2]], axis=1)


def overlap(a: Floats, b: Floats, gap: float = 0.0) -> bool:
    """Whether two boxes share space, or come nearer than the gap."""
    return bool((a[0] < b[1] + gap).all() and (b[0] < a[1] + gap).all())


LEAST_EDGE = 0.07
"""Least longer edge of what counts as an object, as a share of the image's edge."""
LEAST_SHARE = 0.4
"""Least share of a thing's own box that must be seen; what shows less is taken out of the room."""
LEAST_MIRRORED = 0.33
"""Least share of a mirror that shows things of the room; one with less looks blank, or like a doorway."""
LARGEST = 0.3
"""Most of the image that one thing may cover."""


@dataclass(frozen=True)
class Visibility:
    """How one thing is seen."""

    pixels: float
    """Share of the image that it covers."""
    edge: float
    """Longer edge of its visible box as a share of the image's edge."""
    share: float
    """Visible box over the box that it would have alone and without the image's borders, 0..1."""


def visibilities(room: Room, owners: Owners) -> tuple[Visibility, ...]:
    """For each thing of the room."""
    return tuple(_one(room, i, owners == i + 1) for i in range(len(room.items)))


def _one(room: Room, i: int, mask: Mask) -> Visibility:
    if not mask.any():
        return Visibility(0.0, 0.0, 0.0)
    edges = box_of(mask)
    width, height = edges[2] - edges[0], edges[3] - edges[1]
    points = np.concatenate([part.vertices for part in room.items[i].body])
    flat = project(room, points)
    flat = flat[flat[:, 2] > 0.1]
    whole = float(np.prod(np.ptp(flat[:, :2], axis=0))) if len(flat) else 1.0
    return Visibility(float(mask.mean()), max(width, height), min(1.0, width * height / max(whole, 1e-6)))


def reflecting(room: Room, i: int) -> float:
    """Share of mirror i, 0..1, in which the camera meets other things (their boxes) and not only bare walls."""
    glass = room.items[i]
    low, high = bounds(glass.mesh)
    across, up = np.meshgrid(np.linspace(low[0], high[0], 14)[1:-1], np.linspace(low[2], high[2], 14)[1:-1])
    points = np.stack([across.ravel(), np.zeros(across.size), up.ravel()], axis=1)
    eye = (np.linalg.inv(glass.pose) @ np.array([*room.eye, 1.0]))[:3]
    if eye[1] >= 0:
        return 0.0
    rays = (points - eye * [1.0, -1.0, 1.0]) @ glass.pose[:3, :3].T
    starts = points @ glass.pose[:3, :3].T + glass.pose[:3, 3]
    hit = np.zeros(len(points), dtype=bool)
    for k, item in enumerate(room.items):
        if k != i and item.thing.group != "rug":
            with np.errstate(divide="ignore", invalid="ignore"):
                spans = (item.box[:, None, :] - starts) / rays  # (2, rays, 3)
            enter, leave = spans.min(axis=0).max(axis=1), spans.max(axis=0).min(axis=1)
            hit |= (enter < leave) & (leave > 0.05)
    return float(hit.mean())


def differing(a: NDArray[np.uint8], b: NDArray[np.uint8], least: int = 18) -> Mask:
    """Where two images differ by more than noise: by `least` of 255 in some channel, and not in lone pixels."""
    raw = np.abs(a.astype(np.int16) - b.astype(np.int16)).max(axis=2) >= least
    padded = np.pad(raw, 1).astype(np.int8)
    around = sum(
        padded[1 + y : padded.shape[0] - 1 + y, 1 + x : padded.shape[1] - 1 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)
    )
    return np.asarray(raw & (np.asarray(around) >= 5))


def around(mask: Mask) -> Mask:
    """The mask's box and half as much again on all sides."""
    x0, y0, x1, y1 = box_of(mask)
    height, width = mask.shape
    wide, tall = (x1 - x0) / 2, (y1 - y0) / 2
    out = np.zeros_like(mask)
    rows = slice(max(0, round((y0 - tall) * height)), round((y1 + tall) * height))
    out[rows, max(0, round((x0 - wide) * width)) : round((x1 + wide) * width)] = True
    return out
