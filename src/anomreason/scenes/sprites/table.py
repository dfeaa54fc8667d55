"""The objects (`things.toml`) and the places of the sprites world, with the spots where objects can stand.

table().named("banana").never
PLACES["street"].spots[0].phrase
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import ConfigDict

from anomreason.scenes.table import ObjectTable, Support, TablePart, Thing, load_table

Sort = Literal[
    "animal", "boat", "building", "fire", "food", "furniture", "household", "nature", "plant", "sky", "sport",
    "street", "vehicle",
]  # fmt: skip
DrawnKind = Literal[
    "clock", "die", "glass", "ramp", "sign", "street lamp", "sun", "table", "traffic light"
]  # fmt: skip


class SpritePart(TablePart):
    """A part with its place in the picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    box: tuple[float, float, float, float]
    round: bool = False
    """The part is an ellipse in its box."""
    copy_at: tuple[float, float] | None = None
    """Where a surplus one would show, as a shift in fractions of the picture; None where it would not look like one."""
    mirrored: bool = False
    """The surplus one is turned round."""


class SpriteThing(Thing):
    """An object of the sprites world: a vendored picture or one that is drawn here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: str = ""
    """File in `sprites/` without its ending."""
    drawn: DrawnKind | None = None
    sort: Sort
    any_size: bool = False
    """Such things come in all sizes, so that none is wrong."""
    fuse: float = 0.0
    """How much of the picture, from its front, to double by mirroring; 0 when that would not look fused."""
    sink: float = 0.0
    """Share of its height that is below the water line."""
    parts: tuple[SpritePart, ...] = ()


@cache
def table() -> ObjectTable[SpriteThing]:
    """`sprites/things.toml`; UsageError when it is not as it must be."""
    return load_table("sprites/things.toml", SpriteThing)


GROUND: tuple[Sort, ...] = (
    "animal", "building", "fire", "food", "furniture", "household", "nature", "plant", "sport", "street", "vehicle",
)  # fmt: skip
SMALL: tuple[Sort, ...] = ("animal", "food", "furniture", "household", "nature", "plant", "sport", "street")


@dataclass(frozen=True)
class Spot:
    """A part of a place."""

    phrase: str
    """Where something there is: `on the road`."""
    supports: tuple[Support, ...]
    sorts: tuple[Sort, ...]
    near: float
    """Of the foot's range, the lower end in the picture."""
    far: float
    share: float = 1.0
    """How readily it is filled."""
    only: tuple[str, ...] = ()
    """Names, when only these stand there."""


@dataclass(frozen=True)
class Place:
    """Where a scene plays, as one camera sees it."""

    name: str
    a_place: str
    """As one would say where something belongs: `the desert`."""
    phrase: str
    """Where the whole is: `in the desert`."""
    horizon: float
    camera_cm: float
    spots: tuple[Spot, ...]
    shadows: float = 0.4
    """How dark they are; 0: none are seen."""
    sky: bool = True
    """Whether a sun can be seen."""
    mirrors: bool = False
    """Whether what stands there is mirrored below its foot."""
    largest_cm: float = 1e9
    """What is larger than this is not drawn as seen by this camera."""
    weight: int = 2


def _air(phrase: str = "in the sky", near: float = 0.30, far: float = 0.16, share: float = 0.5) -> Spot:
    return Spot(phrase, ("air",), ("animal", "sky", "vehicle"), near, far, share)


_FLOOR: tuple[Support, ...] = ("floor",)
_WATER: tuple[Support, ...] = ("water",)
_WALL = Spot("on the wall", ("wall",), ("furniture",), 0.40, 0.30, 0.9)


def _wide(name: str, a_place: str, phrase: str, ground: str, spots: tuple[Spot, ...] = (), weight: int = 2) -> Place:
    """Open country seen by a standing viewer."""
    own = (Spot(ground, _FLOOR, GROUND, 0.94, 0.50, 3.0), *spots, _air())
    return Place(name, a_place, phrase, 0.44, 150, own, weight=weight)


_ALL = (
    Place(
        "street", "a street", "on the street", 0.40, 180,
        (
            Spot("on the far side of the street", _FLOOR, ("building", "plant"), 0.53, 0.495, 1.2),
            Spot("on the road", _FLOOR, ("vehicle",), 0.70, 0.63, 1.6),
            Spot("on the pavement", _FLOOR, (*SMALL, "vehicle"), 0.95, 0.83, 1.8),
            _air(),
        ),
        weight=4,
    ),
    Place(
        "street at night", "a street", "on the street at night", 0.40, 180,
        (
            Spot("on the pavement", _FLOOR, ("street",), 0.785, 0.775, 0.0, ("street lamp",)),
            Spot("on the far side of the street", _FLOOR, ("building", "plant"), 0.53, 0.495, 1.2),
            Spot("on the wet road", _FLOOR, ("vehicle",), 0.72, 0.64, 2.0),
            Spot("on the wet pavement", _FLOOR, ("street", "vehicle"), 0.90, 0.83, 0.8),
        ),
        shadows=0.0, sky=False, mirrors=True, weight=2,
    ),
    _wide("meadow", "a meadow", "on the meadow", "on the grass", weight=3),
    Place(
        "meadow", "a meadow", "on the meadow", 0.36, 26,
        (Spot("in the grass", _FLOOR, SMALL, 0.95, 0.66, 3.0), _air("above the grass", 0.34, 0.2, 0.8)),
        largest_cm=26, weight=2,
    ),
    _wide("savanna", "the savanna", "in the savanna", "in the dry grass", weight=2),
    _wide("desert", "the desert", "in the desert", "on the sand"),
    _wide("snow field", "a snowy landscape", "in the snow", "on the snow"),
    Place(
        "beach", "a coastal landscape", "at the beach", 0.36, 150,
        (
            Spot("on the sand", _FLOOR, GROUND, 0.95, 0.60, 3.0),
            Spot("on the sea", _WATER, ("boat",), 0.50, 0.44, 0.7),
            _air(),
        ),
    ),
    Place(
        "open sea", "the sea", "on the open sea", 0.40, 250,
        (
            Spot("on the water", _WATER, ("animal", "boat"), 0.90, 0.49, 3.0),
            _air(),
        ),
        shadows=0.0, mirrors=True,
    ),
    Place(
        "lake shore", "a lake", "at the lake", 0.34, 170,
        (
            Spot("on the shore of the lake", _FLOOR, GROUND, 0.50, 0.50, 2.4),
            Spot("on the lake", _WATER, ("animal", "boat"), 0.92, 0.72, 1.6),
            _air(),
        ),
        shadows=0.0, mirrors=True,
    ),
    Place(
        "sea floor", "the sea", "at the bottom of the sea", 0.48, 60,
        (
            Spot("on the sea floor", ("seabed", "floor"), GROUND, 0.95, 0.80, 1.5),
            Spot("under water", ("underwater",), ("animal",), 0.66, 0.34, 2.5),
        ),
        shadows=0.0, sky=False, weight=1,
    ),
    Place(
        "living room", "a living room", "in the living room", 0.34, 150,
        (
            Spot("on the floor", _FLOOR, SMALL, 0.95, 0.70, 2.0),
            Spot("by the wall", _FLOOR, ("furniture",), 0.655, 0.655, 0.3, ("door",)),
            _WALL,
            Spot("on the floor", _FLOOR, ("furniture",), 0.84, 0.76, 1.0, ("table",)),
        ),
        shadows=0.34, sky=False, largest_cm=230, weight=4,
    ),
    Place(
        "kitchen", "a kitchen", "in the kitchen", 0.12, 75,
        (
            Spot("on the kitchen counter", ("table", "floor"), SMALL, 0.92, 0.68, 3.0),
            _WALL,
        ),
        shadows=0.36, sky=False, largest_cm=60, weight=3,
    ),
    Place(
        "bathroom", "a bathroom", "in the bathroom", 0.34, 150,
        (
            Spot("on the tiled floor", _FLOOR, SMALL, 0.95, 0.68, 2.4),
            Spot("by the wall", _FLOOR, ("furniture",), 0.655, 0.655, 0.3, ("door",)),
            _WALL,
        ),
        shadows=0.3, sky=False, largest_cm=230, weight=2,
    ),
    Place(
        "desk", "an office", "on the desk", 0.12, 75,
        (
            Spot("on the desk", ("table", "floor"), SMALL, 0.92, 0.68, 3.0),
            _WALL,
        ),
        shadows=0.36, sky=False, largest_cm=60, weight=3,
    ),
)  # fmt: skip
LOOKS: tuple[Place, ...] = _ALL
"""Every place as some camera sees it; a place may stand here more than once."""
PLACES = {place.name: place for place in reversed(_ALL)}
