"""What is wrong with light alone, done by putting pictures of changed scenes together.

Knows no kinds of violation. A trick takes the studio, the room and its picture so far and answers the new picture.

    TRICKS["dark lamp"](studio, room, picture, Trick("dark lamp", main=3))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anomreason.scenes.rooms.render import Owners, Radiance, trace, who
from anomreason.scenes.rooms.scene import Item, Room

FINE = 3
"""Rays along a pixel's edge where a thing is cut out."""


@dataclass(frozen=True)
class Studio:
    """How pictures are taken."""

    size: int
    samples: int

    def picture(self, room: Room, **changes: object) -> Radiance:
        return trace(room.stage(**changes), self.size, self.samples, room.seed)  # type: ignore[arg-type]

    def owners(self, room: Room) -> Owners:
        return who(room.stage(), self.size)

    def cover(self, room: Room, i: int) -> Radiance:
        """(size, size, 1): the share of each pixel that thing i covers, for edges without steps."""
        fine = who(room.stage(), self.size * FINE) == i + 1
        blocks = fine.reshape(self.size, FINE, self.size, FINE).mean(axis=(1, 3))
        return np.asarray(blocks, dtype=np.float32)[:, :, None]


@dataclass(frozen=True, eq=False)
class Trick:
    """One change of light."""

    name: str
    main: int
    aim: int | None = None
    instead: Item | None = None


def not_mirrored(studio: Studio, room: Room, picture: Radiance, trick: Trick) -> Radiance:
    """The mirror's pixels from a room without the thing, or with another in its place."""
    glass = studio.cover(room, trick.aim or 0)
    if trick.instead is None:
        return glass * studio.picture(room, without={trick.main}) + (1 - glass) * picture
    return glass * studio.picture(room.with_item(trick.main, trick.instead)) + (1 - glass) * picture


def dark_lamp(studio: Studio, room: Room, picture: Radiance, trick: Trick) -> Radiance:
    """The lit lamp in a room that it does not light."""
    own = studio.cover(room, trick.main)
    return own * picture + (1 - own) * studio.picture(room, dark={trick.main})


TRICKS: dict[str, Callable[[Studio, Room, Radiance, Trick], Radiance]] = {
    "not mirrored": not_mirrored, "dark lamp": dark_lamp,
}  # fmt: skip
