"""The table of the sprites world with its own columns.

Knows no drawing. Try it:

    table().named("banana").never
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from pydantic import ConfigDict

from anomreason.anomaly import Text
from anomreason.scenes.world import Part, Table, Thing, load_table

Sort = Literal[
    "animal", "boat", "building", "fire", "food", "furniture", "household", "nature", "plant", "sky", "sport",
    "street", "vehicle",
]  # fmt: skip
DrawnKind = Literal[
    "clock", "die", "glass", "ramp", "sign", "street lamp", "sun", "table", "traffic light"
]  # fmt: skip


class SpritePart(Part):
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
    never: tuple[Text, ...] = ()
    """Colours it never has."""
    impossible: tuple[Text, ...] = ()
    """Places that it cannot get to or live at."""
    strange: tuple[Text, ...] = ()
    """Places that nobody would bring it to."""
    home: str = ""
    """Where it would be expected, when that is none of its places."""
    any_size: bool = False
    """Such things come in all sizes, so that none is wrong."""
    fuse: float = 0.0
    """How much of the picture, from its front, to double by mirroring; 0 when that would not look fused."""
    sink: float = 0.0
    """Share of its height that is below the water line."""
    parts: tuple[SpritePart, ...] = ()


@cache
def table() -> Table[SpriteThing]:
    """`sprites/things.toml`; UsageError when it is not as it must be."""
    return load_table("sprites/things.toml", SpriteThing)
