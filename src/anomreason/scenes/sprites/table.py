"""The objects (`things.toml`) and the places (`places.toml`) of the sprites world.

table().named("banana").never
PLACES["street"].spots[0].phrase
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

from anomreason.scenes.table import ObjectTable, Support, TablePart, Thing, load_table

Sort = Literal[
    "animal", "boat", "building", "fire", "food", "furniture", "household", "nature", "plant", "sky", "sport",
    "street", "vehicle",
]  # fmt: skip
DrawnKind = Literal[
    "clock", "die", "glass", "ramp", "sign", "street lamp", "sun", "table", "traffic light"
]  # fmt: skip


class SpritePart(TablePart):
    """A part with its box in the sprite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    box: tuple[float, float, float, float]
    round: bool = False
    """The part is an ellipse in its box."""
    copy_at: tuple[float, float] | None = None
    """Where a surplus one would show, as a shift in fractions of the sprite; None where it would not look like one."""
    mirrored: bool = False
    """The surplus one is turned round."""


class SpriteThing(Thing):
    """An object of the sprites world: a vendored sprite or one that is drawn here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: str = ""
    """File in `sprites/art/` without its ending."""
    drawn: DrawnKind | None = None
    sort: Sort
    any_size: bool = False
    """Such things come in all sizes, so that none is wrong."""
    fuse: float = 0.0
    """How much of the sprite, from its front, to double by mirroring; 0 when that would not look fused."""
    rolls: bool = False
    """It would slide or roll off a ramp."""
    telling: bool = False
    """Something exact can be wrong on it; a scene gets one readily."""
    sink: float = 0.0
    """Share of its height that is below the water line."""
    parts: tuple[SpritePart, ...] = ()


@cache
def table() -> ObjectTable[SpriteThing]:
    """`sprites/things.toml`; UsageError when it is not as it must be."""
    return load_table("sprites/things.toml", SpriteThing)


class Spot(BaseModel):
    """A strip of a place in which the foot of an object can be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phrase: str
    """Where something there is: `on the road`."""
    supports: tuple[Support, ...]
    sorts: tuple[Sort, ...]
    near: float
    """Lower end of the strip in the image; `far` is the upper one."""
    far: float
    share: float = 1.0
    """How readily it is filled."""
    only: tuple[str, ...] = ()
    """Names, when only these stand there."""


class Place(BaseModel):
    """Where a scene plays, as one camera sees it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    a_place: str
    """As one would say where something belongs: `the desert`."""
    phrase: str
    """Where the whole is: `in the desert`."""
    words: tuple[str, ...] = ("CAMP",)
    """What a signpost there says."""
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


def _places() -> tuple[Place, ...]:
    text = files(__package__).joinpath("places.toml").read_text(encoding="utf-8")
    return tuple(Place.model_validate(entry) for entry in tomllib.loads(text)["place"])


LOOKS = _places()
"""Every place as some camera sees it; a place may stand here more than once."""
PLACES = {place.name: place for place in reversed(LOOKS)}
