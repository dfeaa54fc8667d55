"""What a world returns: the drawn scene, and every fact that is known about it.

scene = SpriteWorld().draw(seed=7, size=256, count=1, kinds=("floating",))
scene.image, scene.planted[0].anomaly, scene.twins[0].image
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomreason.anomaly import Anomaly, Kind, Region
from anomreason.errors import UsageError
from anomreason.scenes.table import Thing

T = TypeVar("T")
SMALLEST_SIZE = 32


@dataclass(frozen=True)
class VisibleObject:
    """One object that is visible in the image."""

    name: str
    """Its name in the table of the world, e.g. `fire engine`; not unique in an image."""
    synonyms: tuple[str, ...]
    region: Region
    """Bounding box of its visible pixels."""


@dataclass(frozen=True)
class Slots:
    """The values that fill a text template."""

    thing: str
    """Noun phrase without article, with its colour where that is known: `red car`, `scissors`."""
    place: str
    """Prepositional phrase: `on the street`."""
    other: str = ""
    """A second object, in the same form."""
    detail: str = ""
    """As the comments of the kind in `kinds.toml` say; no capital, no full stop."""
    plural: bool = False
    """Whether thing is a plural noun (`scissors`)."""
    other_plural: bool = False


@dataclass(frozen=True, eq=False)
class Change:
    """A violation before it is drawn. Each world adds what it changes."""

    kind: Kind
    level: str
    """The row of the severity rubric that applies."""


@dataclass(frozen=True)
class PlantedAnomaly:
    """One violation in the scene."""

    kind: Kind
    level: str
    """The row of the severity rubric that applies."""
    anomaly: Anomaly
    """Its `objects` are names among `Scene.objects`, the main one first; its `region` is the box of the changed pixels
    of the objects concerned (the shadows they throw not counted)."""
    objects: tuple[int, ...]
    """Indices into `Scene.objects`, the main one first."""
    slots: Slots
    """What the texts of `anomaly` were filled with."""


@dataclass(frozen=True)
class SceneVersion:
    """An image, and what is visible in it."""

    image: Image.Image
    """RGB, size x size."""
    objects: tuple[VisibleObject, ...]
    owners: NDArray[np.uint8]
    """(size, size): 0 for background, else 1 + the index of the object visible there."""


@dataclass(frozen=True)
class Scene(SceneVersion):
    """An image and the complete ground truth about it."""

    place: str
    """Name of the place: `street`, `living room`."""
    planted: tuple[PlantedAnomaly, ...]
    """All anomalies: nothing else is wrong in the image."""
    twins: tuple[SceneVersion, ...]
    """One per planted violation, with just that one mended; the other pixels stay."""


Mask = NDArray[np.bool_]


def box_of(mask: Mask) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of what is set, in fractions. The mask must not be empty."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def region_of(mask: Mask) -> Region:
    x0, y0, x1, y1 = box_of(mask)
    return Region(x0=x0, y0=y0, x1=x1, y1=y1)


def visible_objects(things: Sequence[Thing], owners: NDArray[np.uint8]) -> tuple[VisibleObject, ...]:
    """The things with their boxes in the owner map, in which each must have pixels."""
    return tuple(VisibleObject(t.name, t.synonyms, region_of(owners == i + 1)) for i, t in enumerate(things))


def without(changes: Sequence[T], k: int) -> tuple[T, ...]:
    """All changes but number k."""
    return (*changes[:k], *changes[k + 1 :])


Allow = Callable[[Kind, str], bool]
"""May this kind of violation be planted on the object of this name?"""


def allow_all(kind: Kind, thing: str) -> bool:
    return True


class World(Protocol):
    """Draws scenes. The same arguments give the same pixels."""

    name: str
    version: str
    """Changes whenever the same seed gives another image."""
    kinds: tuple[Kind, ...]
    """The kinds it can plant."""

    def draw(
        self, seed: int, *, size: int, count: int = 0, kinds: Sequence[Kind] = (), allow: Allow = allow_all
    ) -> Scene:
        """Draws a scene with `count` violations (fewer when no more fit without hiding one another).

        `size` is the edge in pixels; `kinds` bounds the choice (empty: all that the world can plant). The clean scene
        of a seed does not depend on count, kinds or allow.
        """
        ...


def check_arguments(world: World, seed: int, size: int, count: int, kinds: Sequence[Kind]) -> None:
    """Raises UsageError for arguments with which no world can draw, and for a kind that this world cannot plant."""
    if seed < 0 or count < 0:
        raise UsageError(f"seed is {seed} and count {count}: neither can be negative")
    if size < SMALLEST_SIZE:
        raise UsageError(f"size is {size}: use at least {SMALLEST_SIZE} pixels")
    if unknown := [kind for kind in kinds if kind not in world.kinds]:
        raise UsageError(f"the world {world.name} cannot plant {unknown[0]!r}; its kinds are {', '.join(world.kinds)}")
