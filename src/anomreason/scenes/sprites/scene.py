"""A scene of the sprites world before it is drawn. All coordinates are fractions of the image edge.

SpriteItem("dog", x=0.4, y=0.8, h=0.2, where="on the grass", support="floor").box
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from anomreason.scenes.scene import Change, Slots
from anomreason.scenes.sprites.drawings import State
from anomreason.scenes.sprites.sprite import Edit, aspect
from anomreason.scenes.sprites.table import SpriteThing, table
from anomreason.scenes.table import Box, Support

Shadow = Literal["own", "none", "wrong"]
LAMPS = ("street lamp", "floor lamp")


@dataclass(frozen=True)
class SpriteItem:
    """One thing in the scene."""

    thing: str
    x: float
    """Of its middle."""
    y: float
    """Of its foot: where it touches what carries it; of its lower edge when nothing does."""
    h: float
    """Height of the whole unchanged upright thing."""
    where: str
    """Prepositional phrase: `on the road`."""
    support: Support
    flip: bool = False
    """Mirrored, so that it looks the other way."""
    turn: float = 0.0
    """Degrees counterclockwise; the lowest point stays at y."""
    lift: float = 0.0
    """How far it hangs above its foot."""
    state: State = ()
    """What a thing that is drawn by the program shows."""
    edit: Edit = ()
    """The edit of its sprite."""
    shadow: Shadow = "own"
    mirror: str = ""
    """What its mirror image shows: itself, `nothing`, or the thing of this name."""
    lights: bool = True
    """Whether it throws light, if it is a lamp."""
    glows: bool = False
    """Whether it is a lamp though such things are none."""
    through: float | None = None
    """The foot of a thing nearer than itself, which this one's left half stands in front of all the same."""
    host: int = -1
    """Index of the item it stands on; -1: the place itself."""

    @property
    def is_lamp(self) -> bool:
        """Whether a scene with it is drawn by lamp light."""
        return self.glows or self.thing in LAMPS

    @property
    def row(self) -> SpriteThing:
        return table().named(self.thing)

    @property
    def w(self) -> float:
        """Width of the whole unchanged upright thing."""
        return self.h * aspect(self.thing)

    @property
    def box(self) -> Box:
        """x0, y0, x1, y1 of what will be drawn of it, without its shadow."""
        w, h = self.w, self.h
        if self.edit and self.edit[0] == "fuse":
            w *= 2 * float(self.edit[1])
        if self.edit and self.edit[0] == "split":
            h, w = (h * 1.3, w) if self.edit[1] == "across" else (h, w * 1.3)
        angle = math.radians(self.turn)
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
        w, h = w * cos + h * sin, w * sin + h * cos
        foot = self.y - self.lift
        return self.x - w / 2, foot - h, self.x + w / 2, foot


@dataclass(frozen=True)
class Sun:
    """The light of a scene: how far a shadow's tip is shifted for each unit of height of what throws it."""

    across: float
    """To the right."""
    down: float
    """Towards the viewer."""
    strength: float
    """0..1: how dark a shadow is; 0: there are none."""


@dataclass(frozen=True)
class SpriteScene:
    """A clean scene."""

    seed: int
    place: str
    look: int
    """Which variant of the place is drawn."""
    horizon: float
    camera_cm: float
    """How high the viewer's eye is."""
    sun: Sun
    items: tuple[SpriteItem, ...]


@dataclass(frozen=True)
class SpriteChange(Change):
    """A violation of a sprites scene."""

    slots: Slots
    replaced: tuple[tuple[int, SpriteItem], ...] = ()
    """Items of the clean scene that are changed, by their index; the main one first."""
    added: tuple[SpriteItem, ...] = ()
    about: tuple[int, ...] = ()
    """Indices of unchanged items that the violation is also about."""
    second_sun: Sun | None = None
    everywhere: bool = field(default=False)
    """Whether its region is all that changes, shadows and light too."""

    @property
    def items(self) -> tuple[SpriteItem, ...]:
        """The changed and added ones, the main one first."""
        return (*(item for _, item in self.replaced), *self.added)


def drawn_height(size_cm: float, depth: float, camera_cm: float) -> float:
    """Height in the image of a thing whose foot is `depth` below the horizon.

    True perspective would be depth * size / camera. The ratio is compressed softly, so that a mouse and a house can
    both be seen: to the power 0.7, and below 60 cm to the power 0.65. It keeps the order of sizes at every depth.
    """
    large = max(size_cm, 60.0)
    return float(depth * (large / camera_cm) ** 0.7 * (min(size_cm, 60.0) / 60.0) ** 0.65)


def overlap(a: Box, b: Box) -> float:
    """Share of the smaller box that the other covers, 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min(area(a), area(b))


def area(box: Box) -> float:
    return max(box[2] - box[0], 1e-9) * max(box[3] - box[1], 1e-9)


def grown(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def union(boxes: Iterable[Box]) -> Box:
    all_boxes = list(boxes)
    lows = (min(b[0] for b in all_boxes), min(b[1] for b in all_boxes))
    return *lows, max(b[2] for b in all_boxes), max(b[3] for b in all_boxes)


def inside(box: Box, margin: float = 0.0) -> bool:
    """Whether the box lies in the image."""
    return box[0] >= margin and box[1] >= margin and box[2] <= 1 - margin and box[3] <= 1 - margin


def applied(stage: SpriteScene, changes: Sequence[SpriteChange]) -> tuple[SpriteItem, ...]:
    """The items of the scene with these violations: the clean ones in their order, then what was added."""
    items = list(stage.items)
    for change in changes:
        for index, item in change.replaced:
            items[index] = item
    for change in changes:
        items.extend(change.added)
    return tuple(items)
